/* The pieces of W5 and the items that cost something, for pool.py: a shared library that it loads. */
#define _GNU_SOURCE
#include "bench.h"

double work_loops(uint32_t loops, uint32_t timed);

double work_loops(uint32_t loops, uint32_t timed)
{
    return work(&(struct piece){loops, timed});
}
