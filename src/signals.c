/* Signals: in words, those by which workers usually die; and as a new program would have them. */
#define _GNU_SOURCE
#include "signals.h"

#include <signal.h>
#include <stddef.h>

#define KERNELS_REALTIME 32             /* between this and SIGRTMIN lie those that libc keeps for itself */

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

/* Those which nobody may change are left out, not tried: the failure would be noted in errno, whose page has to be copied then. */
void signals_default(void)
{
    struct sigaction action = {0};              /* SIG_DFL and an empty mask are all zero wherever we run. On the stack, which is there */
    int first = SIGRTMIN;

    for (int signal = 1; signal < NSIG; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && (signal < KERNELS_REALTIME || signal >= first))
            sigaction(signal, &action, NULL);
}
