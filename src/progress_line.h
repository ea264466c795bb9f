/* What a progress bar's line says, as text. */
#ifndef POOL_PROGRESS_LINE_H
#define POOL_PROGRESS_LINE_H

#include <stddef.h>

enum {
    PROGRESS_LABEL = 256,               /* bytes of a label that has been made presentable, its end included */
    PROGRESS_COLUMNS = 255,             /* no line is longer */
    PROGRESS_LINE = PROGRESS_LABEL + 3 * PROGRESS_COLUMNS + 256         /* bytes of a line, its end included */
};

struct progress_line {
    const char *label;                  /* presentable */
    size_t      total;                  /* 0: unknown */
    size_t      done;                   /* ended, in whatever way; */
    size_t      failed;                 /*   so many of them badly */
    double      seconds;                /* since the start */
    unsigned    columns;                /* it may take */
    int         unicode;                /* nonzero: more than ASCII can be shown, as UTF-8 */
};

/* Writes the line, no wider than it may be, without a line's end. Returns its bytes. */
size_t progress_line(const struct progress_line *line, char text[PROGRESS_LINE]);

/* Makes a label presentable: what a terminal would not show as letters is '?'; what is too long is cut. NULL is fine. */
void progress_label(const char *label, int unicode, char clean[PROGRESS_LABEL]);

#endif
