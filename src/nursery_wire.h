/* What passes between the host and its nursery: one message per order, one per report, whole or not at all.
 *
 * Both sides are forks of one program, so the structs travel as they lie in memory. The socket is SOCK_SEQPACKET: no
 * framing, and the two descriptors of a birth stay with their order. The end is no message: either side shuts its socket
 * down, which works where the socket is full. */
#ifndef POOL_NURSERY_WIRE_H
#define POOL_NURSERY_WIRE_H

#include <stdint.h>

enum nursery_order_kind { ORDER_GO = 1,         /* the one that was forked in between is gone: say hello */
                          ORDER_BIRTH,          /* with the task pipe and the result pipe */
                          ORDER_KILL,
                          ORDER_RETIRE };       /* there are no more births: leave when nobody is alive */

struct nursery_order { uint32_t kind, slot, generation; };      /* host to nursery */

enum { NEWS_HELLO = 100 };      /* besides enum nursery_state. slot: nonzero if the host is the nursery's parent;
                                   pid: the nursery's, or 0 if it could not be forked; status: 0, or why it failed;
                                   with a pidfd of the nursery, if there is such a thing */

struct nursery_news { uint32_t kind, slot, generation; int32_t pid, status; };  /* nursery to host */

#endif
