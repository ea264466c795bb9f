/* The claim word and the end of a worker: no item twice, none lost, and a kill never loses a published result.
 *
 * Modelled: the caller with its books on one slot, the worker there and its successors, the nursery, and a fate that kills the worker at
 * any point. The caller, in any order it likes: hands items over, here or elsewhere, takes back what waits, looks and takes
 * results, condemns the worker, cuts off one item's job, buries the dead and replaces them. Elsewhere stands for all other
 * workers, where an item is done at once. The claim word is loaded in one step and swapped in a later one, so all that can happen
 * between the two happens here too. Positions are counted modulo POSITIONS, and start close to the wrap.
 *
 *   here                        there
 *   plausible                   claim.c  claim_plausible; what it refuses condemns the worker; a healthy one is never refused
 *   worker: claiming, again     claim.c  claim_next, called by worker_child.c work
 *   worker: the rest            worker_child.c do_item, worker_result.c worker_publish, commit: the frame, then the tail
 *   hand_over                   post.c   books_post, claim.c claim_append
 *   offer                       post.c   books_grow
 *   take_back                   post.c   end_offers, books_take_back, claim.c claim_end_offers, claim_take_back
 *   take, settle                take.c   books_look, books_next
 *   close_and_kill              crew.c   crew_condemn: books_close (claim.c claim_close), nursery_kill
 *   cut                         settle.c sched_cut: recall, then books_runs, then crew_condemn
 *   bury, mourn, bear           settle.c bury; take.c books_mourn; crew.c crew_bury, bear
 *   nursery                     nursery.c nursery_bear, nursery_kill, send_wants; cradle.c cradles_bear, cradles_kill, bury
 *
 * Properties, as assertions where they could break: an item is started once at most, and by whoever has it, so that one taken
 * back never runs at the old worker; a finished item's frame is among those seen with it; what was finished is never mourned as lost; a
 * death costs the one item that ran, an ordered one only what had started before the order, and, where it was ordered for one
 * item, that one; a kill never meets a successor. At the end each item has ended once, as done exactly if it was finished. And no
 * state is without a successor before: no item vanishes.
 *
 * Left out: sleeping (sleep.pml; here whoever waits sees what it waits for), what a worker holds (hold.pml), the rings' bytes and wrap, spans but for their offers (each
 * post is of one item, and may grow), damage by tasks, lanes, streams, retries. Memory is sequentially consistent: what orders here is the claim word's swap, a full
 * fence, and release and acquire of the tail; what needs more is in sleep.pml.
 *
 * Variants, by -D, each of which must fail:
 *   TAKE_BACK_WITHOUT_CAS       takes back by a load and a store
 *   RESULT_AFTER_FINISH         the worker writes an item's result after the swap that finishes it
 *   TAIL_BEFORE_CLAIM           the caller loads the ring's tail before the claim word
 *   MOURN_BEFORE_DRAIN          the dead worker's items are settled by the last look before its death
 *   MOURN_BEFORE_DEATH          a condemned worker is mourned without waiting for its death
 *   NO_CLOSE                    a condemned worker goes on claiming until the kill has reached it
 *   NO_RECALL                   what waits is not taken back before it is looked whether the item to be cut off runs
 *   KILL_WITHOUT_GENERATION     a kill says the slot alone
 *   SAME_TURN                   taking back leaves the turn as it is
 *   OFFER_AT_ONCE               something is offered before the worker has moved on since the turn was changed
 * And in order to see all states: NO_OFFERS, with all KILLS and CONDEMNS; offers with fewer of these. */

#define ITEMS 3
#ifndef KILLS
#define KILLS 2             /* by fate */
#define CONDEMNS 1          /* by the caller */
#endif
#define POSITIONS 4
#define FIRST 2             /* position of a worker's first item */
#define DEPTH 3             /* items at one worker at a time */

/* struct claim */
#define BACK(w)     ((w) & 3)
#define FRONT(w)    (((w) >> 2) & 3)
#define RUNNING(w)  (((w) >> 4) & 1)
#define CLOSED(w)   (((w) >> 5) & 1)
#define TURN(w)     (((w) >> 6) & 1)
#define WORD(turn, closed, running, front, back) ((turn) << 6 | (closed) << 5 | (running) << 4 | (front) << 2 | (back))
#define ADD(position, n)    (((position) + (n)) & 3)
#define DISTANCE(from, to)  (((to) - (from)) & 3)
#define FINISHED(w) ((FRONT(w) - RUNNING(w)) & 3)
#define WAITING(w)  DISTANCE(FRONT(w), BACK(w))

/* ---- Shared memory */

byte word;
byte tail;                                              /* of the result ring: one past the position of the last frame */
byte task[POSITIONS];                                   /* the item in a position's task frame */
byte span[POSITIONS];                                   /* the first position of the span that it is in */
byte offers[POSITIONS];                                 /* how many items the span that begins there offers */
byte result[POSITIONS];                                 /* the item whose result lies in a position's frame, plus 1 */

/* ---- Processes */

bool alive, struck;                                     /* struck: SIGKILL is on its way */
bool dead;                                              /* the nursery's report */
bool want_birth, want_kill;
byte want_generation, kill_generation, generation;      /* the host's wants; the nursery's */

/* ---- What is known to this model only */

#define SOURCE 0
#define HERE 1
#define DONE 100
#define LOST 101
#define NONE 102
byte where[ITEMS];                                      /* SOURCE, HERE, DONE, LOST */
bool started[ITEMS], published[ITEMS];
bool condemned, by_fate;
byte front_then;                                        /* what was claimed when it was condemned */
byte target;                                            /* 1 + the item that it was condemned for; 0: none */
byte lost;

/* ---- The worker, and its successors */

#define DRY(w)      (!CLOSED(w) && WAITING(w) == 0)
#define GOES_ON(w)  (!CLOSED(w) && (WAITING(w) > 0 || end != BACK(w)))
#define NEXT(w)     (GOES_ON(w) -> WORD(TURN(w), 0, 1, ADD(FRONT(w), 1), end) : WORD(TURN(w), CLOSED(w), 0, FRONT(w), BACK(w)))
#define OFFERED     (has_span && offers[mine] -> ADD(mine, offers[mine]) : BACK(word))

#define WRITE_RESULT  result[position] = item + 1
#define WRITE_TAIL    tail = ADD(position, 1)

active proctype worker()
{
    byte old, item, position;           /* position, FIRST - 1 at first, is front - 1 as this worker left it */
    bool runs;                          /* and running */
    byte end, mine;                     /* back, as the worker would leave it; the first position of its span, */
    bool has_span;                      /*   if it has one */
end_unborn:
    atomic { alive -> position = FIRST - 1; has_span = 0; mine = 0 }
    {
        skip;
claiming:
        atomic { old = word; end = BACK(old) }
again:
        if
        :: DRY(old) -> end = (has_span && offers[mine] -> ADD(mine, offers[mine]) : BACK(old))
        :: else
        fi;
        atomic {
#ifndef TAKE_BACK_WITHOUT_CAS
            assert(FRONT(old) == ADD(position, 1) && RUNNING(old) == runs);/* else CLAIM_DAMAGED */
#endif
            if
            :: NEXT(old) == old -> goto idle            /* nothing to finish, nothing to claim */
            :: NEXT(old) != old && word != old -> old = word; end = BACK(old); goto again
            :: NEXT(old) != old && word == old
            fi;
            word = NEXT(old);
            published[item] = published[item] || runs;
#ifdef RESULT_AFTER_FINISH
        }
        atomic {
            if
            :: runs -> WRITE_RESULT; WRITE_TAIL
            :: else
            fi;
#endif
            runs = GOES_ON(old);
            if
            :: !runs -> item = 0; goto idle
            :: else -> position = ADD(position, 1); old = 0; item = 0; end = 0
            fi
        }
        atomic {
            item = task[position];
            mine = span[position];
            has_span = 1;
            assert(where[item] == HERE);                                /* not one that was taken back */
            assert(!started[item]);
            started[item] = 1
        }
#ifndef RESULT_AFTER_FINISH
        WRITE_RESULT;
        WRITE_TAIL;
#endif
        goto claiming;
idle:
        atomic {
            if
            :: CLOSED(old) -> goto leaving
            :: !CLOSED(old) -> old = 0; end = 0
            fi
        }
end_idle:
        (WAITING(word) || CLOSED(word) || OFFERED != BACK(word));
        goto claiming;
leaving:
        skip
    } unless { struck };
    atomic { alive = 0; struck = 0; dead = 1; runs = 0; item = 0; old = 0; position = 0; end = 0; mine = 0; has_span = 0; goto end_unborn }
}

/* ---- Who bears and kills */

active proctype nursery()
{
end_serving:
    do
    :: atomic { want_birth -> assert(!alive); want_birth = 0; generation = want_generation; alive = 1 }
    :: atomic { want_kill && !want_birth -> want_kill = 0;
           if
#ifdef KILL_WITHOUT_GENERATION
           :: alive
#else
           :: alive && generation == kill_generation
#endif
               -> assert(condemned); struck = 1
           :: else
           fi }
    od
}

active proctype fate()
{
    byte kills;
end_idle:
    do
    :: atomic { kills < KILLS && alive && !struck -> struck = 1; by_fate = 1; kills++ }
    od
}

/* ---- The caller */

byte front, back, taken, seen_tail;                     /* the books */
bool running, closed, ready;
byte post[POSITIONS];
byte offered;                                           /* positions from back on */
bool open, exposed, barred;                             /* the last post may grow; as in claim.h */
byte first, barred_at;                                  /* the last post's position */
byte number;                                            /* generation */
byte i, old, now_tail, condemns;                        /* the caller's own */
bool got;

inline plausible(w)
{
    d_step {
        assert(DISTANCE(back, BACK(w)) <= offered && CLOSED(w) == closed);
        assert(DISTANCE((front - running) & 3, FRONT(w)) <= DISTANCE((front - running) & 3, BACK(w)));
        assert(RUNNING(w) <= DISTANCE((front - running) & 3, FRONT(w)));
        assert(DISTANCE(front, FRONT(w)) <= DISTANCE((front - running) & 3, BACK(w)))
    }
}

/* Swaps once the word is as it was looked at; `change` is what is done in the same step. */
#define SWAP(to, change) \
    do \
    :: d_step { word == old -> plausible(old); word = to; change; old = 0 } break \
    :: d_step { word != old -> old = word } \
    od

#define END ADD(back, offered)

inline end_open_span()
{
    atomic {
        if
        :: open -> offers[first] = 0; open = 0
        :: else
        fi
    }
}

inline hand_over()                      /* item i to the worker */
{
    end_open_span();
    d_step { task[END] = i; post[END] = i; span[END] = END; offers[END] = 1; where[i] = HERE; old = word }
    SWAP(WORD(TURN(old), CLOSED(old), RUNNING(old), FRONT(old), ADD(END, 1)), first = END; back = ADD(END, 1); offered = 0; open = 1)
}

inline offer()                          /* item i */
{
    d_step { task[END] = i; post[END] = i; span[END] = first; where[i] = HERE }
    d_step { offers[first] = offers[first] + 1; offered++; exposed = 1; i = 0 }
}

inline end_offers()
{
    if
    :: exposed ->
        old = word;
#ifdef SAME_TURN
        SWAP(WORD(TURN(old), CLOSED(old), RUNNING(old), FRONT(old), END),
#else
        SWAP(WORD(1 - TURN(old), CLOSED(old), RUNNING(old), FRONT(old), END),
#endif
             back = END; offered = 0; exposed = 0; barred = 1; barred_at = FRONT(old))
    :: else
    fi;
    end_open_span()
}

inline take_back()                      /* the last one; got: there was one */
{
    end_offers();
    d_step { old = word; got = 0 }
    do
    :: d_step { !WAITING(old) -> old = 0 } break
#ifdef TAKE_BACK_WITHOUT_CAS
    :: d_step { WAITING(old) -> word = WORD(TURN(old), CLOSED(old), RUNNING(old), FRONT(old), ADD(BACK(old), 3)); got = 1 } break
#else
    :: d_step { WAITING(old) && word == old -> plausible(old);
                word = WORD(TURN(old), CLOSED(old), RUNNING(old), FRONT(old), ADD(BACK(old), 3)); got = 1 } break
    :: d_step { WAITING(old) && word != old -> old = word }
#endif
    od;
    atomic {
        if
        :: got -> back = ADD(back, 3); where[post[back]] = SOURCE
        :: else
        fi;
        old = 0; got = 0
    }
}

inline settle()                         /* the first one not taken, which is finished */
{
    d_step {
        i = post[taken];
        assert(where[i] == HERE);
        assert(taken != now_tail && result[taken] == i + 1);       /* else a healthy worker is condemned */
        result[taken] = 0;
        where[i] = DONE;
        taken = ADD(taken, 1);
        i = 0
    }
}

inline take()
{
#ifdef TAIL_BEFORE_CLAIM
    now_tail = tail;
    old = word;
#else
    old = word;
    now_tail = tail;
#endif
    d_step {
        plausible(old);
        offered = offered - DISTANCE(back, BACK(old)); back = BACK(old);
        barred = barred && FRONT(old) == barred_at;
        front = FRONT(old); running = RUNNING(old); seen_tail = now_tail
    }
    do
    :: taken != FINISHED(old) -> settle()
    :: else -> break
    od;
    atomic { old = 0; now_tail = 0 }
}

inline close_and_kill(what_for)
{
    old = word;
#ifdef NO_CLOSE
    d_step { front_then = FRONT(old); old = 0 }
#else
    SWAP(WORD(TURN(old), 1, RUNNING(old), FRONT(old), BACK(old)),
         front_then = FRONT(old); closed = 1; offered = offered - DISTANCE(back, BACK(old)); back = BACK(old));
#endif
    atomic { ready = 0; condemned = 1; target = what_for; condemns++; want_kill = 1; kill_generation = number }
}

inline cut()                            /* the job of item i, which is at the worker */
{
#ifndef NO_RECALL
    do
    :: DISTANCE(FRONT(word), END) -> take_back()
    :: else -> break
    od;
#endif
    old = word;
    if
    :: RUNNING(old) && FINISHED(old) != END && post[FINISHED(old)] == i -> close_and_kill(i + 1)
    :: else -> condemns++
    fi;
    atomic { old = 0; i = 0 }
}

inline mourn()
{
    atomic {
        if
        :: taken != front ->            /* EVENT_LOST */
            i = post[taken];
            assert(!published[i]);
            assert(ADD(taken, 1) == front);                             /* one crash costs one item */
            assert(by_fate || condemned);                               /* and there was one */
            assert(by_fate || DISTANCE(front, front_then) == 0);        /* a condemned worker starts nothing more */
            assert(by_fate || !target || target == i + 1);              /* and is killed for the one that was meant */
            where[i] = LOST;
            lost++;
            taken = ADD(taken, 1)
        :: else
        fi;
        do
        :: taken != END ->             /* EVENT_LEFT */
            i = post[taken];
            assert(!started[i]);
            where[i] = SOURCE;
            taken = ADD(taken, 1)
        :: else -> break
        od;
        i = 0
    }
}

inline bear()
{
    d_step {
        number++;
        word = WORD(0, 0, 0, FIRST, FIRST); tail = FIRST;
        offered = 0; open = 0; exposed = 0; barred = 0; barred_at = 0; first = 0;
        front = FIRST; back = FIRST; taken = FIRST; seen_tail = FIRST; running = 0; closed = 0;
        i = 0;
        do
        :: i < POSITIONS -> result[i] = 0; task[i] = 0; post[i] = 0; span[i] = 0; offers[i] = 0; i++
        :: else -> break
        od;
        i = 0;
        condemned = 0; by_fate = 0; target = 0; front_then = 0;
        ready = 1;
#ifndef KILL_WITHOUT_GENERATION
        want_kill = 0;
#endif
        want_generation = number; want_birth = 1
    }
}

inline bury()
{
    dead = 0;
#ifndef MOURN_BEFORE_DRAIN
    take();
#endif
    mourn();
    bear()
}

#ifdef OFFER_AT_ONCE
#define MAY_OFFER 1
#elif defined(NO_OFFERS)
#define MAY_OFFER 0
#else
#define MAY_OFFER (!barred)
#endif

#define NEWS (FRONT(word) != front || RUNNING(word) != running || tail != seen_tail)
#define OVER(item) (where[item] == DONE || where[item] == LOST)

#ifdef MOURN_BEFORE_DEATH
#define BEFORE_DEATH :: atomic { condemned && !dead && taken != END } take(); mourn()
#else
#define BEFORE_DEATH
#endif

/* The lowest item to be handed over; which is which makes no difference. */
#define LOWEST (where[0] == SOURCE -> 0 : (where[1] == SOURCE -> 1 : (where[2] == SOURCE -> 2 : NONE)))

active proctype caller()
{
    bear();
    do
    :: atomic { ready && LOWEST != NONE && DISTANCE(taken, END) < DEPTH -> i = LOWEST } hand_over()
    :: atomic { ready && open && MAY_OFFER && LOWEST != NONE && DISTANCE(taken, END) < DEPTH -> i = LOWEST } offer()
    :: atomic { LOWEST != NONE -> i = LOWEST; assert(!started[i]); started[i] = 1; published[i] = 1; where[i] = DONE; i = 0 }
    :: ready && DISTANCE(FRONT(word), END) -> take_back()
    :: NEWS && !dead -> take()
    :: ready && condemns < CONDEMNS -> close_and_kill(0)
    :: atomic { ready && condemns < CONDEMNS && taken != END -> i = post[taken] } cut()
    :: dead -> bury()
#ifdef MOURN_BEFORE_DEATH
    :: condemned && !dead && taken != END -> take(); mourn()
#endif
    :: OVER(0) && OVER(1) && OVER(2) -> break
    od;
    atomic {
        assert((where[0] == DONE) == published[0]);
        assert((where[1] == DONE) == published[1]);
        assert((where[2] == DONE) == published[2]);
        assert(lost <= KILLS + CONDEMNS)
    }
}
