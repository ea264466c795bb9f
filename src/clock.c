/* Time, in nanoseconds of the monotonic clock.
 *
 * Runs in every process and any thread; keeps no state. On Linux the clock is the same for all processes, so that a time
 * noted by a worker can be compared with one of the caller's.
 *
 * Invariants: a deadline is made from a duration once, where the user gives it, and is passed down as it is; a wait that is
 * interrupted or split therefore never grows. Nothing overflows: what lies beyond the end of the scale, some 292 years of
 * uptime, is CLOCK_NEVER.
 *
 * Not the wall clock, which is set back and forth while we wait; and one integer rather than struct timespec, since
 * deadlines are compared far more often than they are read from the system. */
#define _GNU_SOURCE
#include "clock.h"

#include <limits.h>
#include <time.h>

#define NS_PER_S  1000000000
#define NS_PER_MS 1000000

int64_t clock_now(void)
{
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_MONOTONIC, &now);       /* cannot fail: the clock exists and the pointer is good */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_ticks(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
#else
    return clock_now() / (4 * NS_PER_MS);
#endif
}

int64_t clock_deadline(double seconds)
{
    int64_t now = clock_now();
    double left = (double)(CLOCK_NEVER - now), duration = seconds * NS_PER_S;

    if (seconds < 0)
        return CLOCK_NEVER;
    if (!(duration > 0))                        /* 0, and NaN, which no comparison is true of */
        return now;
    if (duration >= left * 0.999999)            /* a double has 53 bits: keep a margin, so that the sum below cannot overflow */
        return CLOCK_NEVER;
    return now + (int64_t)duration;
}

const struct timespec *clock_left(int64_t deadline, struct timespec *left)
{
    int64_t ns;

    if (deadline == CLOCK_NEVER)
        return NULL;
    ns = deadline - clock_now();
    ns = ns > 0 ? ns : 0;
    *left = (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    return left;
}

int clock_poll_ms(int64_t deadline)
{
    int64_t now, ms;

    if (deadline == CLOCK_NEVER)
        return -1;
    now = clock_now();
    if (deadline <= now)
        return 0;
    ms = (deadline - now - 1) / NS_PER_MS + 1;  /* rounded up without a sum that could overflow */
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
