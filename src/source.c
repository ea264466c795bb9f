/* Where the items of a call come from.
 *
 * Runs in the host, under the pool's lock; a generator is pulled elsewhere (pull.c), in the thread of the call and without the
 * lock, and its item is put in here only if no worker can take it at once. Arrays and ranges hand over spans of any length, buffers and
 * generators one item at a time. Items that were posted and came back unstarted go out again first, lowest index first: an ordered
 * consumer waits for them. For what the caller keeps (arrays, buffers, ranges) a returned piece is an index and a count. */
#include "source.h"

#include "copy.h"
#include "pages.h"
#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- The public constructors: pure packing; mistakes are told by the call that is given the items. */

static struct pool_items pack(enum source_kind kind, const void *base, size_t count, size_t size)
{
    return (struct pool_items){{(uintptr_t)kind, (uintptr_t)base, count, size, 0, 0}};
}

struct pool_items pool_array(const void *base, size_t count, size_t size)
{
    return pack(SOURCE_ARRAY, base, count, size);
}

struct pool_items pool_range(size_t count)
{
    return pack(SOURCE_RANGE, NULL, count, 0);
}

struct pool_items pool_buffers(const struct pool_bytes *buffers, size_t count)
{
    return pack(SOURCE_BUFFERS, buffers, count, 0);
}

struct pool_items pool_generator(source_next_fn *next, void *cursor)
{
    struct pool_items items = pack(SOURCE_GENERATOR, NULL, 0, 0);
    items.opaque[4] = (uintptr_t)next;
    items.opaque[5] = (uintptr_t)cursor;
    return items;
}

static int check_buffers(const struct pool_bytes *buffers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!buffers[i].data && buffers[i].size) {
            status_say(POOL_INVALID, "buffer %zu has NULL data with a size of %zu", i, buffers[i].size);
            return -1;
        }
    }
    return 0;
}

static int check(const struct source *s)
{
    switch (s->kind) {
    case SOURCE_ARRAY:
        if (s->size && s->count > SIZE_MAX / s->size)
            return status_say(POOL_INVALID, "an array of %zu elements of %zu bytes is larger than memory", s->count, s->size), -1;
        if (!s->base && s->count && s->size)
            return status_say(POOL_INVALID, "the array is NULL but has %zu elements", s->count), -1;
        return 0;
    case SOURCE_RANGE:
        return 0;
    case SOURCE_BUFFERS:
        if (!s->base && s->count)
            return status_say(POOL_INVALID, "the list of buffers is NULL but has %zu entries", s->count), -1;
        return check_buffers(s->base, s->count);
    case SOURCE_GENERATOR:
        if (!s->pull)
            return status_say(POOL_INVALID, "the generator's function is NULL"), -1;
        return 0;
    }
    return status_say(POOL_INVALID, "items are made by pool_array, pool_range, pool_buffers or pool_generator only"), -1;
}

int source_init(struct source *s, struct pool_items items)
{
    *s = (struct source){
        .kind = (enum source_kind)items.opaque[0],
        .base = (const void *)items.opaque[1],
        .count = items.opaque[2],
        .size = items.opaque[3],
        .pull = (source_next_fn *)items.opaque[4],
        .cursor = (void *)items.opaque[5],
    };
    s->total = s->count;
    return check(s);
}

void source_drop(struct source *s)
{
    for (size_t i = 0; i < s->returned_count; i++)
        free(s->returned[i].owned);
    s->returned_count = 0;
    s->count = s->next;
    s->pull = NULL;
}

void source_fini(struct source *s)
{
    source_drop(s);
    free(s->returned);
    s->returned = NULL;
}

/* ---- Handing over */

size_t source_left(const struct source *s)
{
    size_t left = s->count - s->next;
    for (size_t i = 0; i < s->returned_count; i++)
        left += s->returned[i].count;
    return left;
}

int source_known(const struct source *s)
{
    return !s->pull;
}

size_t source_ready(const struct source *s, size_t *item_size)
{
    if (s->returned_count) {
        const struct piece *piece = &s->returned[s->returned_count - 1];
        *item_size = piece->size;
        return piece->count;
    }
    if (s->next == s->count)
        return 0;
    if (s->kind == SOURCE_BUFFERS) {
        *item_size = ((const struct pool_bytes *)s->base)[s->next].size;
        return 1;
    }
    *item_size = s->size;
    return s->count - s->next;
}

/* The data of items that the caller keeps. */
static const void *kept(const struct source *s, size_t index)
{
    if (s->kind == SOURCE_ARRAY && s->base)
        return (const char *)s->base + index * s->size;
    return s->kind == SOURCE_BUFFERS ? ((const struct pool_bytes *)s->base)[index].data : NULL;
}

static void take_returned(struct source *s, size_t most, struct piece *piece)
{
    struct piece *last = &s->returned[s->returned_count - 1];
    *piece = *last;
    if (most >= last->count) {
        s->returned_count--;
        return;
    }
    piece->count = most;
    last->index += most;
    last->count -= most;
    last->data = last->source_keeps ? kept(s, last->index) : last->data;
}

void source_take(struct source *s, size_t most, struct piece *piece)
{
    if (s->returned_count) {
        take_returned(s, most, piece);
        return;
    }
    size_t size = 0, count = source_ready(s, &size);
    *piece = (struct piece){.index = s->next, .count = count < most ? count : most, .data = kept(s, s->next), .size = size,
                            .source_keeps = 1};
    s->next += piece->count;
}

/* ---- Taking back */

static int make_room(struct source *s)
{
    if (s->returned_count < s->returned_room)
        return 0;
    size_t room = s->returned_room ? s->returned_room * 2 : 16;
    struct piece *more = realloc(s->returned, room * sizeof *more);
    if (!more)
        return ENOMEM;
    s->returned = more;
    s->returned_room = room;
    return 0;
}

int source_return(struct source *s, const struct piece *piece)
{
    struct piece back = *piece;
    if (make_room(s))
        return ENOMEM;
    if (back.source_keeps) {
        back.data = kept(s, back.index);
    } else {
        if (!back.owned && back.size) {
            back.owned = malloc(back.size); /* a generator's piece is one item */
            if (!back.owned)
                return ENOMEM;
            pages_prepare(back.owned, back.size);
            copy_bytes(back.owned, back.data, back.size);
        }
        back.data = back.owned;             /* not where a worker had its copy: that is written over */
    }
    size_t at = s->returned_count++;
    for (; at && s->returned[at - 1].index < back.index; at--)
        s->returned[at] = s->returned[at - 1];
    s->returned[at] = back;
    return 0;
}
