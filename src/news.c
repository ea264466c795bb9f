/* One descriptor that is readable while anybody has news.
 *
 * Runs in the host, under the pool's lock. Level-triggered for any way of polling: the pipe holds one byte exactly while the count is not
 * 0, so that it is written and read only at the first and the last piece of news, and can neither fill up nor get stuck. A pipe
 * and not an eventfd, which is Linux's own and would save nothing here. */
#include "news.h"

#include "fd.h"

int news_open(struct news *n)
{
    n->count = 0;
    return fd_pipe(n->ends, 1);
}

void news_close(struct news *n)
{
    fd_close(&n->ends[0]);
    fd_close(&n->ends[1]);
}

void news_set(struct news *n, int *flag, int on)
{
    if (n->ends[0] < 0 || !*flag == !on)
        return;
    *flag = on;
    if (on && n->count++ == 0)
        fd_wake(n->ends[1]);
    else if (!on && --n->count == 0)
        fd_drain(n->ends[0]);
}
