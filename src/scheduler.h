/* The scheduler: brings jobs and crew together; the one loop that any waiting thread turns. */
#ifndef POOL_SCHEDULER_H
#define POOL_SCHEDULER_H

#include "crew.h"
#include "job.h"
#include "spin.h"

#include <pthread.h>

#define DEPTH_MOST 8192                 /* items waiting at a worker */

struct sched {
    pthread_mutex_t lock;
    struct crew     crew;
    struct job     *jobs;               /* not ended */
    struct waiter   waiter;             /* for changes of the crew, and for callers that leave */
    int             turning;            /* a thread turns the loop */
    int             asleep;             /* and sleeps in poll, or is about to */
    _Atomic int     poked;              /* and should look around */
    int             wake[2];            /* pipe that wakes it */
    struct spin     spin;
    unsigned        next_worker;        /* where handing out begins: the one that was served last */
    unsigned        rounds;             /* since the nursery was last asked */
    struct desk   **spun;               /* room for one of each worker: those whose words a spinning thread looks at */
    uint64_t        next_common_id;
    enum pool_status closed;            /* not OK: no job goes on or is taken; why */
};

/* wake, views, lock. 0 or an errno. fini takes a half-made one. */
int  sched_init(struct sched *sched, unsigned workers, int no_spin);
void sched_fini(struct sched *sched);

/* All below with the lock held. */

void sched_add(struct sched *sched, struct job *job);
void sched_remove(struct sched *sched, struct job *job);
void sched_rotate(struct sched *sched);         /* the job that was served first is served last next time */

/* Waits until ready(arg) or `deadline`, turning the loop where nobody else does. puller: the job whose generator this thread may call, or
 * NULL. Nonzero: it is ready. */
typedef int sched_ready(void *arg);
int sched_wait(struct sched *sched, sched_ready *ready, void *arg, struct waiter *waiter, struct job *puller, int64_t deadline);

/* One turn without waiting: hands out and takes what there is. For consumers that find results without waiting. */
void sched_turn(struct sched *sched, struct job *puller);

/* The parts of a round. Each nonzero: it did something. */
int sched_hand_out(struct sched *sched);
int sched_pull(struct sched *sched, struct job *job);       /* job: NULL, or one of this thread's; the lock is given up for its generator */
int sched_take(struct sched *sched);
int sched_bury_dead(struct sched *sched);
void sched_break_off(struct sched *sched);                  /* where the crew is broken: ends all */

/* An item that was handed over and has not started comes back: to be handed over again, or dropped where its job is cut. */
void sched_give_back(struct piece *piece);

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
