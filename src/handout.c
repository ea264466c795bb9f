/* Handing out: items to workers.
 *
 * Runs in the host, under the pool's lock, in whichever thread brought work or turns the loop; a generator is called only in the thread
 * of its own call, with the lock given up meanwhile.
 *
 * How much waits at a worker is learned (settle.c): a job's depth, and never more than half of an even share of what is left of it. A
 * worker is served again when it has half of its depth left. Fairness does not depend on any of that: while a worker is idle and nothing is
 * left to be handed out, what has not started elsewhere is taken back for it, half at a time. */
#include "scheduler.h"

#include "clock.h"

#include <errno.h>

/* ---- Handing out */

/* A job that has nothing under way gets one item to any worker: it must not starve because others keep all of them busy. */
static int wants(const struct job *j, const struct crew_worker *w)
{
    return w->state == WORKER_READY && (books_outstanding(&w->books) <= j->depth / 2 || !j->outstanding);
}

/* How many more items should wait at a worker that has `has`: never more than half of an even share of what is left, so that the end of
 * a call stays even. */
static size_t fill_of(const struct sched *s, const struct job *j, size_t has)
{
    size_t depth = j->chunk > j->depth ? (j->chunk < DEPTH_MOST ? j->chunk : DEPTH_MOST) : j->depth;
    size_t share = source_known(&j->source) ? source_left(&j->source) / (2 * (size_t)s->crew.size) : 1;
    depth = depth < share ? depth : share ? share : 1;
    return depth > has ? depth - has : !j->outstanding;
}

/* Posts a piece, which fits. An idle worker has nothing to tell until then, so that is where we say that we want to hear of it: by its pipe
 * where the loop sleeps. */
static void post(struct sched *s, struct job *j, struct crew_worker *w, struct piece *piece)
{
    if (s->asleep)
        channel_caller_waits(w->books.channel.desk, CHANNEL_ASLEEP, claim_add(w->books.taken, 1));
    else if (!w->watched)
        channel_caller_waits(w->books.channel.desk, CHANNEL_WATCHING, claim_add(w->books.taken, 1));
    if (!books_outstanding(&w->books))
        w->since = clock_now();
    piece->owner = j;
    job_sent(j, piece->count, piece->size);
    if (books_post(&w->books, &j->call, piece, j->kind == JOB_ITER)) {
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
        sched_give_back(piece);
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

static int offer(struct sched *s, struct job *j)
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

/* How many a worker should give away: half of what waits. The last one only where another runs: a worker that is just about to claim it
 * would lose it, and win it back from the next, and so on as long as none of them is quick enough. */
static uint32_t movable(struct claim claim)
{
    return (claim_waiting(claim) + claim.running) / 2;
}

static struct crew_worker *most_waiting(struct sched *s)
{
    struct crew_worker *most = NULL;
    uint32_t waiting = 0;
    for (size_t i = 0; i < s->crew.watched_count; i++) {
        struct crew_worker *w = s->crew.watched[i];
        if (w->state != WORKER_READY || w->books.damaged)
            continue;
        uint32_t n = movable(claim_load(&w->books.channel.desk->claim));
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
    size_t half = movable(claim_load(&from->books.channel.desk->claim));
    if (books_take_back(&from->books, half < room ? half : room, &piece)) {
        if (from->books.damaged)
            crew_condemn(&s->crew, from, POOL_CRASHED, "its channel was written over");
        return 0;
    }
    job_unsent(j, piece.count, piece.size);     /* it is sent once more */
    post(s, j, idle, &piece);
    return 1;
}

int sched_hand_out(struct sched *s)
{
    struct crew_worker *idle;
    int done = 0;
    for (struct job *j = s->jobs; j; j = j->next)
        done |= offer(s, j);
    if (done)
        sched_rotate(s);
    while (s->crew.watched_count && (idle = idle_worker(s)) && even_out(s, idle))
        done = 1;
    return done;
}

/* ---- Pulling: a generator, in the thread of its call, without the lock */

static struct crew_worker *who_wants(struct sched *s, const struct job *j)
{
    for (unsigned i = 0; i < s->crew.size; i++) {
        struct crew_worker *w = &s->crew.workers[(s->next_worker + i) % s->crew.size];
        if (w->state == WORKER_READY && (books_outstanding(&w->books) < j->depth || !j->outstanding))
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
        struct ending e = {.index = piece.index, .status = POOL_FAILED, .code = -1, .slot = -1,
                           .text = "no memory in the host for this item"};
        job_sent(j, 1, item.size);
        job_settle(j, &e, item.size);
    }
}

/* Nonzero: an item was pulled, or the generator has ended. */
static int pull_one(struct sched *s, struct job *j)
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

int sched_pull(struct sched *s, struct job *j)
{
    int done = 0;
    while (j && pull_one(s, j))
        done = 1;
    if (j)
        job_check_end(j);
    return done;
}
