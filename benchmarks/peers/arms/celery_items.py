"""The Celery application of celery_arm.py, for its worker and its client. Redis listens on a socket in
their working directory: the path of a trial's own may be longer than a socket's address can be."""

import os

import celery

import items

SOCKET = "redis.sock"
LATE = os.environ.get("PEER_ACKS_LATE") == "1"
url = f"redis+socket:///proc/self/cwd/{SOCKET}"
app = celery.Celery("peers", broker=url, backend=url)
app.conf.update(
    task_acks_late=LATE,
    task_reject_on_worker_lost=LATE,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # By default a client that ends after Redis looks for it for 20 s.
    result_backend_transport_options={"retry_policy": {"max_retries": 1}},
)


@app.task
def process(source, out):
    items.process(source, out)
