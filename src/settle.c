/* Settling: results to jobs; the dead; calls that are cut off.
 *
 * Runs in the host, under the pool's lock. Taking and burying are done only by the thread that turns the loop; cutting off by any. Each
 * item that was handed over ends here in exactly one way: by what its worker told, by its worker's death, or by coming back unstarted.
 *
 * A death is drained first and mourned then: what the worker had published counts, whatever killed it an instant later. A cut takes back
 * what has not started, and only then asks for the kill of what runs: with nothing waiting, the worker cannot start anything else, and
 * if it finishes before the kill arrives, its result is drained as ever.
 *
 * The depth of a job is learned from how long its items took: about DEPTH_TIME of work should wait at a worker. Where the caller only
 * waits for the end of all, and nobody else has work for the workers, it is DEPTH_TIME_ALONE: the caller is woken when half of that is
 * done, and takes a CPU from a worker each time. When a second call comes, it is made room for. */
#include "scheduler.h"

#include "clock.h"

#include <stdlib.h>
#include <sys/wait.h>

#define DEPTH_TIME 150000               /* nanoseconds of work that should wait at a worker */
#define DEPTH_TIME_ALONE 2000000
#define WAKE_TIME 60000                 /* about what a worker takes to wake up */
#define DEPTH_SAMPLE 16                 /* so many times the items that were measured may be sent by that measure */

/* ---- Taking */

/* How many of a stream's items fit by what they really took (handout.c: light work). More at once, fewer by half at most: one slow item, or
 * a moment without a CPU, tells little. Where more workers are busy than there are CPUs, a measure is mostly the wait for one: all
 * together lower it by about a half. Else many workers of small items, once awake, kept one another awake, with a few items each: a
 * generator with 64 workers on 2 CPUs was twice as slow, with 256 ten times. */
static void learn_fit(const struct sched *s, struct job *j, const struct crew_worker *w, size_t count, int64_t now)
{
    int64_t own = now - w->since - (w->roused ? WAKE_TIME : 0), each = own > 0 ? own / (int64_t)count : 0;
    size_t fit = each > DEPTH_TIME / DEPTH_MOST ? (size_t)(DEPTH_TIME / each) : DEPTH_MOST, busy = s->crew.watched_count;
    size_t least = j->fit - j->fit / (busy > s->cpus ? busy : 2);
    j->fit = fit > least ? fit : least;
}

/* A measure that holds a delay of our own, because the worker ran dry or had to wake up, is too long: what fits by it fits indeed, but no
 * less depth can be told from it. Only doubling it, with a wake-up for each step, cost a map of 1,000 empty items 0.9 ms, not 0.05. */
static void learn_depth(const struct sched *s, struct job *j, struct crew_worker *w, size_t count, int64_t now)
{
    int64_t each = (now - w->since) / (int64_t)count;
    int64_t time = j->kind == JOB_ITER || !sched_is_alone(s, j) ? DEPTH_TIME : DEPTH_TIME_ALONE;
    size_t fit = each > time / DEPTH_MOST ? (size_t)(time / each) : DEPTH_MOST, twice = 2 * j->depth, most = DEPTH_SAMPLE * count;
    most = most > twice ? most : twice;
    most = most < DEPTH_MOST ? most : DEPTH_MOST;
    fit = fit < DEPTH_LEAST ? DEPTH_LEAST : fit;
    fit = !books_outstanding(&w->books) && fit < twice ? twice : fit;
    if (fit > j->depth)
        j->depth = fit < most ? fit : most;
    else if (!w->roused)
        j->depth = fit;
    if (j->kind == JOB_ITER)
        learn_fit(s, j, w, count, now);
    j->measured = 1;
    w->roused = 0;
}

static void settle_ended(struct crew_worker *w, const struct event *e)
{
    struct job *j = e->piece.owner;
    struct ending ending = {.index = e->piece.index, .tries = e->piece.tries, .pid = w->pid, .data = e->data, .size = e->size,
                            .owned = e->owned, .slot = e->slot, .text = ""};
    if (e->kind == EVENT_FAILED) {
        ending.status = POOL_FAILED;
        ending.code = e->code;
        ending.text = e->text;
    }
    /* A result may stay in its slot while the worker has another one to go on with. */
    if (e->slot >= 0 && w->books.result_slots != CHANNEL_LANE_ALL)
        ending.lender = w;
    if (!job_settle(j, &ending, e->piece.size))
        books_give_up(&w->books, e->slot);
}

static void take_event(struct sched *s, struct crew_worker *w, const struct event *e)
{
    struct job *j = e->piece.owner;
    switch (e->kind) {
    case EVENT_READY:
        crew_ready(&s->crew, w);
        waiter_wake(&s->waiter);
        return;
    case EVENT_UNREADY:
        crew_unready(&s->crew, w, e->code, e->text);
        return;
    case EVENT_UNFIT:
        crew_unfit(&s->crew, w, e->code, e->text);
        return;
    case EVENT_RUN:
        job_settle_run(j, e->piece.index, e->piece.count, e->data, e->piece.size);
        break;
    default:
        settle_ended(w, e);
        break;
    }
}

void sched_conclude(struct sched *s, struct job *j)
{
    if (j->cut && !j->recalled)
        sched_cut(s, j, j->cut, j->kill);
    else
        sched_end(s, j);
}

/* After the items of `j` came back or ended: it may be over, or its caller may have to pull. */
static void touch(struct sched *s, struct job *j)
{
    if (j->kind == JOB_ITER)
        job_tell(j);
    else if (j->source.pull)
        waiter_wake(&j->waiter);
    sched_conclude(s, j);
}

/* What it has done, for those who ask. */
static void count_done(struct sched *s, struct crew_worker *w, size_t count, int64_t now)
{
    w->done += count;
    if (!w->placed)
        return;
    s->crew.places[w->index].items += count;
    s->crew.places[w->index].busy += now - w->since;
}

int sched_drain(struct sched *s, struct crew_worker *w)
{
    struct event e;
    struct job *last = NULL;
    size_t count = 0, all = 0;
    int done = books_look(&w->books);
    while (books_next(&w->books, w->generation, &e)) {
        struct job *j = e.piece.owner;
        done = 1;
        take_event(s, w, &e);
        if (!j)
            continue;
        if (last && last != j)
            touch(s, last);
        count = last == j ? count + e.piece.count : e.piece.count;
        all += e.piece.count;
        last = j;
    }
    if (last) {
        int64_t now = clock_now();
        learn_depth(s, last, w, count, now);
        count_done(s, w, all, now);
        w->since = now;
        s->next_hand = w->hand ? w->hand - 1 : 0;
        touch(s, last);
    }
    return done;
}

/* Drains it, and says that we want to hear of it again. What came meanwhile is taken the next time: another worker, and whoever waits for
 * what there is, come first. */
static int take(struct sched *s, struct crew_worker *w)
{
    int done = sched_drain(s, w);
    if (w->books.damaged)
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
    enum crew_reason worn = crew_worn(&s->crew, w);
    if (worn != CREW_NOT) {
        sched_recall(s, w);
        crew_dismiss(&s->crew, w, worn);
    }
    if (w->state == WORKER_LEAVING && !books_outstanding(&w->books))
        crew_succeed(&s->crew, w);
    if (!books_outstanding(&w->books) && w->state == WORKER_READY)
        crew_unwatch(&s->crew, w);
    else if (books_wait(&w->books, CHANNEL_WATCHING, link_is_empty(&s->ready) ? BOOKS_AT_THE_END : BOOKS_IN_TIME))
        books_awake(&w->books);
    return done;
}

int sched_take(struct sched *s)
{
    int done = 0;
    for (size_t i = s->crew.watched_count; i--;) {
        if (i < s->crew.watched_count && books_rang(&s->crew.watched[i]->books))
            done |= take(s, s->crew.watched[i]);
    }
    return done;
}

/* ---- The dead */

/* An item that its worker's crash has cost is started again, where its call says so. Nonzero: it is. */
static int try_again(struct sched *s, struct crew_worker *w, struct piece *piece)
{
    struct job *j = piece->owner;
    int lost = !piece->owned && piece->size && !piece->source_keeps;
    if (w->verdict != POOL_CRASHED || piece->tries > j->retries || j->cut || piece->count > 1 || lost)
        return 0;
    s->retried++;
    sched_give_back(s, piece);
    return 1;
}

static void settle_lost(struct sched *s, struct crew_worker *w, const struct event *e)
{
    struct job *j = e->piece.owner;
    struct piece piece = e->piece;
    char text[300];
    count_done(s, w, piece.count, clock_now());
    if (try_again(s, w, &piece)) {
        touch(s, j);
        return;
    }
    crew_epitaph(w, text, sizeof text);
    for (size_t i = 0; i < piece.count; i++) {
        struct ending ending = {.index = piece.index + i, .status = w->verdict, .tries = piece.tries, .pid = w->pid,
                                .slot = -1, .text = text};
        if (w->verdict == POOL_CRASHED) {
            ending.signal = WIFSIGNALED(w->wait_status) ? WTERMSIG(w->wait_status) : 0;
            ending.code = WIFEXITED(w->wait_status) ? WEXITSTATUS(w->wait_status) : 0;
        }
        job_settle(j, &ending, piece.size);
    }
    free(piece.owned);
    touch(s, j);
}

/* A generator's items, which have come together in a span, go on one by one: each needs memory of its own. */
static void give_back_each(struct sched *s, const struct piece *piece)
{
    struct piece one = *piece;
    one.count = 1;
    for (size_t i = 0; i < piece->count; i++) {
        sched_give_back(s, &one);
        one.index++;
        one.data = (const char *)one.data + one.size;
    }
}

void sched_give_back(struct sched *s, struct piece *piece)
{
    struct job *j = piece->owner;
    if (piece->count > 1 && !piece->source_keeps) {
        give_back_each(s, piece);
    } else if (j->cut) {
        job_drop(j, piece);
        job_unsent(j, piece->count, piece->size);
        free(piece->owned);
    } else if (source_return(&j->source, piece)) {
        for (size_t i = 0; i < piece->count; i++) {
            struct ending e = {.index = piece->index + i, .status = POOL_FAILED, .code = -1, .slot = -1,
                               .text = "no memory in the host to move it to another worker"};
            job_settle(j, &e, piece->size);
        }
        free(piece->owned);
        s->lapsed = 1;
        sched_poke(s);
    } else {
        job_unsent(j, piece->count, piece->size);
        sched_ready(s, j);
    }
}

int sched_sweep(struct sched *s)
{
    s->lapsed = 0;
    for (struct link *l = s->jobs.next, *next; l != &s->jobs; l = next) {
        next = l->next;
        touch(s, LINK_OWNER(l, struct job, open));
    }
    return 1;
}

/* Drain, then mourn. */
static void bury(struct sched *s, struct crew_worker *w)
{
    struct event e;
    books_recall(&w->books, 1);
    sched_drain(s, w);
    while (books_mourn(&w->books, &e)) {
        struct job *j = e.piece.owner;
        if (e.kind == EVENT_LOST) {
            settle_lost(s, w, &e);
            continue;
        }
        sched_give_back(s, &e.piece);
        touch(s, j);
    }
    crew_bury(&s->crew, w);
    waiter_wake(&s->waiter);
}

void sched_bury_all(struct sched *s)
{
    for (unsigned i = 0; i < s->crew.slots; i++)
        if (s->crew.workers[i].state != WORKER_UNBORN)
            bury(s, &s->crew.workers[i]);
}

int sched_bury_dead(struct sched *s)
{
    int done = 0;
    for (unsigned i = 0; i < s->crew.slots; i++) {
        if (s->crew.workers[i].state != WORKER_DEAD)
            continue;
        bury(s, &s->crew.workers[i]);
        done = 1;
    }
    return done;
}

/* ---- Making room */

/* How many of those that wait at a worker are too many. */
static size_t too_many(struct crew_worker *w, size_t keep)
{
    if (w->state != WORKER_READY || w->books.damaged || books_outstanding(&w->books) <= 2 * keep)
        return 0;
    size_t waiting = books_waiting(&w->books, claim_load(&w->books.channel.desk->claim));
    return waiting > keep && waiting <= books_outstanding(&w->books) ? waiting - keep : 0;
}

void sched_make_room(struct sched *s)
{
    struct job *j = link_is_empty(&s->jobs) ? NULL : LINK_OWNER(s->jobs.next, struct job, open);
    struct piece piece;
    if (!j || !sched_is_alone(s, j) || j->kind == JOB_ITER)
        return;
    size_t keep = j->measured ? j->depth / (DEPTH_TIME_ALONE / DEPTH_TIME) : 0;
    keep = keep > j->chunk ? keep : j->chunk;
    keep = keep > DEPTH_LEAST ? keep : DEPTH_LEAST;
    j->depth = j->depth < keep ? j->depth : keep;
    for (size_t i = 0; i < s->crew.watched_count; i++) {
        struct crew_worker *w = s->crew.watched[i];
        for (size_t n; (n = too_many(w, keep)) && !books_take_back(&w->books, n, &piece);)
            sched_give_back(s, &piece);
    }
}

/* ---- Cutting off */

void sched_recall(struct sched *s, struct crew_worker *w)
{
    struct piece piece;
    while (!books_take_back(&w->books, SIZE_MAX, &piece))
        sched_give_back(s, &piece);
}

/* What waits of other jobs comes back too: it finds another worker. */
static void cut_at(struct sched *s, struct crew_worker *w, struct job *j, enum pool_status why)
{
    uint32_t position;
    if ((w->state != WORKER_READY && w->state != WORKER_LEAVING) || !books_holds(&w->books, j))
        return;
    sched_recall(s, w);
    const struct piece *running = books_running(&w->books, &position);
    if (j->kill && running && running->owner == j)
        crew_condemn(&s->crew, w, why == POOL_BROKEN ? POOL_BROKEN : POOL_CANCELLED, "its call was cut short");
}

void sched_cut(struct sched *s, struct job *j, enum pool_status why, int kill)
{
    job_cut(j, why, kill);
    j->recalled = 1;
    for (unsigned i = 0; i < s->crew.slots && j->outstanding; i++)
        cut_at(s, &s->crew.workers[i], j, why);
    sched_poke(s);
    sched_end(s, j);
}

void sched_close(struct sched *s, enum pool_status why, int kill)
{
    if (!s->closed)
        s->closed = why;
    for (struct link *l = s->jobs.next, *next; l != &s->jobs; l = next) {
        next = l->next;
        sched_cut(s, LINK_OWNER(l, struct job, open), why, kill);
    }
}

void sched_finish(struct sched *s)
{
    s->finishing = 1;
    if (!link_is_empty(&s->jobs) || s->crew.leaving)
        return;
    crew_dismiss_all(&s->crew);
    sched_poke(s);
}

void sched_resize(struct sched *s, unsigned size)
{
    crew_resize(&s->crew, size);
    for (unsigned i = size; i < s->crew.most; i++) {
        struct crew_worker *w = s->crew.places[i].holder;
        if (!w)
            continue;
        sched_recall(s, w);
        crew_release(&s->crew, w);
    }
    sched_poke(s);
}

void sched_break_off(struct sched *s)
{
    if (!s->crew.broken || s->closed)
        return;
    sched_close(s, POOL_BROKEN, 1);
    crew_condemn_all(&s->crew, POOL_BROKEN, "the pool is broken");
    waiter_wake(&s->waiter);
}
