/* Workers' lives: births, readiness, and what the nursery tells of them.
 *
 * Runs in the host, under the pool's lock, in the thread that turns the loop. A worker's life: UNBORN, STARTING (asked for at the
 * nursery), READY once it says so itself (born is not ready) and its pid is known, perhaps LEAVING or CONDEMNED (deaths.c), DEAD when the
 * nursery has reaped it. A death is settled by the scheduler, which drains the ring first, and then buries the worker.
 *
 * What is due by the clock (births to be tried again, initializers that take too long, finalizers that block a slot) is looked after
 * when its time has come and not at every turn. A failed fork is tried again a little later, a failed initializer at once. */
#define _GNU_SOURCE
#include "lives.h"

#include "clock.h"
#include "fd.h"
#include "places.h"
#include "status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#define RETRY_AFTER 10000000            /* nanoseconds before a failed fork is tried again, doubled each time */

/* ---- Births */

static void could_not_fork(struct crew *c, struct crew_worker *w, int error)
{
    char why[200], text[100];
    snprintf(why, sizeof why, "worker %u could not be started: %s", w->index, status_errno(error, text, sizeof text));
    crew_miscarry(c, w, error, clock_now() + ((int64_t)RETRY_AFTER << c->failures), why);
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
    w->was_ready = w->told = w->dismissed = 0;
    w->done = 0;
    w->judge_at = w->run_since = CLOCK_NEVER;
    w->gone_by = CLOCK_NEVER;
    w->asked_at = clock_now();
    w->ready_by = c->init_timeout > 0 ? clock_deadline(c->init_timeout) : CLOCK_NEVER;
    crew_attend(c, w->ready_by);
    books_reset(&w->books, w->task_pipe);
    atomic_store(&w->books.channel.desk->index, w->index);
    c->polls[CREW_POLL_WORKERS + w->slot].fd = w->result_pipe;
    c->alive++;
    crew_watch(c, w);
    nursery_bear(c->nursery, w->slot, w->generation, task_far, result_far);
}

/* Once it has said so itself and its pid is known: the ring is quicker than the nursery's report, and results name the pid. */
static void enlist(struct crew *c, struct crew_worker *w)
{
    if (w->state != WORKER_STARTING || !w->was_ready || !w->pid)
        return;                         /* or it died or was condemned meanwhile */
    w->state = WORKER_READY;
    w->ready_at = clock_now();
    c->ready++;
    c->places[w->index].startup += w->ready_at - w->asked_at;
    crew_unwatch(c, w);
    if (places_is_holder(c, w))
        places_add_hand(c, w);
    if (c->hands_count == c->size)
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
    crew_miscarry(c, w, ECANCELED, 0, why);
    crew_condemn(c, w, POOL_CRASHED, "its initializer failed");
}

void crew_unfit(struct crew *c, struct crew_worker *w, int error, const char *text)
{
    char why[STATUS_TEXT + 100], words[100];
    snprintf(why, sizeof why, "worker %u could not be started: %s: %s", w->index, text, status_errno(error, words, sizeof words));
    w->told = 1;
    crew_miscarry(c, w, error, 0, why);
    crew_condemn(c, w, POOL_CRASHED, "it could not be as it was to be");
}

static void too_late(struct crew *c, struct crew_worker *w)
{
    char why[200];
    snprintf(why, sizeof why, "the initializer of worker %u took longer than %g seconds", w->index, c->init_timeout);
    w->told = 1;
    crew_miscarry(c, w, ETIMEDOUT, 0, why);
    crew_condemn(c, w, POOL_CRASHED, "its initializer took too long");
}

/* ---- Minding */

/* Told by its birth, or only by its death, which may overtake it. */
static void learn_pid(struct crew *c, struct crew_worker *w, pid_t pid)
{
    if (!w->pid && w->placed)
        c->places[w->index].births++;
    w->pid = pid;
}

static void hear_of(struct crew *c, const struct nursery_report *report)
{
    struct crew_worker *w = report->slot < c->slots ? &c->workers[report->slot] : NULL;
    if (!w || w->generation != report->generation || w->state == WORKER_UNBORN || w->state == WORKER_DEAD)
        return;
    switch (report->state) {
    case NURSERY_BORN:
        learn_pid(c, w, report->pid);
        enlist(c, w);
        break;
    case NURSERY_UNBORN:
        crew_lose(c, w, WORKER_UNBORN);
        crew_bury(c, w);
        could_not_fork(c, w, report->status);
        break;
    case NURSERY_DEAD:
        learn_pid(c, w, report->pid);
        w->wait_status = report->status;
        crew_lose(c, w, WORKER_DEAD);
        break;
    }
}

/* Without its nursery a crew is lost: the kernel kills the workers with it. One that was retired has told all deaths before. */
static void lose_nursery(struct crew *c)
{
    crew_break_off(c, EPIPE, "the process that starts the workers is gone: somebody killed it");
    c->polls[CREW_POLL_NURSERY].fd = -1;
    for (unsigned i = 0; i < c->slots; i++) {
        struct crew_worker *w = &c->workers[i];
        if (w->state == WORKER_UNBORN || w->state == WORKER_DEAD)
            continue;
        w->wait_status = SIGKILL;
        crew_lose(c, w, WORKER_DEAD);
    }
}

/* An index without a holder gets one, where there is a slot. */
static void fill_holes(struct crew *c)
{
    struct crew_worker *slot;
    for (unsigned i = 0; i < c->size; i++)
        if (!c->places[i].holder && crew_wants(c, i) && (slot = places_free_slot(c)))
            places_hold(c, slot, i);
}

static int64_t look_after_leaving(struct crew *c, struct crew_worker *w, int64_t now)
{
    int is_awaited = w->placed && crew_wants(c, w->index) && !books_outstanding(&w->books);
    int64_t left_by = is_awaited ? w->left_at + LIVES_LEAVE_TIME : CLOCK_NEVER;
    if (w->gone_by <= now)
        crew_condemn(c, w, POOL_CANCELLED, "its finalizer closed its descriptors, or became another program");
    else if (left_by <= now)
        crew_condemn(c, w, POOL_CANCELLED, "its finalizer did not return");
    else
        return left_by < w->gone_by ? left_by : w->gone_by;
    return CLOCK_NEVER;
}

/* When this worker has to be looked after again. */
static int64_t look_after(struct crew *c, struct crew_worker *w, int64_t now)
{
    if (w->state == WORKER_UNBORN && w->placed && crew_wants(c, w->index)) {
        if (w->born_at > now)
            return w->born_at;
        bear(c, w);                     /* attends to what comes of it */
    } else if (w->state == WORKER_STARTING) {
        if (w->ready_by > now)
            return w->ready_by;
        too_late(c, w);
    } else if (w->state == WORKER_LEAVING) {
        return look_after_leaving(c, w, now);
    }
    return CLOCK_NEVER;
}

static void look_after_all(struct crew *c, int64_t now)
{
    c->look_at = CLOCK_NEVER;
    fill_holes(c);
    for (unsigned i = 0; i < c->slots; i++)
        crew_attend(c, look_after(c, &c->workers[i], now));
}

void crew_begin(struct crew *c)
{
    look_after_all(c, clock_now());
    nursery_flush(c->nursery);          /* what fails here, crew_mind meets again, or else the nursery's hello is missing */
}

int crew_mind(struct crew *c, int64_t now)
{
    struct nursery_report report;
    int changed = 0, heard, r;
    if (!c->nursery || c->polls[CREW_POLL_NURSERY].fd < 0)
        return 0;
    if (c->look_at <= now)
        look_after_all(c, now);
    r = nursery_flush(c->nursery);
    if (!r && !c->polls[CREW_POLL_NURSERY].revents)
        return 0;                       /* the last poll had nothing; what came since is there in the next */
    while (!(heard = nursery_next(c->nursery, &report))) {     /* also what it told before it was gone */
        hear_of(c, &report);
        changed = 1;
    }
    c->polls[CREW_POLL_NURSERY].revents = 0;
    if (!r && heard == EAGAIN)
        return changed;
    lose_nursery(c);
    return 1;
}

/* Where all leave, the ends of their pipes are no news for a while: each would wake us, a twentieth of a pool's life of 1.5 ms. */
static void await_exit(struct crew *c, struct crew_worker *w, int64_t now)
{
    int64_t listen_at = w->left_at + LIVES_EXIT_TIME;
    if (w->state != WORKER_LEAVING || books_outstanding(&w->books) || w->gone_by != CLOCK_NEVER)
        return;
    c->polls[CREW_POLL_WORKERS + w->slot].fd = now < listen_at ? -1 : w->result_pipe;
    if (now < listen_at)
        crew_attend(c, listen_at);
}

void crew_listen(struct crew *c)
{
    if (c->nursery && c->polls[CREW_POLL_NURSERY].fd >= 0)
        c->polls[CREW_POLL_NURSERY].events = nursery_events(c->nursery);
    int64_t now = c->leaving ? clock_now() : 0;
    for (unsigned i = 0; c->leaving && i < c->slots; i++)
        await_exit(c, &c->workers[i], now);
}

int64_t crew_deadline(const struct crew *c)
{
    return c->look_at;
}
