/* How many CPUs may be used, and how to wait a moment on one. */
#ifndef POOL_CPU_H
#define POOL_CPU_H

/* The number of CPUs by affinity mask and cgroup quota (v1 and v2; nested groups: the smallest on the way up; a quota of 1.5
 * CPUs is 2), never below 1. `root` is put before /proc and /sys: "" for the machine's own; a tree of files in tests.
 * `affinity` is the number of CPUs of the mask. */
unsigned cpu_count_in(const char *root, unsigned affinity);

/* Tells the CPU that this is a spin. */
static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
