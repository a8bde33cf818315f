#!/usr/bin/python3 -B
"""pool.py LIST OUT WORKERS: multiprocessing.Pool, as its documentation shows it."""

import functools
import multiprocessing
import sys

import items


def main(listing, out, workers):
    sources = items.read_list(listing)
    with multiprocessing.Pool(int(workers)) as pool:
        for _ in pool.imap_unordered(functools.partial(items.process, out=out), sources):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
