/* What a worker claims ahead, and how the caller gets it back: no item twice, none lost, though neither pays for a fence at each item.
 *
 * Modelled: a worker that claims some items at a time and begins those that it holds one after the other; a caller that posts spans, takes
 * back what waits, posts something else there, recalls what is held, and closes, in any order it likes; a fate that kills the worker at
 * any point. Each load, store and swap is a step of its own. Items are known by their positions, and by the span in which they
 * lie; those that are taken back are done elsewhere at once.
 *
 *   here                there
 *   claim_next          claim.c  claim_next
 *   go_on               claim.h  claim_go_on, called by worker_plain.c
 *   begin_held, settle  worker_plain.c begin_held; claim.h claim_begin, claim.c claim_settle
 *   post, take_back     post.c   books_post; take_back.c books_take_back; claim.c claim_append, claim_take_back
 *   recall              take_back.c give_back; claim.c claim_take_back, claim_give_back; fence.c
 *   account             settle.c bury: books_recall, then the last look and books_mourn
 *
 * Memory is that of x86: the worker's plain store of what it has begun waits in a store buffer and reaches memory any time later, while its
 * loads go ahead; a swap of its own, the caller's fence and its death empty the buffer. In machines that are weaker the fence
 * orders the same two.
 *
 * Properties, as assertions: an item is started once at most, by the worker or elsewhere; what counts as finished is; a healthy worker is never
 * taken for a damaged one; a death costs the one item that ran. No state is without a successor before each item has ended: none vanishes.
 *
 * Variants, by -D, each of which must fail:
 *   NO_FENCE            what was begun is read without a fence
 *   NO_MARK             it is read without the word having been changed first
 *   LOOK_BEFORE_STORE   the worker looks at the word before it stores what it begins
 *   NO_LOOK             it does not look
 *   NOT_STORED_FIRST    what was begun is not stored before some are claimed
 *   GIVE_BACK_UNASKED   the caller gives back whatever is held by then, whether it still is what was asked for
 *   SETTLE_KEEPS        a worker that comes too late begins the item nevertheless
 *   COUNT_BEFORE_SWAP   the worker believes what it read of its span's end before it claimed what lies there
 *   FRONT_ALONE         of the dead, what is held is not given back */

#define ITEMS 5
#define SPANS 3
#define POSTED 4            /* at first */
#define BATCH 3

/* ---- Shared memory: the claim word, and the word beside it */

byte front, back, held;
bool running, recalled, closed;
byte begun;
byte lies_in[ITEMS];        /* whose frame has the item at that position */
byte end[SPANS];            /* one past a span's last item */

bool is_stored;             /* the worker's store buffer */
byte stored;

#define FLUSH   begun = (is_stored -> stored : begun); is_stored = 0

/* ---- What is known to this model only */

bool started[ITEMS], finished[ITEMS], ended[ITEMS];
bool dead;

inline start(item)
{
    d_step { assert(!started[item]); started[item] = 1 }
}

/* ---- The worker */

#define UNCHANGED (front == left_front && back == left_back && held == left_held && closed == left_closed && !recalled)
#define LEFT      left_front = front; left_back = back; left_held = held; left_closed = closed
#define AHEAD     (left_closed -> 0 : left_back - left_front - left_held)

inline store(value)
{
    atomic { FLUSH; is_stored = 1; stored = value }
}

inline settle(next)
{
    atomic {
        FLUSH;
        assert(running);
        if
        :: !held && (front == next || front == next + 1) -> got = front != next
        :: else ->
            assert(front == left_front && held == left_held);
            front = next + 1; held = 0; recalled = 0; got = 1
        fi;
#ifdef SETTLE_KEEPS
        got = 1;
#endif
        LEFT
    }
}

active proctype worker()
{
    byte left_front, left_back, left_held, position, much, span, seen_end;
    bool left_closed, got, same;
    {
        skip;
claim_next:
        atomic {
            FLUSH;
            assert(!held && front == left_front);
            if
            :: closed -> running = 0; goto leaving
            :: !closed && front == back -> running = 0; goto idle
            :: else -> front++; running = 1; position = front - 1; LEFT
            fi
        }
enter:
        span = lies_in[position];
run_it:
        assert(lies_in[position] == span);
        start(position);
        finished[position] = 1;
        if
        :: left_held && position + 1 < left_front + left_held -> goto begin_held
        :: else
        fi;
go_on:
        seen_end = end[span];
        atomic {
            if
            :: AHEAD == 0 -> much = 0
            :: AHEAD >= 1 -> much = 1
            :: AHEAD >= 2 && position + 2 < seen_end -> much = 2
            :: AHEAD >= BATCH && position + BATCH < seen_end -> much = BATCH
            fi
        }
        if
        :: much > 1 ->
#ifndef NOT_STORED_FIRST
            store(left_front + left_held)
#else
            skip
#endif
        :: else
        fi;
        atomic {
            if
            :: much && UNCHANGED -> FLUSH; front = left_front + left_held + 1; held = much - 1; position = front - 1; LEFT; goto claimed
            :: else
            fi
        }
        if
        :: left_held -> settle(position); assert(got)
        :: else
        fi;
        goto claim_next;
claimed:
#ifndef COUNT_BEFORE_SWAP
        seen_end = end[span];
#endif
        if
        :: left_held && position + left_held >= seen_end -> settle(position); assert(got)
        :: else
        fi;
        if
        :: position >= seen_end -> goto enter
        :: else -> goto run_it
        fi;
begin_held:
#ifdef LOOK_BEFORE_STORE
        same = UNCHANGED;
        store(position + 1);
#else
        store(position + 1);
#ifdef NO_LOOK
        same = 1;
#else
        same = UNCHANGED;
#endif
#endif
        if
        :: same -> position++; same = 0; goto run_it
        :: else
        fi;
        settle(position + 1);
        if
        :: got -> position++; goto run_it
        :: else -> goto claim_next
        fi;
idle:
        left_front = front;
end_idle:
        (front != back || closed);
        goto claim_next;
leaving:
        skip
    } unless { dead };
    atomic { FLUSH }
}

active proctype store_buffer()
{
end_empty:
    do
    :: atomic { is_stored -> FLUSH }
    od
}

active proctype fate()
{
end_mercy:
    atomic { !dead -> dead = 1 }
}

/* ---- The caller */

inline take_back()                      /* the last one */
{
    atomic {
        if
        :: back > front + held -> back--; start(back); ended[back] = 1; taken = 1
        :: else
        fi
    }
    atomic {
        if
        :: taken -> end[lies_in[back]] = back; taken = 0
        :: else
        fi
    }
}

inline post()                           /* one item in a span of its own */
{
    d_step {
        spans++;
        lies_in[back] = spans;
        end[spans] = back + 1;
        started[back] = 0; finished[back] = 0; ended[back] = 0
    }
    atomic { back++ }
}

inline give_back()
{
    atomic {
        if
#ifndef GIVE_BACK_UNASKED
        :: !recalled
#endif
        :: else ->
            went = read + 1 - front;
            assert(went >= 0 && went <= held + 1);      /* else a healthy worker is condemned */
            front = front + (went < held -> went : held);
            held = 0; recalled = 0; went = 0
        fi;
        read = 0
    }
}

inline recall()
{
    atomic {
        if
        :: held ->
#ifdef NO_MARK
            skip
#else
            recalled = 1
#endif
        :: else -> goto recalled_all
        fi
    }
#ifndef NO_FENCE
    atomic { FLUSH }
#endif
    read = begun;
#ifdef NO_MARK
    recalled = 1;
#endif
    give_back();
recalled_all:
    skip
}

inline look()                           /* what the word says is finished is */
{
    d_step {
        i = 0;
        do
        :: i < front - running -> assert(finished[i]); ended[i] = 1; i++
        :: else -> break
        od;
        i = 0
    }
}

inline account()
{
    atomic {
        !is_stored;                     /* a death is told after all that came before it */
#ifndef FRONT_ALONE
        if
        :: held -> recalled = 1; read = begun; give_back()
        :: else
        fi;
#endif
        look();
        if
        :: running -> ended[front - 1] = 1              /* lost */
        :: else
        fi;
        i = front;
        do
        :: i < back -> assert(!started[i]); ended[i] = 1; i++
        :: else -> break
        od;
        i = back;
        do
        :: i < ITEMS -> ended[i] = 1; i++               /* taken back, or never posted */
        :: else -> break
        od
    }
}

#define DONE (ended[0] && ended[1] && ended[2] && ended[3] && ended[4])

active proctype caller()
{
    short went;
    byte read, i, spans;
    bool taken;
    end[0] = POSTED;
    back = POSTED;
    do
    :: atomic { !closed && spans < SPANS - 1 && back < ITEMS } post()
    :: back > front + held -> take_back()
    :: held -> recall()
    :: atomic { !closed -> closed = 1 }
    :: look()
    :: dead -> account(); break
    od;
    assert(DONE)
}
