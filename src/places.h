/* Places: what an index of the pool stands for, one worker after the other. See crew.h, of which this is a part. */
#ifndef POOL_PLACES_H
#define POOL_PLACES_H

#include "crew.h"

/* An empty slot of nobody's, or NULL. */
struct crew_worker *places_free_slot(struct crew *crew);

/* Gives the slot to an index, as its holder or as its heir; it is to be born at once. */
void places_hold(struct crew *crew, struct crew_worker *worker, unsigned index);
void places_inherit(struct crew *crew, struct crew_worker *worker, unsigned index);

/* The holder is done with: its heir takes the place, if there is one; the slot is nobody's. Returns the new holder, or NULL. */
struct crew_worker *places_succeed(struct crew *crew, struct crew_worker *worker);

/* A slot is nobody's any more. */
void places_leave(struct crew *crew, struct crew_worker *worker);

int places_is_holder(const struct crew *crew, const struct crew_worker *worker);

/* Workers that may be given items: ready holders. */
void places_add_hand(struct crew *crew, struct crew_worker *worker);
void places_remove_hand(struct crew *crew, struct crew_worker *worker);

#endif
