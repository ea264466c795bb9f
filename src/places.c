/* Places: what an index of the pool stands for, one worker after the other.
 *
 * Runs in the host, under the pool's lock; books only, no process is touched here (that is lives.c). Slots are what workers live in, a
 * channel and a number for the nursery; an index is what a task sees. A pool that replaces its workers in order has more slots than
 * indexes, so that a worker's heir can be born, and ready, while it still runs its last items. Only the holder of an index is
 * given items: never do two workers of one index run tasks at the same time. */
#include "places.h"

struct crew_worker *places_free_slot(struct crew *c)
{
    for (unsigned i = 0; i < c->slots; i++)
        if (c->workers[i].state == WORKER_UNBORN && !c->workers[i].placed)
            return &c->workers[i];
    return NULL;
}

static void give(struct crew_worker *w, unsigned index)
{
    w->placed = 1;
    w->index = index;
    w->born_at = 0;
}

void places_hold(struct crew *c, struct crew_worker *w, unsigned index)
{
    give(w, index);
    c->places[index].holder = w;
}

void places_inherit(struct crew *c, struct crew_worker *w, unsigned index)
{
    give(w, index);
    c->places[index].heir = w;
}

void places_leave(struct crew *c, struct crew_worker *w)
{
    struct place *p = &c->places[w->index];
    if (p->holder == w)
        p->holder = NULL;
    if (p->heir == w)
        p->heir = NULL;
    w->placed = 0;
}

struct crew_worker *places_succeed(struct crew *c, struct crew_worker *w)
{
    struct place *p = &c->places[w->index];
    struct crew_worker *heir = p->heir;
    places_leave(c, w);
    p->holder = heir;
    p->heir = NULL;
    if (heir && heir->state == WORKER_READY)
        places_add_hand(c, heir);
    return heir;
}

int places_is_holder(const struct crew *c, const struct crew_worker *w)
{
    return w->placed && c->places[w->index].holder == w;
}

void places_add_hand(struct crew *c, struct crew_worker *w)
{
    if (w->hand)
        return;
    c->hands[c->hands_count++] = w;
    c->busy_hands += w->watched != 0;
    w->hand = c->hands_count;
}

void places_remove_hand(struct crew *c, struct crew_worker *w)
{
    if (!w->hand)
        return;
    struct crew_worker *last = c->hands[--c->hands_count];
    c->busy_hands -= w->watched != 0;
    c->hands[w->hand - 1] = last;
    last->hand = w->hand;
    w->hand = 0;
}
