"""The Celery application that `test_celery.py` runs: an ordinary one, as its documentation would write it."""

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("celery_app", broker=os.environ["CELERY_BROKER"], backend="rpc://")
app.conf.task_queue_max_priority = 10
app.conf.task_default_priority = 5
# The order of priorities shows only if a worker takes one task at a time.
app.conf.worker_prefetch_multiplier = 1


@app.task
def add(a, b):
    return a + b


@app.task(bind=True, max_retries=3)
def flaky(self, failures):
    """Fails so many times, then tells how often it was tried."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.1)
    return self.request.retries + 1


@app.task
def note(path, text):
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


@app.task(acks_late=True, reject_on_worker_lost=True)
def stay(path):
    """The first run never ends by itself; a later one tells that it was delivered again."""
    marks = Path(path)
    if marks.exists():
        return "again"
    marks.write_text("begun")
    time.sleep(3600)
    return "ended"


@app.task
def moment():
    return time.time()
