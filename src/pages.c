/* Pages brought in together instead of fault by fault.
 *
 * Runs in any process. The first touch of a page costs far more than copying it, in each process that touches it: on a virtual machine
 * 16 us, and its copy 0.3. The kernel brings in a whole range by one call for 0.8 us a page (1.5 us shared and new, 0.3 us where another
 * process has made it). To ask again for what is there already costs 0.2 us a page, as much as its copy: so whoever uses memory again
 * keeps books on how far it was brought in, and heap memory, which may or may not be new, is looked at in the middle first.
 *
 * Huge pages would cost a third of that. But the heap is the program's: to ask for them changes what its memory is for good.
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
enum { PREPARE_MOST = 64 << 20 };       /* bytes: a task may ask for the most that it could need; the rest comes as it is touched */
enum { AHEAD_STEP = 4 << 20 };          /* bytes */
enum { REACH_STEP = 64 << 10 };         /* bytes: payloads that grow slowly do not ask for each page */

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* All pages that hold a byte of it, those at its ends too: what else lies in them is left as it is. */
static void advise(void *at, size_t size, int advice)
{
    size_t before = (uintptr_t)at & (page_size() - 1);
    int error = errno;
    madvise((char *)at - before, size + before, advice);
    errno = error;
}

static int is_there(void *at)
{
    unsigned char there = 0;
    int error = errno;
    int r = mincore((char *)at - ((uintptr_t)at & (page_size() - 1)), 1, &there);
    errno = error;
    return !r && (there & 1);
}

void pages_prepare(void *at, size_t size)
{
    if (size < PREPARE_LEAST || is_there((char *)at + size / 2))
        return;
    advise(at, size < PREPARE_MOST ? size : PREPARE_MOST, MADV_POPULATE_WRITE);
}

void pages_prepare_ahead(void *base, size_t size, size_t upto, size_t *ready)
{
    if (size < PREPARE_LEAST)
        return;
    upto = upto < size ? upto : size;
    while (*ready < upto) {
        char *at = (char *)base + *ready;
        size_t step = size - *ready < AHEAD_STEP ? size - *ready : AHEAD_STEP;
        if (!is_there(at + step / 2))
            advise(at, step, MADV_POPULATE_WRITE);
        *ready += step;
    }
}

void pages_reach(void *base, size_t upto, size_t *reached, enum pages_use use)
{
    if (upto <= *reached)
        return;
    size_t to = (upto + REACH_STEP - 1) & ~(size_t)(REACH_STEP - 1);
    advise((char *)base + *reached, to - *reached, use == PAGES_READ ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
    *reached = to;
}
