/* How one item ended: what the scheduler tells the job. */
#ifndef POOL_ENDING_H
#define POOL_ENDING_H

#include <forkpool.h>

struct ending {
    size_t           index;
    enum pool_status status;
    int              code, signal;
    unsigned         tries;
    pid_t            pid;
    const void      *data;          /* OK: the result, */
    size_t           size;
    void            *owned;         /*   heap memory that holds it, to be taken over or freed, or NULL; */
    void            *lender;        /*   or whoever lends the place it lies in, to be kept if the result stays there, or NULL */
    int              slot;          /*   and which place of the lender's that is */
    const char      *text;          /* why; never NULL */
};

#endif
