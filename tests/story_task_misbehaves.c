/* Whatever a task does to its process happens to its own item: that one ends as documented, all others end OK, nothing runs twice, and the
 * pool works on.
 *
 * Each deed is done by item BAD of a call, in the middle of well-behaved ones. */
#define _GNU_SOURCE
#include "ledger.h"
#include "pool.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { ITEMS = 24, BAD = 7 };

/* Runs the call and asserts what holds for every deed; what became of the bad item itself is for the test to say. */
static struct end end_of(struct pool *pool, pool_fn *fn)
{
    struct end end = end_of_bad(pool, fn, ITEMS, BAD);

    assert_works(pool);
    return end;
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

/* ---- What it may wait for before the deed */

static pid_t host;

static int sleeps(void *pid)
{
    char name[64], line[512] = "", *end;
    FILE *file;

    snprintf(name, sizeof name, "/proc/%d/stat", (int)*(const pid_t *)pid);
    if (!(file = fopen(name, "r")))
        return 0;
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    end = strrchr(line, ')');
    return end && end[1] == ' ' && end[2] == 'S';
}

/* Until the host has slept for a while: it has nothing to do but to sleep in poll, and has to be woken. */
static void await_sleep_of_host(void)
{
    int times;

    for (times = 0; times < 20; times = sleeps(&host) ? times + 1 : 0)
        nap();
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
    struct rlimit little = {1 << 20, RLIM_INFINITY};
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
        struct pool_options options = {.workers = 1};
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

/* The host has looked when the first item runs, and does not again before the death. */
static int dies_while_the_host_sleeps(struct pool_task *task)
{
    note_start(task);
    if (task->index == 0 || task->index == BAD)
        await_sleep_of_host();
    if (task->index == BAD)
        raise(SIGKILL);
    return answer(task);
}

/* Another write end of the worker's result pipe. */
static int hold_result_pipe(pid_t worker)
{
    char name[64];
    struct stat st;
    int n, fd;

    for (n = 3; n < 1024; n++) {
        snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)worker, n);
        if (stat(name, &st) || !S_ISFIFO(st.st_mode) || lstat(name, &st) || !(st.st_mode & S_IWUSR))
            continue;
        fd = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
    }
    fail_msg("no pipe of worker %d is open for writing", (int)worker);
    return -1;
}

/* Nothing told the host of the first results: too few for a map that sleeps, and no end of the pipe, which others have too. So all
 * that it hears is the death. */
static void what_was_finished_before_a_crash_is_not_run_again(void **state)
{
    enum { MANY = 64 };
    const struct pool_call call = {.chunk = MANY};
    struct pool *pool;
    long out[MANY];
    size_t i;
    int held;

    (void)state;
    host = getpid();
    pool = make_pool(1);
    held = hold_result_pipe(worker_of(pool, 0));
    assert_int_equal(pool_map(pool, dies_while_the_host_sleeps, pool_range(MANY), out, sizeof *out, &call), POOL_CRASHED);
    for (i = 0; i < MANY; i++)
        assert_true(ledger->started[i] <= 1);
    for (i = 0; i < BAD; i++)
        assert_int_equal(out[i], value_of(i));
    assert_int_equal(ledger->started[BAD], 1);
    close(held);
    assert_works(pool);
    pool_destroy(pool);
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

/* ---- It puts something else in the place of its pipes */

static char path[] = "/tmp/forkpool-story-XXXXXX";

/* Puts the file at `path` at the number of each pipe of that access mode. The pipes stay open elsewhere: nobody is told of their end. */
static int put_file_over(int mode)
{
    int fd, file = open(path, O_RDWR | O_CLOEXEC), done = 0;
    struct stat st;

    if (file < 0)
        return 0;
    for (fd = 3; fd < file; fd++)
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == mode &&
            fcntl(fd, F_DUPFD_CLOEXEC, file) >= 0)
            done += dup2(file, fd) == fd;
    atomic_fetch_add(&ledger->births, (unsigned)done);
    return done;
}

TASK(puts_a_file_over_its_result_pipe, put_file_over(O_WRONLY); await_sleep_of_host())
TASK(puts_a_file_over_its_task_pipe, put_file_over(O_RDONLY))
TASK(puts_a_file_over_its_pipes, put_file_over(O_WRONLY); put_file_over(O_RDONLY))

/* Nothing is written to the file. The worker finds out when it wants to use the pipe, and leaves. */
static void a_file_stays_empty(pool_fn *fn, unsigned workers, unsigned pipes)
{
    struct end ends[ITEMS];
    struct pool *pool;
    struct stat st;
    int file = mkstemp(path);
    size_t i;

    assert_true(file >= 0);
    host = getpid();
    pool = make_pool(workers);
    run(pool, fn, ITEMS, ends);
    unlink(path);
    strcpy(strrchr(path, '-'), "-XXXXXX");
    assert_int_equal(atomic_load(&ledger->births), pipes);
    assert_cost_one_at_most(ends, ITEMS);
    for (i = 0; i < ITEMS; i++)
        assert_true(ledger->started[i] <= 1);
    run(pool, good, ITEMS, ends);       /* it may not have been found out before */
    assert_cost_one_at_most(ends, ITEMS);
    assert_works(pool);
    pool_destroy(pool);
    assert_int_equal(fstat(file, &st), 0);
    assert_int_equal(st.st_size, 0);
    close(file);
}

/* One worker: while it waits for the host to sleep, nothing else wakes that. */
static void a_wake_up_is_not_written_to_a_file_in_the_pipes_place(void **state)
{
    (void)state;
    a_file_stays_empty(puts_a_file_over_its_result_pipe, 1, 1);
}

static void a_file_in_the_task_pipes_place_is_not_read(void **state)
{
    (void)state;
    a_file_stays_empty(puts_a_file_over_its_task_pipe, 2, 1);
}

static void nothing_is_written_to_a_file_in_both_pipes_place(void **state)
{
    (void)state;
    a_file_stays_empty(puts_a_file_over_its_pipes, 2, 2);
}

/* ---- It reaches for what is not its own */

enum { SIBLINGS = 3 };

struct places { void *desk[SIBLINGS], *region[SIBLINGS]; };

static int is_mapped(void *place)
{
    return msync(place, 4096, MS_ASYNC) == 0;
}

static int finds_only_its_own_channel(struct pool_task *task)
{
    const struct places *places = task->in;
    unsigned i;

    for (i = 0; i < SIBLINGS; i++) {
        int own = i == task->worker->index;

        if (is_mapped(places->desk[i]) != own || is_mapped(places->region[i]) != own)
            return 1 + (int)i;
    }
    return 0;
}

static void siblings_channels_are_out_of_reach(void **state)
{
    struct pool *pool = make_pool(SIBLINGS);
    struct places places;
    unsigned i;

    (void)state;
    for (i = 0; i < SIBLINGS; i++) {
        const struct channel *channel = &pool->sched.crew.workers[i].books.channel;

        places.desk[i] = channel->desk;
        places.region[i] = channel->tasks.bytes;
    }
    for (i = 0; i < 3 * SIBLINGS; i++)
        assert_int_equal(pool_apply(pool, finds_only_its_own_channel, &places, sizeof places, NULL, 0, NULL), POOL_OK);
    pool_destroy(pool);
}

/* ---- It forks */

/* The child comes back out of the task like its parent, which waits for its end first. */
static int returns_twice(struct pool_task *task)
{
    pid_t child;
    int status;

    note_start(task);
    if (task->index == BAD && (child = fork()) != 0) {
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return 1;
        atomic_fetch_add(&ledger->ends, 1);
    }
    return answer(task);
}

static void a_child_that_comes_back_from_the_task_is_no_worker(void **state)
{
    struct pool *pool = make_pool(1);
    pid_t worker = worker_of(pool, 0);
    struct end end = end_of(pool, returns_twice);

    (void)state;
    assert_int_equal(atomic_load(&ledger->ends), 1);        /* it ended, and before the item did */
    assert_good(&end, BAD);
    assert_int_equal(worker_of(pool, 0), worker);
    pool_destroy(pool);
}

/* The place where the result belongs is shared, and the parent's. Ends 0 where the child was refused, by either way. */
static int child_returns(struct pool_task *task)
{
    long wrong = -1;
    int status;
    pid_t child = fork();

    if (child == 0)
        _exit(!pool_return(task, &wrong, sizeof wrong) || pool_out(task, sizeof wrong));
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return 1;
    return answer(task);
}

static void a_child_of_the_task_has_no_result_to_give(void **state)
{
    struct pool *pool = make_pool(1);
    long value = 0;

    (void)state;
    assert_int_equal(pool_map(pool, child_returns, pool_range(1), &value, sizeof value, NULL), POOL_OK);
    assert_int_equal(value, value_of(0));
    pool_destroy(pool);
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
        STORY(what_was_finished_before_a_crash_is_not_run_again),
        STORY(closing_all_descriptors_costs_one_item_at_most),
        STORY(closing_all_descriptors_for_ever_is_a_crash),
        STORY(exec_is_a_crash),
        STORY(a_wake_up_is_not_written_to_a_file_in_the_pipes_place),
        STORY(a_file_in_the_task_pipes_place_is_not_read),
        STORY(nothing_is_written_to_a_file_in_both_pipes_place),
        STORY(siblings_channels_are_out_of_reach),
        STORY(a_child_that_comes_back_from_the_task_is_no_worker),
        STORY(a_child_of_the_task_has_no_result_to_give),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
