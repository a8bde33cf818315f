"""The work that all arms do, and the sign by which a fault finds who is at it.

A list has the path of a photograph a line. Each item is that photograph, brought to one size and
blurred, written as PNG under its own name once it is whole.
"""

import contextlib
import os
import pathlib

import cv2
from setproctitle import setproctitle

BUSY = "peer-item-worker"  # The command line of a process while it works on an item.
IDLE = "peer-idle"
SIZE = (480, 360)
BLURS = 40
SIGMA = 1.2

cv2.setNumThreads(1)


def read_list(path):
    return [line for line in pathlib.Path(path).read_text().splitlines() if line]


@contextlib.contextmanager
def busy(what):
    setproctitle(f"{BUSY} {what}")
    try:
        yield
    finally:
        setproctitle(IDLE)


def make(source):
    """The output of one item, as a file has it."""
    image = cv2.imread(source)
    if image is None:
        raise OSError(f"'{source}' is no photograph")
    image = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
    for _ in range(BLURS):
        image = cv2.GaussianBlur(image, (0, 0), SIGMA)
    return cv2.imencode(".png", image)[1].tobytes()


def output_name(source):
    return pathlib.Path(source).stem + ".png"


def work(source, out):
    name = output_name(source)
    temporary = pathlib.Path(out, f".{name}.{os.getpid()}")
    temporary.write_bytes(make(source))
    os.replace(temporary, pathlib.Path(out, name))


def process(source, out):
    """One item, by a process that does one at a time."""
    with busy(pathlib.Path(source).stem):
        work(source, out)
