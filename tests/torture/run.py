"""Kills the broker again and again under recording clients, and proves from the record that it kept its promises.

    cargo xtask torture [--cycles N] [--seed S] [--seconds-per-cycle S] [--bad-disk | --full-disk]

Exits with 0 when every promise held, 1 when one was broken, and 3 when the run was too weak to prove anything.
"""

import argparse
import os
import random
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import bad_disk  # noqa: E402
import full_disk  # noqa: E402
import links  # noqa: E402
import servers  # noqa: E402
from campaign import Campaign, Failed  # noqa: E402

BROKEN, INVALID = 1, 3
CONFIRMS_WANTED = 500
SHOWN = 12
# Cycles when none are asked for.
USUAL = {"kills": 50, "bad disk": 12, "full disk": 2}


def main():
    options = read_options()
    print(f"torture by {options.mode}: seed {options.seed}; again: {again(options, options.round)}", flush=True)
    start = time.monotonic()
    campaign, weak = Campaign(options), None
    try:
        weak = supervise(campaign)
    except Failed as failure:
        tell(failure, campaign)
        campaign.close(keep=True)
        print(f"\n{campaign.totals}; {time.monotonic() - start:.0f} s")
        kept = "" if options.mode == "full disk" else f" The data directory is kept: {campaign.directory}."
        print(f"FAILED.{kept} Replay the round: "
              + again(options, campaign.number))  # fmt: skip
        sys.exit(BROKEN)
    except (bad_disk.NoCompiler, full_disk.CannotMount) as reason:
        weak = str(reason)
    finally:
        campaign.close(keep=sys.exc_info()[0] is not None)
    print(f"\n{campaign.totals}; {time.monotonic() - start:.0f} s")
    if weak:
        print(f"INVALID: {weak}; such a run proves nothing. Seed {options.seed}")
        sys.exit(INVALID)
    print("every promise held")


def supervise(campaign):
    """The chosen mode; whatever the broker does to this program itself is a violation like any other."""
    try:
        weak = MODES[campaign.options.mode](campaign)
        ignored = {**campaign.checker.ignored, **campaign.totals.ignored}
        return f"ignored violations: {ignored}" if any(ignored.values()) else weak
    except (links.Gone, links.Refused, links.Silent) as end:
        where = "".join(traceback.format_tb(end.__traceback__)[-4:])
        campaign.history.add("trouble", f"the supervisor: {type(end).__name__}: {end}\n{where}")
        campaign.judge()
        raise


def by_kills(campaign):
    campaign.run()
    return weakness(campaign.totals)


MODES = {"kills": by_kills, "bad disk": bad_disk.run, "full disk": full_disk.run}


def again(options, round):
    words = f"--seed {options.seed} --round {round} --cycles {options.cycles}"
    words += f" --seconds-per-cycle {options.seconds_per_cycle:g}"
    return f"cargo xtask torture {words}" + ("" if options.mode == "kills" else f" --{options.mode.replace(' ', '-')}")


def read_options():
    parser = argparse.ArgumentParser(description="Kills the broker under load and checks what it promised.")
    parser.add_argument("--cycles", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--round", type=int, default=0, help="the first round's number, to replay a later one")
    parser.add_argument("--seconds-per-cycle", type=float, default=3.0, metavar="S", help="the latest kill")
    parser.add_argument("--ack-window", type=float, default=0.2, metavar="S",
                        help="how old an acknowledgement must be to hold through a kill")  # fmt: skip
    parser.add_argument("--config", default="", help="text of the broker's configuration")
    parser.add_argument("--bad-disk", dest="mode", action="store_const", const="bad disk", default="kills",
                        help="writes and syncs of the log fail")  # fmt: skip
    parser.add_argument("--full-disk", dest="mode", action="store_const", const="full disk",
                        help="64 MiB for the data; needs the right to mount")  # fmt: skip
    parser.add_argument("--ignore", action="append", default=[], metavar="I7",
                        help="count violations of this invariant and go on; such a run never succeeds")  # fmt: skip
    parser.add_argument("--rabbitmq", action="store_true", help="an installed RabbitMQ instead, to judge the judge")
    options = parser.parse_args()
    options.cycles = options.cycles or USUAL[options.mode]
    options.binary = os.environ.get("FERRYMQ_BIN")
    if not options.binary and not options.rabbitmq:
        sys.exit("set FERRYMQ_BIN to a ferrymq binary")
    return options


def tell(failure, campaign):
    """The violations, each with what the history says about it."""
    violations = failure.violations
    print(f"\n{len(violations)} violations:")
    for violation in violations[:SHOWN]:
        print(f"  {violation}")
    if len(violations) > SHOWN:
        print(f"  and {len(violations) - SHOWN} more")
    counts = {}
    for violation in violations:
        counts[violation.invariant] = counts.get(violation.invariant, 0) + 1
    print(f"  by invariant: {counts}")
    told = set()
    for violation in violations:
        if violation.invariant not in told and violation.about:
            told.add(violation.invariant)
            print(f"\nWhat the history says about {violation.about[0]}:")
            print("\n".join(f"  {line}" for line in failure.history.about(violation.about[0])))
    print("\nThe broker's last words:")
    print("\n".join(f"  {line}" for line in campaign.last_words()[-15:]))


def weakness(totals):
    """Why a run without violations proves too little, or nothing."""
    if totals.median() < CONFIRMS_WANTED:
        return f"the median cycle had {totals.median()} confirms, and {CONFIRMS_WANTED} are wanted"
    if totals.kills * 2 < totals.cycles:
        return f"only {totals.kills} of {totals.cycles} cycles ended with a kill"
    return None


if __name__ == "__main__":
    servers.end_cleanly_when_terminated()
    main()
