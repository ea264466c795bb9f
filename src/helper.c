/* The pool's own threads.
 *
 * Run in the host, and only where somebody asked for what needs them. The attendant is one more waiter, which never stops waiting: it turns
 * the loop while jobs are open whose callers may be elsewhere, and leaves it to any caller who wants to (scheduler.c). The runner
 * runs callbacks, one after the other. They are two, so that a slow callback delays other callbacks only, never a result or a kill.
 *
 * Both are born with all signals blocked, so that the host's handlers never run in them, have a small stack and a name, and are joined
 * before the pool is gone. A child that the host forks does not have them, and may not use the pool anyway. */
#define _GNU_SOURCE
#include "helper.h"

#include <errno.h>
#include <signal.h>

enum { STACK = 256 << 10 };             /* bytes */

static _Thread_local const struct helper *inside;

int helper_is_here(const struct helper *h)
{
    return inside == h;
}

int helper_is_idle(const struct helper *h)
{
    return !h->first && !h->running;
}

static void take_name(const char *name)
{
#ifdef __linux__
    pthread_setname_np(pthread_self(), name);
#else
    (void)name;
#endif
}

/* A program with much thread-local memory may have no room for it in a small stack: then the usual one. */
static int start(struct helper *h, pthread_t *thread, void *(*main)(void *))
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int r = pthread_attr_init(&attributes);
    if (r)
        return r;
    lock_share(&h->sched->lock);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_attr_setstacksize(&attributes, STACK);
    if (!r)
        r = pthread_create(thread, &attributes, main, h);
    if (r == EINVAL)
        r = pthread_create(thread, NULL, main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return r;
}

/* ---- The attendant */

static int has_to_stop(void *helper)
{
    return ((struct helper *)helper)->stop;
}

static void *attend(void *helper)
{
    struct helper *h = helper;
    take_name("pool-attendant");
    sched_enter(h->sched);
    sched_attend(h->sched, has_to_stop, h);
    sched_leave(h->sched);
    return NULL;
}

int helper_attend(struct helper *h)
{
    int r = h->has_attendant ? 0 : start(h, &h->attendant, attend);
    h->has_attendant |= !r;
    return r;
}

/* ---- The runner */

static void run_first(struct helper *h)
{
    struct errand *errand = h->first;
    h->first = errand->next;
    h->running = 1;
    sched_leave(h->sched);
    errand->run(errand);
    sched_enter(h->sched);
    h->running = 0;
    errand->after(errand);
    if (!helper_is_idle(h) || !(h->sched->finishing || h->sched->closed))
        return;
    waiter_wake(&h->sched->waiter);     /* pool_join and pool_destroy wait for the last of them, */
    sched_poke(h->sched);               /*   and may be those that turn the loop */
}

static void *run(void *helper)
{
    struct helper *h = helper;
    take_name("pool-callbacks");
    inside = h;
    sched_enter(h->sched);
    while (!h->stop || h->first) {
        if (h->first)
            run_first(h);
        else
            sched_sleep(h->sched, &h->due, NULL, CLOCK_NEVER);
    }
    sched_leave(h->sched);
    return NULL;
}

int helper_run_errands(struct helper *h)
{
    if (h->has_runner)
        return 0;
    int r = waiter_init(&h->due);
    if (!r && (r = start(h, &h->runner, run)))
        waiter_fini(&h->due);
    h->has_runner = !r;
    return r;
}

void helper_send(struct helper *h, struct errand *errand)
{
    errand->next = NULL;
    if (h->first)
        h->last->next = errand;
    else
        h->first = errand;
    h->last = errand;
    waiter_wake(&h->due);
}

/* ---- The end */

void helper_stop(struct helper *h)
{
    if (!h->has_attendant && !h->has_runner)
        return;
    h->stop = 1;
    waiter_wake(&h->sched->attendant);
    sched_poke(h->sched);
    if (h->has_runner)
        waiter_wake(&h->due);
    sched_leave(h->sched);
    if (h->has_attendant)
        pthread_join(h->attendant, NULL);
    if (h->has_runner)
        pthread_join(h->runner, NULL);
    sched_enter(h->sched);
    if (h->has_runner)
        waiter_fini(&h->due);
    h->has_attendant = h->has_runner = 0;
}
