/* A job: what was asked. */
#ifndef POOL_JOB_H
#define POOL_JOB_H

#include "cells.h"
#include "ending.h"
#include "links.h"
#include "list.h"
#include "news.h"
#include "source.h"
#include "status.h"
#include "waiters.h"

enum job_kind { JOB_MAP, JOB_LIST, JOB_ITER };

struct job {
    struct link            open;                /* among the scheduler's jobs that have not ended */
    struct link            ready;               /* among those that may have something to be handed out */
    struct link            handle;              /* among the pool's iterators and asynchronous jobs */
    void                 (*on_end)(struct job *);       /* told once, when it has ended and is in none of the first two lists; may free */
    int                    unattended;          /* its caller may be elsewhere: somebody else has to turn the loop for it */
    enum job_kind          kind;
    struct call_definition call;
    pool_fn               *fn;                  /* for a serial pool */
    void                  *own_common;          /* a copy of the context, or NULL: it is the caller's */
    struct source          source;
    size_t                 chunk;
    unsigned               fail_fast;
    int64_t                timeout;             /* nanoseconds that an item may run; 0: no limit */
    unsigned               retries;             /* further starts of an item whose worker crashed */
    void                  *own_item;            /* a copy of its only item, or NULL */
    struct waiter          waiter;              /* woken when something of it has changed for its caller, and so is */
    struct news           *news;                /*   the pool's descriptor, or NULL */
    int                    has_news;            /*   by this flag, */
    int                    told;                /*   until its caller has been told of its end */
    uint64_t              *tally;               /* the pool's count of items by status */

    size_t                 outstanding;         /* items handed over and not ended */
    size_t                 ended_items, failed_items;   /* so far, for a progress bar */
    size_t                 depth;               /* items that should wait at a worker: learned, */
    size_t                 fit;                 /*   and as many as take DEPTH_TIME, our own delays left out */
    int                    measured;            /* they were */
    int                    leisurely;           /* its generator takes its time, or may (pull.c): */
    unsigned               pulls;               /*   items since we last judged that, */
    int64_t                pulls_time;          /*   and how long they took */
    int                    pull_again;          /* its caller could not pull, and can now */
    size_t                 bytes;               /* of items outstanding */
    size_t                 result_size;         /* typical size of a result: learned */
    enum pool_status       cut;                 /* not OK: nothing more is handed over, and it ends with this */
    int                    kill;                /* what runs of a cut job is killed */
    int                    recalled;            /* the scheduler has acted on the cut */
    int                    source_code;         /* what the generator failed with, if it did */
    int                    source_failed;
    int                    ended;               /* nothing of it will change any more */
    int                    abandoned;           /* nobody will ask: freed at its end */

    struct pool_result     failure;             /* the failed item of lowest index; status OK: none so far */

    unsigned char         *out;                 /* JOB_MAP */
    size_t                 out_size;
    struct pool_results   *list;                /* JOB_LIST */
    struct cells           cells;               /* JOB_ITER */
    size_t                 window;
    int                    window_given;        /* by the caller: it alone counts, not the bytes */
    char                   failure_text[STATUS_TEXT + 1];       /* goes with failure. Last: job_blank leaves it as it is */
};

/* All zero, but for the text: a round trip is short enough to notice a kilobyte. */
void job_blank(struct job *job);

/* Takes over nothing but the source; the caller sets the sink's fields. 0 or an errno. */
int  job_init(struct job *job, enum job_kind kind, const struct pool_call *call);
void job_fini(struct job *job);

/* How many of `count` items of `size` bytes may be handed over now, as far as the job is concerned. */
size_t job_may_send(const struct job *job, size_t count, size_t size, size_t workers);


static inline void job_sent(struct job *j, size_t count, size_t size)
{
    j->outstanding += count;
    j->bytes += count * size;
}

/* One item ended. Nonzero: ending->lender's place is kept by the job. `owned` is taken over. */
int  job_settle(struct job *job, const struct ending *ending, size_t item_size);
/* `count` items from `index` on ended OK; data: their results, one after the other, or NULL where nobody wants them. */
void job_settle_run(struct job *job, size_t index, size_t count, const void *data, size_t item_size);

/* Items that were handed over came back, to be dropped or handed over again. */
void job_unsent(struct job *job, size_t count, size_t size);

/* Items of a cut job that came back are dropped: a list tells how often they had been started. */
void job_drop(struct job *job, const struct piece *piece);

/* Nothing more is handed over; kill: and what runs should die. The first reason stays. */
void job_cut(struct job *job, enum pool_status why, int kill);

/* The generator failed with `code`: one last ending. */
void job_source_failed(struct job *job, int code);

/* Is everything over? Sets ended, once. */
int  job_check_end(struct job *job);

/* Something of it has changed for its caller. */
void job_tell(struct job *job);

/* As pool_map's, once ended. */
enum pool_status job_status(const struct job *job);

#endif
