/* Makes chosen calls of libc fail. The subject finds failcalls_arm and the others by dlsym, so that it runs without them too. */
#ifndef INTERPOSE_H
#define INTERPOSE_H

/* Who makes the call: the process that armed; its children and grandchildren by fork (the nursery); whoever these fork (workers). */
enum failcalls_side { SIDE_HOST, SIDE_NURSERY, SIDE_WORKER, SIDE_COUNT };

enum { FAILCALLS_SHORT = -1 };          /* in place of an errno: the call moves one byte only (more than one was asked for) */

struct failcalls_order {
    const char *kind;                   /* name of the function, also of one that is called by syscall() */
    int         side;
    long        first, last;            /* calls of this kind on this side that fail, from 1 */
    int         error;
};

/* From now on, here and in all that is forked from here, calls are counted, and fail as ordered. */
typedef void failcalls_arm_fn(const struct failcalls_order *order);

/* Nothing fails any more. Returns the number of calls that did. */
typedef long failcalls_disarm_fn(void);

/* Heap blocks and bytes mapped in the arming process, since it armed: made less given back. */
struct failcalls_balance { long blocks, mapped; };
typedef void failcalls_balance_fn(struct failcalls_balance *balance);

#endif
