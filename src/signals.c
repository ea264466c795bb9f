/* Signals: in words, those by which workers usually die; and as a new program would have them. */
#define _GNU_SOURCE
#include "signals.h"

#include <signal.h>
#include <stddef.h>

static const struct { int signal; const char *name; } names[] = {
    {SIGABRT, "SIGABRT, aborted"},
    {SIGALRM, "SIGALRM, alarm clock"},
    {SIGBUS, "SIGBUS, bus error"},
    {SIGFPE, "SIGFPE, arithmetic error"},
    {SIGHUP, "SIGHUP, hangup"},
    {SIGILL, "SIGILL, illegal instruction"},
    {SIGINT, "SIGINT, interrupted"},
    {SIGKILL, "SIGKILL, killed"},
    {SIGPIPE, "SIGPIPE, broken pipe"},
    {SIGQUIT, "SIGQUIT, quit"},
    {SIGSEGV, "SIGSEGV, segmentation fault"},
    {SIGSYS, "SIGSYS, bad system call"},
    {SIGTERM, "SIGTERM, terminated"},
    {SIGTRAP, "SIGTRAP, trap"},
    {SIGUSR1, "SIGUSR1"},
    {SIGUSR2, "SIGUSR2"},
    {SIGXCPU, "SIGXCPU, CPU time limit exceeded"},
    {SIGXFSZ, "SIGXFSZ, file size limit exceeded"},
};

const char *signal_name(int signal)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].signal == signal)
            return names[i].name;
    return "no usual signal";
}

/* No call but the one, and that looked up by whoever forked: what a linker looks up in the child it looks up in each child. */
void signals_default(void)
{
    static const struct sigaction action;       /* SIG_DFL and an empty mask are all zero wherever we run */

    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &action, NULL);       /* some may not be changed, and need not */
}
