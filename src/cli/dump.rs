//! `ferrymq log dump DIR`: every record of the log as a line, oldest first.
//!
//! Invariant: nothing in the directory changes, a line holds nothing that moves a terminal's cursor, and bodies are
//! shown only when asked for. Memory is bounded by the names of queues and the largest batch.

use std::fmt::{self, Write as _};
use std::io::{BufWriter, Write};

use anyhow::Result;

use super::Exit;
use super::args::DumpArgs;
use super::fsck::name;
use super::offline::Offline;
use super::tally::Names;
use crate::model::{Definition, Destination, PolicyKind, QueueId, Seq};
use crate::storage;
use crate::storage::log::{Placed, Record, SeqRange, VhostId, check};
use crate::telemetry::printable;

pub(super) fn run(args: &DumpArgs, out: &mut dyn Write) -> Result<Exit> {
    let offline = Offline::open(&args.dir)?;
    let Some(log) = &offline.log else { return Ok(Exit::Success) };
    // A queue's name may stand behind its messages, so that the log is read twice.
    let mut names = Names::default();
    check(log.clone(), &mut |placed| names.apply(&placed.record))?;
    let lines = Lines { names, bodies: args.bodies };
    let mut out = BufWriter::new(out);
    let mut open = true;
    check(log.clone(), &mut |placed| {
        if open && args.queue.as_deref().is_none_or(|queue| lines.concerns(&placed.record, queue)) {
            // Nobody reads on, as in `ferrymq log dump | head`.
            open = writeln!(out, "{}", lines.line(&placed)).is_ok();
        }
    })?;
    out.flush().ok();
    Ok(Exit::Success)
}

/// Turns records into lines.
struct Lines {
    names: Names,
    bodies: bool,
}

impl Lines {
    fn line(&self, placed: &Placed<'_>) -> String {
        let mut line = format!("{} {} ", placed.location.segment, placed.position.0);
        self.put(&placed.record, &mut line).expect("a string takes everything");
        line
    }

    fn put(&self, record: &Record<'_>, line: &mut String) -> fmt::Result {
        match *record {
            Record::Publish { vhost, queues, deadlines, message } => {
                write!(line, "publish vhost={}", self.vhost(vhost))?;
                for (index, (queue, Seq(seq))) in queues.iter().enumerate() {
                    write!(line, " queue={}:{seq}", self.queue(vhost, *queue))?;
                    if let Some(deadline) = deadlines.get(index).filter(|deadline| **deadline < u64::MAX) {
                        write!(line, " until={deadline}")?;
                    }
                }
                let (exchange, key) =
                    (printable(message.parts.exchange), printable(message.parts.routing_key));
                let (properties, body) = (message.parts.properties.len(), message.body.len());
                write!(line, " exchange={exchange:?} key={key:?} properties={properties} body={body}")?;
                line.push_str(match (message.parts.persistent, message.survives) {
                    (true, _) => "",
                    (false, true) => " kept",
                    (false, false) => " transient",
                });
                if self.bodies {
                    write!(line, " {:?}", printable(message.body))?;
                }
                Ok(())
            }
            Record::Ack { vhost, queue, seqs } => self.put_seqs("ack", vhost, queue, seqs, line),
            Record::Return { vhost, queue, delivery_count, seqs } => {
                self.put_seqs("return", vhost, queue, seqs, line)?;
                write!(line, " delivery-count={delivery_count}")
            }
            Record::Define { key, value } => put_definition(key, value, line),
            Record::CreateQueue { vhost, queue, name } => {
                let (vhost, name) = (self.vhost(vhost), printable(name.as_str()));
                write!(line, "create-queue vhost={vhost} queue={name:?} id={}", queue.0)
            }
            Record::CreateDelay { vhost, queue, exchange } => {
                let (vhost, exchange) = (self.vhost(vhost), printable(exchange.as_str()));
                write!(line, "create-delay vhost={vhost} exchange={exchange:?} id={}", queue.0)
            }
            Record::DeleteQueue { vhost, queue } => {
                write!(line, "delete-queue vhost={} queue={}", self.vhost(vhost), self.queue(vhost, queue))
            }
            Record::CreateVhost { vhost, name } => {
                write!(line, "create-vhost vhost={:?} id={}", printable(name.as_str()), vhost.0)
            }
            Record::QueueState { vhost, queue, places, .. } => {
                let (vhost, queue) = (self.vhost(vhost), self.queue(vhost, queue));
                write!(line, "queue-state vhost={vhost} queue={queue} messages={}", places.len())
            }
            Record::CleanStop => line.write_str("clean-stop"),
        }
    }

    fn put_seqs(
        &self,
        kind: &str,
        vhost: VhostId,
        queue: QueueId,
        seqs: &[SeqRange],
        line: &mut String,
    ) -> fmt::Result {
        write!(line, "{kind} vhost={} queue={}", self.vhost(vhost), self.queue(vhost, queue))?;
        for SeqRange { first, last } in seqs {
            if first == last {
                write!(line, " {}", first.0)?;
            } else {
                write!(line, " {}-{}", first.0, last.0)?;
            }
        }
        Ok(())
    }

    fn vhost(&self, vhost: VhostId) -> String {
        name(self.names.vhost(vhost), vhost.0.into())
    }

    fn queue(&self, vhost: VhostId, queue: QueueId) -> String {
        name(self.names.queue(vhost, queue), queue.0)
    }

    /// Whether a record is about a queue of this name.
    fn concerns(&self, record: &Record<'_>, wanted: &str) -> bool {
        let is = |vhost, queue| self.names.queue(vhost, queue) == Some(wanted);
        match *record {
            Record::Publish { vhost, queues, .. } => queues.iter().any(|(queue, _)| is(vhost, *queue)),
            Record::Ack { vhost, queue, .. }
            | Record::Return { vhost, queue, .. }
            | Record::CreateQueue { vhost, queue, .. }
            | Record::CreateDelay { vhost, queue, .. }
            | Record::DeleteQueue { vhost, queue }
            | Record::QueueState { vhost, queue, .. } => is(vhost, queue),
            Record::CreateVhost { .. } | Record::Define { .. } | Record::CleanStop => false,
        }
    }
}

/// A definition as the operator would name it.
fn put_definition(key: &[u8], value: Option<&[u8]>, line: &mut String) -> fmt::Result {
    let Some(value) = value else {
        return write!(line, "undefine {:?}", printable(key));
    };
    let (vhost, definition) = match storage::read_definition(key, value) {
        Ok(read) => read,
        Err(error) => return write!(line, "define {:?}: {error}", printable(key)),
    };
    let vhost = printable(vhost.as_str());
    match definition {
        Definition::Exchange(exchange) => {
            write!(line, "define vhost={vhost:?} exchange={:?}", printable(exchange.name.as_str()))
        }
        Definition::Queue(queue) => {
            write!(line, "define vhost={vhost:?} queue={:?}", printable(queue.name.as_str()))
        }
        Definition::Policy(policy) => {
            let kind = match policy.kind {
                PolicyKind::User => "policy",
                PolicyKind::Operator => "operator-policy",
            };
            write!(line, "define vhost={vhost:?} {kind}={:?}", printable(policy.name.as_str()))
        }
        Definition::Binding(binding) => {
            let (kind, name) = match &binding.destination {
                Destination::Queue(queue) => ("queue", queue.as_str()),
                Destination::Exchange(exchange) => ("exchange", exchange.as_str()),
            };
            let (source, key) = (binding.source.as_str(), binding.routing_key.as_str());
            let (source, key, name) = (printable(source), printable(key), printable(name));
            write!(line, "define vhost={vhost:?} binding={source:?} key={key:?} {kind}={name:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{LogPosition, Message, MessageParts, QueueName, VhostName};
    use crate::storage::log::{Location, SegmentNumber, StoredMessage};

    fn line(lines: &Lines, record: Record<'_>) -> String {
        let location = Location { segment: SegmentNumber(3), offset: 64 };
        lines.line(&Placed { location, bytes: 8, position: LogPosition(7), record })
    }

    fn lines(bodies: bool) -> Lines {
        let mut names = Names::default();
        names.apply(&Record::CreateVhost { vhost: VhostId(1), name: &VhostName::from("/") });
        let name = QueueName::from("orders\u{1b}[2J");
        names.apply(&Record::CreateQueue { vhost: VhostId(1), queue: QueueId(4), name: &name });
        Lines { names, bodies }
    }

    #[test]
    fn a_publish_is_a_line_without_what_a_terminal_acts_on() {
        let parts =
            MessageParts { exchange: "e\n", routing_key: "k\"", properties: &[0, 0], persistent: false };
        let message = Message::new(parts, Bytes::from_static(b"body\x1b\xff"));
        let queues = [(QueueId(4), Seq(9)), (QueueId(5), Seq(1))];
        let record = |survives| Record::Publish {
            vhost: VhostId(1),
            queues: &queues,
            deadlines: &[],
            message: StoredMessage { survives, ..(&message).into() },
        };
        let head = "0000000003 7 publish vhost=\"/\" queue=\"orders\\u{1b}[2J\":9 queue=#5:1 \
                    exchange=\"e\\n\" key=\"k\"\" properties=2 body=6";
        assert_eq!(line(&lines(false), record(false)), format!("{head} transient"));
        assert_eq!(line(&lines(true), record(true)), format!("{head} kept \"body\\u{{1b}}\\xff\""));
    }

    #[test]
    fn other_records_say_what_they_concern() {
        let lines = lines(false);
        let seqs = [SeqRange { first: Seq(1), last: Seq(1) }, SeqRange { first: Seq(3), last: Seq(5) }];
        let ack = Record::Ack { vhost: VhostId(2), queue: QueueId(4), seqs: &seqs };
        assert_eq!(line(&lines, ack), "0000000003 7 ack vhost=#2 queue=#4 1 3-5");
        assert_eq!(line(&lines, Record::CleanStop), "0000000003 7 clean-stop");
        assert!(!lines.concerns(&ack, "orders\u{1b}[2J"), "a queue of another vhost");
        let returned =
            Record::Return { vhost: VhostId(1), queue: QueueId(4), delivery_count: 2, seqs: &seqs };
        assert!(lines.concerns(&returned, "orders\u{1b}[2J"));
        assert!(!lines.concerns(&returned, "orders"));
    }
}
