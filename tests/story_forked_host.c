/* A pool in a child that the host forked: refused there in words, never used, and the parent's pool is unharmed.
 *
 * The test is the host; its children say on stderr what was not so, and leave by _exit. */
#define _GNU_SOURCE
#include "child.h"
#include "forkpool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 100 };

static struct pool *pool;
static struct pool_iter *iter;
static struct pool_results *results;
static int in[N], out[N];

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    return pool_return(task, &y, sizeof y);
}

static struct pool_items numbers(void)
{
    int i;

    for (i = 0; i < N; i++)
        in[i] = i;
    return pool_array(in, N, sizeof *in);
}

static int maps_well(struct pool *some)
{
    int i;

    memset(out, 0, sizeof out);
    if (pool_map(some, square, numbers(), out, sizeof *out, NULL) != POOL_OK)
        return 0;
    for (i = 0; i < N; i++)
        if (out[i] != i * i)
            return 0;
    return 1;
}

/* ---- A child */

/* In a child, with the pool, an iterator half-way and a list of results there; and they are well afterwards. */
static void in_child_of_host(void (*act)(void))
{
    const struct pool_result *r;
    int i;

    pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    iter = pool_imap(pool, square, numbers(), &(struct pool_call){.window = 8});
    assert_non_null(iter);
    assert_non_null(r = pool_next(iter));
    results = pool_map_results(pool, square, numbers(), NULL);
    assert_non_null(results);
    in_child(act);
    for (i = 1; (r = pool_next(iter)); i++)
        assert_int_equal(*(const int *)r->data, i * i);
    assert_int_equal(i, N);
    pool_iter_free(iter);
    assert_int_equal(*(const int *)pool_results_at(results, N - 1)->data, (N - 1) * (N - 1));
    pool_results_free(results);
    assert_true(maps_well(pool));
    pool_destroy(pool);
}

static int explained(void)
{
    return strlen(pool_error()) > 20;
}

/* ---- Refused */

static void map_there(void)
{
    WANT(pool_map(pool, square, numbers(), out, sizeof *out, NULL) == POOL_INVALID && explained());
}

static void map_is_refused(void **state)
{
    (void)state;
    in_child_of_host(map_there);
}

static void apply_there(void)
{
    WANT(pool_apply(pool, square, in, sizeof *in, out, sizeof *out, NULL) == POOL_INVALID && explained());
}

static void apply_is_refused(void **state)
{
    (void)state;
    in_child_of_host(apply_there);
}

static void map_results_there(void)
{
    errno = 0;
    WANT(!pool_map_results(pool, square, numbers(), NULL) && errno == EINVAL && explained());
}

static void map_results_is_refused(void **state)
{
    (void)state;
    in_child_of_host(map_results_there);
}

static void imap_there(void)
{
    errno = 0;
    WANT(!pool_imap(pool, square, numbers(), NULL) && errno == EINVAL && explained());
    errno = 0;
    WANT(!pool_imap_unordered(pool, square, numbers(), NULL) && errno == EINVAL && explained());
}

static void imap_is_refused(void **state)
{
    (void)state;
    in_child_of_host(imap_there);
}

static void next_there(void)
{
    WANT(!pool_next(iter) && explained());
    WANT(!pool_next_timeout(iter, 1) && explained());
    WANT(pool_iter_status(iter) == POOL_INVALID && explained());
}

static void next_is_refused(void **state)
{
    (void)state;
    in_child_of_host(next_there);
}

static void worker_pid_there(void)
{
    WANT(pool_worker_pid(pool, 0) == 0);
}

static void worker_pid_is_0(void **state)
{
    (void)state;
    in_child_of_host(worker_pid_there);
}

/* ---- Freed */

static void free_there(void)
{
    pool_iter_cancel(iter);
    pool_iter_free(iter);
    pool_iter_free(iter);               /* the first did nothing */
    WANT(!pool_next(iter));
}

static void cancelling_and_freeing_an_iterator_does_nothing(void **state)
{
    (void)state;
    in_child_of_host(free_there);
}

static void read_there(void)
{
    WANT(pool_results_count(results) == N && pool_results_status(results) == POOL_OK);
    WANT(*(const int *)pool_results_at(results, 9)->data == 81);
}

static void results_stay_readable(void **state)
{
    (void)state;
    in_child_of_host(read_there);
}

static void free_results_there(void)
{
    pool_results_free(results);
    read_there();
}

static void freeing_results_does_nothing(void **state)
{
    (void)state;
    in_child_of_host(free_results_there);
}

static void free_own_there(void)
{
    struct pool *own = pool_create(&(struct pool_options){.serial = 1});
    struct pool_results *list = pool_map_results(own, square, numbers(), NULL);

    WANT(pool_results_count(list) == N);
    pool_results_free(list);            /* a leak, should this do nothing as well */
    pool_destroy(own);
}

static void its_own_results_are_freed(void **state)
{
    (void)state;
    in_child_of_host(free_own_there);
}

/* ---- Destroyed */

/* Low ones only: valgrind has some of its own high up. */
static int count_descriptors(void)
{
    int count = 0, fd;

    for (fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int descriptors_before;

static void destroy_there(void)
{
    WANT(count_descriptors() > descriptors_before);
    pool_destroy(pool);
    WANT(count_descriptors() == descriptors_before);
}

static void destroy_closes_what_was_inherited(void **state)
{
    (void)state;
    descriptors_before = count_descriptors();
    in_child_of_host(destroy_there);
}

static void destroy_and_use_handles(void)
{
    pool_destroy(pool);
    next_there();
    read_there();
    free_there();
}

static void handles_are_safe_after_destroy(void **state)
{
    (void)state;
    in_child_of_host(destroy_and_use_handles);
}

static void own_pool_there(void)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 2});

    WANT(own != NULL && maps_well(own));
    pool_destroy(pool);
    WANT(maps_well(own));
    pool_destroy(own);
}

static void child_may_have_a_pool_of_its_own(void **state)
{
    (void)state;
    in_child_of_host(own_pool_there);
}

static void destroy_and_own_pool(void)
{
    struct pool *own;

    pool_destroy(pool);
    own = pool_create(&(struct pool_options){.workers = 2});
    WANT(own != NULL && maps_well(own));
    pool_destroy(own);
}

static void child_may_have_its_own_after_destroying(void **state)
{
    (void)state;
    in_child_of_host(destroy_and_own_pool);
}

static void grandchild(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        map_there();
        pool_destroy(pool);
        _exit(0);
    }
    WANT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    map_there();
}

static void grandchildren_are_refused_too(void **state)
{
    (void)state;
    in_child_of_host(grandchild);
}

static void leave_without_a_word(void)
{
}

static void child_that_just_leaves_harms_nothing(void **state)
{
    (void)state;
    in_child_of_host(leave_without_a_word);
}

/* ---- A serial pool belongs to its process just as well */

static void serial_pool_is_refused_too(void **state)
{
    (void)state;
    pool = pool_create(&(struct pool_options){.serial = 1});
    assert_non_null(pool);
    in_child(map_there);
    assert_true(maps_well(pool));
    pool_destroy(pool);
}

/* ---- At a bad moment */

static atomic_int over;

static void *map_on(void *unused)
{
    int numbers_in[50] = {0}, numbers_out[50];

    (void)unused;
    while (!atomic_load(&over))
        if (pool_map(pool, square, pool_array(numbers_in, 50, sizeof *numbers_in), numbers_out, sizeof *numbers_out, NULL) != POOL_OK)
            return &over;
    return NULL;
}

static void refuse_and_destroy(void)
{
    map_there();
    pool_destroy(pool);
}

static void forked_while_a_thread_is_in_map(void **state)
{
    pthread_t thread;
    void *wrong;
    int i;

    (void)state;
    atomic_store(&over, 0);
    pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    assert_int_equal(pthread_create(&thread, NULL, map_on, NULL), 0);
    for (i = 0; i < 30; i++)
        in_child(refuse_and_destroy);
    atomic_store(&over, 1);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_null(wrong);
    assert_true(maps_well(pool));
    pool_destroy(pool);
}

static int all_dead(void *pids)
{
    const pid_t *pid = pids;

    return !check_alive(pid[0]) && !check_alive(pid[1]);
}

/* The child holds every descriptor of the pool. */
static void child_that_lives_on_delays_no_destroy(void **state)
{
    pid_t workers[2], child;

    (void)state;
    pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    workers[0] = pool_worker_pid(pool, 0);
    workers[1] = pool_worker_pid(pool, 1);
    fflush(NULL);
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    assert_true(maps_well(pool));
    pool_destroy(pool);
    assert_true(all_dead(workers));
    assert_true(check_alive(child));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_is_refused),
        cmocka_unit_test(apply_is_refused),
        cmocka_unit_test(map_results_is_refused),
        cmocka_unit_test(imap_is_refused),
        cmocka_unit_test(next_is_refused),
        cmocka_unit_test(worker_pid_is_0),
        cmocka_unit_test(cancelling_and_freeing_an_iterator_does_nothing),
        cmocka_unit_test(results_stay_readable),
        cmocka_unit_test(freeing_results_does_nothing),
        cmocka_unit_test(its_own_results_are_freed),
        cmocka_unit_test(destroy_closes_what_was_inherited),
        cmocka_unit_test(handles_are_safe_after_destroy),
        cmocka_unit_test(child_may_have_a_pool_of_its_own),
        cmocka_unit_test(child_may_have_its_own_after_destroying),
        cmocka_unit_test(grandchildren_are_refused_too),
        cmocka_unit_test(child_that_just_leaves_harms_nothing),
        cmocka_unit_test(serial_pool_is_refused_too),
        cmocka_unit_test(forked_while_a_thread_is_in_map),
        cmocka_unit_test(child_that_lives_on_delays_no_destroy),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
