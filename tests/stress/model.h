/* The stress's model: what an item does, and how it may end.
 *
 * A plan tells of each index what its item does: return so many bytes that follow from its key, fail, exit, raise a signal, run for ever.
 * Host and worker make the item from the plan by the same function, so the host knows of each what must come of it. A request is a
 * plan and what the call asks for; the judges below say whether an ending, and the end of a whole call, can have come of it. They
 * know nothing of how the library works: what they go by is the header.
 *
 * All that excuses an ending (a kill, a cancel, the end of the pool) is noted before it is done, and looked at after the ending is in hand:
 * so an excuse is never missed, and what has none is a violation.
 *
 * Included by stress.c only; perform and what it calls run in workers, the rest in the host, in any thread. */
#ifndef MODEL_H
#define MODEL_H

#include <forkpool.h>

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned long long seed = 1;
static atomic_size_t progress;          /* for the watchdog: moves whenever anything does */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void violation(const char *origin, const char *format, ...) __attribute__((__format__(__printf__, 2, 3), __noreturn__));
static void violation(const char *origin, const char *format, ...)
{
    char text[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    printf("VIOLATION (seed %llu): %s: %s\n", seed, origin, text);
    fflush(stdout);
    _exit(1);
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ---- Bytes that follow from a key */

static uint64_t word_of(uint64_t key, size_t i)
{
    return (key + i) * 0x9e3779b97f4a7c15u;
}

static void fill(void *to, size_t size, uint64_t key)
{
    unsigned char *at = to;
    for (size_t i = 0; i * 8 < size; i++) {
        uint64_t word = word_of(key, i);
        memcpy(at + i * 8, &word, size - i * 8 < 8 ? size - i * 8 : 8);
    }
}

static int is_filled(const void *from, size_t size, uint64_t key)
{
    const unsigned char *at = from;
    for (size_t i = 0; i * 8 < size; i++) {
        uint64_t word = word_of(key, i);
        if (memcmp(at + i * 8, &word, size - i * 8 < 8 ? size - i * 8 : 8) != 0)
            return 0;
    }
    return 1;
}

/* ---- What was run: in memory that host and workers share */

enum { BANKS = 8, SLOTS = 1 << 16 };    /* a bank for each thread that makes calls */

struct run { _Atomic unsigned char starts, ends; };     /* of one item; the workers count */
static struct run (*runs)[SLOTS];       /* [BANKS] */
static atomic_uint next_slot[BANKS];

struct tally { atomic_uint begun, ended; };             /* of one pool: initializers and finalizers that ran */

/* ---- Plans and items */

enum act { RETURN, NAP, FORK, FLAKY, FAIL, EXIT, SIGNAL, LOOP, ACTS };
enum { ODD, EMPTY, MEDIUM, LARGE, HUGE, SIZES };        /* of results */
enum { CHANCES = 1024, DAMAGED = 99 };
enum { LARGE_SIZE = 100 << 10, HUGE_SIZE = 9 << 20 };

struct plan {
    uint64_t seed;
    uint32_t bank, slot;                /* where the runs of item 0 are counted */
    uint32_t item_size;                 /* of all; 0: they vary; not of a range, whose items are made by the worker */
    uint32_t common_size, is_range, is_array;
    uint64_t result_size;               /* of all but odd ones; 0: they vary */
    uint16_t acts[ACTS], sizes[SIZES];  /* of so many of CHANCES; the others return 8 bytes at once */
};

struct item {
    uint64_t key, size;                 /* of the result */
    uint32_t bank, slot;
    uint32_t common_size, align;
    enum act act;
    int32_t  number;                    /* code, exit status, signal, microseconds */
};

static size_t pick_of(const uint16_t *chances, size_t count, size_t die, size_t other)
{
    for (size_t i = 0; i < count; i++) {
        if (die < chances[i])
            return i;
        die -= chances[i];
    }
    return other;
}

static uint64_t size_of(const struct plan *p, uint64_t key)
{
    uint64_t usual = p->result_size ? p->result_size : 8, more = key >> 50;
    switch (pick_of(p->sizes, SIZES, key >> 30 & (CHANCES - 1), SIZES)) {
    case ODD: return usual + 1 - 2 * (more & 1);
    case EMPTY: return 0;
    case MEDIUM: return 1 + more % 3000;
    case LARGE: return LARGE_SIZE;
    case HUGE: return HUGE_SIZE;
    default: return usual;
    }
}

static int32_t number_of(enum act act, uint64_t key)
{
    static const int32_t codes[] = {1, -7, 42, 1 << 20}, exits[] = {0, 1, 3, 200};
    static const int32_t signals[] = {SIGKILL, SIGSEGV, SIGABRT, SIGTERM, SIGUSR1, SIGPIPE, SIGILL, SIGHUP};
    switch (act) {
    case NAP: return (int32_t)(key >> 40 & 2047);
    case FAIL: return codes[key >> 40 & 3];
    case EXIT: return exits[key >> 40 & 3];
    case SIGNAL: return signals[key >> 40 & 7];
    case FLAKY: return SIGUSR2;
    default: return (int32_t)(key >> 40 & 1);
    }
}

static struct item item_of(const struct plan *p, size_t index)
{
    uint64_t key = mix(p->seed + index);
    struct item item = {.key = key, .size = size_of(p, key), .bank = p->bank, .slot = (uint32_t)((p->slot + index) % SLOTS),
                        .common_size = p->common_size, .align = 16};
    item.act = (enum act)pick_of(p->acts, ACTS, key >> 20 & (CHANCES - 1), RETURN);
    item.number = number_of(item.act, key);
    if (p->is_array)
        item.align = p->item_size & -p->item_size & 63 ? p->item_size & -p->item_size : 64;
    return item;
}

static size_t in_size_of(const struct plan *p, size_t index)
{
    uint64_t r = mix(p->seed ^ index);
    return p->item_size ? p->item_size : sizeof(struct item) + (size_t)(r % 61 ? r >> 10 & 127 : r >> 10 & 0x1ffff);
}

/* The item's bytes: itself, and what follows from its key up to its size, which it returns. */
static size_t put_item(const struct plan *p, size_t index, unsigned char *at)
{
    struct item item = item_of(p, index);
    size_t size = in_size_of(p, index);
    memcpy(at, &item, sizeof item);
    fill(at + sizeof item, size - sizeof item, ~item.key);
    return size;
}

static struct run *run_of(const struct item *item)
{
    return &runs[item->bank][item->slot];
}

static uint64_t common_key(size_t size)
{
    return size * 31;
}

/* ---- In workers */

static const char *check_task(const struct pool_task *task, const struct item *item)
{
    const pid_t *state = task->worker->state;
    if (!state || *state != getpid())
        return "the initializer was not run in this worker";
    if (task->in_size && (uintptr_t)task->in % item->align)
        return "the item is not aligned";
    if (!task->in_size)
        return NULL;
    if (!is_filled((const unsigned char *)task->in + sizeof *item, task->in_size - sizeof *item, ~item->key))
        return "the item's bytes are wrong";
    if (task->common_size != item->common_size)
        return "another size of the context";
    return is_filled(task->common, task->common_size, common_key(task->common_size)) ? NULL : "the context's bytes are wrong";
}

static void die(int signal)
{
    raise(signal);
    _exit(DAMAGED);                     /* not reached */
}

static void loop(int deaf)
{
    sigset_t all;
    sigfillset(&all);
    if (deaf)
        sigprocmask(SIG_BLOCK, &all, NULL);
    for (volatile unsigned spin = 0;; spin++)
        if (deaf)
            pause();
}

static void fork_sleeper(void)
{
    if (fork() == 0)
        for (;;)
            pause();
}

static int return_bytes(struct pool_task *task, const struct item *item)
{
    unsigned char small[512];
    if (item->size <= sizeof small && item->key & 1) {
        fill(small, item->size, item->key);
        atomic_fetch_add(&run_of(item)->ends, 1);
        return pool_return(task, small, item->size);
    }
    void *out = item->size || item->key & 2 ? pool_out(task, item->size) : NULL;
    if (out)
        fill(out, item->size, item->key);
    else if (item->size)
        return pool_fail(task, DAMAGED, "no memory for %zu bytes", (size_t)item->size);
    atomic_fetch_add(&run_of(item)->ends, 1);
    return 0;
}

static int perform(struct pool_task *task)
{
    struct item item;
    if (task->in_size)
        memcpy(&item, task->in, sizeof item);
    else
        item = item_of(task->common, task->index);
    int first = !atomic_fetch_add(&run_of(&item)->starts, 1);
    const char *wrong = check_task(task, &item);
    if (wrong)
        return pool_fail(task, DAMAGED, "%s", wrong);
    switch (item.act) {
    case FAIL:
        return pool_fail(task, item.number, "item %016llx failed", (unsigned long long)item.key);
    case EXIT:
        if (item.key & 1)
            exit(item.number);
        _exit(item.number);
    case SIGNAL:
        die(item.number);
        break;
    case FLAKY:
        if (first)
            die(item.number);
        break;
    case LOOP:
        loop(item.number);
        break;
    case NAP:
        nanosleep(&(struct timespec){.tv_nsec = item.number * 1000L}, NULL);
        break;
    case FORK:
        fork_sleeper();
        break;
    default:
        break;
    }
    return return_bytes(task, &item);
}

static int begin_worker(struct pool_worker *worker)
{
    static pid_t self;
    struct tally *tally = worker->arg;
    self = getpid();
    worker->state = &self;
    atomic_fetch_add(&tally->begun, 1);
    return 0;
}

static void end_worker(struct pool_worker *worker)
{
    struct tally *tally = worker->arg;
    if (worker->state && *(const pid_t *)worker->state == getpid())
        atomic_fetch_add(&tally->ended, 1);
}

/* ---- A request, and what excuses its items */

#define LONG_LIMIT 30.0                 /* seconds: no good item may run into that */

struct request {
    struct plan        plan;
    size_t             count;           /* items; a generator's: until it ends or fails */
    int                is_generator, source_fails;      /* the code it fails with, or 0 */
    struct pool_call   call;
    double             begun;
    int                kills;           /* somebody kills workers of this pool */
    const atomic_int  *cutting;         /* the pool is being ended */
    atomic_int         cancelled;
    char               origin[120];     /* which operation asked for it */
};

static int is_forced(struct request *q)
{
    return atomic_load(&q->cancelled) || atomic_load(q->cutting);
}

static int has_limit(const struct request *q)
{
    return q->call.timeout > 0 && !isinf(q->call.timeout);
}

/* An item that cannot end OK, whatever happens. */
static int must_fail(const struct request *q, const struct item *item)
{
    return item->act == FAIL || item->act == EXIT || item->act == SIGNAL || item->act == LOOP ||
           (item->act == FLAKY && !q->call.retries) || (q->plan.result_size && item->size != q->plan.result_size);
}

/* An item that cannot end otherwise than OK. */
static int must_be_ok(struct request *q, const struct item *item)
{
    return !must_fail(q, item) && !q->kills && !(has_limit(q) && q->call.timeout < LONG_LIMIT) && !is_forced(q) && !q->call.fail_fast;
}

/* ---- One ending */

static void judge_ok(const struct request *q, const struct pool_result *r, const struct item *item)
{
    const struct run *run = run_of(item);
    if (must_fail(q, item))
        violation(q->origin, "item %zu is OK, which it cannot be (it does %d)", r->index, (int)item->act);
    if (r->size != item->size || (r->size && (!r->data || (uintptr_t)r->data % 16)))
        violation(q->origin, "item %zu has %zu bytes at %p, where %zu are right", r->index, r->size, r->data, (size_t)item->size);
    if (!is_filled(r->data, r->size, item->key))
        violation(q->origin, "item %zu (%zu bytes) is wrong", r->index, r->size);
    if (r->code || r->signal || r->message[0] || r->pid <= 0)
        violation(q->origin, "item %zu is OK with code %d, signal %d, pid %d: %s", r->index, r->code, r->signal, (int)r->pid, r->message);
    if (!run->starts || !run->ends)
        violation(q->origin, "item %zu is OK and did not run", r->index);
    if (r->tries < (item->act == FLAKY ? 2u : 1u) || (r->tries > 1 && item->act != FLAKY && !q->kills))
        violation(q->origin, "item %zu is OK after %u tries", r->index, r->tries);
}

static void judge_failed(const struct request *q, const struct pool_result *r, const struct item *item)
{
    char text[100];
    snprintf(text, sizeof text, "item %016llx failed", (unsigned long long)item->key);
    int own = item->act == FAIL && r->code == item->number && !strcmp(r->message, text);
    int returns = item->act == RETURN || item->act == NAP || item->act == FORK || item->act == FLAKY;
    int odd = returns && q->plan.result_size && item->size != q->plan.result_size && r->code == 0 && r->message[0];
    if (!own && !odd)
        violation(q->origin, "item %zu (it does %d) failed with code %d: %s", r->index, (int)item->act, r->code, r->message);
}

static void judge_crashed(struct request *q, const struct pool_result *r, const struct item *item)
{
    int last_try = !q->call.retries || q->kills || q->call.fail_fast || is_forced(q);
    int by_signal = item->act == SIGNAL || (item->act == FLAKY && last_try);
    int own = (by_signal && r->signal == item->number && !r->code) || (item->act == EXIT && !r->signal && r->code == item->number);
    if (!own && !(q->kills && r->signal == SIGKILL))
        violation(q->origin, "item %zu (it does %d, %d) crashed by signal %d, exit status %d, try %u: %s", r->index, (int)item->act,
                  item->number, r->signal, r->code, r->tries, r->message);
    if (r->tries != q->call.retries + 1 && !(r->tries && r->tries <= q->call.retries && (is_forced(q) || q->call.fail_fast)))
        violation(q->origin, "item %zu crashed after %u tries, with %u retries", r->index, r->tries, q->call.retries);
}

static void judge_timed_out(const struct request *q, const struct pool_result *r, const struct item *item)
{
    if (!has_limit(q) || (item->act != LOOP && q->call.timeout >= LONG_LIMIT))
        violation(q->origin, "item %zu (it does %d) timed out, with a limit of %g s", r->index, (int)item->act, q->call.timeout);
    if (now() - q->begun < q->call.timeout - 1e-6)
        violation(q->origin, "item %zu timed out %g s after its call began, with a limit of %g s", r->index, now() - q->begun,
                  q->call.timeout);
}

static void judge_source_failed(const struct request *q, const struct pool_result *r)
{
    if (!q->source_fails || r->index != q->count || r->code != q->source_fails || r->data)
        violation(q->origin, "the source failed at %zu with code %d; it should at %zu with %d", r->index, r->code, q->count,
                  q->source_fails);
}

/* Is this ending one that can have come of the request? */
static void judge_item(struct request *q, const struct pool_result *r)
{
    atomic_fetch_add(&progress, 1);
    if (r->status == POOL_SOURCE_FAILED) {
        judge_source_failed(q, r);
        return;
    }
    if (r->index >= q->count)
        violation(q->origin, "item %zu of %zu", r->index, q->count);
    struct item item = item_of(&q->plan, r->index);
    unsigned starts = run_of(&item)->starts;
    if (r->tries > q->call.retries + 1 || starts > r->tries)
        violation(q->origin, "item %zu (%s): %u tries with %u retries, and it ran %u times", r->index, pool_status_text(r->status),
                  r->tries, q->call.retries, starts);
    if (r->status != POOL_OK && (r->data || r->size))
        violation(q->origin, "item %zu is %s and has data", r->index, pool_status_text(r->status));
    switch (r->status) {
    case POOL_OK: judge_ok(q, r, &item); break;
    case POOL_FAILED: judge_failed(q, r, &item); break;
    case POOL_CRASHED: judge_crashed(q, r, &item); break;
    case POOL_TIMED_OUT: judge_timed_out(q, r, &item); break;
    case POOL_CANCELLED:
        if (!is_forced(q) && !q->call.fail_fast)
            violation(q->origin, "item %zu was cancelled by nobody: %s", r->index, r->message);
        break;
    default:
        violation(q->origin, "item %zu ended %s: %s", r->index, pool_status_text(r->status), r->message);
    }
}

/* ---- The end of a whole call */

/* first: the status of the failed item of lowest index, or OK; cancelled: items that were cut short. */
static void judge_whole(struct request *q, enum pool_status status, enum pool_status first, size_t cancelled)
{
    int forced = is_forced(q);
    if (status == POOL_CANCELLED && forced)
        return;
    if (status != first)
        violation(q->origin, "it ended %s, and its first failure is %s", pool_status_text(status), pool_status_text(first));
    if (cancelled && !first)
        violation(q->origin, "it ended %s with %zu items cancelled", pool_status_text(status), cancelled);
    if (cancelled && !forced && !q->call.fail_fast)
        violation(q->origin, "%zu items were cancelled by nobody", cancelled);
}

static void judge_list(struct request *q, const struct pool_results *list, enum pool_status status)
{
    size_t count = pool_results_count(list), most = q->count + (q->source_fails != 0), cancelled = 0;
    enum pool_status first = POOL_OK;
    for (size_t i = 0; i < count; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        if (r->index != i)
            violation(q->origin, "item %zu is at place %zu of the list", r->index, i);
        judge_item(q, r);
        cancelled += r->status == POOL_CANCELLED;
        if (r->status && r->status != POOL_CANCELLED && !first)
            first = r->status;
    }
    int short_generator = q->is_generator && (is_forced(q) || q->call.fail_fast);
    if (count > most || (count < most && !short_generator))
        violation(q->origin, "the list has %zu of %zu", count, most);
    if (pool_results_at(list, count) || pool_results_status(list) != status)
        violation(q->origin, "the list says %s, its call %s", pool_status_text(pool_results_status(list)), pool_status_text(status));
    judge_whole(q, status, first, cancelled);
}

/* What pool_map says of its failure, with or without an array of results. */
static void judge_failure(struct request *q, enum pool_status status, const struct pool_result *failure)
{
    if ((status == POOL_OK) != (pool_error()[0] == '\0'))
        violation(q->origin, "it ended %s, and pool_error() is '%s'", pool_status_text(status), pool_error());
    if (failure)
        judge_item(q, failure);
    judge_whole(q, status, failure ? failure->status : POOL_OK, 0);
    if (status == POOL_CANCELLED || q->call.fail_fast)
        return;
    for (size_t i = 0; i < (failure ? failure->index : q->count); i++) {
        struct item item = item_of(&q->plan, i);
        if (must_fail(q, &item))
            violation(q->origin, "item %zu cannot have ended OK, and the first failure is told to be %s", i,
                      failure ? "a later one" : "none");
    }
}

static int is_all(const unsigned char *at, size_t size, int byte)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != byte)
            return 0;
    return 1;
}

enum { UNTOUCHED = 0xee };

static int is_untouched(const struct request *q, size_t i, const unsigned char *at, int in_place)
{
    unsigned char before[512];
    if (!in_place)
        return is_all(at, q->plan.result_size, UNTOUCHED);
    put_item(&q->plan, i, before);
    return !memcmp(at, before, q->plan.item_size);
}

/* Each place has the item's result, or is as it was. */
static void judge_out(struct request *q, enum pool_status status, const struct pool_result *failure, const unsigned char *out, int in_place)
{
    for (size_t i = 0; i < q->count; i++) {
        struct item item = item_of(&q->plan, i);
        const unsigned char *at = out + i * q->plan.result_size;
        if (is_filled(at, q->plan.result_size, item.key)) {
            if (must_fail(q, &item) || (failure && failure->index == i) || !run_of(&item)->ends)
                violation(q->origin, "item %zu has a result, and cannot be OK", i);
        } else if (!is_untouched(q, i, at, in_place)) {
            violation(q->origin, "the place of item %zu was written, but not with its result", i);
        } else if (must_be_ok(q, &item)) {
            violation(q->origin, "item %zu has no result, and nothing that excuses it", i);
        } else if (status != POOL_CANCELLED && !q->call.fail_fast && (!failure || i < failure->index)) {
            violation(q->origin, "item %zu has no result, and the first failure is told to be %s", i, failure ? "a later one" : "none");
        }
        unsigned starts = run_of(&item)->starts;
        if (starts > q->call.retries + 1)
            violation(q->origin, "item %zu ran %u times, with %u retries", i, starts, q->call.retries);
    }
}

#endif
