/* A child that waits in the nursery to become a worker. */
#ifndef POOL_SPARE_H
#define POOL_SPARE_H

#include <stdint.h>
#include <sys/types.h>

#include "fd.h"

/* What a new worker does: first, whichever it becomes; and once it knows, which never returns. */
struct newborn {
    void (*arrive)(void *context);
    void (*live)(void *context, unsigned slot, uint32_t generation, const int pipes[FD_MAX]);
    void  *context;
};

struct spare { pid_t pid; int line; };          /* pid 0: none, and line -1 */

/* Forks it, where there is none. Fails silently: the next worker is then forked when it is asked for. */
void spare_bear(struct spare *spare, const struct newborn *newborn);

/* It becomes that worker, and is none any more: its pid. 0: there was none, or it is dead and still to be reaped. */
pid_t spare_send(struct spare *spare, unsigned slot, uint32_t generation, const int pipes[FD_MAX]);

/* It was reaped. */
void spare_mourn(struct spare *spare);

#endif
