/* A memory fence that one process pays for in the stead of others. */
#ifndef POOL_FENCE_H
#define POOL_FENCE_H

/* This process will have fences sent to it; right after its fork, before it has threads. Nonzero: it will. */
int fence_accept(void);

/* When this returns nonzero, each running process that accepts fences has passed one meanwhile: what it stored before is seen here now, or
 * it loads what was stored here before. 0: there is no way. */
int fence_send(void);

#endif
