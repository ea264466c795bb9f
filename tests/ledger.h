/* What the workers of a story note for its host, and how a story asks for the end of each item.
 *
 * The ledger is shared memory, mapped before any pool is made, so that a worker's note is there whatever becomes of the worker. Results are
 * taken from an iterator with a deadline: an item that never ends is a failed assertion that names it, not a hang. */
#ifndef LEDGER_H
#define LEDGER_H

#include "check.h"

#include <forkpool.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LEDGER_ITEMS = 256 };
#define PATIENCE 30.0                       /* seconds until something that has to happen is given up */

struct ledger {
    _Atomic unsigned started[LEDGER_ITEMS];             /* how often, for each item */
    _Atomic unsigned births, ends;          /* initializers begun; finalizers run */
    _Atomic unsigned received;              /* results that the host has */
    _Atomic int      open;                  /* a gate where tasks wait */
    _Atomic int      fail;                  /* initializers: be of that kind */
    _Atomic int      pid[8];                /* whoever wants to be known */
};

static struct ledger *ledger;

static inline int ledger_setup(void **state)
{
    void *page;

    check_setup(state);
    page = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    ledger = page;
    return 0;
}

static inline int ledger_teardown(void **state)
{
    munmap(ledger, sizeof *ledger);
    return check_teardown(state);
}

/* Before each test. */
static inline int ledger_clear(void **state)
{
    (void)state;
    memset(ledger, 0, sizeof *ledger);
    return 0;
}

#define STORY(function) cmocka_unit_test_setup(function, ledger_clear)

/* ---- In a worker */

static inline void nap(void)
{
    static const struct timespec moment = {.tv_nsec = 1000000};

    nanosleep(&moment, NULL);
}

static inline void wait_for_gate(void)
{
    while (!atomic_load(&ledger->open))
        nap();
}

static inline void pause_for_ever(void)
{
    for (;;)
        pause();
}

static inline void close_from(int fd)
{
    for (; fd < 1024; fd++)
        close(fd);
}

static inline long value_of(size_t index)
{
    return 3 * (long)index + 1;
}

static inline void note_start(const struct pool_task *task)
{
    atomic_fetch_add(&ledger->started[task->index % LEDGER_ITEMS], 1);
}

static inline int answer(struct pool_task *task)
{
    long value = value_of(task->index);

    return pool_return(task, &value, sizeof value);
}

/* What every well-behaved item does: notes its run and returns its value. */
static inline int good(struct pool_task *task)
{
    note_start(task);
    return answer(task);
}

/* ---- In the host */

struct end {
    unsigned         times;
    enum pool_status status;
    int              code, signal;
    unsigned         tries;
    pid_t            pid;
    size_t           size;
    long             value;                 /* the first bytes of the result */
    char             message[300];
};

/* Seconds that no initializer of ours takes that ends at all. */
static inline double init_timeout(void)
{
    return check_under("") ? 5.0 : 1.0;
}

static inline struct pool *make_pool(unsigned workers)
{
    struct pool_options options = {.workers = workers};
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

/* The next result within PATIENCE, noted; 0 at the end. */
static inline int collect_one(struct pool_iter *iter, struct end *ends, size_t count)
{
    const struct pool_result *r = pool_next_timeout(iter, PATIENCE);
    struct end *end;

    if (!r) {
        if (pool_iter_status(iter) == POOL_PENDING)
            fail_msg("nothing came for %g seconds", PATIENCE);
        return 0;
    }
    assert_true(r->index < count);
    end = &ends[r->index];
    end->times++;
    end->status = r->status;
    end->code = r->code;
    end->signal = r->signal;
    end->tries = r->tries;
    end->pid = r->pid;
    end->size = r->size;
    if (r->data && r->size >= sizeof end->value)
        memcpy(&end->value, r->data, sizeof end->value);
    snprintf(end->message, sizeof end->message, "%s", r->message);
    return 1;
}

/* All that is left; each item has exactly one end then. Frees the iterator. */
static inline void collect(struct pool_iter *iter, struct end *ends, size_t count)
{
    size_t i;

    while (collect_one(iter, ends, count))
        ;
    assert_int_equal(pool_iter_status(iter), POOL_OK);
    pool_iter_free(iter);
    for (i = 0; i < count; i++)
        if (ends[i].times != 1)
            fail_msg("item %zu ended %u times", i, ends[i].times);
}

static inline struct pool_iter *begin(struct pool *pool, pool_fn *fn, size_t count, size_t chunk)
{
    struct pool_call call = {.chunk = chunk};
    struct pool_iter *iter = pool_imap_unordered(pool, fn, pool_range(count), &call);

    if (!iter)
        fail_msg("no iterator: %s", pool_error());
    return iter;
}

static inline void run(struct pool *pool, pool_fn *fn, size_t count, struct end *ends)
{
    memset(ends, 0, count * sizeof *ends);
    collect(begin(pool, fn, count, 0), ends, count);
}

static inline void assert_good(const struct end *end, size_t index)
{
    if (end->status != POOL_OK)
        fail_msg("item %zu is %s: %s", index, pool_status_text(end->status), end->message);
    assert_int_equal(end->size, sizeof end->value);
    assert_int_equal(end->value, value_of(index));
}

static inline void assert_crashed(const struct end *end, int code, int signal)
{
    if (end->status != POOL_CRASHED || end->code != code || end->signal != signal)
        fail_msg("%s, status %d, signal %d: %s", pool_status_text(end->status), end->code, end->signal, end->message);
    assert_true(end->pid > 0);
    assert_int_equal(end->tries, 1);
    assert_true(end->message[0] != '\0');
}

/* The pool is as good as new: every item of another call ends OK. */
static inline void assert_works(struct pool *pool)
{
    enum { COUNT = 32 };
    struct end ends[COUNT];
    size_t i;

    run(pool, good, COUNT, ends);
    for (i = 0; i < COUNT; i++)
        assert_good(&ends[i], i);
}

/* All are good but one at most, which crashed: what a task did to its worker may come to light only when the next item has been claimed. */
static inline void assert_cost_one_at_most(const struct end *ends, size_t count)
{
    size_t i, crashed = 0;

    for (i = 0; i < count; i++)
        if (ends[i].status != POOL_CRASHED || crashed++)
            assert_good(&ends[i], i);
}

/* The end of the bad item of a call whose others have to be good; each started once. */
static inline struct end end_of_bad(struct pool *pool, pool_fn *fn, size_t count, size_t bad)
{
    struct end ends[LEDGER_ITEMS];
    size_t i;

    run(pool, fn, count, ends);
    for (i = 0; i < count; i++) {
        assert_int_equal(ledger->started[i], 1);
        if (i != bad)
            assert_good(&ends[i], i);
    }
    return ends[bad];
}

static inline int has_started(void *index)
{
    return atomic_load(&ledger->started[*(const size_t *)index]) > 0;
}

static inline void await_start(size_t index)
{
    assert_true(check_until(has_started, &index, PATIENCE));
}

static inline int is_dead(void *pid)
{
    return !check_alive(*(const pid_t *)pid);
}

static inline void await_death(pid_t pid)
{
    assert_true(check_until(is_dead, &pid, PATIENCE));
}

static inline pid_t worker_of(struct pool *pool, unsigned index)
{
    pid_t pid = pool_worker_pid(pool, index);

    assert_true(pid > 0);
    return pid;
}

#endif
