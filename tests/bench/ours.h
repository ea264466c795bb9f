/* What the parts of the benchmark of forkpool itself share. */
#ifndef OURS_H
#define OURS_H

#include "bench.h"

#include <forkpool.h>

struct workload {
    const char *name;
    void (*run)(void);
};
extern const struct workload life_workloads[], more_workloads[], queue_workloads[];     /* each ends with a NULL name */

void need(int good);                                                /* or else says pool_error() and ends the program */
struct pool *start(unsigned workers, unsigned no_spin);
int echo(struct pool_task *task);
double stream_items(struct pool *pool);                             /* W3 once: M items a second */
double round_trips(struct pool *pool, int count);                   /* W2: us each */
void apart(void (*run)(const void *), const void *arg);             /* in a process of its own */

#endif
