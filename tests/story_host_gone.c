/* Nothing outlives the host, however and whenever it ends; and a host that is only stopped loses nothing.
 *
 * The host is a forked child of the test. What belongs to it enrols on a board in shared memory: the nursery, the workers, and
 * for each worker two that it forked, one of them in a session of its own with its parent gone. The test is a child subreaper, so
 * that whatever were left of the host by anybody would become its child: that there is none at last proves that nothing was.
 *
 * The promise is a second. On a machine that is busy with other things a single measurement may exceed it: the best of three counts,
 * and under a sanitizer or valgrind, which slow the ending itself, only that it ends. */
#define _GNU_SOURCE
#include "child.h"
#include "clock.h"
#include "forkpool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1e9
enum { WORKERS = 2, ENROLLED_EACH = 3, ALL = 1 + WORKERS * ENROLLED_EACH, LARGE = 10 << 20 };

enum order { STAY, EXIT, FORK, LEAVE };

static struct board {
    atomic_int   count;                 /* of those enrolled */
    atomic_int   pids[64];
    atomic_int   begun;                 /* tasks */
    atomic_int   idle;                  /* the pool is made and nothing is asked of it */
    atomic_int   hold;                  /* initializers wait while it is set */
    atomic_int   order;                 /* to the host's second thread */
    atomic_int   survivor;              /* the child that the host forked to live on */
} *board;

/* ---- What belongs to a host */

static void enrol(pid_t pid)
{
    int at = atomic_fetch_add(&board->count, 1);

    if (at < 64)
        atomic_store(&board->pids[at], pid);
}

static void linger(void)
{
    for (;;)
        pause();
}

static int breed(struct pool_worker *worker)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    pid_t child;

    if (worker->index == 0)
        enrol(getppid());               /* the nursery */
    enrol(getpid());
    child = fork();
    if (child == 0) {
        enrol(getpid());
        linger();
    }
    child = fork();
    if (child == 0) {
        setsid();
        if (fork())
            _exit(0);
        enrol(getpid());
        linger();
    }
    waitpid(child, NULL, 0);
    while (atomic_load(&board->hold))
        nanosleep(&moment, NULL);
    return 0;
}

static int rest(struct pool_task *task)
{
    atomic_fetch_add(&board->begun, 1);
    if (task->index > 0)
        linger();
    return 0;
}

static int flood(struct pool_task *task)
{
    atomic_fetch_add(&board->begun, 1);
    return pool_return(task, task->in, task->in_size);
}

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    atomic_fetch_add(&board->begun, 1);
    return pool_return(task, &y, sizeof y);
}

/* ---- The host */

static struct pool *make_pool(void)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = WORKERS, .initializer = breed});

    WANT(pool != NULL);
    return pool;
}

static void in_create(void)
{
    atomic_store(&board->hold, 1);
    make_pool();
}

static void in_idle(void)
{
    make_pool();
    atomic_store(&board->idle, 1);
    linger();
}

static void in_map(void)
{
    pool_map(make_pool(), rest, pool_range(100), NULL, 0, NULL);
}

static void in_imap(void)
{
    struct pool_iter *it = pool_imap(make_pool(), rest, pool_range(100), NULL);

    while (pool_next(it))
        ;
}

static void in_transfer(void)
{
    struct pool *pool = make_pool();
    char *in = calloc(2, LARGE), *out = calloc(2, LARGE);

    WANT(in && out);
    for (;;)
        WANT(pool_map(pool, flood, pool_array(in, 2, LARGE), out, LARGE, NULL) == POOL_OK);
}

static int is_ordered(void *unused)
{
    (void)unused;
    return atomic_load(&board->order) != STAY;
}

/* The host's second thread: ends the host, or forks it, while the first is in the library. */
static void *obey(void *unused)
{
    pid_t child;

    (void)unused;
    check_until(is_ordered, NULL, PATIENCE);
    if (atomic_load(&board->order) == EXIT)
        exit(0);
    if (atomic_load(&board->order) == FORK) {
        child = fork();
        if (child == 0)
            linger();
        atomic_store(&board->survivor, child);
    }
    return NULL;
}

static void be_host(void (*act)(void))
{
    pthread_t thread;

    signal(SIGSEGV, SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    WANT(pthread_create(&thread, NULL, obey, NULL) == 0);
    act();
    _exit(2);                           /* it ended by itself */
}

static pid_t start_host(void (*act)(void))
{
    pid_t host;

    memset(board, 0, sizeof *board);
    fflush(NULL);
    host = fork();
    if (host == 0)
        be_host(act);
    assert_true(host > 0);
    return host;
}

/* ---- Its end */

struct scene {
    void     (*act)(void);
    int        begun;                   /* tasks; so many, and it is in the middle */
    int        signal;                  /* that ends it, or 0: */
    enum order order;                   /* to itself; FORK goes before the signal */
};

static int is_set(void *state)
{
    const struct scene *scene = state;

    return atomic_load(&board->count) >= ALL && atomic_load(&board->begun) >= scene->begun &&
           (scene->act != in_idle || atomic_load(&board->idle));
}

static int survivor_is_there(void *unused)
{
    (void)unused;
    return atomic_load(&board->survivor) > 0;
}

static int all_gone(void *unused)
{
    int i;

    (void)unused;
    for (i = 0; i < atomic_load(&board->count) && i < 64; i++)
        if (check_alive(atomic_load(&board->pids[i])))
            return 0;
    return 1;
}

static int all_alive(void)
{
    int i;

    for (i = 0; i < ALL; i++)
        if (!check_alive(atomic_load(&board->pids[i])))
            return 0;
    return 1;
}

static int no_child(void *unused)
{
    pid_t pid;

    (void)unused;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid < 0 && errno == ECHILD;
}

/* Plays the scene once; how long it took until nothing was left, in nanoseconds. */
static int64_t play(struct scene *scene)
{
    pid_t host = start_host(scene->act);
    int64_t start, took;

    assert_true(check_until(is_set, scene, PATIENCE));
    assert_true(all_alive());
    if (scene->order == FORK) {
        atomic_store(&board->order, FORK);
        assert_true(check_until(survivor_is_there, NULL, PATIENCE));
    }
    start = clock_now();
    if (scene->signal)
        assert_int_equal(kill(host, scene->signal), 0);
    else
        atomic_store(&board->order, scene->order);
    assert_true(check_until(all_gone, NULL, PATIENCE));
    took = clock_now() - start;
    if (scene->order == FORK) {
        assert_true(check_alive(atomic_load(&board->survivor)));
        assert_int_equal(kill(atomic_load(&board->survivor), SIGKILL), 0);
    }
    assert_true(check_until(no_child, NULL, PATIENCE));
    return took;
}

static void leaves_nothing(void **state)
{
    int64_t took = 0;
    int tries;

    for (tries = 0; tries < 3; tries++) {
        took = play(*state);
        if (took <= (int64_t)SECOND || check_under(""))
            return;
    }
    fail_msg("it took %g seconds", (double)took / SECOND);
}

/* ---- At any moment */

static void churn(void)
{
    int in[8] = {0, 1, 2, 3, 4, 5, 6, 7}, out[8];
    struct pool_iter *it;
    struct pool *pool;

    for (;;) {
        pool = pool_create(&(struct pool_options){.workers = 3});
        WANT(pool != NULL);
        WANT(pool_map(pool, square, pool_array(in, 8, sizeof *in), out, sizeof *out, NULL) == POOL_OK);
        it = pool_imap(pool, square, pool_array(in, 8, sizeof *in), NULL);
        WANT(pool_next(it) != NULL);
        pool_iter_free(it);
        pool_destroy(pool);
    }
}

/* Moments some tens of microseconds apart, from the fork of the host on. */
static void killed_at_any_moment_leaves_nothing(void **state)
{
    int rounds = getenv("FORKPOOL_LONG") ? 1000 : 60, i;
    int64_t until;
    pid_t host;

    (void)state;
    for (i = 0; i < rounds; i++) {
        host = start_host(churn);
        until = clock_now() + 100000 * (int64_t)i;
        while (clock_now() < until)
            ;
        kill(host, SIGKILL);
        assert_true(check_until(no_child, NULL, PATIENCE));
    }
}

/* ---- Stopped */

static void stop(pid_t host)
{
    int status;

    assert_int_equal(kill(host, SIGSTOP), 0);
    assert_int_equal(waitpid(host, &status, WUNTRACED), host);
    assert_true(WIFSTOPPED(status));
}

static void ends_well(pid_t host)
{
    int status;

    assert_int_equal(waitpid(host, &status, 0), host);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(check_until(no_child, NULL, PATIENCE));
}

static void work_until_told(void)
{
    enum { N = 500 };
    static int in[N], out[N];
    struct pool *pool = make_pool();
    const struct pool_result *r;
    struct pool_iter *it;
    int i;

    for (i = 0; i < N; i++)
        in[i] = i;
    while (!is_ordered(NULL)) {
        WANT(pool_map(pool, square, pool_array(in, N, sizeof *in), out, sizeof *out, NULL) == POOL_OK);
        for (i = 0; i < N; i++)
            WANT(out[i] == i * i);
        it = pool_imap(pool, square, pool_array(in, N, sizeof *in), &(struct pool_call){.window = 10});
        for (i = 0; (r = pool_next(it)); i++)
            WANT(r->status == POOL_OK && r->index == (size_t)i && *(const int *)r->data == i * i);
        WANT(i == N && pool_iter_status(it) == POOL_OK);
        pool_iter_free(it);
    }
    pool_destroy(pool);
    _exit(0);
}

static int has_begun(void *least)
{
    return atomic_load(&board->count) >= ALL && atomic_load(&board->begun) > *(int *)least;
}

static void stopped_while_it_works_goes_on(void **state)
{
    pid_t host = start_host(work_until_told);
    int i, begun = 0;

    (void)state;
    for (i = 0; i < 20; i++) {
        assert_true(check_until(has_begun, &begun, PATIENCE));
        stop(host);
        assert_true(all_alive());
        begun = atomic_load(&board->begun) + 10 * WORKERS + i * 57;
        assert_int_equal(kill(host, SIGCONT), 0);
    }
    atomic_store(&board->order, LEAVE);
    ends_well(host);
}

static void create_and_leave(void)
{
    atomic_store(&board->hold, 1);
    pool_destroy(make_pool());
    _exit(0);
}

static int has_enrolled(void *unused)
{
    (void)unused;
    return atomic_load(&board->count) >= ALL;
}

static void stopped_in_create_goes_on(void **state)
{
    pid_t host = start_host(create_and_leave);

    (void)state;
    assert_true(check_until(has_enrolled, NULL, PATIENCE));
    stop(host);
    assert_true(all_alive());
    atomic_store(&board->hold, 0);
    assert_int_equal(kill(host, SIGCONT), 0);
    ends_well(host);
}

static void idle_and_work(void)
{
    struct pool *pool = make_pool();
    int in = 7, out = 0;

    atomic_store(&board->idle, 1);
    check_until(is_ordered, NULL, PATIENCE);
    WANT(pool_apply(pool, square, &in, sizeof in, &out, sizeof out, NULL) == POOL_OK && out == 49);
    pool_destroy(pool);
    _exit(0);
}

static void stopped_while_idle_goes_on(void **state)
{
    struct scene scene = {.act = in_idle};
    pid_t host = start_host(idle_and_work);

    (void)state;
    assert_true(check_until(is_set, &scene, PATIENCE));
    stop(host);
    assert_true(all_alive());
    assert_int_equal(kill(host, SIGCONT), 0);
    atomic_store(&board->order, LEAVE);
    ends_well(host);
}

/* A terminal stops the group of the host, in which its workers are not. */
static void killed_while_stopped_leaves_nothing(void **state)
{
    struct scene scene = {.act = in_map, .begun = WORKERS + 1};
    pid_t host = start_host(in_map);

    (void)state;
    assert_true(check_until(is_set, &scene, PATIENCE));
    stop(host);
    assert_int_equal(kill(host, SIGKILL), 0);
    assert_true(check_until(all_gone, NULL, PATIENCE));
    assert_true(check_until(no_child, NULL, PATIENCE));
}

/* ---- */

static int setup(void **state)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(board != MAP_FAILED);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L), 0);
    return check_setup(state);
}

#define SCENE(name, ...) {name, leaves_nothing, NULL, NULL, &(struct scene){__VA_ARGS__}}
#define SCENES(where, ...)                                                                     \
    SCENE("killed " where, __VA_ARGS__, .signal = SIGKILL),                                    \
    SCENE("crashing " where, __VA_ARGS__, .signal = SIGSEGV),                                  \
    SCENE("exiting " where, __VA_ARGS__, .order = EXIT),                                       \
    SCENE("killed, with a forked child that lives on, " where, __VA_ARGS__, .signal = SIGKILL, .order = FORK)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENES("in create", .act = in_create),
        SCENES("while idle", .act = in_idle),
        SCENES("in map", .act = in_map, .begun = WORKERS + 1),
        SCENES("in imap", .act = in_imap, .begun = WORKERS + 1),
        SCENES("in a large transfer", .act = in_transfer, .begun = 4),
        cmocka_unit_test(killed_at_any_moment_leaves_nothing),
        cmocka_unit_test(stopped_while_it_works_goes_on),
        cmocka_unit_test(stopped_in_create_goes_on),
        cmocka_unit_test(stopped_while_idle_goes_on),
        cmocka_unit_test(killed_while_stopped_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, setup, check_teardown);
}
