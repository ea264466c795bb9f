/* The nursery's slots: births, deaths, kills, and the news of them.
 *
 * Runs in the nursery, single-threaded, all signals blocked; allocates nothing after the fork.
 *
 * Invariants: only this process signals or reaps workers, and a worker's group is killed while its zombie still holds the
 * pid, so no pid is ever reused beneath us. A slot owes the host at most one state, the latest: a death overtakes the birth
 * that was not told yet, and a host that does not read costs no memory. A slot is taken until its death was told.
 *
 * Not waitpid(-1) alone: it takes the zombie away, and with it the number by which the rest of the group can be killed. */
#define _GNU_SOURCE
#include "cradle.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nursery.h"
#include "nursery_wire.h"

struct cradle {                         /* one slot */
    pid_t               alive;          /* the worker, not yet reaped; 0: none */
    int                 owed;           /* news is to be sent */
    struct nursery_news news;           /* of the latest generation */
};

struct cradles {
    unsigned      slots;
    unsigned      owed;                 /* how many of them owe news */
    int           renewed;              /* a worker was replaced since the last spare was made */
    struct spare  spare;
    struct cradle slot[];
};

struct cradles *cradles_create(unsigned slots)
{
    struct cradles *cradles = calloc(1, sizeof *cradles + slots * sizeof cradles->slot[0]);
    unsigned i;

    if (!cradles)
        return NULL;
    cradles->slots = slots;
    cradles->spare.line = -1;
    for (i = 0; i < slots; i++)
        cradles->slot[i].news.slot = i;
    return cradles;
}

void cradles_destroy(struct cradles *cradles)
{
    free(cradles);
}

/* ---- News ---- */

static void note(struct cradles *cradles, struct cradle *cradle, enum nursery_state state, pid_t pid, int status)
{
    cradle->news.kind = state;
    cradle->news.pid = pid;
    cradle->news.status = status;
    cradles->owed += !cradle->owed;
    cradle->owed = 1;
}

int cradles_owe(const struct cradles *cradles)
{
    return cradles->owed != 0;
}

void cradles_tell(struct cradles *cradles, int socket)
{
    struct cradle *cradle = cradles->slot;

    for (; cradles->owed > 0; cradle++) {       /* ends: owed counts those ahead of us */
        if (!cradle->owed)
            continue;
        if (fd_send(socket, &cradle->news, sizeof cradle->news, NULL, 0) != 0)
            return;
        cradle->owed = 0;
        cradles->owed--;
    }
}

int cradles_are_empty(const struct cradles *cradles)
{
    unsigned slot;

    for (slot = 0; slot < cradles->slots; slot++)
        if (cradles->slot[slot].alive || cradles->slot[slot].owed)
            return 0;
    return 1;
}

/* ---- Births ---- */

static pid_t fork_worker(unsigned slot, uint32_t generation, const int pipes[FD_MAX], const struct newborn *newborn)
{
    pid_t pid = fork();

    if (pid == 0) {
        setpgid(0, 0);
        newborn->arrive(newborn->context);
        newborn->live(newborn->context, slot, generation, pipes);
        _exit(0);
    }
    if (pid > 0)
        setpgid(pid, pid);              /* there as here, whoever is first: it can be killed by group from now on */
    return pid;
}

void cradles_bear(struct cradles *cradles, unsigned slot, uint32_t generation, const int pipes[FD_MAX], const struct newborn *newborn)
{
    struct cradle *cradle = slot < cradles->slots ? &cradles->slot[slot] : NULL;
    pid_t pid = -1;

    if (!cradle || cradle->alive || cradle->owed)       /* the host cannot know that it is empty, so it did not mean this */
        return;
    cradles->renewed |= cradle->news.kind == NURSERY_DEAD;
    cradle->news.generation = generation;
    if (pipes[FD_MAX - 1] < 0)
        errno = EMFILE;                 /* they were sent, and there was no number left here for them */
    else if (!(pid = spare_send(&cradles->spare, slot, generation, pipes)))
        pid = fork_worker(slot, generation, pipes, newborn);
    if (pid < 0) {
        note(cradles, cradle, NURSERY_UNBORN, 0, errno);
        return;
    }
    cradle->alive = pid;
    note(cradles, cradle, NURSERY_BORN, pid, 0);
}

void cradles_prepare(struct cradles *cradles, const struct newborn *newborn)
{
    if (!cradles->renewed)
        return;
    cradles->renewed = 0;
    sched_yield();                      /* the newborn goes first: where CPUs are scarce our fork kept it waiting for 1 ms and more */
    spare_bear(&cradles->spare, newborn);
}

/* ---- Kills ---- */

/* The group, and the worker itself if it has moved to another. */
static int strike(pid_t pid)
{
    kill(-pid, SIGKILL);
    return kill(pid, SIGKILL) == 0;
}

void cradles_kill(struct cradles *cradles, unsigned slot, uint32_t generation)
{
    const struct cradle *cradle = slot < cradles->slots ? &cradles->slot[slot] : NULL;

    if (cradle && cradle->alive && cradle->news.generation == generation)
        strike(cradle->alive);
}

int cradles_kill_all(struct cradles *cradles)
{
    unsigned slot;
    int struck = cradles->spare.pid ? strike(cradles->spare.pid) : 0;

    for (slot = 0; slot < cradles->slots; slot++)
        if (cradles->slot[slot].alive)
            struck += strike(cradles->slot[slot].alive);
    return struck;
}

/* ---- Deaths ---- */

static struct cradle *find(struct cradles *cradles, pid_t pid)
{
    unsigned slot;

    for (slot = 0; slot < cradles->slots; slot++)
        if (cradles->slot[slot].alive == pid)
            return &cradles->slot[slot];
    return NULL;                        /* the spare, or an orphan that came to us */
}

static void bury(struct cradles *cradles, pid_t pid)
{
    struct cradle *cradle = find(cradles, pid);
    int status = 0;

    if (cradle)
        kill(-pid, SIGKILL);            /* while the zombie holds the number, its group can be nobody else's */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (cradle) {
        cradle->alive = 0;
        note(cradles, cradle, NURSERY_DEAD, pid, status);
    } else if (pid == cradles->spare.pid) {
        spare_mourn(&cradles->spare);
    }
}

int cradles_reap(struct cradles *cradles)
{
    siginfo_t dead;

    for (;;) {
        dead.si_pid = 0;
        if (waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) < 0) {
            if (errno == EINTR)
                continue;
            return 0;                   /* ECHILD */
        }
        if (dead.si_pid == 0)
            return 1;
        bury(cradles, dead.si_pid);
    }
}
