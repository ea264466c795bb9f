/* Copying payloads that may be large, from and to memory that another CPU has written.
 *
 * glibc's memcpy leaves `rep movsb` for a loop of vector stores from the size of the CPU's own cache on (1 MiB on the machine measured),
 * which is right for one CPU and three times slower where the lines come from another: 1 MiB there and back by three copies took
 * 329 us, and 108 us by `rep movsb` or in pieces of 64 KiB by the same memcpy. Stores past the cache won another sixth at 4 MiB, but
 * only there, and only on one architecture. */
#ifndef POOL_COPY_H
#define POOL_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { COPY_PIECE = 64 << 10 };

static inline void copy_bytes(void *to, const void *from, size_t size)
{
    for (; size > COPY_PIECE; size -= COPY_PIECE) {
        memcpy(to, from, COPY_PIECE);
        to = (char *)to + COPY_PIECE;
        from = (const char *)from + COPY_PIECE;
    }
    memcpy(to, from, size);
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
