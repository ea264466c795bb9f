"""The workloads of queues.c with multiprocessing: Queue, SimpleQueue, Process. Not queue.py: that would hide Python's own module."""
import multiprocessing
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
    return (time.perf_counter() - start) * 1e3 / STARTS


if __name__ == "__main__":
    for peer, make in ("python", context.Queue), ("simplequeue", context.SimpleQueue):
        print(peer, "queue-one-way %.6g M/s" % (SMALL / one_way(make, SMALL, b"12345678") / 1e6))
        print(peer, "queue-to-and-fro %.6g us" % to_and_fro(make))
        print(peer, "queue-1m-one-way %.6g GiB/s" % (LARGE / 1024 / one_way(make, LARGE, bytes(1 << 20))))
    print("python process %.6g ms" % process())
