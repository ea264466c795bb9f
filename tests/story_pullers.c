/* A generator may wait for what its earlier items do, however fast they came: each is at a worker before the next is asked for, and, unless
 * they come in less than 5 us each, at an idle one where there is one.
 *
 * It is pulled on when the last worker has died and been replaced, though its caller is asleep, or elsewhere, meanwhile: with nothing
 * under way, nothing else would tell it that there is a worker again. The first two items kill their worker, the only one. Whether another
 * thread turns the loop is read from the pool itself. */
#define _GNU_SOURCE
#include "check.h"

#include "clock.h"
#include "pool.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum { ITEMS = 5 };
#define PATIENCE 30.0

static struct pool *pool;
static int calls;                   /* of the generator */

static int make(void **state)
{
    (void)state;
    calls = 0;
    pool = pool_create(&(struct pool_options){.workers = 1});
    return pool ? 0 : -1;
}

static int two_die(struct pool_task *task)
{
    if (task->index <= 1)
        raise(SIGKILL);
    return 0;
}

static int somebody_turns(void *unused)
{
    (void)unused;
    sched_enter(&pool->sched);
    int turns = pool->sched.turning;
    sched_leave(&pool->sched);
    return turns;
}

static int next(void *unused, struct pool_bytes *item)
{
    (void)unused;
    *item = (struct pool_bytes){"", 0};
    return calls++ < ITEMS;
}

/* Its first item comes when another thread turns the loop. */
static int next_beside(void *unused, struct pool_bytes *item)
{
    if (!calls)
        check_until(somebody_turns, NULL, PATIENCE);
    return next(unused, item);
}

static void *map(void *status)
{
    *(enum pool_status *)status = pool_map(pool, two_die, pool_generator(next_beside, NULL), NULL, 0, NULL);
    return NULL;
}

static int has_begun(void *unused)
{
    (void)unused;
    sched_enter(&pool->sched);
    int begun = !link_is_empty(&pool->sched.jobs);
    sched_leave(&pool->sched);
    return begun;
}

static void a_map_that_sleeps_goes_on_at_the_replacement(void **state)
{
    enum pool_status status = POOL_PENDING;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, map, &status), 0);
    assert_true(check_until(has_begun, NULL, PATIENCE));
    pool_close(pool);
    assert_int_equal(pool_join(pool, PATIENCE), POOL_OK);
    pthread_join(thread, NULL);
    assert_int_equal(status, POOL_CRASHED);
    assert_int_equal(calls, ITEMS + 1);
    pool_destroy(pool);
}

static void an_iterator_driven_by_the_descriptor_goes_on_at_the_replacement(void **state)
{
    struct pollfd watch = {.fd = pool_fd(pool), .events = POLLIN};
    struct pool_iter *iter = pool_imap(pool, two_die, pool_generator(next, NULL), NULL);
    size_t count = 0;

    (void)state;
    assert_non_null(iter);
    while (pool_iter_status(iter) == POOL_PENDING) {
        assert_int_equal(poll(&watch, 1, (int)(PATIENCE * 1000)), 1);
        while (pool_next_timeout(iter, 0))
            count++;
    }
    assert_int_equal(count, ITEMS);
    pool_iter_free(iter);
    pool_destroy(pool);
}

/* ---- Waiting for its own items */

static _Atomic size_t *done;        /* items that ran */

static int make_some(unsigned workers)
{
    done = mmap(NULL, sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pool = pool_create(&(struct pool_options){.workers = workers});
    return pool && done != MAP_FAILED ? 0 : -1;
}

static int make_one(void **state)
{
    (void)state;
    return make_some(1);
}

static int make_two(void **state)
{
    (void)state;
    return make_some(2);
}

static int end_some(void **state)
{
    (void)state;
    pool_destroy(pool);
    munmap(done, sizeof *done);
    return 0;
}

/* Without results: nobody takes them while the generator waits, and when their room is full the worker waits, too. */
static int count_one(struct pool_task *task)
{
    (void)task;
    atomic_fetch_add(done, 1);
    return 0;
}

/* Gives its items in bursts, and waits after each until all of them have run. */
struct bursts { size_t made, length, bursts, size; int late; };

static int all_ran(void *made)
{
    return atomic_load(done) == *(size_t *)made;
}

static int next_of_burst(void *cursor, struct pool_bytes *item)
{
    static const char bytes[100];
    struct bursts *b = cursor;
    if (b->made % b->length == 0 && !check_until(all_ran, &b->made, PATIENCE))
        b->late = 1;
    *item = (struct pool_bytes){bytes, b->size + (b->size > 1 && b->made % 10 == 9)};
    return !b->late && b->made++ < b->length * b->bursts;
}

static void bursts_are_run(size_t length, size_t size, int how)
{
    struct bursts b = {.length = length, .bursts = length < 10 ? 50 : 8, .size = size};
    struct pool_call call = {.window = length};
    size_t count = 0;
    atomic_store(done, 0);
    if (how == 2) {
        assert_int_equal(pool_map(pool, count_one, pool_generator(next_of_burst, &b), NULL, 0, NULL), POOL_OK);
    } else {
        struct pool_iter *iter = (how ? pool_imap : pool_imap_unordered)(pool, count_one, pool_generator(next_of_burst, &b), &call);
        for (const struct pool_result *r; (r = pool_next(iter)); count++)
            assert_int_equal(r->status, POOL_OK);
        pool_iter_free(iter);
        assert_true(b.late || count == length * b.bursts);
    }
    if (b.late)
        fail_msg("%zu items of %zu bytes in bursts of %zu had not run when their generator gave up waiting: %zu had (%d)", b.made, size,
                 length, atomic_load(done), how);
    assert_int_equal(atomic_load(done), length * b.bursts);
}

static void a_generator_may_wait_for_what_its_items_do(void **state)
{
    (void)state;
    const size_t lengths[] = {1, 2, 3, 10, 63, 64, 65, 129, 1000};
    const size_t sizes[] = {0, 1, 8, 90};
    for (unsigned i = 0; i < 9 * 4 * 3; i++)
        bursts_are_run(lengths[i % 9], sizes[i / 9 % 4], (int)(i / 36));
}

/* More than a worker is given at first: the rest is pulled when those have ended, of which the host hears while it spins, most often. */
enum { MAPS = 300, MAPPED = 3 };

static int next_mapped(void *pulled, struct pool_bytes *item)
{
    *item = (struct pool_bytes){"", 0};
    return ++*(int *)pulled <= MAPPED;
}

static void *map_many(void *over)
{
    int good = 0;
    for (int i = 0, pulled = 0; i < MAPS; i++, pulled = 0)
        good += pool_map(pool, count_one, pool_generator(next_mapped, &pulled), NULL, 0, NULL) == POOL_OK;
    atomic_store((_Atomic int *)over, good);
    return NULL;
}

static int is_set(void *over)
{
    return atomic_load((_Atomic int *)over) >= 0;
}

static void a_map_pulls_on_when_its_first_items_have_ended(void **state)
{
    static _Atomic int over = -1;
    pthread_t thread;
    (void)state;
    atomic_store(done, 0);
    assert_int_equal(pthread_create(&thread, NULL, map_many, &over), 0);
    if (!check_until(is_set, &over, PATIENCE))
        fail_msg("a map stands still after %zu items of %d", atomic_load(done), MAPS * MAPPED);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&over), MAPS);
    assert_int_equal(atomic_load(done), MAPS * MAPPED);
}

/* The first item waits for the second. */
static int wait_for_the_second(struct pool_task *task)
{
    size_t two = 2;
    if (task->index == 0 && !check_until(all_ran, &(size_t){1}, PATIENCE))
        return 1;
    atomic_fetch_add(done, 1);
    return task->index || all_ran(&two) ? 0 : 2;
}

static void an_item_goes_to_an_idle_worker_though_another_would_take_it(void **state)
{
    (void)state;
    struct bursts b = {.length = 2, .bursts = 1};
    assert_int_equal(pool_map(pool, wait_for_the_second, pool_generator(next_of_burst, &b), NULL, 0, NULL), POOL_OK);
    assert_false(b.late);
}

/* For any object of its size, as malloc's memory is, though items of one size may lie one behind the other. */
static int is_aligned(struct pool_task *task)
{
    size_t wanted = 1;
    while (wanted < _Alignof(max_align_t) && 2 * wanted <= task->in_size)
        wanted *= 2;
    return (uintptr_t)task->in % wanted != 0;
}

struct alike { size_t left, size; };

static int next_alike(void *cursor, struct pool_bytes *item)
{
    static const char bytes[100];
    struct alike *a = cursor;
    *item = (struct pool_bytes){bytes, a->size};
    return a->left && a->left--;
}

static void items_are_aligned(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 100; size++) {
        struct alike a = {100, size};
        assert_int_equal(pool_map(pool, is_aligned, pool_generator(next_alike, &a), NULL, 0, NULL), POOL_OK);
    }
}

/* ---- Behind a slow one */

/* One of two items runs until the third has. The generator gives that when the other one is through, and waits for it. Some come before,
 * each when a worker is through, and slowly enough to be worth the care. */
static struct { size_t made, before; int late; } slow;

static void take_ten_microseconds(void)
{
    int64_t until = clock_now() + 10000;
    while (clock_now() < until)
        ;
}

static int third_ran(void *unused)
{
    (void)unused;
    return atomic_load(done) == 1;
}

static int wait_for_the_third(struct pool_task *task)
{
    if (task->index == *(const size_t *)task->common)
        return !check_until(third_ran, NULL, 2 * PATIENCE);
    if (task->index == slow.before + 2)
        atomic_store(done, 1);
    return 0;
}

static int one_is_through(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < pool->sched.crew.hands_count; i++)
        if (books_are_dry(&pool->sched.crew.hands[i]->books))
            return 1;
    return 0;
}

static int next_behind(void *unused, struct pool_bytes *item)
{
    (void)unused;
    if ((slow.made < slow.before || slow.made == slow.before + 2) && !check_until(one_is_through, NULL, PATIENCE))
        slow.late = 1;
    if (slow.made < slow.before)
        take_ten_microseconds();
    if (slow.made == slow.before + 3) {
        slow.late |= !check_until(third_ran, NULL, PATIENCE);
        return 0;
    }
    slow.made++;
    *item = (struct pool_bytes){"", 1};
    return 1;
}

static void none_is_put_behind(size_t before, size_t which, int how)
{
    size_t index = before + which;
    struct pool_call call = {.common = &index, .common_size = sizeof index};
    atomic_store(done, 0);
    slow.made = 0;
    slow.late = 0;
    if (how == 2) {
        assert_int_equal(pool_map(pool, wait_for_the_third, pool_generator(next_behind, NULL), NULL, 0, &call), POOL_OK);
    } else {
        struct pool_items items = pool_generator(next_behind, NULL);
        struct pool_iter *iter = (how ? pool_imap : pool_imap_unordered)(pool, wait_for_the_third, items, &call);
        for (const struct pool_result *r; (r = pool_next(iter));)
            assert_int_equal(r->status, POOL_OK);
        pool_iter_free(iter);
    }
    assert_false(slow.late);
}

/* Though nothing has been taken of the worker that is through, so that the books count it as busy. */
static void an_item_goes_to_one_that_is_through_and_not_behind_a_slow_one(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * 3 * 5; i++)
        none_is_put_behind(0, (size_t)(i % 2), i / 2 % 3);
}

/* How long the generator takes is seen again and again. */
static int make_two_after_many(void **state)
{
    slow.before = 200;                  /* known before the fork: the workers read it */
    return make_two(state);
}

static int end_two_after_many(void **state)
{
    slow.before = 0;
    return end_some(state);
}

static void it_does_after_many_others(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * 3; i++)
        none_is_put_behind(slow.before, (size_t)(i % 2), i / 2 % 3);
}

/* ---- Beside a birth */

static _Atomic size_t *births;

static int stays_in_its_initializer(struct pool_worker *worker)
{
    (void)worker;
    if (atomic_fetch_add(births, 1) >= 3)
        check_until(third_ran, NULL, 2 * PATIENCE);
    return 0;
}

static int make_three(void **state)
{
    (void)state;
    done = mmap(NULL, 2 * sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    births = done + 1;
    pool = done == MAP_FAILED ? NULL : pool_create(&(struct pool_options){.workers = 3, .initializer = stays_in_its_initializer});
    return pool ? 0 : -1;
}

static int a_fourth_is_born(void *unused)
{
    (void)unused;
    return atomic_load(births) > 3;
}

static int dies(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

/* The first item runs until the second has; the pool's third worker is being born, and does not count as one that is busy. */
static int wait_for_the_next(struct pool_task *task)
{
    if (task->index == 0)
        return !check_until(third_ran, NULL, 2 * PATIENCE);
    atomic_store(done, 1);
    return 0;
}

static int next_beside_a_birth(void *unused, struct pool_bytes *item)
{
    (void)unused;
    if (slow.made == 0 && !check_until(a_fourth_is_born, NULL, PATIENCE))
        slow.late = 1;
    if (slow.made == 2) {
        slow.late |= !check_until(third_ran, NULL, PATIENCE);
        return 0;
    }
    slow.made++;
    *item = (struct pool_bytes){"", 1};
    return 1;
}

static void an_item_goes_to_an_idle_worker_beside_a_birth(void **state)
{
    (void)state;
    slow.made = 0;
    slow.late = 0;
    assert_int_equal(pool_apply(pool, dies, NULL, 0, NULL, 0, NULL), POOL_CRASHED);
    assert_int_equal(pool_map(pool, wait_for_the_next, pool_generator(next_beside_a_birth, NULL), NULL, 0, NULL), POOL_OK);
    assert_false(slow.late);
}

/* ---- Ends */

static int never_ends(struct pool_task *task)
{
    (void)task;
    atomic_fetch_add(done, 1);
    for (;;)
        pause();
    return 0;
}

/* Fails when its two items run. */
static int two_then_failure(void *made, struct pool_bytes *item)
{
    size_t *count = made;
    if (*count == 2)
        return check_until(all_ran, count, PATIENCE) ? -7 : -8;
    ++*count;
    *item = (struct pool_bytes){NULL, 0};
    return 1;
}

static void its_failure_kills_what_runs(struct pool_iter *(*imap)(struct pool *, pool_fn *, struct pool_items, const struct pool_call *))
{
    struct pool_call call = {.fail_fast = 1};
    size_t made = 0;
    struct pool_iter *iter = imap(pool, never_ends, pool_generator(two_then_failure, &made), &call);
    const struct pool_result *r;
    while ((r = pool_next_timeout(iter, PATIENCE)))
        if (r->status == POOL_SOURCE_FAILED)
            assert_int_equal(r->code, -7);
    assert_int_equal(pool_iter_status(iter), POOL_SOURCE_FAILED);
    pool_iter_free(iter);
}

static void with_fail_fast_its_failure_kills_what_runs_in_order(void **state)
{
    (void)state;
    its_failure_kills_what_runs(pool_imap);
}

static void with_fail_fast_its_failure_kills_what_runs_out_of_order(void **state)
{
    (void)state;
    its_failure_kills_what_runs(pool_imap_unordered);
}

static void with_fail_fast_its_failure_kills_what_runs_of_a_map(void **state)
{
    struct pool_call call = {.fail_fast = 1};
    size_t made = 0;
    (void)state;
    assert_int_equal(pool_map(pool, never_ends, pool_generator(two_then_failure, &made), NULL, 0, &call), POOL_SOURCE_FAILED);
    assert_int_equal(pool_failure()->code, -7);
}

struct freeing { struct pool_iter *iter; int tries; };

/* From the second pull on, which is pool_next's. */
static int frees_its_iterator(void *cursor, struct pool_bytes *item)
{
    struct freeing *s = cursor;
    if (s->iter) {
        pool_iter_free(s->iter);
        s->tries += pool_error()[0] != '\0';
    }
    *item = (struct pool_bytes){NULL, 0};
    return s->tries < 3;
}

static void it_must_not_free_its_own_iterator(void **state)
{
    struct freeing s = {NULL, 0};
    struct pool_call call = {.window = 2};
    (void)state;
    atomic_store(done, 0);
    s.iter = pool_imap(pool, count_one, pool_generator(frees_its_iterator, &s), &call);
    assert_non_null(s.iter);
    while (pool_next_timeout(s.iter, PATIENCE))
        ;
    assert_int_equal(pool_iter_status(s.iter), POOL_OK);
    assert_int_equal(s.tries, 3);
    pool_iter_free(s.iter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_map_that_sleeps_goes_on_at_the_replacement, make),
        cmocka_unit_test_setup(an_iterator_driven_by_the_descriptor_goes_on_at_the_replacement, make),
        cmocka_unit_test_setup_teardown(a_generator_may_wait_for_what_its_items_do, make_two, end_some),
        cmocka_unit_test_setup_teardown(a_map_pulls_on_when_its_first_items_have_ended, make_one, end_some),
        cmocka_unit_test_setup_teardown(an_item_goes_to_an_idle_worker_though_another_would_take_it, make_two, end_some),
        cmocka_unit_test_setup_teardown(items_are_aligned, make_two, end_some),
        cmocka_unit_test_setup_teardown(an_item_goes_to_one_that_is_through_and_not_behind_a_slow_one, make_two, end_some),
        cmocka_unit_test_setup_teardown(it_does_after_many_others, make_two_after_many, end_two_after_many),
        cmocka_unit_test_setup_teardown(an_item_goes_to_an_idle_worker_beside_a_birth, make_three, end_some),
        cmocka_unit_test_setup_teardown(with_fail_fast_its_failure_kills_what_runs_in_order, make_two, end_some),
        cmocka_unit_test_setup_teardown(with_fail_fast_its_failure_kills_what_runs_out_of_order, make_two, end_some),
        cmocka_unit_test_setup_teardown(with_fail_fast_its_failure_kills_what_runs_of_a_map, make_two, end_some),
        cmocka_unit_test_setup_teardown(it_must_not_free_its_own_iterator, make_two, end_some),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
