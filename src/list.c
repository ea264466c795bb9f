/* All results of a call, kept until the caller frees them.
 *
 * Filled under the pool's lock while the call runs, then the caller's alone: reading a list needs no pool and no lock, and works in a
 * forked child too. Data and messages lie in blocks that are freed together: a million small results are not a million
 * allocations. A large result has a block of its own. */
#include "list.h"

#include "copy.h"
#include "forks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_LEAST = 256, BLOCK_MOST = 64 << 10 };    /* bytes: each is twice as large as the one before */

struct block {
    struct block *next;
    void         *owned;                /* heap memory that came from elsewhere, or NULL */
    size_t        used, size;
    _Alignas(16) unsigned char bytes[];
};

struct pool_results *list_create(void)
{
    struct pool_results *list = calloc(1, sizeof *list);
    if (list)
        list->forks = forks_count;
    return list;
}

static struct block *add_block(struct pool_results *list, size_t size)
{
    struct block *block = size > SIZE_MAX - sizeof *block ? NULL : malloc(sizeof *block + size);
    if (!block)
        return NULL;
    *block = (struct block){.next = list->blocks, .size = size};
    list->blocks = block;
    return block;
}

/* The newest block goes behind the one before it, which still has room for small results. */
static void put_behind(struct pool_results *list)
{
    struct block *newest = list->blocks, *current = newest->next;
    if (!current)
        return;
    newest->next = current->next;
    current->next = newest;
    list->blocks = current;
}

static void *keep(struct pool_results *list, const void *data, size_t size)
{
    struct block *block = list->blocks;
    if (!block || block->size - block->used < size) {
        size_t usual = block ? block->size * 2 : 0;
        usual = usual < BLOCK_LEAST ? BLOCK_LEAST : usual < BLOCK_MOST ? usual : BLOCK_MOST;
        int large = size > usual / 4;
        block = add_block(list, large ? size : usual);
        if (!block)
            return NULL;
        if (large)
            put_behind(list);
    }
    void *at = block->bytes + block->used;
    if (size)
        copy_bytes(at, data, size);
    size_t used = (block->used + size + 15) & ~(size_t)15;
    block->used = used < block->size ? used : block->size;
    return at;
}

static int grow(struct pool_results *list, size_t count)
{
    if (count <= list->room)
        return 0;
    size_t room = list->room * 2 > count ? list->room * 2 : count;
    if (room > SIZE_MAX / sizeof *list->results)
        return ENOMEM;
    struct pool_result *more = realloc(list->results, room * sizeof *more);
    if (!more)
        return ENOMEM;
    for (size_t i = list->room; i < room; i++)
        more[i] = (struct pool_result){.index = i, .status = POOL_PENDING, .message = ""};
    list->results = more;
    list->room = room;
    return 0;
}

static int keep_data(struct pool_results *list, struct pool_result *r, const struct ending *e)
{
    r->size = e->size;
    if (!e->owned) {
        r->data = keep(list, e->data, e->size);
        return r->data ? 0 : ENOMEM;
    }
    struct block *block = add_block(list, 0);
    if (!block) {
        free(e->owned);
        return ENOMEM;
    }
    block->owned = e->owned;
    put_behind(list);
    r->data = e->data;
    return 0;
}

int list_put(struct pool_results *list, const struct ending *e)
{
    if (e->index == SIZE_MAX || grow(list, e->index + 1)) {
        free(e->owned);
        return ENOMEM;
    }
    struct pool_result *r = &list->results[e->index];
    *r = (struct pool_result){.index = e->index, .status = e->status, .code = e->code, .signal = e->signal, .tries = e->tries,
                              .pid = e->pid, .message = ""};
    if (list->count <= e->index)
        list->count = e->index + 1;
    if (e->status != POOL_OK) {
        const char *text = e->text[0] ? keep(list, e->text, strlen(e->text) + 1) : NULL;
        r->message = text ? text : "";
        return 0;
    }
    if (!keep_data(list, r, e))
        return 0;
    r->data = NULL;
    r->size = 0;
    r->status = POOL_FAILED;
    r->code = -1;
    r->message = "no memory in the host for its result";
    return 0;
}

void list_close(struct pool_results *list, size_t count, enum pool_status status)
{
    list->status = status;
    if (!grow(list, count) && list->count < count)
        list->count = count;
    for (size_t i = 0; i < list->count; i++) {
        if (list->results[i].status == POOL_PENDING) {
            list->results[i].status = status == POOL_BROKEN ? POOL_BROKEN : POOL_CANCELLED;
            list->results[i].message = "it had not started when the call ended";
        }
    }
}

size_t pool_results_count(const struct pool_results *results)
{
    return results ? results->count : 0;
}

const struct pool_result *pool_results_at(const struct pool_results *results, size_t index)
{
    return results && index < results->count ? &results->results[index] : NULL;
}

enum pool_status pool_results_status(const struct pool_results *results)
{
    return results ? results->status : POOL_INVALID;
}

void pool_results_free(struct pool_results *results)
{
    if (!results || results->forks != forks_count)
        return;
    for (struct block *block = results->blocks, *next; block; block = next) {
        next = block->next;
        free(block->owned);
        free(block);
    }
    free(results->results);
    free(results);
}
