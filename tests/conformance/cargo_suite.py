"""Runs the integration tests inside a published crate, in a copy with its own lock file and target."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import forward
from bounded import run_bounded
from judging import Broken, Skipped

HERE = Path(__file__).resolve().parent
RUNNING = re.compile(r"^\s*Running (?:unittests )?(\S+?)(?:\.rs)? \(")
RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (?:.*?)(ok|FAILED|ignored)")


def run(suite, server, work):
    if not shutil.which("cargo"):
        raise Skipped("no cargo on this machine")
    source = copy(suite, work)
    command = ["cargo", "test", "--locked", "--no-fail-fast", *suite.arguments, "--", "--test-threads=1"]
    variables = {"AMQP_ADDR": server.url, "CARGO_TARGET_DIR": str(work / "cargo"), "RUST_BACKTRACE": "0"}
    log = work / f"{suite.name}.log"
    with forward.fixed_port(suite, server):
        run_bounded(command, suite.seconds, log, cwd=source, env={**os.environ, **variables})
    results = read(log.read_text())
    if not results:
        raise Broken(f"no test ran; see {log}:\n{log.read_text()[-3000:]}")
    return results


def copy(suite, work):
    """The crate's source out of cargo's cache, filled by fetching a manifest that names exactly this version."""
    folder = work / f"{suite.package}-{suite.version}"
    if folder.exists():
        return folder
    subprocess.run(["cargo", "fetch", "--quiet", "--locked", "--manifest-path", HERE / "crates" / "Cargo.toml"],
                   check=True)  # fmt: skip
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for found in home.glob(f"registry/src/*/{folder.name}"):
        shutil.copytree(found, folder)
        with open(folder / "Cargo.toml", "a") as manifest:
            manifest.write("\n[workspace]\n")  # the copy lies inside our own workspace's folder
        return folder
    raise Broken(f"{folder.name} is not in cargo's cache after fetching it")


def read(text):
    """test -> outcome; names are `file::test`."""
    results, file = {}, ""
    for line in text.splitlines():
        if match := RUNNING.match(line):
            file = match.group(1).removeprefix("tests/")
        elif match := RESULT.match(line):
            outcome = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[match.group(2)]
            results[f"{file}::{match.group(1)}"] = outcome
    return results
