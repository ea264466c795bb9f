/* Where what was got lies until the next get: one place for each thread. */
#ifndef POOL_QUEUE_ITEMS_H
#define POOL_QUEUE_ITEMS_H

#include <stddef.h>

struct queue_item {
    struct queue_item *next;
    const void        *thread;          /* whose it is */
    void              *data;            /* aligned as malloc's */
    size_t             room;
};

struct queue_items { struct queue_item *_Atomic first; };

/* The calling thread's; NULL: no memory. What lay there may be gone. */
struct queue_item *queue_items_mine(struct queue_items *items);

/* Makes room; what lay there is gone. 0 or ENOMEM. */
int queue_item_reserve(struct queue_item *item, size_t size);

void queue_items_free(struct queue_items *items);

#endif
