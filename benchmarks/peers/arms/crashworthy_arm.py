#!/usr/bin/python3 -B
"""crashworthy_arm.py LIST OUT WORKERS: crashworthy-each, with workers that speak lines; of an item that
takes 5 s the worker is killed."""

import os
import pathlib
import sys
import tempfile

DEADLINE = "5s"


def main(listing, out, workers):
    import items

    with tempfile.NamedTemporaryFile("w", suffix=".list", delete=False) as pairs:
        for source in items.read_list(listing):
            pairs.write(f"{source}\t{pathlib.Path(out, items.output_name(source))}\n")
    worker = pathlib.Path(__file__).resolve().parent / "line_worker.py"
    os.execvp("crashworthy-each", ["crashworthy-each", "--list", pairs.name, "--workers", workers,
                                   "--supervision", "one_for_one", "--deadline", DEADLINE, "--lines",
                                   "--", str(worker)])  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
