/* The words behind a failure.
 *
 * Runs in every process and any thread. Each thread has one sentence of its own, so no lock is needed, none can be left
 * locked by a fork, and a failure in one thread never overwrites what another is about to read.
 *
 * Invariants: the text always ends within its array; a public call that did not fail leaves it empty; nothing here changes
 * errno, except status_null, whose purpose that is. A sentence may quote the one before it ("cannot start: %s" with
 * pool_error() as the argument), hence it is made aside and then moved into place.
 *
 * System errors are named by strerrordesc_np where there is one, since strerror_r translates, and the translation takes
 * locks that a thread of the host may have held when this process was forked. strerror() would not do at all: threads share
 * its buffer in some libcs. */
#define _GNU_SOURCE
#include "status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#if defined(__GLIBC__)
#define HAVE_DESCRIPTIONS __GLIBC_PREREQ(2, 32)
#else
#define HAVE_DESCRIPTIONS 0
#endif

enum { TEXT_SIZE = 1200 };              /* room for a task's message of 1,000 bytes and what is said around it */

static _Thread_local char sentence[TEXT_SIZE];

static const char *const names[] = {
    [POOL_OK]            = "done",
    [POOL_FAILED]        = "the task failed",
    [POOL_CRASHED]       = "the worker died while it ran the task",
    [POOL_TIMED_OUT]     = "the time limit was exceeded",
    [POOL_CANCELLED]     = "cancelled",
    [POOL_SOURCE_FAILED] = "the generator of the items failed",
    [POOL_BROKEN]        = "the pool cannot start workers any more",
    [POOL_CLOSED]        = "nothing more is accepted or will ever come",
    [POOL_INVALID]       = "the call makes no sense as it is",
    [POOL_NO_MEMORY]     = "out of memory",
    [POOL_PENDING]       = "not finished yet",
};

const char *pool_status_text(enum pool_status status)
{
    unsigned i = (unsigned)status;

    return i < sizeof names / sizeof *names && names[i] ? names[i] : "unknown status";
}

const char *pool_error(void)
{
    return sentence;
}

const char *status_text(void)
{
    return sentence;
}

void status_clear(void)
{
    if (sentence[0])                    /* a page that is not written to need not be copied after a fork */
        sentence[0] = '\0';
}

static void note(const char *format, va_list args)
{
    char fresh[TEXT_SIZE];
    int length = vsnprintf(fresh, sizeof fresh, format, args);

    if (length < 0)                     /* a format that libc cannot carry out: better its bare words than silence */
        length = snprintf(fresh, sizeof fresh, "%s", format);
    if (length >= TEXT_SIZE)
        length = TEXT_SIZE - 1;
    memcpy(sentence, fresh, (size_t)length + 1);
}

enum pool_status status_say(enum pool_status status, const char *format, ...)
{
    int saved = errno;
    va_list args;

    va_start(args, format);
    note(format, args);
    va_end(args);
    errno = saved;
    return status;
}

void *status_null(int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note(format, args);
    va_end(args);
    errno = error;
    return NULL;
}

#if HAVE_DESCRIPTIONS

static const char *describe(int error, char *text, size_t size)
{
    (void)text, (void)size;
    return strerrordesc_np(error);
}

#else

/* strerror_r comes in two kinds: GNU's returns the text, which may lie elsewhere; POSIX's returns 0 or an error number. */
static inline const char *of_gnu(const char *result, const char *text)
{
    (void)text;
    return result;
}

static inline const char *of_posix(int result, const char *text)
{
    return result == 0 ? text : NULL;
}

static const char *describe(int error, char *text, size_t size)
{
    return _Generic(strerror_r(error, text, size), char *: of_gnu, int: of_posix)(strerror_r(error, text, size), text);
}

#endif

const char *status_errno(int error, char *text, size_t size)
{
    int saved = errno;
    char room[256] = "";
    const char *words = describe(error, room, sizeof room);

    if (words && *words)
        snprintf(text, size, "%s", words);
    else
        snprintf(text, size, "error %d", error);
    errno = saved;
    return text;
}
