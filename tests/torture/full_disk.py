"""A disk that is full: a file system of 64 MiB for the broker's data.

Publishers must be blocked and told so, consumers must go on, and when they have made room the publishers go on by
themselves. Nothing confirmed is lost, neither then nor by a kill in the worst moment.

Invariant: the file system is mounted under a temporary directory and unmounted whatever happens.
"""

import random
import subprocess
import threading
import time
import zlib

import links
from clients.publisher import Publisher
from drain import Drainer, drain, size_of
from history import Message, digest_of

MIB = 1024 * 1024
PATIENCE = 60
# Seconds without a confirm after which nothing moves.
STUCK = 5
QUEUE = "t.solo"
# Messages of one publisher after which a disk that takes them all cannot be a small one.
ENOUGH = 2500


class CannotMount(Exception):
    """This user or this machine cannot mount a file system."""


class Filler(Publisher):
    """Publishes large persistent messages to one queue, blocked or not, and notes what it is told."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.open_tags, self.blocked = set(), threading.Event()
        self.blocks = self.unblocks = 0
        self.body = random.Random(self.name).randbytes(60_000)

    def prepare(self):
        super().prepare()
        self.limit = 40

    def publish_one(self):
        id = self.numbers.id(self.name)
        properties = {"message_id": id, "delivery_mode": 2,
                      "headers": {"crc": zlib.crc32(self.body), "length": len(self.body)}}  # fmt: skip
        message = Message(id, "solo", "", QUEUE, True, False, [QUEUE], digest=digest_of(properties, self.body))
        self.history.add("publish", self.channel, message)
        self.link.publish("", QUEUE, self.body, properties, False)
        self.published += 1
        self.open_tags.add(self.published)

    def work(self):
        if len(self.open_tags) < self.limit and not self.blocked.is_set() and self.published < ENOUGH:
            self.publish_one()
        full = len(self.open_tags) >= self.limit or self.blocked.is_set() or self.published >= ENOUGH
        self.take(self.link.poll(0.05 if full else 0))

    def take(self, events):
        for event in events:
            if isinstance(event, links.Blocked):
                (self.blocked.set if event.now else self.blocked.clear)()
                self.blocks += event.now
                self.unblocks += not event.now
        super().take(events)


def run(campaign):
    """Fills and empties the disk as often as there are cycles; every second time it is killed while full."""
    mount = campaign.directory
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", mount], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise CannotMount(str(error)) from error
    try:
        campaign.begin_round(campaign.options.round)
        for trial in range(campaign.options.cycles):
            one_trial(campaign, first=trial == 0, kill_when_full=trial % 2 == 1)
        drain(campaign)
    finally:
        if campaign.broker is not None and campaign.broker.alive():
            campaign.broker.kill()
        subprocess.run(["umount", mount], check=True)


def one_trial(campaign, first, kill_when_full):
    campaign.start()
    shared = campaign.look_around(first)
    fillers = [Filler(f"filler{n}", shared, kind, random.Random(n), campaign.numbers)
               for n, kind in enumerate(["wire", "pika", "wire"])]  # fmt: skip
    for filler in fillers:
        filler.start()
    fill(campaign, fillers)
    if kill_when_full:
        campaign.bring_down("kill")
        campaign.join(fillers)
        campaign.judge()
        campaign.start()
        make_room(campaign, campaign.look_around(False))
    else:
        unblocks, before = [filler.unblocks for filler in fillers], confirmed(campaign)
        make_room(campaign, shared)
        go_on(campaign, fillers, unblocks, before)
        shared.stop.set()
        # They may have filled it again by this time, and a publisher that is blocked is not read, its farewell neither.
        make_room(campaign, shared)
        campaign.join(fillers)
    campaign.bring_down("kill")
    campaign.judge()
    campaign.totals.cycles += 1
    campaign.totals.kills += 1


def fill(campaign, fillers):
    """Returns when all publishers are told that the disk is full, or when nothing moves any more."""
    last = [0, time.monotonic()]

    def stuck():
        if confirmed(campaign) > last[0]:
            last[:] = confirmed(campaign), time.monotonic()
        return time.monotonic() - last[1] > STUCK

    wait_for(lambda: all(filler.blocked.is_set() for filler in fillers) or stuck())
    told = sum(filler.blocked.is_set() for filler in fillers)
    size = size_of(campaign.directory / "data") / MIB
    print(f"  full: {size:.0f} MiB on disk, {last[0]} messages confirmed, {told} publishers told", flush=True)
    if told < len(fillers):
        campaign.history.add("broken", "I15", f"{told} of {len(fillers)} publishers are told connection.blocked on a "
                                              f"disk that is full")  # fmt: skip
    campaign.judge()


def go_on(campaign, fillers, unblocks, before):
    """After consumers have made room: publishers are told and served, both more often than before it."""
    if not wait_for(lambda: all(filler.unblocks > told for filler, told in zip(fillers, unblocks))):
        campaign.history.add("broken", "I15", f"publishers stay blocked for {PATIENCE} s after consumers made room")
    if not wait_for(lambda: confirmed(campaign) > before + 10):
        campaign.history.add("broken", "I15", f"no confirms for {PATIENCE} s after consumers made room")
    campaign.judge()


def confirmed(campaign):
    campaign.judge()
    return campaign.checker.confirms.confirmed


def make_room(campaign, shared):
    drainer = Drainer("drainer", shared, "wire", random.Random(0), campaign.numbers)
    drainer.open()
    drainer.take_some(QUEUE, 600)
    drainer.close()


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
