/* Frames in a ring of bytes.
 *
 * Pure bytes: no descriptors, no atomics, no waiting, so that all of it can be tested with plain arrays. Who owns which part of a
 * ring, and when a tail is published, is the business of the floors above.
 *
 * A frame lies in one piece: where the end of the ring is too short for it, a pad frame fills that end. Readers believe nothing: a
 * header carries a check of its own words, and its size is held against what is there before anything is made of it. The check
 * is no protection against malice, it finds a task that wrote over its own channel.
 *
 * Each header word is read once, since the memory may change under the reader's eyes. */
#include "frame.h"

#include <string.h>

static uint32_t check_of(uint32_t kind, uint32_t tag, uint64_t size)
{
    uint64_t mix = (size ^ ((uint64_t)tag << 32 | kind) ^ 0x6670u) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(mix >> 48);
}

void frame_write(void *at, uint32_t kind, uint32_t tag, uint64_t size)
{
    uint32_t words[2] = {check_of(kind, tag, size) << 16 | kind, tag};
    memcpy(at, words, sizeof words);
    memcpy((unsigned char *)at + sizeof words, &size, sizeof size);
}

enum frame_verdict frame_read(const void *bytes, size_t have, struct frame *frame)
{
    if (have < FRAME_HEAD)
        return FRAME_SHORT;
    uint32_t words[2];
    uint64_t size;
    memcpy(words, bytes, sizeof words);
    memcpy(&size, (const unsigned char *)bytes + sizeof words, sizeof size);
    uint32_t kind = words[0] & 0xffff;
    if (words[0] >> 16 != check_of(kind, words[1], size))
        return FRAME_BAD;
    if (size > have - FRAME_HEAD)
        return FRAME_SHORT;
    *frame = (struct frame){kind, words[1], size, (const unsigned char *)bytes + FRAME_HEAD};
    return FRAME_WHOLE;
}

uint64_t frame_extent(const struct frame_ring *ring, uint64_t payload)
{
    return (FRAME_HEAD + payload + ring->align - 1) & ~((uint64_t)ring->align - 1);
}

void *frame_reserve(const struct frame_ring *ring, uint64_t head, uint64_t *tail, uint64_t payload)
{
    if (payload > ring->size - FRAME_HEAD)
        return NULL;
    uint64_t at = *tail & (ring->size - 1);
    uint64_t extent = frame_extent(ring, payload), to_end = ring->size - at;
    uint64_t pad = extent > to_end ? to_end : 0;
    if (*tail - head + pad + extent > ring->size)
        return NULL;
    if (pad) {
        frame_write(ring->bytes + at, FRAME_PAD, 0, pad - FRAME_HEAD);
        *tail += pad;
        at = 0;
    }
    return ring->bytes + at + FRAME_HEAD;
}

/* Pages of a ring that were never touched, and lines that have left the cache, cost more than all else in a small frame: with 256 workers,
 * a stream of a million small items went at half its pace the first times. */
void frame_turn_early(const struct frame_ring *ring, uint64_t head, uint64_t *tail, size_t hot, size_t want)
{
    uint64_t used = *tail - head, at = *tail & (ring->size - 1), to_end = ring->size - at;
    if (at < hot || used > hot / 2 || used + to_end + want > ring->size)
        return;
    frame_write(ring->bytes + at, FRAME_PAD, 0, to_end - FRAME_HEAD);
    *tail += to_end;
}

uint64_t frame_commit(const struct frame_ring *ring, uint64_t tail, uint32_t kind, uint32_t tag, uint64_t payload)
{
    frame_write(ring->bytes + (tail & (ring->size - 1)), kind, tag, payload);
    return tail + frame_extent(ring, payload);
}

enum frame_verdict frame_peek(const struct frame_ring *ring, uint64_t *head, uint64_t tail, struct frame *frame)
{
    for (;;) {
        uint64_t used = tail - *head, at = *head & (ring->size - 1);
        if (used > ring->size || used & (ring->align - 1))
            return FRAME_BAD;
        if (!used)
            return FRAME_SHORT;
        uint64_t to_end = ring->size - at;
        enum frame_verdict verdict = frame_read(ring->bytes + at, used < to_end ? used : to_end, frame);
        if (verdict == FRAME_SHORT || (verdict == FRAME_WHOLE && frame_extent(ring, frame->size) > used))
            return FRAME_BAD;       /* a tail is only ever moved over whole frames */
        if (verdict == FRAME_BAD || frame->kind != FRAME_PAD)
            return verdict;
        *head += frame_extent(ring, frame->size);
    }
}
