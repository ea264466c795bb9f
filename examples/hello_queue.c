/* hello_queue: a process that takes names from one queue and puts a greeting for each into another. The library that it uses is loaded
 * inside it, so that the parent never has it. The end of the names is the end of the queue: nobody has to put a None. */
#include <dlfcn.h>
#include <forkpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queues { struct pool_queue *tasks, *results; };

static int greet(void *arg)
{
    struct queues *q = arg;
    struct pool_bytes name;
    double (*root)(double);

    pool_queue_close(q->tasks);         /* it only takes from there: else it would wait for itself at the end */
    void *library = dlopen("libm.so.6", RTLD_NOW), *function = library ? dlsym(library, "sqrt") : NULL;
    if (!function)
        return EXIT_FAILURE;
    memcpy(&root, &function, sizeof root);
    while (pool_queue_get(q->tasks, &name, -1) == POOL_OK) {
        char text[100];
        int size = snprintf(text, sizeof text, "hello %.*s, the root of %zu is %.3f", (int)name.size, (const char *)name.data, name.size,
                            root((double)name.size));
        if (size < 0 || pool_queue_put(q->results, text, (size_t)size, -1) != POOL_OK)
            return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

int main(void)
{
    static const char *const names[] = {"Ada", "Grace", "Barbara"};
    struct queues q = {pool_queue_create(0), pool_queue_create(0)};
    struct pool_process *process = q.tasks && q.results ? pool_process_start(greet, &q) : NULL;
    if (!process) {
        fprintf(stderr, "hello_queue: %s\n", pool_error());
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        pool_queue_put(q.tasks, names[i], strlen(names[i]), -1);
    pool_queue_close(q.tasks);
    pool_queue_close(q.results);

    struct pool_bytes greeting;
    while (pool_queue_get(q.results, &greeting, -1) == POOL_OK)
        printf("%.*s\n", (int)greeting.size, (const char *)greeting.data);

    pool_process_join(process, -1);
    int code = pool_process_exitcode(process);
    pool_process_free(process);
    pool_queue_free(q.tasks);
    pool_queue_free(q.results);
    return code;
}
