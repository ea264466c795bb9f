/* The crew: who can do the work. Workers' births, readiness, deaths and replacements. */
#ifndef POOL_CREW_H
#define POOL_CREW_H

#include "books.h"
#include "nursery.h"
#include "worker_child.h"

#include <forkpool.h>

#include <poll.h>

enum worker_state {
    WORKER_UNBORN,          /* nobody there; born at born_at */
    WORKER_STARTING,        /* asked for or forked, its initializer not done */
    WORKER_READY,
    WORKER_CONDEMNED,       /* its kill is asked for */
    WORKER_DEAD             /* reported; to be buried: drained, mourned, replaced */
};

struct crew_worker {
    struct books      books;
    unsigned          index;
    uint32_t          generation;
    enum worker_state state;
    pid_t             pid;              /* 0: not known, or nobody there */
    int               task_pipe, task_pipe_far, result_pipe;    /* ours; the far end is kept so that writing never raises SIGPIPE */
    int               wait_status;      /* DEAD */
    int               was_ready;        /* DEAD: its initializer had been done */
    enum pool_status  verdict;          /* what its running item ends as when it dies */
    int               told;             /* why it did not become ready was told before its death */
    const char       *reason;           /* why it was condemned, in words; NULL: it was not */
    int64_t           born_at;          /* UNBORN: when to try (again) */
    int64_t           ready_by;         /* STARTING: deadline of the initializer */
    int64_t           since;            /* when it began on what it has: for learning an item's cost */
    size_t            watched;          /* its place in crew->watched plus one; 0: not in it */
};

struct crew {
    unsigned            size;
    struct crew_worker *workers;
    struct worker_plan  plan;
    struct nursery     *nursery;
    struct pollfd      *polls;          /* the nursery, the wake pipe, then a result pipe for each worker */
    struct crew_worker **watched;       /* workers from whom news may come without a report of the nursery */
    size_t              watched_count;
    double              init_timeout;
    unsigned            ready;          /* workers in that state */
    unsigned            alive;          /* workers that may have a process */
    unsigned            failures;       /* births that failed in a row */
    unsigned            idle_deaths;    /* workers in a row that died ready, but before they had ended anything */
    int                 leaving;        /* nobody is replaced any more */
    int                 opening;        /* the first birth that fails is one too many */
    int                 broken;         /* an errno: it cannot go on, and why: */
    char                why[STATUS_TEXT + 200];
};

/* Maps the channels, forks the nursery, asks for all workers. 0, or an errno with nothing left behind. */
int  crew_open(struct crew *crew, const struct pool_options *options, unsigned workers, int wake_pipe, void (*settle_in)(void *));

/* Ends the nursery and all below it. Channels stay mapped until crew_unmap, which frees: results may be lent. */
void crew_close(struct crew *crew, int64_t deadline);
void crew_unmap(struct crew *crew);
void crew_forget(struct crew *crew);            /* in a forked child: closes what was inherited */

/* Takes in the nursery's reports and the time: sends what is due, condemns those that are late. Nonzero: something has changed. */
int  crew_mind(struct crew *crew, int64_t now);
int64_t crew_deadline(const struct crew *crew); /* when crew_mind has to be called at the latest */

/* A worker said that it is ready, or that its initializer failed with `code`. */
void crew_ready(struct crew *crew, struct crew_worker *worker);
void crew_unready(struct crew *crew, struct crew_worker *worker, int code, const char *text);

/* Asks for its kill. `verdict` is what its unfinished item ends as. */
void crew_condemn(struct crew *crew, struct crew_worker *worker, enum pool_status verdict, const char *reason);

void crew_condemn_all(struct crew *crew, enum pool_status verdict, const char *reason);

/* A dead worker was drained and mourned: its place is free, and filled again unless the crew is leaving or broken. */
void crew_bury(struct crew *crew, struct crew_worker *worker);

/* How a dead worker died, in words. */
const char *crew_epitaph(const struct crew_worker *worker, char *text, size_t size);

/* Workers to be looked at: those with items, or starting. */
void crew_watch(struct crew *crew, struct crew_worker *worker);
void crew_unwatch(struct crew *crew, struct crew_worker *worker);

/* Closes what the host has of a worker's pipes. */
void crew_close_pipes(struct crew *crew, struct crew_worker *worker);

/* After poll: a result pipe has something. Its end condemns the worker. */
void crew_heard(struct crew *crew, struct crew_worker *worker);

enum { CREW_POLL_NURSERY, CREW_POLL_WAKE, CREW_POLL_WORKERS };

#endif
