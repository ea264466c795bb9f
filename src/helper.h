/* The pool's own threads: one turns the loop while nobody waits, one runs callbacks. */
#ifndef POOL_HELPER_H
#define POOL_HELPER_H

#include "scheduler.h"

/* Something to be run by the thread for callbacks. */
struct errand {
    struct errand *next;
    void         (*run)(struct errand *);       /* with no lock held */
    void         (*after)(struct errand *);     /* with the lock held; may free it */
};

struct helper {
    struct sched *sched;                /* set before anything else */
    pthread_t     attendant, runner;
    int           has_attendant, has_runner;
    int           stop;
    struct errand *first, *last;        /* to be run */
    int           running;              /* an errand */
    struct waiter due;                  /* where the runner sleeps */
};

/* All below with the lock held. */

/* Start the threads, where they are not there yet. 0 or an errno. */
int helper_attend(struct helper *helper);
int helper_run_errands(struct helper *helper);

/* helper_run_errands has succeeded before. */
void helper_send(struct helper *helper, struct errand *errand);

int helper_is_idle(const struct helper *helper);        /* no errand is left */

/* Ends both threads. The lock is given up meanwhile. */
void helper_stop(struct helper *helper);

/* Is this the thread that runs the errands? Without the lock, too. */
int helper_is_here(const struct helper *helper);

#endif
