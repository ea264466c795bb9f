/* Processes, each test twice: with pidfds, and as on a kernel without them.
 *
 * process.c is part of this program, so that a test can take its pidfds away or make them fail. */
#define _GNU_SOURCE
#include "child.h"

#include <fcntl.h>
#include <poll.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

static int no_pidfds, refused;          /* refused: the errno of the next attempt to open one */

int chosen_pidfd(pid_t pid, int *fd);

#define pidfd_open_pid chosen_pidfd
#include "process.c" /* NOLINT(bugprone-suspicious-include) */
#undef pidfd_open_pid
int pidfd_open_pid(pid_t pid, int *fd);

int chosen_pidfd(pid_t pid, int *fd)
{
    int error = refused;

    *fd = -1;
    refused = 0;
    return error || no_pidfds ? error : pidfd_open_pid(pid, fd);
}

static int with_pidfds(void **state)
{
    no_pidfds = 0;
    return check_setup(state);
}

static int without_pidfds(void **state)
{
    no_pidfds = 1;
    return check_setup(state);
}

/* ---- What they run */

static int answer(void *arg)
{
    return *(const int *)arg;
}

static int wait_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        pause();
    return 0;
}

static int call_exit(void *arg)
{
    exit(*(const int *)arg);
}

static struct pool_process *started(int (*run)(void *), void *arg)
{
    struct pool_process *p = pool_process_start(run, arg);

    if (!p)
        fail_msg("not started: %s", pool_error());
    return p;
}

static void assert_ends(struct pool_process *p, int code)
{
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), code);
    assert_false(pool_process_alive(p));
    pool_process_free(p);
}

static int readable(int fd)
{
    struct pollfd watch = {.fd = fd, .events = POLLIN};
    return poll(&watch, 1, 0) == 1;
}

/* ---- How it ended */

static void what_it_returns_is_its_exit_code(void **state)
{
    int codes[] = {0, 1, 7, 255, 256 + 3};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_ends(started(answer, &codes[i]), codes[i] & 255);
}

static void a_signal_is_a_negative_code(void **state)
{
    (void)state;
    struct pool_process *p = started(wait_for_ever, NULL);
    pool_process_kill(p);
    assert_ends(p, -SIGKILL);
    p = started(wait_for_ever, NULL);
    pool_process_terminate(p);
    assert_ends(p, -SIGTERM);
}

static void until_then_it_is_alive(void **state)
{
    (void)state;
    struct pool_process *p = started(wait_for_ever, NULL);
    assert_true(pool_process_alive(p));
    assert_int_equal(pool_process_exitcode(p), POOL_ALIVE);
    assert_true(check_alive(pool_process_pid(p)));
    assert_false(readable(pool_process_fd(p)));
    assert_int_equal(pool_process_join(p, 0), POOL_PENDING);
    assert_string_equal(pool_error(), "");
    pool_process_kill(p);
    assert_int_equal(pool_process_join(p, -1), POOL_OK);
    assert_true(readable(pool_process_fd(p)));
    assert_ends(p, -SIGKILL);
}

static void several_at_a_time_are_told_apart(void **state)
{
    int codes[] = {11, 12, 13};
    struct pool_process *p[3];

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++)
            p[i] = started(answer, &codes[i]);
        assert_ends(p[round], codes[round]);
        p[round] = started(answer, &codes[round]);
        for (int i = 0; i < 3; i++)
            assert_ends(p[i], codes[i]);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void a_time_limit_is_not_early(void **state)
{
    (void)state;
    struct pool_process *p = started(wait_for_ever, NULL);
    double begun = now();
    assert_int_equal(pool_process_join(p, 0.05), POOL_PENDING);
    assert_true(now() - begun >= 0.05);
    pool_process_kill(p);
    assert_ends(p, -SIGKILL);
}

static void its_descriptor_wakes_a_poll(void **state)
{
    int code = 3;

    (void)state;
    struct pool_process *p = started(answer, &code);
    struct pollfd watch = {.fd = pool_process_fd(p), .events = POLLIN};
    assert_int_equal(poll(&watch, 1, (int)(PATIENCE * 1000)), 1);
    assert_ends(p, code);
}

/* ---- Whose status it is */

static void a_host_that_reaps_itself_is_told_so(void **state)
{
    int code = 3;

    (void)state;
    struct pool_process *p = started(answer, &code);
    assert_int_equal(waitpid(pool_process_pid(p), NULL, 0), pool_process_pid(p));
    assert_int_equal(pool_process_join(p, -1), POOL_OK);
    pool_process_kill(p);               /* nobody is hit */
    assert_ends(p, POOL_REAPED);
}

static void where_children_are_ignored_nothing_hangs(void **state)
{
    int code = 3;

    (void)state;
    void (*before)(int) = signal(SIGCHLD, SIG_IGN);
    struct pool_process *p = started(answer, &code);
    assert_int_equal(pool_process_join(p, -1), POOL_OK);
    assert_ends(p, POOL_REAPED);
    signal(SIGCHLD, before);
}

static void no_other_child_is_waited_for(void **state)
{
    int code = 3, status;

    (void)state;
    pid_t own = fork();
    if (own == 0)
        _exit(42);
    assert_ends(started(answer, &code), code);
    assert_int_equal(waitpid(own, &status, 0), own);
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void freed_it_runs_on(void **state)
{
    int status;

    (void)state;
    struct pool_process *p = started(wait_for_ever, NULL);
    pid_t pid = pool_process_pid(p);
    pool_process_free(p);
    assert_true(check_alive(pid));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static int is_zombie(void *pid)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)*(pid_t *)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

static void freed_after_its_end_it_is_reaped(void **state)
{
    int code = 0;

    (void)state;
    struct pool_process *p = started(answer, &code);
    pid_t pid = pool_process_pid(p);
    assert_true(check_until(is_zombie, &pid, PATIENCE));
    pool_process_free(p);
    assert_int_equal(kill(pid, 0), -1);
}

/* ---- What the child begins with, and how it leaves */

static atomic_int *shared;              /* by host and children */

static void note_handler(int signal)
{
    (void)signal;
    atomic_fetch_add(shared, 1000);
}

static int look_at_signals(void *arg)
{
    struct sigaction action;
    sigset_t mask;
    int wrong = 0;

    (void)arg;
    for (int i = 1; i < NSIG; i++)
        wrong += sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int i = 1; i < NSIG; i++)
        wrong += sigismember(&mask, i) == 1;
    return wrong;
}

static void signals_are_as_in_a_new_program(void **state)
{
    sigset_t some;

    (void)state;
    void (*one)(int) = signal(SIGUSR1, note_handler), (*two)(int) = signal(SIGPIPE, SIG_IGN);
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, NULL);
    struct pool_process *p = started(look_at_signals, NULL);
    sigprocmask(SIG_UNBLOCK, &some, NULL);
    signal(SIGUSR1, one);
    signal(SIGPIPE, two);
    assert_ends(p, 0);
}

static void note_exit(void)
{
    atomic_fetch_add(shared, 1);
}

static int code_of_exit = 5;

static void exit_handlers_there(void)
{
    int code = 4;

    atexit(note_exit);
    struct pool_process *p = pool_process_start(answer, &code), *q = pool_process_start(call_exit, &code_of_exit);
    WANT(pool_process_join(p, PATIENCE) == POOL_OK && pool_process_exitcode(p) == code);
    WANT(pool_process_join(q, PATIENCE) == POOL_OK);
#ifdef __GLIBC__
    WANT(pool_process_exitcode(q) == code_of_exit);
#endif
    WANT(atomic_load(shared) == 0);
    pool_process_free(p);
    pool_process_free(q);
}

static void the_hosts_exit_handlers_do_not_run(void **state)
{
    (void)state;
    atomic_store(shared, 0);
    in_child(exit_handlers_there);
}

static int print(void *arg)
{
    (void)arg;
    printf("child;");
    fprintf(stderr, "error;");          /* has no buffer */
    return 0;
}

static char path[64];

/* stdout is a file there, with something in its buffer. */
static void stdio_there(void)
{
    WANT(freopen(path, "w", stdout) && dup2(1, 2) == 2);
    printf("host;");
    struct pool_process *p = pool_process_start(print, NULL);
    WANT(p && pool_process_join(p, PATIENCE) == POOL_OK);
    pool_process_free(p);
    printf("end;");
    fflush(stdout);
}

static void output_is_neither_lost_nor_doubled(void **state)
{
    char text[100] = "";

    (void)state;
    snprintf(path, sizeof path, "/tmp/test_process.%ld", (long)getpid());
    in_child(stdio_there);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    unlink(path);
    assert_string_equal(text, "host;error;child;end;");
}

static int square(struct pool_task *task)
{
    int x = (int)task->index, y = x * x;
    return pool_return(task, &y, sizeof y);
}

static int use_the_library(void *pool)
{
    int out[10], code = 9;
    struct pool_bytes item;

    WANT(pool_map(pool, square, pool_range(10), out, sizeof *out, NULL) == POOL_INVALID);
    struct pool *own = pool_create(&(struct pool_options){.workers = 2});
    WANT(own && pool_map(own, square, pool_range(10), out, sizeof *out, NULL) == POOL_OK && out[9] == 81);
    pool_destroy(own);
    struct pool_queue *q = pool_queue_create(0);
    WANT(q && pool_queue_put(q, "x", 1, 0) == POOL_OK && pool_queue_get(q, &item, 0) == POOL_OK);
    pool_queue_free(q);
    struct pool_process *p = pool_process_start(answer, &code);
    WANT(p && pool_process_join(p, PATIENCE) == POOL_OK && pool_process_exitcode(p) == code);
    pool_process_free(p);
    return 0;
}

static void it_may_use_the_library_and_the_hosts_pool_is_unharmed(void **state)
{
    int out[100];

    (void)state;
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    assert_ends(started(use_the_library, pool), 0);
    assert_int_equal(pool_map(pool, square, pool_range(100), out, sizeof *out, NULL), POOL_OK);
    assert_int_equal(out[99], 99 * 99);
    pool_destroy(pool);
}

/* ---- Threads */

enum { THREADS = 6 };

static void *join_it(void *process)
{
    return (void *)(intptr_t)(pool_process_join(process, PATIENCE) == POOL_OK && pool_process_exitcode(process) == -SIGKILL);
}

static void *kill_it(void *process)
{
    for (int i = 0; i < 50; i++)
        pool_process_kill(process);
    return (void *)1;
}

static void several_threads_join_and_kill_one(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        pthread_t threads[THREADS];
        void *well;
        struct pool_process *p = started(wait_for_ever, NULL);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, i % 2 ? kill_it : join_it, p), 0);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], &well);
            assert_non_null(well);
        }
        assert_ends(p, -SIGKILL);
    }
}

static void *start_and_join(void *code)
{
    intptr_t well = 1;

    for (int i = 0; i < 20 && well; i++) {
        struct pool_process *p = pool_process_start(answer, code);
        well = p && pool_process_join(p, PATIENCE) == POOL_OK && pool_process_exitcode(p) == *(int *)code;
        pool_process_free(p);
    }
    return (void *)well;
}

static void several_threads_start_their_own(void **state)
{
    pthread_t threads[THREADS];
    int codes[THREADS];
    void *well;

    (void)state;
    if (check_under("thread") || check_under("valgrind"))
        skip();                         /* locks of the one are held at such forks; the other loses siblings' handles in a child */
    for (int i = 0; i < THREADS; i++) {
        codes[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, start_and_join, &codes[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &well);
        assert_non_null(well);
    }
}

/* ---- Refused */

static struct pool_process *inherited;

static void inherited_there(void)
{
    WANT(pool_process_join(inherited, -1) == POOL_INVALID && strstr(pool_error(), "fork"));
    pool_process_kill(inherited);
    WANT(strstr(pool_error(), "fork") != NULL);
    WANT(pool_process_alive(inherited));
    WANT(pool_process_exitcode(inherited) == POOL_ALIVE);
    int code = 6;
    struct pool_process *own = pool_process_start(answer, &code);
    WANT(own && own != inherited && pool_process_join(own, PATIENCE) == POOL_OK && pool_process_exitcode(own) == code);
    pool_process_free(own);
    pool_process_free(inherited);
}

static void a_fork_of_the_parent_is_no_parent(void **state)
{
    (void)state;
    inherited = started(wait_for_ever, NULL);
    in_child(inherited_there);
    assert_true(pool_process_alive(inherited));
    pool_process_kill(inherited);
    assert_ends(inherited, -SIGKILL);
}

static void bad_input_is_refused_in_words(void **state)
{
    int code = 0;

    (void)state;
    errno = 0;
    assert_null(pool_process_start(NULL, NULL));
    assert_int_equal(errno, EINVAL);
    check_says("NULL");
    assert_int_equal(pool_process_join(NULL, -1), POOL_INVALID);
    check_says("NULL");
    assert_int_equal(pool_process_pid(NULL), 0);
    assert_false(pool_process_alive(NULL));
    assert_int_equal(pool_process_exitcode(NULL), POOL_REAPED);
    errno = 0;
    assert_int_equal(pool_process_fd(NULL), -1);
    assert_int_equal(errno, EINVAL);
    pool_process_kill(NULL);
    pool_process_terminate(NULL);
    pool_process_free(NULL);
    struct pool_process *p = started(answer, &code);
    assert_int_equal(pool_process_join(p, (double)NAN), POOL_INVALID);
    check_says("not a number");
    assert_ends(p, 0);
}

static void not_permitted_there(void)
{
    struct pool_process *p = pool_process_start(wait_for_ever, NULL);

    WANT(p && setresuid(65534, 65534, 0) == 0);
    pool_process_kill(p);
    WANT(strstr(pool_error(), "could not be sent") != NULL);
    WANT(pool_process_alive(p));
    WANT(setresuid(0, 0, 0) == 0);
    pool_process_kill(p);
    WANT(!*pool_error());
    WANT(pool_process_join(p, PATIENCE) == POOL_OK && pool_process_exitcode(p) == -SIGKILL);
    pool_process_free(p);
}

/* It must be root that becomes another user for a while. */
static void a_signal_that_is_not_permitted_is_told(void **state)
{
    (void)state;
    if (getuid() != 0)
        skip();
    in_child(not_permitted_there);
}

static int note_start(void *arg)
{
    (void)arg;
    atomic_fetch_add(shared, 1);
    return 0;
}

static void no_descriptors_there(void)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};

    setrlimit(RLIMIT_NOFILE, &limit);
    errno = 0;
    WANT(!pool_process_start(note_start, NULL) && errno == EMFILE && *pool_error());
}

static void where_it_fails_nothing_was_started(void **state)
{
    int errors[] = {EMFILE, ENFILE, ENOMEM};

    (void)state;
    atomic_store(shared, 0);
    if (!check_under("valgrind"))       /* has descriptors of its own */
        in_child(no_descriptors_there);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        refused = errors[i];
        errno = 0;
        assert_null(pool_process_start(note_start, NULL));
        assert_int_equal(errno, errors[i]);
        check_says("cannot start");
    }
    assert_int_equal(atomic_load(shared), 0);
}

/* A child that was killed, and reaped by a handler of the host's, before it could be opened. */
static void one_that_is_gone_already_has_ended(void **state)
{
    (void)state;
    refused = ESRCH;
    struct pool_process *p = started(note_start, NULL);
    pid_t pid = pool_process_pid(p);
    assert_int_equal(pool_process_join(p, -1), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), POOL_REAPED);
    pool_process_free(p);
    assert_int_equal(waitpid(pid, NULL, 0), pid);       /* in truth it was there */
}

#define TESTS \
    cmocka_unit_test(what_it_returns_is_its_exit_code), \
        cmocka_unit_test(a_signal_is_a_negative_code), \
        cmocka_unit_test(until_then_it_is_alive), \
        cmocka_unit_test(several_at_a_time_are_told_apart), \
        cmocka_unit_test(a_time_limit_is_not_early), \
        cmocka_unit_test(its_descriptor_wakes_a_poll), \
        cmocka_unit_test(a_host_that_reaps_itself_is_told_so), \
        cmocka_unit_test(where_children_are_ignored_nothing_hangs), \
        cmocka_unit_test(no_other_child_is_waited_for), \
        cmocka_unit_test(freed_it_runs_on), \
        cmocka_unit_test(freed_after_its_end_it_is_reaped), \
        cmocka_unit_test(signals_are_as_in_a_new_program), \
        cmocka_unit_test(the_hosts_exit_handlers_do_not_run), \
        cmocka_unit_test(output_is_neither_lost_nor_doubled), \
        cmocka_unit_test(it_may_use_the_library_and_the_hosts_pool_is_unharmed), \
        cmocka_unit_test(several_threads_join_and_kill_one), \
        cmocka_unit_test(several_threads_start_their_own), \
        cmocka_unit_test(a_fork_of_the_parent_is_no_parent), \
        cmocka_unit_test(bad_input_is_refused_in_words), \
        cmocka_unit_test(a_signal_that_is_not_permitted_is_told), \
        cmocka_unit_test(where_it_fails_nothing_was_started), \
        cmocka_unit_test(one_that_is_gone_already_has_ended)

int main(void)
{
    const struct CMUnitTest tests[] = {TESTS};
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = cmocka_run_group_tests_name("with pidfds", tests, with_pidfds, check_teardown);
    return failed + cmocka_run_group_tests_name("without pidfds", tests, without_pidfds, check_teardown);
}
