/* Forking the nursery off the host. */
#ifndef POOL_NURSERY_FORK_H
#define POOL_NURSERY_FORK_H

#include <sys/types.h>

#include "nursery.h"

/* What the host has of its nursery. */
struct nursery_line {
    int   socket;                       /* the host's end */
    int   gone;                         /* a pidfd of the nursery; -1: not on this system */
    pid_t child;                        /* the nursery, if the host is its parent; else 0 */
};

/* Forks it. 0, or an errno with nothing left behind. */
int nursery_fork(struct nursery_line *line, const struct nursery_setup *setup);

/* Waits until it has settled in. 0, or an errno with nothing left behind. */
int nursery_hear_hello(struct nursery_line *line);

#endif
