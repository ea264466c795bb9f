/* What a failure leaves behind in words. */
#define _GNU_SOURCE
#include "check.h"
#include "status.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void every_status_has_words(void **state)
{
    int s;

    (void)state;
    for (s = POOL_OK; s <= POOL_PENDING; s++) {
        assert_true(strlen(pool_status_text((enum pool_status)s)) > 3);
        assert_string_not_equal(pool_status_text((enum pool_status)s), "unknown status");
    }
}

static void no_two_statuses_have_the_same_words(void **state)
{
    int s, t;

    (void)state;
    for (s = POOL_OK; s <= POOL_PENDING; s++)
        for (t = POOL_OK; t < s; t++)
            assert_string_not_equal(pool_status_text((enum pool_status)s), pool_status_text((enum pool_status)t));
}

static void any_value_has_words(void **state)
{
    (void)state;
    assert_string_equal(pool_status_text((enum pool_status)(POOL_PENDING + 1)), "unknown status");
    assert_string_equal(pool_status_text((enum pool_status)-1), "unknown status");
    assert_string_equal(pool_status_text((enum pool_status)0x7fffffff), "unknown status");
}

static void a_status_in_words_disturbs_nothing(void **state)
{
    (void)state;
    status_say(POOL_INVALID, "before");
    errno = 77;
    pool_status_text(POOL_CRASHED);
    pool_status_text((enum pool_status)1000);
    assert_int_equal(errno, 77);
    assert_string_equal(pool_error(), "before");
}

static void clear_leaves_no_words(void **state)
{
    (void)state;
    status_say(POOL_INVALID, "before");
    status_clear();
    assert_string_equal(pool_error(), "");
    assert_string_equal(status_text(), "");
}

static void say_formats(void **state)
{
    (void)state;
    status_say(POOL_FAILED, "item %d: %s", 7, "no");
    assert_string_equal(pool_error(), "item 7: no");
    assert_string_equal(status_text(), "item 7: no");
}

static void say_returns_the_status(void **state)
{
    (void)state;
    assert_int_equal(status_say(POOL_BROKEN, "x"), POOL_BROKEN);
    assert_int_equal(status_say(POOL_OK, "x"), POOL_OK);
}

static void say_replaces_what_was_said(void **state)
{
    (void)state;
    status_say(POOL_FAILED, "a long sentence");
    status_say(POOL_FAILED, "short");
    assert_string_equal(pool_error(), "short");
}

static void say_leaves_errno_alone(void **state)
{
    (void)state;
    errno = 77;
    status_say(POOL_FAILED, "%s", "x");
    assert_int_equal(errno, 77);
}

static void say_may_quote_what_was_said(void **state)
{
    (void)state;
    status_say(POOL_FAILED, "inner");
    status_say(POOL_BROKEN, "outer: %s", pool_error());
    assert_string_equal(pool_error(), "outer: inner");
}

static void a_message_of_a_thousand_bytes_fits(void **state)
{
    char text[1001];

    (void)state;
    memset(text, 'm', 1000);
    text[1000] = '\0';
    status_say(POOL_FAILED, "the initializer failed: %s", text);
    assert_int_equal(strlen(pool_error()), 1000 + strlen("the initializer failed: "));
}

static void too_long_a_sentence_is_cut(void **state)
{
    char text[5000];

    (void)state;
    memset(text, 'm', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    status_say(POOL_FAILED, "%s", text);
    assert_int_equal(strlen(pool_error()), 1199);
    assert_int_equal(strspn(pool_error(), "m"), 1199);
}

static void null_sets_errno_and_returns_null(void **state)
{
    (void)state;
    errno = 0;
    assert_null(status_null(ECANCELED, "why %d", 1));
    assert_int_equal(errno, ECANCELED);
    assert_string_equal(pool_error(), "why 1");
}

static void asking_twice_gives_the_same(void **state)
{
    (void)state;
    status_say(POOL_FAILED, "kept");
    errno = 77;
    assert_string_equal(pool_error(), "kept");
    assert_string_equal(pool_error(), "kept");
    assert_int_equal(errno, 77);
}

static void *say_elsewhere(void *arg)
{
    int *wrong = arg;
    char mine[64];
    int i;

    *wrong = pool_error()[0] != '\0';
    for (i = 0; i < 2000; i++) {
        snprintf(mine, sizeof mine, "thread %p, %d", arg, i);
        status_say(POOL_FAILED, "%s", mine);
        *wrong |= strcmp(pool_error(), mine) != 0;
    }
    return NULL;
}

static void each_thread_has_its_own_words(void **state)
{
    pthread_t threads[4];
    int wrong[4] = {-1, -1, -1, -1}, i;

    (void)state;
    status_say(POOL_FAILED, "mine");
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_elsewhere, &wrong[i]), 0);
    for (i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
    assert_string_equal(pool_error(), "mine");
}

static void a_system_error_has_words(void **state)
{
    char text[128];

    (void)state;
    assert_ptr_equal(status_errno(ENOENT, text, sizeof text), text);
    assert_string_equal(text, "No such file or directory");
}

static void an_unknown_system_error_names_its_number(void **state)
{
    char text[128];

    (void)state;
    assert_non_null(strstr(status_errno(98765, text, sizeof text), "98765"));
}

static void a_system_error_is_cut_to_the_buffer(void **state)
{
    char text[16];

    (void)state;
    memset(text, '#', sizeof text);
    status_errno(ENOENT, text, 8);
    assert_string_equal(text, "No such");
    assert_int_equal(text[8], '#');
    text[0] = '#';
    status_errno(ENOENT, text, 0);
    assert_int_equal(text[0], '#');
}

static void a_system_error_in_words_leaves_errno_alone(void **state)
{
    char text[128];

    (void)state;
    errno = 77;
    status_errno(98765, text, sizeof text);
    assert_int_equal(errno, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_words),
        cmocka_unit_test(no_two_statuses_have_the_same_words),
        cmocka_unit_test(any_value_has_words),
        cmocka_unit_test(a_status_in_words_disturbs_nothing),
        cmocka_unit_test(clear_leaves_no_words),
        cmocka_unit_test(say_formats),
        cmocka_unit_test(say_returns_the_status),
        cmocka_unit_test(say_replaces_what_was_said),
        cmocka_unit_test(say_leaves_errno_alone),
        cmocka_unit_test(say_may_quote_what_was_said),
        cmocka_unit_test(a_message_of_a_thousand_bytes_fits),
        cmocka_unit_test(too_long_a_sentence_is_cut),
        cmocka_unit_test(null_sets_errno_and_returns_null),
        cmocka_unit_test(asking_twice_gives_the_same),
        cmocka_unit_test(each_thread_has_its_own_words),
        cmocka_unit_test(a_system_error_has_words),
        cmocka_unit_test(an_unknown_system_error_names_its_number),
        cmocka_unit_test(a_system_error_is_cut_to_the_buffer),
        cmocka_unit_test(a_system_error_in_words_leaves_errno_alone),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
