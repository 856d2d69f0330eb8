"""The life of every message in every queue: I1, I2, I3, I7, I10 and I11.

A copy is one message in one queue. It is secured when the broker has answered for it: its publish was confirmed,
its transaction committed, or a clean stop found it there. A secured copy is lost if nobody has taken it away by
the end of the final drain, where the attempt to take it away already counts.

What takes a copy away is a `Removal`. It is proven from the moment at which an answer shows that the broker has
worked on it. A proven removal holds through a clean stop; through a kill it holds if the proof is older than the
acknowledgement window, or if it promises durability by its answer (a transaction, a deletion).
"""

from .removals import Channel, Copy, Removal, Transaction

FAR = float("inf")


class Copies:
    """All copies of a run, by queue and id."""

    def __init__(self, report, ack_window):
        self.report, self.ack_window = report, ack_window
        self.messages, self.written, self.transaction_of = {}, {}, {}
        self.queues, self.channels = {}, {}
        self.epoch, self.index = 0, 0
        self.fault, self.recent, self.last_kill = None, [], -1
        self.returns, self.no_ack, self.deleting, self.attached, self.leaving = {}, {}, {}, {}, {}
        self.transactions = []
        self.deliveries, self.comebacks, self.oldest_comeback = 0, 0, 0.0

    # --- the broker's life -------------------------------------------------------------------------

    def on_fault(self, at, how):
        if self.fault is None:
            self.fault = (how, at)

    def on_epoch(self, _at, number):
        how, at = self.fault or ("none", 0.0)
        for removal in self.recent:
            removal.fault = removal.fault or (how, at)
        if how == "kill":
            self.last_kill = self.epoch
        for queue in [*self.attached, *self.leaving]:
            self.returns[queue] = self.index
        for queue, copies in self.queues.items():
            for copy in copies.values():
                copy.holder = None
                if how == "term" and copy.seen == self.epoch and copy.sure and copy.message.persistent:
                    copy.secured = True
        self.recent, self.fault, self.channels, self.attached, self.leaving = [], None, {}, {}, {}
        self.epoch = number

    # --- publishers --------------------------------------------------------------------------------

    def on_open(self, _at, channel, mode):
        self.channels[channel] = Channel(mode, Transaction() if mode == "tx" else None)

    def on_publish(self, _at, channel, message):
        self.index += 1
        self.messages[message.id] = message
        self.written[message.id] = (self.epoch, self.index)
        for queue in message.queues + message.maybe:
            copy = Copy(message, queue, sure=queue in message.queues)
            self.queues.setdefault(queue, {})[message.id] = copy
        state = self.channels[channel]
        if state.mode == "confirm":
            state.published += 1
            state.unconfirmed[state.published] = message
        elif state.mode == "tx":
            state.transaction.messages.append(message)
            self.transaction_of[message.id] = state.transaction

    def on_confirm(self, _at, channel, tag, multiple, ok):
        unconfirmed = self.channels[channel].unconfirmed
        for each in [t for t in unconfirmed if t <= tag] if multiple else [tag] if tag in unconfirmed else []:
            message = unconfirmed.pop(each)
            if ok:
                self._secure(message)

    def _secure(self, message):
        if message.persistent:
            for queue in message.queues:
                copy = self.queues[queue].get(message.id)
                if copy is not None:
                    copy.secured = True

    # --- consumers ---------------------------------------------------------------------------------

    def on_attach(self, _at, channel, queue, mode, _prefetch):
        self.channels[channel].attached[queue] = mode
        self.attached.setdefault(queue, set()).add(channel)
        if mode == "no-ack":
            self.no_ack.setdefault(queue, set()).add(self.epoch)

    def on_deliver(self, at, channel, tag, queue, id, redelivered, digest, exchange, key):
        self.deliveries += 1
        self.index += 1
        message = self.messages.get(id)
        if message is None:
            self.report("I3", f"{queue} delivered {id}, which nobody published", id, queue)
            return
        copy = self.queues.get(queue, {}).get(id)
        if copy is None:
            copy = self._volatile_copy(message, queue)
            if copy is None:
                return
        if digest != message.digest or (exchange, key) != (message.exchange, message.key):
            self.report("I3", f"{queue} delivered {message} altered: digest {digest:#x} instead of "
                              f"{message.digest:#x}, from {exchange!r}/{key!r}", id, queue)  # fmt: skip
        self._judge_transaction(message, queue)
        if copy.holder is not None:
            self.report("I11", f"{queue}: {id} came to {channel} while {copy.holder[0]} held it", id, queue)
        if copy.gone is not None:
            self._judge_comeback(copy)
        self._judge_redelivered(copy, redelivered)
        copy.deliveries += 1
        copy.seen = self.epoch
        state = self.channels[channel]
        if state.attached.get(queue) == "no-ack":
            self._remove(copy, Removal("no-ack", at, channel, self.epoch), state)
        else:
            copy.holder = (channel, tag)
            state.unacked[tag] = copy

    def _volatile_copy(self, message, queue):
        """A copy in a queue that ends with its connection or with the broker: `x.<epoch>.<client>.<lane>`."""
        parts = queue.split(".")
        if parts[0] != "x" or parts[3] != message.lane:
            self.report("I3", f"{queue} delivered {message}, which was not routed there", message.id, queue)
            return None
        if self.written[message.id][0] != int(parts[1]):
            self.report("I8", f"{queue}, which ends with the broker, delivered {message} of another epoch",
                        message.id, queue)  # fmt: skip
        copy = Copy(message, queue, sure=False)
        self.queues.setdefault(queue, {})[message.id] = copy
        return copy

    def _judge_transaction(self, message, queue):
        transaction = self.transaction_of.get(message.id)
        if transaction and transaction.state in ("open", "rolled back"):
            self.report("I10", f"{queue} delivered {message} of a transaction that is {transaction.state}",
                        message.id, queue)  # fmt: skip

    def _judge_comeback(self, copy):
        removal, copy.gone = copy.gone, None
        id, queue = copy.message.id, copy.queue
        if removal.transaction:
            removal.transaction.came_back.append(copy)
        what = f"{queue}: {id} came again after its {removal.how}"
        if removal.fault is None:
            if removal.proven is not None or not removal.may_be_cut:
                self.report("I2", f"{what} in the same life of the broker", id, queue)
            return
        self.comebacks += 1
        if removal.proven is None:
            return
        how, at = removal.fault
        age = at - removal.proven
        if how == "term":
            self.report("I2", f"{what} was answered for, through a clean stop", id, queue)
        elif removal.final:
            self.report("I2", f"{what} was answered for as durable, {age * 1000:.0f} ms before the kill", id, queue)
        elif age >= self.ack_window:
            self.report("I2", f"{what} was answered for {age * 1000:.0f} ms before the kill", id, queue)
        else:
            self.oldest_comeback = max(self.oldest_comeback, age)

    def _judge_redelivered(self, copy, redelivered):
        id, queue = copy.message.id, copy.queue
        epoch, index = self.written[id]
        if not redelivered and copy.deliveries:
            self.report("I7", f"{queue}: {id} came again without being marked as redelivered", id, queue)
        if redelivered and not copy.deliveries and self.last_kill < epoch and self.returns.get(queue, -1) < index:
            self.report("I7", f"{queue}: {id} is marked as redelivered, and nobody can have had it", id, queue)

    def on_settle(self, at, channel, tag, multiple, how):
        state = self.channels[channel]
        tags = [t for t in state.unacked if t <= tag] if multiple else [tag]
        for each in tags:
            copy = state.unacked.pop(each, None)
            if copy is None:
                raise ValueError(f"{channel} settles {each}, which it does not hold")
            if state.mode == "tx":
                state.transaction.settled.append((each, copy))
                continue
            copy.holder = None
            if how != "requeue":
                self._remove(copy, Removal(how, at, channel, self.epoch), state)

    def _remove(self, copy, removal, state):
        copy.gone = removal
        self.recent.append(removal)
        state.unproven.append(removal)

    # --- proofs ------------------------------------------------------------------------------------

    def on_ask(self, _at, channel, number):
        state = self.channels[channel]
        state.asked[number] = len(state.unproven)

    def on_answered(self, at, channel, number):
        state = self.channels[channel]
        count = state.asked.pop(number)
        self._prove(at, state, count)
        state.asked = {n: max(0, c - count) for n, c in state.asked.items()}

    def _prove(self, at, state, count):
        for removal in state.unproven[:count]:
            removal.proven = at
        del state.unproven[:count]

    def on_closing(self, _at, channel):
        self._release(channel, cut=False)

    def on_closed(self, at, channel):
        state = self.channels[channel]
        self._prove(at, state, len(state.unproven))
        for queue in state.attached:
            self.leaving[queue].discard(channel)
            self.returns[queue] = FAR if self.leaving[queue] else self.index

    def on_abort(self, _at, channel):
        self._release(channel, cut=True)

    def _release(self, channel, cut):
        state = self.channels[channel]
        # Until the broker has noticed, it may still send messages there, which then return unseen.
        for queue in state.attached:
            self.leaving.setdefault(queue, set()).add(channel)
            self.returns[queue] = FAR
        # What a transaction has settled and not committed is still held.
        settled = state.transaction.settled if state.transaction else ()
        for copy in [*state.unacked.values(), *(copy for _, copy in settled)]:
            copy.holder = None
        state.unacked = {}
        for removal in state.unproven:
            removal.may_be_cut = cut

    # --- transactions ------------------------------------------------------------------------------

    def on_commit(self, at, channel):
        state = self.channels[channel]
        transaction = state.transaction
        transaction.state, transaction.epoch = "in doubt", self.epoch
        for _, copy in transaction.settled:
            copy.holder = None
            copy.gone = Removal("ack in a transaction", at, channel, self.epoch, transaction, final=True)
            self.recent.append(copy.gone)
            transaction.removals.append((copy, copy.gone))
        self.transactions.append(transaction)

    def on_committed(self, at, channel):
        state = self.channels[channel]
        state.transaction.state = "committed"
        for message in state.transaction.messages:
            self._secure(message)
        for _, removal in state.transaction.removals:
            removal.proven = at
        state.transaction = Transaction()

    def on_rollback(self, _at, channel):
        state = self.channels[channel]
        state.transaction.state = "rolled back"

    def on_rolled_back(self, _at, channel):
        state = self.channels[channel]
        # Acknowledgements are taken back: the messages are held as before.
        state.unacked.update(state.transaction.settled)
        state.transaction = Transaction()

    # --- whole queues ------------------------------------------------------------------------------

    def on_purge(self, at, channel, queue):
        self._remove_all(at, channel, queue, "purge", held=False, final=False)

    def on_purged(self, at, channel, _queue):
        state = self.channels[channel]
        self._prove(at, state, len(state.unproven))

    def on_define(self, at, what):
        how, thing = what
        if how == "remove" and thing[0] == "queue":
            self.deleting[thing[1]] = self._remove_all(at, None, thing[1], "deletion", held=True, final=True)

    def on_defined(self, at, what):
        how, thing = what
        if how == "remove" and thing[0] == "queue":
            for copy in self.deleting.pop(thing[1], ()):
                copy.gone.proven = at

    def on_observe(self, at, thing, present):
        if thing[0] != "queue":
            return
        for copy in self.deleting.pop(thing[1], ()):
            if present:
                copy.gone = None
            else:
                copy.gone.proven = copy.gone.proven or at

    def _remove_all(self, at, channel, queue, how, held, final):
        removed = []
        for copy in self.queues.get(queue, {}).values():
            if copy.gone is None and (held or copy.holder is None):
                copy.holder = None
                copy.gone = Removal(how, at, channel, self.epoch, final=final)
                self.recent.append(copy.gone)
                if channel is not None:
                    self.channels[channel].unproven.append(copy.gone)
                removed.append(copy)
        return removed

    # --- sums --------------------------------------------------------------------------------------

    def on_count(self, _at, queue, ready):
        """Nobody is attached: between what is owed and what can be there."""
        if queue in self.no_ack:
            return
        copies = self.queues.get(queue, {}).values()
        owed = [copy for copy in copies if copy.secured and copy.gone is None]
        possible = sum(copy.gone is None or not self._stays_away(copy.gone) for copy in copies)
        if ready < len(owed):
            last = owed[-1].message
            self.report("I1", f"confirmed message lost: {queue} has {ready} messages and owes {len(owed)}, "
                              f"the last of them {last}", last.id, queue)  # fmt: skip
        if ready > possible:
            self.report("I2", f"{queue} has {ready} messages and can have no more than {possible}", queue)

    def _stays_away(self, removal):
        if removal.proven is None:
            return False
        if removal.fault is None or removal.fault[0] == "term" or removal.final:
            return True
        return removal.fault[1] - removal.proven >= self.ack_window

    def finish(self):
        """Judges what nobody has taken away, and the transactions whose commit was never answered."""
        for queue, copies in self.queues.items():
            in_flight = self._oldest_still_there(queue)
            missing = [copy for copy in copies.values() if copy.secured and copy.gone is None]
            for copy in missing:
                if self._excused(copy, in_flight):
                    continue
                had = f"delivered {copy.deliveries} times" if copy.deliveries else "never delivered"
                self.report("I1", f"confirmed message lost: {queue} has lost {copy.message}, {had}",
                            copy.message.id, queue)  # fmt: skip
        for transaction in self.transactions:
            if transaction.state == "in doubt":
                self._judge_doubt(transaction)

    def _oldest_still_there(self, queue):
        """After the last epoch with a consumer that does not acknowledge: the least number by publisher."""
        if queue not in self.no_ack:
            return None
        last, oldest = max(self.no_ack[queue]), {}
        for id, copy in self.queues[queue].items():
            if copy.gone is not None and copy.gone.epoch > last:
                publisher, number = id.rsplit("-", 1)
                oldest[publisher] = min(oldest.get(publisher, FAR), int(number))
        return last, oldest

    def _excused(self, copy, in_flight):
        """On its way to a consumer that does not acknowledge when the broker or the consumer ended.

        Deliveries leave the queue from its head. So nothing older of the same publisher may still come later.
        """
        if in_flight is None:
            return False
        last, oldest = in_flight
        publisher, number = copy.message.id.rsplit("-", 1)
        return self.written[copy.message.id][0] <= last and oldest.get(publisher, FAR) > int(number)

    def _judge_doubt(self, transaction):
        """Unanswered: either all of it happened or nothing.

        A delivery proves nothing before the fault, because deliveries do not wait for the disk.
        """
        there, missing = [], []
        for message in transaction.messages:
            for queue in message.queues if message.persistent else ():
                copy = self.queues[queue][message.id]
                if copy.seen > transaction.epoch:
                    there.append(copy)
                elif copy.gone is None and queue not in self.no_ack:
                    missing.append(copy)
        if there and missing:
            self.report("I10", f"half a transaction: {there[0].queue} got {there[0].message}, "
                               f"{missing[0].queue} never got {missing[0].message}",
                        there[0].message.id, missing[0].message.id)  # fmt: skip
        returned = [copy for copy, _ in transaction.removals if copy in transaction.came_back]
        stayed = [copy for copy, _ in transaction.removals if copy not in transaction.came_back and copy.secured]
        if there and returned:
            self.report("I10", f"half a transaction: {there[0].message} was published, and {returned[0].queue} gave "
                               f"{returned[0].message.id} again",
                        there[0].message.id, returned[0].message.id)  # fmt: skip
        if missing and stayed and not there:
            self.report("I10", f"half a transaction: {missing[0].message} never came, and {stayed[0].queue} counts "
                               f"{stayed[0].message.id} as acknowledged",
                        missing[0].message.id, stayed[0].message.id)  # fmt: skip
