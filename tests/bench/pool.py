"""The same work by multiprocessing.Pool, as someone who knows it would write it. Where the chunk size matters several are measured and the
best one counts: the same figure is then printed more than once. Small items are counted in thousands here, rates are rates."""
import ctypes
import multiprocessing
import os
import sys
import time

QUICK = "BENCH_QUICK" in os.environ
LOOPS = float(os.environ.get("BENCH_LOOPS_PER_US", "1000"))
C_CODE = os.environ.get("BENCH_WORK_SO", "")
LARGE_SIZE = 4 << 20
LARGE = 16 if QUICK else 64
STREAM = 5000 if QUICK else 20000
ITEM = b"12345678"
SKEWED, SKEWED_LONG = 8192, 1024


def report(figure, value, unit):
    print("python", figure, "%.6g" % value, unit, flush=True)


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def new_pool(workers=2):
    return multiprocessing.get_context("fork").Pool(workers)


def square(x):
    return x * x & 0xFFFFFFFF


def echo(x):
    return x


def nothing():
    pass


def small_map():
    items = list(range(1000000))
    with new_pool() as pool:
        pool.map(square, items[:1000])
        for chunk in None, 10000, 50000:
            report("map-ints", timed(lambda: pool.map(square, items, chunk)) * 1e3, "ns")


def round_trips(pool, count, item=ITEM):
    for _ in range(count):
        pool.apply(echo, (item,))


def trips():
    with new_pool() as pool:
        round_trips(pool, 100)
        report("round-trip", timed(lambda: round_trips(pool, 2000)) * 1e6 / 2000, "us")


def stream(pool, imap="imap_unordered", source=lambda: [ITEM] * STREAM):
    return STREAM / timed(lambda: sum(1 for _ in getattr(pool, imap)(echo, source(), 1))) / 1e6


def streams():
    with new_pool() as pool:
        round_trips(pool, 100)
        report("stream", stream(pool), "M/s")
        report("stream-ordered", stream(pool, "imap"), "M/s")
        report("stream-generator", stream(pool, source=lambda: (ITEM for _ in range(STREAM))), "M/s")


def large_items():
    items = [bytes(LARGE_SIZE) for _ in range(LARGE)]
    size = LARGE * LARGE_SIZE / (1 << 30)
    with new_pool() as pool:
        pool.map(echo, items[:4], 1)
        for chunk in None, 1:
            report("large-map", size / timed(lambda: pool.map(echo, items, chunk)), "GiB/s")
        report("large-imap", size / timed(lambda: sum(len(x) for x in pool.imap(echo, items, 1))), "GiB/s")
        report("large-generator", size / timed(lambda: sum(len(x) for x in pool.imap(echo, (x for x in items), 1))), "GiB/s")
        for name, size, count in ("echo-4k", 4 << 10, 500), ("echo-64k", 64 << 10, 500), ("echo-1m", 1 << 20, 50):
            report(name, timed(lambda: round_trips(pool, count, bytes(size))) * 1e6 / count, "us")


def load_work():
    global work_loops
    work_loops = ctypes.CDLL(C_CODE).work_loops
    work_loops.restype = ctypes.c_double
    work_loops.argtypes = [ctypes.c_uint32, ctypes.c_uint32]


def work(piece):
    return work_loops(*piece)


def skewed(shuffled):
    state = 1

    def next_random():
        nonlocal state
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        return state >> 16
    pieces = []
    for i in range(SKEWED):
        is_long = i >= SKEWED - SKEWED_LONG
        us = 100 + next_random() % 501 if is_long else 5 + next_random() % 31
        pieces.append((int(us * LOOPS), int(is_long and i % 8 == 0)))
    for i in range(SKEWED - 1, 0, -1) if shuffled else ():
        j = next_random() % (i + 1)
        pieces[i], pieces[j] = pieces[j], pieces[i]
    return pieces


def efficiency(pieces, cpu, wall):
    timed_loops = sum(loops for loops, is_timed in pieces if is_timed)
    return sum(loops for loops, _ in pieces) * sum(cpu) / timed_loops / (2 * wall)


def skewed_work():
    load_work()
    with new_pool() as pool:
        pool.map(work, skewed(True)[:200], 1)
        for name, chunk in ("chunk-0", None), ("chunk-1", 1), ("chunk-64", 64):
            for order in "long-last", "shuffled":
                pieces = skewed(order == "shuffled")
                start = time.perf_counter()
                cpu = pool.map(work, pieces, chunk)
                report(order + "-" + name, efficiency(pieces, cpu, time.perf_counter() - start), "-")


def one_life():
    pool = new_pool()
    pool.apply(nothing)
    pool.apply(nothing)
    pool.terminate()
    pool.join()


def lives():
    one_life()
    report("create", sorted(timed(one_life) * 1e3 for _ in range(40))[20], "ms")
    if not QUICK:
        host = bytearray(b"x") * (1 << 30)
        report("create-1GiB", sorted(timed(one_life) * 1e3 for _ in range(3))[1], "ms")
        del host


def many_workers():
    for workers in 2, 16, 64, 256:
        with new_pool(workers) as pool:
            round_trips(pool, 100)
            report("stream-%dw" % workers, stream(pool), "M/s")


def cpu_time(children):
    # The clock of another process, as clock_getcpuclockid() makes it.
    return time.process_time() + sum(time.clock_gettime(~child.pid << 3 | 2) for child in children)


def cpu_per_item():
    with new_pool() as pool:
        children = multiprocessing.active_children()
        round_trips(pool, 100)
        start = cpu_time(children)
        round_trips(pool, 1000)
        report("cpu-round-trip", (cpu_time(children) - start) * 1e6 / 1000, "us")
        start = cpu_time(children)
        stream(pool)
        report("cpu-stream", (cpu_time(children) - start) * 1e9 / STREAM, "ns")


def costs():
    load_work()
    with new_pool() as pool:
        for us in 1, 10, 100, 1000:
            pieces = [(int(us * LOOPS), 0)] * max(100, 100000 // us)
            for chunk in None, 1:
                report("cost-%dus" % us, timed(lambda: pool.map(work, pieces, chunk)) * 1e9 / len(pieces), "ns")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run = {"W1": small_map, "W2": trips, "W3": streams, "W4": large_items, "W5": skewed_work, "W6": lives, "W7": many_workers,
               "W10": cpu_per_item, "costs": costs}.get(name)
        if run:
            run()
