/* The host's side of the nursery: births, kills, and what became of them.
 *
 * Runs in the host, in whichever thread turns the loop, under the pool's lock: nothing here blocks but nursery_open,
 * nursery_greet and nursery_close. What is to be sent is kept as one wanted state per slot and flushed when the socket takes it; what
 * comes back is one coalesced state per slot. A slot is a worker's place (0 ... slots-1), a generation says which of its successive
 * workers is meant: only the nursery signals, and only when both fit, so that a pid is never reused beneath us. */
#ifndef POOL_NURSERY_H
#define POOL_NURSERY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct nursery;

/* What the nursery runs in each new worker: never returns. Descriptors are the worker's ends of its pipes. */
typedef void nursery_birth_fn(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe);

struct nursery_setup {
    unsigned          slots;
    nursery_birth_fn *birth;            /* called in each worker */
    void             *context;          /* for birth; as it was at nursery_open */
    void            (*settle_in)(void *context);   /* called once in the nursery, early; may be NULL */
    int               close_fds;        /* nonzero: nursery closes all above 2 that it inherited, */
    const int        *pass_fds;         /*   but for these */
    size_t            pass_fds_count;
};

enum nursery_state { NURSERY_BORN = 1,      /* forked: pid */
                     NURSERY_UNBORN,        /* could not be forked: error */
                     NURSERY_DEAD };        /* reaped, its process group killed: pid and wait status */

struct nursery_report {
    unsigned           slot;
    uint32_t           generation;
    enum nursery_state state;
    pid_t              pid;
    int                status;          /* DEAD: as of waitpid; UNBORN: an errno */
};

/* Forks the nursery (twice, so that the host's wait() does not see it). 0, or an errno with nothing left behind.
 * Call with no lock that `settle_in` needs. nursery_greet has to follow; orders may be given and flushed before. */
int nursery_open(struct nursery **nursery, const struct nursery_setup *setup);

/* Blocks until the nursery has said hello. 0; or an errno with nothing left behind but what was given to births, *nursery is NULL then. */
int nursery_greet(struct nursery **nursery);

/* For poll: the socket, and what to wait for on it (POLLIN, and POLLOUT while something is unsent). */
int   nursery_fd(const struct nursery *nursery);
short nursery_events(const struct nursery *nursery);

/* Asks for a worker; takes both descriptors (closes them once sent, or on failure). The slot must be empty. */
void nursery_bear(struct nursery *nursery, unsigned slot, uint32_t generation, int task_pipe, int result_pipe);

/* Asks for a SIGKILL to the process group of that worker, if it is still that generation. May be repeated. */
void nursery_kill(struct nursery *nursery, unsigned slot, uint32_t generation);

/* There will be no more births: it leaves by itself as soon as no worker is alive and that was told, killing all that is below it. Sent by
 * some flush that comes: there is no haste, since nursery_close does the same. */
void nursery_retire(struct nursery *nursery);

/* Sends what is unsent. 0 (also where the socket is full), EPIPE: the nursery is gone. */
int nursery_flush(struct nursery *nursery);

/* The next report. 0; EAGAIN: none now; EPIPE: the nursery is gone and all its reports were read. */
int nursery_next(struct nursery *nursery, struct nursery_report *report);

/* Ends it: it kills all that is below it and leaves; waits for that until `deadline` (clock.h), then gives up (the nursery goes on
 * by itself). Reaps it where the host is its parent. Only nursery_forget may follow. NULL is fine. */
void nursery_close(struct nursery *nursery, int64_t deadline);

/* After nursery_close, or in a child of the host, or in the nursery itself: closes the descriptors, tells nobody, frees. NULL is fine. */
void nursery_forget(struct nursery *nursery);

#endif
