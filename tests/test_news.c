/* News: one descriptor that is readable exactly while somebody has some, level-triggered, whatever comes and goes in whatever order. */
#define _GNU_SOURCE
#include "check.h"

#include "news.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

static int readable(const struct news *news)
{
    struct pollfd p = {.fd = news->ends[0], .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static struct news opened(void)
{
    struct news news = {.ends = {-1, -1}};

    assert_int_equal(news_open(&news), 0);
    return news;
}

static void nothing_is_readable_at_first(void **state)
{
    struct news news = opened();

    (void)state;
    assert_false(readable(&news));
    news_close(&news);
}

static void readable_until_there_is_none_any_more(void **state)
{
    struct news news = opened();
    int flag = 0;

    (void)state;
    news_set(&news, &flag, 1);
    assert_int_equal(flag, 1);
    assert_true(readable(&news));
    assert_true(readable(&news));       /* a level: looking does not take it */
    news_set(&news, &flag, 0);
    assert_int_equal(flag, 0);
    assert_false(readable(&news));
    news_close(&news);
}

static void the_last_of_many_ends_it(void **state)
{
    struct news news = opened();
    int flags[3] = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        news_set(&news, &flags[i], 1);
    news_set(&news, &flags[1], 0);
    news_set(&news, &flags[0], 0);
    assert_true(readable(&news));
    news_set(&news, &flags[2], 0);
    assert_false(readable(&news));
    news_close(&news);
}

static void the_same_twice_counts_once(void **state)
{
    struct news news = opened();
    int flag = 0, other = 0;

    (void)state;
    news_set(&news, &flag, 1);
    news_set(&news, &flag, 1);
    news_set(&news, &flag, 7);          /* any true value */
    assert_int_equal(news.count, 1);
    news_set(&news, &other, 0);
    assert_int_equal(news.count, 1);
    news_set(&news, &flag, 0);
    news_set(&news, &flag, 0);
    assert_int_equal(news.count, 0);
    assert_false(readable(&news));
    news_close(&news);
}

static void it_holds_one_byte_at_most(void **state)
{
    struct news news = opened();
    int flags[100] = {0};
    char bytes[10];

    (void)state;
    for (int i = 0; i < 100; i++)
        news_set(&news, &flags[i], 1);
    assert_int_equal(read(news.ends[0], bytes, sizeof bytes), 1);
    news_close(&news);
}

static void it_can_neither_fill_up_nor_get_stuck(void **state)
{
    struct news news = opened();
    int flag = 0;

    (void)state;
    for (int i = 0; i < 70000; i++) {   /* more than a pipe has room for */
        news_set(&news, &flag, 1);
        news_set(&news, &flag, 0);
    }
    assert_false(readable(&news));
    news_set(&news, &flag, 1);
    assert_true(readable(&news));
    news_close(&news);
}

static void a_level_that_is_random_is_always_right(void **state)
{
    struct news news = opened();
    int flags[8] = {0}, wanted[8] = {0};
    unsigned seed = 1;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        int any = 0;

        seed = seed * 1103515245u + 12345u;
        int which = (int)(seed >> 20) % 8;

        wanted[which] = (seed >> 16) % 3 == 0;
        news_set(&news, &flags[which], wanted[which]);
        for (int k = 0; k < 8; k++) {
            any |= wanted[k];
            assert_int_equal(flags[k], wanted[k]);
        }
        assert_int_equal(readable(&news), any);
    }
    news_close(&news);
}

static void before_it_is_opened_nothing_is_noted(void **state)
{
    struct news news = {.ends = {-1, -1}};
    int flag = 0;

    (void)state;
    news_set(&news, &flag, 1);
    assert_int_equal(flag, 0);
    assert_int_equal(news.count, 0);
}

static void closing_twice_or_what_was_never_opened(void **state)
{
    struct news news = {.ends = {-1, -1}};

    (void)state;
    news_close(&news);
    assert_int_equal(news_open(&news), 0);
    news_close(&news);
    assert_int_equal(news.ends[0], -1);
    assert_int_equal(news.ends[1], -1);
    news_close(&news);
}

static void it_starts_anew_when_opened_again(void **state)
{
    struct news news = opened();
    int flag = 0, another = 0;

    (void)state;
    news_set(&news, &flag, 1);
    news_close(&news);
    assert_int_equal(news_open(&news), 0);
    assert_false(readable(&news));
    news_set(&news, &another, 1);
    news_set(&news, &another, 0);
    assert_false(readable(&news));
    news_close(&news);
}

static void neither_end_blocks_or_crosses_an_exec(void **state)
{
    struct news news = opened();

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(fcntl(news.ends[i], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(news.ends[i], F_GETFD) & FD_CLOEXEC);
    }
    news_close(&news);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_readable_at_first),
        cmocka_unit_test(readable_until_there_is_none_any_more),
        cmocka_unit_test(the_last_of_many_ends_it),
        cmocka_unit_test(the_same_twice_counts_once),
        cmocka_unit_test(it_holds_one_byte_at_most),
        cmocka_unit_test(it_can_neither_fill_up_nor_get_stuck),
        cmocka_unit_test(a_level_that_is_random_is_always_right),
        cmocka_unit_test(before_it_is_opened_nothing_is_noted),
        cmocka_unit_test(closing_twice_or_what_was_never_opened),
        cmocka_unit_test(it_starts_anew_when_opened_again),
        cmocka_unit_test(neither_end_blocks_or_crosses_an_exec),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
