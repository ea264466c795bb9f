/* The stress's operations: what each thread does with pools, iterators and jobs, by dice; and what it checks of each (model.h).
 *
 * A request is made with the memory of its items, which is written over and freed as soon as the header says that nobody reads it any more.
 * Iterators and jobs are kept from one operation to the next. Callbacks check what they are given, may free their job, start
 * further calls, and try what would wait there.
 *
 * Included by stress.c only. */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include "model.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

/* ---- What is acted on, and who acts */

enum { ACTORS = 6, HELD = 4, POOLS = 2 };
enum { BANK_SHARED = ACTORS, BANK_CALLBACKS };

struct subject {                        /* a pool */
    struct pool        *pool;
    struct pool_options options;
    unsigned            workers, most;
    int                 calm;           /* nothing in this pool crashes, is killed or cut short, before its end */
    int                 kills, fd;
    double              born;
    struct tally       *tally;
    atomic_int          refusing, refused;      /* calls may be refused from now on; must be */
    atomic_int          cutting, destroying;
    atomic_int          retired;                /* nobody may begin an operation on it */
    atomic_size_t       submitted, loose;       /* items asked for; those of them that may be in no statistics */
    atomic_size_t       ended[POOL_PENDING + 1], retried;       /* as far as we were told one by one */
};

struct stream {
    struct request    *request;
    struct pool_iter  *iter;
    int                ordered, over;
    size_t             next, delivered, cancelled;
    enum pool_status   failed;
    unsigned char     *seen;
};

struct promise {                        /* an asynchronous call: kept until its pool is gone, since its items may be read until then */
    struct promise  *next;
    struct request  *request;
    struct subject  *subject;
    struct pool_job *job;
    int              has_done, frees_itself, curious, chain;
    atomic_int       fired, counted;
};

struct actor {
    pthread_t       thread;
    unsigned        number, operation;
    struct round   *round;
    const char     *name;               /* of what it does */
    struct stream  *streams[HELD];
    struct promise *promises[HELD];
    struct pool_stats stats[POOLS];     /* as last seen */
    atomic_int      done;
    _Atomic(struct subject *) inside;   /* the pool that it makes calls on */
    atomic_uint     first, count;       /* which of its runs tell that it is surely inside; none: it has to be waited for */
};

struct round {
    unsigned        number, operations, pools;
    struct subject  subjects[POOLS];
    struct actor    actors[ACTORS], killer;
    int             pipe[2];            /* its end tells that no process is left that inherited it */
    struct promise *shared;             /* all threads wait for this one */
    pthread_mutex_t lock;
    struct promise *promises;           /* under the lock */
    atomic_int      over;
};

static struct round *_Atomic current;   /* for callbacks and the watchdog */
static atomic_size_t calls_made, kills_sent, totals[POOL_PENDING + 1];
static struct tally *tallies;           /* POOLS, shared with the workers */

struct dice { uint64_t state; };

static uint64_t roll(struct dice *d, uint64_t sides)
{
    return mix(d->state++) % sides;
}

static int chance(struct dice *d, unsigned percent)
{
    return roll(d, 100) < percent;
}

static struct dice dice_for(unsigned round, unsigned actor, unsigned operation)
{
    return (struct dice){mix(mix(mix(seed + round) + actor) + operation)};
}

static void nap(double seconds)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)}, NULL);
}

static void *allocate(size_t size)
{
    void *at = calloc(1, size ? size : 1);
    if (!at)
        violation("the stress", "no memory for %zu bytes", size);
    return at;
}

/* Nonzero: calls on the pool may be made now, until leave. */
static int enter(struct actor *a, struct subject *s, const struct request *q)
{
    atomic_store(&a->first, q ? q->plan.slot : 0);
    atomic_store(&a->count, q ? (unsigned)q->count : 0);
    atomic_store(&a->inside, s);
    if (!atomic_load(&s->retired))
        return 1;
    atomic_store(&a->inside, NULL);
    return 0;
}

static void leave(struct actor *a)
{
    atomic_fetch_add(&progress, 1);
    atomic_store(&a->inside, NULL);
    atomic_store(&a->count, 0);
}

static int is_safe(struct actor *a, struct subject *s)
{
    if (atomic_load(&a->inside) != s)
        return 1;
    unsigned first = atomic_load(&a->first), count = atomic_load(&a->count);
    for (unsigned i = 0; i < count; i++)
        if (runs[a->number][(first + i) % SLOTS].starts)
            return 1;
    return atomic_load(&a->inside) != s;
}

/* ---- Requests */

enum { WANT_OUT = 1, IN_PLACE = 2, MAY_GENERATE = 4, ONE = 8 };
enum kind { ARRAY, RANGE, BUFFERS, GENERATOR };

struct ask {                            /* a request, and the memory it is made of */
    struct request     q;
    struct subject    *subject;
    enum kind          kind;
    unsigned char     *bytes;           /* of all items, or of the generator's current one */
    size_t             size;
    struct pool_bytes *buffers;
    void              *common;
    size_t             pulled;
    int                nests;           /* the generator makes calls itself */
};

static struct ask *ask_of(struct request *q)
{
    return (struct ask *)q;
}

static uint16_t odds(size_t count, uint64_t expected)
{
    uint64_t n = expected * CHANCES / (count ? count : 1);
    return (uint16_t)(n < 400 ? n : 400);
}

static void choose_acts(struct dice *d, struct plan *p, size_t count, const struct subject *s, double timeout)
{
    p->acts[NAP] = odds(count, 1 + roll(d, 40));
    p->acts[FAIL] = chance(d, 40) ? odds(count, 1 + roll(d, 5)) : 0;
    p->sizes[EMPTY] = chance(d, 30) ? odds(count, 4) : 0;
    p->sizes[ODD] = chance(d, 20) ? odds(count, 2) : 0;
    if (!p->result_size) {
        p->sizes[MEDIUM] = chance(d, 40) ? 200 : 0;
        p->sizes[LARGE] = chance(d, 20) ? odds(count, 6) : 0;
        p->sizes[HUGE] = chance(d, 4) ? odds(count, 1) : 0;
    }
    if (s->calm)
        return;
    p->acts[EXIT] = chance(d, 25) ? odds(count, 1 + roll(d, 3)) : 0;
    p->acts[SIGNAL] = chance(d, 25) ? odds(count, 1 + roll(d, 3)) : 0;
    p->acts[FLAKY] = chance(d, 25) ? odds(count, 1 + roll(d, 3)) : 0;
    p->acts[FORK] = chance(d, 5) ? odds(count, 1) : 0;
    p->acts[LOOP] = timeout > 0 && timeout < 1 && chance(d, 60) ? odds(count, 1 + roll(d, 2)) : 0;
}

static size_t choose_count(struct dice *d, const struct subject *s)
{
    uint64_t r = roll(d, 100);
    if (r < 2)
        return 0;
    if (r < 45)
        return 1 + roll(d, 8);
    if (r < 85)
        return 9 + roll(d, 60);
    return r < 98 || s->options.max_tasks ? 60 + roll(d, 500) : 600 + roll(d, 4000);
}

static void choose_options(struct dice *d, struct pool_call *call, const struct subject *s)
{
    call->chunk = chance(d, 20) ? 1 + roll(d, 30) : 0;
    call->retries = chance(d, 30) ? 1 + (unsigned)roll(d, 3) : 0;
    if (s->calm)
        return;
    uint64_t r = roll(d, 100);
    call->timeout = r < 25 ? 0.02 + (double)roll(d, 60) / 1000 : r < 35 ? LONG_LIMIT : r < 38 ? (double)INFINITY : 0;
    call->fail_fast = (unsigned)chance(d, 15);
}

static uint64_t choose_result_size(struct dice *d, int how, size_t count)
{
    static const uint64_t sizes[] = {8, 8, 16, 24, 100, 3000, 20000, LARGE_SIZE};
    uint64_t size = how & IN_PLACE ? sizeof(struct item) : how & WANT_OUT ? sizes[roll(d, 8)] : 0;
    return size * count > HUGE_SIZE ? 8 : size;
}

static void put_items(struct ask *k, struct dice *d)
{
    struct plan *p = &k->q.plan;
    size_t total = 0, count = k->kind == RANGE ? 0 : k->q.count;
    for (size_t i = 0; i < count; i++) {
        size_t size = in_size_of(p, i);
        total = k->kind != GENERATOR ? total + size : total < size ? size : total;
    }
    k->size = total;
    k->bytes = allocate(total);
    if (k->kind == BUFFERS)
        k->buffers = allocate(count * sizeof *k->buffers);
    for (size_t i = 0, at = 0; i < count && k->kind != GENERATOR; i++) {
        size_t size = put_item(p, i, k->bytes + at);
        if (k->buffers)
            k->buffers[i] = (struct pool_bytes){k->bytes + at, size};
        at += size;
    }
    if (k->kind == GENERATOR && chance(d, 25))
        k->q.source_fails = -1 - (int)roll(d, 9);
}

static void put_common(struct ask *k)
{
    struct plan *p = &k->q.plan;
    k->q.call.common_size = k->kind == RANGE ? sizeof *p : p->common_size;
    if (!k->q.call.common_size)
        return;
    k->q.call.common = k->common = allocate(k->q.call.common_size);
    if (k->kind == RANGE)
        memcpy(k->common, p, sizeof *p);
    else
        fill(k->common, p->common_size, common_key(p->common_size));
}

/* The runs of so many items, all at zero. */
static uint32_t take_slots(unsigned bank, size_t count)
{
    uint32_t slot = atomic_fetch_add(&next_slot[bank], (unsigned)count) % SLOTS;
    for (size_t i = 0; i < count; i++) {
        runs[bank][(slot + i) % SLOTS].starts = 0;
        runs[bank][(slot + i) % SLOTS].ends = 0;
    }
    return slot;
}

static struct request *make_request(struct subject *s, unsigned bank, const char *origin, struct dice *d, int how)
{
    struct ask *k = allocate(sizeof *k);
    struct request *q = &k->q;
    k->subject = s;
    q->kills = s->kills;
    q->cutting = &s->cutting;
    snprintf(q->origin, sizeof q->origin, "%s", origin);
    q->count = how & ONE ? 1 : choose_count(d, s);
    k->kind = how & (ONE | IN_PLACE) ? ARRAY : (enum kind)roll(d, how & MAY_GENERATE ? 4 : 3);
    q->is_generator = k->kind == GENERATOR;
    k->nests = chance(d, 30);
    choose_options(d, &q->call, s);
    q->plan = (struct plan){.seed = mix(d->state), .bank = bank, .slot = take_slots(bank, q->count), .is_range = k->kind == RANGE,
                            .is_array = k->kind == ARRAY, .result_size = choose_result_size(d, how, q->count),
                            .common_size = k->kind != RANGE && chance(d, 20) ? (uint32_t)roll(d, chance(d, 20) ? 100000 : 200) : 0};
    q->plan.item_size = k->kind != ARRAY ? 0 : (uint32_t)(sizeof(struct item) + (how & IN_PLACE ? 0 : 8 * roll(d, 12)));
    choose_acts(d, &q->plan, q->count, s, q->call.timeout);
    put_items(k, d);
    put_common(k);
    q->begun = now();
    return q;
}

static void free_request(struct request *q)
{
    struct ask *k = ask_of(q);
    memset(k->bytes, 0x5a, k->size);    /* who still reads it, does not get away with it */
    free(k->bytes);
    free(k->buffers);
    free(k->common);
    free(k);
}

/* A call is made; it is counted first, so that no statistics can be ahead of us. */
static void count_call(struct request *q)
{
    struct subject *s = ask_of(q)->subject;
    atomic_fetch_add(&calls_made, 1);
    atomic_fetch_add(&s->submitted, q->count);
}

/* It has ended, and every item of it is accounted for, or (loose) perhaps not. */
static void count_end(struct request *q, int loose)
{
    struct subject *s = ask_of(q)->subject;
    if (loose)
        atomic_fetch_add(&s->loose, q->count);
}

static void count_item(struct request *q, const struct pool_result *r)
{
    struct subject *s = ask_of(q)->subject;
    atomic_fetch_add(&s->ended[r->status], 1);
    atomic_fetch_add(&totals[r->status], 1);
    if (r->tries > 1)
        atomic_fetch_add(&s->retried, r->tries - 1);
}

/* status: CLOSED or INVALID where the call was refused. Nonzero if it was not. */
static int accepted(struct request *q, int had_to_be_refused, enum pool_status status)
{
    struct subject *s = ask_of(q)->subject;
    if (status != POOL_CLOSED && status != POOL_INVALID) {
        if (had_to_be_refused)
            violation(q->origin, "it was accepted after the pool was closed, and ended %s", pool_status_text(status));
        return 1;
    }
    if (!atomic_load(&s->refusing) || (status == POOL_INVALID && !atomic_load(&s->destroying)))
        violation(q->origin, "it was refused: %s: %s", pool_status_text(status), pool_error());
    for (size_t i = 0; i < q->count; i++) {
        struct item item = item_of(&q->plan, i);
        if (run_of(&item)->starts)
            violation(q->origin, "it was refused, and item %zu ran", i);
    }
    atomic_fetch_sub(&s->submitted, q->count);
    return 0;
}

/* The same of a call that returns a handle. */
static int accepted_handle(struct request *q, int had_to_be_refused, const void *handle, int error)
{
    if (!handle && error != ESHUTDOWN && error != EINVAL)
        violation(q->origin, "it was refused: errno %d: %s", error, pool_error());
    return accepted(q, had_to_be_refused, handle ? POOL_OK : error == ESHUTDOWN ? POOL_CLOSED : POOL_INVALID);
}

/* ---- Items */

static struct pool_items items_of(struct request *q);

/* A generator may use its pool for other calls. */
static void nest(struct ask *k)
{
    struct subject *s = k->subject;
    struct dice d = {mix(k->q.plan.seed + k->pulled)};
    struct request *q = make_request(s, k->q.plan.bank, k->q.origin, &d, WANT_OUT | ONE);
    unsigned char *out = allocate(q->plan.result_size);
    memset(out, UNTOUCHED, q->plan.result_size);
    count_call(q);
    enum pool_status status = pool_apply(s->pool, perform, ask_of(q)->bytes, q->plan.item_size, out, q->plan.result_size, &q->call);
    if (accepted(q, 0, status)) {
        judge_failure(q, status, pool_failure());
        judge_out(q, status, pool_failure(), out, 0);
        count_end(q, 0);
    }
    free(out);
    free_request(q);
}

static int generate(void *cursor, struct pool_bytes *item)
{
    struct ask *k = cursor;
    if (k->pulled > k->q.count)
        violation(k->q.origin, "its generator was called after its end");
    if (k->pulled == k->q.count) {
        k->pulled++;
        return k->q.source_fails;
    }
    if (k->nests && k->pulled % 37 == 5)
        nest(k);
    *item = (struct pool_bytes){k->bytes, put_item(&k->q.plan, k->pulled++, k->bytes)};
    return 1;
}

static struct pool_items items_of(struct request *q)
{
    struct ask *k = ask_of(q);
    switch (k->kind) {
    case ARRAY: return pool_array(k->bytes, q->count, q->plan.item_size);
    case RANGE: return pool_range(q->count);
    case BUFFERS: return pool_buffers(k->buffers, q->count);
    default: return pool_generator(generate, k);
    }
}

/* ---- Operations: calls that wait */

static struct subject *pick(struct actor *a, struct dice *d)
{
    return &a->round->subjects[roll(d, a->round->pools)];
}

static struct request *ask_for(struct actor *a, struct subject *s, struct dice *d, int how)
{
    char origin[100];
    snprintf(origin, sizeof origin, "round %u, thread %u, operation %u, %s", a->round->number, a->number, a->operation, a->name);
    return make_request(s, a->number, origin, d, how);
}

static int is_loose(struct request *q)
{
    return q->is_generator && (is_forced(q) || q->call.fail_fast);
}

static void map(struct actor *a, struct dice *d, int how)
{
    struct subject *s = pick(a, d);
    struct request *q = ask_for(a, s, d, how);
    struct ask *k = ask_of(q);
    size_t each = q->plan.result_size;
    unsigned char *own = allocate(each * q->count), *out = how & IN_PLACE ? k->bytes : how & WANT_OUT ? own : NULL;
    memset(own, UNTOUCHED, each * q->count);
    if (enter(a, s, q)) {
        int sure = s->refused;
        count_call(q);
        enum pool_status status = how & ONE ? pool_apply(s->pool, perform, k->bytes, q->plan.item_size, out, each, &q->call)
                                            : pool_map(s->pool, perform, items_of(q), out, each, &q->call);
        leave(a);
        if (accepted(q, sure, status)) {
            judge_failure(q, status, pool_failure());
            if (out)
                judge_out(q, status, pool_failure(), out, (how & IN_PLACE) != 0);
            if (pool_failure() && pool_failure()->status != POOL_SOURCE_FAILED)
                count_item(q, pool_failure());
            count_end(q, is_loose(q));
        }
    }
    free(own);
    free_request(q);
}

static void op_map(struct actor *a, struct dice *d)
{
    map(a, d, WANT_OUT);
}

static void op_map_in_place(struct actor *a, struct dice *d)
{
    map(a, d, WANT_OUT | IN_PLACE);
}

static void op_map_for_effect(struct actor *a, struct dice *d)
{
    map(a, d, MAY_GENERATE);
}

static void op_apply(struct actor *a, struct dice *d)
{
    map(a, d, ONE | (chance(d, 70) ? WANT_OUT : 0));
}

static void count_list(struct request *q, const struct pool_results *list)
{
    for (size_t i = 0; i < pool_results_count(list); i++)
        if (pool_results_at(list, i)->status != POOL_SOURCE_FAILED)
            count_item(q, pool_results_at(list, i));
    count_end(q, is_loose(q));
}

static void op_map_results(struct actor *a, struct dice *d)
{
    struct subject *s = pick(a, d);
    struct request *q = ask_for(a, s, d, MAY_GENERATE);
    if (enter(a, s, q)) {
        int sure = s->refused;
        count_call(q);
        struct pool_results *list = pool_map_results(s->pool, perform, items_of(q), &q->call);
        int error = errno;
        leave(a);
        if (accepted_handle(q, sure, list, error)) {
            judge_list(q, list, pool_results_status(list));
            count_list(q, list);
        }
        pool_results_free(list);
    }
    free_request(q);
}

/* ---- Operations: iterators */

static void close_stream(struct stream *t)
{
    struct request *q = t->request;
    int whole = t->over && t->delivered == q->count && !t->cancelled && !is_forced(q) && !q->call.fail_fast;
    count_end(q, !whole);
    pool_iter_free(t->iter);
    free_request(q);
    free(t->seen);
    free(t);
}

static struct stream *open_stream(struct actor *a, struct dice *d, struct subject *s)
{
    struct request *q = ask_for(a, s, d, MAY_GENERATE);
    struct stream *t = allocate(sizeof *t);
    t->request = q;
    t->seen = allocate(q->count + 1);
    t->ordered = chance(d, 50);
    q->call.window = chance(d, 25) ? 1 + roll(d, 40) : 0;
    ask_of(q)->nests = 0;               /* later it is pulled where the pool is not known to be there */
    int sure = s->refused;
    count_call(q);
    t->iter = (t->ordered ? pool_imap : pool_imap_unordered)(s->pool, perform, items_of(q), &q->call);
    int error = errno;
    if (accepted_handle(q, sure, t->iter, error))
        return t;
    free_request(q);
    free(t->seen);
    free(t);
    return NULL;
}

static void judge_delivery(struct stream *t, const struct pool_result *r)
{
    struct request *q = t->request;
    judge_item(q, r);
    if (t->seen[r->index]++)
        violation(q->origin, "item %zu was delivered twice", r->index);
    if (t->ordered && (r->index < t->next || (r->index > t->next && !is_forced(q) && !q->call.fail_fast)))
        violation(q->origin, "item %zu was delivered where %zu should have been", r->index, t->next);
    if (t->failed && (q->call.fail_fast || t->failed == POOL_SOURCE_FAILED))
        violation(q->origin, "item %zu was delivered after what should have been the last", r->index);
    t->next = r->index + 1;
    t->cancelled += r->status == POOL_CANCELLED;
    if (r->status && r->status != POOL_CANCELLED)
        t->failed = r->status;
    if (r->status == POOL_SOURCE_FAILED)
        return;
    t->delivered++;
    count_item(q, r);
}

static void judge_stream_end(struct stream *t, enum pool_status status)
{
    struct request *q = t->request;
    int all = t->delivered == q->count && !t->cancelled;
    int right = status == POOL_OK          ? all && !q->source_fails && !(q->call.fail_fast && t->failed)
              : status == POOL_CANCELLED   ? is_forced(q)
              : q->call.fail_fast          ? t->failed && (status == POOL_FAILED || status == POOL_CRASHED || status == POOL_TIMED_OUT ||
                                                           (status == POOL_SOURCE_FAILED && q->source_fails))
              : status == POOL_SOURCE_FAILED ? all && t->failed == POOL_SOURCE_FAILED : 0;
    if (!right)
        violation(q->origin, "the iterator ended %s (%s) after %zu of %zu items, %zu of them cancelled, last failure %s",
                  pool_status_text(status), pool_error(), t->delivered, q->count, t->cancelled, pool_status_text(t->failed));
    if (pool_next(t->iter) || pool_iter_status(t->iter) != status)
        violation(q->origin, "the iterator went on after its end");
    t->over = 1;
}

/* 1: took one; 0: there is none now; -1: it has ended. */
static int take(struct stream *t, double seconds)
{
    if (t->over)
        return -1;
    const struct pool_result *r = seconds < 0 ? pool_next(t->iter) : pool_next_timeout(t->iter, seconds);
    if (r) {
        judge_delivery(t, r);
        return 1;
    }
    if (pool_error()[0])
        violation(t->request->origin, "no result: %s", pool_error());
    enum pool_status status = pool_iter_status(t->iter);
    if (status == POOL_PENDING && seconds < 0)
        violation(t->request->origin, "pool_next returned nothing, and the iterator has not ended");
    if (status == POOL_PENDING)
        return 0;
    judge_stream_end(t, status);
    return -1;
}

static double choose_wait(struct dice *d)
{
    uint64_t r = roll(d, 3);
    return r == 0 ? 0 : r == 1 ? (double)roll(d, 5000) / 1e6 : -1;
}

static void op_open(struct actor *a, struct dice *d)
{
    struct stream **place = &a->streams[roll(d, HELD)];
    struct subject *s = pick(a, d);
    if (*place && !(*place)->over && ask_of((*place)->request)->subject->calm)
        while (take(*place, -1) >= 0)
            ;
    if (*place)
        close_stream(*place);
    *place = NULL;
    if (!enter(a, s, NULL))
        return;
    *place = open_stream(a, d, s);
    leave(a);
}

static void op_take(struct actor *a, struct dice *d)
{
    struct stream *t = a->streams[roll(d, HELD)];
    size_t most = chance(d, 30) ? SIZE_MAX : 1 + roll(d, 50);
    while (t && most-- && take(t, choose_wait(d)) >= 0)
        ;
}

static void op_cancel(struct actor *a, struct dice *d)
{
    struct stream *t = a->streams[roll(d, HELD)];
    if (!t || ask_of(t->request)->subject->calm)
        return;
    atomic_store(&t->request->cancelled, 1);
    pool_iter_cancel(t->iter);
}

/* No call that waits: only the descriptor is waited for, which must tell of everything that is new. */
static void op_poll(struct actor *a, struct dice *d)
{
    struct subject *s = pick(a, d);
    if (s->fd < 0 || !enter(a, s, NULL))
        return;
    struct stream *t = open_stream(a, d, s);
    struct pollfd polled = {.fd = s->fd, .events = POLLIN};
    for (int got, silent = 0; t && (got = take(t, 0)) >= 0 && !s->retired;) {
        if (got && silent)
            violation(t->request->origin, "the descriptor told nothing of a result for 5 seconds");
        silent = !got && !poll(&polled, 1, s->calm ? 5000 : 500) && s->calm && !poll(&polled, 1, 0);
        if (!got && !silent)
            nap(0.0005);                /* news of another handle, perhaps: it stays readable until that one's owner comes */
    }
    if (t && !t->over && s->calm)
        while (take(t, -1) >= 0)
            ;
    if (t)
        close_stream(t);
    leave(a);
}

/* ---- Operations: asynchronous calls */

static struct promise *start_promise(struct round *round, struct subject *s, struct request *q, struct dice *d, int chain, int one);

static void judge_job(struct promise *p, struct pool_job *job, enum pool_status status)
{
    struct request *q = p->request;
    const struct pool_results *list = pool_job_results(job);
    if (!list)
        violation(q->origin, "the job has ended %s, and has no results: %s", pool_status_text(status), pool_error());
    judge_list(q, list, status);
    if (!atomic_exchange(&p->counted, 1))
        count_list(q, list);
}

/* In a callback, what would wait is refused and changes nothing. */
static void try_to_wait(struct promise *p)
{
    struct pool *pool = p->subject->pool;
    enum pool_status status = pool_map(pool, perform, pool_range(0), NULL, 0, NULL);
    if (status != POOL_INVALID && !(status == POOL_CLOSED && p->subject->refusing))
        violation(p->request->origin, "a map in its callback was not refused: %s", pool_status_text(status));
    if (pool_join(pool, -1) != POOL_INVALID)
        violation(p->request->origin, "a join in its callback was not refused");
    pool_destroy(pool);
    if (!pool_error()[0])
        violation(p->request->origin, "a destroy in its callback was not refused");
}

static void fired(struct pool_job *job, void *arg)
{
    struct promise *p = arg;
    struct request *q = p->request;
    if (atomic_fetch_add(&p->fired, 1))
        violation(q->origin, "its callback came twice");
    enum pool_status status = pool_job_status(job);
    if (status == POOL_PENDING)
        violation(q->origin, "its callback came before its end");
    judge_job(p, job, status);
    if (p->curious)
        try_to_wait(p);
    if (p->chain) {
        struct dice d = {mix(q->plan.seed ^ 0xca11)};
        start_promise(current, p->subject, make_request(p->subject, BANK_CALLBACKS, q->origin, &d, chance(&d, 50) ? ONE : 0), &d,
                      p->chain - 1, 1);
    }
    if (p->frees_itself)
        pool_job_free(job);
}

/* Starts it; detached, where it is a callback that starts it: nobody else has its handle then. NULL: refused. */
static struct promise *start_promise(struct round *round, struct subject *s, struct request *q, struct dice *d, int chain, int detached)
{
    struct promise *p = allocate(sizeof *p);
    *p = (struct promise){.request = q, .subject = s, .chain = chain, .has_done = detached || chain || chance(d, 60),
                          .curious = chance(d, 20), .frees_itself = detached || chance(d, 20)};
    p->frees_itself = p->frees_itself && p->has_done;
    q->call.done = p->has_done ? fired : NULL;
    q->call.done_arg = p->has_done ? p : NULL;
    int sure = s->refused;
    count_call(q);
    struct pool_job *job = q->count == 1 && ask_of(q)->kind == ARRAY && chance(d, 80)
                               ? pool_apply_async(s->pool, perform, ask_of(q)->bytes, q->plan.item_size, &q->call)
                               : pool_map_async(s->pool, perform, items_of(q), &q->call);
    if (!accepted_handle(q, sure, job, errno)) {
        if (p->fired)
            violation(q->origin, "it was refused, and its callback came");
        free_request(q);
        free(p);
        return NULL;
    }
    p->job = p->frees_itself ? NULL : job;
    pthread_mutex_lock(&round->lock);
    p->next = round->promises;
    round->promises = p;
    pthread_mutex_unlock(&round->lock);
    return p;
}

static void let_go(struct promise **place)
{
    if (*place && (*place)->job)
        pool_job_free((*place)->job);
    *place = NULL;
}

static void op_async(struct actor *a, struct dice *d)
{
    struct promise **place = &a->promises[roll(d, HELD)];
    struct subject *s = pick(a, d);
    let_go(place);
    if (!enter(a, s, NULL))
        return;
    struct request *q = ask_for(a, s, d, chance(d, 50) ? ONE : 0);
    *place = start_promise(a->round, s, q, d, chance(d, 20) ? 1 + (int)roll(d, 3) : 0, 0);
    leave(a);
}

static enum pool_status wait_for(struct promise *p, double seconds)
{
    struct request *q = p->request;
    enum pool_status status = pool_job_wait(p->job, seconds);
    if (status == POOL_PENDING) {
        if (seconds < 0)
            violation(q->origin, "a wait without limit ended, and the job had not");
        if (pool_error()[0])
            violation(q->origin, "a wait that ran out of time is told to be a failure: %s", pool_error());
        return status;
    }
    if (p->has_done && !p->fired)
        violation(q->origin, "its wait returned before its callback");
    if (pool_job_status(p->job) != status)
        violation(q->origin, "its wait said %s, its status %s", pool_status_text(status), pool_status_text(pool_job_status(p->job)));
    judge_job(p, p->job, status);
    return status;
}

static void op_wait(struct actor *a, struct dice *d)
{
    struct promise *p = a->promises[roll(d, HELD)];
    if (p && p->job)
        wait_for(p, choose_wait(d));
}

static void op_cancel_job(struct actor *a, struct dice *d)
{
    struct promise *p = a->promises[roll(d, HELD)];
    if (!p || !p->job || p->subject->calm)
        return;
    atomic_store(&p->request->cancelled, 1);
    pool_job_cancel(p->job);
}

static void op_free_job(struct actor *a, struct dice *d)
{
    let_go(&a->promises[roll(d, HELD)]);
}

/* One job, waited for by many. */
static void op_wait_shared(struct actor *a, struct dice *d)
{
    struct promise *p = a->round->shared;
    if (p && p->job)
        wait_for(p, choose_wait(d));
}

/* ---- Operations: the pool itself */

static void origin_of(const struct actor *a, char *text, size_t size)
{
    snprintf(text, size, "round %u, thread %u, operation %u, %s", a->round->number, a->number, a->operation, a->name);
}

static void op_resize(struct actor *a, struct dice *d)
{
    char origin[100];
    struct subject *s = pick(a, d);
    unsigned workers = (unsigned)roll(d, s->most + 2);
    if (s->calm || !enter(a, s, NULL))
        return;
    int sure = s->refused;
    enum pool_status status = pool_resize(s->pool, workers);
    int may_be_closed = s->refusing, bad = workers == 0 || workers > s->most;
    unsigned size = pool_size(s->pool);
    origin_of(a, origin, sizeof origin);
    leave(a);
    if ((status == POOL_OK && (bad || sure)) || (status == POOL_CLOSED && !may_be_closed) ||
        (status == POOL_INVALID && !bad && !s->destroying) || (status && status != POOL_CLOSED && status != POOL_INVALID))
        violation(origin, "to %u of at most %u: %s: %s", workers, s->most, pool_status_text(status), pool_error());
    if (size < 1 || size > s->most)
        violation(origin, "the size is %u, of at most %u", size, s->most);
}

static void op_stats(struct actor *a, struct dice *d)
{
    char origin[100];
    struct subject *s = pick(a, d);
    struct pool_stats stats, *last = &a->stats[s - a->round->subjects];
    struct pool_worker_stats one;
    unsigned index = (unsigned)roll(d, s->workers);
    if (!enter(a, s, NULL))
        return;
    enum pool_status status = pool_stats(s->pool, &stats), status_one = pool_worker_stats(s->pool, index, &one);
    pid_t pid = pool_worker_pid(s->pool, index), beyond = pool_worker_pid(s->pool, s->most);
    int may_be_refused = s->destroying;
    leave(a);
    origin_of(a, origin, sizeof origin);
    if (may_be_refused && (status || status_one))
        return;
    if (status || status_one)
        violation(origin, "%s, %s: %s", pool_status_text(status), pool_status_text(status_one), pool_error());
    if (stats.ok < last->ok || stats.failed < last->failed || stats.crashed < last->crashed || stats.timed_out < last->timed_out ||
        stats.cancelled < last->cancelled || stats.retried < last->retried || stats.replaced_crashed < last->replaced_crashed ||
        stats.replaced_max_tasks < last->replaced_max_tasks)
        violation(origin, "a count went down");
    if (one.births < 1 || !(one.busy >= 0) || !(one.idle >= 0) || !(one.startup >= 0) || one.busy + one.idle > now() - s->born + 1)
        violation(origin, "worker %u: %llu births, %g s busy, %g s idle, %g s starting, in %g s", index, (unsigned long long)one.births,
                  one.busy, one.idle, one.startup, now() - s->born);
    if (pid < 0 || pid == getpid() || beyond)
        violation(origin, "worker %u is process %d, worker %u is %d", index, (int)pid, s->most, (int)beyond);
    *last = stats;
}

static enum pool_status status_of(const void *handle)
{
    return handle ? POOL_OK : errno == ESHUTDOWN ? POOL_CLOSED : POOL_INVALID;
}

static enum pool_status make_mistake(struct pool *pool, uint64_t which)
{
    struct pool_stats stats;
    struct pool_call call = {0};
    static struct ask none;             /* a generator at its end: it is never asked */
    struct pool_items range = pool_range(1), generated = pool_generator(generate, &none);
    switch (which) {
    case 0: return pool_map(pool, NULL, range, NULL, 0, NULL);
    case 1: return pool_map(pool, perform, generated, &stats, sizeof stats, NULL);
    case 2: return status_of(pool_map_async(pool, perform, generated, NULL));
    case 3: call.timeout = -1; return pool_map(pool, perform, range, NULL, 0, &call);
    case 4: call.timeout = (double)NAN; return status_of(pool_apply_async(pool, perform, NULL, 0, &call));
    case 5: call.done = fired; return pool_map(pool, perform, range, NULL, 0, &call);
    case 6: call.done = fired; return status_of(pool_imap(pool, perform, range, &call));
    case 7: call.reserved[3] = 1; return status_of(pool_map_results(pool, perform, range, &call));
    case 8: call.common_size = 1; return status_of(pool_imap_unordered(pool, perform, range, &call));
    case 9: return pool_resize(pool, 0);
    case 10: return pool_job_wait(NULL, 0);
    case 11: return pool_iter_status(NULL);
    case 12: return pool_stats(pool, NULL);
    case 13: return pool_apply(pool, perform, NULL, 8, NULL, 0, NULL);
    case 14: return pool_stats(NULL, &stats);
    default: return pool_map(NULL, perform, range, NULL, 0, NULL);
    }
}

static void op_mistake(struct actor *a, struct dice *d)
{
    char origin[100];
    struct subject *s = pick(a, d);
    uint64_t which = roll(d, 16);
    if (!enter(a, s, NULL))
        return;
    enum pool_status status = make_mistake(s->pool, which);
    int silent = !pool_error()[0], may_be_closed = s->refusing;
    leave(a);
    origin_of(a, origin, sizeof origin);
    if ((status != POOL_INVALID && !(status == POOL_CLOSED && may_be_closed)) || silent)
        violation(origin, "mistake %d: %s: %s", (int)which, pool_status_text(status), silent ? "(silence)" : "(a sentence)");
}

#endif
