/* All results of a call, kept. */
#ifndef POOL_LIST_H
#define POOL_LIST_H

#include "ending.h"

struct pool_results {
    struct pool_result *results;        /* by index; beyond count: room */
    size_t              count, room;
    struct block       *blocks;         /* memory of data and messages */
    enum pool_status    status;
    unsigned            forks;          /* forks_count of its process: elsewhere nothing is freed */
};

struct pool_results *list_create(void);

/* Puts an ending at its index. `owned` is taken over. 0, or ENOMEM: the entry could not be kept. */
int list_put(struct pool_results *list, const struct ending *ending);

/* The call is over: those of `count` items of which nothing was heard are CANCELLED, or BROKEN where the call is. */
void list_close(struct pool_results *list, size_t count, enum pool_status status);

#endif
