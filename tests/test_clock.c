/* Deadlines: never early, never overflowing. */
#define _GNU_SOURCE
#include "check.h"
#include "clock.h"

#include <limits.h>
#include <math.h>
#include <poll.h>

#define SECOND INT64_C(1000000000)

/* Is it what clock_deadline made of `seconds` between `before` and now? */
static int between(int64_t deadline, int64_t before, int64_t duration)
{
    return deadline >= before + duration && deadline <= clock_now() + duration;
}

static void now_does_not_go_back(void **state)
{
    int64_t last = clock_now(), now;
    int i;

    (void)state;
    assert_true(last > 0);
    for (i = 0; i < 10000; i++, last = now) {
        now = clock_now();
        assert_true(now >= last);
    }
}

static void now_goes_on(void **state)
{
    int64_t start = clock_now();

    (void)state;
    poll(NULL, 0, 3);
    assert_true(clock_now() >= start + 2 * SECOND / 1000);
    assert_true(clock_now() < start + 60 * SECOND);             /* nanoseconds, not something smaller */
}

static void a_deadline_lies_that_far_ahead(void **state)
{
    int64_t before = clock_now();

    (void)state;
    assert_true(between(clock_deadline(1.5), before, 3 * SECOND / 2));
    assert_true(between(clock_deadline(86400), before, 86400 * SECOND));
}

static void zero_is_now(void **state)
{
    int64_t before = clock_now();

    (void)state;
    assert_true(between(clock_deadline(0.0), before, 0));
    assert_true(between(clock_deadline(-0.0), before, 0));
}

static void nan_is_now(void **state)
{
    int64_t before = clock_now();

    (void)state;
    assert_true(between(clock_deadline((double)NAN), before, 0));
    assert_true(between(clock_deadline(-(double)NAN), before, 0));
}

static void a_moment_too_short_to_count_is_now(void **state)
{
    int64_t before = clock_now();

    (void)state;
    assert_true(between(clock_deadline(1e-300), before, 0));
}

static void negative_is_never(void **state)
{
    (void)state;
    assert_true(clock_deadline(-1) == CLOCK_NEVER);
    assert_true(clock_deadline(-1e-300) == CLOCK_NEVER);
}

static void infinite_is_never(void **state)
{
    (void)state;
    assert_true(clock_deadline((double)INFINITY) == CLOCK_NEVER);
    assert_true(clock_deadline(-(double)INFINITY) == CLOCK_NEVER);
}

static void beyond_the_scale_is_never(void **state)
{
    (void)state;
    assert_true(clock_deadline(1e300) == CLOCK_NEVER);
    assert_true(clock_deadline(1e18) == CLOCK_NEVER);
    assert_true(clock_deadline(9223372036.854775807) == CLOCK_NEVER);
}

static void near_the_end_of_the_scale_nothing_overflows(void **state)
{
    double seconds;

    (void)state;
    for (seconds = 9223300000.0; seconds < 9223400000.0; seconds += 17.77)
        assert_true(clock_deadline(seconds) >= clock_now());
}

static void poll_waits_for_ever_for_never(void **state)
{
    (void)state;
    assert_int_equal(clock_poll_ms(CLOCK_NEVER), -1);
}

static void poll_does_not_wait_for_what_has_passed(void **state)
{
    (void)state;
    assert_int_equal(clock_poll_ms(0), 0);
    assert_int_equal(clock_poll_ms(INT64_MIN), 0);
    assert_int_equal(clock_poll_ms(clock_now()), 0);
}

static void what_is_left_is_exact(void **state)
{
    struct timespec left = {-1, -1};

    (void)state;
    assert_null(clock_left(CLOCK_NEVER, &left));
    assert_ptr_equal(clock_left(clock_now(), &left), &left);
    assert_true(left.tv_sec == 0 && left.tv_nsec == 0);
    clock_left(0, &left);
    assert_true(left.tv_sec == 0 && left.tv_nsec == 0);
    clock_left(clock_now() + 3600 * SECOND + SECOND / 2, &left);
    assert_in_range(left.tv_sec, 3600 - 60, 3600);
    assert_in_range(left.tv_nsec, 0, SECOND - 1);
}

static void poll_takes_milliseconds(void **state)
{
    int ms = clock_poll_ms(clock_now() + 3600 * SECOND);

    (void)state;
    assert_in_range(ms, 3600000 - 60000, 3600000);
}

static void poll_rounds_up(void **state)
{
    int i, ms, one = 0;

    (void)state;
    for (i = 0; i < 1000; i++) {
        ms = clock_poll_ms(clock_now() + SECOND / 2000);        /* half a millisecond, unless we are held up */
        assert_in_range(ms, 0, 1);
        one |= ms;
    }
    assert_int_equal(one, 1);
}

static void poll_is_never_early(void **state)
{
    int64_t deadline;
    int i;

    (void)state;
    for (i = 1; i <= 10; i++) {
        deadline = clock_now() + i * SECOND / 3000;
        poll(NULL, 0, clock_poll_ms(deadline));
        assert_true(clock_now() >= deadline);
    }
}

static void poll_of_a_far_deadline_fits_an_int(void **state)
{
    (void)state;
    assert_int_equal(clock_poll_ms(CLOCK_NEVER - 1), INT_MAX);
    assert_int_equal(clock_poll_ms(clock_now() + INT64_C(1000000) * INT_MAX + SECOND), INT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(now_does_not_go_back),
        cmocka_unit_test(now_goes_on),
        cmocka_unit_test(a_deadline_lies_that_far_ahead),
        cmocka_unit_test(zero_is_now),
        cmocka_unit_test(nan_is_now),
        cmocka_unit_test(a_moment_too_short_to_count_is_now),
        cmocka_unit_test(negative_is_never),
        cmocka_unit_test(infinite_is_never),
        cmocka_unit_test(beyond_the_scale_is_never),
        cmocka_unit_test(near_the_end_of_the_scale_nothing_overflows),
        cmocka_unit_test(poll_waits_for_ever_for_never),
        cmocka_unit_test(poll_does_not_wait_for_what_has_passed),
        cmocka_unit_test(what_is_left_is_exact),
        cmocka_unit_test(poll_takes_milliseconds),
        cmocka_unit_test(poll_rounds_up),
        cmocka_unit_test(poll_is_never_early),
        cmocka_unit_test(poll_of_a_far_deadline_fits_an_int),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
