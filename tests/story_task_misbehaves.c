/* Whatever a task does to its process happens to its own item: that one ends as documented, all others end OK, nothing runs twice, and the
 * pool works on.
 *
 * Each deed is done by item BAD of a call, in the middle of well-behaved ones. */
#define _GNU_SOURCE
#include "ledger.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { ITEMS = 24, BAD = 7 };

/* Runs the call and asserts what holds for every deed; what became of the bad item itself is for the test to say. */
static struct end end_of(struct pool *pool, pool_fn *fn)
{
    struct end ends[ITEMS];
    size_t i;

    run(pool, fn, ITEMS, ends);
    for (i = 0; i < ITEMS; i++) {
        assert_int_equal(ledger->started[i], 1);
        if (i != BAD)
            assert_good(&ends[i], i);
    }
    assert_works(pool);
    return ends[BAD];
}

static void crashes(pool_fn *fn, int code, int signal)
{
    struct pool *pool = make_pool(2);
    struct end end = end_of(pool, fn);

    assert_crashed(&end, code, signal);
    pool_destroy(pool);
}

/* Defines a task function whose item BAD does `deed` and then what every item does. */
#define TASK(name, deed)                    \
    static int name(struct pool_task *task) \
    {                                       \
        note_start(task);                   \
        if (task->index == BAD) {           \
            deed;                           \
        }                                   \
        return answer(task);                \
    }

/* ---- It ends its process */

TASK(calls_exit, exit(7))
TASK(calls__exit, _exit(8))
TASK(calls_exit_0, exit(0))
TASK(calls_abort, abort())
TASK(raises_sigsegv, raise(SIGSEGV))
TASK(raises_sigkill, raise(SIGKILL))

static int *volatile nowhere;

#if defined(__GNUC__)
__attribute__((no_sanitize("undefined", "address")))
#endif
static void store_nowhere(void)
{
    *(volatile int *)nowhere = 1;
}

TASK(stores_at_null, store_nowhere())

static volatile int deep_enough;

static int descend(volatile char *above)
{
    volatile char room[4096];

    room[0] = above[0];
    if (deep_enough)
        return 0;
    return descend(room) + room[0];
}

static int overflow_stack(void)
{
    struct rlimit little = { 1 << 20, RLIM_INFINITY };
    volatile char top = 0;

    getrlimit(RLIMIT_STACK, &little);
    little.rlim_cur = 1 << 20;          /* it may have been without limit */
    setrlimit(RLIMIT_STACK, &little);
    return descend(&top);
}

TASK(overflows_its_stack, overflow_stack())

static void exit_tells_its_status(void **state)
{
    (void)state;
#ifdef __GLIBC__
    crashes(calls_exit, 7, 0);
#else
    crashes(calls_exit, 1, 0);          /* the status does not reach exit handlers there */
#endif
}

static void exit_0_is_a_crash_too(void **state)
{
    (void)state;
#ifdef __GLIBC__
    crashes(calls_exit_0, 0, 0);
#else
    crashes(calls_exit_0, 1, 0);
#endif
}

static void _exit_tells_its_status(void **state)
{
    (void)state;
    crashes(calls__exit, 8, 0);
}

static void abort_is_sigabrt(void **state)
{
    (void)state;
    crashes(calls_abort, 0, SIGABRT);
}

static void a_raised_signal_is_told(void **state)
{
    (void)state;
    crashes(raises_sigsegv, 0, SIGSEGV);
}

static void sigkill_on_itself(void **state)
{
    (void)state;
    crashes(raises_sigkill, 0, SIGKILL);
}

static void a_null_store_is_sigsegv(void **state)
{
    (void)state;
    crashes(stores_at_null, 0, SIGSEGV);
}

static void a_stack_overflow_is_sigsegv(void **state)
{
    (void)state;
    crashes(overflows_its_stack, 0, SIGSEGV);
}


static void at_host_exit(void)
{
    atomic_store(&ledger->open, 1);
}

/* The handler is registered in a child, so that the test runner's own exit is not watched. */
static void exit_does_not_run_the_hosts_handlers(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        struct pool_options options = { .workers = 1 };
        struct pool *pool;

        atexit(at_host_exit);
        pool = pool_create(&options);
        pool_map(pool, calls_exit, pool_range(ITEMS), NULL, 0, NULL);
        pool_destroy(pool);
        _exit(pool == NULL);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&ledger->open), 0);
}

/* ---- It becomes unreachable */

TASK(closes_all, close_from(0))
TASK(closes_all_and_pauses, close_from(0); pause_for_ever())
TASK(execs, execl("/bin/sleep", "sleep", "1000", (char *)NULL))

static void costs_one_item_at_most(pool_fn *fn)
{
    struct pool *pool = make_pool(2);
    struct end ends[ITEMS];
    size_t i;

    run(pool, fn, ITEMS, ends);
    assert_cost_one_at_most(ends, ITEMS);
    for (i = 0; i < ITEMS; i++)
        assert_true(ledger->started[i] <= 1);
    run(pool, good, ITEMS, ends);       /* it may not have been found out before */
    assert_cost_one_at_most(ends, ITEMS);
    assert_works(pool);
    pool_destroy(pool);
}

static void closing_all_descriptors_costs_one_item_at_most(void **state)
{
    (void)state;
    costs_one_item_at_most(closes_all);
}

static void closing_all_descriptors_for_ever_is_a_crash(void **state)
{
    (void)state;
    crashes(closes_all_and_pauses, 0, SIGKILL);
}

static void exec_is_a_crash(void **state)
{
    (void)state;
    crashes(execs, 0, SIGKILL);
}

/* Puts a file in the place of its result pipe, which is whatever pipe it can write to. */
static int put_file_over_pipes(void)
{
    int fd, file = atomic_load(&ledger->pid[0]);
    struct stat st;

    for (fd = 3; fd < 1024; fd++)
        if (fd != file && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
            dup2(file, fd);
    return 0;
}

TASK(opens_a_file_over_its_pipes, put_file_over_pipes())

static void nothing_is_written_to_a_file_in_the_pipes_place(void **state)
{
    FILE *file = tmpfile();
    struct stat st;

    (void)state;
    assert_non_null(file);
    atomic_store(&ledger->pid[0], fileno(file));
    costs_one_item_at_most(opens_a_file_over_its_pipes);
    assert_int_equal(fstat(fileno(file), &st), 0);
    assert_int_equal(st.st_size, 0);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(exit_tells_its_status),
        STORY(exit_0_is_a_crash_too),
        STORY(_exit_tells_its_status),
        STORY(abort_is_sigabrt),
        STORY(a_raised_signal_is_told),
        STORY(sigkill_on_itself),
        STORY(a_null_store_is_sigsegv),
        STORY(a_stack_overflow_is_sigsegv),
        STORY(exit_does_not_run_the_hosts_handlers),
        STORY(closing_all_descriptors_costs_one_item_at_most),
        STORY(closing_all_descriptors_for_ever_is_a_crash),
        STORY(exec_is_a_crash),
        STORY(nothing_is_written_to_a_file_in_the_pipes_place),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
