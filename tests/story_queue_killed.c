/* Killed at every point of put, get and close: nobody is wedged, no neighbour is harmed, and no item comes twice.
 *
 * A child is led through its call by ptrace, one instruction after the other, and killed after the n-th, for n = 1, 2, 3 ... until it comes
 * to the call's end. Then the others go on: whoever slept is woken, what was there comes out whole and in order, the item of the killed
 * one is there or not (a getter may take its own along), new items pass, and the end comes. FORKPOOL_LONG=1 takes every n, else it is
 * a sample. Where ptrace is not to be had these are skipped.
 *
 * ctest: not thread
 * ctest: not valgrind
 * ctest: timeout 300 */
#define _GNU_SOURCE
#include "child.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

enum { LARGE = 9000, POINTS = 15 };     /* LARGE: goes beside the ring of a small queue. POINTS: kills of a sample */

static struct pool_queue *queue, *done; /* done: what the watcher saw */
static unsigned char large[LARGE];

/* ---- Led by ptrace */

/* In the child: from here on it is led. */
static void be_led(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(77);
    raise(SIGSTOP);
}

/* In the child, once its call is over. */
static void arrive(void)
{
    raise(SIGUSR1);
    _exit(0);
}

struct led { long steps; int arrived, refused; };

/* Leads it through so many instructions (a system call is one) and kills it there. */
static struct led lead(void (*call)(void), long steps)
{
    struct led led = {0, 0, 0};
    int status;

    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        be_led();
        call();
        arrive();
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        led.refused = 1;
        return led;
    }
    while (led.steps < steps && WIFSTOPPED(status)) {
        if (WSTOPSIG(status) == SIGUSR1) {
            led.arrived = 1;
            break;
        }
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        led.steps++;
    }
    assert_true(WIFSTOPPED(status));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return led;
}

/* ---- A case: what is there before, what is called, what has to be there afterwards */

struct scene {
    void (*call)(void);
    size_t   capacity;
    unsigned before;                    /* small items that are in the queue */
    int      puts, gets;                /* the call does */
    size_t   size;                      /* of its item, or of the first of those before */
    int      sleeper;                   /* somebody sleeps in: 'g' get, 'p' put */
};

static const struct scene *scene;

static void call_put(void)
{
    if (pool_queue_put(queue, large, scene->size, -1) != POOL_OK)
        _exit(1);
}

static void call_get(void)
{
    struct pool_bytes item;
    if (pool_queue_get(queue, &item, -1) != POOL_OK)
        _exit(1);
}

static void call_get_and_wait(void)
{
    struct pool_bytes item;
    if (pool_queue_get(queue, &item, 0.003) != POOL_PENDING)
        _exit(1);
}

static void call_put_and_wait(void)
{
    if (pool_queue_put(queue, large, scene->size, 0.003) != POOL_PENDING)
        _exit(1);
}

static void call_close(void)
{
    pool_queue_close(queue);
}

/* Gets all there is and tells their sizes. */
static int watch_items(void *arg)
{
    struct pool_bytes item;

    (void)arg;
    pool_queue_close(queue);
    while (pool_queue_get(queue, &item, PATIENCE) == POOL_OK)
        if (pool_queue_put(done, &item.size, sizeof item.size, PATIENCE) != POOL_OK || memcmp(item.data, large, item.size) != 0)
            return 1;
    return 0;
}

static int put_one(void *arg)
{
    (void)arg;
    return pool_queue_put(queue, large, 5, PATIENCE) != POOL_OK;
}

static void fill_before(void)
{
    for (unsigned i = 0; i < scene->before; i++)
        assert_int_equal(pool_queue_put(queue, large, !i && scene->gets ? scene->size : 10 + i, 0), POOL_OK);
}

static size_t next_size(void)
{
    struct pool_bytes item;
    size_t size;

    assert_int_equal(pool_queue_get(done, &item, PATIENCE), POOL_OK);
    memcpy(&size, item.data, sizeof size);
    return size;
}

/* A process is asleep. */
static int sleeps(void *process)
{
    char name[64], line[200] = "";

    snprintf(name, sizeof name, "/proc/%ld/stat", (long)pool_process_pid(process));
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    return strstr(line, ") S") != NULL;
}

/* What comes of it, once it was killed: in order the items before, but for the one that it got; its own or not; then new ones. */
static void assert_well(struct pool_process *sleeper, int arrived)
{
    struct pool_process *watcher = scene->sleeper == 'g' ? sleeper : pool_process_start(watch_items, NULL);
    size_t first = scene->gets ? scene->size : 10;

    assert_non_null(watcher);
    assert_int_equal(pool_queue_put(queue, large, 77, PATIENCE), POOL_OK);
    pool_queue_close(queue);
    size_t size = next_size();
    unsigned i = 0;
    if (scene->before && size == first) {
        assert_false(scene->gets && arrived);
        size = next_size();
        i++;
    } else if (scene->before) {
        assert_true(scene->gets);
        i++;
    }
    for (; i < scene->before; i++, size = next_size())
        assert_int_equal(size, 10 + i);
    if (scene->puts && size == scene->size)
        size = next_size();
    else if (scene->puts)
        assert_false(arrived);
    int left = 1 + (scene->sleeper == 'p');     /* in whichever order these two come */
    for (; left; left--, size = left ? next_size() : 0)
        assert_true(size == 77 || (size == 5 && scene->sleeper == 'p'));
    assert_int_equal(pool_process_join(watcher, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(watcher), 0);
    pool_process_free(watcher);
    if (scene->sleeper == 'p') {
        assert_int_equal(pool_process_join(sleeper, PATIENCE), POOL_OK);
        assert_int_equal(pool_process_exitcode(sleeper), 0);
        pool_process_free(sleeper);
    }
}

/* One kill. */
static struct led killed_after(long steps)
{
    queue = pool_queue_create(scene->capacity);
    done = pool_queue_create(0);
    assert_non_null(queue);
    assert_non_null(done);
    fill_before();
    struct pool_process *sleeper = NULL;
    if (scene->sleeper) {
        sleeper = pool_process_start(scene->sleeper == 'g' ? watch_items : put_one, NULL);
        assert_non_null(sleeper);
        assert_true(check_until(sleeps, sleeper, PATIENCE));
    }
    struct led led = lead(scene->call, steps);
    if (!led.refused)
        assert_well(sleeper, led.arrived);
    else if (sleeper)
        pool_process_kill(sleeper), pool_process_join(sleeper, -1), pool_process_free(sleeper);
    pool_queue_free(queue);
    pool_queue_free(done);
    return led;
}

static void play(const struct scene *what)
{
    scene = what;
    memset(large, 'x', sizeof large);
    struct led all = killed_after(1L << 40);
    if (all.refused)
        skip();
    long points = getenv("FORKPOOL_LONG") ? all.steps : check_under("") ? POINTS / 3 : POINTS, seed = all.steps;
    for (long i = 0; i < points; i++) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        long lowest = all.steps * i / points, beyond = all.steps * (i + 1) / points;
        killed_after(1 + lowest + (beyond > lowest ? seed % (beyond - lowest) : 0));
    }
    print_message("%ld instructions, killed at %ld of them\n", all.steps, points);
}

#define SCENE(name, ...) \
    static void name(void **state) \
    { \
        static const struct scene what = {__VA_ARGS__}; \
        (void)state; \
        play(&what); \
    }

SCENE(in_put, .call = call_put, .puts = 1, .size = 50, .capacity = 1000, .before = 2)
SCENE(in_put_while_a_getter_sleeps, .call = call_put, .puts = 1, .size = 50, .capacity = 1000, .sleeper = 'g')
SCENE(in_put_of_a_large_one, .call = call_put, .puts = 1, .size = LARGE, .capacity = 16384, .before = 1)
SCENE(in_put_of_a_large_one_while_a_getter_sleeps, .call = call_put, .puts = 1, .size = LARGE, .capacity = 16384, .sleeper = 'g')
SCENE(in_put_that_waits, .call = call_put_and_wait, .size = 50, .capacity = 30, .before = 2)
SCENE(in_get, .call = call_get, .gets = 1, .size = 50, .capacity = 1000, .before = 3)
SCENE(in_get_while_a_putter_sleeps, .call = call_get, .gets = 1, .size = 50, .capacity = 60, .before = 2, .sleeper = 'p')
SCENE(in_get_of_a_large_one, .call = call_get, .gets = 1, .size = LARGE, .capacity = 16384, .before = 3)
SCENE(in_get_that_waits, .call = call_get_and_wait, .capacity = 1000)
SCENE(in_get_that_waits_beside_a_sleeper, .call = call_get_and_wait, .capacity = 1000, .sleeper = 'g')
SCENE(in_close, .call = call_close, .capacity = 1000, .before = 1)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_put),
        cmocka_unit_test(in_put_while_a_getter_sleeps),
        cmocka_unit_test(in_put_of_a_large_one),
        cmocka_unit_test(in_put_of_a_large_one_while_a_getter_sleeps),
        cmocka_unit_test(in_put_that_waits),
        cmocka_unit_test(in_get),
        cmocka_unit_test(in_get_while_a_putter_sleeps),
        cmocka_unit_test(in_get_of_a_large_one),
        cmocka_unit_test(in_get_that_waits),
        cmocka_unit_test(in_get_that_waits_beside_a_sleeper),
        cmocka_unit_test(in_close),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
