/* The scheduler: brings jobs and crew together; the one loop that any waiting thread turns. */
#ifndef POOL_SCHEDULER_H
#define POOL_SCHEDULER_H

#include "crew.h"
#include "job.h"
#include "lock.h"
#include "spin.h"

#define DEPTH_MOST  262144              /* items waiting at a worker, */
#define DEPTH_LEAST 2                   /*   and one runs, one waits, so that a worker need not wait for the caller */

/* Items of one generator that follow one another at one worker: pull.c. */
struct run {
    struct job         *job;            /* NULL: none */
    struct crew_worker *worker;
    size_t              left;           /* so many more */
};

struct sched {
    struct lock     lock;
    struct run      run;                /* of which the books do not know yet */
    struct crew     crew;
    struct link     jobs;               /* not ended */
    struct link     ready;              /* those that may have something to be handed out, in the order in which they are served */
    size_t          unattended;         /* jobs whose callers may be elsewhere */
    struct waiter   waiter;             /* for changes of the crew, and for callers that leave */
    struct link     sleepers;           /* waiters on which callers sleep */
    struct waiter   attendant;          /* where the helper sleeps, which turns the loop while no caller does, */
    int64_t         attendant_until;    /*   until then at the latest */
    int             attended;           /* the helper turns it now, */
    int             relieved;           /*   and should leave it to a caller: so many want it */
    int             turning;            /* a thread turns the loop */
    int             asleep;             /* and sleeps in poll, or is about to, */
    int64_t         asleep_until;       /*   until then at the latest */
    _Atomic int     poked;              /* and should look around */
    int             wake[2];            /* pipe that wakes it */
    struct spin     spin;
    int             complete;           /* all workers have been there */
    unsigned        cpus;               /* that may be used */
    int             lapsed;             /* an item ended for want of memory where its job could not be: to be swept up */
    int             deserted;           /* a generator was not pulled since there was no worker */
    size_t          next_hand;          /* where handing out begins: the one that was served last */
    unsigned        rounds;             /* since the nursery was last asked */
    struct desk   **spun;               /* room for one of each worker: those whose words a spinning thread looks at */
    uint64_t        next_common_id;
    int64_t         woken_at;           /* when it last left its sleep in poll */
    int64_t         evened_at;          /* when we last saw whether what waits at a worker should move to an idle one, */
    int64_t         even_at;            /*   and when to see that again */
    int64_t         judge_at;           /* when to look at how long items run: not later than is needed */
    enum pool_status closed;            /* not OK: no job goes on or is taken; why */
    int             finishing;          /* the crew leaves when the last job has ended */
    uint64_t        tally[POOL_PENDING + 1];    /* items by status */
    uint64_t        retried;
};

/* wake, views, lock. 0 or an errno. fini takes a half-made one. */
int  sched_init(struct sched *sched, unsigned workers, int no_spin);
void sched_fini(struct sched *sched);

/* So many busy workers and the caller: are there fewer CPUs? */
static inline int sched_is_crowded(const struct sched *sched, size_t busy) { return busy >= sched->cpus; }

/* Does nobody else have work for the workers? */
static inline int sched_is_alone(const struct sched *sched, const struct job *job)
{
    return sched->jobs.next == &job->open && sched->jobs.before == &job->open;
}

/* Take and give back the lock. Whoever takes it finds the books told of all. */
void sched_end_run(struct sched *sched);
static inline void sched_enter(struct sched *sched)
{
    lock_enter(&sched->lock);
    if (sched->run.job)
        sched_end_run(sched);
}
static inline void sched_leave(struct sched *sched) { lock_leave(&sched->lock); }

/* All below with the lock held. */

/* Sleeps without it: waiters.h. */
void sched_sleep(struct sched *sched, struct waiter *waiter, struct link *sleepers, int64_t deadline);

void sched_add(struct sched *sched, struct job *job);
void sched_ready(struct sched *sched, struct job *job);     /* it may have something to be handed out */

/* Is everything of it over? Then it is in no list any more and may have been freed. */
int  sched_end(struct sched *sched, struct job *job);

/* Acts on what has become of it: cuts off what it has under way, or ends it. It may have been freed then, too. */
void sched_conclude(struct sched *sched, struct job *job);

/* Waits until ready(arg) or `deadline`, turning the loop where nobody else does. puller: the job whose generator this thread may call, or
 * NULL. Nonzero: it is ready. */
typedef int sched_is_ready(void *arg);
int sched_wait(struct sched *sched, sched_is_ready *ready, void *arg, struct waiter *waiter, struct job *puller, int64_t deadline);

/* The helper's part, until stop(arg): turns the loop while there are unattended jobs, or workers on their way, and no caller wants to; and
 * judges items that run too long while nobody turns it. */
void sched_attend(struct sched *sched, sched_is_ready *stop, void *arg);

/* One turn without waiting: hands out and takes what there is. For consumers that find results without waiting. */
void sched_turn(struct sched *sched, struct job *puller);

/* Posts a piece, which fits, to a worker. most: it may grow to so many items. */
void sched_post(struct sched *sched, struct job *job, struct crew_worker *worker, struct piece *piece, size_t most);

/* Is what is under way of a stream, and `more` items, little enough for as many workers as have a CPU each? Has nothing been heard of a
 * busy worker for so long that others should do what waits there? */
int sched_is_light(const struct sched *sched, const struct job *job, size_t more);
int sched_is_held_up(const struct crew_worker *worker, int64_t now);

/* The loop looks how far those have come of which nothing has been heard for a while; what they hold behind a slow item is given back. */
void sched_ask_the_silent(struct sched *s);

/* So many of the job's items of that size there is room for. */
size_t sched_room_for(const struct sched *sched, const struct job *job, struct crew_worker *worker, size_t size);

/* The parts of a round. Each nonzero: it did something. */
int sched_hand_out(struct sched *sched);
int sched_pull(struct sched *sched, struct job *job);       /* job: NULL, or one of this thread's; the lock is given up for its generator */
int sched_take(struct sched *sched);
int sched_bury_dead(struct sched *sched);
int sched_judge(struct sched *sched, int64_t now);          /* kills what has run for too long */
int sched_sweep(struct sched *sched);                       /* ends jobs that are over */
void sched_break_off(struct sched *sched);                  /* where the crew is broken: ends all */

/* All that a worker has to tell by now. Nonzero: there was something. */
int sched_drain(struct sched *sched, struct crew_worker *worker);

/* An item that was handed over and has not ended comes back: to be handed over again, or dropped where its job is cut. */
void sched_give_back(struct sched *sched, struct piece *piece);

/* A call is about to be added: what waits of the only other one, more than would if it were not alone, comes back. */
void sched_make_room(struct sched *sched);

/* All that waits at a worker comes back. */
void sched_recall(struct sched *sched, struct crew_worker *worker);

/* What has to be done with a worker by a certain time: the loop must not sleep longer. */
void sched_judge_by(struct sched *sched, struct crew_worker *worker, int64_t at);

/* So many workers from now on. */
void sched_resize(struct sched *sched, unsigned size);

/* The crew leaves in order once the last job has ended. */
void sched_finish(struct sched *sched);

/* Cuts a job off: what has not started is dropped; kill: what runs is killed. */
void sched_cut(struct sched *sched, struct job *job, enum pool_status why, int kill);

/* Ends all jobs so and takes no more. */
void sched_close(struct sched *sched, enum pool_status why, int kill);

/* Drains and mourns all workers, whatever their state: nobody of them is left. */
void sched_bury_all(struct sched *sched);

/* Has the thread that sleeps in poll look around. */
void sched_poke(struct sched *sched);

/* A result that was left at its worker is not needed any more. */
void sched_give_up(void *lender, int slot);

#endif
