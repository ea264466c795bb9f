/* One descriptor that is readable while anybody has news: what pool_fd gives out. */
#ifndef POOL_NEWS_H
#define POOL_NEWS_H

#include <stddef.h>

struct news {
    int    ends[2];             /* a pipe with one byte in it while count is not 0; -1: nobody has asked for it */
    size_t count;               /* of those who have news */
};

/* 0, or an errno. */
int  news_open(struct news *news);
void news_close(struct news *news);             /* one that was never opened too */

/* Somebody, whose flag that is, has news or has none any more. Does nothing while it is not open. Under one lock. */
void news_set(struct news *news, int *flag, int on);

#endif
