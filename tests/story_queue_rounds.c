/* Round after round of a queue and the processes that use it: the same descriptors, children and memory as before; and a child that uses
 * all of it may be started from a host with threads.
 *
 * FORKPOOL_LONG=1: 1,000 rounds. ctest: timeout 300 */
#define _GNU_SOURCE
#include "child.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE = 2000000 };

static int echo(void *queues)
{
    struct pool_queue **q = queues;
    struct pool_bytes item;

    pool_queue_close(q[0]);
    while (pool_queue_get(q[0], &item, PATIENCE) == POOL_OK)
        if (pool_queue_put(q[1], item.data, item.size, PATIENCE) != POOL_OK)
            return 1;
    return 0;
}

static void one_round(int killed)
{
    static unsigned char large[LARGE];
    struct pool_queue *q[2] = {pool_queue_create(0), pool_queue_create(100)};
    struct pool_bytes item;

    assert_non_null(q[0]);
    assert_non_null(q[1]);
    struct pool_process *p = pool_process_start(echo, q);
    assert_non_null(p);
    pool_queue_close(q[1]);
    assert_int_equal(pool_queue_put(q[0], large, LARGE, PATIENCE), POOL_OK);
    assert_int_equal(pool_queue_put(q[0], large, 8, PATIENCE), POOL_OK);
    assert_int_equal(pool_queue_get(q[1], &item, PATIENCE), POOL_OK);
    assert_int_equal(item.size, LARGE);
    if (killed) {
        pool_process_kill(p);
    } else {
        assert_int_equal(pool_queue_get(q[1], &item, PATIENCE), POOL_OK);
        assert_int_equal(item.size, 8);
    }
    pool_queue_close(q[0]);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), killed ? -SIGKILL : 0);
    pool_process_free(p);
    pool_queue_free(q[0]);
    pool_queue_free(q[1]);
}

/* Kilobytes of this process by that name, of shared memory too. */
static long status_of(const char *name)
{
    char line[200];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "re");

    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = atol(line + strlen(name) + 1);
    fclose(file);
    return value;
}

static void all_is_given_back(void **state)
{
    int rounds = getenv("FORKPOOL_LONG") ? 1000 : 60;
    struct check_state before;

    (void)state;
    for (int i = 0; i < 10; i++)
        one_round(i % 2);
    malloc_trim(0);
    check_begin(&before);
    long shared = status_of("RssShmem"), all = status_of("VmRSS");
    for (int i = 0; i < rounds; i++)
        one_round(i % 2);
    check_end(&before);
    malloc_trim(0);
    assert_true(status_of("RssShmem") <= shared);
    if (!check_under(""))
        assert_true(status_of("VmRSS") <= all + 1000);
}

static void *go_on(void *stop)
{
    while (!*(volatile int *)stop)
        free(malloc(100));
    return NULL;
}

static void from_a_host_with_threads(void **state)
{
    pthread_t threads[3];
    int stop = 0;

    (void)state;
    if (check_under("thread"))
        skip();                         /* its own locks are held at such forks */
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, go_on, &stop), 0);
    for (int i = 0; i < 10; i++)
        one_round(i % 2);
    *(volatile int *)&stop = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_given_back),
        cmocka_unit_test(from_a_host_with_threads),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
