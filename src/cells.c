/* An iterator's results that wait for their consumer.
 *
 * Filled under the pool's lock by whichever thread turns the loop; emptied by the iterator's own thread without it, so that a consumer pays
 * no lock for a result that is already there: `full` is the hand-over, a release store there and an acquire load here. In order, an
 * item's cell is its index modulo the ring; unordered, the next free one. The ring has room for the window, for the result that the
 * consumer holds (it is not in the window any more) and for a generator's failure.
 *
 * Large results stay where the worker wrote them, in its lane: the cell borrows the slot. Small ones are copied into the cell, and those
 * between into memory that the cell keeps for the next. */
#include "cells.h"

#include "copy.h"
#include "pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP_TOTAL = 16 << 20 };         /* bytes of heap that all cells together may keep */

int cells_init(struct cells *c, size_t window, int ordered)
{
    size_t size = 4;
    while (size < window + 2)
        size *= 2;
    *c = (struct cells){.mask = size - 1, .ordered = ordered, .keep = KEEP_TOTAL / size};
    c->cells = calloc(size, sizeof *c->cells);
    return c->cells ? 0 : ENOMEM;
}

void cells_fini(struct cells *c)
{
    for (size_t i = 0; c->cells && i <= c->mask; i++)
        free(c->cells[i].heap);
    free(c->cells);
    c->cells = NULL;
}

/* Memory of the cell's own for `size` bytes, or NULL. */
static void *room(struct cell *cell, size_t size)
{
    if (size <= sizeof cell->small)
        return cell->small;
    if (size > cell->heap_size) {
        free(cell->heap);
        cell->heap = malloc(size);
        cell->heap_size = cell->heap ? size : 0;
        if (cell->heap)
            pages_prepare(cell->heap, size);
    }
    return cell->heap;
}

static void copy_text(struct cell *cell, const char *text)
{
    size_t size = strlen(text) + 1;
    char *own = size == 1 ? NULL : room(cell, size);
    if (own)
        memcpy(own, text, size);
    cell->result.message = own ? own : "";
}

/* 1: the place is borrowed; -1: no memory. */
static int copy_data(struct cell *cell, const struct ending *e)
{
    struct pool_result *r = &cell->result;
    r->size = e->size;
    r->data = e->data;
    if (e->owned) {
        free(cell->heap);
        cell->heap = e->owned;
        cell->heap_size = e->size;
        return 0;
    }
    if (e->lender) {
        cell->lender = e->lender;
        cell->slot = e->slot;
        return 1;
    }
    void *own = room(cell, e->size);
    if (own) {
        copy_bytes(own, e->data, e->size);
        r->data = own;
    } else {
        r->data = NULL;
        r->size = 0;
        r->status = POOL_FAILED;
        r->code = -1;
        r->message = "no memory in the host for its result";
    }
    return own ? 0 : -1;
}

int cells_fill(struct cells *c, const struct ending *e)
{
    struct cell *cell = &c->cells[(c->ordered ? e->index : c->filled) & c->mask];
    int borrowed = 0;
    c->filled++;
    cell->result = (struct pool_result){.index = e->index, .status = e->status, .code = e->code, .signal = e->signal, .tries = e->tries,
                                        .pid = e->pid, .message = ""};
    cell->lender = NULL;
    if (e->status == POOL_OK)
        borrowed = copy_data(cell, e);
    else
        copy_text(cell, e->text);
    c->filled_bytes += cell->result.size;
    atomic_store_explicit(&cell->full, 1, memory_order_release);
    return borrowed;
}

struct cell *cells_front(struct cells *c)
{
    struct cell *cell = &c->cells[atomic_load_explicit(&c->delivered, memory_order_relaxed) & c->mask];
    return atomic_load_explicit(&cell->full, memory_order_acquire) ? cell : NULL;
}

struct cell *cells_front_over_holes(struct cells *c, size_t end)
{
    for (; atomic_load(&c->delivered) < end; atomic_fetch_add(&c->delivered, 1), c->holes++) {
        struct cell *cell = cells_front(c);
        if (cell)
            return cell;
    }
    return NULL;
}

void cells_clear(struct cells *c, struct cell *cell)
{
    if (cell->heap_size > c->keep) {
        free(cell->heap);
        cell->heap = NULL;
        cell->heap_size = 0;
    }
    cell->lender = NULL;
    atomic_store_explicit(&cell->full, 0, memory_order_release);
}
