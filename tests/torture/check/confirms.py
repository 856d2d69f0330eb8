"""I9: each publish on a confirm channel is answered exactly once, after its return where there is one."""


class Confirms:
    """Outstanding publishing numbers by channel."""

    def __init__(self, report, forgiving_nacks=False):
        self.report, self.forgiving_nacks = report, forgiving_nacks
        self.modes, self.outstanding, self.published, self.messages, self.returned = {}, {}, {}, {}, set()
        self.confirmed = self.refused = 0

    def on_open(self, _at, channel, mode):
        self.modes[channel] = mode
        if mode == "confirm":
            self.outstanding[channel], self.published[channel] = {}, 0

    def on_publish(self, _at, channel, message):
        self.messages[message.id] = message
        if self.modes.get(channel) == "confirm":
            self.published[channel] += 1
            self.outstanding[channel][self.published[channel]] = message

    def on_return(self, _at, channel, id):
        message = self.messages.get(id)
        if message is None:
            self.report("I9", f"{channel}: a message came back that nobody published: {id}", channel)
        elif id in self.returned:
            self.report("I9", f"{channel}: {id} was returned twice", id)
        elif not message.mandatory or message.unroutable is False:
            self.report("I9", f"{channel}: {message} was returned, though it had where to go", id)
        elif channel in self.outstanding and message not in self.outstanding[channel].values():
            self.report("I9", f"{channel}: {message} was returned after its confirm", id)
        self.returned.add(id)

    def on_confirm(self, _at, channel, tag, multiple, ok):
        outstanding = self.outstanding[channel]
        tags = [t for t in outstanding if t <= tag] if multiple else [tag] if tag in outstanding else []
        shape = f"basic.{'ack' if ok else 'nack'}(tag {tag}, multiple {multiple})"
        if tag > self.published[channel]:
            self.report("I9", f"{channel}: {shape} before anything with this number was published", channel)
        if not tags:
            self.report("I9", f"{channel}: {shape} confirms nothing that is open: it was confirmed before", channel)
        if not ok and not self.forgiving_nacks:
            self.report("I9", f"{channel}: {shape}, and nothing was wrong", channel)
        for each in tags:
            message = outstanding.pop(each)
            self.confirmed += ok
            self.refused += not ok
            if ok and message.mandatory and message.unroutable and message.id not in self.returned:
                self.report("I9", f"{channel}: {message} was confirmed without being returned", message.id)
