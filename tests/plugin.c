/* A library that tests load at run time. It is built twice, the copies differing by PLUGIN_NUMBER only, so that a function of the
 * one taken for that of the other shows in what it returns. Links against nothing. */
#include <forkpool.h>

int plugin_id(void);
pool_fn plugin_task;

int plugin_id(void)
{
    return PLUGIN_NUMBER;
}

int plugin_task(struct pool_task *task)
{
    (void)task;
    return PLUGIN_NUMBER;
}
