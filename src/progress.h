/* Progress bars: what a pool asks of them. */
#ifndef POOL_PROGRESS_H
#define POOL_PROGRESS_H

#include <forkpool.h>

#include <stdint.h>

/* Sets the counts, and draws if it is time to. Cheap where it is not: no lock, one look at clock_ticks(). Any thread; leaves errno
 * alone; never waits. NULL is fine. */
void progress_show(struct pool_progress *progress, size_t done, size_t failed);

/* When to call progress_show again at the latest, though no count has changed, for the time that passes. CLOCK_NEVER where nothing is
 * drawn before the end. NULL is fine. */
int64_t progress_due(const struct pool_progress *progress);

#endif
