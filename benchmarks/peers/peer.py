"""What the Python drivers of peers-benchmark share: the item, and the lines that they exchange.

A driver gets orders, one a line, on descriptor 3 and answers on descriptor 4 (README.md). Descriptor
5 is a file with the frame.
"""

import importlib.util
import multiprocessing
import os
import pathlib
import sys
import time

ORDERS, ANSWERS, FRAME = 3, 4, 5
SIDE = 256
FRAME_BYTES = SIDE * SIDE * 3
BOUND_S = 60  # Of every wait.
MAX_ATTEMPTS = 5
PREFIX = "crashworthy-peer-"  # Of what has a name in /dev/shm; the driver's pid follows.

_opencv = None


def opencv():
    """OpenCV, loaded at the first call in a process or inherited from its parent."""
    global _opencv
    if _opencv is None:
        import cv2

        cv2.setNumThreads(1)
        _opencv = cv2
    return _opencv


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def filter_frame(frame):
    """What filter_tile() of recovery_job.cc does; `frame` is any buffer of FRAME_BYTES."""
    import numpy

    cv2 = opencv()
    image = numpy.frombuffer(frame, numpy.uint8, FRAME_BYTES).reshape(SIDE, SIDE, 3)
    blurred = cv2.GaussianBlur(image, (5, 5), 0)
    return cv2.Canny(cv2.cvtColor(blurred, cv2.COLOR_BGR2GRAY), 50, 150)


def wait_to_be_killed():
    """Busy, as the pool's victim is."""
    until = time.monotonic() + BOUND_S
    while time.monotonic() < until:
        pass
    raise TimeoutError("nobody killed the victim")


def read_frame():
    return os.pread(FRAME, FRAME_BYTES, 0)


def answer(line):
    os.write(ANSWERS, (line + "\n").encode())


def tidy_shared_memory():
    """Removes what is left of drivers that were killed together with the tracker that multiprocessing
    has for it; and names our semaphores so that they are found (by a private setting of
    multiprocessing: at worst they are not)."""
    for path in pathlib.Path("/dev/shm").glob(f"*{PREFIX}*"):
        owner = path.name.split(PREFIX)[1].split("-")[0]
        if not pathlib.Path("/proc", owner).exists():
            path.unlink(missing_ok=True)
    multiprocessing.current_process()._config["semprefix"] = f"/{PREFIX}{os.getpid()}"


def serve(make_side):
    """Answers every order until the orders end. make_side() returns an object with settle(),
    which returns when all workers are there and warm, round(frame), which answers "victim PID" and
    returns when the item was redone, and close(); frame is None for a trivial item."""
    if importlib.util.find_spec("cv2") is None:
        answer("missing python3-opencv")
        return
    tidy_shared_memory()
    frame = read_frame()
    side = make_side()
    try:
        side.settle()
        answer("ready")
        for line in os.fdopen(ORDERS):
            if line not in ("trivial\n", "tile\n"):
                sys.exit(f"unknown order: {line!r}")
            redone = side.round(frame if line == "tile\n" else None)
            known = now_ns()
            answer(f"done {redone} {known}")
            side.settle()
            answer("ready")
    finally:
        side.close()
