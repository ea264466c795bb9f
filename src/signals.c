/* Signals: in words, those by which workers usually die; and as a new program would have them. */
#define _GNU_SOURCE
#include "signals.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

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

void signals_default(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &action, NULL);       /* some may not be changed, and need not */
}
