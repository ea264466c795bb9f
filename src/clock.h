/* Time: absolute, monotonic, in nanoseconds. Durations exist only at the very top, where a caller gives them. */
#ifndef POOL_CLOCK_H
#define POOL_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER INT64_MAX           /* a deadline that does not come */

int64_t clock_now(void);

/* Some number that changes every few milliseconds, cheaper than the time. */
int64_t clock_ticks(void);

/* now + seconds, saturating: negative or infinite seconds are CLOCK_NEVER, 0 and NaN are now. */
int64_t clock_deadline(double seconds);

/* What poll() wants until `deadline`: milliseconds rounded up (so that a wait is never early), -1 for CLOCK_NEVER, 0 if it
 * has passed. */
int clock_poll_ms(int64_t deadline);

/* What ppoll() wants: the time left, in *left, or NULL for CLOCK_NEVER. */
const struct timespec *clock_left(int64_t deadline, struct timespec *left);

#endif
