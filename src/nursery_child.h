/* The nursery process: forks the workers, reaps them, kills them, and outlives the host by the time that takes.
 *
 * What it needs is made by the host before the fork, since a child of a program with threads must not allocate. */
#ifndef POOL_NURSERY_CHILD_H
#define POOL_NURSERY_CHILD_H

#include <stdnoreturn.h>

#include "nursery.h"

struct nursery_child;

/* In the host. Copies *setup, but not what it points to. Takes neither descriptor: the nursery's end of the socket, and a
 * pidfd of this process (-1: there is none, the nursery then looks every 250 ms). NULL: no memory. */
struct nursery_child *nursery_child_create(const struct nursery_setup *setup, int socket, int host);
void nursery_child_destroy(struct nursery_child *child);        /* NULL is fine */

/* In the process that was forked in between: tells the host that the nursery could not be. */
void nursery_child_stillborn(const struct nursery_child *child, int error);

/* In the nursery, all signals blocked; `hosts_end` of the socket is closed here. `setup.birth` is called with all signals still
 * blocked and their dispositions default: it opens the mask itself. */
noreturn void nursery_child_run(struct nursery_child *child, int hosts_end);

#endif
