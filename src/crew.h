/* The crew: who can do the work. Workers' births, readiness, deaths and replacements. */
#ifndef POOL_CREW_H
#define POOL_CREW_H

#include "books.h"
#include "nursery.h"
#include "worker_child.h"

#include <forkpool.h>

#include <poll.h>

enum worker_state {
    WORKER_UNBORN,          /* nobody there; where it has a place, born at born_at */
    WORKER_STARTING,        /* asked for or forked, its initializer not done */
    WORKER_READY,
    WORKER_LEAVING,         /* told to leave in order: runs what it has begun, then its finalizer */
    WORKER_CONDEMNED,       /* its kill is asked for */
    WORKER_DEAD             /* reported; to be buried: drained, mourned, replaced */
};

/* Why a worker had to be replaced. */
enum crew_reason { CREW_CRASHED, CREW_TIMED_OUT, CREW_CANCELLED, CREW_MAX_TASKS, CREW_MAX_MEMORY, CREW_REASONS, CREW_NOT = CREW_REASONS };

struct crew_worker {
    struct books      books;
    unsigned          slot;             /* its place in crew->workers, and its number at the nursery */
    int               placed;           /* it has an index (places.h): */
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
    int               dismissed;        /* it was told to leave */
    int64_t           born_at;          /* UNBORN: when to try (again) */
    int64_t           ready_by;         /* STARTING: deadline of the initializer */
    int64_t           asked_at;         /* STARTING: when it was asked for */
    int64_t           ready_at;         /* READY: since when */
    int64_t           left_at;          /* LEAVING: since when; */
    int64_t           gone_by;          /*   and when it has to have exited, its result pipe having ended. CLOCK_NEVER: that has not */
    int64_t           since;            /* when it began on what it has: for learning an item's cost */
    int               roused;           /* it was idle then: its waking up counts as work */
    int               brisk;            /* busy, and not held up when light work was dealt out last */
    size_t            done;             /* items that ended at it */
    size_t            watched;          /* its place in crew->watched plus one; 0: not in it */
    size_t            hand;             /* its place in crew->hands plus one; 0: not in it */
    int64_t           judge_at;         /* when to look at how long its item runs: CLOCK_NEVER: it has none with a limit */
    uint32_t          run_position;     /* what was seen running there, */
    int64_t           run_since;        /*   and when it was first seen: CLOCK_NEVER: nothing was */
    int               run_anew;         /*   whose time counts from there, whatever the worker says: it had waited for us, */
    uint64_t          moved;            /*   with so much passed through its streams */
};

/* What an index stands for. */
struct place {
    struct crew_worker *holder;         /* has, or will have, its items; NULL: between two */
    struct crew_worker *heir;           /* born to succeed it; NULL: none */
    uint64_t            items, births;
    int64_t             busy, ready, startup;   /* nanoseconds, what goes on now not counted */
};

struct crew {
    unsigned            size;           /* indexes that are wanted: 0 ... size-1 */
    unsigned            most;           /* how many that may become */
    unsigned            slots;
    struct crew_worker *workers;        /* `slots` of them */
    struct place       *places;         /* `most` of them */
    struct worker_plan  plan;
    struct nursery     *nursery;
    struct pollfd      *polls;          /* the nursery, the wake pipe, then a result pipe for each slot */
    struct crew_worker **watched;       /* workers from whom news may come without a report of the nursery */
    size_t              watched_count;
    struct crew_worker **hands;         /* workers that may be given items */
    size_t              hands_count;
    size_t              busy_hands;     /* those of them that are watched, too: the others are idle */
    double              init_timeout;
    size_t              max_tasks;      /* SIZE_MAX: no limit */
    unsigned            alive;          /* workers that may have a process, */
    unsigned            ready;          /*   and those of them that are ready, heirs too */
    unsigned            failures;       /* births that failed in a row */
    unsigned            idle_deaths;    /* workers in a row that died ready, but before they had ended anything */
    int64_t             look_at;        /* when births and initializers have to be looked after: not later than is needed */
    int                 leaving;        /* nobody is replaced any more */
    int                 opening;        /* the first birth that fails is one too many */
    int                 broken;         /* an errno: it cannot go on, and why: */
    char                why[STATUS_TEXT + 200];
    uint64_t            replaced[CREW_REASONS];
};

/* Maps the channels, forks the nursery, asks for all workers. 0, or an errno with nothing left behind. */
int  crew_open(struct crew *crew, const struct pool_options *options, unsigned workers, int wake_pipe, void (*settle_in)(void *));

/* Ends the nursery and all below it. Channels stay mapped until crew_unmap, which frees: results may be lent. */
void crew_close(struct crew *crew, int64_t deadline);
void crew_unmap(struct crew *crew);
void crew_forget(struct crew *crew);            /* in a forked child, or once the nursery has ended: closes, and tells nobody */

/* Takes in the nursery's reports and the time: sends what is due, condemns those that are late. Nonzero: something has changed. */
int  crew_mind(struct crew *crew, int64_t now);
void    crew_listen(struct crew *crew);         /* before each poll, in the thread that polls: says what is listened to */
int64_t crew_deadline(const struct crew *crew); /* when crew_mind has to be called at the latest */

/* A worker said that it is ready, or that its initializer failed with `code`, or that it may not be as it should (an errno). */
void crew_ready(struct crew *crew, struct crew_worker *worker);
void crew_unready(struct crew *crew, struct crew_worker *worker, int code, const char *text);
void crew_unfit(struct crew *crew, struct crew_worker *worker, int error, const char *text);

/* Asks for its kill. `verdict` is what its unfinished item ends as. */
void crew_condemn(struct crew *crew, struct crew_worker *worker, enum pool_status verdict, const char *reason);

void crew_condemn_all(struct crew *crew, enum pool_status verdict, const char *reason);

/* Tells a ready worker to leave in order; what waits there should have been taken back before. why: to be counted, or CREW_NOT. */
void crew_dismiss(struct crew *crew, struct crew_worker *worker, enum crew_reason why);

/* The same for one that is not needed any more; one that is not ready is killed. */
void crew_release(struct crew *crew, struct crew_worker *worker);

/* All of them leave; those that are not ready are killed. Nobody is replaced any more. */
void crew_dismiss_all(struct crew *crew);

/* The nursery may leave when they have. */
void crew_retire(struct crew *crew);

/* A worker that leaves has ended its last item: whoever succeeds it may begin. */
void crew_succeed(struct crew *crew, struct crew_worker *worker);

/* Has a worker done or grown enough (CREW_NOT: no)? Has its heir born when it is half-way there. */
enum crew_reason crew_worn(struct crew *crew, struct crew_worker *worker);

/* How many items it may still be given. */
size_t crew_left(const struct crew *crew, const struct crew_worker *worker);

/* From now on so many. Those who are too many are still to be dismissed. */
void crew_resize(struct crew *crew, unsigned size);

/* A dead worker was drained and mourned: its place is free, and filled again unless the crew is leaving or broken. */
void crew_bury(struct crew *crew, struct crew_worker *worker);

/* Is everybody there who should be, and nobody else? If not, the loop has to be turned for the crew's own sake. */
int  crew_is_settled(const struct crew *crew);

/* How a dead worker died, in words. */
const char *crew_epitaph(const struct crew_worker *worker, char *text, size_t size);

/* Workers to be looked at: those with items, starting or leaving. */
void crew_watch(struct crew *crew, struct crew_worker *worker);
void crew_unwatch(struct crew *crew, struct crew_worker *worker);

/* Closes what the host has of a worker's pipes. */
void crew_close_pipes(struct crew *crew, struct crew_worker *worker);

/* After poll: a result pipe has something. Its end condemns the worker. */
void crew_heard(struct crew *crew, struct crew_worker *worker);

enum { CREW_POLL_NURSERY, CREW_POLL_WAKE, CREW_POLL_WORKERS };

#endif
