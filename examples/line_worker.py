#!/usr/bin/env python3
# A worker that halves images: reads items on stdin, answers on stdout (docs/worker-protocol.md).
import os
import sys
from urllib.parse import unquote_to_bytes

import cv2


def say(line):
    print(line, flush=True)  # A line that is held back was not said.


def halve(source, target):
    image = cv2.imread(source)
    if image is None:
        raise ValueError("unable to read " + source)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(target, half):
        raise ValueError("unable to write " + target)


say("ready")
for line in sys.stdin:
    word, item, attempt, source, target = line.split()
    say("started " + item)
    try:
        halve(*(os.fsdecode(unquote_to_bytes(path)) for path in (source, target)))
        say("done " + item)
    except Exception as failure:
        say("failed " + item + " " + str(failure).replace("\n", " "))
