/* Signals in words. */
#define _GNU_SOURCE
#include "check.h"
#include "signals.h"

#include <string.h>

static void a_known_signal_is_named(void **state)
{
    (void)state;
    assert_string_equal(signal_name(SIGSEGV), "SIGSEGV, segmentation fault");
    assert_non_null(strstr(signal_name(SIGKILL), "SIGKILL"));
    assert_non_null(strstr(signal_name(SIGABRT), "SIGABRT"));
}

static void any_number_has_words(void **state)
{
    (void)state;
    for (int signal = -2; signal < 200; signal++)
        assert_true(strlen(signal_name(signal)) > 3);
}

static void an_unusual_signal_is_not_called_by_anothers_name(void **state)
{
    (void)state;
    assert_string_equal(signal_name(0), signal_name(SIGRTMAX));
    assert_string_not_equal(signal_name(0), signal_name(SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_signal_is_named),
        cmocka_unit_test(any_number_has_words),
        cmocka_unit_test(an_unusual_signal_is_not_called_by_anothers_name),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
