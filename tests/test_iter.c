/* When an iterator hands over a result without a turn of the loop: while it has credit, and its consumer has not slowed down. And that it
 * stays news when it can be pulled again, though its consumer has just found nothing. */
#define _GNU_SOURCE
#include "check.h"

#include "iter.c" /* NOLINT(bugprone-suspicious-include) */

#include <poll.h>
#include <unistd.h>

/* Whether it may take, with credit left of so much, when the coarse clock stands as it stood at the last turn (or does not). */
static int takes(unsigned credit, unsigned credit_full, int slow)
{
    for (;;) {
        int64_t ticks = clock_ticks();
        struct pool_iter it = {.credit = credit, .credit_full = credit_full, .ticks = slow ? ticks - 1 : ticks};
        int may = may_take(&it);

        if (!slow && clock_ticks() != ticks)
            continue;                   /* it ticked meanwhile: that says nothing */
        assert_int_equal(it.credit, credit - (unsigned)may);
        return may;
    }
}

static void without_credit_there_is_a_turn_for_each(void **state)
{
    (void)state;
    assert_false(takes(0, 1, 0));
    assert_false(takes(0, CREDIT_MOST, 0));
}

static void a_quick_consumer_uses_up_its_credit(void **state)
{
    (void)state;
    for (unsigned credit = 1; credit <= CREDIT_MOST; credit++)
        assert_true(takes(credit, CREDIT_MOST, 0));
}

static void one_that_slows_down_is_noticed_within_a_few_results(void **state)
{
    (void)state;
    for (unsigned credit = 1; credit <= CREDIT_MOST; credit++)
        assert_int_equal(takes(credit, CREDIT_MOST, 1), credit % LOOKS != 0);
}

/* Its credit is too small for a look in between. */
static void one_that_was_slow_from_the_start_is_noticed_at_once(void **state)
{
    (void)state;
    for (unsigned credit = 1; credit < LOOKS; credit++)
        assert_false(takes(credit, credit, 1));
}

static int never_ends(struct pool_task *task)
{
    (void)task;
    for (;;)
        pause();
    return 0;
}

static int endless(void *unused, struct pool_bytes *item)
{
    (void)unused;
    *item = (struct pool_bytes){NULL, 0};
    return 1;
}

/* The thread that turns the loop tells it between the consumer's turn and its look at what is left. */
static void what_can_be_pulled_again_is_news(void **state)
{
    struct pool_call call = {.window = 1};
    struct pool *pool = pool_create(&(struct pool_options){.workers = 1});
    struct pollfd news = {.fd = pool_fd(pool), .events = POLLIN};
    struct pool_iter *it = pool_imap(pool, never_ends, pool_generator(endless, NULL), &call);
    (void)state;
    assert_null(pool_next_timeout(it, 0));
    assert_int_equal(poll(&news, 1, 0), 0);
    sched_enter(&pool->sched);
    it->job.pull_again = 1;
    sched_leave(&pool->sched);
    update_news(it, 0);
    assert_int_equal(poll(&news, 1, 0), 1);
    assert_null(pool_next_timeout(it, 0));
    assert_int_equal(poll(&news, 1, 0), 0);
    pool_terminate(pool);
    pool_iter_free(it);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_credit_there_is_a_turn_for_each),
        cmocka_unit_test(a_quick_consumer_uses_up_its_credit),
        cmocka_unit_test(one_that_slows_down_is_noticed_within_a_few_results),
        cmocka_unit_test(one_that_was_slow_from_the_start_is_noticed_at_once),
        cmocka_unit_test(what_can_be_pulled_again_is_news),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
