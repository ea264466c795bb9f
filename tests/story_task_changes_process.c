/* A task may change what belongs to its process: signals, directory, limits, standard streams. Its item ends OK, and so do the next ones
 * of the same worker, which can still be killed, crash and end in order.
 *
 * One worker throughout, so that what comes next meets what was changed. */
#define _GNU_SOURCE
#include "ledger.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

static struct end only(struct pool *pool, pool_fn *fn)
{
    struct end end;

    run(pool, fn, 1, &end);
    return end;
}

static void assert_same_worker_goes_on(pool_fn *change)
{
    struct pool *pool = make_pool(1);
    pid_t pid = worker_of(pool, 0);
    struct end end = only(pool, change);

    assert_good(&end, 0);
    assert_works(pool);
    assert_int_equal(worker_of(pool, 0), pid);
    pool_destroy(pool);
}

/* ---- Signals */

static int finds_signals_open(struct pool_task *task)
{
    struct sigaction action;
    sigset_t blocked;
    int sig;

    if (sigprocmask(SIG_BLOCK, NULL, &blocked) || sigaction(SIGUSR2, NULL, &action) || action.sa_handler != SIG_DFL)
        return 1;
    for (sig = 1; sig < 32; sig++)
        if (sigismember(&blocked, sig))
            return 100 + sig;
    return good(task);
}

static void a_task_has_all_signals_whatever_its_host_did(void **state)
{
    void (*before)(int) = signal(SIGUSR2, SIG_IGN);
    sigset_t some, mask;

    (void)state;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    assert_int_equal(sigprocmask(SIG_BLOCK, &some, &mask), 0);
    assert_same_worker_goes_on(finds_signals_open);
    assert_int_equal(sigprocmask(SIG_SETMASK, &mask, NULL), 0);
    signal(SIGUSR2, before);
}

static int goes_deaf(struct pool_task *task)
{
    sigset_t all;
    int sig;

    for (sig = 1; sig <= SIGRTMAX; sig++)
        signal(sig, SIG_IGN);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return good(task);
}

/* Where libc reads it, and where per-CPU caches of allocators do. */
static int knows_its_cpu(struct pool_task *task)
{
    cpu_set_t all, one;

    if (sched_getaffinity(0, sizeof all, &all))
        return 1;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one))
            return 2;
        if (sched_getcpu() != (int)cpu)
            return 3;
    }
    if (sched_setaffinity(0, sizeof all, &all))
        return 4;
    return good(task);
}

static void a_task_knows_its_cpu_wherever_it_moves(void **state)
{
    (void)state;
    assert_same_worker_goes_on(knows_its_cpu);
}

static int pauses(struct pool_task *task)
{
    note_start(task);
    pause_for_ever();
    return 0;
}

static int aborts(struct pool_task *task)
{
    (void)task;
    abort();
}

static void a_deaf_worker_works_on(void **state)
{
    (void)state;
    assert_same_worker_goes_on(goes_deaf);
}

static void a_deaf_worker_can_be_killed(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_iter *iter;
    struct end end = only(pool, goes_deaf);
    pid_t pid = end.pid;

    (void)state;
    ledger_clear(NULL);
    iter = begin(pool, pauses, 1, 0);
    await_start(0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    memset(&end, 0, sizeof end);
    collect(iter, &end, 1);
    assert_crashed(&end, 0, SIGKILL);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_deaf_worker_can_crash(void **state)
{
    struct pool *pool = make_pool(1);
    struct end end = only(pool, goes_deaf);

    (void)state;
    end = only(pool, aborts);
    assert_crashed(&end, 0, SIGABRT);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_deaf_worker_is_cancelled(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_iter *iter;
    struct end end = only(pool, goes_deaf);

    (void)state;
    ledger_clear(NULL);
    iter = begin(pool, pauses, 1, 0);
    await_start(0);
    pool_iter_cancel(iter);
    memset(&end, 0, sizeof end);
    while (collect_one(iter, &end, 1))
        ;
    assert_int_equal(end.times, 1);
    assert_int_equal(end.status, POOL_CANCELLED);
    assert_int_equal(pool_iter_status(iter), POOL_CANCELLED);
    pool_iter_free(iter);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_deaf_worker_does_not_outlive_its_pool(void **state)
{
    struct pool *pool = make_pool(1);
    struct end end = only(pool, goes_deaf);
    struct pool_iter *iter;

    (void)state;
    ledger_clear(NULL);
    iter = begin(pool, pauses, 1, 0);
    await_start(0);
    pool_destroy(pool);
    assert_false(check_alive(end.pid));
    pool_iter_free(iter);
}

/* ---- Directory and limits */

static int goes_to_the_root(struct pool_task *task)
{
    if (chdir("/"))
        return 1;
    return good(task);
}

static void chdir_stays_in_the_worker(void **state)
{
    char before[4096], after[4096];

    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    assert_same_worker_goes_on(goes_to_the_root);
    assert_non_null(getcwd(after, sizeof after));
    assert_string_equal(before, after);
}

#define LIMITER(name, resource)                    \
    static int name(struct pool_task *task)        \
    {                                              \
        const struct rlimit nothing = {0, 0};    \
                                                   \
        if (setrlimit(resource, &nothing))         \
            return 1;                              \
        return good(task);                         \
    }

LIMITER(limits_descriptors, RLIMIT_NOFILE)
LIMITER(limits_file_size, RLIMIT_FSIZE)
LIMITER(limits_processes, RLIMIT_NPROC)
LIMITER(limits_data, RLIMIT_DATA)

static void no_descriptors_allowed(void **state)
{
    (void)state;
    assert_same_worker_goes_on(limits_descriptors);
}

static void no_file_size_allowed(void **state)
{
    (void)state;
    assert_same_worker_goes_on(limits_file_size);
}

static void no_processes_allowed(void **state)
{
    (void)state;
    assert_same_worker_goes_on(limits_processes);
}

static void no_memory_allowed(void **state)
{
    (void)state;
    assert_same_worker_goes_on(limits_data);
}

static void a_limited_worker_is_replaced_by_an_unlimited_one(void **state)
{
    struct pool *pool = make_pool(1);
    struct end end = only(pool, limits_descriptors);
    pid_t pid = end.pid;

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    await_death(pid);
    assert_works(pool);
    pool_destroy(pool);
}

/* ---- Standard streams */

static int reads_stdin(struct pool_task *task)
{
    char byte;

    if (read(STDIN_FILENO, &byte, 1) != 0)
        return 1;
    return good(task);
}

/* Though there is something to be read at the host's, which stays there. */
static void stdin_is_at_its_end(void **state)
{
    int ends[2], in = dup(STDIN_FILENO);
    char byte = 0;

    (void)state;
    assert_true(in >= 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    assert_same_worker_goes_on(reads_stdin);
    assert_int_equal(read(STDIN_FILENO, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(dup2(in, STDIN_FILENO), STDIN_FILENO);
    close(in);
    close(ends[0]);
    close(ends[1]);
}

static int prints(struct pool_task *task)
{
    printf("<%zu>", task->index);
    return good(task);
}

static int prints_and_exits(struct pool_task *task)
{
    printf("<%zu>", task->index);
    if (task->index == 1)
        exit(0);
    return good(task);
}

/* What the call writes to stdout, while the host itself has something in its buffer. */
static void printed(pool_fn *fn, char *text, size_t size)
{
    FILE *file = tmpfile();
    struct end ends[3];
    struct pool *pool;
    ssize_t n;
    int out;

    assert_non_null(file);
    fflush(stdout);
    out = dup(STDOUT_FILENO);
    assert_true(out >= 0);
    dup2(fileno(file), STDOUT_FILENO);
    printf("host ");
    pool = make_pool(1);
    run(pool, fn, 3, ends);
    pool_destroy(pool);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    n = pread(fileno(file), text, size - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    fclose(file);
}

static void an_unfinished_line_appears_once(void **state)
{
    char text[200];

    (void)state;
    printed(prints, text, sizeof text);
    assert_string_equal(text, "host <0><1><2>");
}

static void an_unfinished_line_appears_once_at_exit(void **state)
{
    char text[200];

    (void)state;
    printed(prints_and_exits, text, sizeof text);
    assert_string_equal(text, "host <0><1><2>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_task_has_all_signals_whatever_its_host_did),
        STORY(a_deaf_worker_works_on),
        STORY(a_deaf_worker_can_be_killed),
        STORY(a_deaf_worker_can_crash),
        STORY(a_deaf_worker_is_cancelled),
        STORY(a_deaf_worker_does_not_outlive_its_pool),
        STORY(a_task_knows_its_cpu_wherever_it_moves),
        STORY(chdir_stays_in_the_worker),
        STORY(no_descriptors_allowed),
        STORY(no_file_size_allowed),
        STORY(no_processes_allowed),
        STORY(no_memory_allowed),
        STORY(a_limited_worker_is_replaced_by_an_unlimited_one),
        STORY(stdin_is_at_its_end),
        STORY(an_unfinished_line_appears_once),
        STORY(an_unfinished_line_appears_once_at_exit),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
