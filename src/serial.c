/* A pool without processes, for a debugger.
 *
 * Runs in the calling threads. Same items, same settling, same statuses as with workers: only the way of an item to its function differs. A
 * crash in a task is the host's own, which is what a debugger wants to see. Results lie in heap memory that goes over to the job.
 * Threads that share a serial pool take turns by item: there is one worker, and its state is not made for two. */
#include "serial.h"

#include "status.h"
#include "task.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct serial {
    struct task_run run;                /* first: a run's serial pool */
    void *former;                       /* the room before this one: what is returned may lie there */
    pool_finalizer *finalizer;
    pthread_mutex_t lock;               /* held while a task runs */
};

static _Thread_local const struct serial *inside;

static void *make_room(struct task_run *run, size_t size)
{
    struct serial *s = (struct serial *)(void *)run;
    void *at = malloc(size ? size : 1);
    free(s->former);
    s->former = run->room.at;
    run->room = at ? (struct task_room){TASK_ELSEWHERE, at, size} : (struct task_room){0};
    return at;
}

int serial_inside(const struct serial *serial)
{
    return inside == serial;
}

int serial_open(struct serial **serial, const struct pool_options *options)
{
    struct serial *s = calloc(1, sizeof *s);
    *serial = NULL;
    if (!s || pthread_mutex_init(&s->lock, NULL)) {
        free(s);
        status_say(POOL_NO_MEMORY, "no memory for a pool");
        return ENOMEM;
    }
    s->run.worker.arg = options->initarg;
    task_prepare(&s->run);
    s->run.make_room = make_room;
    s->finalizer = options->finalizer;
    int code = options->initializer ? options->initializer(&s->run.worker) : 0;
    if (!code) {
        *serial = s;
        return 0;
    }
    status_say(POOL_FAILED, "the initializer of worker 0 failed with code %d%s%s", code, s->run.text[0] ? ": " : "", s->run.text);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return ECANCELED;
}

void serial_abandon(struct serial *s)
{
    s->finalizer = NULL;
}

void serial_finish(struct serial *s)
{
    pool_finalizer *finalizer = s->finalizer;
    s->finalizer = NULL;
    if (finalizer)
        finalizer(&s->run.worker);
}

void serial_close(struct serial *s)
{
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void run_item(struct serial *s, struct job *j, const struct piece *piece, struct lock *lock)
{
    struct task_run *run = &s->run;
    struct ending e = {.index = piece->index, .tries = 1, .pid = getpid(), .slot = -1, .text = ""};
    lock_leave(lock);
    pthread_mutex_lock(&s->lock);
    const struct serial *outside = inside;
    inside = s;
    task_begin(run);
    run->task.in = piece->data;
    run->task.in_size = piece->size;
    run->task.index = piece->index;
    run->task.common = j->call.common;
    run->task.common_size = j->call.common_size;
    e.code = j->fn(&run->task);
    status_clear();
    inside = outside;
    free(s->former);
    s->former = NULL;
    if (e.code) {
        free(run->room.at);
        e.status = POOL_FAILED;
        e.text = run->text;
    } else {
        e.data = run->room.at ? run->room.at : "";
        e.size = run->room.size;
        e.owned = run->room.at;
    }
    lock_enter(lock);
    job_sent(j, 1, piece->size);
    job_settle(j, &e, piece->size);
    run->room = (struct task_room){0};
    pthread_mutex_unlock(&s->lock);
}

/* The generator's next item. 0: there is none. */
static int pull(struct job *j, struct piece *piece, struct lock *lock)
{
    struct pool_bytes item = {0};
    if (!j->source.pull)
        return 0;
    lock_leave(lock);
    int r = j->source.pull(j->source.cursor, &item);
    lock_enter(lock);
    status_clear();                     /* it may have used the library: what it was told is not this call's */
    if (r > 0 && (item.data || !item.size)) {
        *piece = (struct piece){.index = j->source.next, .count = 1, .data = item.data, .size = item.size};
        source_pulled(&j->source, 1);
        return 1;
    }
    if (r)
        job_source_failed(j, r > 0 ? EINVAL : r);
    j->source.pull = NULL;
    return 0;
}

int serial_run_next(struct serial *s, struct job *j, struct lock *lock)
{
    struct piece piece;
    size_t size;
    int there = !j->cut;
    if (there && source_ready(&j->source, &size))
        source_take(&j->source, 1, &piece);
    else
        there = there && pull(j, &piece, lock);
    if (there)
        run_item(s, j, &piece, lock);
    job_check_end(j);
    return there;
}
