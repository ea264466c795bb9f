/* The crew: who can do the work.
 *
 * Runs in the host, under the pool's lock. It knows processes and their channels; of items it only knows that the books hold some. Here a
 * crew is opened and closed; what becomes of its workers in between is in lives.c.
 *
 * All channels are mapped before the nursery is forked, shared, with no name: nothing to leak, and each worker finds its own at the same
 * address. The words that decide (desks) and the payloads (regions) are two mappings, so that a task that overruns its result does
 * not reach the words. */
#define _GNU_SOURCE
#include "crew.h"

#include "cpu_place.h"
#include "forks.h"
#include "lives.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DESK = 4096 };
enum { FIRST_SPIN = 200000 };           /* nanoseconds of a worker's first spin: until the host has heard of it and gives it an item */
enum { NURSERY_TRIES = 20 };
enum { LANE_TOTAL = 512 << 20, LANE_SLOT_MOST = 8 << 20, LANE_SLOT_LEAST = 64 << 10 };   /* bytes: all lanes; one slot */

/* ---- Opening and closing */

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Lanes share LANE_TOTAL: address space, of which only what large payloads touch becomes memory. */
static size_t slot_size_for(unsigned workers)
{
    size_t size = LANE_SLOT_MOST;
    while (size > LANE_SLOT_LEAST && size > LANE_TOTAL / (2u * CHANNEL_LANE_SLOTS * workers))
        size /= 2;
    return size;
}

static int map_shared(unsigned char **at, size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *at = map == MAP_FAILED ? NULL : map;
    return map == MAP_FAILED ? errno : 0;
}

static int map_channels(struct crew *c)
{
    struct worker_plan *plan = &c->plan;
    size_t page = page_size();
    plan->desk_size = DESK > page ? DESK : page;
    plan->slot_size = slot_size_for(c->slots);
    plan->region_size = (channel_region(plan->slot_size) + page - 1) / page * page;
    plan->slots = c->slots;
    if (plan->region_size > SIZE_MAX / c->slots)
        return ENOMEM;
    int r = map_shared(&plan->desks, plan->desk_size * c->slots);
    if (!r)
        r = map_shared(&plan->regions, plan->region_size * c->slots);
    return r;
}

static int make_workers(struct crew *c, int wake_pipe)
{
    c->polls = calloc((size_t)c->slots + CREW_POLL_WORKERS, sizeof *c->polls);
    c->watched = calloc(c->slots, sizeof *c->watched);
    c->hands = calloc(c->slots, sizeof *c->hands);
    c->places = calloc(c->most, sizeof *c->places);
    if (!c->polls || !c->watched || !c->hands || !c->places)
        return ENOMEM;
    c->workers = calloc(c->slots, sizeof *c->workers);
    if (!c->workers)
        return ENOMEM;
    c->polls[CREW_POLL_WAKE] = (struct pollfd){.fd = wake_pipe, .events = POLLIN};
    for (unsigned i = 0; i < c->slots; i++) {       /* all of them before anything can fail: 0 is a descriptor */
        struct crew_worker *w = &c->workers[i];
        w->slot = i;
        w->task_pipe = w->task_pipe_far = w->result_pipe = -1;
        c->polls[CREW_POLL_WORKERS + i] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    for (unsigned i = 0; i < c->slots; i++) {
        struct crew_worker *w = &c->workers[i];
        if (books_init(&w->books))
            return ENOMEM;
        channel_lay(&w->books.channel, c->plan.desks + i * c->plan.desk_size, c->plan.regions + i * c->plan.region_size, c->plan.slot_size);
    }
    return 0;
}

/* The workers are asked for while the nursery settles in, which finds that when it is ready: the pipes are made meanwhile, and nobody has
 * to be woken for it. From pool_create to the end of pool_destroy 1.3 ms instead of 1.7 for 2 workers (medians of 6 interleaved rounds,
 * two bare forks 0.3), together with a nursery that tells several births at once and, retired, leaves by itself. */
static int open_nursery(struct crew *c, const struct nursery_setup *setup)
{
    int r = nursery_open(&c->nursery, setup);
    if (r)
        return r;
    crew_begin(c);
    r = nursery_greet(&c->nursery);
    for (unsigned i = 0; r && i < c->slots; i++) {
        if (c->workers[i].state == WORKER_STARTING)
            crew_bury(c, &c->workers[i]);
    }
    return r;
}

/* A nursery that dies before its first word was forked while another thread of the host held a lock that it needs: the next one may have
 * more luck. */
static int open_some_nursery(struct crew *c, const struct nursery_setup *setup)
{
    int r = EIO;
    for (int tries = 0; r == EIO && tries < NURSERY_TRIES; tries++)
        r = open_nursery(c, setup);
    return r == EIO ? EAGAIN : r;
}

int crew_open(struct crew *c, const struct pool_options *options, unsigned workers, int wake_pipe, void (*settle_in)(void *))
{
    c->size = workers;
    c->most = options->max_workers > workers ? options->max_workers : workers;
    c->slots = options->max_tasks || options->max_memory ? 2 * c->most : c->most;       /* for the heirs */
    c->max_tasks = options->max_tasks ? options->max_tasks : SIZE_MAX;
    c->opening = 1;
    c->init_timeout = options->init_timeout;
    /* The CPUs are counted here and not in each worker, where that cost five page faults: with the names of nursery_child.c 7.9 ms instead
     * of 8.6 for 2 workers from pool_create to the end of pool_destroy (medians of 13 interleaved rounds). */
    unsigned cpus = cpu_affinity();
    c->plan = (struct worker_plan){.initializer = options->initializer, .finalizer = options->finalizer, .initarg = options->initarg,
                                   .no_spin = options->no_spin || cpus < 2, .first_spin = workers <= cpus ? FIRST_SPIN : 0,
                                   .limits = {.max_memory = options->max_memory, .memory_limit = options->memory_limit,
                                              .cpu_limit = options->cpu_limit, .nice = options->nice, .pin = options->pin}};
    struct nursery_setup setup = {.slots = c->slots, .birth = worker_child, .context = &c->plan, .settle_in = settle_in,
                                  .close_fds = options->close_fds != 0, .pass_fds = options->pass_fds,
                                  .pass_fds_count = options->pass_fds_count};
    int r = map_channels(c);
    if (!r)
        r = make_workers(c, wake_pipe);
    if (!r)
        r = open_some_nursery(c, &setup);
    if (r) {
        crew_close(c, 0);
        crew_unmap(c);
        return r;
    }
    c->polls[CREW_POLL_NURSERY] = (struct pollfd){.fd = nursery_fd(c->nursery), .events = POLLIN};
    return 0;
}

static void close_all_pipes(struct crew *c)
{
    for (unsigned i = 0; c->workers && i < c->slots; i++)
        crew_close_pipes(c, &c->workers[i]);
}

/* A nursery that another thread forks lets go of what it inherited of this crew: it has to find each thing whole, or gone. */
void crew_close(struct crew *c, int64_t deadline)
{
    nursery_close(c->nursery, deadline);
    forks_lock();
    crew_forget(c);
    forks_unlock();
}

void crew_forget(struct crew *c)
{
    nursery_forget(c->nursery);
    c->nursery = NULL;
    close_all_pipes(c);
}

void crew_unmap(struct crew *c)
{
    forks_lock();
    close_all_pipes(c);
    for (unsigned i = 0; c->workers && i < c->slots; i++)
        books_fini(&c->workers[i].books);
    free(c->workers);
    free(c->polls);
    free(c->watched);
    free(c->hands);
    free(c->places);
    c->workers = NULL;
    c->polls = NULL;
    c->watched = c->hands = NULL;
    c->places = NULL;
    if (c->plan.desks)
        munmap(c->plan.desks, c->plan.desk_size * c->slots);
    if (c->plan.regions)
        munmap(c->plan.regions, c->plan.region_size * c->slots);
    c->plan.desks = c->plan.regions = NULL;
    forks_unlock();
}

int crew_is_settled(const struct crew *c)
{
    return c->alive == c->ready && (c->leaving || c->broken || c->hands_count == c->size);
}
