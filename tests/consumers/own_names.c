/* A program that has had a pool_destroy and a pool_error of its own for years, about quite other pools, and that knows nothing
 * of forkpool.h in this file. */
int own_calls(void);
int own_use(void);
int pool_destroy(int *pool);
int pool_error(void);
const char *pool_status_text(int status);

static int calls;

int own_calls(void) { return calls; }
int pool_destroy(int *pool) { calls++; return pool ? *pool : -1; }
int pool_error(void) { calls++; return 7; }
const char *pool_status_text(int status) { calls++; return status ? "ours" : ""; }

int own_use(void)
{
    int pool = 3;
    return pool_destroy(&pool) + pool_error();
}
