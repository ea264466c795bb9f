/* Progress bars on stderr: when they are drawn, and how that gets to the terminal.
 *
 * Runs in the host, in whichever thread counts; no thread, no signal handler and no exit handler of ours. In a forked child nothing is
 * drawn: an inherited bar is its parent's, and a worker has none.
 *
 * Invariants: what counts waits for nobody (counts are atomic, and who finds another one drawing leaves it to that one). All bars are
 * drawn together, at most ten times a second, by one write() each time; only a bar's end does not wait for its turn. The cursor rests
 * behind the lowest bar, which is as wide as the terminal (where it has a total, up to 255 columns): whatever a task or the host writes
 * there next, or Ctrl-C, begins a line of its own, since a terminal wraps when there is one letter more and not before. A line is erased
 * first and then drawn, since erasing the rest of a full one takes its last letter. Finished bars are moved above those that still run and
 * never touched again, so that the lines to be redrawn are few however many have ended.
 *
 * A terminal that takes nothing (Ctrl-S, a dead connection) must not stop the work. Descriptor 2 may be shared with other programs,
 * so it is not for us to make it non-blocking; asking poll() alone would not do, which promises room for one byte only. Hence each
 * frame goes through an open file description of our own, made for the occasion. What did not fit goes first the next time: half an
 * escape sequence would spoil whatever comes after it.
 *
 * Descriptor 2 is drawn on only while it is the file that it was at the start: a host that runs without one may have opened its
 * database there since. The width is asked for each time, since SIGWINCH is the host's. Nothing is coloured, so that there is
 * nothing for NO_COLOR to switch off. */
#define _GNU_SOURCE
#include "progress.h"

#include "clock.h"
#include "fd.h"
#include "forks.h"
#include "progress_line.h"
#include "status.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
#define PERIOD (NS_PER_S / 10)          /* between two redraws */
#define TICK (NS_PER_S / 100)           /* clock_ticks() changes within it */
#define LAST_WAIT (NS_PER_S / 2)        /* for a terminal to take a bar's end */

enum {
    BARS_MOST = 16,                     /* are seen at a time */
    FRAME = (BARS_MOST + 1) * (PROGRESS_LINE + 16) + 64,
    ROWS = 24, COLUMNS = 80             /* of what does not say */
};

struct pool_progress {
    struct pool_progress *next;         /* in order of start; under lock */
    unsigned       forks;               /* forks_count of the process that it belongs to */
    int            live;                /* on a terminal that can move its cursor: drawn before its end */
    int            unicode;
    int            open;                /* there was a descriptor 2, */
    struct fd_identity file;            /*   and it was this */
    int64_t        start;
    size_t         total;               /* 0: unknown */
    _Atomic size_t done, failed;        /* written by whoever counts */
    char           label[PROGRESS_LABEL];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_failure;

static _Atomic int64_t due;             /* the next redraw, of all bars */
static _Atomic int64_t seen;            /* clock_ticks() when that was last compared with the time */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;        /* for all below, and for drawing */
static struct pool_progress *bars;
static unsigned lines;                  /* on the terminal; the cursor is in the lowest */
static char frame[FRAME];
static size_t frame_size, frame_sent;
static struct fd_identity frame_file;   /* where it belongs */

/* ---- Forks */

/* In a child: the parent's bars are not there, and whoever was drawing is not either. */
static void forget(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    bars = NULL;
    lines = 0;
    frame_size = frame_sent = 0;
}

static void watch_forks(void)
{
    once_failure = forks_watch();
    if (!once_failure)
        once_failure = pthread_atfork(NULL, NULL, forget);
}

static int is_ours(const struct pool_progress *p)
{
    return p && p->forks == forks_count;
}

/* ---- Who looks on */

/* By its name: asking libc would want the locale to be installed, and setlocale() is the host's. */
static int has_unicode(void)
{
    static const char *const order[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *name = NULL;

    for (size_t i = 0; i < sizeof order / sizeof *order && !(name && *name); i++)
        name = getenv(order[i]);
    for (; name && *name; name++)
        if (strncasecmp(name, "utf-8", 5) == 0 || strncasecmp(name, "utf8", 4) == 0)
            return 1;
    return 0;
}

static int moves_cursor(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDERR_FILENO) && kind && *kind && strcmp(kind, "dumb") != 0;
}

static int is_there(const struct pool_progress *p)
{
    return p->open && fd_is(STDERR_FILENO, &p->file);
}

/* With `stty tostop` it would stop the host that draws in the background. Its last line may: any program's output does. */
static int would_stop(void)
{
    struct termios terminal;
    pid_t foreground = tcgetpgrp(STDERR_FILENO);

    return foreground >= 0 && foreground != getpgrp() && tcgetattr(STDERR_FILENO, &terminal) == 0 && (terminal.c_lflag & TOSTOP);
}

/* ---- Writing */

/* write(), but the SIGPIPE that it may raise is taken back: nobody asked for it, and its disposition is the host's. */
static ssize_t write_quietly(int fd, const char *bytes, size_t size)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe, before, pending;
    ssize_t n;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    sigpending(&pending);
    do
        n = write(fd, bytes, size);
    while (n < 0 && errno == EINTR);
    int error = errno;
    if (n < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))     /* one that was pending already is the host's */
        while (sigtimedwait(&pipe, NULL, &at_once) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return n;
}

/* A way to the terminal that does not block. Where there is none (no /proc, a terminal that was another user's) descriptor 2 itself. */
static int open_terminal(void)
{
    int fd = -1;
#if defined(__linux__)
    fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        fd_lift(&fd);
#endif
    return fd;
}

/* Is there room within the time? ENOENT: never, the other end is gone. */
static int await_room(int64_t deadline)
{
    struct pollfd watch = {.fd = STDERR_FILENO, .events = POLLOUT};
    int n;

    do
        n = poll(&watch, 1, clock_poll_ms(deadline));
    while (n < 0 && errno == EINTR);
    return n < 0 ? errno : !n ? EAGAIN : watch.revents & (POLLERR | POLLHUP | POLLNVAL) ? ENOENT : 0;
}

/* How many bytes are done with: taken, or beyond hope. */
static size_t deliver(const char *bytes, size_t size, int live, int64_t deadline)
{
    int own = live ? open_terminal() : -1, error;
    size_t sent = 0;

    do {
        error = await_room(deadline);
        ssize_t n = error ? 0 : write_quietly(own >= 0 ? own : STDERR_FILENO, bytes + sent, size - sent);
        if (n < 0)
            error = errno;
        else
            sent += (size_t)n;
    } while (!error && sent < size);
    fd_close(&own);
    return error && error != EAGAIN && error != EWOULDBLOCK ? size : sent;
}

/* Nonzero: all of the frame is out, or there is nowhere to put it any more. */
static int flush(int64_t deadline)
{
    if (frame_sent < frame_size && !fd_is(STDERR_FILENO, &frame_file))
        frame_sent = frame_size;
    if (frame_sent < frame_size)
        frame_sent += deliver(frame + frame_sent, frame_size - frame_sent, 1, deadline);
    return frame_sent == frame_size;
}

/* ---- Drawing: under lock */

static void put(const char *text)
{
    size_t size = strlen(text);
    memcpy(frame + frame_size, text, size + 1);
    frame_size += size;
}

static size_t write_line(const struct pool_progress *p, int64_t now, unsigned columns, char text[PROGRESS_LINE])
{
    struct progress_line line = {
        .label = p->label, .total = p->total, .seconds = (double)(now - p->start) / (double)NS_PER_S,
        .failed = atomic_load_explicit(&p->failed, memory_order_relaxed), .done = atomic_load_explicit(&p->done, memory_order_relaxed),
        .columns = columns, .unicode = p->unicode,
    };
    return progress_line(&line, text);
}

/* The line in place of what was there, the cursor behind it. */
static void put_line(const struct pool_progress *p, int64_t now, unsigned columns)
{
    put("\033[K");
    frame_size += write_line(p, now, columns, frame + frame_size);
}

static void measure(unsigned *rows, unsigned *columns)
{
    struct winsize size = {0};

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0)
        size = (struct winsize){0};
    *rows = size.ws_row ? size.ws_row : ROWS;
    *columns = size.ws_col ? size.ws_col : COLUMNS;
}

/* The first one from here on that is drawn as it runs. */
static const struct pool_progress *visible(const struct pool_progress *p)
{
    while (p && !(p->live && is_there(p)))
        p = p->next;
    return p;
}

/* From the highest line on: what has finished, if anything, for good; then those that run, as many as fit above a line that is free. */
static void compose(const struct pool_progress *finished, const struct pool_progress *first, int64_t now)
{
    unsigned rows, columns, before = lines;
    char up[32];

    measure(&rows, &columns);
    frame_size = frame_sent = 0;
    if (lines > 1) {
        snprintf(up, sizeof up, "\033[%uA", lines - 1);
        put(up);
    }
    put("\r");
    lines = 0;
    if (finished) {
        put_line(finished, now, columns);
        put("\r\n");
        before -= before > 0;
    }
    for (const struct pool_progress *p = first; p && lines < BARS_MOST && (!lines || lines + 1 < rows); p = visible(p->next)) {
        if (lines++)
            put("\r\n");
        put_line(p, now, columns);
    }
    if (lines < before)
        put("\033[J");
}

static void draw(const struct pool_progress *finished, int64_t now, int64_t deadline)
{
    const struct pool_progress *first = visible(bars);
    unsigned before = lines;

    if (!finished && !first)
        return;
    frame_file = finished ? finished->file : first->file;
    compose(finished, first, now);
    if (!flush(deadline) && !frame_sent) {      /* as if it had not been: a newer one will say more */
        frame_size = 0;
        lines = before;
    }
}

static void redraw(int64_t now)
{
    if (pthread_mutex_trylock(&lock) == 0) {
        if (!would_stop() && flush(0))
            draw(NULL, now, 0);
        pthread_mutex_unlock(&lock);
    }
    atomic_store_explicit(&due, now + PERIOD, memory_order_relaxed);    /* drawn or not */
}

static void redraw_if_due(const struct pool_progress *p)
{
    int64_t ticks, now;

    if (!p->live)
        return;
    ticks = clock_ticks();
    if (ticks == atomic_load_explicit(&seen, memory_order_relaxed))
        return;
    atomic_store_explicit(&seen, ticks, memory_order_relaxed);
    now = clock_now();
    if (now < atomic_load_explicit(&due, memory_order_relaxed))
        return;
    int saved = errno;
    redraw(now);
    errno = saved;
}

/* ---- Counting */

struct pool_progress *pool_progress_start(const char *label, size_t total)
{
    int saved = errno, error;
    status_clear();
    if (forks_in_worker)
        return status_null(EINVAL, "a worker draws no progress bar: count in the program that has the pool");
    error = pthread_once(&once, watch_forks);
    error = error ? error : once_failure;
    struct pool_progress *p = error ? NULL : calloc(1, sizeof *p);
    if (!p)
        return status_null(error ? error : ENOMEM, "no memory for a progress bar");
    p->forks = forks_count;
    p->total = total;
    p->live = moves_cursor();
    p->unicode = has_unicode();
    p->open = fd_identify(STDERR_FILENO, &p->file) == 0;
    p->start = clock_now();
    progress_label(label, p->unicode, p->label);

    pthread_mutex_lock(&lock);
    struct pool_progress **end = &bars;
    while (*end)
        end = &(*end)->next;
    *end = p;
    pthread_mutex_unlock(&lock);
    redraw_if_due(p);
    errno = saved;
    return p;
}

void pool_progress_add(struct pool_progress *p, size_t done, size_t failed)
{
    if (!is_ours(p))
        return;
    atomic_fetch_add_explicit(&p->done, done, memory_order_relaxed);
    if (failed)
        atomic_fetch_add_explicit(&p->failed, failed, memory_order_relaxed);
    redraw_if_due(p);
}

void progress_show(struct pool_progress *p, size_t done, size_t failed)
{
    if (!is_ours(p))
        return;
    atomic_store_explicit(&p->done, done, memory_order_relaxed);
    atomic_store_explicit(&p->failed, failed, memory_order_relaxed);
    redraw_if_due(p);
}

int64_t progress_due(const struct pool_progress *p)
{
    if (!is_ours(p) || !p->live)
        return CLOCK_NEVER;
    return atomic_load_explicit(&due, memory_order_relaxed) + TICK;     /* when the ticks are sure to have changed since a look before */
}

/* ---- The end */

static void end_on_terminal(const struct pool_progress *p, int64_t now)
{
    int64_t deadline = now + LAST_WAIT;

    if (flush(deadline))
        draw(p, now, deadline);
    if (!bars)
        frame_size = frame_sent = 0;    /* what is left no terminal has taken for long, and the next bar may be on another */
    else
        atomic_store_explicit(&due, now + PERIOD, memory_order_relaxed);
}

static void end_elsewhere(const struct pool_progress *p, int64_t now)
{
    char text[PROGRESS_LINE + 1];
    size_t size = write_line(p, now, COLUMNS - 1, text);

    text[size++] = '\n';
    deliver(text, size, 0, now + LAST_WAIT);
}

static void end(struct pool_progress *p)
{
    int64_t now = clock_now();
    struct pool_progress **place = &bars;

    pthread_mutex_lock(&lock);
    while (*place != p)
        place = &(*place)->next;
    *place = p->next;
    if (is_there(p) && p->live)
        end_on_terminal(p, now);
    else if (is_there(p))
        end_elsewhere(p, now);
    if (!bars)
        lines = 0;
    pthread_mutex_unlock(&lock);
}

void pool_progress_finish(struct pool_progress *p)
{
    int saved = errno;

    if (is_ours(p))
        end(p);
    free(p);
    errno = saved;
}
