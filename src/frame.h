/* Frames: a header and an opaque payload, as bytes in a ring. */
#ifndef POOL_FRAME_H
#define POOL_FRAME_H

#include <stddef.h>
#include <stdint.h>

/* `tag` says what the frame is about: a position, a slot, a generation. `size` counts payload bytes. */
struct frame {
    uint32_t    kind;
    uint32_t    tag;
    uint64_t    size;
    const void *payload;
};

enum { FRAME_HEAD = 16 };           /* bytes of a header; the payload follows at once */
enum { FRAME_PAD = 0xffff };        /* kind of what fills the end of a ring that is too short for the next frame */

enum frame_verdict {
    FRAME_WHOLE,                    /* *frame is filled in */
    FRAME_SHORT,                    /* not all of it is there yet */
    FRAME_BAD                       /* this is no frame */
};

/* Writes a header at `at`, which has FRAME_HEAD bytes. kind < 65536. */
void frame_write(void *at, uint32_t kind, uint32_t tag, uint64_t size);

/* Reads the frame at the start of `have` bytes, each header word once. Never looks beyond them. */
enum frame_verdict frame_read(const void *bytes, size_t have, struct frame *frame);

/* A ring of frames as one side sees it. Offsets count bytes for ever; size and align are powers of two, align >= FRAME_HEAD,
 * and every frame starts at a multiple of align. */
struct frame_ring {
    unsigned char *bytes;
    size_t         size;
    size_t         align;
};

/* Bytes that a frame with such a payload takes of the ring, without padding before it. */
uint64_t frame_extent(const struct frame_ring *ring, uint64_t payload);

/* Where the next frame's payload may be written when `head` ... `tail` is in use: moves *tail over the padding that it needs (writing
 * the pad) and returns the payload's place, or NULL if there is no room. The frame is not there before frame_commit. */
void *frame_reserve(const struct frame_ring *ring, uint64_t head, uint64_t *tail, uint64_t payload);

/* Moves *tail to the ring's beginning, over padding, before it has come to the end: where more than `hot` bytes lie before it, half of that
 * is enough for what is in use, and `want` bytes are free at the beginning. To be called before what is then reserved. */
void frame_turn_early(const struct frame_ring *ring, uint64_t head, uint64_t *tail, size_t hot, size_t want);

/* Writes the header before a reserved payload (which may have become shorter) and returns the new tail. */
uint64_t frame_commit(const struct frame_ring *ring, uint64_t tail, uint32_t kind, uint32_t tag, uint64_t payload);

/* Reads the frame at *head, skipping padding (moves *head over it). `tail` is believed no further than the ring is large. */
enum frame_verdict frame_peek(const struct frame_ring *ring, uint64_t *head, uint64_t tail, struct frame *frame);

#endif
