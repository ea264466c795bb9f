/* An iterator's results that wait for their consumer: a ring of cells, one for each item of the window. */
#ifndef POOL_CELLS_H
#define POOL_CELLS_H

#include "ending.h"

#include <stdatomic.h>

struct cell {
    struct pool_result result;
    _Atomic unsigned   full;            /* set by the thread that settles, cleared by the consumer */
    int                slot;            /* lender's place that holds the data, or -1 */
    void              *lender;
    void              *heap;            /* own memory for data or message; kept for the next result if it is small */
    size_t             heap_size;
    _Alignas(16) unsigned char small[32];
};

struct cells {
    struct cell   *cells;
    size_t         mask;
    int            ordered;
    size_t         keep;                /* bytes of heap that a cell may keep */
    size_t         filled;              /* cells filled so far, */
    size_t         filled_bytes;        /*   with so much; under the lock */
    _Atomic size_t delivered;           /* results given to the consumer so far, holes included: the consumer's to change, as is */
    _Atomic size_t delivered_bytes;     /*   their size */
    size_t         holes;               /*   and so many of them were holes; the consumer's alone */
};

int  cells_init(struct cells *cells, size_t window, int ordered);       /* 0, or ENOMEM */
void cells_fini(struct cells *cells);                                   /* no cell lends any more */

/* Puts an ending in its cell. 1: the lender's place is kept until the cell is cleared; -1: no memory for the result, and the cell says
 * so as a failure. `owned` is taken over. Under the lock. */
int cells_fill(struct cells *cells, const struct ending *ending);

/* The consumer: the next cell if it is full, else NULL. */
struct cell *cells_front(struct cells *cells);

/* The consumer, once nothing will be filled any more: the next full cell before `end`, over holes. */
struct cell *cells_front_over_holes(struct cells *cells, size_t end);

/* The consumer has got that one: nobody else writes these counts, so it takes no locked step. */
static inline void cells_deliver(struct cells *cells, const struct cell *cell)
{
    size_t count = atomic_load_explicit(&cells->delivered, memory_order_relaxed);
    size_t bytes = atomic_load_explicit(&cells->delivered_bytes, memory_order_relaxed);
    atomic_store_explicit(&cells->delivered_bytes, bytes + cell->result.size, memory_order_relaxed);
    atomic_store_explicit(&cells->delivered, count + 1, memory_order_release);
}

/* Bytes of the results that wait. Under the lock. */
static inline size_t cells_bytes(const struct cells *cells)
{
    return cells->filled_bytes - atomic_load_explicit(&cells->delivered_bytes, memory_order_relaxed);
}

/* The consumer is done with that cell. The lender's place must have been given up. */
void cells_clear(struct cells *cells, struct cell *cell);

#endif
