#!/usr/bin/python3 -B
"""share.py LIST OUT NUMBER WORKERS: every WORKERS-th item from NUMBER (from 0) on, one after the other.

What a supervisor that knows no items supervises: started anew, it begins its share again.
"""

import sys

import items


def main(listing, out, number, workers):
    for source in items.read_list(listing)[int(number) :: int(workers)]:
        items.process(source, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
