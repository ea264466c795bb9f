/* A pool without processes, for a debugger: items run one after the other in the calling thread. */
#ifndef POOL_SERIAL_H
#define POOL_SERIAL_H

#include "job.h"
#include "lock.h"

struct serial;

/* Runs the initializer in the calling thread. 0, or an errno with the reason said; *serial is NULL then. */
int  serial_open(struct serial **serial, const struct pool_options *options);
void serial_finish(struct serial *serial);      /* runs the finalizer, if it has not run yet */
void serial_abandon(struct serial *serial);     /* it will not run */
void serial_close(struct serial *serial);

/* Runs the next item of the job and settles it. Nonzero: there was one. Called with the pool's lock, which is given
 * up while functions of the user's run; items of one pool exclude each other. */
int  serial_run_next(struct serial *serial, struct job *job, struct lock *lock);

/* Is this thread inside a task of that pool? */
int  serial_inside(const struct serial *serial);

#endif
