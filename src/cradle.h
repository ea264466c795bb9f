/* The nursery's slots: births, deaths, kills, and what the host has not been told of them yet. */
#ifndef POOL_CRADLE_H
#define POOL_CRADLE_H

#include <stdint.h>

#include "fd.h"
#include "spare.h"

struct cradles;

/* In the host, before the fork. NULL: no memory. */
struct cradles *cradles_create(unsigned slots);
void cradles_destroy(struct cradles *cradles);          /* NULL is fine */

/* The rest in the nursery, which has SIGCHLD blocked. */

/* Forks a worker, or makes one of the spare; owes the host a report. Ignored where the slot is taken or none. pipes are left to the
 * caller; -1: they did not arrive. */
void cradles_bear(struct cradles *cradles, unsigned slot, uint32_t generation, const int pipes[FD_MAX], const struct newborn *newborn);

/* Forks a spare for the next replacement, where there has been one and no spare is left. */
void cradles_prepare(struct cradles *cradles, const struct newborn *newborn);

/* Kills that worker and its group, if it is alive and of that generation. */
void cradles_kill(struct cradles *cradles, unsigned slot, uint32_t generation);

/* Kills all of them, the spare too; how many there were to kill. */
int cradles_kill_all(struct cradles *cradles);

/* Reaps all children that are dead, whoever they are. Zero: no child is left at all. Does not block. */
int cradles_reap(struct cradles *cradles);

/* Nonzero: no worker is alive, and nothing is left to tell. */
int cradles_are_empty(const struct cradles *cradles);

/* Nonzero: there is something to tell. */
int cradles_owe(const struct cradles *cradles);

/* Sends it, as far as the socket takes it: poll tells when to go on, and when there is nobody to tell any more. */
void cradles_tell(struct cradles *cradles, int socket);

#endif
