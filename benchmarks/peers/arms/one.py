#!/usr/bin/python3 -B
"""one.py OUT ITEM: one item, for those that start a process for each."""

import sys

import items

if __name__ == "__main__":
    items.process(sys.argv[2], sys.argv[1])
