/* The failure of this thread's last map or apply: one for each thread, in thread-local memory, so that asking for it needs neither the
 * pool, which may be gone, nor anything to be freed. */
#include "result.h"

#include "status.h"

#include <stdio.h>

static _Thread_local struct pool_result last;
static _Thread_local char last_text[STATUS_TEXT + 1];

void result_note(const struct pool_result *failure, const char *text)
{
    last.status = POOL_OK;
    if (!failure)
        return;
    last = *failure;
    snprintf(last_text, sizeof last_text, "%s", text);
    last.message = last_text;
    last.data = NULL;
    last.size = 0;
}

const struct pool_result *pool_failure(void)
{
    return last.status ? &last : NULL;
}
