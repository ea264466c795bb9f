/* Workers' deaths: in order, by order, and of themselves; and what they mean for the crew.
 *
 * Runs in the host, under the pool's lock: crew_condemn and crew_dismiss in any thread, burying in the one that turns the loop. A worker
 * that is told to leave has its deque closed: it runs what it has begun, then its finalizer, and exits. Where that is because it has
 * done or grown enough, its heir was asked for when it was on the way there, and takes over as soon as its last item has ended.
 *
 * Kills name slot and generation, so that an order never meets a successor. A worker whose result pipe ends without a report of its
 * death closed its descriptors or became another program: it is condemned; one that leaves most likely exits, and is given the time to.
 *
 * Never an endless respawn: a birth that fails, or an initializer, is tried again in place of a dead worker, and breaks the crew after
 * FAILURES in a row; workers that die ready but before they have ended anything, after IDLE_DEATHS, and ever more slowly. */
#include "lives.h"

#include "clock.h"
#include "fd.h"
#include "places.h"
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

enum { FAILURES = 3 };
enum { IDLE_DEATHS = 100, IDLE_DEATHS_FREE = 3 };   /* workers in a row that die before they end anything: in all; replaced at once */
#define IDLE_WAIT ((int64_t)500000)     /* nanoseconds, doubled up to 256 times */

/* ---- Watching */

void crew_watch(struct crew *c, struct crew_worker *w)
{
    if (w->watched)
        return;
    c->watched[c->watched_count++] = w;
    c->busy_hands += w->hand != 0;
    w->watched = c->watched_count;
}

void crew_unwatch(struct crew *c, struct crew_worker *w)
{
    if (!w->watched)
        return;
    struct crew_worker *last = c->watched[--c->watched_count];
    c->busy_hands -= w->hand != 0;
    c->watched[w->watched - 1] = last;
    last->watched = w->watched;
    w->watched = 0;
}

/* ---- What goes wrong */

void crew_attend(struct crew *c, int64_t at)
{
    if (at < c->look_at)
        c->look_at = at;
}

void crew_break_off(struct crew *c, int error, const char *why)
{
    if (c->broken)
        return;
    c->broken = error;
    snprintf(c->why, sizeof c->why, "%s", why);
}

void crew_miscarry(struct crew *c, struct crew_worker *w, int error, int64_t again, const char *why)
{
    c->failures++;
    w->born_at = again;
    crew_attend(c, again);
    if (c->opening || c->failures >= FAILURES)
        crew_break_off(c, error, why);
}

/* ---- Leaving in order */

void crew_lose(struct crew *c, struct crew_worker *w, enum worker_state state)
{
    if (w->state == WORKER_READY) {
        c->places[w->index].ready += clock_now() - w->ready_at;
        c->ready--;
    }
    places_remove_hand(c, w);
    w->state = state;
}

void crew_dismiss(struct crew *c, struct crew_worker *w, enum crew_reason why)
{
    if (w->state != WORKER_READY)
        return;
    books_close(&w->books);
    crew_lose(c, w, WORKER_LEAVING);
    w->dismissed = 1;
    w->left_at = clock_now();
    if (why != CREW_NOT)
        c->replaced[why]++;
    crew_attend(c, w->left_at + LIVES_LEAVE_TIME);
    crew_watch(c, w);
    if (!books_outstanding(&w->books))
        crew_succeed(c, w);
}

/* Should its index be wanted again before it is gone, its end is still no failure. */
void crew_release(struct crew *c, struct crew_worker *w)
{
    crew_dismiss(c, w, CREW_NOT);
    if (w->state == WORKER_STARTING)
        crew_condemn(c, w, POOL_CANCELLED, "there are fewer workers now");
    w->dismissed = 1;
}

void crew_dismiss_all(struct crew *c)
{
    c->leaving = 1;
    for (unsigned i = 0; i < c->slots; i++) {
        crew_dismiss(c, &c->workers[i], CREW_NOT);
        if (c->workers[i].state == WORKER_STARTING)
            crew_condemn(c, &c->workers[i], POOL_CANCELLED, "the pool was closed");
    }
}

void crew_retire(struct crew *c)
{
    nursery_retire(c->nursery);
}

int crew_wants(const struct crew *c, unsigned index)
{
    return index < c->size && !c->leaving && !c->broken;
}

void crew_succeed(struct crew *c, struct crew_worker *w)
{
    unsigned index = w->index;
    if (w->state != WORKER_LEAVING || !places_is_holder(c, w) || !crew_wants(c, index))
        return;
    struct crew_worker *slot = places_free_slot(c);
    if (!slot && !c->places[index].heir)
        return;                         /* its own slot is to be waited for */
    if (places_succeed(c, w))
        return;
    places_hold(c, slot, index);
    crew_attend(c, 0);
}

/* Has an heir born, where there is a slot. */
static void beget(struct crew *c, struct crew_worker *w)
{
    struct crew_worker *slot;
    if (c->places[w->index].heir || !crew_wants(c, w->index) || !(slot = places_free_slot(c)))
        return;
    places_inherit(c, slot, w->index);
    crew_attend(c, 0);
}

enum crew_reason crew_worn(struct crew *c, struct crew_worker *w)
{
    size_t most = c->plan.limits.max_memory, grown = most ? atomic_load(&w->books.channel.desk->grown) : 0;
    if (w->state != WORKER_READY || !w->placed)
        return CREW_NOT;
    if (w->done >= c->max_tasks / 2 || grown > most / 4 * 3)
        beget(c, w);
    return w->done >= c->max_tasks ? CREW_MAX_TASKS : most && grown > most ? CREW_MAX_MEMORY : CREW_NOT;
}

size_t crew_left(const struct crew *c, const struct crew_worker *w)
{
    size_t given = w->done + books_outstanding(&w->books);
    return given < c->max_tasks ? c->max_tasks - given : 0;
}

void crew_resize(struct crew *c, unsigned size)
{
    c->size = size;
    for (unsigned i = size; i < c->most; i++) {
        if (c->places[i].heir)
            crew_release(c, c->places[i].heir);
    }
    crew_attend(c, 0);
}

/* ---- Deaths */

void crew_close_pipes(struct crew *c, struct crew_worker *w)
{
    fd_close(&w->task_pipe);
    fd_close(&w->task_pipe_far);
    fd_close(&w->result_pipe);
    c->polls[CREW_POLL_WORKERS + w->slot].fd = -1;
}

void crew_condemn(struct crew *c, struct crew_worker *w, enum pool_status verdict, const char *reason)
{
    if (w->state != WORKER_STARTING && w->state != WORKER_READY && w->state != WORKER_LEAVING)
        return;
    atomic_store(&w->books.channel.desk->condemned, 1);         /* it may see that its deque is closed before it is killed */
    books_close(&w->books);
    crew_lose(c, w, WORKER_CONDEMNED);
    w->verdict = verdict;
    w->reason = reason;
    if (!c->nursery)
        return;                         /* it has taken all with it */
    nursery_kill(c->nursery, w->slot, w->generation);
    nursery_flush(c->nursery);          /* at once, since nobody may be turning the loop; what fails here, crew_mind meets again */
}

void crew_condemn_all(struct crew *c, enum pool_status verdict, const char *reason)
{
    for (unsigned i = 0; i < c->slots; i++)
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
    crew_miscarry(c, w, ECANCELED, 0, why);
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
    crew_break_off(c, ECANCELED, why);
}

/* What a death that was not in order means for the crew. */
static void take_note(struct crew *c, struct crew_worker *w)
{
    if (!w->was_ready) {
        died_unready(c, w);
        return;
    }
    c->replaced[w->verdict == POOL_TIMED_OUT ? CREW_TIMED_OUT : w->verdict == POOL_CANCELLED ? CREW_CANCELLED : CREW_CRASHED]++;
    if (!w->books.taken)
        died_idle(c, w);
    else
        c->idle_deaths = 0;
}

/* Its place is filled again: by its heir, or in its own slot. */
static void fill_place(struct crew *c, struct crew_worker *w)
{
    if (!w->placed)
        return;
    if (!crew_wants(c, w->index))
        places_leave(c, w);
    else if (places_is_holder(c, w) && c->places[w->index].heir)
        places_succeed(c, w);
    else
        crew_attend(c, w->born_at);
}

void crew_bury(struct crew *c, struct crew_worker *w)
{
    w->born_at = 0;
    if (w->state == WORKER_DEAD && w->placed && crew_wants(c, w->index) && !w->dismissed)
        take_note(c, w);
    crew_unwatch(c, w);
    crew_close_pipes(c, w);
    w->books.task_pipe = -1;
    w->state = WORKER_UNBORN;
    w->pid = 0;
    c->alive--;
    fill_place(c, w);
}

void crew_heard(struct crew *c, struct crew_worker *w)
{
    int r = fd_drain(w->result_pipe);
    if (!r)
        return;
    c->polls[CREW_POLL_WORKERS + w->slot].fd = -1;
    if (w->state == WORKER_LEAVING && !books_outstanding(&w->books)) {
        w->gone_by = clock_now() + LIVES_EXIT_TIME;
        crew_attend(c, w->gone_by);
        return;
    }
    crew_condemn(c, w, POOL_CRASHED, "its result pipe had ended: it closed its descriptors, or somebody killed it");
}
