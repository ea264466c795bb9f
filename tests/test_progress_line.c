/* What a progress bar's line says: all of it where there is room, never wider than it may be, nothing in it that tears a terminal. */
#define _GNU_SOURCE
#include "check.h"
#include "progress_line.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static char text[PROGRESS_LINE];

/* Draws it, with room around it that stays as it was. */
static const char *drawn(struct progress_line line)
{
    struct { char before[8], line[PROGRESS_LINE], after[8]; } room;
    memset(&room, '\xaa', sizeof room);
    size_t size = progress_line(&line, room.line);

    assert_int_equal(size, strlen(room.line));
    for (size_t i = 0; i < sizeof room.before; i++)
        assert_true(room.before[i] == '\xaa' && room.after[i] == '\xaa');
    memcpy(text, room.line, size + 1);
    return text;
}

#define IS(expected, ...) assert_string_equal(drawn((struct progress_line){__VA_ARGS__}), expected)
#define FORTY_TWO .label = "label", .total = 100, .done = 42, .seconds = 1.0526

/* Of letters that take one column each. */
static unsigned width(const char *line)
{
    unsigned n = 0;
    for (; *line; line++)
        n += ((unsigned char)*line & 0xc0) != 0x80;
    return n;
}

static void says_it_all(void **state)
{
    (void)state;
    IS("label:  42%|████▏     | 42/100 [00:01<00:01, 39.9 it/s]", FORTY_TWO, .columns = 55, .unicode = 1);
    IS("label:  42%|####2     | 42/100 [00:01<00:01, 39.9 it/s]", FORTY_TWO, .columns = 55);
}

static void failures_are_told_once_there_are_any(void **state)
{
    (void)state;
    IS("label:  42%|####2     | 42/100 [00:01<00:01, 39.9 it/s, 3 failed]", FORTY_TWO, .failed = 3, .columns = 65);
}

static void the_beginning_knows_no_rate(void **state)
{
    (void)state;
    IS("label:   0%|          | 0/100 [00:00<?, ? it/s]", .label = "label", .total = 100, .columns = 47);
    IS("label: 0 it [00:00, ? it/s]", .label = "label", .columns = 47);
    IS("label: 0 it [00:07, ? it/s]", .label = "label", .seconds = 7, .columns = 47);
}

static void the_end_is_full(void **state)
{
    (void)state;
    IS("label: 100%|██████████| 100/100 [00:03<00:00, 33.3 it/s]", .label = "label", .total = 100, .done = 100,
       .seconds = 3, .columns = 56, .unicode = 1);
}

static void a_hundred_per_cent_is_all_of_them(void **state)
{
    (void)state;
    IS(" 99%|#########9| 999999/1000000 [00:01<00:00, 1.00M it/s]", .label = "", .total = 1000000, .done = 999999, .seconds = 1,
       .columns = 57);
    IS(" 29%|##9       | 29/100 [00:01<00:02, 29.0 it/s]", .label = "", .total = 100, .done = 29, .seconds = 1, .columns = 48);
    drawn((struct progress_line){.label = "", .total = SIZE_MAX, .done = SIZE_MAX - 1, .seconds = 1, .columns = 200});
    assert_memory_equal(text, " 99%|", 5);
    drawn((struct progress_line){.label = "", .total = SIZE_MAX, .done = SIZE_MAX, .seconds = 1, .columns = 200});
    assert_memory_equal(text, "100%|", 5);
}

static void unknown_totals_have_a_count(void **state)
{
    (void)state;
    IS("label: 42 it [00:01, 39.9 it/s]", .label = "label", .done = 42, .seconds = 1.0526, .columns = 79);
    IS("label: 42 it [00:01, 39.9 it/s, 1 failed]", .label = "label", .done = 42, .seconds = 1.0526, .failed = 1, .columns = 79);
}

static void more_than_the_total_is_an_unknown_total(void **state)
{
    (void)state;
    IS("label: 43 it [00:01, 43.0 it/s]", .label = "label", .total = 42, .done = 43, .seconds = 1, .columns = 79);
}

static void no_label_no_colon(void **state)
{
    (void)state;
    IS(" 50%|#####     | 1/2 [00:01<00:01, 1.00 it/s]", .label = "", .total = 2, .done = 1, .seconds = 1, .columns = 45);
}

static void rates_have_three_digits(void **state)
{
    const struct { size_t done; double seconds; const char *rate; } rates[] = {
        {1, 1, "1.00 it/s"}, {999, 100, "9.99 it/s"}, {9996, 1000, "10.0 it/s"}, {999, 10, "99.9 it/s"}, {9996, 100, "100 it/s"},
        {999, 1, "999 it/s"}, {9996, 10, "1.00k it/s"}, {12345, 1, "12.3k it/s"}, {1234567, 1, "1.23M it/s"},
        {3000000000u, 1, "3.00G it/s"},
        {1, 2, "2.00 s/it"}, {2, 3, "1.50 s/it"}, {1, 90, "90.0 s/it"}, {1, 5000, "5.00k s/it"}, {SIZE_MAX, 1e-9, "999999999T it/s"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        drawn((struct progress_line){.label = "", .done = rates[i].done, .seconds = rates[i].seconds, .columns = 200});
        const char *comma = strstr(text, ", ");
        assert_non_null(comma);
        assert_memory_equal(comma + 2, rates[i].rate, strlen(rates[i].rate));
        assert_string_equal(comma + 2 + strlen(rates[i].rate), "]");
    }
}

static void times_are_clocks(void **state)
{
    const struct { double seconds; const char *time; } times[] = {
        {0, "[00:00, "}, {59.99, "[00:59, "}, {60, "[01:00, "}, {3599, "[59:59, "}, {3600, "[1:00:00, "}, {360000, "[100:00:00, "},
        {1e300, "[?, "}, {(double)INFINITY, "[?, "}, {(double)NAN, "[?, "}, {-1, "[?, "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        drawn((struct progress_line){.label = "", .done = 5, .seconds = times[i].seconds, .columns = 200});
        assert_non_null(strstr(text, times[i].time));
    }
}

static void bars_grow_by_eighths_and_tenths(void **state)
{
    static const char *const eighths[] = {
        "      ", "▏     ", "▎     ", "▍     ", "▌     ", "▋     ", "▊     ", "▉     ", "█     ", "█▏    ",
    };
    static const char *const tenths[] = {
        "      ", "1     ", "2     ", "3     ", "4     ", "5     ", "6     ", "7     ", "8     ", "9     ", "#     ", "#1    ",
    };
    char expected[200];

    (void)state;
    for (unsigned i = 0; i < sizeof eighths / sizeof *eighths; i++) {
        drawn((struct progress_line){.label = "", .total = 48, .done = i, .columns = 17, .unicode = 1});
        snprintf(expected, sizeof expected, "%3u%%|%s| %u/48", i * 100 / 48, eighths[i], i);
        assert_string_equal(text, expected);
    }
    for (unsigned i = 0; i < sizeof tenths / sizeof *tenths; i++) {
        drawn((struct progress_line){.label = "", .total = 60, .done = i, .columns = i < 10 ? 17 : 18});
        snprintf(expected, sizeof expected, "%3u%%|%s| %u/60", i * 100 / 60, tenths[i], i);
        assert_string_equal(text, expected);
    }
}

static void what_has_no_room_goes(void **state)
{
    (void)state;
    IS("label:  42%|##5   | 42/100 [00:01<00:01, 39.9 it/s]", FORTY_TWO, .columns = 51);
    IS("label:  42%|######7         | 42/100 [00:01<00:01]", FORTY_TWO, .columns = 50);
    IS("label:  42%|##5   | 42/100 [00:01<00:01]", FORTY_TWO, .columns = 40);
    IS("label:  42%|#######9           | 42/100", FORTY_TWO, .columns = 39);
    IS("label:  42%|##5   | 42/100", FORTY_TWO, .columns = 26);
    IS("label:  42% 42/100", FORTY_TWO, .columns = 25);
}

static void a_long_label_is_cut_before(void **state)
{
#define LONG .label = "the quick brown fox jumps over the lazy dog", .total = 100, .done = 42, .seconds = 1.0526
    (void)state;
    IS("the quick brown f…:  42%|██▌   | 42/100 [00:01<00:01, 39.9 it/s]", LONG, .columns = 64, .unicode = 1);
    IS("the quick brown ..:  42%|##5   | 42/100 [00:01<00:01, 39.9 it/s]", LONG, .columns = 64);
    IS("the qu..:  42% 42/100", LONG, .columns = 21);
    IS(" 42% 42/100", LONG, .columns = 11);
    IS("42/100", LONG, .columns = 9);
    IS(" 42% 42/100, 3 failed", LONG, .failed = 3, .columns = 21);
    IS("42/100, 3 failed", LONG, .failed = 3, .columns = 20);
    IS("42/10", LONG, .columns = 5);
    IS("", LONG, .columns = 0);
}

static void no_line_is_wider_than_it_may_be(void **state)
{
    const char *const labels[] = {
        "", "l", "label", "größer als alles", "the quick brown fox jumps over the lazy dog and on and on and on and on",
    };
    const size_t totals[] = {0, 1, 7, 100, 123456789, SIZE_MAX};
    const size_t dones[] = {0, 1, 7, 99, 100, 12345678, SIZE_MAX};

    (void)state;
    for (unsigned columns = 0; columns < 300; columns++)
        for (size_t l = 0; l < 5; l++)
            for (size_t t = 0; t < 6; t++)
                for (size_t d = 0; d < 7; d++)
                    for (int unicode = 0; unicode < 2; unicode++) {
                        drawn((struct progress_line){.label = labels[l], .total = totals[t], .done = dones[d], .failed = dones[d] / 2,
                                                     .seconds = (double)d * 1000, .columns = columns, .unicode = unicode});
                        assert_in_range(width(text), 0, columns < PROGRESS_COLUMNS ? columns : PROGRESS_COLUMNS);
                        if (strchr(text, '|'))
                            assert_int_equal(width(text), columns < PROGRESS_COLUMNS ? columns : PROGRESS_COLUMNS);
                    }
}

static void wide_letters_take_two_columns(void **state)
{
    (void)state;
    IS("進捗:  50%|#####     | 1/2", .label = "進捗", .total = 2, .done = 1, .columns = 26);
}

/* ---- Labels */

static const char *clean(const char *label, int unicode)
{
    static char room[PROGRESS_LABEL];
    memset(room, 'x', sizeof room);
    progress_label(label, unicode, room);
    return room;
}

static void letters_stay(void **state)
{
    (void)state;
    assert_string_equal(clean("Größe 進捗 🐢 [1/2] 100%", 1), "Größe 進捗 🐢 [1/2] 100%");
    assert_string_equal(clean(NULL, 1), "");
    assert_string_equal(clean("", 0), "");
}

static void ascii_has_no_other_letters(void **state)
{
    (void)state;
    assert_string_equal(clean("Größe 進捗", 0), "Gr??e ??");
}

static void what_tears_a_terminal_is_a_question_mark(void **state)
{
    (void)state;
    assert_string_equal(clean("a\nb\r\tc\033[2Jd\177", 1), "a?b??c?[2Jd?");
    assert_string_equal(clean("csi \xc2\x9b" "2J, rlo \xe2\x80\xae, line \xe2\x80\xa8, bom \xef\xbb\xbf", 1),
                        "csi ?2J, rlo ?, line ?, bom ?");
}

static void what_is_no_utf_8_is_a_question_mark(void **state)
{
    (void)state;
    assert_string_equal(clean("a\x80z", 1), "a?z");
    assert_string_equal(clean("a\xffz", 1), "a?z");
    assert_string_equal(clean("a\xc0\xafz", 1), "a??z");                    /* too long for what it says */
    assert_string_equal(clean("a\xed\xa0\x80z", 1), "a?z");                 /* half a pair of UTF-16 */
    assert_string_equal(clean("a\xf4\x90\x80\x80z", 1), "a????z");          /* beyond the last */
    assert_string_equal(clean("a\xe2\x82", 1), "a??");                      /* the string ends first */
    assert_string_equal(clean("Gr\xf6\xdf" "e", 1), "Gr??e");                /* Latin 1 */
    assert_string_equal(clean("a\xc3(", 0), "a?(");
}

static void long_labels_are_cut_between_letters(void **state)
{
    char long_one[10001];

    (void)state;
    memset(long_one, 'x', 10000);
    long_one[10000] = '\0';
    assert_int_equal(strlen(clean(long_one, 1)), PROGRESS_LABEL - 1);
    for (size_t i = 0; i + 3 <= 9999; i += 3)
        memcpy(long_one + i, "進", 3);
    long_one[9999] = '\0';
    assert_int_equal(strlen(clean(long_one, 1)), (PROGRESS_LABEL - 1) / 3 * 3);
    memset(long_one, '\xff', 10000);
    assert_int_equal(strlen(clean(long_one, 1)), PROGRESS_LABEL - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_it_all),
        cmocka_unit_test(failures_are_told_once_there_are_any),
        cmocka_unit_test(the_beginning_knows_no_rate),
        cmocka_unit_test(the_end_is_full),
        cmocka_unit_test(a_hundred_per_cent_is_all_of_them),
        cmocka_unit_test(unknown_totals_have_a_count),
        cmocka_unit_test(more_than_the_total_is_an_unknown_total),
        cmocka_unit_test(no_label_no_colon),
        cmocka_unit_test(rates_have_three_digits),
        cmocka_unit_test(times_are_clocks),
        cmocka_unit_test(bars_grow_by_eighths_and_tenths),
        cmocka_unit_test(what_has_no_room_goes),
        cmocka_unit_test(a_long_label_is_cut_before),
        cmocka_unit_test(no_line_is_wider_than_it_may_be),
        cmocka_unit_test(wide_letters_take_two_columns),
        cmocka_unit_test(letters_stay),
        cmocka_unit_test(ascii_has_no_other_letters),
        cmocka_unit_test(what_tears_a_terminal_is_a_question_mark),
        cmocka_unit_test(what_is_no_utf_8_is_a_question_mark),
        cmocka_unit_test(long_labels_are_cut_between_letters),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
