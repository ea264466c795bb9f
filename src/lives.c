/* Workers' lives: births, readiness, deaths and replacements.
 *
 * Runs in the host, under the pool's lock, in the thread that turns the loop (crew_condemn in any). A worker's life: UNBORN, STARTING
 * (asked for at the nursery), READY once it says so itself (born is not ready) and its pid is known, perhaps CONDEMNED, DEAD when the
 * nursery has reaped it. A death is settled by the scheduler, which drains the ring first, and then buries the worker here.
 *
 * Kills and deaths name slot and generation, so that an order never meets a successor. A worker whose result pipe ends
 * without a report of its death closed its descriptors or became another program: it is condemned.
 *
 * Never an endless respawn: a birth that fails, or an initializer, is tried again in place of a dead worker, and breaks the crew after
 * FAILURES in a row; workers that die ready but before they have ended anything, after IDLE_DEATHS, and ever more slowly. A failed fork is
 * tried again a little later, a failed initializer at once. */
#define _GNU_SOURCE
#include "crew.h"

#include "clock.h"
#include "fd.h"
#include "signals.h"
#include "status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

enum { FAILURES = 3 };
enum { IDLE_DEATHS = 100, IDLE_DEATHS_FREE = 3 };   /* workers in a row that die before they end anything: in all; replaced at once */
#define IDLE_WAIT ((int64_t)500000)     /* nanoseconds, doubled up to 256 times */
#define RETRY_AFTER 10000000            /* nanoseconds before a failed fork is tried again, doubled each time */

/* ---- Watching */

void crew_watch(struct crew *c, struct crew_worker *w)
{
    if (w->watched)
        return;
    c->watched[c->watched_count++] = w;
    w->watched = c->watched_count;
}

void crew_unwatch(struct crew *c, struct crew_worker *w)
{
    if (!w->watched)
        return;
    struct crew_worker *last = c->watched[--c->watched_count];
    c->watched[w->watched - 1] = last;
    last->watched = w->watched;
    w->watched = 0;
}

/* ---- Births */

static void break_off(struct crew *c, int error, const char *why)
{
    if (c->broken)
        return;
    c->broken = error;
    snprintf(c->why, sizeof c->why, "%s", why);
}

/* One birth failed: try again, at `again`, or give up. */
static void miscarry(struct crew *c, struct crew_worker *w, int error, int64_t again, const char *why)
{
    c->failures++;
    w->born_at = again;
    if (c->opening || c->failures >= FAILURES)
        break_off(c, error, why);
}

static void could_not_fork(struct crew *c, struct crew_worker *w, int error)
{
    char why[200], text[100];
    snprintf(why, sizeof why, "worker %u could not be started: %s", w->index, status_errno(error, text, sizeof text));
    miscarry(c, w, error, clock_now() + ((int64_t)RETRY_AFTER << c->failures), why);
}

static int make_pipes(struct crew_worker *w, int *task_far, int *result_far)
{
    int task[2], result[2] = {-1, -1};
    int r = fd_pipe(task, 0);
    if (!r)
        r = fd_pipe(result, 1);
    *task_far = -1;
    if (!r) {
        *task_far = fcntl(task[0], F_DUPFD_CLOEXEC, 3);
        r = *task_far < 0 ? errno : 0;
    }
    if (r) {
        fd_close(&task[0]);
        fd_close(&task[1]);
        fd_close(&result[0]);
        fd_close(&result[1]);
        return r;
    }
    w->task_pipe_far = task[0];
    w->task_pipe = task[1];
    w->result_pipe = result[0];
    *result_far = result[1];
    return 0;
}

static void bear(struct crew *c, struct crew_worker *w)
{
    int task_far, result_far;
    int r = make_pipes(w, &task_far, &result_far);
    if (r) {
        could_not_fork(c, w, r);
        return;
    }
    w->generation++;
    w->state = WORKER_STARTING;
    w->pid = 0;
    w->verdict = POOL_CRASHED;
    w->reason = NULL;
    w->was_ready = w->told = 0;
    w->ready_by = c->init_timeout > 0 ? clock_deadline(c->init_timeout) : CLOCK_NEVER;
    books_reset(&w->books, w->task_pipe);
    c->polls[CREW_POLL_WORKERS + w->index].fd = w->result_pipe;
    c->alive++;
    crew_watch(c, w);
    nursery_bear(c->nursery, w->index, w->generation, task_far, result_far);
}

static void bear_all(struct crew *c, int64_t now)
{
    for (unsigned i = 0; i < c->size && !c->broken && !c->leaving; i++)
        if (c->workers[i].state == WORKER_UNBORN && c->workers[i].born_at <= now)
            bear(c, &c->workers[i]);
}

/* Once it has said so itself and its pid is known: the ring is quicker than the nursery's report, and results name the pid. */
static void enlist(struct crew *c, struct crew_worker *w)
{
    if (w->state != WORKER_STARTING || !w->was_ready || !w->pid)
        return;                         /* or it died or was condemned meanwhile */
    w->state = WORKER_READY;
    crew_unwatch(c, w);
    c->ready++;
    if (c->ready == c->size)
        c->opening = 0;
}

void crew_ready(struct crew *c, struct crew_worker *w)
{
    w->was_ready = 1;
    w->ready_by = CLOCK_NEVER;
    c->failures = 0;
    enlist(c, w);
}

void crew_unready(struct crew *c, struct crew_worker *w, int code, const char *text)
{
    char why[STATUS_TEXT + 100];
    snprintf(why, sizeof why, "the initializer of worker %u failed with code %d%s%s", w->index, code, *text ? ": " : "", text);
    w->told = 1;
    miscarry(c, w, ECANCELED, 0, why);
    crew_condemn(c, w, POOL_CRASHED, "its initializer failed");
}

/* ---- Deaths */

void crew_close_pipes(struct crew *c, struct crew_worker *w)
{
    fd_close(&w->task_pipe);
    fd_close(&w->task_pipe_far);
    fd_close(&w->result_pipe);
    c->polls[CREW_POLL_WORKERS + w->index].fd = -1;
}

static void unready(struct crew *c, struct crew_worker *w, enum worker_state state)
{
    if (w->state == WORKER_READY)
        c->ready--;
    w->state = state;
}

void crew_condemn(struct crew *c, struct crew_worker *w, enum pool_status verdict, const char *reason)
{
    if (w->state != WORKER_STARTING && w->state != WORKER_READY)
        return;
    books_close(&w->books);
    unready(c, w, WORKER_CONDEMNED);
    w->verdict = verdict;
    w->reason = reason;
    if (!c->nursery)
        return;                         /* it has taken all with it */
    nursery_kill(c->nursery, w->index, w->generation);
    nursery_flush(c->nursery);          /* at once, since nobody may be turning the loop; what fails here, crew_mind meets again */
}

void crew_condemn_all(struct crew *c, enum pool_status verdict, const char *reason)
{
    for (unsigned i = 0; i < c->size; i++)
        crew_condemn(c, &c->workers[i], verdict, reason);
}

const char *crew_epitaph(const struct crew_worker *w, char *text, size_t size)
{
    char how[160];
    int signal = WIFSIGNALED(w->wait_status) ? WTERMSIG(w->wait_status) : 0, code = WEXITSTATUS(w->wait_status);
    if (signal == SIGKILL && w->reason)
        snprintf(how, sizeof how, "was killed because %s", w->reason);
    else if (signal)
        snprintf(how, sizeof how, "was killed by signal %d (%s)", signal, signal_name(signal));
    else if (code == WORKER_DAMAGED)
        snprintf(how, sizeof how, "left because its channel was written over or its pipe was closed");
    else
        snprintf(how, sizeof how, "exited with status %d", code);
    snprintf(text, size, "worker %u (pid %ld) %s", w->index, (long)w->pid, how);
    return text;
}

/* It died before it was ready, and had not said itself what failed. */
static void died_unready(struct crew *c, struct crew_worker *w)
{
    char why[400], text[300];
    if (w->told)
        return;
    snprintf(why, sizeof why, "the initializer did not return: %s", crew_epitaph(w, text, sizeof text));
    miscarry(c, w, ECANCELED, 0, why);
}

static void too_late(struct crew *c, struct crew_worker *w)
{
    char why[200];
    snprintf(why, sizeof why, "the initializer of worker %u took longer than %g seconds", w->index, c->init_timeout);
    w->told = 1;
    miscarry(c, w, ETIMEDOUT, 0, why);
    crew_condemn(c, w, POOL_CRASHED, "its initializer took too long");
}

/* It was ready and died before it had ended anything. Once may be an accident; always is a respawn without end, so it gets slower, and
 * stops. */
static void died_idle(struct crew *c, struct crew_worker *w)
{
    char why[400], text[300];
    unsigned slow = ++c->idle_deaths > IDLE_DEATHS_FREE ? c->idle_deaths - IDLE_DEATHS_FREE : 0;
    if (slow)
        w->born_at = clock_now() + (IDLE_WAIT << (slow < 8 ? slow : 8));
    if (c->idle_deaths < IDLE_DEATHS)
        return;
    snprintf(why, sizeof why, "workers die as soon as they are ready: %s", crew_epitaph(w, text, sizeof text));
    break_off(c, ECANCELED, why);
}

void crew_bury(struct crew *c, struct crew_worker *w)
{
    if (w->state == WORKER_DEAD && !c->leaving) {
        if (!w->was_ready)
            died_unready(c, w);
        else if (!w->books.taken)
            died_idle(c, w);
        else
            c->idle_deaths = 0;
    }
    crew_unwatch(c, w);
    crew_close_pipes(c, w);
    w->books.task_pipe = -1;
    w->state = WORKER_UNBORN;
    w->pid = 0;
    c->alive--;
}

void crew_heard(struct crew *c, struct crew_worker *w)
{
    int r = fd_drain(w->result_pipe);
    if (!r)
        return;
    c->polls[CREW_POLL_WORKERS + w->index].fd = -1;
    crew_condemn(c, w, POOL_CRASHED, "its result pipe had ended: it closed its descriptors, or somebody killed it");
}

/* ---- Minding */

static void hear_of(struct crew *c, const struct nursery_report *report)
{
    struct crew_worker *w = report->slot < c->size ? &c->workers[report->slot] : NULL;
    if (!w || w->generation != report->generation || w->state == WORKER_UNBORN || w->state == WORKER_DEAD)
        return;
    switch (report->state) {
    case NURSERY_BORN:
        w->pid = report->pid;
        enlist(c, w);
        break;
    case NURSERY_UNBORN:
        unready(c, w, WORKER_UNBORN);
        crew_bury(c, w);
        could_not_fork(c, w, report->status);
        break;
    case NURSERY_DEAD:
        w->pid = report->pid;
        w->wait_status = report->status;
        unready(c, w, WORKER_DEAD);
        break;
    }
}

/* Without its nursery a crew is lost: the kernel kills the workers with it. */
static void lose_nursery(struct crew *c)
{
    break_off(c, EPIPE, "the process that starts the workers is gone: somebody killed it");
    c->polls[CREW_POLL_NURSERY].fd = -1;
    for (unsigned i = 0; i < c->size; i++) {
        struct crew_worker *w = &c->workers[i];
        if (w->state == WORKER_UNBORN || w->state == WORKER_DEAD)
            continue;
        w->wait_status = SIGKILL;
        unready(c, w, WORKER_DEAD);
    }
}

int crew_mind(struct crew *c, int64_t now)
{
    struct nursery_report report;
    int changed = 0, r = EPIPE;
    if (!c->nursery || c->polls[CREW_POLL_NURSERY].fd < 0)
        return 0;
    bear_all(c, now);
    for (unsigned i = 0; i < c->size; i++)
        if (c->workers[i].state == WORKER_STARTING && c->workers[i].ready_by <= now)
            too_late(c, &c->workers[i]);
    r = nursery_flush(c->nursery);
    while (!r && !(r = nursery_next(c->nursery, &report))) {
        hear_of(c, &report);
        changed = 1;
    }
    if (r == EAGAIN) {
        c->polls[CREW_POLL_NURSERY].events = nursery_events(c->nursery);
        return changed;
    }
    lose_nursery(c);
    return 1;
}

int64_t crew_deadline(const struct crew *c)
{
    int64_t deadline = CLOCK_NEVER;
    for (unsigned i = 0; i < c->size; i++) {
        const struct crew_worker *w = &c->workers[i];
        int64_t at = w->state == WORKER_STARTING ? w->ready_by
                   : w->state == WORKER_UNBORN && !c->broken && !c->leaving ? w->born_at : CLOCK_NEVER;
        deadline = at < deadline ? at : deadline;
    }
    return deadline;
}
