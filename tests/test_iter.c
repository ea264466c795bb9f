/* When an iterator hands over a result without a turn of the loop: while it has credit, and its consumer has not slowed down. */
#define _GNU_SOURCE
#include "check.h"

#include "iter.c" /* NOLINT(bugprone-suspicious-include) */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_credit_there_is_a_turn_for_each),
        cmocka_unit_test(a_quick_consumer_uses_up_its_credit),
        cmocka_unit_test(one_that_slows_down_is_noticed_within_a_few_results),
        cmocka_unit_test(one_that_was_slow_from_the_start_is_noticed_at_once),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
