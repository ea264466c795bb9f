/* Spinning before sleeping: bounded by time, and given up for a while where it has not been paying.
 *
 * Waking a sleeping CPU costs far more than a small item's work, so both sides look at the ring for a moment first. But a spin that ends
 * in sleep was for nothing, and beside busy strangers it takes their CPU: after each one that failed, more and more waits go
 * straight to sleep, until one pays again.
 *
 *     struct spin_round round;
 *     for (spin_begin(&spin, &round); spin_on(&spin, &round);)
 *         if (news()) { spin_paid(&spin); break; }
 */
#ifndef POOL_SPIN_H
#define POOL_SPIN_H

#include "clock.h"
#include "cpu.h"

#define SPIN_TIME 30000             /* nanoseconds: about what a blocking wake-up across CPUs costs */
#define SPIN_LOOKS 64               /* looks between two looks at the clock */
#define SPIN_DOUBT 64               /* waits left out after many failures in a row */

struct spin {
    unsigned off;           /* never spin: asked for, or only one CPU is usable */
    unsigned skip;          /* waits still to be left out */
    unsigned doubt;         /* how many the next failure leaves out */
    int64_t  time;          /* nanoseconds; 0: SPIN_TIME */
};

struct spin_round { unsigned looks; int64_t until; };

static inline void spin_begin(struct spin *spin, struct spin_round *round)
{
    round->looks = 0;
    round->until = 0;
    if (spin->skip) {
        spin->skip--;
        round->looks = SPIN_LOOKS;
        round->until = -1;
    }
}

static inline void spin_paid(struct spin *spin)
{
    spin->doubt = 0;
}

/* Nonzero: look again. Zero: time to sleep. */
static inline int spin_on(struct spin *spin, struct spin_round *round)
{
    if (spin->off || round->until < 0)
        return 0;
    cpu_pause();
    if (++round->looks % SPIN_LOOKS)
        return 1;
    int64_t now = clock_now();
    if (!round->until)
        round->until = now + (spin->time ? spin->time : SPIN_TIME);
    if (now < round->until)
        return 1;
    spin->doubt = spin->doubt ? (spin->doubt < SPIN_DOUBT ? spin->doubt * 2 : SPIN_DOUBT) : 1;
    spin->skip = spin->doubt;
    return 0;
}

#endif
