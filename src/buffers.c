/* What waits in the buffers of stdout and stderr, around a fork.
 *
 * Runs anywhere. Only these two: fflush(NULL) hangs where another thread sits in fgets, and other files are for those who opened them.
 *
 * Looked at before it is touched: flushing an empty stream writes to its lock and to itself, two pages that have to be copied after a fork,
 * in parent and child. The look takes no lock. What this thread has written before shows in it, or has been written out by another. */
#define _GNU_SOURCE
#include "buffers.h"

#include <stdio.h>
#include <stdio_ext.h>

void buffers_flush(void)
{
    if (__fpending(stdout))
        fflush(stdout);
    if (__fpending(stderr))
        fflush(stderr);
}

void buffers_drop(void)
{
    if (__fpending(stdout))
        __fpurge(stdout);
    if (__fpending(stderr))
        __fpurge(stderr);
}
