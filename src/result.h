/* The failure of this thread's last map or apply. */
#ifndef POOL_RESULT_H
#define POOL_RESULT_H

#include <forkpool.h>

/* NULL: there was none. The text is copied. */
void result_note(const struct pool_result *failure, const char *text);

#endif
