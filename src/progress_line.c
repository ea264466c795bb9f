/* What a progress bar's line says, as text: label, per cent, bar, counts, times and rate, as tqdm's users know them.
 *
 * Runs in the host, in any thread; a pure function of its arguments.
 *
 * Invariants: a line never takes more columns than it may, since one that wraps is two, and the next would be drawn below its upper
 * half; nothing in it but letters goes to the terminal, whatever the label was; it does not depend on the host's locale (a comma in a
 * number, say), which is the host's.
 *
 * Where room is short the rate goes first, then the times, then the bar; a long label is cut before that. Failures stay longest.
 * Widths of characters come from a short table: wcwidth() knows none of them in a program that has not called setlocale(). */
#include "progress_line.h"

#include <forkpool.h>

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    BAR_LEAST = 6,                      /* columns: a shorter one says nothing */
    LABEL_LEAST = 16,                   /* of it at least are seen beside a bar */
    TAIL = 200                          /* bytes of what stands behind the bar */
};

/* How much is told behind the bar. */
enum detail { ALL, NO_RATE, COUNTS, NO_BAR, NO_SHARE };

#define UNKNOWN 1e9                     /* seconds: nobody waits for 30 years */

struct text { char *start; size_t size, room; };

POOL_PRINTF(2, 3) static void put(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->start + text->size, text->room - text->size, format, args);
    va_end(args);
    if (n > 0)
        text->size += (size_t)n < text->room - text->size ? (size_t)n : text->room - text->size - 1;
}

/* ---- Letters */

struct range { uint32_t first, last; };

static int is_in(uint32_t letter, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (letter >= ranges[i].first && letter <= ranges[i].last)
            return 1;
    return 0;
}

/* Controls, line ends, and what turns the direction of all that follows. */
static int is_tearing(uint32_t letter)
{
    static const struct range tearing[] = {
        {0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xd800, 0xf8ff},
        {0xfeff, 0xfeff}, {0xfff0, 0xfffc}, {0xe0000, 0x10ffff},
    };
    return is_in(letter, tearing, sizeof tearing / sizeof *tearing);
}

static unsigned columns_of(uint32_t letter)
{
    static const struct range none[] = {
        {0x300, 0x36f}, {0x483, 0x489}, {0x591, 0x5bd}, {0x610, 0x61a}, {0x64b, 0x65f}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
        {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f},
    };
    static const struct range two[] = {
        {0x1100, 0x115f}, {0x231a, 0x231b}, {0x2e80, 0xa4cf}, {0xa960, 0xa97c}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
        {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f000, 0x1faff}, {0x20000, 0x3fffd},
    };
    return is_in(letter, none, sizeof none / sizeof *none) ? 0 : is_in(letter, two, sizeof two / sizeof *two) ? 2 : 1;
}

/* The first letter and how many bytes it has; 0: it is no UTF-8. The end of the string stops it, not being a following byte. */
static size_t decode(const char *text, uint32_t *letter)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)*text;
    size_t bytes = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;

    *letter = bytes == 1 ? first : first & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        unsigned char next = (unsigned char)text[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        *letter = *letter << 6 | (next & 0x3f);
    }
    return bytes && *letter >= least[bytes] && *letter <= 0x10ffff ? bytes : 0;
}

void progress_label(const char *label, int unicode, char clean[PROGRESS_LABEL])
{
    size_t size = 0, bytes;
    uint32_t letter;

    for (; label && *label; label += bytes) {
        bytes = decode(label, &letter);
        int shown = bytes && !is_tearing(letter) && (unicode || letter < 0x80);
        bytes += !bytes;
        if (size + (shown ? bytes : 1) >= PROGRESS_LABEL)
            break;
        if (!shown) {
            clean[size++] = '?';
            continue;
        }
        memcpy(clean + size, label, bytes);
        size += bytes;
    }
    clean[size] = '\0';
}

/* How many bytes of a presentable text fit so many columns; how many columns they take. */
static size_t fit(const char *text, unsigned columns, unsigned *taken)
{
    size_t size = 0, bytes;
    uint32_t letter;

    for (*taken = 0; text[size]; size += bytes) {
        bytes = decode(text + size, &letter);
        unsigned wide = columns_of(letter);
        if (!bytes || *taken + wide > columns)
            break;
        *taken += wide;
    }
    return size;
}

/* ---- Behind the bar */

static void put_time(struct text *text, double seconds)
{
    if (!(seconds >= 0 && seconds < UNKNOWN)) {     /* nor does NaN fit an integer */
        put(text, "?");
        return;
    }
    unsigned long all = (unsigned long)seconds, hours = all / 3600, minutes = all / 60 % 60;
    if (hours)
        put(text, "%lu:%02lu:%02lu", hours, minutes, all % 60);
    else
        put(text, "%02lu:%02lu", minutes, all % 60);
}

/* Three digits and a unit, without printf's floating point, which follows the locale. */
static void put_number(struct text *text, double value)
{
    static const char units[] = {'k', 'M', 'G', 'T'};
    size_t unit = 0;

    for (; value >= 999.5 && unit < sizeof units; unit++)
        value /= 1000;
    if (value < 9.995)
        put(text, "%u.%02u", (unsigned)(value * 100 + 0.5) / 100, (unsigned)(value * 100 + 0.5) % 100);
    else if (value < 99.95)
        put(text, "%u.%u", (unsigned)(value * 10 + 0.5) / 10, (unsigned)(value * 10 + 0.5) % 10);
    else
        put(text, "%lu", value < 1e9 ? (unsigned long)(value + 0.5) : 999999999ul);
    if (unit)
        put(text, "%c", units[unit - 1]);
}

/* Slow ones are told the other way round, as tqdm does: by seconds for an item. */
static void put_rate(struct text *text, double rate)
{
    if (!(rate > 0)) {
        put(text, "? it/s");
        return;
    }
    put_number(text, rate < 1 ? 1 / rate : rate);
    put(text, rate < 1 ? " s/it" : " it/s");
}

/* More than there are to be: then the total was wrong, and nothing is said that follows from it. */
static int is_known(const struct progress_line *line)
{
    return line->total && line->done <= line->total;
}

static void put_tail(struct text *text, const struct progress_line *line, enum detail detail)
{
    double rate = line->seconds > 0 ? (double)line->done / line->seconds : 0;

    if (is_known(line))
        put(text, "%s%zu/%zu", detail < NO_SHARE ? " " : "", line->done, line->total);
    else
        put(text, "%zu it", line->done);
    if (detail < COUNTS) {
        put(text, " [");
        put_time(text, line->seconds);
        if (is_known(line)) {
            put(text, "<");
            put_time(text, rate > 0 ? (double)(line->total - line->done) / rate : UNKNOWN);
        }
        if (detail == ALL) {
            put(text, ", ");
            put_rate(text, rate);
        }
    }
    if (line->failed)
        put(text, ", %zu failed", line->failed);
    if (detail < COUNTS)
        put(text, "]");
}

/* ---- The line */

/* How many of so many parts are done. In this order, so that 29 of 100 are 29 per cent and not 28.999. */
static unsigned done_of(const struct progress_line *line, unsigned parts)
{
    return (unsigned)((double)line->done * parts / (double)line->total);
}

/* 100 for all of them only. */
static unsigned per_cent(const struct progress_line *line)
{
    unsigned whole = done_of(line, 100);
    return whole == 100 && line->done < line->total ? 99 : whole;
}

static void put_bar(struct text *text, const struct progress_line *line, unsigned columns)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    unsigned parts = line->unicode ? 8 : 10, filled = done_of(line, columns * parts);
    unsigned full = filled / parts, rest = filled % parts;

    put(text, "|");
    for (unsigned i = 0; i < full; i++)
        put(text, line->unicode ? "█" : "#");
    if (rest && line->unicode)
        put(text, "%s", eighths[rest]);
    else if (rest)
        put(text, "%u", rest);
    put(text, "%*s|", (int)(columns - full - !!rest), "");
}

/* As much of the label as fits, a mark where it was cut, and a colon. */
static unsigned put_label(struct text *text, const struct progress_line *line, unsigned columns)
{
    const char *mark = line->unicode ? "…" : "..";
    unsigned taken, marked = line->unicode ? 1 : 2;
    size_t bytes = fit(line->label, columns < 2 ? 0 : columns - 2, &taken);

    if (!*line->label || columns < 2 + marked + 1)
        return 0;
    if (!line->label[bytes])
        mark = "", marked = 0;
    else
        bytes = fit(line->label, columns - 2 - marked, &taken);
    put(text, "%.*s%s: ", (int)bytes, line->label, mark);
    return taken + marked + 2;
}

static unsigned columns_of_label(const struct progress_line *line)
{
    unsigned taken;
    fit(line->label, 2 * PROGRESS_LABEL, &taken);
    return *line->label ? taken + 2 : 0;
}

size_t progress_line(const struct progress_line *line, char text[PROGRESS_LINE])
{
    char behind[TAIL];
    struct text out = {text, 0, PROGRESS_LINE}, tail = {behind, 0, TAIL};
    unsigned columns = line->columns < PROGRESS_COLUMNS ? line->columns : PROGRESS_COLUMNS;
    unsigned label = columns_of_label(line), least = label < LABEL_LEAST ? label : LABEL_LEAST, fixed, bar, share;

    text[0] = '\0';
    for (enum detail detail = ALL;; detail++) {
        tail.size = 0;
        put_tail(&tail, line, detail);
        bar = is_known(line) && detail < NO_BAR ? BAR_LEAST + 2 : 0;
        share = is_known(line) && detail < NO_SHARE ? 4 : 0;
        fixed = (unsigned)tail.size + bar + share;
        if (detail == NO_SHARE || fixed + (detail < NO_BAR ? least : 0) <= columns)
            break;
    }
    label = put_label(&out, line, fixed < columns ? columns - fixed : 0);
    if (share)
        put(&out, "%3u%%", per_cent(line));
    if (bar)
        put_bar(&out, line, columns - label - fixed + BAR_LEAST);
    put(&out, "%s", behind);
    if (fixed > columns) {              /* not even that fits: all of it is ASCII then */
        out.size = columns;
        text[columns] = '\0';
    }
    return out.size;
}
