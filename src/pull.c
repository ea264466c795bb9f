/* Pulling: the items of a generator.
 *
 * Runs in the thread of the generator's call, under the pool's lock, which is given up while the generator is asked. It may take as long as
 * it likes, wait for what earlier items do, or use the pool: so each item can be had by its worker before the next one is asked for, and
 * goes to an idle worker where there is one. Items of one size that come one after the other share a span, which grows (books_grow);
 * what no worker can take at once waits in the source (source.c). */
#include "scheduler.h"

#include "clock.h"

#include <errno.h>
#include <stddef.h>

enum { SPAN_ITEMS = 256, SPAN_BYTES = 4 << 10 };        /* a span may grow as long as it is below both */
enum { PULLS = 32 };                                    /* items between two looks at the clock */

#define PULLS_TIME 160000                               /* nanoseconds for PULLS items beyond which they are placed with care */

/* Will the next item most likely find a lane slot there, if it needs one? One that was pulled and does not is copied to the heap first, and
 * to a slot later: that, and the new pages of the heap, took two thirds of the time for items of 4 MiB. */
static inline int has_lane(struct crew_worker *w, const struct job *j)
{
    return j->source.size <= CHANNEL_INLINE || books_room(&w->books, &j->call, j->source.size);
}

static inline int can_take(struct crew_worker *w, const struct job *j)
{
    return (books_outstanding(&w->books) < j->depth && has_lane(w, j)) || !j->outstanding;
}

static int is_nobody_idle(const struct sched *s)
{
    return s->crew.busy_hands >= s->crew.hands_count;
}

/* Has it too much by the books only, most of which is over, and only to be taken from it? */
static int is_to_be_taken(const struct crew_worker *w)
{
    size_t has = books_outstanding(&w->books);
    return has >= 4 * PULLS && books_waiting(&w->books, claim_load(&w->books.channel.desk->claim)) < has / 2;
}

/* An idle one; or else the first that takes more, so that the items of a span come one after the other. For a fast generator's light items
 * (handout.c) rather one that is at it. Where that has too many by the books only, and the item has not been pulled yet, nobody: our
 * caller takes what is there next, since it has rung. NULL: nobody. */
static struct crew_worker *who_wants(struct sched *s, const struct job *j, int pulled)
{
    size_t count = s->crew.hands_count;
    struct crew_worker *brisk = NULL, *idle = NULL, *any = NULL;
    int fast = !j->leisurely && j->kind == JOB_ITER && sched_is_alone(s, j);
    int64_t now = fast && sched_is_light(s, j, PULLS) ? clock_now() : 0;
    for (size_t i = 0; i < count && !(now ? brisk != NULL : !fast && idle) && !(any && !now && is_nobody_idle(s)); i++) {
        struct crew_worker *w = s->crew.hands[(s->next_hand + i) % count];
        int busy = books_outstanding(&w->books) != 0;
        if (busy && fast && !now && !pulled && is_to_be_taken(w))
            return NULL;
        if (!can_take(w, j))
            continue;
        any = any ? any : w;
        if (!busy)
            idle = idle ? idle : w;
        else if (now && !sched_is_held_up(w, now))
            brisk = w;
    }
    s->deserted |= !count;
    return brisk ? brisk : idle ? idle : any;
}

/* That one still, if it would be found again; asking it alone costs a fifth of looking for one. */
static inline struct crew_worker *taker(struct sched *s, const struct job *j, struct crew_worker *last, int pulled)
{
    if (last && last->hand && (is_nobody_idle(s) || !books_outstanding(&last->books)) && can_take(last, j))
        return last;
    return who_wants(s, j, pulled);
}

/* What is remembered from one item to the next: who got it, and gets the next one most likely; how many more of its size there is room
 * for, there and in the window, which is not asked for each; whether they should go there though another may be idle; where they are
 * hasty (books.h); and from when on time is counted. */
struct pulling { struct crew_worker *worker; size_t may; int light; struct crew_worker *hasty; int64_t since; };

/* At that one only; NULL: nowhere. */
static void hurry(struct pulling *p, struct crew_worker *w)
{
    if (p->hasty && p->hasty != w)
        books_hurry(&p->hasty->books, 0);
    if (w)
        books_hurry(&w->books, 1);
    p->hasty = w;
}

static void count_time(struct job *j, struct pulling *p)
{
    int64_t now = clock_now();
    j->pulls_time += j->leisurely ? 0 : now - p->since;
    p->since = now;
}

/* Does the generator take its time, or is it not known yet? Looked at for PULLS items together: by its own time where they are placed with
 * care; else, which is less to do for each, by all that passes while we pull, without what it takes to wake a worker. */
static int is_leisurely(struct job *j, struct pulling *p)
{
    if (j->pulls++ < PULLS)
        return j->leisurely;
    count_time(j, p);
    j->leisurely = j->pulls_time > PULLS_TIME;
    j->pulls_time = 0;
    j->pulls = 1;
    return j->leisurely;
}

/* Rather one that has nothing left by its own word, though the books have not been told: nobody turns the loop while the generator is
 * asked, so an item that is put behind a slow one stays there. To ask for that word takes its line from the worker, a fifth of the time
 * of a small item; so it is asked where the next item may be long in coming. And rather one that is awake: to wake one costs
 * more than many an item, and it may take our CPU at once. */
static struct crew_worker *rather_a_dry_one(struct sched *s, struct job *j, struct pulling *p, struct crew_worker *found)
{
    struct crew_worker *dry = NULL;
    if (!found || !is_leisurely(j, p))
        return found;
    if (books_are_dry(&found->books)) {
        if (books_are_awake(&found->books))
            return found;
        dry = found;
    }
    for (size_t i = 0; i < s->crew.hands_count; i++) {
        struct crew_worker *w = s->crew.hands[i];
        int awake = books_are_awake(&w->books);
        if ((dry && !awake) || w == found || !has_lane(w, j) || !crew_left(&s->crew, w) || !books_are_dry(&w->books))
            continue;                   /* not the depth: that is for what waits, and none of it does */
        dry = w;
        if (awake)
            break;
    }
    return dry ? dry : found;
}

/* Items of a span lie one behind the other: each has to be aligned for any object of its size, as malloc's memory is. */
static int stays_aligned(size_t size)
{
    size_t own = size & (0 - size);
    return own == size || own >= _Alignof(max_align_t);
}

/* How many items the span that begins with this one should have room for: those like it, if it is like the one before. */
static size_t span_most(const struct job *j, size_t size)
{
    size_t fit = size ? SPAN_BYTES / size : SPAN_ITEMS;
    return size != j->source.size || j->timeout || !stays_aligned(size) ? 0 : fit < SPAN_ITEMS ? fit : SPAN_ITEMS;
}

/* Nonzero: it was pulled, and has joined the span that is open there. All that sched_post does was done for that one, but for a thread
 * that sleeps, which wants to hear of each item. */
static inline int join(struct sched *s, struct job *j, struct crew_worker *w, const struct pool_bytes *item)
{
    if (s->asleep || books_grow(&w->books, j, j->source.next, item->data, item->size))
        return 0;
    job_sent(j, 1, item->size);
    source_pulled(&j->source, 1);
    return 1;
}

static void keep(struct sched *s, struct job *j, const struct piece *piece)
{
    struct ending e = {.index = piece->index, .status = POOL_FAILED, .code = -1, .slot = -1,
                       .text = "no memory in the host for this item"};
    if (!source_return(&j->source, piece)) {    /* copied */
        sched_ready(s, j);
        return;
    }
    job_sent(j, 1, piece->size);
    job_settle(j, &e, piece->size);
    job_tell(j);
}

static void place(struct sched *s, struct job *j, struct crew_worker *w, const struct pool_bytes *item)
{
    struct piece piece = {.index = j->source.next, .count = 1, .data = item->data, .size = item->size, .owner = j};
    size_t most = s->asleep ? 0 : span_most(j, item->size);     /* then none would join it */
    int may_go = w && !j->retries && item->size <= w->books.channel.slot_size;      /* one that is retried has to be there once more */
    size_t room = may_go ? sched_room_for(s, j, w, item->size) : 0;
    source_pulled(&j->source, 1);
    j->source.size = item->size;
    if (room)
        sched_post(s, j, w, &piece, most < room ? most : room);
    else
        keep(s, j, &piece);
}

static size_t ask_for_room(struct sched *s, struct job *j, struct pulling *p)
{
    if (!(p->worker = taker(s, j, p->worker, 0)))
        return 0;
    size_t has = books_outstanding(&p->worker->books), more = has < j->depth ? j->depth - has : 1;
    p->light = sched_is_light(s, j, PULLS);
    if (j->leisurely || j->source.size > CHANNEL_INLINE)
        more = 1;                       /* each is placed with care, or needs a lane slot */
    return job_may_send(j, more < PULLS ? more : PULLS, j->source.size, s->crew.size);
}

static int may_pull(struct sched *s, struct job *j, struct pulling *p)
{
    if (!j->source.pull || j->cut || source_has_returned(&j->source))
        return 0;
    return p->may || (p->may = ask_for_room(s, j, p));
}

/* 0 where it was not looked at. */
static int64_t time_since(int64_t begin)
{
    return begin ? clock_now() - begin : 0;
}

static void find_place(struct sched *s, struct job *j, struct pulling *p, const struct pool_bytes *item)
{
    p->worker = rather_a_dry_one(s, j, p, taker(s, j, p->worker, 1));
    p->may = p->may && p->worker && !j->leisurely && item->size == j->source.size ? p->may - 1 : 0;
    int64_t begin = p->worker && !books_are_awake(&p->worker->books) ? clock_now() : 0;
    if (!p->worker || !join(s, j, p->worker, item))
        place(s, j, p->worker, item);
    p->since += time_since(begin);
}

/* Most of a fast generator's items go where the last one went, and what belongs to that is the same for each. So where the worker's span
 * has room they are a run: put there without another look, and told to the books and the job all together at the end (5 % of the time of
 * a small one). Whoever else comes in while the generator is asked, be it the generator itself or another thread, ends the run before it
 * sees anything (sched_enter). */
static void begin_run(struct sched *s, struct job *j, struct pulling *p)
{
    hurry(p, j->leisurely ? NULL : p->worker);
    size_t room = p->light && !s->asleep ? books_may_run(&p->worker->books, j, j->source.next, j->source.size) : 0;
    room = room < p->may ? room : p->may;
    p->may -= room;
    s->run = (struct run){room ? j : NULL, p->worker, room};
}

void sched_end_run(struct sched *s)
{
    struct job *j = s->run.job;
    size_t count = books_end_run(&s->run.worker->books);
    job_sent(j, count, j->source.size);
    source_pulled(&j->source, count);
    j->pulls += (unsigned)count;
    s->run.job = NULL;
}

static int runs_on(const struct sched *s, const struct job *j, const struct pool_bytes *item)
{
    return s->run.job == j && item->size == j->source.size && books_are_awake(&s->run.worker->books);
}

/* Pulls an item, or a run and the item that is none of it any more. */
static void pull_some(struct sched *s, struct job *j, struct pulling *p)
{
    struct pool_bytes item;
    source_next_fn *next = j->source.pull;
    int64_t begin = j->leisurely ? clock_now() : 0;
    int r, good, placed;
    begin_run(s, j, p);
    do {
        item = (struct pool_bytes){0};
        sched_leave(s);
        r = next(j->source.cursor, &item);
        lock_enter(&s->lock);           /* not sched_enter: the run may go on */
        good = r > 0 && (item.data || !item.size);
        placed = good && runs_on(s, j, &item);
        if (placed)
            books_run(&s->run.worker->books, item.data, item.size);
    } while (placed && --s->run.left);
    if (s->run.job == j)
        p->may += s->run.left;
    if (s->run.job)
        sched_end_run(s);
    j->pulls_time += time_since(begin);
    if (placed || j->cut)               /* that is not asked any more */
        return;
    if (good)
        find_place(s, j, p, &item);
    else if (r)
        job_source_failed(j, r > 0 ? EINVAL : r);
    else
        j->source.pull = NULL;
}

int sched_pull(struct sched *s, struct job *j)
{
    if (!j)
        return 0;
    j->pull_again = 0;
    if (!j->source.pull)
        return 0;
    struct pulling p = {.since = clock_now()};
    int done = 0;
    for (; may_pull(s, j, &p); done = 1)
        pull_some(s, j, &p);
    hurry(&p, NULL);
    if (done)
        count_time(j, &p);
    sched_conclude(s, j);
    if (done)
        status_clear();                 /* the generator may have used the library: what it was told is not this call's */
    return done;
}
