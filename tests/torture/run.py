"""Kills the broker again and again under recording clients, and proves from the record that it kept its promises.

    cargo xtask torture [--cycles N] [--seed S] [--seconds-per-cycle S]

Exits with 0 when every promise held, 1 when one was broken, and 3 when the run was too weak to prove anything.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import servers  # noqa: E402
from campaign import Campaign, Failed  # noqa: E402

BROKEN, INVALID = 1, 3
CONFIRMS_WANTED = 500
SHOWN = 12


def main():
    options = read_options()
    replay = f"cargo xtask torture --seed {options.seed} --round {{}} --cycles {options.cycles}"
    print(f"torture: seed {options.seed}, {options.cycles} cycles of up to {options.seconds_per_cycle} s; again: "
          + replay.format(options.round), flush=True)  # fmt: skip
    campaign, start = Campaign(options), time.monotonic()
    good = False
    try:
        campaign.run()
        good = True
    except Failed as failure:
        tell(failure, campaign)
    finally:
        campaign.close(keep=not good)
    print(f"\n{campaign.totals}; {time.monotonic() - start:.0f} s")
    if not good:
        print(f"FAILED. The data directory is kept: {campaign.directory}. Replay the round: "
              + replay.format(campaign.prefix[1:]))  # fmt: skip
        sys.exit(BROKEN)
    if weak := weakness(campaign.totals):
        print(f"INVALID: {weak}; such a run proves nothing. Seed {options.seed}")
        sys.exit(INVALID)
    print("every promise held")


def read_options():
    parser = argparse.ArgumentParser(description="Kills the broker under load and checks what it promised.")
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--round", type=int, default=0, help="the first round's number, to replay a later one")
    parser.add_argument("--seconds-per-cycle", type=float, default=3.0, metavar="S", help="the latest kill")
    parser.add_argument("--ack-window", type=float, default=0.2, metavar="S",
                        help="how old an acknowledgement must be to hold through a kill")  # fmt: skip
    parser.add_argument("--config", default="", help="text of the broker's configuration")
    parser.add_argument("--rabbitmq", action="store_true", help="an installed RabbitMQ instead, to judge the judge")
    options = parser.parse_args()
    options.binary = os.environ.get("FERRYMQ_BIN") or (options.rabbitmq or sys.exit("set FERRYMQ_BIN to a ferrymq binary"))
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
