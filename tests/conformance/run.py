"""Runs the published test suites of AMQP clients against the broker and judges every test by name.

    cargo xtask conformance [--fast] [--suite NAME] [--rabbitmq]

A test that `not_yet/<suite>.txt` lists as `fail` must not pass, one that it does not list must: an unexpected
result of either kind fails the run (`judging.py` knows the lists). The suites run as they were published; only the
environment tells them where the broker is.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import cargo_suite  # noqa: E402
import judging  # noqa: E402
import python_suite  # noqa: E402
import servers  # noqa: E402
import skips  # noqa: E402
import tools  # noqa: E402
from suites import SUITES  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description="Published client suites against the broker.")
    parser.add_argument("--fast", action="store_true", help="only the suites that need minutes in all")
    parser.add_argument("--suite", action="append", default=[], metavar="NAME", help="only this suite")
    parser.add_argument("--rabbitmq", action="store_true", help="against an installed RabbitMQ")
    parser.add_argument("--target", default="target", type=Path, help="where to build and install")
    options = parser.parse_args()
    names = {suite.name for suite in SUITES}
    if unknown := set(options.suite) - names:
        sys.exit(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    if options.rabbitmq:
        os.environ["TEST_BROKER"] = "rabbitmq"
    chosen = [s for s in SUITES if (s.name in options.suite if options.suite else s.fast or not options.fast)]
    sys.exit(0 if all([run(suite, options) for suite in chosen]) else 1)


def run(suite, options):
    """One suite against a broker of its own; True when everything went as expected."""
    work = options.target.resolve() / "conformance"
    work.mkdir(parents=True, exist_ok=True)
    print(f"  {suite.name} {suite.version}".rstrip(), flush=True)
    start = time.monotonic()
    runner = {"python": python_suite.run, "cargo": cargo_suite.run, "tool": tools.run}[suite.kind]
    # The suites were written for RabbitMQ before 4.0, which took bodies of up to 128 MiB.
    server = servers.start_from_environment('[limits]\nmax_message_size = "128 MiB"\n')
    try:
        results = runner(suite, server, work)
    except judging.Skipped as reason:
        print(f"    SKIPPED {suite.name}: {reason}")
        skips.tell(f"{suite.name}: {reason}")
        return True
    except (subprocess.SubprocessError, judging.Broken) as error:
        print(f"    FAILED {suite.name}: {error}")
        return False
    finally:
        alive = server.alive()
        server.stop()
    good = judging.judge(suite.name, results, HERE / "not_yet" / f"{suite.name}.txt", strict=not options.rabbitmq)
    if not alive:
        print(f"    FAILED {suite.name}: the broker died")
    print(f"    {time.monotonic() - start:.0f} s")
    return good and alive


if __name__ == "__main__":
    servers.end_cleanly_when_terminated()
    main()
