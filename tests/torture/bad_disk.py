"""A disk that fails under the broker: once or from then on, at the N-th write or sync of the message log.

After the failure nothing may be confirmed any more, the log must say what happened, and after a restart on a good
disk everything that was confirmed is there. A failed sync loses what it should have saved, as a kernel may.

Invariant: the shim that fails is compiled for the run and loaded into the broker only.
"""

import random
import subprocess
import time
from pathlib import Path

import clients
import links
import topology
from clients.base import Load, Shared
from drain import drain

SOURCE = Path(__file__).resolve().parent / "shim" / "bad_disk.c"
SAYS = "bad disk:"
# What was on its way when the disk failed may still be read by a client for so long.
GRACE = 0.5
KINDS = [(call, sticky) for call in ("sync", "write") for sticky in ("0", "1")]


class NoCompiler(Exception):
    """The shim cannot be built on this machine."""


def compile_shim(directory):
    library = directory / "bad_disk.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-pthread"], check=True)
    except FileNotFoundError as error:
        raise NoCompiler("no C compiler on this machine") from error
    return library


def run(campaign):
    """Trials on the same data until all cycles are done; why they prove too little, or None."""
    options = campaign.options
    library = compile_shim(campaign.directory)
    campaign.begin_round(options.round)
    numbers = random.Random(f"{options.seed} bad disk")
    ordinary_life(campaign, first=True)
    reached = 0
    for trial in range(options.cycles):
        call, sticky = KINDS[trial % len(KINDS)]
        at = int(10 ** numbers.uniform(0, 2.5))
        reached += one_trial(campaign, library, call, sticky, at)
        ordinary_life(campaign, first=False)
        campaign.totals.cycles += 1
    drain(campaign)
    return None if reached * 2 >= options.cycles else f"the disk failed in {reached} of {options.cycles} trials"


def ordinary_life(campaign, first):
    """A good disk for a while, then a kill: what is to be kept."""
    campaign.start()
    shared = campaign.look_around(first)
    crew = campaign.crew(shared, random.Random(campaign.random.random()))
    for client in crew:
        client.start()
    campaign.broker_survives(0.5)
    campaign.bring_down("kill")
    campaign.totals.kills += 1
    campaign.join(crew)
    campaign.judge()


def one_trial(campaign, library, call, sticky, at):
    """True when the disk failed during it."""
    history = campaign.history
    history.tolerant = True
    campaign.broker.environment = {
        "LD_PRELOAD": str(library), "BAD_DISK_PATH": ".log", "BAD_DISK_CALL": call, "BAD_DISK_AT": str(at),
        "BAD_DISK_STICKY": sticky,
    }  # fmt: skip
    crew = []
    campaign.spawn()
    try:
        campaign.broker.wait_until_ready()
        shared = Shared(history, Load(), campaign.broker.address, campaign.epoch)
        crew = [clients.Publisher(f"publisher{n}", shared, kind, random.Random(f"{campaign.random.random()}"),
                                  campaign.numbers) for n, kind in enumerate(["wire", "pika", "wire"])]  # fmt: skip
        for client in crew:
            client.start()
        failed_at = wait_for_failure(campaign)
        outcome = aftermath(campaign, crew, failed_at) if failed_at else "not reached"
    except RuntimeError:
        outcome = "refused to start"
    reached = any(SAYS in line for line in campaign.last_words())
    if reached:
        check_words(campaign)
    campaign.bring_down("kill")
    campaign.join(crew)
    history.tolerant, campaign.broker.environment = False, None
    often = "from then on" if sticky == "1" else "once"
    print(f"  {call} {at} fails {often}: {outcome}", flush=True)
    campaign.judge()
    return reached


def wait_for_failure(campaign):
    try:
        campaign.broker.output.wait_for(SAYS, 8)
    except RuntimeError:
        return None
    return time.monotonic()


def aftermath(campaign, crew, failed_at):
    """Whether anything is confirmed afterwards, and how clients and newcomers are received."""
    history = campaign.history
    for client in crew:
        client.join(10)
    ends = [f"{c.end.code}" if isinstance(c.end, links.Refused) else type(c.end).__name__ for c in crew]
    late = [event for event in history.events if event[1] == "confirm" and event[0] > failed_at + GRACE]
    if late:
        history.add("broken", "I13", f"{len(late)} confirms after the disk had failed, the last "
                                      f"{late[-1][0] - failed_at:.1f} s later")  # fmt: skip
    if any(client.is_alive() for client in crew):
        history.add("broken", "I13", "publishers are neither refused nor disconnected 10 s after the disk failed")
    return f"publishers end with {', '.join(ends)}; newcomers: {newcomer(campaign)}"


def newcomer(campaign):
    """A persistent publish on a new connection must not be confirmed."""
    if not campaign.broker_survives(0):
        return "the broker has stopped"
    try:
        link = links.connect("wire", campaign.broker.address)
        link.confirm_select()
        link.publish("", topology.QUEUES[0], b"late", {"message_id": "late-1", "delivery_mode": 2}, False)
        if link.poll(1):
            campaign.history.add("broken", "I13", "a newcomer's publish is confirmed after the disk has failed")
        return "not confirmed"
    except (links.Gone, links.Refused) as end:
        return f"{end}"


def check_words(campaign):
    lines = campaign.last_words()
    start = next(i for i, line in enumerate(lines) if SAYS in line)
    if not any("ERROR" in line or line.startswith("error") for line in lines[start:]):
        campaign.history.add("trouble", "the log says nothing of the failed disk")
