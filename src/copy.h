/* Copying payloads that may be large, from and to memory that another CPU has written.
 *
 * glibc's memcpy leaves `rep movsb` for a loop of vector stores from the size of the CPU's own cache on (1 MiB on the machine measured),
 * which is right for one CPU and three times slower where the lines come from another: 1 MiB there and back by three copies took
 * 329 us, and 108 us by `rep movsb` or in pieces of 64 KiB by the same memcpy. What is much larger goes past the caches: copy.c.
 *
 * `rep movsb` itself is five times slower on AMD's Zen 3 (2.5 GiB/s instead of 12) where the copy begins up to 31 bytes further into its
 * page than what is copied. So does all that malloc maps, beside memory at the begin of a page. There it is a plain loop: 64 x 4 MiB in
 * and out by a map went from 1.8 to 4.2 GiB/s, 1 MiB there and back from 690 us to 210. */
#ifndef POOL_COPY_H
#define POOL_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { COPY_PIECE = 64 << 10, COPY_BLOCK = 64, COPY_PAGE = 4096, COPY_TOO_NEAR = 32, COPY_HUGE = 4 << 20 };

static inline int copy_is_too_near(const void *to, const void *from)
{
    uintptr_t ahead = ((uintptr_t)to - (uintptr_t)from) % COPY_PAGE;
    return ahead && ahead < COPY_TOO_NEAR;
}

static inline void copy_in_pieces(void *to, const void *from, size_t size, size_t piece)
{
    for (; size > piece; size -= piece) {
        memcpy(to, from, piece);
        to = (char *)to + piece;
        from = (const char *)from + piece;
    }
    memcpy(to, from, size);
}

/* COPY_HUGE bytes or more: by whoever reads it, it comes from memory. */
void copy_past_caches(void *to, const void *from, size_t size);

static inline void copy_bytes(void *to, const void *from, size_t size)
{
    if (size >= COPY_HUGE)
        copy_past_caches(to, from, size);
    else if (copy_is_too_near(to, from))
        copy_in_pieces(to, from, size, COPY_BLOCK);
    else
        copy_in_pieces(to, from, size, COPY_PIECE);
}

/* The same where they may overlap. */
static inline void copy_or_move(void *to, const void *from, size_t size)
{
    uintptr_t a = (uintptr_t)to, b = (uintptr_t)from;
    if ((a < b ? b - a : a - b) < size)
        memmove(to, from, size);
    else
        copy_bytes(to, from, size);
}

#endif
