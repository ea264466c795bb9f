/* The scheduler: items to workers, results to jobs; and the loop.
 *
 * Runs in the host, under the pool's lock. There is no service thread: any thread that waits for something turns the loop for all,
 * and the others sleep until their job has changed or the turn is theirs. A turn is: hand out, take, mind the nursery, bury
 * and replace the dead; and if nothing of that did anything, wait: spinning a moment without the lock, then in poll.
 *
 * Why no wake-up is lost. Workers: the sleeper marks each watched channel, then looks at it once more (channel.h). A thread that posts to a
 * worker while another sleeps marks that channel itself before it posts. Reports of the nursery and ends of pipes are
 * descriptors in the poll. Anything else that the sleeper should know of writes to the wake pipe. A thread that stops turning wakes one
 * of those that wait, which takes over.
 *
 * How much waits at a worker is learned: about DEPTH_TIME of measured work. It is doubled while workers run dry before the caller is
 * back, and cut to what the measured cost of an item allows. Fairness does not depend on it: what has not started is taken back for an
 * idle worker, half at a time. */
#include "sched.h"

#include "fd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define DEPTH_TIME 150000               /* nanoseconds of work that should wait at a worker */
#define DEPTH_MOST 8192                 /* items */
#define DEPTH_LEAST 2                   /* items: one runs, one waits, so that a worker need not wait for the caller */
#define ROUNDS 64                       /* turns that found work, between two looks at the nursery and the pipes */

/* What a spinning thread last saw of a channel. */
struct spin_view {
    struct desk *desk;
    uint64_t     claim, result_tail, item_stream_head, result_stream_tail;
};

int sched_init(struct sched *s, unsigned workers, int no_spin)
{
    s->wake[0] = s->wake[1] = -1;
    s->spin.off = no_spin || cpu_affinity() < 2;
    s->views = calloc(workers ? workers : 1, sizeof *s->views);
    if (!s->views)
        return ENOMEM;
    int r = pthread_mutex_init(&s->lock, NULL);
    if (!r && (r = waiter_init(&s->waiter)))
        pthread_mutex_destroy(&s->lock);
    if (r) {
        free(s->views);
        s->views = NULL;
    }
    return r ? r : fd_pipe(s->wake, 1);
}

void sched_fini(struct sched *s)
{
    if (!s->views)
        return;
    fd_close(&s->wake[0]);
    fd_close(&s->wake[1]);
    waiter_fini(&s->waiter);
    pthread_mutex_destroy(&s->lock);
    free(s->views);
}

void sched_add(struct sched *s, struct job *j)
{
    j->next = s->jobs;
    j->before = NULL;
    if (s->jobs)
        s->jobs->before = j;
    s->jobs = j;
}

void sched_remove(struct sched *s, struct job *j)
{
    if (j->before)
        j->before->next = j->next;
    else
        s->jobs = j->next;
    if (j->next)
        j->next->before = j->before;
}

void sched_poke(struct sched *s)
{
    atomic_store(&s->poked, 1);
    if (s->asleep)
        fd_wake(s->wake[1]);
}

void sched_give_up(struct sched *s, void *lender, int slot)
{
    struct crew_worker *w = lender;
    (void)s;
    books_give_up(&w->books, slot);
}

/* ---- Handing out */

static int wants(const struct job *j, const struct crew_worker *w)
{
    return w->state == WORKER_READY && books_outstanding(&w->books) <= j->depth / 2;
}

/* How many more items should wait at a worker that has `has`: never more than half of an even share of what is left, so that the end of
 * a call stays even. */
static size_t fill_of(const struct sched *s, const struct job *j, size_t has)
{
    size_t depth = j->chunk > j->depth ? (j->chunk < DEPTH_MOST ? j->chunk : DEPTH_MOST) : j->depth;
    size_t share = source_known(&j->source) ? source_left(&j->source) / (2 * (size_t)s->crew.size) : 1;
    depth = depth < share ? depth : share ? share : 1;
    return depth > has ? depth - has : 0;
}

static void give_back(struct sched *s, struct piece *piece);

/* Posts a piece, which fits. A sleeping loop must hear of its results. */
static void post(struct sched *s, struct job *j, struct crew_worker *w, struct piece *piece)
{
    if (s->asleep)
        channel_caller_sleeps(w->books.channel.desk, claim_add(w->books.taken, 1));
    if (!books_outstanding(&w->books))
        w->since = clock_now();
    piece->owner = j;
    job_sent(j, piece->count, piece->size);
    if (books_post(&w->books, &j->call, piece, j->kind == JOB_ITER)) {
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
        give_back(s, piece);
        return;
    }
    crew_watch(&s->crew, w);
}

/* Gives one worker what it should have of one job. Nonzero: it got something. */
static int serve(struct sched *s, struct job *j, struct crew_worker *w)
{
    struct piece piece;
    size_t size = 0, ready = source_ready(&j->source, &size);
    if (!ready)
        return 0;
    size_t most = fill_of(s, j, books_outstanding(&w->books)), room = books_room(&w->books, &j->call, size);
    most = most < room ? most : room;
    most = job_may_send(j, most < ready ? most : ready, size, s->crew.size);
    if (!most)
        return 0;
    source_take(&j->source, most, &piece);
    post(s, j, w, &piece);
    return 1;
}

static int hand_out_job(struct sched *s, struct job *j)
{
    size_t size;
    int done = 0;
    if (!source_ready(&j->source, &size))
        return 0;
    for (unsigned i = 0; i < s->crew.size; i++) {
        struct crew_worker *w = &s->crew.workers[(s->next_worker + i) % s->crew.size];
        if (wants(j, w) && serve(s, j, w))
            done = 1;
    }
    return done;
}

static struct crew_worker *idle_worker(struct sched *s)
{
    for (unsigned i = 0; i < s->crew.size; i++)
        if (s->crew.workers[i].state == WORKER_READY && !books_outstanding(&s->crew.workers[i].books))
            return &s->crew.workers[i];
    return NULL;
}

static struct crew_worker *most_waiting(struct sched *s)
{
    struct crew_worker *most = NULL;
    uint32_t waiting = 0;
    for (size_t i = 0; i < s->crew.watched_count; i++) {
        struct crew_worker *w = s->crew.watched[i];
        if (w->state != WORKER_READY || w->books.damaged)
            continue;
        uint32_t n = claim_waiting(claim_load(&w->books.channel.desk->claim));
        if (n > waiting && n <= books_outstanding(&w->books)) {
            waiting = n;
            most = w;
        }
    }
    return most;
}

/* Moves half of what waits at the worker that has most of it to an idle one. Nonzero: something moved. */
static int even_out(struct sched *s, struct crew_worker *idle)
{
    struct crew_worker *from = most_waiting(s);
    struct piece piece, *last = from ? books_last(&from->books) : NULL;
    if (!last)
        return 0;
    struct job *j = last->owner;
    size_t room = books_room(&idle->books, &j->call, last->size);
    size_t half = (claim_waiting(claim_load(&from->books.channel.desk->claim)) + 1) / 2;
    if (books_take_back(&from->books, half < room ? half : room, &piece)) {
        if (from->books.damaged)
            crew_condemn(&s->crew, from, POOL_CRASHED, "its channel was written over");
        return 0;
    }
    job_unsent(j, piece.count, piece.size);     /* it is sent once more */
    post(s, j, idle, &piece);
    return 1;
}

static int hand_out(struct sched *s)
{
    struct crew_worker *idle;
    int done = 0;
    for (struct job *j = s->jobs; j; j = j->next)
        done |= hand_out_job(s, j);
    while (s->crew.watched_count > 1 && (idle = idle_worker(s)) && even_out(s, idle))
        done = 1;
    return done;
}

/* ---- Pulling: a generator, in the thread of its call, without the lock */

static struct crew_worker *who_wants(struct sched *s, const struct job *j)
{
    for (unsigned i = 0; i < s->crew.size; i++) {
        struct crew_worker *w = &s->crew.workers[(s->next_worker + i) % s->crew.size];
        if (wants(j, w) || (w->state == WORKER_READY && books_outstanding(&w->books) < j->depth))
            return w;
    }
    return NULL;
}

static void place_pulled(struct sched *s, struct job *j, struct pool_bytes item)
{
    struct crew_worker *w = who_wants(s, j);
    struct piece piece = {.index = j->source.next, .count = 1, .data = item.data, .size = item.size, .owner = j};
    source_pulled(&j->source);
    int direct = w && item.size <= w->books.channel.slot_size && books_room(&w->books, &j->call, item.size);
    if (direct) {
        post(s, j, w, &piece);
    } else if (source_return(&j->source, &piece)) {
        struct ending e = {.index = piece.index, .status = POOL_FAILED, .code = -1, .slot = -1, .text = "no memory in the host for this item"};
        job_sent(j, 1, item.size);
        job_settle(j, &e, item.size);
    }
}

/* Nonzero: an item was pulled, or the generator has ended. */
static int pull(struct sched *s, struct job *j)
{
    size_t size;
    if (!j->source.pull || j->cut || source_ready(&j->source, &size) || !who_wants(s, j) ||
        !job_may_send(j, 1, j->outstanding ? j->bytes / j->outstanding : 0, s->crew.size))
        return 0;
    struct pool_bytes item = {0};
    source_next_fn *next = j->source.pull;
    pthread_mutex_unlock(&s->lock);
    int r = next(j->source.cursor, &item);
    pthread_mutex_lock(&s->lock);
    if (j->cut)
        return 0;
    if (r > 0 && (item.data || !item.size))
        place_pulled(s, j, item);
    else if (r)
        job_source_failed(j, r > 0 ? EINVAL : r);
    else
        j->source.pull = NULL;
    return 1;
}

static int pull_some(struct sched *s, struct job *j)
{
    int done = 0;
    while (j && pull(s, j))
        done = 1;
    if (j)
        job_check_end(j);
    return done;
}

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

static void settle_ended(struct sched *s, struct crew_worker *w, const struct event *e)
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
    (void)s;
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
        settle_ended(s, w, e);
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

/* Takes all that a worker has to tell. Nonzero: there was something. */
static int take(struct sched *s, struct crew_worker *w)
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
    if (w->books.damaged)
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
    if (!books_outstanding(&w->books) && w->state == WORKER_READY)
        crew_unwatch(&s->crew, w);
    return done;
}

static int take_all(struct sched *s)
{
    int done = 0;
    for (size_t i = s->crew.watched_count; i--;) {
        if (i < s->crew.watched_count && books_news(&s->crew.watched[i]->books))
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
        struct ending ending = {.index = e->piece.index + i, .status = w->verdict, .tries = e->piece.tries, .pid = w->pid, .slot = -1, .text = text};
        if (w->verdict == POOL_CRASHED) {
            ending.signal = WIFSIGNALED(w->wait_status) ? WTERMSIG(w->wait_status) : 0;
            ending.code = WIFEXITED(w->wait_status) ? WEXITSTATUS(w->wait_status) : 0;
        }
        job_settle(j, &ending, e->piece.size);
    }
    touch(s, j);
}

/* Items that came back unstarted: dropped where the job is cut, else to be handed over again. */
static void give_back(struct sched *s, struct piece *piece)
{
    struct job *j = piece->owner;
    if (j->cut) {
        job_unsent(j, piece->count, piece->size);
        free(piece->owned);
    } else if (source_return(&j->source, piece)) {
        for (size_t i = 0; i < piece->count; i++) {
            struct ending e = {.index = piece->index + i, .status = POOL_FAILED, .code = -1, .slot = -1, .text = "no memory in the host to move it to another worker"};
            job_settle(j, &e, piece->size);
        }
        free(piece->owned);
        job_check_end(j);
    } else {
        job_unsent(j, piece->count, piece->size);
    }
    (void)s;
}

/* Drain, then mourn. */
static void bury(struct sched *s, struct crew_worker *w)
{
    struct event e;
    take(s, w);
    while (books_mourn(&w->books, &e)) {
        struct job *j = e.piece.owner;
        if (e.kind == EVENT_LOST) {
            settle_lost(s, w, &e);
            continue;
        }
        give_back(s, &e.piece);
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

static int bury_the_dead(struct sched *s)
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
static void recall(struct sched *s, struct crew_worker *w)
{
    struct piece piece;
    while (!books_take_back(&w->books, SIZE_MAX, &piece))
        give_back(s, &piece);
}

void sched_cut(struct sched *s, struct job *j, enum pool_status why, int kill)
{
    job_cut(j, why, kill);
    j->recalled = 1;
    for (unsigned i = 0; i < s->crew.size; i++) {
        struct crew_worker *w = &s->crew.workers[i];
        if (w->state != WORKER_READY || !books_holds(&w->books, j))
            continue;
        recall(s, w);
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

static void break_off(struct sched *s)
{
    if (!s->crew.broken || s->closed)
        return;
    sched_close(s, POOL_BROKEN, 1);
    for (unsigned i = 0; i < s->crew.size; i++)
        crew_condemn(&s->crew, &s->crew.workers[i], POOL_BROKEN, "the pool is broken");
    waiter_wake(&s->waiter);
}

/* ---- The loop */

static int mind(struct sched *s)
{
    int done = crew_mind(&s->crew, clock_now());
    done |= bury_the_dead(s);
    if (done)
        crew_mind(&s->crew, clock_now());       /* replacements for those just buried */
    break_off(s);
    s->rounds = 0;
    return done;
}

static void hear(struct sched *s)
{
    struct pollfd *polls = s->crew.polls;
    if (polls[CREW_POLL_WAKE].revents)
        fd_drain(s->wake[0]);
    for (unsigned i = 0; i < s->crew.size; i++)
        if (polls[CREW_POLL_WORKERS + i].revents && polls[CREW_POLL_WORKERS + i].fd >= 0)
            crew_heard(&s->crew, &s->crew.workers[i]);
}

/* Listens to all descriptors, until `deadline`. */
static void listen(struct sched *s, int64_t deadline)
{
    int64_t due = crew_deadline(&s->crew);
    nfds_t count = s->crew.size + CREW_POLL_WORKERS;
    pthread_mutex_unlock(&s->lock);
    int n = poll(s->crew.polls, count, clock_poll_ms(due < deadline ? due : deadline));
    pthread_mutex_lock(&s->lock);
    if (n > 0)
        hear(s);
}

static int one_round(struct sched *s)
{
    int done = hand_out(s);
    done |= take_all(s);
    if (done && ++s->rounds >= ROUNDS) {
        listen(s, 0);
        mind(s);
    }
    return done;
}

static void view(struct spin_view *v, struct desk *desk)
{
    struct claim claim = claim_load(&desk->claim);
    claim.back = 0;                     /* our own doing */
    *v = (struct spin_view){desk, claim_encode(claim), atomic_load(&desk->result_tail), atomic_load(&desk->item_stream_head),
                            atomic_load(&desk->result_stream_tail)};
}

static int differs(const struct spin_view *v)
{
    struct spin_view now;
    view(&now, v->desk);
    return now.claim != v->claim || now.result_tail != v->result_tail || now.item_stream_head != v->item_stream_head ||
           now.result_stream_tail != v->result_stream_tail;
}

/* Spins without the lock, on a copy of what there is to look at. Nonzero: there is news. */
static int spin(struct sched *s)
{
    struct spin_round round;
    size_t count = s->crew.watched_count;
    int news = 0;
    if (s->spin.off || !count)
        return 0;
    for (size_t i = 0; i < count; i++) {
        view(&s->views[i], s->crew.watched[i]->books.channel.desk);
        if (books_news(&s->crew.watched[i]->books))
            return 1;
    }
    pthread_mutex_unlock(&s->lock);
    for (spin_begin(&s->spin, &round); !news && spin_on(&s->spin, &round);) {
        news = atomic_load_explicit(&s->poked, memory_order_relaxed);
        for (size_t i = 0; i < count && !news; i++)
            news = differs(&s->views[i]);
    }
    pthread_mutex_lock(&s->lock);
    if (news)
        spin_paid(&s->spin);
    return news;
}

/* Sleeps until something happens or `deadline`. */
static void rest(struct sched *s, int64_t deadline)
{
    int news = atomic_load(&s->poked);
    s->asleep = 1;
    for (size_t i = 0; i < s->crew.watched_count; i++)
        books_sleep(&s->crew.watched[i]->books);
    for (size_t i = 0; i < s->crew.watched_count; i++)
        news |= books_news(&s->crew.watched[i]->books);
    if (!news)
        listen(s, deadline);
    s->asleep = 0;
    for (size_t i = 0; i < s->crew.watched_count; i++)
        books_awake(&s->crew.watched[i]->books);
    atomic_store(&s->poked, 0);
    mind(s);
}

/* Turns the loop until ready or `deadline`; returns to pull where there is something to pull. */
static void turn(struct sched *s, sched_ready *ready, void *arg, struct job *puller, int64_t deadline)
{
    while (!ready(arg)) {
        if (one_round(s)) {
            if (puller && puller->source.pull)
                return;
            continue;
        }
        if (ready(arg) || spin(s))
            continue;
        if (deadline != CLOCK_NEVER && clock_now() >= deadline)
            return;
        rest(s, deadline);
    }
}

/* Somebody else has to go on. */
static void pass_on(struct sched *s)
{
    if (s->waiter.asleep) {
        waiter_wake(&s->waiter);
        return;
    }
    for (struct job *j = s->jobs; j; j = j->next) {
        if (j->waiter.asleep) {
            waiter_wake(&j->waiter);
            return;
        }
    }
}

int sched_wait(struct sched *s, sched_ready *ready, void *arg, struct waiter *waiter, struct job *puller, int64_t deadline)
{
    for (;;) {
        int pulled = pull_some(s, puller);
        if (ready(arg))
            break;
        if (!pulled && deadline != CLOCK_NEVER && clock_now() >= deadline)
            break;
        if (s->turning) {
            if (!pulled)
                waiter_sleep(waiter, &s->lock, deadline);
            continue;
        }
        s->turning = 1;
        turn(s, ready, arg, puller, deadline);
        s->turning = 0;
    }
    if (!s->turning)
        pass_on(s);
    return ready(arg);
}

void sched_turn(struct sched *s, struct job *puller)
{
    pull_some(s, puller);
    if (s->turning) {
        hand_out(s);
        return;
    }
    s->turning = 1;
    if (!one_round(s)) {
        listen(s, 0);
        mind(s);
        one_round(s);
    }
    s->turning = 0;
    pass_on(s);
}
