#!/usr/bin/python3 -B
"""dask_arm.py LIST OUT WORKERS: a local cluster of Dask, each worker under a nanny, on loopback. This
process is its scheduler, its nannies and its client."""

import os
import sys
import tempfile

import distributed

import items


def main(listing, out, workers):
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with tempfile.TemporaryDirectory() as directory, distributed.LocalCluster(
        n_workers=int(workers),
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=directory,
    ) as cluster, distributed.Client(cluster) as client:
        sources = items.read_list(listing)
        futures = client.map(items.process, sources, out=os.path.realpath(out), pure=False)
        distributed.wait(futures)
        failed = sum(future.status != "finished" for future in futures)
    if failed:
        sys.exit(f"{failed} of {len(futures)} items failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
