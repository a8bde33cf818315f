#!/usr/bin/python3 -B
"""executor.py LIST OUT WORKERS: concurrent.futures.ProcessPoolExecutor, as its documentation shows it."""

import concurrent.futures
import functools
import sys

import items


def main(listing, out, workers):
    sources = items.read_list(listing)
    with concurrent.futures.ProcessPoolExecutor(int(workers)) as pool:
        for _ in pool.map(functools.partial(items.process, out=out), sources):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
