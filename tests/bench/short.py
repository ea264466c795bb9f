"""The workloads of short.c with multiprocessing.Pool: the same lines, best of the rounds, each with its best chunk size."""
import multiprocessing
import sys
import time


def square(x):
    return x * x & 0xFFFFFFFF


def echo(x):
    return x


def map_squares(pool, rounds):
    items = list(range(1000000))
    return min(timed(lambda: pool.map(square, items, chunk)) * 1e9 / len(items) for chunk in (None, 10000, 50000) for _ in range(rounds))


def round_trip(pool, rounds):
    def trips():
        for _ in range(2000):
            pool.apply(echo, (b"12345678",))
    return min(timed(trips) * 1e6 / 2000 for _ in range(rounds))


def stream(pool, rounds):
    items = [b"12345678"] * 20000
    return max(len(items) / timed(lambda: sum(1 for _ in pool.imap_unordered(echo, items, 1))) / 1e3 for _ in range(rounds))


def large(pool, rounds):
    items = [bytes(4 << 20) for _ in range(64)]
    return max(0.25 / timed(lambda: pool.map(echo, items, 1)) for _ in range(rounds))


def large_imap(pool, rounds):
    items = [bytes(4 << 20) for _ in range(64)]
    return max(0.25 / timed(lambda: sum(len(x) for x in pool.imap(echo, items, 1))) for _ in range(rounds))


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("map-1M-ints %.4g ns/item" % map_squares(pool, rounds))
        print("round-trip-8B %.4g us" % round_trip(pool, rounds))
        print("stream-8B-chunk-1 %.4g k/s" % stream(pool, rounds))
        print("map-64x4MiB %.4g GiB/s" % large(pool, rounds))
        print("imap-64x4MiB %.4g GiB/s" % large_imap(pool, rounds))
