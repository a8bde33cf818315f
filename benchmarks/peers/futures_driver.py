"""futures_driver.py fork|fork-late|forkserver|spawn: concurrent.futures.ProcessPoolExecutor with the
retry that a careful user writes: a new pool and the item again when the pool is broken.

With fork and forkserver workers inherit OpenCV, loaded before they are forked; with fork-late and
spawn each loads it itself.
"""

import concurrent.futures
import multiprocessing
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import peer

WORKERS = 2
WARM_UP_S = 0.02  # So long that the second warm-up needs the second worker.

_reports = None  # Of a worker: where a victim tells its pid.


def set_up_worker(reports):
    global _reports
    _reports = reports
    peer.opencv()


def warm_up(frame):
    peer.filter_frame(frame)
    time.sleep(WARM_UP_S)


def work(attempt, frame):
    if attempt == 1:
        _reports.send(multiprocessing.current_process().pid)
        peer.wait_to_be_killed()
    if frame is not None:
        peer.filter_frame(frame)
    return peer.now_ns()


class Futures:
    def __init__(self, method):
        if method == "fork":
            peer.opencv()
        self.context = multiprocessing.get_context(method.removesuffix("-late"))
        if method == "forkserver":
            self.context.set_forkserver_preload(["cv2", "numpy"])
        self.frame = peer.read_frame()
        self.told, self.reports = self.context.Pipe(duplex=False)
        self.broken = None
        self.make_pool()

    def make_pool(self):
        self.pool = concurrent.futures.ProcessPoolExecutor(
            WORKERS, mp_context=self.context, initializer=set_up_worker, initargs=(self.reports,)
        )

    def settle(self):
        if self.broken is not None:
            self.broken.shutdown(wait=True)
            self.broken = None
        tasks = [self.pool.submit(warm_up, self.frame) for _ in range(WORKERS)]
        for task in tasks:
            task.result(peer.BOUND_S)

    def round(self, frame):
        for attempt in range(1, peer.MAX_ATTEMPTS + 1):
            try:
                future = self.pool.submit(work, attempt, frame)
                if attempt == 1:
                    if not self.told.poll(peer.BOUND_S):
                        raise TimeoutError("no victim")
                    peer.answer(f"victim {self.told.recv()}")
                return future.result(peer.BOUND_S)
            except BrokenProcessPool:
                self.broken = self.pool
                self.pool.shutdown(wait=False)
                self.make_pool()
        raise RuntimeError("the item was never done")

    def close(self):
        self.pool.shutdown(wait=True, cancel_futures=True)


if __name__ == "__main__":
    peer.serve(lambda: Futures(sys.argv[1]))
