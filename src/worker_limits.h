/* What a worker may use, and what it has. */
#ifndef POOL_WORKER_LIMITS_H
#define POOL_WORKER_LIMITS_H

#include <stddef.h>

/* All zero: no limits. */
struct worker_limits {
    size_t   max_memory;        /* bytes of its own beyond what it had when ready: it takes no further item then */
    size_t   memory_limit;      /* bytes of address space beyond what it had at birth */
    double   cpu_limit;         /* CPU seconds */
    int      nice;
    unsigned pin;
};

/* In the new worker, before the initializer. 0; else an errno, and *what could not be done in words. */
int worker_limit(const struct worker_limits *limits, unsigned index, const char **what);

/* Bytes of memory that are this process's own: not what it shares, nor files; what it had of the host at the fork is a constant in it.
 * 0 where the system does not tell. */
size_t worker_memory(void);

#endif
