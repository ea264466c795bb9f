/* The nursery's slots: births, deaths, kills, and what the host has not been told of them yet. */
#ifndef POOL_CRADLE_H
#define POOL_CRADLE_H

#include <stdint.h>

#include "fd.h"

struct cradles;

/* What a new worker does: never returns. */
typedef void cradle_begin_fn(void *context, unsigned slot, uint32_t generation, const int pipes[FD_MAX]);

/* In the host, before the fork. NULL: no memory. */
struct cradles *cradles_create(unsigned slots);
void cradles_destroy(struct cradles *cradles);          /* NULL is fine */

/* The rest in the nursery, which has SIGCHLD blocked. */

/* Forks a worker, which calls `begin`; owes the host a report. Ignored where the slot is taken or none. pipes are left to the
 * caller; -1: they did not arrive. */
void cradles_bear(struct cradles *cradles, unsigned slot, uint32_t generation, const int pipes[FD_MAX],
                  cradle_begin_fn *begin, void *context);

/* Kills that worker and its group, if it is alive and of that generation. */
void cradles_kill(struct cradles *cradles, unsigned slot, uint32_t generation);

/* Kills all of them; how many there were to kill. */
int cradles_kill_all(struct cradles *cradles);

/* Reaps all children that are dead, whoever they are. Zero: no child is left at all. Does not block. */
int cradles_reap(struct cradles *cradles);

/* Nonzero: there is something to tell. */
int cradles_owe(const struct cradles *cradles);

/* Sends it, as far as the socket takes it: poll tells when to go on, and when there is nobody to tell any more. */
void cradles_tell(struct cradles *cradles, int socket);

#endif
