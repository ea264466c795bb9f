"""The workloads of queues.c with multiprocessing: the same names with -Queue and -SimpleQueue, and Process; best of the rounds."""
import multiprocessing
import sys
import time

context = multiprocessing.get_context("fork")
SMALL, TRIPS, LARGE, STARTS = 50000, 5000, 100, 50


def sink(queue, back, count):
    back.put(sum(len(queue.get()) for _ in range(count)))


def echo(there, back, count):
    for _ in range(count):
        back.put(there.get())


def one_way(make, count, item):
    queue, back = make(), context.SimpleQueue()
    child = context.Process(target=sink, args=(queue, back, count))
    child.start()
    start = time.perf_counter()
    for _ in range(count):
        queue.put(item)
    assert back.get() == count * len(item)
    took = time.perf_counter() - start
    child.join()
    return took


def to_and_fro(make):
    there, back = make(), make()
    child = context.Process(target=echo, args=(there, back, TRIPS))
    child.start()
    start = time.perf_counter()
    for _ in range(TRIPS):
        there.put(b"12345678")
        back.get()
    took = time.perf_counter() - start
    child.join()
    return took * 1e6 / TRIPS


def nothing():
    pass


def process():
    start = time.perf_counter()
    for _ in range(STARTS):
        child = context.Process(target=nothing)
        child.start()
        child.join()
    return (time.perf_counter() - start) * 1e6 / STARTS


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for name, make in ("Queue", context.Queue), ("SimpleQueue", context.SimpleQueue):
        print("queue-8B-one-way-%s %.4g k/s" % (name, max(SMALL / one_way(make, SMALL, b"12345678") / 1e3 for _ in range(rounds))))
        print("queue-8B-to-and-fro-%s %.4g us" % (name, min(to_and_fro(make) for _ in range(rounds))))
        print("queue-1MiB-one-way-%s %.4g GiB/s" % (name, max(LARGE / 1024 / one_way(make, LARGE, bytes(1 << 20)) for _ in range(rounds))))
    print("process-start-join %.4g us" % min(process() for _ in range(rounds)))
