/* What a user of Python's multiprocessing.Pool relies on, told by what CPython's own tests of it check: the calls that wait.
 *
 * Each test bears the name of its counterpart in CPython's Lib/test/_test_multiprocessing.py, with a suffix where one there is several
 * here; the line above it says what is checked there and what differs here. Asynchronous calls, close, join, terminate and recycled
 * workers are in story_python_async.c. As there, most tests share one pool of four workers.
 *
 * ctest: timeout 120 */
#define _GNU_SOURCE
#include "child.h"
#include "forkpool.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifdef __GLIBC__
typedef enum __rlimit_resource resource_name;
#else
typedef int resource_name;
#endif

enum { WORKERS = 4, MOST = 1000, MIB = 1 << 20, STRANGER = 64321 };

static struct pool *pool;
static int xs[MOST], ys[MOST];

/* Shared with the workers, and with hosts that are children of the test. */
static struct shared {
    atomic_int calls;
    atomic_int ended;
    atomic_int births;
    _Atomic(pid_t) pids[WORKERS * 4];
} *shared;

static int open_pool(void **state)
{
    int i;

    check_setup(state);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    for (i = 0; i < MOST; i++)
        xs[i] = i;
    pool = pool_create(&(struct pool_options){.workers = WORKERS});
    if (!pool)
        fail_msg("%s", pool_error());
    return 0;
}

static int close_pool(void **state)
{
    pool_destroy(pool);
    munmap(shared, sizeof *shared);
    return check_teardown(state);
}

static int begin(void **state)
{
    (void)state;
    memset(shared, 0, sizeof *shared);
    memset(ys, 0, sizeof ys);
    return 0;
}

/* What is measured is done less often where it is not measured. */
static int often(int times)
{
    return !check_under("") ? times : times / 10;
}

static struct pool_items first(size_t count)
{
    return pool_array(xs, count, sizeof *xs);
}

static const struct pool_call *chunk_of(size_t chunk)
{
    static struct pool_call call;

    call = (struct pool_call){.chunk = chunk};
    return &call;
}

/* ---- Tasks */

static int sqr(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    shared->calls++;
    return pool_return(task, &y, sizeof y);
}

/* Python's sqr(x=3): arguments by name come as the call's context. */
static int sqr_of_common(struct pool_task *task)
{
    int x = *(const int *)task->common, y = x * x;

    return pool_return(task, &y, sizeof y);
}

struct pair {
    int x, y;
};

static int mul(struct pool_task *task)
{
    const struct pair *pair = task->in;
    int z = pair->x * pair->y;

    return pool_return(task, &z, sizeof z);
}

static int mul_by_common(struct pool_task *task)
{
    int z = *(const int *)task->in * *(const int *)task->common;

    return pool_return(task, &z, sizeof z);
}

static int identity(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

static int raise_foo(struct pool_task *task)
{
    return pool_fail(task, 17, "foo");
}

static int raise_on_thirds(struct pool_task *task)
{
    if (task->index % 3 == 0)
        return pool_fail(task, 3, "a third");
    return sqr(task);
}

/* ---- Sources */

/* Numbers from 0 to total - 1, but an error instead of the number `when`. */
struct say_when {
    int total, when;
    int i, value;
    int pulls;
};

static int say_when(void *cursor, struct pool_bytes *item)
{
    struct say_when *s = cursor;

    s->pulls++;
    if (s->i == s->when)
        return -7;
    if (s->i == s->total)
        return 0;
    s->value = s->i++;
    *item = (struct pool_bytes){&s->value, sizeof s->value};
    return 1;
}

static struct pool_items from(struct say_when *s)
{
    return pool_generator(say_when, s);
}

/* ---- apply */

static void assert_squares(size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        assert_int_equal(ys[i], (int)(i * i));
}

/* Python: the value of the function for its arguments. Here the argument is bytes, and so is the value. */
static void test_apply(void **state)
{
    int x = 5, y = 0;

    (void)state;
    assert_int_equal(pool_apply(pool, sqr, &x, sizeof x, &y, sizeof y, NULL), POOL_OK);
    assert_int_equal(y, 25);
}

/* Python: arguments by name as well. Here what is not the item is `common`. */
static void test_apply_keywords(void **state)
{
    int x = 3, y = 0;
    const struct pool_call call = {.common = &x, .common_size = sizeof x};

    (void)state;
    assert_int_equal(pool_apply(pool, sqr_of_common, NULL, 0, &y, sizeof y, &call), POOL_OK);
    assert_int_equal(y, 9);
}

/* ---- map */

static void map_in_chunks(size_t count, size_t chunk)
{
    assert_int_equal(pool_map(pool, sqr, first(count), ys, sizeof *ys, chunk_of(chunk)), POOL_OK);
    assert_squares(count);
}

/* Python: the list of the values, in order, for ten items, then for a hundred in chunks of 20. */
static void test_map(void **state)
{
    (void)state;
    map_in_chunks(10, 0);
    map_in_chunks(100, 20);
}

/* Python: chunksize 1, each item on its own. Here it is a hint; every item is on its own in any case. */
static void test_map_chunks_of_1(void **state)
{
    (void)state;
    map_in_chunks(1000, 1);
}

/* Python: chunksize 10. */
static void test_map_chunks_of_10(void **state)
{
    (void)state;
    map_in_chunks(1000, 10);
}

/* Python: chunksize 100, fewer chunks than would keep all workers busy for long. Here what waits moves to who is idle. */
static void test_map_chunks_of_100(void **state)
{
    (void)state;
    map_in_chunks(1000, 100);
}

/* Python: without a chunksize, a fourth of an even share. Here: what fits the time that items take. */
static void test_map_chunks_of_the_pools_choice(void **state)
{
    (void)state;
    map_in_chunks(1000, 0);
}

/* Python: a list that the last chunk does not fill. */
static void test_map_chunks_that_do_not_divide(void **state)
{
    (void)state;
    map_in_chunks(997, 100);
}

/* Python: one chunk larger than the list. */
static void test_map_chunk_beyond_the_count(void **state)
{
    (void)state;
    map_in_chunks(10, 1000);
}

/* Python: chunks of an empty list do not stall. */
static void test_map_chunksize(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, sqr, first(0), ys, sizeof *ys, chunk_of(1)), POOL_OK);
}

/* Python: a chunksize of 0 with no items is what an empty list computes, and once divided by. Here 0 is the default. */
static void test_map_chunksize_of_0(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, sqr, first(0), ys, sizeof *ys, chunk_of(0)), POOL_OK);
}

/* ---- starmap */

static void starmap_in_chunks(int count, size_t chunk)
{
    struct pair pairs[100];
    int i;

    for (i = 0; i < count; i++)
        pairs[i] = (struct pair){i, count - 1 - i};
    assert_int_equal(pool_map(pool, mul, pool_array(pairs, (size_t)count, sizeof *pairs), ys, sizeof *ys, chunk_of(chunk)), POOL_OK);
    for (i = 0; i < count; i++)
        assert_int_equal(ys[i], i * (count - 1 - i));
}

/* Python: each tuple is spread over the arguments. Here a struct is the tuple, and map is enough. */
static void test_starmap(void **state)
{
    (void)state;
    starmap_in_chunks(10, 0);
    starmap_in_chunks(100, 20);
}

/* Python: an argument that is the same for all items is repeated in each tuple, or bound by partial. Here it is sent once. */
static void test_starmap_common(void **state)
{
    int y = 7, i;
    const struct pool_call call = {.common = &y, .common_size = sizeof y};

    (void)state;
    assert_int_equal(pool_map(pool, mul_by_common, first(100), ys, sizeof *ys, &call), POOL_OK);
    for (i = 0; i < 100; i++)
        assert_int_equal(ys[i], 7 * i);
}

/* ---- What cannot be sent */

/* Python: an item that cannot be pickled raises, and does not hang. Here the one thing that cannot be sent is refused before any runs. */
static void test_map_unplicklable(void **state)
{
    struct pool_bytes items[10];
    int i;

    (void)state;
    for (i = 0; i < 10; i++)
        items[i] = (struct pool_bytes){NULL, 4};
    assert_int_equal(pool_map(pool, sqr, pool_buffers(items, 10), NULL, 0, NULL), POOL_INVALID);
    assert_int_equal(shared->calls, 0);
}

static void note_pids(pid_t pids[WORKERS])
{
    unsigned i;

    for (i = 0; i < WORKERS; i++)
        pids[i] = pool_worker_pid(pool, i);
}

/* Python: a result that cannot be pickled is an error of its own kind, MaybeEncodingError. Here: one that does not fit the place. */
static void test_unpickleable_result(void **state)
{
    const struct pool_result *failure;
    double place = 0.5;

    (void)state;
    assert_int_equal(pool_apply(pool, sqr, xs, sizeof *xs, &place, sizeof place, NULL), POOL_FAILED);
    assert_non_null(failure = pool_failure());
    assert_int_equal(failure->code, 0);
    assert_true(strlen(failure->message) > 0);
    assert_true(place == 0.5);
}

/* Python: twenty of them in a row cost no worker. Here nor. */
static void test_unpickleable_result_costs_no_worker(void **state)
{
    pid_t before[WORKERS], after[WORKERS];
    double place;
    int i;

    (void)state;
    note_pids(before);
    for (i = 0; i < 20; i++)
        assert_int_equal(pool_apply(pool, sqr, xs, sizeof *xs, &place, sizeof place, NULL), POOL_FAILED);
    note_pids(after);
    assert_memory_equal(before, after, sizeof before);
}

/* ---- map of a source that raises */

static void map_fails_at(int total, int when)
{
    struct say_when source = {.total = total, .when = when};

    assert_int_equal(pool_map(pool, sqr, from(&source), NULL, 0, chunk_of(1)), POOL_SOURCE_FAILED);
    assert_non_null(pool_failure());
    assert_int_equal(pool_failure()->status, POOL_SOURCE_FAILED);
    assert_int_equal(pool_failure()->code, -7);
}

/* Python: the source's exception at its very first item is map's own. Here its code is. */
static void test_map_handle_iterable_exception(void **state)
{
    (void)state;
    map_fails_at(1, 0);
    assert_int_equal(shared->calls, 0);
}

/* Python: and again, which shows that the pool's threads are still there. */
static void test_map_handle_iterable_exception_again(void **state)
{
    (void)state;
    map_fails_at(1, 0);
    map_fails_at(1, 0);
    map_in_chunks(10, 1);
}

/* Python: in the middle; nothing runs, since the source is read to its end first. Here the items before it have run. */
static void test_map_handle_iterable_exception_in_the_middle(void **state)
{
    (void)state;
    map_fails_at(10, 3);
    assert_int_equal(shared->calls, 3);
}

/* Python: the results of the items before it are lost. Here they are in the list, which the failure ends. */
static void test_map_handle_iterable_exception_keeps_results(void **state)
{
    struct say_when source = {.total = 10, .when = 3};
    struct pool_results *results = pool_map_results(pool, sqr, from(&source), NULL);
    size_t i;

    (void)state;
    assert_non_null(results);
    assert_int_equal(pool_results_status(results), POOL_SOURCE_FAILED);
    assert_int_equal(pool_results_count(results), 4);
    for (i = 0; i < 3; i++)
        assert_int_equal(*(const int *)pool_results_at(results, i)->data, (int)(i * i));
    assert_int_equal(pool_results_at(results, 3)->status, POOL_SOURCE_FAILED);
    pool_results_free(results);
}

/* Python: an iterable with a length that raises. Here a generator has no length, so it cannot be given an array to fill. */
static void test_map_handle_iterable_exception_with_a_length(void **state)
{
    struct say_when source = {.total = 1};

    (void)state;
    assert_int_equal(pool_map(pool, sqr, from(&source), ys, sizeof *ys, chunk_of(1)), POOL_INVALID);
    assert_int_equal(source.pulls, 0);
}

/* ---- imap */

static const struct pool_result *next_ok(struct pool_iter *it)
{
    const struct pool_result *r = pool_next(it);

    assert_non_null(r);
    assert_int_equal(r->status, POOL_OK);
    return r;
}

static int next_value(struct pool_iter *it)
{
    return *(const int *)next_ok(it)->data;
}

static void imap_in_chunks(size_t count, size_t chunk)
{
    struct pool_iter *it = pool_imap(pool, sqr, first(count), chunk_of(chunk));
    size_t i;

    assert_non_null(it);
    for (i = 0; i < count; i++)
        assert_int_equal(next_value(it), (int)(i * i));
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

/* Python: the values come in order. */
static void test_imap(void **state)
{
    (void)state;
    imap_in_chunks(10, 0);
}

/* Python: a thousand in chunks of 100. */
static void test_imap_chunksize(void **state)
{
    (void)state;
    imap_in_chunks(1000, 100);
}

/* Python: StopIteration once all is taken, and whenever it is asked again. Here NULL, which is no failure. */
static void test_imap_stop_iteration(void **state)
{
    struct pool_iter *it = pool_imap(pool, sqr, first(1), NULL);

    (void)state;
    next_ok(it);
    assert_null(pool_next(it));
    assert_string_equal(pool_error(), "");
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

static void assert_source_failed(struct pool_iter *it)
{
    const struct pool_result *r = pool_next(it);

    assert_non_null(r);
    assert_int_equal(r->status, POOL_SOURCE_FAILED);
    assert_int_equal(r->code, -7);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_SOURCE_FAILED);
}

static void imap_fails_at(int total, int when, size_t chunk)
{
    struct say_when source = {.total = total, .when = when};
    struct pool_iter *it = pool_imap(pool, sqr, from(&source), chunk_of(chunk));
    int i;

    assert_non_null(it);
    for (i = 0; i < when; i++)
        assert_int_equal(next_value(it), i * i);
    assert_source_failed(it);
    pool_iter_free(it);
}

/* Python: a source that raises at its first item: next raises it. Here it is the last result. */
static void test_imap_handle_iterable_exception(void **state)
{
    (void)state;
    imap_fails_at(1, 0, 1);
}

/* Python: and again, which shows that the pool is none the worse. */
static void test_imap_handle_iterable_exception_again(void **state)
{
    (void)state;
    imap_fails_at(1, 0, 1);
    imap_fails_at(1, 0, 1);
    imap_in_chunks(10, 1);
}

/* Python: in the middle: what was before it comes first. */
static void test_imap_handle_iterable_exception_in_the_middle(void **state)
{
    (void)state;
    imap_fails_at(10, 3, 1);
}

/* Python: in chunks of 2 only 6 of the 7 items come, in chunks of 4 only 4: the rest of the chunk is lost. Here all 7 come. */
static void test_imap_handle_iterable_exception_in_a_chunk(void **state)
{
    (void)state;
    imap_fails_at(20, 7, 2);
    imap_fails_at(20, 7, 4);
}

/* ---- imap_unordered */

static void take_each_once(struct pool_iter *it, int count)
{
    char seen[MOST] = {0};
    const struct pool_result *r;
    int i;

    for (i = 0; i < count; i++) {
        r = next_ok(it);
        assert_true(r->index < (size_t)count);
        assert_int_equal(*(const int *)r->data, (int)(r->index * r->index));
        assert_int_equal(seen[r->index]++, 0);
    }
}

static void imap_unordered_in_chunks(size_t count, size_t chunk)
{
    struct pool_iter *it = pool_imap_unordered(pool, sqr, first(count), chunk_of(chunk));

    assert_non_null(it);
    take_each_once(it, (int)count);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

/* Python: all values, in any order. Here each also tells its index. */
static void test_imap_unordered(void **state)
{
    (void)state;
    imap_unordered_in_chunks(10, 0);
}

/* Python: a thousand in chunks of 100. */
static void test_imap_unordered_chunksize(void **state)
{
    (void)state;
    imap_unordered_in_chunks(1000, 100);
}

static void imap_unordered_fails_at(int total, int when, size_t chunk)
{
    struct say_when source = {.total = total, .when = when};
    struct pool_iter *it = pool_imap_unordered(pool, sqr, from(&source), chunk_of(chunk));

    assert_non_null(it);
    take_each_once(it, when);
    assert_source_failed(it);
    pool_iter_free(it);
}

/* Python: a source that raises at its first item. */
static void test_imap_unordered_handle_iterable_exception(void **state)
{
    (void)state;
    imap_unordered_fails_at(1, 0, 1);
}

/* Python: and again. */
static void test_imap_unordered_handle_iterable_exception_again(void **state)
{
    (void)state;
    imap_unordered_fails_at(1, 0, 1);
    imap_unordered_fails_at(1, 0, 1);
    imap_unordered_in_chunks(10, 1);
}

/* Python: in the middle the exception may come before values that are ready. Here it is always the last. */
static void test_imap_unordered_handle_iterable_exception_in_the_middle(void **state)
{
    (void)state;
    imap_unordered_fails_at(10, 3, 1);
}

/* Python: in chunks of 2 the whole chunk of the failure may be lost. Here all 7 before it come. */
static void test_imap_unordered_handle_iterable_exception_in_a_chunk(void **state)
{
    (void)state;
    imap_unordered_fails_at(20, 7, 2);
}

/* ---- Making one */

/* Python: Pool(-1) is a ValueError. Here the number is unsigned, and one so large is refused as well. */
static void test_make_pool(void **state)
{
    (void)state;
    errno = 0;
    assert_null(pool_create(&(struct pool_options){.workers = (unsigned)-1}));
    assert_int_equal(errno, EINVAL);
    assert_true(strlen(pool_error()) > 0);
}

/* Python: Pool(0) is a ValueError and Pool(None) the default. Here 0 is the default. */
static void test_make_pool_of_0(void **state)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 0});

    (void)state;
    assert_non_null(own);
    assert_int_equal(pool_size(own), pool_cpu_count());
    pool_destroy(own);
}

/* Python: Pool(3) has three processes. */
static void test_make_pool_of_3(void **state)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 3});
    unsigned i;

    (void)state;
    assert_non_null(own);
    assert_int_equal(pool_size(own), 3);
    for (i = 0; i < 3; i++)
        assert_true(check_alive(pool_worker_pid(own, i)));
    assert_int_equal(pool_worker_pid(own, 3), 0);
    pool_destroy(own);
}

static int note_birth(struct pool_worker *worker)
{
    shared->pids[worker->index] = getpid();
    shared->births += *(int *)worker->arg;
    return 0;
}

/* Python: the initializer is called in the worker, with its arguments. One that is not callable, a TypeError, C does not have. */
static void test_pool_initializer(void **state)
{
    int by = 3;
    struct pool *own = pool_create(&(struct pool_options){.workers = 1, .initializer = note_birth, .initarg = &by});

    (void)state;
    assert_non_null(own);
    assert_int_equal(shared->births, 3);
    pool_destroy(own);
}

static void until_calls(int least)
{
    const struct timespec pause = {.tv_nsec = 200000};

    while (shared->births < least)
        nanosleep(&pause, NULL);
}

static int fail_in_the_fourth(struct pool_worker *worker)
{
    if (worker->index == 3) {
        until_calls(1);                 /* there is somebody to be left behind */
        return pool_init_fail(worker, 8, "induced");
    }
    shared->pids[worker->index] = getpid();
    shared->births++;
    return 0;
}

static int none_alive(void *unused)
{
    size_t i;

    (void)unused;
    for (i = 0; i < sizeof shared->pids / sizeof *shared->pids; i++)
        if (check_alive(shared->pids[i]))
            return 0;
    return 1;
}

/* Python: where one of five processes cannot be started, those already started do not stay. Here: where one cannot get ready. */
static void test_release_unused_processes(void **state)
{
    (void)state;
    errno = 0;
    assert_null(pool_create(&(struct pool_options){.workers = 5, .initializer = fail_in_the_fourth}));
    assert_int_equal(errno, ECANCELED);
    assert_non_null(strstr(pool_error(), "induced"));
    assert_true(shared->births > 0);
    assert_true(none_alive(NULL));
}

static void fail_to_fork(void)
{
    int one = 1;

    if (geteuid() == 0) {
        WANT(setgroups(0, NULL) == 0);
        WANT(setresgid(STRANGER, STRANGER, STRANGER) == 0);
        WANT(setresuid(STRANGER, STRANGER, STRANGER) == 0);
    }
    WANT(setrlimit((resource_name)RLIMIT_NPROC, &(struct rlimit){4, 4}) == 0);
    WANT(!pool_create(&(struct pool_options){.workers = 5, .initializer = note_birth, .initarg = &one}) && errno == EAGAIN);
    WANT(none_alive(NULL));
}

/* The same where the system refuses the fork. */
static void test_release_unused_processes_without_fork(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();                         /* other processes of this user count as well */
    in_child(fail_to_fork);
}

/* Python: a pool of 200 is no worse than another. */
static void test_large_pool(void **state)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = !check_under("") ? 200 : 20});
    int i, sum = 0;

    (void)state;
    if (!own)
        fail_msg("%s", pool_error());
    assert_int_equal(pool_map(own, sqr, first(1000), ys, sizeof *ys, NULL), POOL_OK);
    for (i = 0; i < 1000; i++)
        sum += ys[i];
    assert_int_equal(sum, 332833500);
    pool_destroy(own);
}

/* ---- Nothing to do */

/* Python: an empty list gives an empty list. */
static void test_empty_iterable(void **state)
{
    struct pool_results *results = pool_map_results(pool, sqr, first(0), NULL);

    (void)state;
    assert_non_null(results);
    assert_int_equal(pool_results_count(results), 0);
    assert_int_equal(pool_results_status(results), POOL_OK);
    pool_results_free(results);
}

/* The same for map, where no memory need be there at all. */
static void test_empty_iterable_map(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, sqr, pool_array(NULL, 0, sizeof *xs), NULL, 0, NULL), POOL_OK);
    assert_int_equal(shared->calls, 0);
}

/* Python: imap of an empty list ends at once. */
static void test_empty_iterable_imap(void **state)
{
    (void)state;
    imap_in_chunks(0, 0);
}

/* Python: so does imap_unordered. */
static void test_empty_iterable_imap_unordered(void **state)
{
    (void)state;
    imap_unordered_in_chunks(0, 0);
}

/* Python: an iterable that ends at once is an empty list. Here: a generator. */
static void test_empty_iterable_of_a_generator(void **state)
{
    struct say_when source = {.total = 0, .when = -1};
    struct pool_iter *it = pool_imap(pool, sqr, from(&source), NULL);

    (void)state;
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_OK);
    pool_iter_free(it);
}

/* ---- What is told of a failure */

static int tell_where(struct pool_task *task)
{
    return pool_fail(task, 123, "%s: in process %ld", __func__, (long)getpid());
}

/* Python: the text of the worker's traceback is part of the exception that the caller gets. Here: the message, and whose it is. */
static void test_traceback(void **state)
{
    const struct pool_result *failure;
    char text[200];

    (void)state;
    assert_int_equal(pool_apply(pool, tell_where, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_non_null(failure = pool_failure());
    assert_int_equal(failure->code, 123);
    assert_int_not_equal(failure->pid, getpid());
    snprintf(text, sizeof text, "tell_where: in process %ld", (long)failure->pid);
    assert_string_equal(failure->message, text);
}

/* Python: the traceback is shown where the exception is printed. Here: the same text is pool_error's. */
static void test_traceback_is_printed(void **state)
{
    (void)state;
    assert_int_equal(pool_apply(pool, tell_where, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_non_null(strstr(pool_error(), "tell_where: in process"));
}

/* Python: the exception of a source, raised in the host, is no remote one. Here: it tells of no worker. */
static void test_traceback_of_a_source(void **state)
{
    (void)state;
    map_fails_at(1, 0);
    assert_int_equal(pool_failure()->pid, 0);
}

/* Python: the exception that was raised arrives, not a wrapping of it. Here: the very code and text. */
static void test_wrapped_exception(void **state)
{
    (void)state;
    assert_int_equal(pool_apply(pool, raise_foo, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 17);
    assert_string_equal(pool_failure()->message, "foo");
}

/* ---- Failures among others */

static char large[MIB];

/* The first fails at once with a large text, the others once it has done so. */
static int raise_large(struct pool_task *task)
{
    if (task->index > 0)
        while (!shared->calls)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    memset(large, 'x', sizeof large - 1);
    shared->calls = 1;
    shared->ended++;
    return pool_fail(task, 5, "%s", large);
}

/* Python: map waits for all its items though the first has failed, so that large errors do not clog the way to a join. */
static void test_map_no_failfast(void **state)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 2});

    (void)state;
    assert_non_null(own);
    assert_int_equal(pool_map(own, raise_large, pool_range(20), NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(shared->ended, 20);
    pool_destroy(own);
}

/* Python: a text of any length. Here: its first thousand bytes. */
static void test_map_no_failfast_cuts_the_text(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, raise_large, pool_range(1), NULL, 0, NULL), POOL_FAILED);
    assert_in_range(strlen(pool_failure()->message), 990, 1000);
}

/* Python: the results of the others are thrown away. Here they are in their places, and those of the failed are as they were. */
static void test_map_no_failfast_keeps_the_others(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 100; i++)
        ys[i] = -1;
    assert_int_equal(pool_map(pool, raise_on_thirds, first(100), ys, sizeof *ys, NULL), POOL_FAILED);
    for (i = 0; i < 100; i++)
        assert_int_equal(ys[i], i % 3 ? i * i : -1);
}

/* Python: the exception is the first that came. Here: that of lowest index. */
static void test_map_no_failfast_tells_the_lowest(void **state)
{
    (void)state;
    assert_int_equal(pool_map(pool, raise_on_thirds, pool_array(xs + 1, 99, sizeof *xs), ys, sizeof *ys, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->index, 0);
    assert_int_equal(pool_map(pool, sqr, first(10), ys, sizeof *ys, NULL), POOL_OK);
    assert_null(pool_failure());
}

/* ---- Nothing is held on to */

/* Python: items and results are not referred to once map has returned. Here: their memory may be gone. */
static void test_release_task_refs(void **state)
{
    size_t size = MIB * 4;
    char *items;
    int round;

    (void)state;
    for (round = 0; round < 3; round++) {
        items = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(items != MAP_FAILED);
        assert_int_equal(pool_map(pool, identity, pool_array(items, 4, MIB), items, MIB, NULL), POOL_OK);
        munmap(items, size);
    }
}

/* Items that are freed as soon as the next is asked for. */
struct stream {
    int   left, alive, most;
    char *item;
    size_t size;
};

static int pull(void *cursor, struct pool_bytes *item)
{
    struct stream *s = cursor;

    free(s->item);
    s->alive -= s->item != NULL;
    s->item = NULL;
    if (!s->left)
        return 0;
    s->left--;
    s->item = malloc(s->size);
    if (!s->item)
        return -1;
    s->most += ++s->alive > s->most;
    memset(s->item, s->left & 0xff, s->size);
    *item = (struct pool_bytes){s->item, s->size};
    return 1;
}

/* Python: a generator's item lives until it was sent. Here: until the next one is pulled, whatever is still on its way. */
static void test_release_task_refs_of_a_generator(void **state)
{
    struct stream stream = {.left = 200, .size = 100};
    struct pool_iter *it = pool_imap(pool, identity, pool_generator(pull, &stream), NULL);
    const struct pool_result *r;
    int i;

    (void)state;
    for (i = 199; i >= 0; i--) {
        r = next_ok(it);
        assert_int_equal(r->size, 100);
        assert_int_equal(((const unsigned char *)r->data)[99], i & 0xff);
    }
    assert_null(pool_next(it));
    pool_iter_free(it);
    assert_int_equal(stream.most, 1);
    assert_int_equal(stream.alive, 0);
}

static long resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*s %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void assert_flat(long before, long kib)
{
    long now = resident();

    if (!check_under("") && now > before + kib)
        fail_msg("the host grew from %ld to %ld KiB", before, now);
}

/* Python: a stream whose consumer is slow piles up in the host. Here: 64 MiB go through without a trace. */
static void test_release_task_refs_in_a_stream(void **state)
{
    struct stream stream = {.left = often(256 + 1024), .size = 64 * 1024};
    struct pool_iter *it = pool_imap(pool, identity, pool_generator(pull, &stream), &(struct pool_call){.window = 8});
    long before = 0;
    int i;

    (void)state;
    for (i = 0; i < often(256 + 1024); i++) {
        if (i == 256)
            before = resident();
        assert_int_equal(next_ok(it)->size, stream.size);
    }
    assert_flat(before, 8 * 1024);
    assert_null(pool_next(it));
    pool_iter_free(it);
}

/* Python: copies of the results are released, too. Here: with their list. */
static void test_release_task_refs_of_results(void **state)
{
    struct pool_results *results;
    char *items = calloc(10, MIB);
    long before = 0;
    int round;

    (void)state;
    assert_non_null(items);
    for (round = 0; round < 8; round++) {
        if (round == 2)
            before = resident();
        results = pool_map_results(pool, identity, pool_array(items, 10, MIB), NULL);
        assert_int_equal(pool_results_status(results), POOL_OK);
        pool_results_free(results);
    }
    assert_flat(before, 30 * 1024);
    free(items);
}

/* ---- A pool and its host */

static struct pool *forgotten;

static void forget(void)
{
    int by = 1;

    forgotten = pool_create(&(struct pool_options){.workers = WORKERS, .initializer = note_birth, .initarg = &by});
    WANT(forgotten != NULL);
    WANT(pool_map(forgotten, sqr, first(10), ys, sizeof *ys, NULL) == POOL_OK);
}

/* Python: a pool that is dropped while it runs is warned of, and its workers end with it. Here: they leave with the host. */
static void test_resource_warning(void **state)
{
    (void)state;
    in_child(forget);
    assert_int_equal(shared->births, WORKERS);
    assert_true(check_until(none_alive, NULL, PATIENCE));
}

static void forget_and_exit(void)
{
    forget();
    exit(0);
}

/* Python: a pool that is still referred to when the interpreter ends does not hang it. Here: nor exit(), with its handlers. */
static void test_worker_finalization_via_atexit_handler_of_multiprocessing(void **state)
{
    (void)state;
    in_child(forget_and_exit);
    assert_true(check_until(none_alive, NULL, PATIENCE));
}

static void pool_in_process(void)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 4});

    WANT(own != NULL);
    WANT(pool_map(own, sqr, first(8), ys, sizeof *ys, NULL) == POOL_OK);
    WANT(ys[7] == 49);
    pool_destroy(own);
}

/* Python: a forked process may have a pool of its own. */
static void test_pool_in_process(void **state)
{
    (void)state;
    in_child(pool_in_process);
}

static int squares_by_another_pool(struct pool_task *task)
{
    struct pool *own = pool_create(&(struct pool_options){.workers = 2});
    int squares[5] = {0};
    enum pool_status status;

    if (!own)
        return pool_fail(task, 1, "%s", pool_error());
    status = pool_map(own, sqr, first(5), squares, sizeof *squares, NULL);
    pool_destroy(own);
    return status ? pool_fail(task, 2, "%s", pool_error()) : pool_return(task, squares, sizeof squares);
}

/* Python: a worker, being a daemon, may have no children: a pool in a pool is an AssertionError. Here it works: a worker's children
 * end with it in any case, so that there is no reason against it. */
static void test_pool_in_pool(void **state)
{
    int squares[3][5], i;

    (void)state;
    if (pool_map(pool, squares_by_another_pool, pool_range(3), squares, sizeof *squares, NULL))
        fail_msg("%s", pool_error());
    for (i = 0; i < 15; i++)
        assert_int_equal(squares[i / 5][i % 5], (i % 5) * (i % 5));
}

static int use_the_pool_that_runs_it(struct pool_task *task)
{
    struct pool *runs_it = *(struct pool *const *)task->common;
    int y;

    if (pool_map(runs_it, sqr, first(1), &y, sizeof y, NULL) != POOL_INVALID)
        return pool_fail(task, 1, "it was not refused");
    return pool_return(task, pool_error(), strlen(pool_error()) + 1);
}

/* Python: the pool itself cannot be pickled to its tasks: NotImplementedError. Here its address can, and it is refused there: a task
 * that waits for its own pool would hold the worker that it waits for. */
static void test_pool_in_pool_inherited(void **state)
{
    const struct pool_call call = {.common = &pool, .common_size = sizeof pool};
    struct pool_results *results = pool_map_results(pool, use_the_pool_that_runs_it, pool_range(1), &call);

    (void)state;
    assert_int_equal(pool_results_status(results), POOL_OK);
    assert_non_null(strstr(pool_results_at(results, 0)->data, "create another pool"));
    pool_results_free(results);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_apply),
        TEST(test_apply_keywords),
        TEST(test_map),
        TEST(test_map_chunks_of_1),
        TEST(test_map_chunks_of_10),
        TEST(test_map_chunks_of_100),
        TEST(test_map_chunks_of_the_pools_choice),
        TEST(test_map_chunks_that_do_not_divide),
        TEST(test_map_chunk_beyond_the_count),
        TEST(test_map_chunksize),
        TEST(test_map_chunksize_of_0),
        TEST(test_starmap),
        TEST(test_starmap_common),
        TEST(test_map_unplicklable),
        TEST(test_unpickleable_result),
        TEST(test_unpickleable_result_costs_no_worker),
        TEST(test_map_handle_iterable_exception),
        TEST(test_map_handle_iterable_exception_again),
        TEST(test_map_handle_iterable_exception_in_the_middle),
        TEST(test_map_handle_iterable_exception_keeps_results),
        TEST(test_map_handle_iterable_exception_with_a_length),
        TEST(test_imap),
        TEST(test_imap_chunksize),
        TEST(test_imap_stop_iteration),
        TEST(test_imap_handle_iterable_exception),
        TEST(test_imap_handle_iterable_exception_again),
        TEST(test_imap_handle_iterable_exception_in_the_middle),
        TEST(test_imap_handle_iterable_exception_in_a_chunk),
        TEST(test_imap_unordered),
        TEST(test_imap_unordered_chunksize),
        TEST(test_imap_unordered_handle_iterable_exception),
        TEST(test_imap_unordered_handle_iterable_exception_again),
        TEST(test_imap_unordered_handle_iterable_exception_in_the_middle),
        TEST(test_imap_unordered_handle_iterable_exception_in_a_chunk),
        TEST(test_make_pool),
        TEST(test_make_pool_of_0),
        TEST(test_make_pool_of_3),
        TEST(test_pool_initializer),
        TEST(test_release_unused_processes),
        TEST(test_release_unused_processes_without_fork),
        TEST(test_large_pool),
        TEST(test_empty_iterable),
        TEST(test_empty_iterable_map),
        TEST(test_empty_iterable_imap),
        TEST(test_empty_iterable_imap_unordered),
        TEST(test_empty_iterable_of_a_generator),
        TEST(test_traceback),
        TEST(test_traceback_is_printed),
        TEST(test_traceback_of_a_source),
        TEST(test_wrapped_exception),
        TEST(test_map_no_failfast),
        TEST(test_map_no_failfast_cuts_the_text),
        TEST(test_map_no_failfast_keeps_the_others),
        TEST(test_map_no_failfast_tells_the_lowest),
        TEST(test_release_task_refs),
        TEST(test_release_task_refs_of_a_generator),
        TEST(test_release_task_refs_in_a_stream),
        TEST(test_release_task_refs_of_results),
        TEST(test_resource_warning),
        TEST(test_worker_finalization_via_atexit_handler_of_multiprocessing),
        TEST(test_pool_in_process),
        TEST(test_pool_in_pool),
        TEST(test_pool_in_pool_inherited),
    };

    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
