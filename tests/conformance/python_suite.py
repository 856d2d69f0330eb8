"""Runs the tests inside a PyPI source distribution.

The suites of aiormq and aio-pika start RabbitMQ through the Docker API; `Containers` answers those calls and
leads them to the broker under test.
"""

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
import xml.etree.ElementTree as ElementTree

from pathlib import Path

from bounded import run_bounded
from judging import Broken

# For one test, its fixtures included.
TEST_SECONDS = 120
HERE = Path(__file__).resolve().parent


def run(suite, server, work):
    python = environment(work)
    source = fetch(suite, work)
    report = work / f"{suite.name}.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "published_suites", "--tb=short",
               f"--timeout={TEST_SECONDS}", f"--junitxml={report}"]
    command += suite.arguments + suite.paths
    containers = Containers(server.port)
    variables = {
        "RABBITMQ_HOST": server.host, "RABBITMQ_5672_TCP": str(server.port),
        "RABBITMQ_5671_TCP": str(containers.closed_port), "AMQP_URL": server.url,
        "DOCKER_HOST": f"tcp://127.0.0.1:{containers.port}", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(HERE / "fixtures"), "NOT_YET": str(HERE / "not_yet" / f"{suite.name}.txt"),
    }  # fmt: skip
    log = work / f"{suite.name}.log"
    try:
        run_bounded(command, suite.seconds, log, cwd=source, env={**os.environ, **variables})
    finally:
        containers.stop()
    if not report.exists():
        raise Broken(f"pytest left no report; see {log}:\n{log.read_text()[-2000:]}")
    return read(report)


def environment(work):
    """The virtual environment of the suites, made once per version of its requirements."""
    folder, requirements = work / "venv", HERE / "requirements.txt"
    python, stamp = folder / "bin" / "python", folder / ".made-from"
    wanted = sys.version + requirements.read_text()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r",
                    requirements], check=True)  # fmt: skip
    stamp.write_text(wanted)
    return python


def fetch(suite, work):
    """The unpacked source distribution."""
    folder = work / f"{suite.package.replace('-', '_')}-{suite.version}"
    if folder.exists():
        return folder
    downloads = work / "sdists"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-binary", suite.package, "--dest", downloads, f"{suite.package}=={suite.version}"]  # fmt: skip
    subprocess.run(command, check=True)
    [archive] = downloads.glob(f"{folder.name}.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    return folder


def read(report):
    """test -> outcome, from a JUnit report; names are `module.Class::test[parameters]`."""
    results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        name = f"{case.get('classname')}::{case.get('name')}"
        if results.get(name) != "failed":
            results[name] = outcome
    return results


class Containers:
    """As much of the Docker API as the suites use: every container is the broker under test."""

    def __init__(self, port):
        import servers

        self.closed_port = servers.free_port()  # where TLS would listen
        ports = {"5672/tcp": [{"HostPort": str(port)}], "5671/tcp": [{"HostPort": str(self.closed_port)}]}
        answers = {"POST /containers/create": {"Id": "broker"}}
        inspection = {"Id": "broker", "NetworkSettings": {"Ports": ports}}

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = answers.get(f"{self.command} {self.path}") if self.command == "POST" else inspection
                data = json.dumps(body).encode() if body else b""
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
