#!/usr/bin/python3 -B
"""bare.py LIST OUT WORKERS: the batch program itself, with so many threads."""

import concurrent.futures
import functools
import sys

import items


def main(listing, out, workers):
    sources = items.read_list(listing)
    with items.busy("batch"), concurrent.futures.ThreadPoolExecutor(int(workers)) as pool:
        for _ in pool.map(functools.partial(items.work, out=out), sources):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
