/* Pages brought in together instead of fault by fault.
 *
 * Runs in any process. The first touch of a page costs far more than copying it, in each process that touches it: on a virtual machine
 * 16 us, and its copy 0.3. The kernel brings in a whole range by one call for 0.8 us a page (1.5 us shared and new, 0.3 us where another
 * process has made it), and a huge page of 2 MiB for a third of what its small ones cost in one call. To ask again for what is there
 * already costs 0.2 us a page, as much as its copy: so whoever uses memory again keeps books on how far it was brought in, and heap
 * memory, which may or may not be new, is looked at in the middle first.
 *
 * All of it is advice. Where the kernel does not know it (before 5.14), or has no memory, the pages come as they are touched. */
#define _GNU_SOURCE
#include "pages.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ              /* headers may be older than the kernel */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { PREPARE_LEAST = 256 << 10 };     /* bytes: below it malloc seldom gives memory that is new */
enum { PREPARE_MOST = 64 << 20 };       /* bytes: a task may ask for the most that it could need; the rest comes by huge pages at least */
enum { AHEAD_STEP = 4 << 20 };          /* bytes: some huge pages whole */
enum { REACH_STEP = 64 << 10 };         /* bytes: payloads that grow slowly do not ask for each page */

static uintptr_t page_size(void)
{
    static uintptr_t size;              /* the same for all threads */
    uintptr_t known = __atomic_load_n(&size, __ATOMIC_RELAXED);
    if (!known)
        __atomic_store_n(&size, known = (uintptr_t)sysconf(_SC_PAGESIZE), __ATOMIC_RELAXED);
    return known;
}

void pages_prepare(void *at, size_t size)
{
    uintptr_t page = page_size(), begin = ((uintptr_t)at + page - 1) & ~(page - 1), end = ((uintptr_t)at + size) & ~(page - 1);
    unsigned char there = 0;
    int error = errno;
    if (size < PREPARE_LEAST)
        return;
    char *first = (char *)at + (begin - (uintptr_t)at);
    size_t much = end - begin;
    if (mincore(first + much / 2 / page * page, page, &there) || !(there & 1)) {
        madvise(first, much, MADV_HUGEPAGE);
        madvise(first, much < PREPARE_MOST ? much : PREPARE_MOST, MADV_POPULATE_WRITE);
    }
    errno = error;
}

void pages_prepare_ahead(void *base, size_t size, size_t upto, size_t *ready)
{
    while (*ready < upto && *ready < size) {
        size_t step = size - *ready < AHEAD_STEP ? size - *ready : AHEAD_STEP;
        pages_prepare((char *)base + *ready, step);
        *ready += step;
    }
}

void pages_reach(void *base, size_t upto, size_t *reached, enum pages_use use)
{
    int error = errno;
    if (upto <= *reached)
        return;
    size_t to = (upto + REACH_STEP - 1) & ~(size_t)(REACH_STEP - 1);
    madvise((char *)base + *reached, to - *reached, use == PAGES_READ ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
    *reached = to;
    errno = error;
}
