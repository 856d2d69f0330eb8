#!/usr/bin/env python3
"""Plays the same scripted AMQP sessions to FerryMQ and to RabbitMQ and compares what both say.

    FERRYMQ_BIN=target/debug/ferrymq tests/differential/run.py [--only NAME] [--show]

NAME is a session (`declare.inequivalent_durable`), a group (`declare`) or a part of either. `--show` prints
the transcripts. Differences that are meant to be there stand in differences.toml with their reason and kind:
`version` (RabbitMQ itself changed after the installed release), `choice` (FerryMQ's own, in
docs/compatibility.md) or `missing` (not implemented yet, also there).

Invariant: a difference that is not listed fails, and so does a listed one that is no longer seen.
"""

import argparse
import difflib
import importlib.util
import os
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "support"))

import harness  # noqa: E402
import servers  # noqa: E402

WORKERS = 8


def load_sessions():
    for path in sorted((HERE / "sessions").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"sessions_{path.stem}", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def load_differences():
    """session -> {reason, kind, rabbitmq, ferrymq}: the lines each broker has and the other has not."""
    listed = {}
    for entry in tomllib.loads((HERE / "differences.toml").read_text()).get("difference", []):
        missing = {"session", "kind", "reason", "rabbitmq", "ferrymq"} - set(entry)
        if missing or entry["kind"] not in ("version", "choice", "missing"):
            raise SystemExit(f"differences.toml: {entry.get('session')}: wrong kind, or missing {sorted(missing)}")
        if entry["session"] in listed:
            raise SystemExit(f"differences.toml: {entry['session']} is listed twice")
        listed[entry["session"]] = entry
    return listed


def compare(rabbitmq, ferrymq):
    """The lines only RabbitMQ's transcript has, and those only FerryMQ's has, in order."""
    only_rabbitmq, only_ferrymq = [], []
    matcher = difflib.SequenceMatcher(None, rabbitmq, ferrymq, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            only_rabbitmq += rabbitmq[a:b]
            only_ferrymq += ferrymq[c:d]
    return only_rabbitmq, only_ferrymq


def judge(name, transcripts, listed):
    """None when all is as expected, otherwise what to tell."""
    if not transcripts[0]:
        return f"{name}: the transcript is empty, so this session cannot show anything"
    rabbitmq, ferrymq = compare(*transcripts)
    entry = listed.get(name)
    if entry is None and not rabbitmq and not ferrymq:
        return None
    if entry and (rabbitmq, ferrymq) == (entry["rabbitmq"], entry["ferrymq"]):
        return None
    what = "differs from what differences.toml expects" if entry else "differs"
    if entry and not rabbitmq and not ferrymq:
        what = "shows no difference, although differences.toml lists one"
    told = [f"{name}: {what}"] + [f"  rabbitmq: {line}" for line in rabbitmq]
    return "\n".join(told + [f"  ferrymq:  {line}" for line in ferrymq])


def play(address, names):
    """name -> transcript. Sessions share nothing but the broker, so several run at a time."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(names, pool.map(lambda name: harness.run(address, name), names)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME")
    parser.add_argument("--show", action="store_true", help="print both transcripts of every session")
    options = parser.parse_args()
    load_sessions()
    listed = load_differences()
    names = sorted(name for name in harness.SESSIONS if options.only in name)
    if not names:
        raise SystemExit(f"no session's name contains {options.only!r}")
    if not servers.rabbitmq_script():
        print("SKIPPED: rabbitmq-server is not installed on this machine, so there is nothing to compare with.")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    binary = os.environ.get("FERRYMQ_BIN")
    if not binary:
        raise SystemExit("set FERRYMQ_BIN to a ferrymq binary")
    rabbitmq = servers.Rabbitmq()
    try:
        ferrymq = servers.Ferrymq(Path(binary).resolve())
        try:
            with ThreadPoolExecutor(2) as both:
                results = list(both.map(lambda server: play(server.address, names), (rabbitmq, ferrymq)))
            alive = ferrymq.alive()
        finally:
            ferrymq.stop()
    finally:
        rabbitmq.stop()
    return report(names, results, listed, alive, options)


def report(names, results, listed, alive, options):
    failures = []
    for name in names:
        transcripts = [result[name] for result in results]
        if options.show:
            print(f"--- {name}\n" + "\n".join(f"  {line}" for line in transcripts[0]))
        verdict = judge(name, transcripts, listed)
        if verdict:
            failures.append(verdict)
            print(verdict)
    if not options.only:
        for name in sorted(set(listed) - set(names)):
            failures.append(name)
            print(f"{name}: listed in differences.toml, but there is no such session")
    if not alive:
        failures.append("alive")
        print("FerryMQ's process ended during the run")
    print(f"{len(names) - min(len(failures), len(names))} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
