/* What a task function may call: pool_out, pool_return, pool_fail, and pool_init_fail for initializers.
 *
 * Runs in a worker, or in the calling thread of a serial pool. The struct that the user sees is the first member of a run, as the
 * worker given to an initializer is a member of it, so that these functions need no hidden global: a pool within a
 * task of another pool, or two serial pools in two threads, do not meet. Where a result lies is the runner's business: it
 * gives make_room, and a task writes straight into the place from which the caller will take the result. */
#include "task.h"

#include "copy.h"
#include "forks.h"

#include <stdio.h>
#include <string.h>

static struct task_run *run_of_task(struct pool_task *task)
{
    return (struct task_run *)(void *)task;
}

static struct task_run *run_of_worker(struct pool_worker *worker)
{
    return (struct task_run *)(void *)((char *)worker - offsetof(struct task_run, worker));
}

void task_prepare(struct task_run *run)
{
    run->task.worker = &run->worker;
    run->forks = forks_count;
}

/* Nearly every result of a map fits the room that was prepared for it. NULL: this one does not. One word says that it is there: each store
 * has to be through before the locked step after the item, and a map of numbers took a tenth longer with three. */
static void *take_room(struct task_run *run, size_t size)
{
    void *at = run->prepared.at;
    if (size != run->prepared.size || !at || run->room.place != TASK_NO_ROOM || run->forks != forks_count)
        return NULL;
    run->room.place = TASK_PREPARED;
    return at;
}

void *pool_out(struct pool_task *task, size_t size)
{
    struct task_run *run = run_of_task(task);
    void *at = take_room(run, size);
    return at ? at : run->make_room(run, size);
}

__attribute__((noinline)) static int return_bytes(struct pool_task *task, const void *data, size_t size)
{
    if (!data && size)
        return pool_fail(task, -1, "pool_return was given NULL with a size of %zu", size);
    void *at = pool_out(task, size);
    if (!at)
        return pool_fail(task, -1, "no memory for a result of %zu bytes", size);
    if (size)
        copy_or_move(at, data, size);
    return 0;
}

/* Numbers by themselves: for them, the calls of the other way cost more than all the rest that the library does for an item. */
int pool_return(struct pool_task *task, const void *data, size_t size)
{
    void *at = (size == 4 || size == 8) && data ? take_room(run_of_task(task), size) : NULL;
    if (!at)
        return return_bytes(task, data, size);
    if (size == 4)
        memcpy(at, data, 4);
    else
        memcpy(at, data, 8);
    return 0;
}

/* splitmix64: consecutive numbers give unrelated ones. */
uint64_t pool_task_seed(const struct pool_task *task)
{
    uint64_t x = ((uint64_t)task->index + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static int note(struct task_run *run, int code, const char *format, va_list args)
{
    if (!format || vsnprintf(run->text, sizeof run->text, format, args) < 0)
        run->text[0] = '\0';
    return code ? code : -1;
}

int pool_fail(struct pool_task *task, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    code = note(run_of_task(task), code, format, args);
    va_end(args);
    return code;
}

int pool_init_fail(struct pool_worker *worker, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    code = note(run_of_worker(worker), code, format, args);
    va_end(args);
    return code;
}
