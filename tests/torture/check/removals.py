"""What `copies.py` keeps for each channel, copy, removal and transaction."""


class Copy:
    """One message in one queue. `sure` says that it must have got there."""

    __slots__ = ("message", "queue", "sure", "deliveries", "seen", "holder", "gone", "secured")

    def __init__(self, message, queue, sure):
        self.message, self.queue, self.sure = message, queue, sure
        self.deliveries, self.seen, self.holder, self.gone, self.secured = 0, -1, None, None, False


class Removal:
    """Why a copy is gone, when that was proven, and the first fault after it."""

    __slots__ = ("how", "at", "channel", "epoch", "transaction", "final", "proven", "fault", "may_be_cut")

    def __init__(self, how, at, channel, epoch, transaction=None, final=False):
        self.how, self.at, self.channel, self.epoch = how, at, channel, epoch
        self.transaction, self.final = transaction, final
        self.proven, self.fault, self.may_be_cut = None, None, False


class Transaction:
    """What a tx channel has gathered since its last commit or rollback."""

    def __init__(self):
        self.state, self.epoch = "open", None
        self.messages, self.settled, self.removals, self.came_back = [], [], [], []


class Channel:
    """What a channel holds and has asked for."""

    def __init__(self, mode, transaction):
        self.mode, self.transaction = mode, transaction
        self.published, self.unconfirmed, self.unacked, self.attached = 0, {}, {}, {}
        self.unproven, self.asked = [], {}
