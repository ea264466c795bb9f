/* Where the items of a call come from, and the items that came back unstarted. */
#ifndef POOL_SOURCE_H
#define POOL_SOURCE_H

#include "piece.h"

#include <forkpool.h>

enum source_kind { SOURCE_ARRAY = 1, SOURCE_RANGE, SOURCE_BUFFERS, SOURCE_GENERATOR };

typedef int source_next_fn(void *cursor, struct pool_bytes *item);

struct source {
    enum source_kind kind;
    const void      *base;              /* array, or list of struct pool_bytes */
    size_t           count;             /* of items that will be handed over; a generator's: pulled so far */
    size_t           total;             /* the same, but not less when the rest is dropped */
    size_t           size;              /* array: of one; generator: of the one last pulled */
    size_t           next;              /* index of the first item not yet handed over */
    source_next_fn  *pull;              /* generator; NULL once it has ended */
    void            *cursor;
    struct piece    *returned;          /* items that have to be handed over again, lowest index last */
    size_t           returned_count, returned_room;
};

/* Unpacks what pool_array and its like packed. 0, or -1 with the reason said (status.h). */
int  source_init(struct source *source, struct pool_items items);
void source_fini(struct source *source);

/* The next items that are there to be handed over: how many in one piece (0: none now) and the size of each. */
size_t source_ready(const struct source *source, size_t *item_size);

/* Are some there that came back? A generator has no others that are there. */
static inline int source_has_returned(const struct source *s) { return s->returned_count != 0; }

/* Takes up to `most` of them; *piece is without owner. */
void source_take(struct source *source, size_t most, struct piece *piece);

/* The generator gave so many more items, up to index next-1 from now on; where they go is the puller's business. */
static inline void source_pulled(struct source *s, size_t count) { s->total = s->count = s->next += count; }

/* Takes items back, copying data that lies elsewhere for a while only. 0, or ENOMEM: nothing was taken. */
int source_return(struct source *source, const struct piece *piece);

/* Drops all that was not handed over. */
void source_drop(struct source *source);

/* Items not handed over, as far as the source knows by now. */
size_t source_left(const struct source *source);
int    source_known(const struct source *source);       /* nonzero: source_left is all there will be */

#endif
