/* Settling: results to jobs; the dead; calls that are cut off.
 *
 * Runs in the host, under the pool's lock. Taking and burying are done only by the thread that turns the loop; cutting off by any. Each
 * item that was handed over ends here in exactly one way: by what its worker told, by its worker's death, or by coming back unstarted.
 *
 * A death is drained first and mourned then: what the worker had published counts, whatever killed it an instant later. A cut takes back
 * what has not started, and only then asks for the kill of what runs: with nothing waiting, the worker cannot start anything else, and
 * if it finishes before the kill arrives, its result is drained as ever.
 *
 * The depth of a job is learned from how long its items took: about DEPTH_TIME of work should wait at a worker. It is doubled while
 * workers run dry before the caller is back. */
#include "scheduler.h"

#include "clock.h"

#include <stdlib.h>
#include <sys/wait.h>

#define DEPTH_TIME 150000               /* nanoseconds of work that should wait at a worker */
#define DEPTH_LEAST 2                   /* items: one runs, one waits, so that a worker need not wait for the caller */

/* ---- Taking */

static void learn_depth(struct job *j, struct crew_worker *w, size_t count, int64_t now)
{
    int64_t each = (now - w->since) / (int64_t)count;
    size_t fit = each > DEPTH_TIME / DEPTH_MOST ? (size_t)(DEPTH_TIME / each) : DEPTH_MOST;
    fit = fit < DEPTH_LEAST ? DEPTH_LEAST : fit;
    if (!books_outstanding(&w->books) || fit > j->depth)
        j->depth = j->depth * 2 < DEPTH_MOST ? j->depth * 2 : DEPTH_MOST;       /* it ran dry: the measure holds our own delay too */
    else
        j->depth = fit;
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
    case EVENT_RUN:
        job_settle_run(j, e->piece.index, e->piece.count, e->data, e->piece.size);
        break;
    default:
        settle_ended(w, e);
        break;
    }
}

static void end_if_over(struct sched *s, struct job *j)
{
    if (!job_check_end(j) || !j->abandoned)
        return;
    sched_remove(s, j);
    job_fini(j);
    free(j);
}

/* After the items of `j` came back or ended: it may be over, or its caller may have to pull. */
static void touch(struct sched *s, struct job *j)
{
    if (j->source.pull)
        waiter_wake(&j->waiter);
    if (j->cut && !j->recalled)
        sched_cut(s, j, j->cut, j->kill);
    end_if_over(s, j);
}

/* Takes all that a worker has to tell by now. Nonzero: there was something. */
static int drain(struct sched *s, struct crew_worker *w)
{
    struct event e;
    struct job *last = NULL;
    size_t count = 0;
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
        last = j;
    }
    if (last) {
        int64_t now = clock_now();
        learn_depth(last, w, count, now);
        w->since = now;
        s->next_worker = w->index;
        touch(s, last);
    }
    return done;
}

/* The same, and says that we want to hear of it again. What came meanwhile is taken the next time: another worker, and whoever waits for
 * what there is, come first. */
static int take(struct sched *s, struct crew_worker *w)
{
    int done = drain(s, w);
    if (w->books.damaged)
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
    if (!books_outstanding(&w->books) && w->state == WORKER_READY)
        crew_unwatch(&s->crew, w);
    else if (books_wait(&w->books, CHANNEL_WATCHING))
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

static void settle_lost(struct sched *s, struct crew_worker *w, const struct event *e)
{
    struct job *j = e->piece.owner;
    char text[300];
    crew_epitaph(w, text, sizeof text);
    for (size_t i = 0; i < e->piece.count; i++) {
        struct ending ending = {.index = e->piece.index + i, .status = w->verdict, .tries = e->piece.tries, .pid = w->pid,
                                .slot = -1, .text = text};
        if (w->verdict == POOL_CRASHED) {
            ending.signal = WIFSIGNALED(w->wait_status) ? WTERMSIG(w->wait_status) : 0;
            ending.code = WIFEXITED(w->wait_status) ? WEXITSTATUS(w->wait_status) : 0;
        }
        job_settle(j, &ending, e->piece.size);
    }
    touch(s, j);
}

/* Items that came back unstarted: dropped where the job is cut, else to be handed over again. */
void sched_give_back(struct piece *piece)
{
    struct job *j = piece->owner;
    if (j->cut) {
        job_unsent(j, piece->count, piece->size);
        free(piece->owned);
    } else if (source_return(&j->source, piece)) {
        for (size_t i = 0; i < piece->count; i++) {
            struct ending e = {.index = piece->index + i, .status = POOL_FAILED, .code = -1, .slot = -1,
                               .text = "no memory in the host to move it to another worker"};
            job_settle(j, &e, piece->size);
        }
        free(piece->owned);
        job_check_end(j);
    } else {
        job_unsent(j, piece->count, piece->size);
    }
}

/* Drain, then mourn. */
static void bury(struct sched *s, struct crew_worker *w)
{
    struct event e;
    drain(s, w);
    while (books_mourn(&w->books, &e)) {
        struct job *j = e.piece.owner;
        if (e.kind == EVENT_LOST) {
            settle_lost(s, w, &e);
            continue;
        }
        sched_give_back(&e.piece);
        touch(s, j);
    }
    crew_bury(&s->crew, w);
    waiter_wake(&s->waiter);
}

void sched_bury_all(struct sched *s)
{
    for (unsigned i = 0; i < s->crew.size; i++)
        if (s->crew.workers[i].state != WORKER_UNBORN)
            bury(s, &s->crew.workers[i]);
}

int sched_bury_dead(struct sched *s)
{
    int done = 0;
    for (unsigned i = 0; i < s->crew.size; i++) {
        if (s->crew.workers[i].state != WORKER_DEAD)
            continue;
        bury(s, &s->crew.workers[i]);
        done = 1;
    }
    return done;
}

/* ---- Cutting off */

/* Takes all that waits at a worker back to where it came from. */
static void recall(struct crew_worker *w)
{
    struct piece piece;
    while (!books_take_back(&w->books, SIZE_MAX, &piece))
        sched_give_back(&piece);
}

void sched_cut(struct sched *s, struct job *j, enum pool_status why, int kill)
{
    job_cut(j, why, kill);
    j->recalled = 1;
    for (unsigned i = 0; i < s->crew.size; i++) {
        struct crew_worker *w = &s->crew.workers[i];
        if (w->state != WORKER_READY || !books_holds(&w->books, j))
            continue;
        recall(w);
        if (j->kill && books_runs(&w->books, j))
            crew_condemn(&s->crew, w, why == POOL_BROKEN ? POOL_BROKEN : POOL_CANCELLED, "its call was cut short");
    }
    job_check_end(j);
    sched_poke(s);
}

void sched_close(struct sched *s, enum pool_status why, int kill)
{
    if (!s->closed)
        s->closed = why;
    for (struct job *j = s->jobs, *next; j; j = next) {
        next = j->next;
        sched_cut(s, j, why, kill);
        end_if_over(s, j);
    }
}

void sched_break_off(struct sched *s)
{
    if (!s->crew.broken || s->closed)
        return;
    sched_close(s, POOL_BROKEN, 1);
    crew_condemn_all(&s->crew, POOL_BROKEN, "the pool is broken");
    waiter_wake(&s->waiter);
}
