"""Runs rounds of cycles: start the broker on the same data, let clients work, bring it down; then drain and judge.

A round is a handful of cycles with one history, which its drain closes; the data directory goes through all rounds.

Invariant: everything random comes from the campaign's seed, the round and the cycle, and the broker is ended through
the handle that started it.
"""

import random
import shutil
import tempfile
import time
from pathlib import Path

import clients
import links
import servers
import topology
from check import Checker
from clients.base import Load, Numbers, Shared
from definitions import Definitions
from drain import drain
from history import History

JOIN_SECONDS = 60
DECLARERS = ("wire", "pika")


class Failed(Exception):
    """A round with violations."""

    def __init__(self, history, violations):
        super().__init__(f"{len(violations)} violations")
        self.history, self.violations = history, violations


class Totals:
    """What a campaign has done so far."""

    def __init__(self):
        self.cycles = self.kills = self.early_kills = self.stops = self.deliveries = self.comebacks = 0
        self.confirmed, self.starts, self.oldest_comeback, self.disk = [], [], 0.0, []
        self.slowest_stop, self.ignored = 0.0, {}

    def __str__(self):
        starts = sorted(self.starts) or [0]
        return (
            f"{self.cycles} cycles: {self.kills} kills, {self.early_kills} more during recovery, {self.stops} clean "
            f"stops; {sum(self.confirmed)} confirms (median {self.median()} a cycle), {self.deliveries} deliveries; "
            f"{self.comebacks} settled messages came back, the oldest answered for {self.oldest_comeback * 1000:.0f} "
            f"ms before the kill; recovery took {starts[len(starts) // 2]:.0f} ms at the median, {starts[-1]:.0f} ms "
            f"at most; clean stops took {self.slowest_stop:.1f} s at most; drained data directory: "
            f"{max(self.disk, default=0) / 1024:.0f} KiB at most"
        )

    def median(self):
        return sorted(self.confirmed)[len(self.confirmed) // 2] if self.confirmed else 0


# How much of long queues stays in the broker's memory: nothing, little, or what it keeps by itself.
CACHES = ["0 B", "64 KiB", None]


class Campaign:
    """The broker, its data and the sums."""

    def __init__(self, options):
        self.options, self.totals, self.broker, self.epoch = options, Totals(), None, 0
        self.number, self.cache = options.round, None
        self.directory = Path(tempfile.mkdtemp(prefix="ferrymq-torture-"))

    # --- rounds ------------------------------------------------------------------------------------

    def run(self):
        number = self.options.round
        while self.totals.cycles < self.options.cycles:
            self.round(number)
            number += 1

    def begin_round(self, number):
        """A fresh history; the broker's data stay."""
        self.number = number
        self.random = random.Random(f"{self.options.seed} {number}")
        self.history, self.checker = History(), Checker(self.options.ack_window, ignored=self.options.ignore)
        self.numbers, self.prefix = Numbers(), f"r{number}"
        self.definitions = {kind: Definitions() for kind in DECLARERS}

    def round(self, number):
        self.begin_round(number)
        length = min(self.random.randint(6, 14), self.options.cycles - self.totals.cycles)
        print(f"round {number}: {length} cycles", flush=True)
        for cycle in range(length):
            self.cycle(first=cycle == 0)
        drain(self)
        self.totals.deliveries += self.checker.copies.deliveries
        for invariant, count in self.checker.ignored.items():
            self.totals.ignored[invariant] = self.totals.ignored.get(invariant, 0) + count
        self.totals.comebacks += self.checker.copies.comebacks
        self.totals.oldest_comeback = max(self.totals.oldest_comeback, self.checker.copies.oldest_comeback)

    def judge(self):
        """Stops the round at the first violation, while its traces are fresh."""
        self.checker.feed(self.history)
        if self.checker.violations:
            raise Failed(self.history, self.checker.violations)

    # --- one cycle ---------------------------------------------------------------------------------

    def cycle(self, first):
        dice = self.random.random()
        early_kills = self.random.choice([1, 1, 2, 3]) if dice < 0.2 and not first else 0
        how = "term" if self.random.random() < 0.18 else "kill"
        delay = self.random.uniform(0.02, self.options.seconds_per_cycle)
        finish_first = how == "term" and self.random.random() < 0.5
        crew_numbers = random.Random(self.random.random())
        self.cache = self.random.choice(CACHES)
        for _ in range(early_kills):
            self.start_and_kill(self.random.uniform(0, 0.05))
        took = self.start()
        shared = self.look_around(first)
        crew = self.crew(shared, crew_numbers)
        for client in crew:
            client.start()
        if not self.broker_survives(delay):
            self.history.add("trouble", "the broker ended by itself:\n" + "\n".join(self.last_words()[-20:]))
        if finish_first:
            shared.stop.set()
            self.join(crew)
        self.bring_down(how)
        self.join(crew)
        before = self.checker.confirms.confirmed
        self.judge()
        self.count_cycle(how, early_kills, took, self.checker.confirms.confirmed - before)
        print(f"  {self.totals.cycles:4} {how} after {delay * 1000:4.0f} ms, {len(crew)} clients: "
              f"{self.totals.confirmed[-1]:5} confirms; ready in {took:.0f} ms; cache {self.cache or 'as usual'}"
              + (f" after {early_kills} kills on the way" if early_kills else ""), flush=True)  # fmt: skip

    def count_cycle(self, how, early_kills, took, confirmed):
        totals = self.totals
        totals.cycles += 1
        totals.kills += how == "kill"
        totals.stops += how == "term"
        totals.early_kills += early_kills
        totals.starts.append(took)
        totals.confirmed.append(confirmed)

    def look_around(self, first):
        """Before the clients come: what is there. On a round's first start the topology is declared."""
        link = links.connect("wire", self.broker.address)
        if first:
            topology.define(link, self.history)
        for queue, ready in topology.verify(link, self.history).items():
            if not first:
                self.history.add("count", queue, ready)
        link.close()
        self.judge()
        return Shared(self.history, Load(), self.broker.address, self.epoch)

    def crew(self, shared, numbers):
        """Four to eight clients: publishers always, half of all on pika."""
        kinds = ["wire", "pika"]
        numbers.shuffle(kinds)

        def make(role, name, kind=None, **rest):
            kind = kind or kinds[len(crew) % 2]
            return role(name, shared, kind, random.Random(f"{numbers.random()}"), self.numbers, **rest)

        crew = []
        for number in range(numbers.choice([2, 2, 3])):
            crew.append(make(clients.Publisher, f"publisher{number}"))
        contested = numbers.sample(topology.CONTESTED, numbers.randint(2, len(topology.CONTESTED)))
        kind = numbers.choice(DECLARERS)
        others = [
            lambda: make(clients.Consumer, "wild1", queues=contested, manner="wild"),
            lambda: make(clients.Consumer, "wild2", queues=contested[:2], manner="wild"),
            lambda: make(clients.Consumer, "strict1", queues=topology.STRICT, manner="strict"),
            lambda: make(clients.Consumer, "one1", queues=["t.one"], manner="one"),
            lambda: make(clients.Consumer, "noack1", queues=["t.noack"], manner="no-ack"),
            lambda: make(clients.Getter, "getter1"),
            lambda: make(clients.Volatile, "volatile1"),
            lambda: make(clients.Declarer, f"declarer-{kind}", kind, definitions=self.definitions[kind],
                         prefix=f"{self.prefix}.{kind}"),
        ]  # fmt: skip
        if not self.options.rabbitmq:
            # RabbitMQ does not promise that a transaction survives whole.
            others.append(lambda: make(clients.Forwarder, "forwarder1"))
            others.append(lambda: make(clients.Transactor, "transactor1"))
        for role in numbers.sample(others, numbers.randint(2, 5)):
            crew.append(role())
        return crew

    def join(self, crew):
        deadline = time.monotonic() + JOIN_SECONDS
        for client in crew:
            client.join(max(0.0, deadline - time.monotonic()))
            if client.is_alive():
                self.history.add("trouble", f"{client.name} on {client.kind} did not end")

    # --- the broker --------------------------------------------------------------------------------

    def spawn(self):
        self.epoch += 1
        self.history.epoch(self.epoch)
        if self.broker is None:
            self.broker = self.make_broker()
        if not self.options.rabbitmq:
            self.broker.config_path.write_text(self.config())
        self.broker.spawn()

    def config(self):
        """The broker's configuration in this cycle. Whoever gives a `[storage]` of their own decides about the cache."""
        if self.cache is None or "[storage]" in self.options.config:
            return self.options.config
        return f'{self.options.config}\n[storage]\nmessage_cache = "{self.cache}"\n'

    def make_broker(self):
        if self.options.rabbitmq:
            broker = servers.Rabbitmq.__new__(servers.Rabbitmq)
            broker.prepare(self.directory)
        else:
            broker = servers.Ferrymq.__new__(servers.Ferrymq)
            broker.prepare(self.options.binary, self.options.config, self.directory)
        return broker

    def start(self):
        """Starts the broker and waits until it is ready; milliseconds."""
        start = time.monotonic()
        self.spawn()
        try:
            self.broker.wait_until_ready()
        except RuntimeError as error:
            self.history.add("trouble", f"the broker does not start: {error}")
            self.judge()
        return (time.monotonic() - start) * 1000

    def start_and_kill(self, delay):
        self.spawn()
        time.sleep(delay)
        self.bring_down("kill")

    def last_words(self):
        """What this process of the broker has said so far."""
        return [] if self.options.rabbitmq or self.broker is None else self.broker.output.lines

    def broker_survives(self, seconds):
        try:
            self.broker.process.wait(seconds)
            return False
        except servers.subprocess.TimeoutExpired:
            return True

    def bring_down(self, how):
        self.history.fault(how)
        start = time.monotonic()
        if how == "kill":
            self.broker.kill()
        else:
            try:
                code = self.broker.stop_process()
            except servers.subprocess.TimeoutExpired:
                code = "a kill, because it took too long"
            self.totals.slowest_stop = max(self.totals.slowest_stop, time.monotonic() - start)
            if code != 0:
                self.history.add("trouble", f"the broker's clean stop ended with {code}")
        for line in self.last_words():
            if "panicked" in line:
                self.history.add("trouble", f"a panic: {line}")

    def close(self, keep):
        """Ends the broker; removes its data unless it is wanted."""
        if self.broker is not None and self.broker.alive():
            self.broker.kill()
        if self.broker is not None and self.options.rabbitmq:
            self.broker.epmd.terminate()
            self.broker.epmd.wait()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
