"""Runs a program with all it starts for a bounded time.

Invariant: when it is over, in whichever way, nothing of the program is left.
"""

import contextlib
import os
import signal
import subprocess

from judging import Broken


def run_bounded(command, seconds, log, **options):
    """Writes what the program prints to `log`; `Broken`, with the last of that, when it takes too long."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True, **options)  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            # A suite runs one test at a time, so that the last lines name the one that hangs.
            last = "\n".join(log.read_text(errors="replace").splitlines()[-3:])
            raise Broken(f"ended after {seconds} s; see {log}:\n{last}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
