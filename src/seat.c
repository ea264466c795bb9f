/* A worker that keeps off its caller's CPU.
 *
 * Runs in the worker, but for seat_holds_worker. The kernel likes to wake a process on the CPU of whoever wakes it, the more so where the
 * others have something to do, and with one to wait for the other it stays like that: neither can spin, since that keeps the other from
 * running, so both sleep at every turn. Therefore a side does not spin while the other is on its CPU, which says nothing about whether
 * spinning pays; and a worker that is woken there again and again moves to any other CPU of its mask. The worker and not the caller,
 * since the threads of the host are not ours. Beside two CPU-bound strangers on two CPUs a round trip takes 1.4 to 3.4 us instead of 8.5
 * to 10, and an item of a generator 0.2 us instead of 1 to 1.7; alone on the machine there is no difference.
 *
 * A worker that moves may wait there for milliseconds, until it is its turn. So each move makes it four times as patient, and some hundred
 * spins that pay make it forget that. */
#include "seat.h"

#include "clock.h"
#include "cpu_place.h"

enum { WAKE_UPS = 16, EXTRA_MOST = 16384, FORGIVEN = 64 };

#define QUICK_SUCCESSION 100000         /* nanoseconds: who is woken less often does not lose much */

int seat_is_shared(struct desk *desk)
{
    uint32_t here = cpu_here();
    if (atomic_load_explicit(&desk->worker_cpu, memory_order_relaxed) != here)
        atomic_store_explicit(&desk->worker_cpu, here, memory_order_relaxed);
    return here != CPU_UNKNOWN && here == atomic_load_explicit(&desk->caller_cpu, memory_order_relaxed);
}

int seat_holds_worker(struct desk *desk, uint32_t cpu)
{
    return cpu != CPU_UNKNOWN && cpu == atomic_load_explicit(&desk->worker_cpu, memory_order_relaxed);
}

int seat_woken(struct seat *seat, struct desk *desk)
{
    int64_t now = clock_now();
    if (now - seat->woken_at > QUICK_SUCCESSION)
        seat->beside = 0;
    seat->woken_at = now;
    seat->beside = seat_is_shared(desk) ? seat->beside + 1 : 0;
    if (seat->beside < WAKE_UPS + seat->extra)
        return 0;
    seat->beside = 0;
    seat->extra = seat->extra < EXTRA_MOST ? (seat->extra + WAKE_UPS) * 4 : EXTRA_MOST;
    atomic_store_explicit(&desk->worker_cpu, CPU_UNKNOWN, memory_order_relaxed);    /* the caller spins meanwhile: asleep it would follow */
    cpu_leave();
    return !seat_is_shared(desk);
}

void seat_paid(struct seat *seat)
{
    if (seat->extra)
        seat->extra -= 1 + seat->extra / FORGIVEN;
}
