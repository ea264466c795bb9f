/* forkpool: multiprocessing.Pool for C.
 *
 * A pool is a set of worker processes, forked once, that run a function of yours over many items:
 *
 *     static int square(struct pool_task *task)
 *     {
 *         int x = *(const int *)task->in, y = x * x;
 *         return pool_return(task, &y, sizeof y);
 *     }
 *     ...
 *     struct pool *pool = pool_create(NULL);                  // one worker per usable CPU
 *     pool_map(pool, square, pool_array(xs, 5, sizeof *xs), ys, sizeof *ys, NULL);
 *     pool_destroy(pool);
 *
 * Items and results are opaque bytes. A worker that crashes costs the item it was running and nothing else.
 *
 * Reading order: inside a worker, a pool, items, the calls. Everything after pool_map is for when you need it; processes, queues and
 * progress bars, at the end, stand by themselves and need no pool.
 *
 * Threads: where nothing else is said, any number of threads at once; an iterator is used by one at a time. No thread is started before
 * an asynchronous call, a callback, pool_fd, or an iterator with a time limit needs one; it has all signals blocked.
 * Time: seconds are double; a negative wait means for ever, 0 means do not wait.
 * Memory: what the library hands out says whose it is and until when; everything is freed by the call named there.
 * Forks of the host: in a child that the host itself forked, every call on an inherited pool, or on a handle of one, is refused
 * (POOL_INVALID, or NULL with errno = EINVAL); pool_destroy there closes what the child inherited of it. Queues are there to be inherited.
 */
#ifndef FORKPOOL_H
#define FORKPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define POOL_VERSION_MAJOR 0
#define POOL_VERSION_MINOR 1
#define POOL_VERSION_PATCH 0

#if defined(__GNUC__)
#define POOL_API __attribute__((visibility("default")))
#define POOL_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define POOL_API
#define POOL_PRINTF(text, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct pool;
struct pool_job;
struct pool_iter;
struct pool_results;
struct pool_progress;
struct pool_process;
struct pool_queue;

/* How an item, a call or a wait ended. */
enum pool_status {
    POOL_OK = 0,
    POOL_FAILED,            /* the task returned nonzero, or a result of a size that was not asked for */
    POOL_CRASHED,           /* its worker died while it ran: a signal, exit(), or damage to the worker's channel */
    POOL_TIMED_OUT,         /* it ran longer than its time limit and its worker was killed */
    POOL_CANCELLED,         /* it was cut short by a cancel, by fail_fast or by the end of the pool */
    POOL_SOURCE_FAILED,     /* the generator of the items failed */
    POOL_BROKEN,            /* the pool could not go on: its workers cannot be started any more */
    POOL_CLOSED,            /* no more calls are accepted, or nothing will ever come */
    POOL_INVALID,           /* the call makes no sense as it is; pool_error() says what to change */
    POOL_NO_MEMORY,
    POOL_PENDING            /* a wait's time ran out; nothing ended */
};

/* A status in words: a constant string, never NULL, for any value. Disturbs neither pool_error() nor errno. */
POOL_API const char *pool_status_text(enum pool_status status);

/* Why this thread's last call on the library failed, in one sentence that tells what to do; "" if it did not fail.
 * The text is this thread's own, valid until its next call on the library. Python: the text of the exception. */
POOL_API const char *pool_error(void);


/* ---- Inside a worker ------------------------------------------------------------------------------------------ */

/* A worker process, as its initializer, its tasks and its finalizer see it. */
struct pool_worker {
    unsigned index;         /* 0 ... workers-1; a replacement has the index of the worker it replaces (a GPU number, say) */
    void    *arg;           /* pool_options.initarg */
    void    *state;         /* yours: set by the initializer, seen by every task of this worker */
};

/* One call of a task function. Its pointers hold during that call only. */
struct pool_task {
    const void *in;         /* the item: aligned to the largest power of two that divides its size, up to 64 (arrays), */
    size_t      in_size;    /*   or as malloc's (buffers, generators); in bytes */
    size_t      index;      /* the item's place in its call, from 0 */
    const void *common;     /* pool_call.common: the same bytes for all items of the call; aligned as malloc's */
    size_t      common_size;
    struct pool_worker *worker;
};

/* What is run on each item, in a worker. Returns 0: done, the result is what pool_out or pool_return made (empty
 * where neither was called). Anything else: the item FAILED with that code.
 * It may do what it likes: whatever happens to its process happens to this item only.
 * Python: func of Pool.map; a nonzero return is its exception. */
typedef int pool_fn(struct pool_task *task);

/* Room for a result of `size` bytes, to be written in place; a second call replaces the first. Aligned for any object of that
 * size (to the largest power of two that divides it, up to malloc's), not zeroed. NULL: no memory (return a code then). May
 * wait while the caller is behind with taking results. */
POOL_API void *pool_out(struct pool_task *task, size_t size);

/* Copies a finished result; a second call replaces the first. Returns 0, or a nonzero code if it cannot (no memory; NULL
 * data with a size), so that a task can end with `return pool_return(task, &y, sizeof y);`. */
POOL_API int pool_return(struct pool_task *task, const void *data, size_t size);

/* Python's raise: notes the message for pool_result.message (cut after 1,000 bytes) and returns code, or -1 for 0, to be
 * returned by the task. */
POOL_API int pool_fail(struct pool_task *task, int code, const char *format, ...) POOL_PRINTF(3, 4);

/* A seed for random numbers, well mixed from the item's index alone: the same on every worker, try and run, and neighbours have nothing in
 * common. Python: none. */
POOL_API uint64_t pool_task_seed(const struct pool_task *task);

/* Runs in each new worker before its first task: this is where libraries are loaded that must not cross a fork. Returns 0,
 * or a code: then pool_create fails, or, in a replacement, the pool breaks after a few tries in a row. */
typedef int pool_initializer(struct pool_worker *worker);

/* Runs in each worker that ends in order, after its last task. Not in one that crashed or was killed. */
typedef void pool_finalizer(struct pool_worker *worker);

/* pool_fail for initializers: the message ends up in pool_error(). Returns code, or -1 for 0. */
POOL_API int pool_init_fail(struct pool_worker *worker, int code, const char *format, ...) POOL_PRINTF(3, 4);


/* ---- A pool --------------------------------------------------------------------------------------------------- */

/* All zero = the defaults. A nonzero field that this version does not honour is refused, never ignored. */
struct pool_options {
    unsigned          workers;          /* 0: pool_cpu_count() */
    pool_initializer *initializer;
    void             *initarg;          /* worker->arg; the memory it points to is seen as it was in pool_create */
    pool_finalizer   *finalizer;
    double            init_timeout;     /* seconds one initializer may take; 0 or infinite: no limit */
    unsigned          serial;           /* nonzero: no fork; items run one after the other in the calling thread (for a
                                           debugger); options that speak of processes are overridden */
    unsigned          no_spin;          /* nonzero: waits block at once; saves CPU time, costs latency */
    unsigned          close_fds;        /* nonzero: nursery and workers close what they inherited above 2, */
    const int        *pass_fds;         /*   but for these; read during pool_create only */
    size_t            pass_fds_count;
    size_t            max_tasks;        /* items a worker runs before it is replaced, in order: its finalizer runs, and its replacement
                                           is ready already; 0: no limit. Python: maxtasksperchild, which counts chunks */
    size_t            max_memory;       /* bytes of its own a worker may grow beyond what it had when ready; looked at after an
                                           item, once a millisecond at most; then it is replaced in order; 0: no limit */
    unsigned          max_workers;      /* how far pool_resize may go, not below workers; 0: workers */
    size_t            memory_limit;     /* bytes of address space a worker may add to what it had at birth (RLIMIT_AS); 0: none */
    double            cpu_limit;        /* CPU seconds of a worker, rounded up to whole ones (RLIMIT_CPU): beyond them its item
                                           CRASHED by SIGXCPU; 0 or infinite: none */
    int               nice;             /* added to the host's niceness; one that is not permitted fails pool_create with EPERM */
    unsigned          pin;              /* nonzero: worker i runs on the i-th usable CPU, modulo their number */
    uintptr_t         reserved[8];      /* must be 0 */
};

/* CPUs that this process may use: its affinity mask and its cgroup's quota (1.5 CPUs are 2), at least 1.
 * Python: os.process_cpu_count(), which does not look at the quota. */
POOL_API unsigned pool_cpu_count(void);

/* Starts the workers. options: NULL for the defaults; not kept.
 * Returns the pool with every worker ready (its initializer done), or NULL with nothing left behind: pool_error() in
 * words, and errno EINVAL (options), ENOMEM, ECANCELED (an initializer failed or died), ETIMEDOUT (init_timeout), or a
 * system call's own (EAGAIN, EMFILE).
 * Blocks until the initializers are done. Create it early: nursery and workers hold what was open and mapped then.
 * Any thread may call it. Python: Pool(processes, initializer, initargs); there a failing initializer respawns for ever. */
POOL_API struct pool *pool_create(const struct pool_options *options);

/* Ends the pool: drops what has not run, gives what runs a short grace (finalizers run), then kills. Afterwards nothing is
 * left of the workers nor of what they forked. Calls still open in other threads end CANCELLED; handles stay readable and
 * must still be freed. NULL is fine. Blocks for the grace (a second) at most, until kills have taken effect, and until
 * callbacks have run. Refused (INVALID in pool_error, the pool stays as it was) in a task or callback of the same pool.
 * Python: Pool.terminate() and the garbage collector, which never run finalizers. */
POOL_API void pool_destroy(struct pool *pool);

/* No more calls: they are POOL_CLOSED from now on. What was asked for still runs, then the workers leave in order, finalizers
 * run. Does not wait. Python: Pool.close. */
POOL_API void pool_close(struct pool *pool);

/* Waits until all calls have ended (iterators too: someone must still take their results), callbacks have run and workers are
 * gone. Returns OK; PENDING when time ran out; INVALID before pool_close or pool_terminate, and in a callback. The pool is still
 * to be destroyed. Python: Pool.join, which has no time limit. */
POOL_API enum pool_status pool_join(struct pool *pool, double seconds);

/* The same end at once: what has not started is dropped, what runs is killed (both CANCELLED), finalizers do not run. Does not
 * wait. Any thread, callbacks too. Python: Pool.terminate. */
POOL_API void pool_terminate(struct pool *pool);

/* From now on `workers` of them, up to max_workers, while calls run. Newcomers start working as soon as they are ready (not waited
 * for); the highest indexes leave in order when they have ended what they run. Nothing is lost. Returns OK; INVALID for 0,
 * beyond max_workers, or a serial pool; CLOSED, BROKEN. Python: Pool has no such thing. */
POOL_API enum pool_status pool_resize(struct pool *pool, unsigned workers);

/* The number of workers that was asked for last; 1 for a serial pool, 0 for NULL. */
POOL_API unsigned pool_size(const struct pool *pool);

/* The process of one worker, 0 while it is being replaced or if there is no such worker. Serial: the caller's own.
 * Never signal it on a whim: once it has died its number may be another's. */
POOL_API pid_t pool_worker_pid(const struct pool *pool, unsigned index);

/* What has become of all items and workers since the pool was made. */
struct pool_stats {
    uint64_t  ok, failed, crashed, timed_out;   /* items by their end */
    uint64_t  cancelled;            /* killed or dropped: by a cancel, fail_fast, or the end or breaking of the pool */
    uint64_t  retried;              /* further starts of items whose worker crashed */
    uint64_t  replaced_crashed;     /* workers that had to be replaced, by reason: died of themselves, */
    uint64_t  replaced_timed_out;   /*   killed for an item's time limit, */
    uint64_t  replaced_cancelled;   /*   killed for a call that was cut short, */
    uint64_t  replaced_max_tasks;   /*   left in order */
    uint64_t  replaced_max_memory;
    uintptr_t reserved[8];
};

/* Fills in *stats. Looks at the host's own books: no worker is disturbed. INVALID where either is NULL. */
POOL_API enum pool_status pool_stats(const struct pool *pool, struct pool_stats *stats);

/* The same for one index, over all workers that had it. Seconds are wall-clock time as the host saw it. */
struct pool_worker_stats {
    uint64_t  items;                /* that ended at it */
    uint64_t  births;
    double    busy;                 /* seconds with items */
    double    idle;                 /* seconds ready and without */
    double    startup;              /* seconds from asking for it to its READY, initializer included */
    uintptr_t reserved[8];
};
POOL_API enum pool_status pool_worker_stats(const struct pool *pool, unsigned index, struct pool_worker_stats *stats);


/* ---- Items: what is mapped over ------------------------------------------------------------------------------- */

struct pool_bytes { const void *data; size_t size; };

/* Made by the four functions below only; passed by value. The memory they speak of stays the caller's, and stays as it is
 * until the call has returned, or the iterator has ended or was freed. Mistakes (NULL with a count, a product that
 * overflows) are told by the call that is given the items: POOL_INVALID. */
struct pool_items { uintptr_t opaque[6]; };

/* `count` elements of `size` bytes each, one after the other at `base`. Size 0 is allowed. */
POOL_API struct pool_items pool_array(const void *base, size_t count, size_t size);

/* Nothing but task->index: 0 ... count-1. Takes no memory, whatever the count. Python: range(count). */
POOL_API struct pool_items pool_range(size_t count);

/* `count` items of any sizes. The list and what it points to are the caller's. */
POOL_API struct pool_items pool_buffers(const struct pool_bytes *buffers, size_t count);

/* Items as they come. next(cursor, &item): positive and an item, borrowed until the next call of next; 0 at the end;
 * negative: an error code, which ends the call POOL_SOURCE_FAILED after all earlier items' results.
 * Called only from the thread that calls pool_map, pool_map_results, pool_imap or pool_next, with no lock held, never ahead
 * of the window; it may use the pool for other calls, and wait for what its earlier items do: each is at a worker before the
 * next is asked for (but nothing is taken or moved meanwhile: a worker that has 16 KiB of results, 16 bytes more for each,
 * waits, too, and so does an item that got behind another: one of a generator that has given 32 within 160 us may, though a
 * worker is idle). Python: any iterable; there imap reads it to its end at once. */
POOL_API struct pool_items pool_generator(int (*next)(void *cursor, struct pool_bytes *item), void *cursor);


/* ---- Calls ---------------------------------------------------------------------------------------------------- */

/* Options of one call; NULL or all zero = the defaults. A nonzero field that the call does not honour is POOL_INVALID. */
struct pool_call {
    const void *common;         /* context computed after the pool was made: copied when the call is made, sent to each */
    size_t      common_size;    /*   worker once; bytes */
    size_t      chunk;          /* items handed over together; 0: the pool decides. A hint: it costs no fairness */
    size_t      window;         /* imap: items in flight or waiting for the consumer; 0: the pool decides, within 64 MiB
                                   of items and results (but at least one item per worker) */
    double      timeout;        /* seconds one item may run, from its start, before its worker is killed: it TIMED_OUT; 0 or
                                   infinite: no limit. Never early, and not at all for an item that had finished when the host
                                   looked. Python: none (Pebble, billiard) */
    unsigned    retries;        /* more starts for an item whose worker crashed, on another worker where one is free; 0: none.
                                   Items that FAILED or TIMED_OUT are not started again */
    unsigned    fail_fast;      /* nonzero: the first failure ends the call with its status; what runs is killed, what has
                                   not started is dropped (imap: after delivering the failure) */
    const char *progress;       /* not NULL: a progress bar with that label is drawn on stderr while the call runs (an iterator's:
                                   of what was delivered), as by pool_progress_start; not for asynchronous calls. Python: tqdm */
    void      (*done)(struct pool_job *job, void *arg);   /* asynchronous calls only: see there */
    void       *done_arg;
    uintptr_t   reserved[8];    /* must be 0 */
};

/* One item's end. Always made by the library; whose it is says the call that returns it. */
struct pool_result {
    size_t           index;     /* of the item */
    const void      *data;      /* the result, aligned as malloc's; NULL where the item did not end OK */
    size_t           size;      /* bytes */
    enum pool_status status;    /* of this item */
    int              code;      /* FAILED: what the task returned (0 for a result of the wrong size, -1 for a function that
                                   the worker does not have); CRASHED: the exit status; SOURCE_FAILED: the generator's code */
    int              signal;    /* CRASHED: the signal that killed the worker, or 0 */
    unsigned         tries;     /* how often a worker started it */
    pid_t            pid;       /* the worker; 0 where none started it */
    const char      *message;   /* why, in words; "" when there is nothing to say */
};

/* out[i] = f(in[i]): for loops that exist already. Each result must be exactly out_size bytes, else that item FAILED. out NULL:
 * results are dropped (loops with effects); so it must be with a generator, which has no count. out may
 * be the input array itself where the sizes are equal. A failed item's place in out is left as it was.
 * Returns, after all items have ended, POOL_OK or the status of the failed item of lowest index (those cut short by
 * fail_fast do not count), see pool_failure(); SOURCE_FAILED, BROKEN, CANCELLED, INVALID, NO_MEMORY.
 * Python: Pool.map; there the first failure throws the others' results away. */
POOL_API enum pool_status pool_map(struct pool *pool, pool_fn *fn, struct pool_items items, void *out, size_t out_size,
                                   const struct pool_call *call);

/* The failed item (or the generator's failure) of this thread's last pool_map or pool_apply; NULL if none. Its data is
 * NULL. Valid until this thread's next map or apply. */
POOL_API const struct pool_result *pool_failure(void);

/* One item, waited for. in is copied (NULL with size 0 is fine); the result must be exactly out_size bytes (out NULL: it is
 * dropped). Returns as pool_map. Python: Pool.apply. */
POOL_API enum pool_status pool_apply(struct pool *pool, pool_fn *fn, const void *in, size_t in_size, void *out, size_t out_size,
                                     const struct pool_call *call);

/* Map with results of any sizes, all kept. Returns after all items have ended; the list is the caller's, freed with
 * pool_results_free. Failed items are in it with their status; a generator that failed adds one last entry, SOURCE_FAILED.
 * NULL: refused, see pool_error() and errno. Python: the list that Pool.map returns. */
POOL_API struct pool_results *pool_map_results(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call);
POOL_API size_t pool_results_count(const struct pool_results *results);                                     /* 0 for NULL */
POOL_API const struct pool_result *pool_results_at(const struct pool_results *results, size_t index);       /* NULL beyond the count */
POOL_API enum pool_status pool_results_status(const struct pool_results *results);                          /* as pool_map's */
POOL_API void pool_results_free(struct pool_results *results);                                              /* NULL is fine */

/* Results as they come: in the order of the items (imap), or as they finish (imap_unordered). Already pulls and sends a
 * window's worth. Returns an iterator, freed with pool_iter_free, or NULL: refused, see pool_error() and errno.
 * An iterator is used by one thread at a time. Python: Pool.imap, Pool.imap_unordered, which read their source without bound. */
POOL_API struct pool_iter *pool_imap(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call);
POOL_API struct pool_iter *pool_imap_unordered(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call);

/* The next result, waited for: the iterator's, until the next call on it. A failed item comes in its place with its status
 * and the iteration goes on. NULL at the end (no failure): pool_iter_status tells which end it was. NULL for NULL.
 * Python: next(it). */
POOL_API const struct pool_result *pool_next(struct pool_iter *iter);

/* The same, but waits for so many seconds at most: NULL too when time ran out, and pool_iter_status is then PENDING. 0, and
 * NaN: does not wait. Python: it.next(timeout). */
POOL_API const struct pool_result *pool_next_timeout(struct pool_iter *iter, double seconds);

/* PENDING: more to come; OK: all was delivered; else why it ended early (SOURCE_FAILED, CANCELLED, BROKEN; with fail_fast
 * the failure's). INVALID for NULL. */
POOL_API enum pool_status pool_iter_status(const struct pool_iter *iter);

/* Kills what runs of it, drops what has not started. Finished items are still delivered, killed ones as CANCELLED, then it ends
 * CANCELLED. Does not wait. */
POOL_API void pool_iter_cancel(struct pool_iter *iter);

/* Abandons what has not started, lets finish what runs; never waits for it. NULL is fine. */
POOL_API void pool_iter_free(struct pool_iter *iter);


/* ---- Asynchronous calls --------------------------------------------------------------------------------------- */

/* Start a call and return at once. The result is a job, freed with pool_job_free, or NULL: refused, see pool_error() and errno (ESHUTDOWN
 * after close). pool_apply_async copies its item; pool_map_async reads the caller's memory until the job has ended, and takes
 * no generator. A job costs memory, neither a thread nor a descriptor. Not in serial pools.
 * Python: apply_async, map_async; AsyncResult. Results may be of any sizes, as with pool_map_results.
 *
 * pool_call.done(job, done_arg) runs once, whatever the outcome, on a thread of the pool's, with no lock held and its own job
 * already ended; it has returned before any pool_job_wait on that job by another thread returns. It may start asynchronous calls
 * and iterators, ask with 0 seconds, cancel, terminate, and free its job; what would wait there (map, apply, next, wait, join, destroy)
 * is refused, POOL_INVALID. One that takes long delays other callbacks, and nothing else. Its stack is 256 KiB.
 * Python: callback and error_callback in one. */
POOL_API struct pool_job *pool_apply_async(struct pool *pool, pool_fn *fn, const void *in, size_t in_size, const struct pool_call *call);
POOL_API struct pool_job *pool_map_async(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call);

/* Waits until the job has ended and its callback has returned: its status then, as pool_map's. PENDING when time ran out; it goes
 * on. Any number of threads may wait for one job. Python: AsyncResult.wait, get. */
POOL_API enum pool_status pool_job_wait(struct pool_job *job, double seconds);

/* PENDING until it has ended; INVALID for NULL. Python: ready, successful. */
POOL_API enum pool_status pool_job_status(const struct pool_job *job);

/* All its results: the job's, until it is freed. NULL until it has ended. Where it was cut short: what finished, and CANCELLED for
 * the rest. */
POOL_API const struct pool_results *pool_job_results(struct pool_job *job);

/* Kills what runs of it, drops what has not started. Finished results stay. Does not wait. Python: none. */
POOL_API void pool_job_cancel(struct pool_job *job);

/* One that has not ended goes on, detached: its callback still comes, and it is cleaned up by itself. While another thread waits for it
 * this is that caller's error: refused (pool_error), the job stays. NULL is fine. */
POOL_API void pool_job_free(struct pool_job *job);

/* A descriptor for poll, epoll and event loops: readable while pool_next_timeout(iter, 0) or pool_job_wait(job, 0) would return
 * something new on some handle of this pool, an end included. Level-triggered. Take from each handle until NULL or PENDING: a
 * generator is pulled only there. The pool's, closed with it: never read or close it. -1 and errno (ENOTSUP for a serial pool,
 * EMFILE). Python: none. */
POOL_API int pool_fd(struct pool *pool);


/* ---- Processes ------------------------------------------------------------------------------------------------ */

/* For work that is no map: a process of its own that runs one function. Python: multiprocessing.Process.
 *
 * Forks the calling process, as it is now, and runs run(arg) there; what it returns is the exit code (its lowest 8 bits). The child begins
 * with default signal dispositions and no signal blocked; it has its parent's descriptors and memory, and of its threads the calling one
 * only. It ends when run returns, by _exit: no exit handler of the parent's runs, not even if it calls exit(). Of stdio, stdout and stderr
 * are flushed, in the parent before the fork and in the child at its end; other files that it writes are for it to close. It may use
 * the library: queues that it inherited, and processes, queues and pools of its own; the parent's pools are refused in it.
 *
 * Returns a handle, freed with pool_process_free, or NULL with nothing started: pool_error() in words, and errno EINVAL (run is NULL),
 * ENOMEM, EAGAIN, EMFILE. Blocks for the fork only. Any thread; where there are others the child must not need what they held then (malloc
 * and stdio are safe with glibc; another library's lock may stay locked). A pool's workers and other processes are not disturbed.
 *
 * Any number of threads may use the handle. Only this process is ever waited for, and only it is signalled, never another that has its
 * number by now (before Linux 5.3: as far as numbers allow). In a child that its parent forked, join and signals are refused.
 * Python: the constructor and start() in one. There is no `daemon`: a child may outlive its parent. stdin is left as it is. */
POOL_API struct pool_process *pool_process_start(int (*run)(void *arg), void *arg);

/* Its process number; 0 for NULL. Python: pid. */
POOL_API pid_t pool_process_pid(const struct pool_process *process);

/* Nonzero: it has not ended. 0 for NULL. Python: is_alive. */
POOL_API int pool_process_alive(struct pool_process *process);

enum { POOL_ALIVE = 256, POOL_REAPED = 257 };

/* What run returned (0 to 255) or gave to exit(); -N: killed by signal N; POOL_ALIVE: it has not ended; POOL_REAPED: it has, but somebody
 * else took its status: the program by a wait() of its own, or the system where SIGCHLD is ignored. POOL_REAPED for NULL.
 * Does not wait. Python: exitcode, which is None while it runs. */
POOL_API int pool_process_exitcode(struct pool_process *process);

/* A descriptor for poll, epoll and event loops: readable once it has ended. The handle's, closed with it: never read or close it. -1 for
 * NULL. Python: sentinel. */
POOL_API int pool_process_fd(const struct pool_process *process);

/* Waits until it has ended, and reaps it: OK, however it ended. PENDING when time ran out; INVALID. Python: join, which returns nothing. */
POOL_API enum pool_status pool_process_join(struct pool_process *process, double seconds);

/* Send SIGTERM, which it may handle, or SIGKILL. One that has ended is left alone. Neither waits. pool_error() says so where it is not
 * permitted, as when it has become another user. Python: terminate, kill. */
POOL_API void pool_process_terminate(struct pool_process *process);
POOL_API void pool_process_kill(struct pool_process *process);

/* Frees the handle. One that has ended is reaped. One that runs goes on, and when it ends it stays a zombie until the program waits for it
 * (waitpid with its number) or ends itself: join first where there are many. NULL is fine. Python: garbage collection. */
POOL_API void pool_process_free(struct pool_process *process);


/* ---- Queues --------------------------------------------------------------------------------------------------- */

/* A queue between processes: made before they are forked, put into and got from by any number of them. Items are opaque bytes, from none to
 * gigabytes; each arrives whole, once, at one getter, and those of one putter that come to one getter in their order. put has handed its
 * item over when it returns: no thread holds it back, and whatever becomes of the putter then, it arrives.
 * Killing (or crashing) a process in the middle of a call wedges nobody and costs no other item: a putter's own one may be there or not; a
 * getter may take along the one that it was getting. One that is stopped there (SIGSTOP) holds up others for so long, but for their limits.
 *
 * Whose it is: every process forked after it was made has it, each its own copy of the handle, until it frees it, ends, or runs another
 * program (exec). Such are pool_process_start's, plain forks, and a pool created after it: all its workers, unless close_fds closed it.
 *
 * capacity_bytes: how much may wait in it. put waits while that much or more does; so the last item to enter may exceed it, and one larger
 * than all of it passes. An item counts with its size rounded up to 8, at least 8. 0: 2 MiB. What the system does not allow (about a
 * quarter of its memory, or RLIMIT_AS) is cut to what it does; pool_error() says so then, and pool_queue_capacity. Memory is taken where
 * items have lain, up to 4 times the capacity. Items larger than 1 MiB, or than half the capacity if that is less, take 2 copies and some
 * 20 system calls; some 200 of them wait at most.
 * Returns it, freed with pool_queue_free, or NULL: pool_error() and errno (ENOMEM, EMFILE). It takes 6 descriptors.
 *
 * Any number of threads may use the handle, but for pool_queue_free.
 * Python: Queue(maxsize), which counts items and holds them in the putter without bound; SimpleQueue. Both stay locked for ever when a
 * process is killed in get or put. A process that puts more than fits before anybody gets waits here, also for itself. */
POOL_API struct pool_queue *pool_queue_create(size_t capacity_bytes);

/* The capacity that it has, in bytes; 0 for NULL. */
POOL_API size_t pool_queue_capacity(const struct pool_queue *queue);

/* Copies an item into the queue. NULL with size 0 is fine. Waits for room: PENDING when time ran out, and then it was not put. CLOSED: this
 * process has closed the queue. INVALID; NO_MEMORY (also for an item too large for the queue where Linux is older than 3.17, or beyond
 * RLIMIT_FSIZE); BROKEN: something has written over the queue's memory. 0 seconds: does not wait, but some 20 ms for another that is in the
 * middle of its put.
 * Python: put, put_nowait; Full is PENDING. */
POOL_API enum pool_status pool_queue_put(struct pool_queue *queue, const void *data, size_t size, double seconds);

/* Waits for an item and takes it. It is the calling thread's until its next get on this queue or the queue is freed here; aligned as
 * malloc's. OK; PENDING when time ran out; CLOSED: the queue is empty and every process that had it has closed it, freed it or died, by
 * whatever signal: nothing will ever come. INVALID; NO_MEMORY: the item is still in the queue; BROKEN. Other than OK: item is {NULL, 0}.
 * Whoever may put keeps the end from coming, the caller too: a process that only gets calls pool_queue_close first. So does one that
 * inherited the queue without knowing: a plain fork, or a pool created after it, which counts until it is destroyed (its workers may put).
 * Python: get, get_nowait; Empty is PENDING. It has no end: there a None in the queue for each getter has to say it. */
POOL_API enum pool_status pool_queue_get(struct pool_queue *queue, struct pool_bytes *item, double seconds);

/* This process puts no more. It may still get. Others are as they were, also those that it has forked. Waits for a put under way.
 * Python: close, and join_thread, since nothing is held back here. */
POOL_API void pool_queue_close(struct pool_queue *queue);

/* A descriptor for poll, epoll and event loops: readable while a get would not block, CLOSED included (poll may say POLLHUP then).
 * Level-triggered. Another process may be faster: get with 0 seconds. The queue's, closed with it: never read or close it. Once it was
 * asked for, emptying the queue costs two system calls. -1 for NULL. Python: _reader, which is private. */
POOL_API int pool_queue_fd(const struct pool_queue *queue);

/* Frees this process's copy, closes it too, and its items with it; items in the queue stay for the others. No call on it may be under
 * way, and none may follow, in this process. NULL is fine. Python: garbage collection. */
POOL_API void pool_queue_free(struct pool_queue *queue);


/* ---- Progress ------------------------------------------------------------------------------------------------- */

/* A progress bar on stderr for a loop of your own:
 *
 *     hashing:  42%|████▏     | 42/100 [00:01<00:01, 39.9 it/s, 3 failed]
 *
 * On a terminal it is drawn at its start and then at most ten times a second, several bars one below the other; where stderr is
 * anything else, or TERM is dumb or missing, once at its end. A bar that has finished keeps its line, above those that still run (16 of
 * them are seen at most). Blocks need UTF-8 in LC_ALL, LC_CTYPE or LANG, else it is ASCII. Nothing is coloured. Descriptor 2 is written
 * to directly, past stdio, and only while it is the file that it was at the start. A program that dies of a signal leaves its line open;
 * a shell begins one for its prompt.
 *
 * label: copied; NULL or "" is none; cut after 255 bytes, and what no terminal shows as a letter is '?'. total: how many there will be;
 * 0 is unknown: no bar then, but count, time and rate, and so it is once there are more than total.
 * Returns the bar, which pool_progress_finish frees; or NULL, which the other two take as well: errno ENOMEM, or EINVAL in a worker.
 * In a child that the host forked an inherited bar is not drawn; it may have bars of its own.
 * Python: tqdm(desc=label, total=total), which counts an item that failed as any other. */
POOL_API struct pool_progress *pool_progress_start(const char *label, size_t total);

/* So many more have ended, `failed` of them badly: pool_progress_add(p, 1, r->status != POOL_OK). Cheap enough for every item: two
 * atomic additions at most, and on a terminal a look at a coarse clock. Any thread, any number of them at once. Never waits for the
 * terminal, which shows what it has time for. Leaves errno and pool_error() alone. Python: tqdm.update. */
POOL_API void pool_progress_add(struct pool_progress *progress, size_t done, size_t failed);

/* Draws the last state, which stays, ends the line and frees the bar. Waits up to half a second for a terminal that takes nothing. One
 * thread, after the last add. NULL is fine. Leaves errno and pool_error() alone. Python: tqdm.close. */
POOL_API void pool_progress_finish(struct pool_progress *progress);

#ifdef __cplusplus
}
#endif
#endif
