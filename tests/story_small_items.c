/* Small items are claimed several at a time; that must not show. Whatever becomes of one of them, those that its worker holds behind it run
 * once, and nobody has to wait for it.
 *
 * Each map has thousands of the smallest items, and one that is different, at another place each time: so it comes to be anywhere among
 * those that are claimed with it. What the items do is noted in shared memory, and the odd one ends by a condition or gives up. */
#define _GNU_SOURCE
#include "clock.h"
#include "ledger.h"

#include <pthread.h>
#include <signal.h>

enum { ITEMS = 4000, PLACES = 40, FIRST_PLACE = 1500 };

static struct notes {
    _Atomic unsigned char runs[ITEMS];
    _Atomic unsigned ran;
} *notes;

static uint32_t numbers[ITEMS], squares[ITEMS];

static int setup(void **state)
{
    ledger_setup(state);
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(notes != MAP_FAILED);
    for (uint32_t i = 0; i < ITEMS; i++)
        numbers[i] = i + 7;
    return 0;
}

static int teardown(void **state)
{
    munmap(notes, sizeof *notes);
    return ledger_teardown(state);
}

static void begin_anew(size_t odd_one)
{
    ledger_clear(NULL);
    memset(notes, 0, sizeof *notes);
    memset(squares, 0, sizeof squares);
    atomic_store(&ledger->fail, (int)odd_one);
}

/* Nonzero: it is the odd one. */
static int note(const struct pool_task *task)
{
    atomic_fetch_add_explicit(&notes->runs[task->index], 1, memory_order_relaxed);
    return task->index == (size_t)atomic_load_explicit(&ledger->fail, memory_order_relaxed);
}

static int square(struct pool_task *task)
{
    uint32_t x = *(const uint32_t *)task->in, y = x * x;
    return pool_return(task, &y, sizeof y);
}

static void each_ran_once(void)
{
    for (size_t i = 0; i < ITEMS; i++)
        if (notes->runs[i] != 1)
            fail_msg("item %zu ran %u times, with %d for the odd one", i, notes->runs[i], ledger->fail);
}

static void each_other_is_squared(size_t odd_one)
{
    for (size_t i = 0; i < ITEMS; i++)
        if (i != odd_one)
            assert_int_equal(squares[i], numbers[i] * numbers[i]);
}

static enum pool_status map_squares(struct pool *pool, pool_fn *fn, const struct pool_call *call)
{
    return pool_map(pool, fn, pool_array(numbers, ITEMS, sizeof *numbers), squares, sizeof *squares, call);
}

static enum pool_status map_range(struct pool *pool, pool_fn *fn, const struct pool_call *call)
{
    return pool_map(pool, fn, pool_range(ITEMS), NULL, 0, call);
}

/* ---- One that ends when all others have run */

static int all_others_ran(void *context)
{
    (void)context;
    return atomic_load(&notes->ran) == ITEMS - 1;
}

static int wait_for_all_others(struct pool_task *task)
{
    if (!note(task))
        atomic_fetch_add(&notes->ran, 1);
    else if (!check_until(all_others_ran, NULL, PATIENCE))
        return pool_fail(task, 1, "%u others have run", atomic_load(&notes->ran));
    return 0;
}

static int wait_and_square(struct pool_task *task)
{
    int code = wait_for_all_others(task);
    return code ? code : square(task);
}

static void nobody_waits_behind_a_slow_one(unsigned workers)
{
    struct pool *pool = make_pool(workers);
    for (size_t at = FIRST_PLACE; at < FIRST_PLACE + PLACES; at++) {
        begin_anew(at);
        if (map_range(pool, wait_for_all_others, NULL) != POOL_OK)
            fail_msg("%zu: %s", at, pool_error());
        each_ran_once();
        begin_anew(at);
        if (map_squares(pool, wait_and_square, NULL) != POOL_OK)
            fail_msg("%zu: %s", at, pool_error());
        each_ran_once();
        each_other_is_squared(ITEMS);
    }
    pool_destroy(pool);
}

static void nobody_waits_behind_a_slow_one_of_two_workers(void **state)
{
    (void)state;
    nobody_waits_behind_a_slow_one(2);
}

static void nobody_waits_behind_a_slow_one_of_five_workers(void **state)
{
    (void)state;
    nobody_waits_behind_a_slow_one(5);
}

/* ---- One that dies, or fails */

static int die(struct pool_task *task)
{
    if (note(task))
        raise(SIGKILL);
    return square(task);
}

static int be_killed(struct pool_task *task)
{
    if (note(task)) {
        atomic_store(&ledger->pid[0], (int)getpid());
        pause_for_ever();
    }
    return square(task);
}

static int fail_oddly(struct pool_task *task)
{
    return note(task) ? pool_fail(task, 5, "odd") : square(task);
}

static int return_more(struct pool_task *task)
{
    return note(task) ? pool_return(task, "too much", 8) : square(task);
}

/* More than fits a slot of the lane and the stream: the caller has to take it while the item runs. */
static int return_very_much(struct pool_task *task)
{
    enum { VERY_MUCH = 20 << 20 };
    if (!note(task))
        return square(task);
    void *out = pool_out(task, VERY_MUCH);
    return out ? 0 : pool_fail(task, 1, "no memory");
}

static int has_pid(void *context)
{
    (void)context;
    return atomic_load(&ledger->pid[0]) != 0;
}

static void *kill_whoever_is_there(void *arg)
{
    if (check_until(has_pid, NULL, PATIENCE))
        kill(atomic_load(&ledger->pid[0]), SIGKILL);
    return arg;
}

static void costs_itself(pool_fn *fn, enum pool_status status)
{
    for (unsigned workers = 1; workers < 3; workers++) {
        struct pool *pool = make_pool(workers);
        for (size_t at = FIRST_PLACE; at < FIRST_PLACE + PLACES; at++) {
            begin_anew(at);
            assert_int_equal(map_squares(pool, fn, NULL), status);
            assert_int_equal(pool_failure()->index, at);
            each_ran_once();
            each_other_is_squared(at);
        }
        pool_destroy(pool);
    }
}

static void one_that_dies_costs_itself(void **state)
{
    (void)state;
    costs_itself(die, POOL_CRASHED);
}

static void one_that_fails_costs_itself(void **state)
{
    (void)state;
    costs_itself(fail_oddly, POOL_FAILED);
}

static void one_with_a_result_of_another_size_costs_itself(void **state)
{
    (void)state;
    costs_itself(return_more, POOL_FAILED);
}

static void one_with_a_very_large_result_costs_itself(void **state)
{
    (void)state;
    costs_itself(return_very_much, POOL_FAILED);
}

static void one_that_is_killed_costs_itself(void **state)
{
    struct pool *pool = make_pool(2);
    (void)state;
    for (size_t at = FIRST_PLACE; at < FIRST_PLACE + PLACES; at++) {
        pthread_t killer;
        begin_anew(at);
        assert_int_equal(pthread_create(&killer, NULL, kill_whoever_is_there, NULL), 0);
        assert_int_equal(map_squares(pool, be_killed, NULL), POOL_CRASHED);
        pthread_join(killer, NULL);
        assert_int_equal(pool_failure()->index, at);
        each_ran_once();
        each_other_is_squared(at);
    }
    pool_destroy(pool);
}

static void one_that_is_tried_again_is_all_that_is(void **state)
{
    const struct pool_call call = {.retries = 2};
    struct pool *pool = make_pool(2);
    (void)state;
    for (size_t at = FIRST_PLACE; at < FIRST_PLACE + PLACES; at++) {
        begin_anew(at);
        assert_int_equal(map_squares(pool, die, &call), POOL_CRASHED);
        assert_int_equal(pool_failure()->tries, 3);
        assert_int_equal(notes->runs[at], 3);
        atomic_store(&notes->runs[at], 1);
        each_ran_once();
        each_other_is_squared(at);
    }
    pool_destroy(pool);
}

/* ---- One that is in the way */

static int wait_at_the_gate(struct pool_task *task)
{
    if (note(task)) {
        atomic_store(&ledger->pid[0], (int)getpid());
        wait_for_gate();
    }
    return 0;
}

/* Makes it the only worker, or the only one that is to go, then lets it go on. */
static void *resize_around_it(void *arg)
{
    struct pool *pool = arg;
    int found = check_until(has_pid, NULL, PATIENCE);
    pool_resize(pool, 1);
    atomic_store(&ledger->open, 1);
    return found ? NULL : arg;
}

static void a_worker_that_is_to_go_leaves_what_it_held(void **state)
{
    (void)state;
    for (size_t at = FIRST_PLACE; at < FIRST_PLACE + PLACES; at += 5) {
        struct pool *pool = make_pool(2);
        pthread_t other;
        void *failed;
        begin_anew(at);
        assert_int_equal(pthread_create(&other, NULL, resize_around_it, pool), 0);
        assert_int_equal(map_range(pool, wait_at_the_gate, NULL), POOL_OK);
        pthread_join(other, &failed);
        assert_null(failed);
        each_ran_once();
        pool_destroy(pool);
    }
}

/* Cut short while the slow one runs: what is held behind it is as little begun as all the rest. */
static void *terminate_around_it(void *arg)
{
    struct pool *pool = arg;
    if (check_until(has_pid, NULL, PATIENCE))
        pool_terminate(pool);
    return arg;
}

static void what_is_held_is_cancelled_with_the_rest(void **state)
{
    (void)state;
    for (size_t at = FIRST_PLACE; at < FIRST_PLACE + PLACES; at += 5) {
        struct pool *pool = make_pool(1);
        pthread_t other;
        begin_anew(at);
        assert_int_equal(pthread_create(&other, NULL, terminate_around_it, pool), 0);
        assert_int_equal(map_range(pool, wait_at_the_gate, NULL), POOL_CANCELLED);
        pthread_join(other, NULL);
        for (size_t i = 0; i < ITEMS; i++)
            assert_int_equal(notes->runs[i], i <= at);
        pool_destroy(pool);
    }
}

/* ---- Where the host is forbidden to send fences after its pool was made */

#if defined(__x86_64__) && __has_include(<linux/seccomp.h>)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int forbid_fences(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = 4, .filter = steps};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* Gives up soon: those that its worker held before it was told not to stay behind it. */
static int wait_a_moment_for_all_others(struct pool_task *task)
{
    if (!note(task))
        atomic_fetch_add(&notes->ran, 1);
    else
        check_until(all_others_ran, NULL, 0.05);
    return 0;
}

static long sleeps(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_nvcsw;
}

/* 0: all was well. */
static int live_without_fences(void)
{
    struct pool *pool = make_pool(2);
    long before;
    if (forbid_fences())
        return 2;
    before = sleeps();
    for (size_t at = 0; at < 20; at++) {
        begin_anew(at % 2 ? at + 3000 : at + 1000);
        if (map_range(pool, wait_a_moment_for_all_others, NULL) != POOL_OK)
            return 3;
        each_ran_once();
    }
    if (sleeps() - before > 2000)
        return 4;                       /* looked again and again whether they can be had */
    for (size_t at = 0; at < 20; at++) {
        begin_anew(at % 2 ? at + 3000 : at + 1000);
        if (map_range(pool, wait_for_all_others, NULL) != POOL_OK)
            return 5;
        each_ran_once();
    }
    pool_destroy(pool);
    return 0;
}

static void without_fences_they_hold_nothing_any_more(void **state)
{
    int status = 0;
    pid_t child = fork();
    (void)state;
    if (child == 0)
        _exit(live_without_fences());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}
#else
static void without_fences_they_hold_nothing_any_more(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(nobody_waits_behind_a_slow_one_of_two_workers),
        STORY(nobody_waits_behind_a_slow_one_of_five_workers),
        STORY(one_that_dies_costs_itself),
        STORY(one_that_fails_costs_itself),
        STORY(one_with_a_result_of_another_size_costs_itself),
        STORY(one_with_a_very_large_result_costs_itself),
        STORY(one_that_is_killed_costs_itself),
        STORY(one_that_is_tried_again_is_all_that_is),
        STORY(a_worker_that_is_to_go_leaves_what_it_held),
        STORY(what_is_held_is_cancelled_with_the_rest),
        STORY(without_fences_they_hold_nothing_any_more),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
