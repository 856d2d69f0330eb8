"""Celery as its users run it, against a broker with its default configuration: results, retries, tasks for later,
priorities, and tasks whose worker dies.

Invariant: workers are ended by the process that started them, with all their children.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("celery", reason="Celery is not installed")

import servers  # noqa: E402

SUPPORT = Path(servers.__file__).parent


class Worker:
    """A Celery worker, ready to work."""

    def __init__(self, environment):
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "1", "-l", "INFO"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", cwd=SUPPORT, env=environment, start_new_session=True,
        )  # fmt: skip
        self.output = servers.Output(self.process.stdout)
        self.output.wait_for(" ready.", seconds=60)

    def kill(self):
        """Kills it and its children, as the end of a machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Lets it end its tasks."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def celery(own_broker, monkeypatch):
    """The application, connected to a broker of its own, and a way to start workers."""
    broker = own_broker()
    monkeypatch.setenv("CELERY_BROKER", broker.url)
    monkeypatch.syspath_prepend(str(SUPPORT))
    sys.modules.pop("celery_app", None)
    import celery_app

    workers = []

    def start():
        workers.append(Worker({**os.environ, "CELERY_BROKER": broker.url}))
        return workers[-1]

    yield celery_app, start
    for worker in workers:
        worker.stop()
    celery_app.app.close()
    assert broker.alive()


def test_tasks_run_are_retried_and_wait_for_their_time(celery):
    tasks, start = celery
    start()
    results = [tasks.add.delay(number, 1) for number in range(50)]
    assert [result.get(timeout=30) for result in results] == [number + 1 for number in range(50)]
    assert tasks.flaky.delay(3).get(timeout=30) == 4
    earliest = time.time() + 1
    assert tasks.moment.apply_async(countdown=1).get(timeout=30) >= earliest


def test_urgent_tasks_go_first(celery, tmp_path):
    tasks, start = celery
    notes = tmp_path / "notes"
    # Nobody works yet, so that all of them wait at the same time.
    start().stop()
    for priority in (1, 9, 5, 9, 0, 10):
        tasks.note.apply_async((str(notes), str(priority)), priority=priority)
    last = tasks.add.apply_async((0, 0), priority=0)
    start()
    assert last.get(timeout=30) == 0
    assert notes.read_text().split() == ["10", "9", "9", "5", "1", "0"]


def test_a_task_outlives_its_worker(celery, tmp_path):
    tasks, start = celery
    mark = tmp_path / "mark"
    worker = start()
    result = tasks.stay.delay(str(mark))
    worker.output.wait_for("celery_app.stay", seconds=30)
    limit = time.monotonic() + 30
    while not mark.exists():
        assert time.monotonic() < limit, "the task has not begun"
        time.sleep(0.01)
    worker.kill()
    start()
    assert result.get(timeout=60) == "again"
