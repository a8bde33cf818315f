"""shared_memory_driver.py fork|spawn [spare]: own Process objects, frames in
multiprocessing.shared_memory, a pipe to each worker, and a new Process when a sentinel tells of a
death.

With `spare` a second worker is idle, and gets the item before the dead one is replaced. With fork
workers inherit OpenCV; with spawn each loads it itself.
"""

import multiprocessing
import os
import sys
from multiprocessing import connection, shared_memory

import peer


def work(orders, source, target):
    import numpy

    output = numpy.frombuffer(target.buf, numpy.uint8, peer.SIDE * peer.SIDE)
    output = output.reshape(peer.SIDE, peer.SIDE)
    peer.opencv()
    orders.send(("ready", 0))
    while True:
        attempt, real = orders.recv()
        if attempt == 1:
            orders.send(("victim", multiprocessing.current_process().pid))
            peer.wait_to_be_killed()
        if real:
            output[:] = peer.filter_frame(source.buf)
        orders.send(("done", peer.now_ns()))


def make_frame(which):
    name = f"{peer.PREFIX}{os.getpid()}-{which}"
    return shared_memory.SharedMemory(name, create=True, size=peer.FRAME_BYTES)


class Worker:
    def __init__(self, context, frames):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *frames), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False

    def next(self):
        """What it tells next, or None when it has died."""
        came = connection.wait([self.pipe, self.process.sentinel], peer.BOUND_S)
        if not came:
            raise TimeoutError("a worker does not answer")
        if self.pipe not in came:
            return None
        try:
            return self.pipe.recv()
        except EOFError:
            return None

    def wait_until_ready(self):
        if not self.ready and self.next() != ("ready", 0):
            raise RuntimeError("a worker did not start")
        self.ready = True

    def do(self, attempt, real):
        self.pipe.send((attempt, real))
        while True:
            came = self.next()
            if came is None:
                return None
            kind, value = came
            if kind == "victim":
                peer.answer(f"victim {value}")
            elif kind == "done":
                return value
            else:
                self.ready = True


class Workers:
    def __init__(self, method, count):
        self.context = multiprocessing.get_context(method)
        if method == "fork":
            peer.opencv()
        self.frames = [make_frame("in"), make_frame("out")]
        self.frames[0].buf[: peer.FRAME_BYTES] = peer.read_frame()
        self.count = count
        self.workers = []

    def start(self):
        self.workers.append(Worker(self.context, self.frames))

    def settle(self):
        while len(self.workers) < self.count:
            self.start()
        for worker in self.workers:
            worker.wait_until_ready()
            worker.do(2, True)  # Warm.

    def round(self, frame):
        for attempt in range(1, peer.MAX_ATTEMPTS + 1):
            worker = self.workers[0]
            redone = worker.do(attempt, frame is not None)
            if redone is not None:
                return redone
            worker.process.join(peer.BOUND_S)
            worker.pipe.close()
            self.workers.pop(0)
            if not self.workers:
                self.start()
        raise RuntimeError("the item was never done")

    def close(self):
        for worker in self.workers:
            worker.process.kill()
            worker.process.join(peer.BOUND_S)
        for frame in self.frames:
            frame.unlink()


if __name__ == "__main__":
    peer.serve(lambda: Workers(sys.argv[1], 2 if "spare" in sys.argv[2:] else 1))
