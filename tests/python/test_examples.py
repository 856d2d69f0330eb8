"""Runs every program of `examples/` against the broker and checks what it prints.

Invariant: no program of `examples/` goes without a test, and each has a bounded time. Where Node or the
crates of the Rust examples are missing their tests are skipped with the reason; an example that does not
compile fails.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Output, free_port

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TARGET = Path(os.environ.get("FERRYMQ_TARGET", ROOT / "target"))
SECONDS = 30
BUILD_SECONDS = 1800

# The first test of a language builds its examples; each program has a bound of its own.
pytestmark = pytest.mark.timeout(BUILD_SECONDS)

TOPIC_OUTPUT = """\
everything (#):
  kernel.info: up and running
  kernel.error: out of memory
  disk.warning: 90 % full
  disk.error: no space left
  kernel: a key of one word
errors (*.error):
  kernel.error: out of memory
  disk.error: no space left
kernel (kernel.#):
  kernel.info: up and running
  kernel.error: out of memory
  kernel: a key of one word
operator (*.error, disk.*):
  kernel.error: out of memory
  disk.warning: 90 % full
  disk.error: no space left
"""

HEADERS_OUTPUT = """\
german invoices:
  invoice 1
invoices or urgent:
  invoice 1
  invoice 2
  letter 4
"""


class Language:
    """How to run one language's examples: `command("producer")` is an argument vector."""

    def __init__(self, name, command, programs):
        self.name, self.command, self.programs = name, command, programs


def python():
    return Language("python", lambda program: [sys.executable, str(EXAMPLES / "python" / f"{program}.py")],
                    {path.stem for path in (EXAMPLES / "python").glob("*.py")})  # fmt: skip


def rust():
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if not cargo:
        pytest.skip("NOT TESTED: the Rust examples, because there is no cargo on this machine")
    manifest = ["--locked", "--manifest-path", str(EXAMPLES / "rust" / "Cargo.toml")]
    fetched = finished([cargo, "fetch", *manifest], BUILD_SECONDS)
    if fetched.returncode != 0:
        pytest.skip(f"NOT TESTED: the Rust examples, because their crates cannot be had: {fetched.stderr[-500:]}")
    target = TARGET / "examples"
    built = finished([cargo, "build", "--bins", *manifest, "--target-dir", str(target)], BUILD_SECONDS)
    assert built.returncode == 0, built.stderr
    return Language("rust", lambda program: [str(target / "debug" / program)],
                    {path.stem for path in (EXAMPLES / "rust" / "src" / "bin").glob("*.rs")})  # fmt: skip


def node():
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        pytest.skip("NOT TESTED: the Node examples, because there is no node or npm on this machine")
    source, folder = EXAMPLES / "node", TARGET / "node-examples"
    folder.mkdir(parents=True, exist_ok=True)
    lock = "package-lock.json"
    stale = not (folder / lock).exists() or (folder / lock).read_text() != (source / lock).read_text()
    for path in [*source.glob("*.js"), source / "package.json", source / lock]:
        shutil.copy(path, folder)
    if stale or not (folder / "node_modules").exists():
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        installed = finished([npm, "ci", *options], BUILD_SECONDS, cwd=folder)
        if installed.returncode != 0:
            (folder / lock).unlink()
            reason = installed.stderr[-500:]
            pytest.skip(f"NOT TESTED: the Node examples, because their packages cannot be had: {reason}")
    return Language("node", lambda program: [node, str(folder / f"{program}.js")],
                    {path.stem for path in source.glob("*.js")})  # fmt: skip


LANGUAGES = {"python": python, "rust": rust, "node": node}
_prepared = {}


def prepared(name):
    """A language, prepared once; a reason to skip is remembered as well."""
    if name not in _prepared:
        try:
            _prepared[name] = LANGUAGES[name]()
        except pytest.skip.Exception as skipped:
            _prepared[name] = skipped
    if isinstance(_prepared[name], pytest.skip.Exception):
        raise _prepared[name]
    return _prepared[name]


@pytest.fixture
def language(request):
    return prepared(request.param)


def in_languages(*names):
    return pytest.mark.parametrize("language", names, indirect=True)


def finished(command, seconds=SECONDS, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds, **options)  # fmt: skip


@pytest.fixture
def run(broker):
    """Runs an example to its end; its output, after a check of its exit code."""

    def run_to_end(language, program, *arguments, code=0):
        environment = {**os.environ, "AMQP_URL": broker.url}
        result = finished([*language.command(program), *arguments], env=environment)
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout if code == 0 else result.stdout + result.stderr

    return run_to_end


class Running:
    """An example that runs until it is told to stop."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=environment)  # fmt: skip
        self.output = Output(self.process.stdout)

    def wait_for(self, text):
        return self.output.wait_for(text, SECONDS)

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@pytest.fixture
def start(broker):
    started = []

    def start_running(language, program, *arguments):
        environment = {**os.environ, "AMQP_URL": broker.url}
        started.append(Running([*language.command(program), *arguments], environment))
        return started[-1]

    yield start_running
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


@pytest.fixture(autouse=True)
def nothing_left(channel):
    yield
    channel.queue_delete("examples.tasks")
    channel.queue_delete("examples.rpc")
    channel.exchange_delete("examples.logs")
    channel.exchange_delete("examples.documents")


def messages_left(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


WORKERS = {"python": "worker", "rust": "worker", "node": "consumer"}


@in_languages("python", "rust", "node")
@pytest.mark.parametrize("producing", ["python", "rust", "node"])
def test_every_worker_does_the_tasks_of_every_producer(language, producing, run, start, channel):
    worker = start(language, WORKERS[language.name], "3")
    worker.wait_for("waiting for tasks")
    produced = run(prepared(producing), "producer", "12")
    expected = [f"confirmed: task {number}" for number in range(1, 13)]
    assert produced.splitlines() == [*expected, "all 12 confirmed"]
    for number in range(1, 13):
        worker.wait_for(f"done: task {number}")
    assert worker.stop() == 0, worker.output.lines
    worker.wait_for("stopped")
    done = [line for line in worker.output.lines if line.startswith("done: ")]
    assert sorted(done) == sorted(f"done: task {number}" for number in range(1, 13))
    assert messages_left(channel, "examples.tasks") == 0


@in_languages("python", "rust", "node")
def test_worker_drops_what_cannot_be_done_and_goes_on(language, start, channel):
    worker = start(language, WORKERS[language.name])
    worker.wait_for("waiting for tasks")
    channel.basic_publish("", "examples.tasks", b"")
    worker.wait_for("an empty task")
    channel.basic_publish("", "examples.tasks", b"the next one")
    worker.wait_for("done: the next one")
    assert worker.stop() == 0
    assert messages_left(channel, "examples.tasks") == 0


@in_languages("python", "rust", "node")
def test_worker_stops_when_its_queue_is_deleted(language, start, channel):
    worker = start(language, WORKERS[language.name])
    worker.wait_for("waiting for tasks")
    channel.queue_delete("examples.tasks")
    worker.wait_for("stopped")
    assert worker.process.wait(SECONDS) == 0, worker.output.lines


@in_languages("python", "rust")
@pytest.mark.parametrize("asking", ["python", "rust"])
def test_every_rpc_client_is_answered_by_every_rpc_server(language, asking, run, start):
    server = start(language, "rpc_server")
    server.wait_for("waiting for requests")
    answers = run(prepared(asking), "rpc_client", "0", "10", "99", "x").splitlines()
    assert answers[:3] == ["fibonacci(0) = 0", "fibonacci(10) = 55", "fibonacci(99) = 218922995834555169026"]
    assert answers[3].startswith("fibonacci(x) = error: ") and answers[3].endswith("is not a number")
    assert server.stop() == 0
    server.wait_for("stopped")


def test_rpc_clients_say_that_no_server_is_running(run):
    assert "no server is running" in run(prepared("python"), "rpc_client", "5")


def test_rpc_client_in_rust_says_that_no_server_is_running(run):
    assert "no server is running" in run(prepared("rust"), "rpc_client", "5", code=1)


@in_languages("python", "rust")
def test_topic_logs(language, run):
    assert run(language, "topic_logs") == TOPIC_OUTPUT


@in_languages("python", "rust")
def test_headers_routing(language, run):
    assert run(language, "headers_routing") == HEADERS_OUTPUT


@in_languages("python", "rust", "node")
def test_worker_outlives_a_restart_of_the_broker(language, tmp_path):
    """The broker goes away under a worker and comes back at the same address with its definitions."""
    binary = os.environ.get("FERRYMQ_BIN")
    if not binary:
        pytest.skip("needs FERRYMQ_BIN: the test starts and stops the broker itself")
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "config.toml").touch()
    serve = [binary, "serve", "--config", str(tmp_path / "config.toml"), "--listen", address,
             "--data-dir", str(tmp_path / "data")]  # fmt: skip
    environment = {**os.environ, "AMQP_URL": f"amqp://guest:guest@{address}/%2f"}
    running = [Running(serve, environment)]
    try:
        running[0].wait_for("Server startup complete")
        worker = Running(language.command(WORKERS[language.name]), environment)
        running.append(worker)
        worker.wait_for("waiting for tasks")
        assert running[0].stop() == 0
        if language.name != "rust":
            worker.wait_for("connection lost")
        running.append(Running(serve, environment))
        running[-1].wait_for("Server startup complete")
        if language.name == "rust":  # lapin says only this
            worker.wait_for("connected again")
        produced = finished([*prepared("python").command("producer"), "2"], env=environment)
        assert produced.returncode == 0, produced.stdout + produced.stderr
        worker.wait_for("done: task 2")
        assert worker.stop() == 0, worker.output.lines
    finally:
        for one in running:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()


@in_languages("python", "rust", "node")
def test_no_example_goes_without_a_test(language):
    both = {"producer", WORKERS[language.name]}
    rest = {"rpc_server", "rpc_client", "topic_logs", "headers_routing"} if language.name != "node" else set()
    assert language.programs == both | rest


def test_lock_file_names_no_registry():
    assert '"resolved"' not in (EXAMPLES / "node" / "package-lock.json").read_text()
