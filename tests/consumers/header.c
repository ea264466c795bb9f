/* The header alone, first, twice, in the strictest dialects. */
#include <forkpool.h>
#include <forkpool.h>

int header_is_clean(void);
int header_is_clean(void) { return POOL_OK; }
