/* Where what was got lies until the next get: one place for each thread.
 *
 * Runs in a process that gets, any thread. For each thread and not for the process, or threads that get from one queue would pull items
 * from under each other. A thread is known by the address of something of its own; one that has ended leaves its place to the next that has
 * that address, so there are no more places than there were threads at a time.
 *
 * Changed under forks_lock, so that a child that is forked meanwhile finds them whole. */
#include "queue_items.h"

#include "forks.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { ROOM_LEAST = 256, KEEP_MOST = 16 << 20 };

static _Thread_local char self;

static struct queue_item *add(struct queue_items *items)
{
    struct queue_item *item = calloc(1, sizeof *item);

    if (!item)
        return NULL;
    item->thread = &self;
    forks_lock();                       /* nobody else adds meanwhile, either */
    item->next = atomic_load_explicit(&items->first, memory_order_relaxed);
    atomic_store_explicit(&items->first, item, memory_order_release);
    forks_unlock();
    return item;
}

static void replace(struct queue_item *item, size_t room)
{
    forks_lock();
    free(item->data);
    item->data = room ? malloc(room) : NULL;
    item->room = item->data ? room : 0;
    forks_unlock();
}

struct queue_item *queue_items_mine(struct queue_items *items)
{
    struct queue_item *item = atomic_load_explicit(&items->first, memory_order_acquire);

    while (item && item->thread != &self)
        item = item->next;
    if (!item)
        return add(items);
    if (item->room > KEEP_MOST)         /* not to be kept while this thread waits for the next one */
        replace(item, 0);
    return item;
}

int queue_item_reserve(struct queue_item *item, size_t size)
{
    if (size > item->room || !item->room)
        replace(item, size < ROOM_LEAST ? ROOM_LEAST : size);
    return item->room ? 0 : ENOMEM;
}

void queue_items_free(struct queue_items *items)
{
    struct queue_item *item = atomic_load_explicit(&items->first, memory_order_acquire), *next;

    for (; item; item = next) {
        next = item->next;
        free(item->data);
        free(item);
    }
    atomic_store_explicit(&items->first, NULL, memory_order_relaxed);
}
