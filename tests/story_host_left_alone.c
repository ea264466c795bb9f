/* The host program is left alone: its children, signals, descriptors, threads and stdio are what they were, and what it does with
 * them does not disturb the pool.
 *
 * Where a test changes what the whole process has, the host is a forked child; it says on stderr what was not so, and leaves by _exit. */
#define _GNU_SOURCE
#include "child.h"
#include "clock.h"
#include "forkpool.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 200, LARGE = 100000 };

/* ---- Work */

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    return pool_return(task, &y, sizeof y);
}

static int die(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int echo(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

static void map_well(struct pool *pool)
{
    int in[N], out[N], i;

    for (i = 0; i < N; i++)
        in[i] = i;
    WANT(pool_map(pool, square, pool_array(in, N, sizeof *in), out, sizeof *out, NULL) == POOL_OK);
    for (i = 0; i < N; i++)
        WANT(out[i] == i * i);
}

static void imap_well(struct pool *pool)
{
    const struct pool_result *r;
    struct pool_iter *it;
    int in[N], i;

    for (i = 0; i < N; i++)
        in[i] = i;
    it = pool_imap(pool, square, pool_array(in, N, sizeof *in), &(struct pool_call){.window = 7});
    WANT(it != NULL);
    for (i = 0; (r = pool_next(it)); i++)
        WANT(r->status == POOL_OK && *(const int *)r->data == i * i);
    WANT(i == N);
    pool_iter_free(it);
}

static void replace_well(struct pool *pool)
{
    WANT(pool_apply(pool, die, NULL, 0, NULL, 0, NULL) == POOL_CRASHED);
    map_well(pool);
}

static void large_well(struct pool *pool)
{
    static char in[4][LARGE], out[4][LARGE];

    memset(in, 'x', sizeof in);
    memset(out, 0, sizeof out);
    WANT(pool_map(pool, echo, pool_array(in, 4, LARGE), out, LARGE, NULL) == POOL_OK);
    WANT(memcmp(in, out, sizeof in) == 0);
}

static struct pool *two(void)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});

    WANT(pool != NULL);
    return pool;
}

static void all_well(void)
{
    struct pool *pool = two();

    map_well(pool);
    imap_well(pool);
    large_well(pool);
    replace_well(pool);
    pool_destroy(pool);
}

/* ---- Children */

static int childless(void)
{
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static void sees_no_child(void)
{
    struct pool *pool = two();

    WANT(childless());
    map_well(pool);
    WANT(childless());
    replace_well(pool);
    WANT(childless());
    pool_destroy(pool);
    WANT(childless());
}

static void host_sees_no_child(void **state)
{
    (void)state;
    in_child(sees_no_child);
}

static atomic_int over;

static void *wait_on(void *unused)
{
    (void)unused;
    while (!atomic_load(&over)) {
        wait(NULL);
        sched_yield();
    }
    return NULL;
}

static void waits_in_a_loop(void)
{
    pthread_t thread;
    int i;

    WANT(pthread_create(&thread, NULL, wait_on, NULL) == 0);
    for (i = 0; i < 5; i++)
        all_well();
    atomic_store(&over, 1);
    WANT(pthread_join(thread, NULL) == 0);
}

static void host_may_wait_in_a_loop_in_another_thread(void **state)
{
    (void)state;
    in_child(waits_in_a_loop);
}

static void ignores_sigchld(void)
{
    signal(SIGCHLD, SIG_IGN);
    all_well();
}

static void host_may_ignore_sigchld(void **state)
{
    (void)state;
    in_child(ignores_sigchld);
}

static atomic_int signals;

static void count_signal(int signal)
{
    (void)signal;
    atomic_fetch_add(&signals, 1);
}

static void hears_of_no_child(void)
{
    struct pool *pool;

    signal(SIGCHLD, count_signal);
    pool = two();
    WANT(atomic_load(&signals) <= 1);   /* the one in between */
    atomic_store(&signals, 0);
    map_well(pool);
    replace_well(pool);
    pool_destroy(pool);
    WANT(atomic_load(&signals) == 0);
}

static void host_gets_no_sigchld_for_workers(void **state)
{
    (void)state;
    in_child(hears_of_no_child);
}

/* Children of the host's own stay its own. */
static void keeps_its_child(void)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(42);
    all_well();
    WANT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void host_keeps_the_status_of_its_own_child(void **state)
{
    (void)state;
    in_child(keeps_its_child);
}

/* ---- Signals */

static int slowly_or_die(struct pool_task *task)
{
    if (task->index % 3 == 0)
        raise(SIGKILL);
    return pool_return(task, task->in, task->in_size);
}

static void floods_the_dead(void)
{
    static char in[12][LARGE], out[12][LARGE];
    struct pool *pool = two();
    pid_t pid;
    int i;

    signal(SIGPIPE, SIG_DFL);
    for (i = 0; i < 5; i++) {
        WANT(pool_map(pool, slowly_or_die, pool_array(in, 12, LARGE), out, LARGE, NULL) == POOL_CRASHED);
        pid = pool_worker_pid(pool, 0);
        if (pid)
            kill(pid, SIGKILL);         /* it idles, so it still is that worker */
        map_well(pool);
    }
    pool_destroy(pool);
}

static void host_gets_no_sigpipe(void **state)
{
    (void)state;
    in_child(floods_the_dead);
}

struct signals {
    struct sigaction actions[NSIG];
    sigset_t         mask;
};

static void look_at_signals(struct signals *seen)
{
    int signal;

    memset(seen, 0, sizeof *seen);
    for (signal = 1; signal < NSIG; signal++)
        sigaction(signal, NULL, &seen->actions[signal]);
    pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
}

static int same_signals(const struct signals *a, const struct signals *b)
{
    int i;

    for (i = 1; i < NSIG; i++)
        if (a->actions[i].sa_handler != b->actions[i].sa_handler || a->actions[i].sa_flags != b->actions[i].sa_flags ||
            sigismember(&a->mask, i) != sigismember(&b->mask, i))
            return 0;
    return 1;
}

static void keeps_its_signals(void)
{
    struct signals before, now;
    struct pool *pool;
    sigset_t some;

    signal(SIGTERM, count_signal);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, count_signal);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    sigaddset(&some, SIGPIPE);
    pthread_sigmask(SIG_SETMASK, &some, NULL);
    look_at_signals(&before);
    pool = two();
    look_at_signals(&now);
    WANT(same_signals(&before, &now));
    map_well(pool);
    look_at_signals(&now);
    WANT(same_signals(&before, &now));
    imap_well(pool);
    replace_well(pool);
    look_at_signals(&now);
    WANT(same_signals(&before, &now));
    pool_destroy(pool);
    look_at_signals(&now);
    WANT(same_signals(&before, &now));
}

static void signal_dispositions_and_mask_stay(void **state)
{
    (void)state;
    in_child(keeps_its_signals);
}

static void blocks_all(void)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    all_well();
}

static void host_may_block_all_signals(void **state)
{
    (void)state;
    in_child(blocks_all);
}

static void storms(void)
{
    struct sigaction action = {.sa_handler = count_signal};       /* no SA_RESTART */
    const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    int64_t until = clock_deadline(0.5);

    sigaction(SIGALRM, &action, NULL);
    WANT(setitimer(ITIMER_REAL, &often, NULL) == 0);
    do
        all_well();
    while (clock_now() < until || atomic_load(&signals) < 100);
    WANT(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

static void a_storm_of_signals_disturbs_nothing(void **state)
{
    (void)state;
    in_child(storms);
}

/* ---- Descriptors */

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void holds_many(void)
{
    struct rlimit limit;
    int fds[1000], i, null = open("/dev/null", O_RDONLY);

    WANT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur < 1200) {
        limit.rlim_cur = limit.rlim_max < 1200 ? limit.rlim_max : 1200;
        WANT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    for (i = 0; i < 1000; i++)
        WANT((fds[i] = dup(null)) >= 0);
    all_well();
    for (i = 0; i < 1000; i++)
        WANT(is_open(fds[i]));
    WANT((i = dup(null)) == fds[999] + 1);      /* the lowest that is free: nothing was left there */
}

static void host_may_have_1000_descriptors(void **state)
{
    (void)state;
    in_child(holds_many);
}

/* Standard descriptors that the host has closed, as bits. The library must not use their numbers either, as the host's next printf
 * would go there. */
static int closed;

static void stays_closed(void)
{
    struct pool *pool;
    int fd;

    for (fd = 0; fd < 3; fd++)
        if (closed & 1 << fd)
            close(fd);
    pool = two();
    map_well(pool);
    imap_well(pool);
    large_well(pool);
    replace_well(pool);
    for (fd = 0; fd < 3; fd++)
        WANT(is_open(fd) == !(closed & 1 << fd));
    pool_destroy(pool);
    for (fd = 0; fd < 3; fd++)
        WANT(is_open(fd) == !(closed & 1 << fd));
}

static void host_may_have_closed_0_1_and_2(void **state)
{
    (void)state;
    for (closed = 1; closed < 8; closed++)
        in_child(stays_closed);
}

/* A program that the host starts inherits nothing of the pool. */
static void starts_a_program(void)
{
    static char sh[] = "sh", option[] = "-c", look[] = "test $(ls /proc/self/fd | wc -l) -eq 4";     /* ls has it open itself */
    char *const command[] = {sh, option, look, NULL};
    struct pool *pool;
    pid_t pid;
    int fd, status;

    for (fd = 3; fd < 1024; fd++)
        close(fd);
    pool = two();
    map_well(pool);
    WANT(posix_spawnp(&pid, "sh", NULL, NULL, command, environ) == 0);
    WANT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    WANT(WEXITSTATUS(status) == 0);
    pool_destroy(pool);
}

static void programs_inherit_nothing(void **state)
{
    (void)state;
    in_child(starts_a_program);
}

/* ---- Threads */

static int count_threads(void)
{
    DIR *list = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;

    WANT(list != NULL);
    while ((entry = readdir(list)))
        count += entry->d_name[0] != '.';
    closedir(list);
    return count;
}

static void no_thread_is_started(void **state)
{
    int before = count_threads();
    struct pool *pool = two();

    (void)state;
    map_well(pool);
    imap_well(pool);
    replace_well(pool);
    assert_int_equal(count_threads(), before);
    pool_destroy(pool);
}

/* ---- stdio */

static char path[] = "/tmp/forkpool-left-alone-XXXXXX";

static int say(struct pool_task *task)
{
    printf("task %zu\n", task->index);
    if (task->index == 4)
        exit(0);
    return 0;
}

static void speaks(void)
{
    struct pool *pool;
    FILE *own;
    int fd = open(path, O_WRONLY | O_APPEND);

    WANT(dup2(fd, 1) == 1);
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    own = fdopen(open(path, O_WRONLY | O_APPEND), "a");
    printf("before\n");
    fputs("own\n", own);
    pool = two();
    printf("between\n");
    WANT(pool_map(pool, say, pool_range(8), NULL, 0, NULL) == POOL_CRASHED);
    printf("after\n");
    pool_destroy(pool);
    fflush(stdout);
    fclose(own);
}

static void have_file(void)
{
    int fd;

    memcpy(path + sizeof path - 7, "XXXXXX", 6);
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static int count_in_file(const char *line)
{
    char text[100];
    int count = 0;
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    while (fgets(text, sizeof text, file))
        count += strcmp(text, line) == 0;
    fclose(file);
    return count;
}

static void unwritten_text_is_written_once(void **state)
{
    (void)state;
    have_file();
    in_child(speaks);
    assert_int_equal(count_in_file("before\n"), 1);
    assert_int_equal(count_in_file("own\n"), 1);
    assert_int_equal(count_in_file("between\n"), 1);
    assert_int_equal(count_in_file("after\n"), 1);
    unlink(path);
}

static void what_tasks_print_is_written_once(void **state)
{
    (void)state;
    have_file();
    in_child(speaks);
    assert_int_equal(count_in_file("task 0\n"), 1);
    assert_int_equal(count_in_file("task 4\n"), 1);     /* it called exit, which flushes */
    assert_int_equal(count_in_file("task 7\n"), 1);
    unlink(path);
}

static int leave(struct pool_task *task)
{
    int c = getchar();                  /* stdin is /dev/null here */

    exit(c == EOF ? (int)task->index : 100);
}

static void listens(void)
{
    char line[100];
    int i;

    WANT(freopen(path, "r", stdin) != NULL);
    WANT(fgets(line, sizeof line, stdin) && strcmp(line, "line 0\n") == 0);
    struct pool *pool = two();
    WANT(pool_map(pool, leave, pool_range(5), NULL, 0, NULL) == POOL_CRASHED);
    WANT(pool_failure()->code == 0);
    pool_destroy(pool);
    for (i = 1; i < 5000; i++) {
        WANT(fgets(line, sizeof line, stdin) != NULL);
        WANT(strtol(line + 5, NULL, 10) == i);
    }
    WANT(!fgets(line, sizeof line, stdin));
}

static void input_is_neither_lost_nor_read_twice(void **state)
{
    FILE *file;
    int i;

    (void)state;
    have_file();
    file = fopen(path, "w");
    assert_non_null(file);
    for (i = 0; i < 5000; i++)
        fprintf(file, "line %d\n", i);
    fclose(file);
    in_child(listens);
    unlink(path);
}

/* ---- Locks that other threads hold at the moment of a replacement */

static struct {
    atomic_int held, begun;             /* locks, tasks */
} *shared;                              /* with the workers */

static void wait_until_over(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    atomic_fetch_add(&shared->held, 1);
    while (!atomic_load(&over))
        nanosleep(&moment, NULL);
}

static int has_begun(void *unused)
{
    (void)unused;
    return atomic_load(&shared->begun);
}

static void *hold_stdout(void *unused)
{
    (void)unused;
    check_until(has_begun, NULL, PATIENCE);
    flockfile(stdout);
    wait_until_over();
    funlockfile(stdout);
    return NULL;
}

static int hold_list(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info;
    (void)size;
    (void)unused;
    wait_until_over();
    return 1;
}

static void *hold_objects(void *unused)
{
    (void)unused;
    check_until(has_begun, NULL, PATIENCE);     /* before, the call itself would wait for the loader */
    dl_iterate_phdr(hold_list, NULL);
    return NULL;
}

static void *allocate(void *unused)
{
    void *some[50];
    int i;

    (void)unused;
    atomic_fetch_add(&shared->held, 1);
    while (!atomic_load(&over)) {
        for (i = 0; i < 50; i++)
            some[i] = malloc((size_t)(i + 1) * 1000);
        for (i = 0; i < 50; i++)
            free(some[i]);
    }
    return NULL;
}

static void *load(void *unused)
{
    void *library;

    (void)unused;
    atomic_fetch_add(&shared->held, 1);
    while (!atomic_load(&over)) {
        library = dlopen("libm.so.6", RTLD_NOW);
        if (library)
            dlclose(library);
    }
    return NULL;
}

static int use_all(struct pool_worker *worker)
{
    void *some = malloc(100000), *library = dlopen("libm.so.6", RTLD_NOW);

    (void)worker;
    printf("%s", "");
    fflush(stdout);
    free(some);
    return library ? 0 : pool_init_fail(worker, 1, "%s", dlerror());
}

static int all_held(void *threads)
{
    return atomic_load(&shared->held) >= *(int *)threads;
}

static void share(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    WANT(shared != MAP_FAILED);
}

static int die_then(struct pool_task *task)
{
    int one = 1;

    (void)task;
    atomic_store(&shared->begun, 1);
    check_until(all_held, &one, PATIENCE);
    raise(SIGKILL);
    return 0;
}

/* Replaces workers while a thread holds a lock: a single call, since a new one may ask the loader what its function is. */
static void replace_while(void *(*hold)(void *))
{
    struct pool_results *results;
    pthread_t thread;
    struct pool *pool;
    size_t i;

    share();
    pool = pool_create(&(struct pool_options){.workers = 2, .initializer = use_all});
    WANT(pool != NULL);
    WANT(pool_apply(pool, die, NULL, 0, NULL, 0, NULL) == POOL_CRASHED);
    WANT(pthread_create(&thread, NULL, hold, NULL) == 0);
    results = pool_map_results(pool, die_then, pool_range(20), NULL);
    WANT(pool_results_count(results) == 20);
    for (i = 0; i < 20; i++)
        WANT(pool_results_at(results, i)->status == POOL_CRASHED && pool_results_at(results, i)->signal == SIGKILL);
    pool_results_free(results);
    atomic_store(&over, 1);
    WANT(pthread_join(thread, NULL) == 0);
    map_well(pool);
    pool_destroy(pool);
}

static void with_stdout(void)
{
    replace_while(hold_stdout);
}

static void with_objects(void)
{
    replace_while(hold_objects);
}

static void with_malloc(void)
{
    replace_while(allocate);
}

static void with_dlopen(void)
{
    replace_while(load);
}

static void replacement_while_stdout_is_locked(void **state)
{
    (void)state;
    in_child(with_stdout);
}

static void replacement_while_the_list_of_objects_is_locked(void **state)
{
    (void)state;
    in_child(with_objects);
}

static void replacement_while_malloc_is_busy(void **state)
{
    (void)state;
    in_child(with_malloc);
}

static void replacement_while_libraries_are_loaded(void **state)
{
    (void)state;
    in_child(with_dlopen);
}

/* A pool would be of no use where its workers could not ask the loader for their functions. */
static void create_while_the_list_of_objects_is_locked(void)
{
    pthread_t thread;
    int one = 1;

    share();
    atomic_store(&shared->begun, 1);
    WANT(pthread_create(&thread, NULL, hold_objects, NULL) == 0);
    WANT(check_until(all_held, &one, PATIENCE));
    errno = 0;
    WANT(pool_create(&(struct pool_options){.workers = 2}) == NULL);
    WANT(errno == EAGAIN);
    atomic_store(&over, 1);
    WANT(pthread_join(thread, NULL) == 0);
    all_well();
}

static void no_pool_is_created_while_the_list_of_objects_is_locked(void **state)
{
    (void)state;
    in_child(create_while_the_list_of_objects_is_locked);
}

/* The same when the pool is created: no lock of the host's is relied upon in a child. */
static void create_among_threads(void)
{
    void *(*const busy[])(void *) = {allocate, load, allocate, load};
    pthread_t threads[4];
    int i, all = 4;

    share();
    for (i = 0; i < 4; i++)
        WANT(pthread_create(&threads[i], NULL, busy[i], NULL) == 0);
    WANT(check_until(all_held, &all, PATIENCE));
    for (i = 0; i < 10; i++)
        all_well();
    atomic_store(&over, 1);
    for (i = 0; i < 4; i++)
        WANT(pthread_join(threads[i], NULL) == 0);
}

/* Not under ThreadSanitizer: its runtime has locks of its own that other threads hold at the fork, and cannot be asked for them. */
static void a_pool_is_created_among_busy_threads(void **state)
{
    (void)state;
    if (check_under("thread"))
        skip();
    in_child(create_among_threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_thread_is_started),
        cmocka_unit_test(host_sees_no_child),
        cmocka_unit_test(host_may_wait_in_a_loop_in_another_thread),
        cmocka_unit_test(host_may_ignore_sigchld),
        cmocka_unit_test(host_gets_no_sigchld_for_workers),
        cmocka_unit_test(host_keeps_the_status_of_its_own_child),
        cmocka_unit_test(host_gets_no_sigpipe),
        cmocka_unit_test(signal_dispositions_and_mask_stay),
        cmocka_unit_test(host_may_block_all_signals),
        cmocka_unit_test(a_storm_of_signals_disturbs_nothing),
        cmocka_unit_test(host_may_have_1000_descriptors),
        cmocka_unit_test(host_may_have_closed_0_1_and_2),
        cmocka_unit_test(programs_inherit_nothing),
        cmocka_unit_test(unwritten_text_is_written_once),
        cmocka_unit_test(what_tasks_print_is_written_once),
        cmocka_unit_test(input_is_neither_lost_nor_read_twice),
        cmocka_unit_test(replacement_while_stdout_is_locked),
        cmocka_unit_test(replacement_while_the_list_of_objects_is_locked),
        cmocka_unit_test(no_pool_is_created_while_the_list_of_objects_is_locked),
        cmocka_unit_test(replacement_while_malloc_is_busy),
        cmocka_unit_test(replacement_while_libraries_are_loaded),
        cmocka_unit_test(a_pool_is_created_among_busy_threads),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
