#!/usr/bin/python3 -B
"""A worker of crashworthy-each: items on stdin, answers on stdout."""

import os
import pathlib
import sys
from urllib.parse import unquote_to_bytes

import items


def say(line):
    print(line, flush=True)


def main():
    say("ready")
    for line in sys.stdin:
        _, item, _, *paths = line.split()
        source, target = (os.fsdecode(unquote_to_bytes(path)) for path in paths)
        say(f"started {item}")
        try:
            with items.busy(pathlib.Path(source).stem):
                pathlib.Path(target).write_bytes(items.make(source))
            say(f"done {item}")
        except Exception as failure:
            say(f"failed {item} {failure}".replace("\n", " "))


if __name__ == "__main__":
    main()
