/* Progress bars, on real terminals (ptys) with a screen of our own behind them, and where there is no terminal.
 *
 * progress.c is part of this program, so that it runs by a clock that moves only when a test moves it, its writes can be counted, and a
 * test can hold its lock. What is then on the screen is what a terminal would show: cells, a cursor, the few sequences that bars use, any
 * other one being a failure, and so is a line that wraps, unless somebody else's. */
#define _GNU_SOURCE
#include "child.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

static _Atomic int64_t the_time;
static atomic_int looks;                /* at the time */
static atomic_int writes;
static int refused;                     /* so many writes are interrupted first */
static size_t room = SIZE_MAX;          /* of what is behind; then it would block */
static size_t written;                  /* and what comes out of a terminal for it: it has a return before each line feed */

static void note_written(const char *bytes, ssize_t size)
{
    for (ssize_t i = 0; i < size; i++)
        written += bytes[i] == '\n' ? 2 : 1;
}

static ssize_t counted_write(int fd, const void *bytes, size_t size)
{
    atomic_fetch_add(&writes, 1);
    if (refused > 0) {
        refused--;
        errno = EINTR;
        return -1;
    }
    if (!room) {
        errno = EAGAIN;
        return -1;
    }
    if (size > room)
        size = room;
    if (room != SIZE_MAX)
        room -= size;
    ssize_t n = write(fd, bytes, size);
    note_written(bytes, n);
    return n;
}

#define clock_now     fake_now
#define clock_ticks   fake_ticks
#define clock_poll_ms fake_poll_ms
#define write         counted_write
#include "progress.c" /* NOLINT(bugprone-suspicious-include) */
#undef write

#define MS INT64_C(1000000)

int64_t fake_now(void)
{
    atomic_fetch_add(&looks, 1);
    return the_time;
}

int64_t fake_ticks(void)
{
    return the_time / (4 * MS);
}

int fake_poll_ms(int64_t deadline)
{
    return deadline <= the_time ? 0 : (int)((deadline - the_time) / MS);
}

static void pass_ms(int ms)
{
    the_time += ms * MS;
}

/* ---- A screen */

enum { ROWS_MOST = 60, COLUMNS_MOST = 256 };

static struct screen {
    char     cells[ROWS_MOST][COLUMNS_MOST][5];
    unsigned rows, columns, row, column;        /* column: as many as there are, behind the last one: the next letter wraps */
    int      wrapped;
} screen;

static void clear_row(unsigned row, unsigned from)
{
    for (unsigned i = from; i < COLUMNS_MOST; i++)
        strcpy(screen.cells[row][i], " ");
}

static void line_feed(void)
{
    if (++screen.row < screen.rows)
        return;
    screen.row--;
    memmove(screen.cells[0], screen.cells[1], sizeof *screen.cells * (screen.rows - 1));
    clear_row(screen.rows - 1, 0);
}

static void reset_screen(unsigned rows, unsigned columns)
{
    screen = (struct screen){.rows = rows, .columns = columns};
    for (unsigned i = 0; i < ROWS_MOST; i++)
        clear_row(i, 0);
}

/* Only what bars use. */
static const char *obey(const char *at)
{
    char *end;
    unsigned n = (unsigned)strtoul(at + 2, &end, 10);
    const char *number = end;

    assert_int_equal(at[1], '[');
    if (*number == 'A') {
        assert_true(n > 0 && n <= screen.row);
        screen.row -= n;
    } else {
        assert_true(number == at + 2 && (*number == 'K' || *number == 'J'));
        screen.column -= screen.column == screen.columns;
        clear_row(screen.row, screen.column);
        for (unsigned i = screen.row + 1; *number == 'J' && i < screen.rows; i++)
            clear_row(i, 0);
    }
    return number + 1;
}

static const char *letter(const char *at)
{
    unsigned char first = (unsigned char)*at;
    size_t bytes = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;

    assert_true(first >= 0x20 && first != 0x7f);
    if (screen.column == screen.columns) {
        screen.wrapped++;
        screen.column = 0;
        line_feed();
    }
    memcpy(screen.cells[screen.row][screen.column], at, bytes);
    screen.cells[screen.row][screen.column++][bytes] = '\0';
    return at + bytes;
}

static void play(const char *output)
{
    while (*output) {
        if (*output == '\033')
            output = obey(output);
        else if (*output == '\r')
            screen.column = 0, output++;
        else if (*output == '\n')
            line_feed(), output++;
        else
            output = letter(output);
    }
}

static const char *row(unsigned number)
{
    static char text[COLUMNS_MOST * 5];
    size_t size = 0, end = 0;

    for (unsigned i = 0; i < screen.columns; i++) {
        size += (size_t)snprintf(text + size, sizeof text - size, "%s", screen.cells[number][i]);
        if (strcmp(screen.cells[number][i], " ") != 0)
            end = size;
    }
    text[end] = '\0';
    return text;
}

/* ---- A terminal behind descriptor 2: what fails meanwhile says so there, hence assertions come after leave() */

static struct stage {
    int    master, saved;
    size_t size, heard;
    char   output[1 << 20];
} stage;

static void resize(unsigned rows, unsigned columns)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    ioctl(2, TIOCSWINSZ, &size);
}

static void put_at_2(int fd)
{
    stage.saved = fcntl(2, F_DUPFD_CLOEXEC, 10);
    dup2(fd, 2);
    if (fd != 2)
        close(fd);
}

static void enter(unsigned rows, unsigned columns)
{
    int slave;

    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    stage.size = stage.heard = written = 0;
    stage.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(stage.master >= 0);
    assert_int_equal(grantpt(stage.master) | unlockpt(stage.master), 0);
    slave = open(ptsname(stage.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    put_at_2(slave);
    resize(rows, columns);
    reset_screen(rows, columns);
    pass_ms(1000);                      /* whatever was drawn last */
    writes = looks = 0;
}

/* All that was written so far, which may take a moment to come; or to the end, once the terminal is closed. */
static void hear(int to_the_end)
{
    struct pollfd watch = {.fd = stage.master, .events = POLLIN};
    ssize_t n = 1;

    while (n > 0 && (to_the_end || stage.heard < written) && poll(&watch, 1, 10000) > 0) {
        n = read(stage.master, stage.output + stage.size, sizeof stage.output - stage.size - 1);
        stage.size += n > 0 ? (size_t)n : 0;
        stage.heard += n > 0 ? (size_t)n : 0;
    }
    stage.output[stage.size] = '\0';
}

/* What came since goes to the screen. */
static void look_on(void)
{
    hear(0);
    play(stage.output);
    stage.size = 0;
}

static void put_back(void)
{
    dup2(stage.saved, 2);
    close(stage.saved);
}

static void leave(void)
{
    put_back();
    hear(1);                            /* EIO once nobody has it open */
    close(stage.master);
    play(stage.output);
    assert_int_equal(screen.wrapped, 0);
    pass_ms(1000);
}

static void count_to(struct pool_progress *p, int done, int ms)
{
    for (int i = 0; i < done; i++) {
        pass_ms(ms);
        pool_progress_add(p, 1, 0);
    }
}

/* ---- On a terminal */

static void is_drawn_at_once_and_stays(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 100);
    int at_once = writes;
    count_to(p, 42, 25);
    int meanwhile = writes;
    pool_progress_finish(p);
    leave();
    assert_int_equal(at_once, 1);
    assert_in_range(meanwhile, 5, 12);
    assert_int_equal(writes, meanwhile + 1);
    assert_string_equal(row(0), "label:  42%|█████▉        | 42/100 [00:01<00:01, 40.0 it/s]");
    assert_true(screen.row == 1 && screen.column == 0);
    assert_non_null(strstr(stage.output, "label:   0%|                      | 0/100 [00:00<?, ? it/s]"));
}

static void is_drawn_ten_times_a_second_at_most(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 100000);
    for (int i = 0; i < 3000; i++) {
        pass_ms(1);
        for (int j = 0; j < 20; j++)
            pool_progress_add(p, 1, 0);
    }
    int drawn = writes;
    pool_progress_finish(p);
    leave();
    assert_in_range(drawn, 25, 31);
}

static void looks_at_the_time_seldom_and_waits_for_no_lock(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 1000000);
    int before = looks;
    pthread_mutex_lock(&lock);          /* would hang */
    for (int i = 0; i < 1000000; i++)
        pool_progress_add(p, 1, 0);
    int same_tick = looks - before;
    pass_ms(200);
    pool_progress_add(p, 0, 0);         /* due, but another thread is drawing */
    int64_t next = progress_due(p);
    pthread_mutex_unlock(&lock);
    int drawn = writes;
    pool_progress_finish(p);
    leave();
    assert_int_equal(same_tick, 0);
    assert_int_equal(drawn, 1);
    assert_true(next > the_time - 1000 * MS);   /* which leave() has passed */
    assert_string_equal(row(0), "label: 100%|████████████████| 1000000/1000000 [00:00<00:00]");
}

static void time_goes_on_though_nothing_is_counted(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 10);
    progress_show(p, 3, 0);
    int64_t next = progress_due(p), wait = next - the_time;
    for (int i = 0; i < 5; i++) {
        the_time = progress_due(p);
        progress_show(p, 3, 0);
    }
    int drawn = writes;
    the_time += 2000 * MS;
    progress_show(p, 3, 1);
    leave();
    pool_progress_finish(p);            /* descriptor 2 is another file by now */
    assert_in_range(wait, 90 * MS, 120 * MS);
    assert_int_equal(drawn, 1 + 5);
    assert_string_equal(row(0), "label:  30%|█▊    | 3/10 [00:02<00:05, 1.18 it/s, 1 failed]");
    assert_int_equal(screen.row, 0);
}

static void fits(unsigned columns, const char *expected)
{
    enter(5, columns);
    struct pool_progress *p = pool_progress_start("label", 100);
    for (int i = 0; i < 42; i++) {
        pass_ms(25);
        pool_progress_add(p, 1, i % 14 == 0);
    }
    pool_progress_finish(p);
    leave();
    assert_string_equal(row(0), expected);
    assert_true(screen.row == 1 && screen.column == 0);
}

static void respects_the_width(void **state)
{
    (void)state;
    fits(20, "l…: 42/100, 3 failed");
    fits(80, "label:  42%|██████████▌              | 42/100 [00:01<00:01, 40.0 it/s, 3 failed]");
    fits(200, "label:  42%|██████████████████████████████"
              "██████████████████████████████▉"
              "                                                                                    "
              "| 42/100 [00:01<00:01, 40.0 it/s, 3 failed]");
}

/* As xterm does: what is beyond is cut off, and the cursor comes along. */
static void resize_screen(unsigned columns)
{
    look_on();
    resize(screen.rows, columns);
    screen.columns = columns;
    for (unsigned i = 0; i < screen.rows; i++)
        clear_row(i, columns);
    if (screen.column >= columns)
        screen.column = columns - 1;
}

static void follows_changes_of_the_width(void **state)
{
    const struct { unsigned columns; const char *line; } golden[] = {
        {80, "label:  10%|███▌                               | 10/100 [00:00<00:01, 50.0 it/s]"},
        {40, "label:  20%|█▏    | 20/100 [00:00<00:01]"},
        {20, "label:  30% 30/100"},
        {100, "label:  40%|██████████████████████"
              "                                 | 40/100 [00:00<00:01, 50.0 it/s]"},
    };
    char drawn[4][COLUMNS_MOST * 5];

    (void)state;
    enter(5, 200);
    struct pool_progress *p = pool_progress_start("label", 100);
    for (int i = 0; i < 4; i++) {
        resize_screen(golden[i].columns);
        count_to(p, 10, 20);
        look_on();
        strcpy(drawn[i], row(0));
    }
    pool_progress_finish(p);
    leave();
    for (int i = 0; i < 4; i++)
        assert_string_equal(drawn[i], golden[i].line);
    assert_string_equal(row(1), "");
}

static void a_terminal_without_a_size_has_80_columns(void **state)
{
    (void)state;
    enter(5, 80);
    resize(0, 0);
    struct pool_progress *p = pool_progress_start("label", 2);
    pool_progress_finish(p);
    leave();
    assert_string_equal(row(0), "label:   0%|                                             | 0/2 [00:00<?, ? it/s]");
}

static void blocks_want_utf_8_in_the_locale(void **state)
{
    const struct { const char *all, *ctype, *lang; int unicode; } locales[] = {
        {"C", NULL, "de_DE.UTF-8", 0}, {"", NULL, "de_DE.UTF-8", 1}, {NULL, NULL, "en_US.utf8", 1}, {NULL, "POSIX", "en_US.utf8", 0},
        {NULL, "C.UTF-8", "C", 1}, {NULL, NULL, NULL, 0}, {"de_DE.ISO-8859-1", NULL, NULL, 0}, {"de_DE.UTF-8@euro", NULL, NULL, 1},
    };
    const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

    (void)state;
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++) {
        const char *const values[] = {locales[i].all, locales[i].ctype, locales[i].lang};
        enter(5, 59);
        for (int j = 0; j < 3; j++) {
            unsetenv(names[j]);
            if (values[j])
                setenv(names[j], values[j], 1);
        }
        struct pool_progress *p = pool_progress_start("größe", 4);
        pool_progress_add(p, 3, 0);
        pool_progress_finish(p);
        leave();
        if (locales[i].unicode)
            assert_memory_equal(row(0), "größe:  75%|██████████████████      | 3/4", 79);
        else
            assert_string_equal(row(0), "gr??e:  75%|##################      | 3/4 [00:00<?, ? it/s]");
    }
    unsetenv("LC_CTYPE");
    unsetenv("LANG");
}

static void has_no_colours(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        enter(5, 59);
        if (i)
            setenv("NO_COLOR", "1", 1);
        struct pool_progress *p = pool_progress_start("label", 10), *q = pool_progress_start("other", 10);
        count_to(p, 10, 50);
        pool_progress_finish(q);
        pool_progress_finish(p);
        unsetenv("NO_COLOR");
        leave();                        /* the screen knows of none */
    }
}

static void what_the_host_says_stays_readable(void **state)
{
    (void)state;
    enter(6, 59);
    struct pool_progress *p = pool_progress_start("label", 4);
    count_to(p, 1, 200);
    assert_int_equal(dprintf(2, "\nwarning\n"), 9);
    count_to(p, 1, 200);
    pool_progress_finish(p);
    leave();
    assert_non_null(strstr(row(0), "1/4"));
    assert_string_equal(row(1), "warning");
    assert_non_null(strstr(row(2), "2/4"));
    assert_string_equal(row(3), "");
}

/* Without a line feed of its own before it: the bar's line is full, so that it stands on the next one. */
static void what_a_task_says_has_a_line_of_its_own(void **state)
{
    (void)state;
    enter(6, 59);
    struct pool_progress *p = pool_progress_start("label", 4);
    count_to(p, 1, 200);
    look_on();
    assert_int_equal(dprintf(2, "task 2 says hello\n"), 18);
    written += 19;
    look_on();
    int wrapped = screen.wrapped;
    screen.wrapped = 0;
    count_to(p, 1, 200);
    pool_progress_finish(p);
    leave();
    assert_int_equal(wrapped, 1);
    assert_non_null(strstr(row(0), "1/4"));
    assert_string_equal(row(1), "task 2 says hello");
    assert_non_null(strstr(row(2), "2/4"));
    assert_string_equal(row(3), "");
}

static void odd_labels_tear_nothing(void **state)
{
    char long_one[10001];
    const char *const labels[] = {NULL, "", "two\nlines\033[2J\r", "\xff\xfe", "a\xe2\x82", long_one};

    (void)state;
    memset(long_one, 'x', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        enter(5, 59);
        struct pool_progress *p = pool_progress_start(labels[i], 10);
        count_to(p, 10, 50);
        pool_progress_finish(p);
        leave();
        assert_true(p != NULL && screen.row == 1 && screen.column == 0);
        assert_non_null(strstr(row(0), "100%"));
    }
}

static void unknown_totals_have_counts(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("lines", 0), *q = pool_progress_start("more", 2);
    count_to(p, 20, 50);
    count_to(q, 3, 0);
    pool_progress_finish(p);
    pool_progress_finish(q);
    leave();
    assert_string_equal(row(0), "lines: 20 it [00:01, 20.0 it/s]");
    assert_string_equal(row(1), "more: 3 it [00:01, 3.00 it/s]");
}

/* ---- Several */

static void two_take_a_line_each(void **state)
{
    (void)state;
    enter(6, 59);
    struct pool_progress *p = pool_progress_start("one", 20), *q = pool_progress_start("two", 10);
    for (int i = 0; i < 10; i++) {
        count_to(p, 2, 10);
        count_to(q, 1, 30);
    }
    look_on();
    struct screen meanwhile = screen;
    pool_progress_finish(p);
    look_on();
    struct screen between = screen;
    pool_progress_finish(q);
    leave();
    struct screen end = screen;

    assert_true(meanwhile.row == 1 && between.row == 1 && end.row == 2 && end.column == 0);
    screen = meanwhile;
    assert_non_null(strstr(row(0), "one: "));
    assert_non_null(strstr(row(1), "two: "));
    assert_string_equal(row(2), "");
    screen = end;
    assert_string_equal(row(0), "one: 100%|█████████████████| 20/20 [00:00<00:00, 40.0 it/s]");
    assert_string_equal(row(1), "two: 100%|█████████████████| 10/10 [00:00<00:00, 20.0 it/s]");
    assert_string_equal(row(2), "");
}

static void who_finishes_first_stands_above(void **state)
{
    (void)state;
    enter(8, 59);
    struct pool_progress *bars_of[] = {pool_progress_start("one", 1), pool_progress_start("two", 1), pool_progress_start("three", 1)};
    count_to(bars_of[0], 1, 200);
    pool_progress_finish(bars_of[1]);
    count_to(bars_of[2], 1, 200);
    pool_progress_finish(bars_of[2]);
    pool_progress_finish(bars_of[0]);
    leave();
    assert_memory_equal(row(0), "two:   0%|", 10);
    assert_memory_equal(row(1), "three: 100%|", 12);
    assert_memory_equal(row(2), "one: 100%|", 10);
    assert_string_equal(row(3), "");
    assert_true(screen.row == 3 && screen.column == 0);
}

/* The outer one goes down as the inner ones end; on the screen there are never more than these two to be redrawn. */
static void nested_ones_scroll(void **state)
{
    (void)state;
    enter(6, 59);
    struct pool_progress *outer = pool_progress_start("outer", 50);
    for (int i = 0; i < 50; i++) {
        char label[32];
        snprintf(label, sizeof label, "inner %d", i);
        struct pool_progress *inner = pool_progress_start(label, 5);
        count_to(inner, 5, 30);
        pool_progress_finish(inner);
        pool_progress_add(outer, 1, 0);
    }
    unsigned redrawn = lines;
    pool_progress_finish(outer);
    leave();
    assert_int_equal(redrawn, 1);
    for (unsigned i = 0; i < 4; i++) {
        char label[32];
        snprintf(label, sizeof label, "inner %u: 100%%|", 46 + i);
        assert_memory_equal(row(i), label, strlen(label));
    }
    assert_memory_equal(row(4), "outer: 100%|", 12);
    assert_string_equal(row(5), "");
}

static void more_than_the_screen_has_rows_are_not_all_seen(void **state)
{
    enum { MANY = 40 };
    struct pool_progress *many[MANY];
    unsigned seen_of_5, seen_of_50;

    (void)state;
    enter(5, 59);
    for (int i = 0; i < MANY; i++) {
        char label[32];
        snprintf(label, sizeof label, "bar %d", i);
        many[i] = pool_progress_start(label, 1);
    }
    count_to(many[3], 1, 200);
    look_on();
    seen_of_5 = lines;
    resize(50, 59);
    screen.rows = 50;
    count_to(many[3], 0, 200);
    pass_ms(200);
    pool_progress_add(many[0], 0, 0);
    seen_of_50 = lines;
    resize(5, 59);
    for (int i = 0; i < MANY; i++)
        pool_progress_finish(many[i]);
    leave();
    assert_int_equal(seen_of_5, 4);
    assert_int_equal(seen_of_50, BARS_MOST);
    assert_non_null(strstr(stage.output, "bar 39:   0%"));
    assert_int_equal(screen.column, 0);
}

/* ---- A terminal that does not take it */

static void a_stopped_terminal_stops_nobody(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 100);
    tcflow(2, TCOOFF);                  /* Ctrl-S */
    count_to(p, 10, 100);
    int meanwhile = writes;
    tcflow(2, TCOON);
    count_to(p, 1, 200);
    hear(0);
    size_t shown = stage.size;
    tcflow(2, TCOOFF);
    pool_progress_finish(p);            /* half a second */
    tcflow(2, TCOON);
    leave();
    assert_int_equal(meanwhile, 1);
    assert_non_null(strstr(stage.output, "11/100"));
    assert_null(strstr(stage.output, "10/100"));
    assert_int_equal(stage.size, shown);
}

/* Nobody reads, until its buffers are full. */
static void a_full_terminal_stops_nobody(void **state)
{
    (void)state;
    enter(5, 200);
    struct pool_progress *p = pool_progress_start("label", 1000), *q = pool_progress_start("größe", 1000);
    for (int i = 0; i < 500; i++) {
        pass_ms(100);
        progress_show(q, (size_t)i, 0);
        progress_show(p, (size_t)i, 0);
    }
    int taken = writes;
    pool_progress_finish(q);            /* waits, in vain */
    hear(0);
    struct pool_progress *r = pool_progress_start("third", 2);
    count_to(r, 1, 100);
    pool_progress_finish(r);
    pool_progress_finish(p);
    leave();
    assert_true(taken < 400 && stage.size > 4096);
    assert_memory_equal(row(screen.row - 2), "third:  50%", 11);
    assert_memory_equal(row(screen.row - 1), "label:  49%", 11);
    assert_int_equal(screen.column, 0);
}

/* It takes so many bytes, and the rest later: whatever the place, also in the middle of a letter or an escape sequence. */
static void a_frame_in_two_parts_is_not_torn(void **state)
{
    (void)state;
    for (size_t part = 0; part < 250; part++) {
        enter(5, 59);
        struct pool_progress *p = pool_progress_start("label", 10), *q = pool_progress_start("größe", 10);
        count_to(q, 1, 200);
        room = part;
        count_to(q, 1, 200);
        count_to(q, 1, 200);
        int rest = frame_sent < frame_size;
        room = SIZE_MAX;
        count_to(q, 1, 200);
        look_on();
        struct screen now = screen;
        pool_progress_finish(p);
        pool_progress_finish(q);
        leave();
        struct screen end = screen;

        assert_int_equal(rest, part > 0 && part < 100 ? 1 : rest);
        screen = now;
        assert_true(screen.row == 1);
        assert_memory_equal(row(1), "größe:  40%", 13);
        screen = end;
        assert_memory_equal(row(0), "label:   0%", 11);
        assert_memory_equal(row(1), "größe:  40%", 13);
        assert_string_equal(row(2), "");
    }
}

/* The last state is lost then, and the half line with it; the next bar begins anew. */
static void who_takes_half_of_it_for_long_gets_no_more(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 10);
    room = 22;                          /* not within a letter */
    count_to(p, 1, 200);
    pool_progress_finish(p);
    room = SIZE_MAX;
    pass_ms(1000);
    pool_progress_finish(pool_progress_start("other", 10));
    leave();
    assert_memory_equal(row(0), "other:   0%", 11);
    assert_int_equal(screen.row, 1);
}

static void a_closed_terminal_ends_nothing(void **state)
{
    (void)state;
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 100);
    close(stage.master);
    count_to(p, 10, 100);
    pool_progress_finish(p);
    put_back();
    assert_int_equal(writes, 1);
}

/* In a session of its own, whose leader has put it into the background of a terminal with tostop. */
static void draw_in_background(void)
{
    struct termios terminal;
    int status, slave = open(ptsname(stage.master), O_RDWR | O_CLOEXEC | O_NOCTTY);

    signal(SIGHUP, SIG_IGN);
    WANT(setsid() > 0 && ioctl(slave, TIOCSCTTY, 0) == 0 && tcgetattr(slave, &terminal) == 0);
    terminal.c_lflag |= TOSTOP;
    WANT(tcsetattr(slave, TCSANOW, &terminal) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        struct pool_progress *p = pool_progress_start("label", 10);
        progress_show(p, 1, 0);
        pass_ms(200);
        progress_show(p, 2, 0);
        _exit(writes ? 1 : 0);
    }
    WANT(waitpid(pid, &status, WUNTRACED) == pid);
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    WANT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(slave);
}

static void is_not_stopped_in_the_background(void **state)
{
    (void)state;
    enter(5, 59);
    in_child(draw_in_background);
    leave();
    assert_int_equal(stage.size, 0);
}

static void interruptions_are_passed_over(void **state)
{
    (void)state;
    enter(5, 59);
    refused = 3;
    struct pool_progress *p = pool_progress_start("label", 100);
    int tried = writes;
    pool_progress_finish(p);
    leave();
    assert_int_equal(tried, 4);
    assert_memory_equal(row(0), "label:   0%|", 12);
}

/* ---- Not a terminal */

static const char whole[] = "label:  50%|##################5                  | 1/2 [00:02<00:02, 2.00 s/it]\n";

static void count_quietly(struct pool_progress *p)
{
    pass_ms(1000);
    pool_progress_add(p, 1, 0);
    pass_ms(1000);
    pool_progress_add(p, 0, 0);
}

static void dumb_terminals_get_one_line_at_the_end(void **state)
{
    const char *const kinds[] = {"dumb", "", NULL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        enter(5, 200);
        setenv("LC_ALL", "C", 1);
        unsetenv("TERM");
        if (kinds[i])
            setenv("TERM", kinds[i], 1);
        struct pool_progress *p = pool_progress_start("label", 2);
        int64_t next = progress_due(p);
        count_quietly(p);
        int meanwhile = writes;
        pool_progress_finish(p);
        leave();
        assert_true(next == CLOCK_NEVER);
        assert_int_equal(meanwhile, 0);
        assert_int_equal(writes, 1);
        assert_memory_equal(stage.output, whole, sizeof whole - 2);
        assert_string_equal(stage.output + sizeof whole - 2, "\r\n");   /* that is the terminal's */
    }
}

static void a_pipe_gets_one_line_at_the_end(void **state)
{
    char got[4096] = "";
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    setenv("LC_ALL", "C", 1);
    writes = 0;
    put_at_2(ends[1]);
    struct pool_progress *p = pool_progress_start("label", 2);
    count_quietly(p);
    int meanwhile = writes;
    pool_progress_finish(p);
    put_back();
    ssize_t n = read(ends[0], got, sizeof got - 1);
    close(ends[0]);
    assert_int_equal(meanwhile, 0);
    assert_int_equal(n, sizeof whole - 1);
    assert_string_equal(got, whole);
}

/* What the host has buffered is its own, and stdout is not ours. */
static void nothing_but_descriptor_2_is_touched(void **state)
{
    char got[4096] = "", stderr_room[BUFSIZ];
    int out[2], err[2];

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK) | pipe2(err, O_CLOEXEC), 0);
    fflush(stdout);
    int saved = fcntl(1, F_DUPFD_CLOEXEC, 10);
    dup2(out[1], 1);
    put_at_2(err[1]);
    setvbuf(stderr, stderr_room, _IOFBF, sizeof stderr_room);
    fputs("buffered", stderr);
    struct pool_progress *p = pool_progress_start("label", 2);
    count_quietly(p);
    pool_progress_finish(p);
    ssize_t n = read(err[0], got, sizeof got - 1), none = read(out[0], got + n, 1);
    fflush(stderr);
    setvbuf(stderr, NULL, _IONBF, 0);
    dup2(saved, 1);
    close(saved);
    put_back();
    close(out[0]);
    close(out[1]);
    close(err[0]);
    assert_string_equal(got, whole);
    assert_int_equal(none, -1);
}

static void a_full_pipe_is_not_waited_for_for_ever(void **state)
{
    char bytes[4096];
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    memset(bytes, 'x', sizeof bytes);
    while (write(ends[1], bytes, sizeof bytes) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0);
    put_at_2(ends[1]);
    struct pool_progress *p = pool_progress_start("label", 2);
    pool_progress_finish(p);
    put_back();
    close(ends[0]);
}

static void a_closed_stderr_is_no_stderr(void **state)
{
    char path[] = "/tmp/forkpool-test-progress-XXXXXX";

    (void)state;
    put_at_2(2);
    close(2);
    struct pool_progress *p = pool_progress_start("label", 2), *q = pool_progress_start("label", 2);
    count_quietly(p);
    pool_progress_finish(p);
    int file = mkstemp(path);           /* the host's data base gets number 2 */
    count_quietly(q);
    pool_progress_finish(q);
    off_t size = lseek(file, 0, SEEK_END);
    unlink(path);
    put_back();
    assert_int_equal(file, 2);
    assert_int_equal(size, 0);
}

static void another_stderr_is_not_drawn_on(void **state)
{
    int ends[2];
    char got;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    enter(5, 59);
    struct pool_progress *p = pool_progress_start("label", 10);
    int terminal = fcntl(2, F_DUPFD_CLOEXEC, 10);
    dup2(ends[1], 2);
    count_to(p, 5, 200);
    pool_progress_finish(p);
    dup2(terminal, 2);
    close(terminal);
    leave();
    ssize_t n = read(ends[0], &got, 1);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(n, -1);
}

/* ---- Signals, errno */

static void finish_into_a_closed_pipe(void)
{
    int ends[2];

    WANT(signal(SIGPIPE, SIG_DFL) != SIG_ERR && pipe(ends) == 0);
    put_at_2(ends[1]);
    close(ends[0]);
    struct pool_progress *p = pool_progress_start("label", 2);
    count_quietly(p);
    pool_progress_finish(p);
    dup2(stage.saved, 2);
}

static void there_is_no_sigpipe(void **state)
{
    (void)state;
    in_child(finish_into_a_closed_pipe);
}

/* poll() tells most of the time; this is the reader that leaves just then. */
static void write_into_a_closed_pipe(void)
{
    sigset_t pipe_signal, mask, pending;
    int ends[2];

    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    WANT(signal(SIGPIPE, SIG_DFL) != SIG_ERR && pipe(ends) == 0 && close(ends[0]) == 0);
    WANT(write_quietly(ends[1], "x", 1) == -1 && errno == EPIPE);
    WANT(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
    WANT(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGPIPE));

    WANT(sigprocmask(SIG_BLOCK, &pipe_signal, NULL) == 0);
    WANT(write_quietly(ends[1], "x", 1) == -1);
    WANT(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
    WANT(raise(SIGPIPE) == 0);          /* the host's own */
    WANT(write_quietly(ends[1], "x", 1) == -1);
    WANT(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
    WANT(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGPIPE));
}

static void a_sigpipe_is_taken_back_but_not_the_hosts(void **state)
{
    (void)state;
    in_child(write_into_a_closed_pipe);
}

static void errno_and_pool_error_stay(void **state)
{
    (void)state;
    enter(5, 59);
    errno = 77;
    struct pool_progress *p = pool_progress_start("label", 10), *q = pool_progress_start("other", 10);
    int wrong = errno != 77;
    status_say(POOL_FAILED, "the host's");
    close(stage.master);
    count_to(p, 10, 100);
    wrong |= errno != 77;
    pool_progress_finish(p);
    wrong |= errno != 77;
    put_back();
    pool_progress_finish(q);
    assert_int_equal(wrong, 0);
    assert_int_equal(errno, 77);
    assert_string_equal(pool_error(), "the host's");
}

static void null_is_fine(void **state)
{
    (void)state;
    pool_progress_add(NULL, 1, 1);
    progress_show(NULL, 1, 1);
    pool_progress_finish(NULL);
    assert_true(progress_due(NULL) == CLOCK_NEVER);
}

/* ---- Forks, threads */

static struct pool_progress *inherited;

static void use_inherited_and_own(void)
{
    writes = 0;
    pass_ms(1000);
    pool_progress_add(inherited, 1, 0);
    progress_show(inherited, 1, 0);
    WANT(progress_due(inherited) == CLOCK_NEVER);
    pool_progress_finish(inherited);
    WANT(writes == 0);

    struct pool_progress *own = pool_progress_start("child", 10);
    WANT(own && lines == 1 && writes == 1);
    pool_progress_finish(own);
    WANT(writes == 2);
}

static void a_child_draws_its_own_only(void **state)
{
    (void)state;
    enter(5, 59);
    inherited = pool_progress_start("label", 10);
    pthread_mutex_lock(&lock);          /* as if another thread were drawing */
    in_child(use_inherited_and_own);
    pthread_mutex_unlock(&lock);
    pool_progress_finish(inherited);
    leave();
    assert_memory_equal(row(0), "child:   0%", 11);
    assert_memory_equal(row(1), "label:   0%", 11);
}

static void a_worker_has_none(void **state)
{
    (void)state;
    forks_in_worker = 1;
    struct pool_progress *p = pool_progress_start("label", 10);
    forks_in_worker = 0;
    assert_null(p);
    assert_int_equal(errno, EINVAL);
    assert_non_null(strstr(pool_error(), "worker"));
}

enum { THREADS = 4, EACH = 20000 };

static void *count_in_thread(void *bar)
{
    for (int i = 0; i < EACH; i++) {
        if (i % 50 == 0)
            pass_ms(1);
        pool_progress_add(bar, 1, i % 100 == 0);
    }
    return NULL;
}

static void *start_and_finish(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50; i++) {
        struct pool_progress *p = pool_progress_start("brief", 1);
        pool_progress_add(p, 1, 0);
        pool_progress_finish(p);
    }
    return NULL;
}

static void any_thread_may_count(void **state)
{
    pthread_t threads[THREADS + 1];

    (void)state;
    enter(20, 59);
    struct pool_progress *p = pool_progress_start("label", THREADS * EACH);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_in_thread, p);
    pthread_create(&threads[THREADS], NULL, start_and_finish, NULL);
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    pool_progress_finish(p);
    leave();
    assert_non_null(strstr(stage.output, "80000/80000"));
    assert_non_null(strstr(stage.output, "800 failed"));
    assert_int_equal(screen.column, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_drawn_at_once_and_stays),
        cmocka_unit_test(is_drawn_ten_times_a_second_at_most),
        cmocka_unit_test(looks_at_the_time_seldom_and_waits_for_no_lock),
        cmocka_unit_test(time_goes_on_though_nothing_is_counted),
        cmocka_unit_test(respects_the_width),
        cmocka_unit_test(follows_changes_of_the_width),
        cmocka_unit_test(a_terminal_without_a_size_has_80_columns),
        cmocka_unit_test(blocks_want_utf_8_in_the_locale),
        cmocka_unit_test(has_no_colours),
        cmocka_unit_test(what_the_host_says_stays_readable),
        cmocka_unit_test(what_a_task_says_has_a_line_of_its_own),
        cmocka_unit_test(odd_labels_tear_nothing),
        cmocka_unit_test(unknown_totals_have_counts),
        cmocka_unit_test(two_take_a_line_each),
        cmocka_unit_test(who_finishes_first_stands_above),
        cmocka_unit_test(nested_ones_scroll),
        cmocka_unit_test(more_than_the_screen_has_rows_are_not_all_seen),
        cmocka_unit_test(a_stopped_terminal_stops_nobody),
        cmocka_unit_test(a_full_terminal_stops_nobody),
        cmocka_unit_test(a_frame_in_two_parts_is_not_torn),
        cmocka_unit_test(who_takes_half_of_it_for_long_gets_no_more),
        cmocka_unit_test(a_closed_terminal_ends_nothing),
        cmocka_unit_test(is_not_stopped_in_the_background),
        cmocka_unit_test(interruptions_are_passed_over),
        cmocka_unit_test(dumb_terminals_get_one_line_at_the_end),
        cmocka_unit_test(a_pipe_gets_one_line_at_the_end),
        cmocka_unit_test(nothing_but_descriptor_2_is_touched),
        cmocka_unit_test(a_full_pipe_is_not_waited_for_for_ever),
        cmocka_unit_test(a_closed_stderr_is_no_stderr),
        cmocka_unit_test(another_stderr_is_not_drawn_on),
        cmocka_unit_test(there_is_no_sigpipe),
        cmocka_unit_test(a_sigpipe_is_taken_back_but_not_the_hosts),
        cmocka_unit_test(errno_and_pool_error_stay),
        cmocka_unit_test(null_is_fine),
        cmocka_unit_test(a_child_draws_its_own_only),
        cmocka_unit_test(a_worker_has_none),
        cmocka_unit_test(any_thread_may_count),
    };

    the_time = 1000000 * MS;
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
