/* Queues, in one process and between a few. */
#define _GNU_SOURCE
#include "child.h"

#include "clock.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static struct pool_queue *created(size_t capacity)
{
    struct pool_queue *q = pool_queue_create(capacity);

    if (!q)
        fail_msg("no queue: %s", pool_error());
    return q;
}

static void assert_put(struct pool_queue *q, const void *data, size_t size)
{
    if (pool_queue_put(q, data, size, PATIENCE) != POOL_OK)
        fail_msg("not put: %s", pool_error());
}

static void assert_got(struct pool_queue *q, const void *data, size_t size)
{
    struct pool_bytes item;

    if (pool_queue_get(q, &item, PATIENCE) != POOL_OK)
        fail_msg("nothing got: %s", pool_error());
    assert_int_equal(item.size, size);
    assert_non_null(item.data);
    assert_int_equal((uintptr_t)item.data % _Alignof(max_align_t), 0);
    assert_int_equal(memcmp(item.data, data, size), 0);
}

static void assert_no_item(struct pool_queue *q, enum pool_status status)
{
    struct pool_bytes item = {"x", 1};

    assert_int_equal(pool_queue_get(q, &item, 0), status);
    assert_null(item.data);
    assert_int_equal(item.size, 0);
    assert_string_equal(pool_error(), "");
}

static unsigned char *pattern(size_t size, unsigned seed)
{
    unsigned char *data = malloc(size + 1);

    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(seed = seed * 1103515245u + 12345u, seed >> 16);
    return data;
}

/* ---- Items */

static void items_come_out_whole_and_in_order(void **state)
{
    struct pool_queue *q = created(0);

    (void)state;
    assert_put(q, "one", 4);
    assert_put(q, NULL, 0);
    assert_put(q, "three", 6);
    assert_got(q, "one", 4);
    assert_got(q, "", 0);
    assert_got(q, "three", 6);
    assert_no_item(q, POOL_PENDING);
    pool_queue_free(q);
}

static void passes(struct pool_queue *q, size_t size, unsigned seed)
{
    unsigned char *data = pattern(size, seed);

    assert_put(q, "before", 6);
    assert_put(q, data, size);
    assert_got(q, "before", 6);
    assert_got(q, data, size);
    free(data);
}

static void of_any_size(void **state)
{
    const size_t sizes[] = {7, 8, 9, 4095, 4096, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct pool_queue *q = created(i ? 100000 : 0);
        size_t capacity = pool_queue_capacity(q);
        passes(q, 0, 0);
        passes(q, 1, 1);
        for (size_t size = capacity - 1; size <= capacity + 1; size++)
            passes(q, size, i);
        for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++)
            passes(q, sizes[k], k);
        if (i)
            passes(q, 64 << 20, 64);
        pool_queue_free(q);
    }
}

/* More than one write() or read() takes. FORKPOOL_LONG=1, where there is memory for it. */
static void of_gigabytes(void **state)
{
    const size_t size = ((size_t)5 << 29) + 5;
    long pages = sysconf(_SC_AVPHYS_PAGES);

    (void)state;
    if (!getenv("FORKPOOL_LONG") || check_under("") || (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) < 4 * size)
        skip();
    struct pool_queue *q = created(0);
    passes(q, size, 1);
    pool_queue_free(q);
}

static int keep_going(void *queues)
{
    struct pool_queue **q = queues;
    struct pool_bytes item;

    pool_queue_close(q[0]);
    while (pool_queue_get(q[0], &item, -1) == POOL_OK)
        WANT(pool_queue_put(q[1], item.data, item.size, PATIENCE) == POOL_OK);
    return 0;
}

/* Sizes at random around those where something changes, round and round the ring. */
static void of_any_size_in_any_order(void **state)
{
    enum { ITEMS = 3000, AHEAD = 20 };
    struct pool_queue *q[2] = {created(4096), created(1 << 20)};
    unsigned seed = 5;
    size_t sizes[ITEMS];

    (void)state;
    unsigned char *data = pattern(1 << 16, 7);
    struct pool_process *p = pool_process_start(keep_going, q);
    assert_non_null(p);
    for (int i = 0; i < ITEMS + AHEAD; i++) {
        if (i < ITEMS) {
            seed = seed * 1103515245u + 12345u;
            sizes[i] = (seed >> 16) % 10 ? (seed >> 16) % 600 : (seed >> 16) % 40000;
            assert_put(q[0], data + i, sizes[i]);
        }
        if (i >= AHEAD)
            assert_got(q[1], data + i - AHEAD, sizes[i - AHEAD]);
    }
    pool_queue_close(q[0]);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), 0);
    pool_process_free(p);
    pool_queue_close(q[1]);
    assert_no_item(q[1], POOL_CLOSED);
    pool_queue_free(q[0]);
    pool_queue_free(q[1]);
    free(data);
}

/* ---- Room */

static size_t fill(struct pool_queue *q, size_t size)
{
    unsigned char data[100] = {0};
    size_t n = 0;

    while (pool_queue_put(q, data, size, 0) == POOL_OK)
        n++;
    assert_string_equal(pool_error(), "");
    return n;
}

static void as_much_waits_as_was_asked_for(void **state)
{
    (void)state;
    for (size_t capacity = 8; capacity <= 100000; capacity = capacity * 3 + 8) {
        struct pool_queue *q = created(capacity);
        assert_int_equal(pool_queue_capacity(q), capacity);
        assert_int_equal(fill(q, 8), (capacity + 7) / 8);
        assert_got(q, (char[8]){0}, 8);
        assert_int_equal(fill(q, 0), 1);
        assert_int_equal(fill(q, 1), 0);
        pool_queue_free(q);
    }
}

static void the_last_one_may_be_larger_than_what_is_left(void **state)
{
    struct pool_queue *q = created(1000);
    unsigned char *large = pattern(3 << 20, 1);

    (void)state;
    assert_put(q, large, 992);
    assert_int_equal(pool_queue_put(q, large, 3 << 20, 0), POOL_OK);
    assert_int_equal(pool_queue_put(q, large, 3 << 20, 0), POOL_PENDING);
    assert_int_equal(pool_queue_put(q, large, 3 << 20, 0.01), POOL_PENDING);
    assert_int_equal(pool_queue_put(q, "", 1, 0), POOL_PENDING);
    assert_got(q, large, 992);
    assert_int_equal(pool_queue_put(q, "", 1, 0), POOL_PENDING);
    assert_got(q, large, 3 << 20);
    assert_int_equal(pool_queue_put(q, "", 1, 0), POOL_OK);
    pool_queue_free(q);
    free(large);
}

static void a_time_limit_is_not_early(void **state)
{
    struct pool_queue *q = created(8);
    struct pool_bytes item;

    (void)state;
    int64_t begun = clock_now();
    assert_int_equal(pool_queue_get(q, &item, 0.05), POOL_PENDING);
    assert_true(clock_now() - begun >= 50000000);
    assert_put(q, "12345678", 8);
    begun = clock_now();
    assert_int_equal(pool_queue_put(q, "x", 1, 0.05), POOL_PENDING);
    assert_true(clock_now() - begun >= 50000000);
    assert_got(q, "12345678", 8);
    assert_no_item(q, POOL_PENDING);
    pool_queue_free(q);
}

static int get_slowly(void *queue)
{
    struct pool_bytes item;
    int count = 0;

    pool_queue_close(queue);
    while (pool_queue_get(queue, &item, -1) == POOL_OK) {
        WANT(item.size == sizeof count && *(const int *)item.data == count);
        if (++count % 10 == 0)
            poll(NULL, 0, 1);           /* the putter is asleep by then */
    }
    return count == 200 ? 0 : 1;
}

static void a_sleeping_putter_is_woken_by_room(void **state)
{
    struct pool_queue *q = created(40);

    (void)state;
    struct pool_process *p = pool_process_start(get_slowly, q);
    assert_non_null(p);
    for (int i = 0; i < 200; i++)
        assert_put(q, &i, sizeof i);
    pool_queue_close(q);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), 0);
    pool_process_free(p);
    pool_queue_free(q);
}

/* ---- The end */

static void what_is_left_comes_before_the_end(void **state)
{
    struct pool_queue *q = created(0);

    (void)state;
    assert_put(q, "last", 4);
    pool_queue_close(q);
    assert_got(q, "last", 4);
    assert_no_item(q, POOL_CLOSED);
    assert_no_item(q, POOL_CLOSED);
    assert_int_equal(pool_queue_put(q, "x", 1, 0), POOL_CLOSED);
    check_says("closed the queue");
    pool_queue_close(q);
    pool_queue_free(q);
}

static int put_and_wait(void *queue)
{
    WANT(pool_queue_put(queue, "from the child", 15, 0) == POOL_OK);
    for (;;)
        pause();
    return 0;
}

static void it_ends_with_the_last_that_could_put(void **state)
{
    struct pool_queue *q = created(0);

    (void)state;
    struct pool_process *p = pool_process_start(put_and_wait, q);
    assert_non_null(p);
    pool_queue_close(q);
    assert_got(q, "from the child", 15);
    assert_no_item(q, POOL_PENDING);
    pool_process_kill(p);
    struct pool_bytes item;
    assert_int_equal(pool_queue_get(q, &item, PATIENCE), POOL_CLOSED);     /* asleep before or not */
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    pool_process_free(p);
    pool_queue_free(q);
}

static int die_when_told(void *queues)
{
    struct pool_queue **q = queues;
    struct pool_bytes item;

    pool_queue_get(q[1], &item, PATIENCE);
    poll(NULL, 0, 20);                  /* the getter is asleep, or will be: both are to be woken */
    raise(SIGKILL);
    return 0;
}

static void a_sleeping_getter_is_woken_by_the_end(void **state)
{
    struct pool_queue *q[2] = {created(0), created(0)};
    struct pool_bytes item;

    (void)state;
    struct pool_process *p = pool_process_start(die_when_told, q);
    assert_non_null(p);
    pool_queue_close(q[0]);
    assert_put(q[1], "now", 3);
    assert_int_equal(pool_queue_get(q[0], &item, PATIENCE), POOL_CLOSED);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    pool_process_free(p);
    pool_queue_free(q[0]);
    pool_queue_free(q[1]);
}

static int put_all_and_die(void *queue)
{
    unsigned char *large = pattern(3 << 20, 2);

    WANT(pool_queue_put(queue, "small", 5, 0) == POOL_OK);
    WANT(pool_queue_put(queue, large, 3 << 20, 0) == POOL_OK);
    raise(SIGKILL);
    return 0;
}

static void what_was_put_survives_its_putter(void **state)
{
    struct pool_queue *q = created(4 << 20);
    unsigned char *large = pattern(3 << 20, 2);

    (void)state;
    struct pool_process *p = pool_process_start(put_all_and_die, q);
    assert_non_null(p);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), -SIGKILL);
    pool_process_free(p);
    pool_queue_close(q);
    assert_got(q, "small", 5);
    assert_got(q, large, 3 << 20);
    assert_no_item(q, POOL_CLOSED);
    pool_queue_free(q);
    free(large);
}

static void freed_by_its_maker_it_lives_on_in_others(void **state)
{
    struct pool_queue *q[2] = {created(0), created(0)};
    struct pool_queue *back = q[1];

    (void)state;
    struct pool_process *p = pool_process_start(keep_going, q);
    assert_non_null(p);
    assert_put(q[0], "on its way", 10);
    pool_queue_free(q[0]);
    assert_got(back, "on its way", 10);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    assert_int_equal(pool_process_exitcode(p), 0);
    pool_process_free(p);
    pool_queue_free(back);
}

/* ---- With a pool */

static struct pool_queue *common;

static int put_index(struct pool_task *task)
{
    return pool_queue_put(common, &task->index, sizeof task->index, PATIENCE) == POOL_OK ? 0 : pool_fail(task, 1, "%s", pool_error());
}

static void workers_have_it_as_long_as_their_pool_lives(void **state)
{
    enum { ITEMS = 500 };
    struct pool_bytes item;
    char seen[ITEMS] = {0};

    (void)state;
    common = created(0);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    assert_non_null(pool);
    assert_int_equal(pool_map(pool, put_index, pool_range(ITEMS), NULL, 0, NULL), POOL_OK);
    pool_queue_close(common);
    for (int i = 0; i < ITEMS; i++) {
        assert_int_equal(pool_queue_get(common, &item, PATIENCE), POOL_OK);
        seen[*(const size_t *)item.data]++;
    }
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(seen[i], 1);
    assert_no_item(common, POOL_PENDING);
    pool_destroy(pool);
    assert_int_equal(pool_queue_get(common, &item, PATIENCE), POOL_CLOSED);     /* without pidfds the nursery may be about to leave */
    pool_queue_free(common);
}

static void workers_that_closed_their_descriptors_are_told(void **state)
{
    (void)state;
    common = created(0);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1, .close_fds = 1});
    assert_non_null(pool);
    assert_int_equal(pool_apply(pool, put_index, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    check_says("closed the queue's descriptors");
    pool_queue_close(common);
    assert_no_item(common, POOL_CLOSED);
    pool_destroy(pool);
    pool_queue_free(common);
}

/* ---- Event loops */

static int readable(int fd)
{
    struct pollfd watch = {.fd = fd, .events = POLLIN};

    return poll(&watch, 1, 0) == 1 && watch.revents & (POLLIN | POLLHUP);
}

static void readable_while_there_is_something(void **state)
{
    struct pool_queue *q = created(0);

    (void)state;
    assert_put(q, "before it was asked for", 10);
    int fd = pool_queue_fd(q);
    assert_true(fd > 2);
    assert_true(readable(fd));
    assert_got(q, "before it was asked for", 10);
    for (int i = 0; i < 3; i++) {
        assert_false(readable(fd));
        assert_no_item(q, POOL_PENDING);
        assert_put(q, "a", 1);
        assert_put(q, "b", 1);
        assert_true(readable(fd));
        assert_got(q, "a", 1);
        assert_true(readable(fd));
        assert_got(q, "b", 1);
    }
    assert_false(readable(fd));
    pool_queue_close(q);
    assert_true(readable(fd));
    assert_no_item(q, POOL_CLOSED);
    assert_true(readable(fd));
    pool_queue_free(q);
}

static void others_get_and_put_what_is_polled_for(void **state)
{
    struct pool_queue *q[2] = {created(0), created(0)};

    (void)state;
    int fds[2] = {pool_queue_fd(q[0]), pool_queue_fd(q[1])};
    assert_false(readable(fds[0]));
    assert_false(readable(fds[1]));
    struct pool_process *p = pool_process_start(keep_going, q);
    assert_non_null(p);
    for (int i = 0; i < 20; i++) {
        struct pollfd watch = {.fd = fds[1], .events = POLLIN};
        assert_put(q[0], &i, sizeof i);
        assert_int_equal(poll(&watch, 1, (int)(PATIENCE * 1000)), 1);
        assert_got(q[1], &i, sizeof i);
        assert_false(readable(fds[0]));
        assert_false(readable(fds[1]));
    }
    pool_queue_close(q[0]);
    assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
    pool_process_free(p);
    pool_queue_free(q[0]);
    pool_queue_free(q[1]);
}

/* ---- Threads */

enum { THREADS = 4, EACH = 5000 };

static void *put_numbers(void *queue)
{
    for (int i = 0; i < EACH; i++)
        if (pool_queue_put(queue, &i, sizeof i, PATIENCE) != POOL_OK)
            return NULL;
    return queue;
}

/* What it got last has to stay what it was while others get. */
static void *sum_numbers(void *queue)
{
    struct pool_bytes item;
    intptr_t sum = 1;

    for (int i = 0; i < EACH; i++) {
        if (pool_queue_get(queue, &item, PATIENCE) != POOL_OK || item.size != sizeof i)
            return NULL;
        int now = *(const volatile int *)item.data;
        sched_yield();
        if (now != *(const volatile int *)item.data)
            return NULL;
        sum += now;
    }
    return (void *)sum;
}

static void threads_share_a_handle(void **state)
{
    struct pool_queue *q = created(2000);
    pthread_t threads[2 * THREADS];
    intptr_t sum = 0;
    void *result;

    (void)state;
    for (int i = 0; i < 2 * THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i % 2 ? sum_numbers : put_numbers, q), 0);
    for (int i = 0; i < 2 * THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
        if (i % 2)
            sum += (intptr_t)result - 1;
    }
    assert_int_equal(sum, (intptr_t)THREADS * EACH * (EACH - 1) / 2);
    pool_queue_free(q);
}

/* ---- Bad input, and too little of something */

static void bad_input_is_refused_in_words(void **state)
{
    struct pool_queue *q = created(0);
    struct pool_bytes item = {"x", 1};

    (void)state;
    assert_int_equal(pool_queue_put(NULL, "x", 1, 0), POOL_INVALID);
    check_says("NULL");
    assert_int_equal(pool_queue_put(q, NULL, 1, 0), POOL_INVALID);
    check_says("NULL");
    assert_int_equal(pool_queue_put(q, "x", 1, (double)NAN), POOL_INVALID);
    check_says("not a number");
    assert_int_equal(pool_queue_get(NULL, &item, 0), POOL_INVALID);
    check_says("NULL");
    assert_null(item.data);
    assert_int_equal(pool_queue_get(q, NULL, 0), POOL_INVALID);
    check_says("NULL");
    assert_int_equal(pool_queue_get(q, &item, (double)NAN), POOL_INVALID);
    check_says("not a number");
    errno = 0;
    assert_int_equal(pool_queue_fd(NULL), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(pool_queue_capacity(NULL), 0);
    pool_queue_close(NULL);
    pool_queue_free(NULL);
    assert_no_item(q, POOL_PENDING);
    pool_queue_free(q);
}

static void a_capacity_beyond_the_systems_is_cut_and_told(void **state)
{
    (void)state;
    struct pool_queue *q = created(SIZE_MAX);
    check_says("the system allows no more");
    assert_true(pool_queue_capacity(q) >= 1 << 20);
    assert_true(pool_queue_capacity(q) < SIZE_MAX);
    assert_put(q, "x", 1);
    assert_string_equal(pool_error(), "");
    assert_got(q, "x", 1);
    pool_queue_free(q);
    q = created(1 << 20);
    assert_string_equal(pool_error(), "");
    pool_queue_free(q);
}

static void a_limit_of_this_process_cuts_it_too_there(void)
{
    struct rlimit limit = {.rlim_cur = 200 << 20, .rlim_max = 200 << 20};
    struct pool_bytes item;

    setrlimit(RLIMIT_AS, &limit);
    struct pool_queue *q = pool_queue_create((size_t)400 << 20);
    WANT(q && strstr(pool_error(), "allows no more") != NULL);
    WANT(pool_queue_capacity(q) < 200 << 20);
    WANT(pool_queue_put(q, "x", 1, 0) == POOL_OK && pool_queue_get(q, &item, 0) == POOL_OK);
    unsigned char *large = malloc(60 << 20);
    WANT(large && pool_queue_put(q, memset(large, 1, 60 << 20), 60 << 20, 0) == POOL_OK);
    void *most[64] = {NULL};
    for (int i = 0; i < 64; i++)
        most[i] = malloc(10 << 20);
    WANT(pool_queue_get(q, &item, 0) == POOL_NO_MEMORY && *pool_error());
    for (int i = 0; i < 64; i++)
        free(most[i]);
    free(large);
    WANT(pool_queue_get(q, &item, 0) == POOL_OK && item.size == 60 << 20);      /* it was not lost */
}

static void a_limit_of_this_process_cuts_it_too(void **state)
{
    (void)state;
    if (check_under(""))
        skip();                         /* tools have more than that mapped */
    in_child(a_limit_of_this_process_cuts_it_too_there);
}

/* None may be left over for the item's memory: then it stays where it is. */
static void no_descriptors_there(void)
{
    struct pool_queue *q = pool_queue_create(0);
    struct pool_bytes item;
    unsigned char *large = pattern(3 << 20, 3);

    WANT(q && pool_queue_put(q, large, 3 << 20, 0) == POOL_OK);
    int last = open("/dev/null", O_RDONLY);
    struct rlimit limit = {.rlim_cur = (rlim_t)last + 1, .rlim_max = (rlim_t)last + 1};
    setrlimit(RLIMIT_NOFILE, &limit);
    errno = 0;
    WANT(!pool_queue_create(0) && errno == EMFILE && *pool_error());
    WANT(pool_queue_put(q, large, 3 << 20, 0) == POOL_PENDING);
    WANT(pool_queue_get(q, &item, 0) == POOL_NO_MEMORY && *pool_error());
    close(last);
    WANT(pool_queue_get(q, &item, 0) == POOL_OK && item.size == 3 << 20 && memcmp(item.data, large, item.size) == 0);
    WANT(pool_queue_put(q, large, 3 << 20, 0) == POOL_OK);
    WANT(pool_queue_get(q, &item, 0) == POOL_OK && item.size == 3 << 20);
    WANT(open("/dev/null", O_RDONLY) == last);
}

static void without_descriptors_nothing_is_lost(void **state)
{
    (void)state;
    if (check_under("valgrind"))
        skip();                         /* it has descriptors of its own */
    in_child(no_descriptors_there);
}

static void a_limit_of_file_sizes_is_no_signal_there(void)
{
    struct pool_queue *q = pool_queue_create(64 << 10);
    struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    unsigned char *large = pattern((1 << 20) + 1, 3);
    struct pool_bytes item;

    WANT(q && signal(SIGXFSZ, SIG_DFL) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    WANT(pool_queue_put(q, large, (1 << 20) + 1, 0) == POOL_NO_MEMORY && strstr(pool_error(), "cannot put the item"));
    WANT(pool_queue_put(q, large, 1 << 20, 0) == POOL_OK);
    WANT(pool_queue_get(q, &item, 0) == POOL_OK && item.size == 1 << 20 && memcmp(item.data, large, item.size) == 0);
    free(large);
    pool_queue_free(q);
}

static void a_limit_of_file_sizes_is_no_signal(void **state)
{
    (void)state;
    in_child(a_limit_of_file_sizes_is_no_signal_there);
}

/* More than the kernel takes into a socket. */
static void many_large_items_wait_for_room_too(void **state)
{
    enum { MANY = 600 };
    const size_t size = (1 << 20) + 1;
    struct pool_queue *q = created(MANY * size);
    unsigned char *large = pattern(size, 5);
    int put = 0;

    (void)state;
    while (put < MANY && pool_queue_put(q, large, size, 0) == POOL_OK)
        put++;
    assert_in_range(put, 100, MANY - 1);
    for (int i = 0; i < 3; i++) {
        assert_got(q, large, size);
        assert_int_equal(pool_queue_put(q, large, size, 0.01), POOL_OK);
        assert_int_equal(pool_queue_put(q, large, size, 0.01), POOL_PENDING);
    }
    for (int i = 0; i < put; i++)
        assert_got(q, large, size);
    assert_no_item(q, POOL_PENDING);
    pool_queue_free(q);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_of_this_process_cuts_it_too),          /* first: threads map much */
        cmocka_unit_test(items_come_out_whole_and_in_order),
        cmocka_unit_test(of_any_size),
        cmocka_unit_test(of_gigabytes),
        cmocka_unit_test(of_any_size_in_any_order),
        cmocka_unit_test(as_much_waits_as_was_asked_for),
        cmocka_unit_test(the_last_one_may_be_larger_than_what_is_left),
        cmocka_unit_test(a_time_limit_is_not_early),
        cmocka_unit_test(a_sleeping_putter_is_woken_by_room),
        cmocka_unit_test(what_is_left_comes_before_the_end),
        cmocka_unit_test(it_ends_with_the_last_that_could_put),
        cmocka_unit_test(a_sleeping_getter_is_woken_by_the_end),
        cmocka_unit_test(what_was_put_survives_its_putter),
        cmocka_unit_test(freed_by_its_maker_it_lives_on_in_others),
        cmocka_unit_test(workers_have_it_as_long_as_their_pool_lives),
        cmocka_unit_test(workers_that_closed_their_descriptors_are_told),
        cmocka_unit_test(readable_while_there_is_something),
        cmocka_unit_test(others_get_and_put_what_is_polled_for),
        cmocka_unit_test(threads_share_a_handle),
        cmocka_unit_test(bad_input_is_refused_in_words),
        cmocka_unit_test(a_capacity_beyond_the_systems_is_cut_and_told),
        cmocka_unit_test(without_descriptors_nothing_is_lost),
        cmocka_unit_test(a_limit_of_file_sizes_is_no_signal),
        cmocka_unit_test(many_large_items_wait_for_room_too),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
