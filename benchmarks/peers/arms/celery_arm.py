#!/usr/bin/python3 -B
"""celery_arm.py [--acks-late] LIST OUT WORKERS: a Celery worker with a prefork pool, Redis as its broker
and result store, and this client, which sends all items and waits for their results."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

ARMS = pathlib.Path(__file__).resolve().parent
START_BOUND_S = 20
STOP_BOUND_S = 20


def start(*words):
    """A child that ends with us."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL)


def start_redis(socket):
    redis = start("redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
                  "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
                  "--logfile", "redis.log")  # fmt: skip
    until = time.monotonic() + START_BOUND_S
    while not os.path.exists(socket):
        if redis.poll() is not None or time.monotonic() > until:
            sys.exit("redis-server does not start")
        time.sleep(0.01)
    return redis


def start_worker(workers):
    return start(sys.executable, "-B", "-m", "celery", "-A", "celery_items", "worker",
                 "--pool", "prefork", "--concurrency", workers, "--hostname", "peers@localhost",
                 "--without-gossip", "--without-mingle", "--loglevel", "ERROR")  # fmt: skip


def main(listing, out, workers):
    import celery_items
    import items

    redis = start_redis(celery_items.SOCKET)
    worker = start_worker(workers)
    try:
        results = [celery_items.process.delay(source, out) for source in items.read_list(listing)]
        failed = 0
        for result in results:
            result.get(propagate=False)
            failed += result.failed()
            result.forget()  # While Redis is there.
        # Not by SIGTERM: its handler may throw amid the bookkeeping of the last result, and then the
        # worker waits for that result for ever.
        celery_items.app.control.shutdown()
        worker.wait(timeout=STOP_BOUND_S)
    finally:
        for child in (worker, redis):
            child.terminate()
            child.wait()
    if failed:
        sys.exit(f"{failed} of {len(results)} items failed")


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--acks-late":
        os.environ["PEER_ACKS_LATE"] = "1"
        words.pop(0)
    words[:2] = [os.path.realpath(word) for word in words[:2]]
    os.environ["PYTHONPATH"] = str(ARMS)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        main(*words)
