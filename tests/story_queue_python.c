/* What Python's queues do where ours go on: a process is killed while it waits in get, and the lock that it holds is held for ever.
 *
 * The same play twice, with multiprocessing where python3 is present, and with ours. ctest: not thread */
#define _GNU_SOURCE
#include "child.h"

#include <stdlib.h>
#include <string.h>

static const char script[] =
    "import multiprocessing, os, queue, signal, time\n"
    "context = multiprocessing.get_context('fork')\n"
    "q = context.Queue()\n"
    "waiting = context.Process(target=q.get)\n"
    "waiting.start()\n"
    "deadline = time.monotonic() + 20\n"
    "while q._rlock.acquire(False):\n"
    "    q._rlock.release()\n"
    "    assert time.monotonic() < deadline\n"
    "os.kill(waiting.pid, signal.SIGKILL)\n"
    "waiting.join()\n"
    "q.put('an item')\n"
    "try:\n"
    "    print('got', q.get(timeout=1))\n"
    "except queue.Empty:\n"
    "    print('locked')\n"
    "os._exit(0)\n";

static void pythons_is_locked_for_ever(void **state)
{
    char command[sizeof script + 100], line[100] = "";

    (void)state;
    if (system("python3 -c 'import multiprocessing' 2>/dev/null") != 0) {
        print_message("SKIP: no python3 to compare with\n");
        skip();
    }
    snprintf(command, sizeof command, "python3 - <<'END' 2>&1\n%sEND\n", script);
    FILE *python = popen(command, "re");
    assert_non_null(python);
    assert_non_null(fgets(line, sizeof line, python));
    pclose(python);
    assert_string_equal(line, "locked\n");
}

static int wait_in_get(void *queue)
{
    struct pool_bytes item;

    pool_queue_get(queue, &item, -1);
    return 0;
}

/* Asleep: in the call, or not there yet, which a few rounds make unlikely. */
static int sleeps(void *process)
{
    char name[64], line[200] = "";

    snprintf(name, sizeof name, "/proc/%ld/wchan", (long)pool_process_pid(process));
    FILE *file = fopen(name, "re");
    if (file) {
        if (!fgets(line, sizeof line, file))
            line[0] = '\0';
        fclose(file);
    }
    return strstr(line, "poll") != NULL || !file || strcmp(line, "0") == 0;
}

static void ours_is_not(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct pool_queue *q = pool_queue_create(0);
        struct pool_bytes item;
        assert_non_null(q);
        struct pool_process *p = pool_process_start(wait_in_get, q);
        assert_non_null(p);
        assert_true(check_until(sleeps, p, PATIENCE));
        pool_process_kill(p);
        assert_int_equal(pool_process_join(p, PATIENCE), POOL_OK);
        pool_process_free(p);
        assert_int_equal(pool_queue_put(q, "an item", 7, 0), POOL_OK);
        assert_int_equal(pool_queue_get(q, &item, 1), POOL_OK);
        assert_int_equal(item.size, 7);
        pool_queue_free(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pythons_is_locked_for_ever),
        cmocka_unit_test(ours_is_not),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
