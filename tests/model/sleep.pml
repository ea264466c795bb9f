/* The sleep handshake of one channel, in both directions: no wake-up is lost.
 *
 * Modelled: a caller that posts items, takes results, answers what a running item asks for, and sleeps in poll; a worker that claims,
 * asks now and then for a payload through the stream, writes results into a ring of ROOM frames, and sleeps on its task pipe; a
 * second thread of the host that posts the last item while the first one sleeps. The pipes carry bytes that only wake. Each load, store,
 * swap and system call is a step of its own.
 *
 * Memory is that of x86 (TSO): a plain or release store waits in its process's store buffer and reaches memory in order, any time later,
 * while loads go ahead of it. A sequentially consistent store, a swap and a fence wait until the buffer is empty. So a
 * missing fence shows, and a store that had to be sequentially consistent and is not. (Weaker machines reorder more; there the code relies
 * on C11's order of sequentially consistent accesses, in which each of these steps has its place.)
 *
 *   here                    there
 *   worker                  worker_child.c work, do_item
 *   wake_caller             channel.c channel_must_wake_caller, worker_result.c worker_ring
 *   wake_caller_now         channel.c channel_must_wake_caller_now, worker_ring
 *   WAIT                    worker_result.c worker_wait, sleep_once; `ready` is its `news`
 *   tell                    worker_result.c worker_tell: reserve_waiting, commit
 *   hand_over, wake_worker  post.c books_post (claim_append), wake_worker; before it the mark of handout.c post, at an idle worker
 *   wait_for                take.c books_wait (channel.c channel_caller_waits)
 *   take                    settle.c take: books_look, books_next, answer, publish_head; then, where the worker still has items,
 *                           books_wait with WATCHING, books_awake if due
 *   caller                  scheduler.c turn; spin looks at caller_state alone, armed as WATCHING by take, and ends any time
 *   rest                    scheduler.c rest: books_wait with ASLEEP, listen, books_awake
 *   other_thread            handout.c post, where the loop is asleep
 *
 * Properties: nobody sleeps for ever (no state without a successor before both have come to their end); a finished item's frame is among
 * those seen with it; where the end of each item is waited for, an item that runs until all before it were taken (a worker deep in
 * the next item, seen from the other side) runs to its end; and `ends`: both always come to their end.
 *
 * Left out: the claim word's loads and swaps one by one, taking back and kills (claim.pml); the worker's spinning, which only looks
 * more often; lanes and result streams, which wait as the item stream does; watching several channels, which are marked and looked at
 * one by one. A poke of the caller and an interrupted read of the worker come once each: they wake for nothing, and must not heal what
 * is lost.
 *
 * Variants, by -D, each of which must fail:
 *   NO_FENCE                the look at caller_state goes ahead of the frames' publishing
 *   WORKER_LOOKS_FIRST      the look at caller_state comes before the swap that finishes the item
 *   CALLER_LOOKS_FIRST      the look at worker_state comes before the swap that appends
 *   NO_RECHECK_CALLER       no look after ASLEEP was announced
 *   NO_RECHECK_WORKER
 *   PLAIN_ASLEEP_CALLER     ASLEEP is announced by a plain store
 *   PLAIN_ASLEEP_WORKER
 *   QUIET_BEFORE_SLEEP      the worker does not wake the caller before it waits
 *   LATE_HEAD               the room of the frames used is given back only with the next look
 *   RING_AS_LOOKED          whether to ring is decided by the look at caller_state, not by what the swap found there
 *   LAZY_WAKE_AT            the caller wants to be woken at half of what is under way, though each item's end is waited for
 *   TAIL_BEFORE_CLAIM       the caller loads the ring's tail before the claim word
 *   POST_WITHOUT_MARK       the second thread does not mark the channel before it posts */

#ifndef ITEMS
#define ITEMS 3
#endif
#define DEPTH 2             /* at the worker at a time, by the caller itself */
#define ROOM 2              /* frames in the result ring */

/* ---- Shared memory */

byte memory[4];
#define result_tail  memory[0]
#define wake_at      memory[1]
#define caller_state memory[2]
#define worker_state memory[3]
#define RESULT_TAIL  0
#define WAKE_AT      1
#define CALLER_STATE 2
#define WORKER_STATE 3

#define AWAKE    0
#define ASLEEP   1
#define STUCK    2
#define WATCHING 3

byte front, back;           /* the claim word, changed in one step */
bool running, closed;
byte result_head;           /* stored sequentially consistently, as is */
byte item_tail;             /*   what the caller has sent through the stream */

#define NEED   10
#define RESULT 20
byte frames[ROOM];          /* kind + position */

chan worker_stores = [2] of { byte, byte };         /* store buffers: address, value */
chan caller_stores = [3] of { byte, byte };

byte task_pipe, result_pipe;
#define RING(pipe) pipe = (pipe < 2 -> pipe + 1 : pipe)        /* a full pipe wakes as well */

bool eager;                 /* the end of each item is waited for */
byte taken;
bool caller_over, worker_over;

active proctype worker_store_buffer()
{
    byte address, value;
end_empty:
    do
    :: atomic { worker_stores?address,value -> memory[address] = value; address = 0; value = 0 }
    od
}

active proctype caller_store_buffer()
{
    byte address, value;
end_empty:
    do
    :: atomic { caller_stores?address,value -> memory[address] = value; address = 0; value = 0 }
    od
}

/* ---- The worker */

inline exchange_caller_state()          /* and rings, if the caller slept and this is who woke it */
{
#ifdef RING_AS_LOOKED
    atomic { empty(worker_stores) -> caller_state = AWAKE }
#else
    atomic { empty(worker_stores) -> look = caller_state; caller_state = AWAKE }
#endif
    if
    :: atomic { look == ASLEEP -> RING(result_pipe); look = AWAKE }
    :: atomic { look != ASLEEP -> look = AWAKE }
    fi
}

inline wake_caller(finished)
{
#ifndef WORKER_LOOKS_FIRST
    look = caller_state;
#endif
    if
    :: look == AWAKE
    :: look != AWAKE ->
        at = wake_at;
        if
        :: atomic { finished < at -> at = 0; look = AWAKE }
        :: atomic { finished >= at -> at = 0 } exchange_caller_state()
        fi
    fi
}

inline wake_caller_now()
{
#ifndef NO_FENCE
    empty(worker_stores);
#endif
    look = caller_state;
    if
    :: look == AWAKE
    :: look != AWAKE -> exchange_caller_state()
    fi
}

#ifdef QUIET_BEFORE_SLEEP
#define BEFORE_SLEEP
#else
#define BEFORE_SLEEP wake_caller_now();
#endif

#ifdef PLAIN_ASLEEP_WORKER
#define ANNOUNCE(how) worker_stores!WORKER_STATE,how
#else
#define ANNOUNCE(how) atomic { empty(worker_stores) -> worker_state = how }
#endif

#ifdef NO_RECHECK_WORKER
#define AGAIN(ready) false
#else
#define AGAIN(ready) ready
#endif

#define WAIT(ready, how) \
    BEFORE_SLEEP \
    do \
    :: ready -> break \
    :: else -> \
        ANNOUNCE(how); \
        if \
        :: AGAIN(ready) \
        :: else -> \
            if \
            :: atomic { task_pipe > 0 -> task_pipe = 0 } \
            :: atomic { !interrupted -> interrupted = 1 } \
            fi \
        fi; \
        atomic { empty(worker_stores) -> worker_state = AWAKE } \
    od

#define HAS_ROOM (tail - result_head < ROOM)

inline tell(what)
{
    if
    :: HAS_ROOM
    :: else -> WAIT(HAS_ROOM, STUCK)
    fi;
    atomic {
        frames[tail % ROOM] = what;
        tail++;
        worker_stores!RESULT_TAIL,tail
    }
}

active proctype worker()
{
    byte tail, read, look, at;
    bool interrupted;
claiming:
#ifdef WORKER_LOOKS_FIRST
    look = caller_state;
#endif
    if
    :: atomic { empty(worker_stores) && !closed && front != back -> front++; running = 1 }
    :: atomic { empty(worker_stores) && running && front == back && !closed -> running = 0; goto idle }
    :: atomic { empty(worker_stores) && running && closed -> running = 0; goto leaving }
    :: atomic { !running && front == back && !closed -> goto idle }
    :: atomic { !running && closed -> goto leaving }
    fi;
    wake_caller(front - 1);
    if
    :: !read -> tell(NEED + front - 1);         /* one of the items, or none */
       WAIT(item_tail != read, STUCK);
       read++
    :: skip
    fi;
    !eager || taken >= front - 1;       /* it takes so long */
    tell(RESULT + front - 1);
    goto claiming;
idle:
    WAIT(front != back || closed, ASLEEP);
    goto claiming;
leaving:
    wake_caller_now();
    worker_over = 1
}

/* ---- The caller */

#define BY_CALLER (ITEMS - 1)           /* the last item is the second thread's */

byte next, head;                        /* in the result ring: next frame; as published */
byte seen_front, seen_tail;
bool seen_running;
bool asleep, locked;

inline exchange_worker_state()
{
    atomic { empty(caller_stores) -> look = worker_state; worker_state = AWAKE }
    if
    :: look != AWAKE -> atomic { RING(task_pipe); look = AWAKE }
    :: else
    fi
}

inline wake_worker()
{
#ifndef CALLER_LOOKS_FIRST
    look = worker_state;
#endif
    if
    :: look == AWAKE
    :: look != AWAKE -> exchange_worker_state()
    fi
}

inline wake_stuck_worker()
{
    if
    :: worker_state == ASLEEP
    :: else ->
        if
        :: worker_state == AWAKE
        :: else -> exchange_worker_state()
        fi
    fi
}

inline hand_over()
{
#ifdef CALLER_LOOKS_FIRST
    look = worker_state;
#endif
    atomic { empty(caller_stores) -> back++ }
    wake_worker()
}

inline publish_head()
{
    if
    :: next != head ->
        atomic { empty(caller_stores) -> result_head = next; head = next }
        wake_stuck_worker()
    :: else
    fi
}

#define KIND(frame) ((frame) / 10 * 10)
#define POSITION(frame) ((frame) % 10)

inline take()
{
#ifdef LATE_HEAD
    publish_head();
#endif
#ifdef TAIL_BEFORE_CLAIM
    seen_tail = result_tail;
    atomic { seen_front = front; seen_running = running }
#else
    atomic { seen_front = front; seen_running = running }
    seen_tail = result_tail;
#endif
    do
    :: atomic { next == seen_tail -> assert(taken == seen_front - seen_running) } break
    :: atomic { next != seen_tail && KIND(frames[next % ROOM]) == NEED && POSITION(frames[next % ROOM]) >= seen_front } break
    :: atomic { next != seen_tail && KIND(frames[next % ROOM]) == NEED && POSITION(frames[next % ROOM]) < seen_front -> next++ }
       atomic { empty(caller_stores) -> item_tail++ }
       wake_stuck_worker()
    :: atomic { next != seen_tail && KIND(frames[next % ROOM]) == RESULT && taken == seen_front - seen_running } break
    :: atomic { next != seen_tail && KIND(frames[next % ROOM]) == RESULT && taken != seen_front - seen_running ->
                assert(POSITION(frames[next % ROOM]) == taken); next++; taken++ }
    od;
#ifndef LATE_HEAD
    publish_head()
#endif
}

#ifdef LAZY_WAKE_AT
#define AT_ONCE false
#else
#define AT_ONCE (eager && back != taken)
#endif
#define AIM (AT_ONCE -> taken + 1 : taken + (back - taken + 1) / 2)

#ifdef PLAIN_ASLEEP_CALLER
#define CALLER_ANNOUNCES(how) caller_stores!CALLER_STATE,how
#else
#define CALLER_ANNOUNCES(how) atomic { empty(caller_stores) -> caller_state = how }
#endif

#define DONE_ENOUGH  (front - running >= AIM || (front == back && !running))
#define LEFT_UNREAD  (next != seen_tail && (front != seen_front || running != seen_running))

inline wait_for(how)                    /* due: there is something already */
{
    caller_stores!WAKE_AT,AIM;
    CALLER_ANNOUNCES(how);
#ifdef NO_RECHECK_CALLER
    due = 0;
#else
    due = (taken != back && DONE_ENOUGH) || LEFT_UNREAD;
    due = due || result_tail != seen_tail
#endif
}

inline rest()
{
    if
    :: taken != back -> wait_for(ASLEEP)        /* else the channel is not watched */
    :: else
    fi;
    if
    :: atomic { due -> due = 0; goto awake }
    :: else
    fi;
    asleep = 1;                         /* unlocks */
    if
    :: result_pipe > 0
    :: atomic { !poked -> poked = 1 }
    fi;
    atomic { !locked -> asleep = 0; result_pipe = 0 }
awake:
    atomic { empty(caller_stores) -> caller_state = AWAKE }
}

active proctype caller()
{
    byte look;
    bool poked, due;
    if
    :: eager = 0
    :: eager = 1
    fi;
    do
    :: taken == ITEMS -> break
    :: taken != ITEMS && back < BY_CALLER && back - taken < DEPTH ->
        if
        :: taken == back ->             /* idle, so not watched, and nothing that it rang for can be missed */
            caller_stores!WAKE_AT,taken + 1;
            CALLER_ANNOUNCES(WATCHING)
        :: else
        fi;
        hand_over()
    :: taken != ITEMS && (back >= BY_CALLER || back != taken) ->
        if
        :: taken != back && caller_state != WATCHING ->
            take();
            if
            :: taken != back ->
                wait_for(WATCHING);
                if
                :: atomic { due -> due = 0 } atomic { empty(caller_stores) -> caller_state = AWAKE }
                :: else
                fi
            :: else
            fi
        :: else -> rest()
        fi
    od;
    atomic { empty(caller_stores) -> closed = 1 }
#ifdef CALLER_LOOKS_FIRST
    look = ASLEEP;
#endif
    wake_worker();
    caller_over = 1
}

active proctype other_thread()
{
    byte look;
    atomic { asleep && back == BY_CALLER -> locked = 1 }
#ifndef POST_WITHOUT_MARK
    wake_at = taken + 1;                /* the lock is a fence: nothing of the caller's is in its store buffer */
    caller_state = ASLEEP;
#endif
    hand_over();
    locked = 0
}

ltl ends { <> (caller_over && worker_over) }
