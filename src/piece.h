/* What travels between those who ask for work and those who can do it: a call's definition, and a piece of its items. */
#ifndef POOL_PIECE_H
#define POOL_PIECE_H

#include "object.h"

#include <stddef.h>
#include <stdint.h>

/* Where the results of a call are to lie. */
enum result_mode {
    RESULT_FRAMED,          /* each result in a frame */
    RESULT_PACKED,          /* results of out_size lie beside their items, one after the other; only other ends make frames */
    RESULT_DROPPED          /* nobody wants them; only other ends make frames */
};

/* What a call asks for on each of its items; equal in all but the pointer means the same to a worker. */
struct call_definition {
    struct object_ref fn;
    uint64_t    common_id;              /* numbers the contexts of a pool; 0: none */
    const void *common;
    size_t      common_size;
    size_t      out_size;
    uint32_t    mode;                   /* enum result_mode */
    uint32_t    timed;                  /* its items have a time limit */
};

/* Items of one size to be posted together, or taken back together. */
struct piece {
    void       *owner;
    size_t      index;                  /* of the first */
    size_t      count;
    const void *data;                   /* count * size bytes */
    size_t      size;
    void       *owned;                  /* heap memory that holds data and goes with it; NULL: it is somebody else's */
    int         source_keeps;           /* the owner can find the data again by the index */
    unsigned    tries;                  /* starts so far */
};

#endif
