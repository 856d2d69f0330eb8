//! How a connection ends: by a mistake, by a goodbye, by an operator.
//!
//! Invariant: the vhost forgets the connection before the client hears that it is closed for good, so that exclusive
//! queues are gone by then.

use ferrymq_protocol::method::connection;

use super::errors::{Fault, ReplyCode};
use super::report::CloseReport;
use super::session::{CONNECTION, Phase, Session};
use crate::model::ChannelNumber;
use crate::vhost::Command;

/// Failures of channels that are kept for the log between two looks at them.
const CHANNEL_FAULTS_MAX: usize = 16;

impl Session {
    /// The one place where a mistake costs a channel or the connection.
    pub(super) fn fail(&mut self, number: ChannelNumber, fault: &Fault) {
        let soft = fault.code.is_soft();
        match self.channels.get_mut(&number) {
            Some(channel) if soft && number != CONNECTION && channel.key.is_some() => {
                channel.fail(fault, &mut self.link);
                if self.channel_faults.len() < CHANNEL_FAULTS_MAX {
                    self.channel_faults.push(format!("channel {}: {}", number.0, fault.report()));
                }
            }
            // Whoever has logged in and agreed on limits is told.
            _ if self.phase.is_handshake() && !matches!(self.phase, Phase::AwaitingOpen) => {
                self.fail_silently(fault);
            }
            _ => self.fail_connection(fault),
        }
    }

    /// Closes the connection for a mistake.
    pub(super) fn fail_connection(&mut self, fault: &Fault) {
        let text = fault.reply_text();
        let method = fault.method_id();
        let report = fault.report();
        let report = match fault.code {
            ReplyCode::ConnectionForced => CloseReport::broker(report),
            _ => CloseReport::client(report),
        };
        self.report = Some(report);
        let close = connection::Close {
            reply_code: fault.code.number(),
            reply_text: &text,
            class_id: method.class_id,
            method_id: method.method_id,
        };
        self.link.send(CONNECTION, close);
        self.phase = Phase::Closing { deaf: false };
        self.detach_due = self.attached;
        self.until = None;
        self.link.attention = true;
    }

    /// Ends a handshake without a word, after a while.
    pub(super) fn fail_silently(&mut self, fault: &Fault) {
        self.report = Some(CloseReport::client(fault.report()));
        self.phase = Phase::Silent;
        self.until = None;
        self.link.attention = true;
    }

    /// Ends at once.
    pub(super) fn end(&mut self, report: CloseReport) {
        self.report = Some(report);
        self.over();
    }

    /// Ends at once; why is known already.
    pub(super) fn over(&mut self) {
        self.phase = Phase::Closed;
        self.until = None;
        self.link.attention = true;
    }

    /// Closes the connection because the broker stops.
    pub fn shutdown(&mut self) {
        self.close("broker forced connection closure with reason 'shutdown'");
    }

    /// Closes the connection because an operator wants it, with reply code 320 and this text.
    pub fn close(&mut self, text: &str) {
        let fault = Fault::new(ReplyCode::ConnectionForced, text.to_owned()).outside_methods();
        match self.phase {
            Phase::Running => self.fail_connection(&fault),
            ref phase if phase.is_handshake() => self.end(CloseReport::broker(text)),
            _ => {}
        }
    }

    /// Closes the connection because nothing can be made durable any more: what it waits for will not come.
    pub fn storage_failed(&mut self) {
        let text = "nothing can be made durable any more, and the broker stops: see its log";
        let fault = Fault::new(ReplyCode::InternalError, text).outside_methods();
        match self.phase {
            Phase::Running => self.fail_connection(&fault),
            ref phase if phase.is_handshake() => self.end(CloseReport::broker(text)),
            _ => {}
        }
    }

    /// The vhost has forgotten the connection; exclusive queues are gone.
    pub fn detached(&mut self) {
        self.attached = false;
        self.detach_due = false;
        if matches!(self.phase, Phase::Leaving) {
            self.link.send(CONNECTION, connection::CloseOk {});
            self.over();
        }
    }

    /// Appends what the vhost must hear before it forgets the connection.
    pub fn detach(&mut self, commands: &mut Vec<Command>) {
        self.link.flush_all(commands);
        let numbers: Vec<_> = self.channels.keys().copied().collect();
        for number in numbers {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.unpark(&mut self.link);
            }
            self.forget(number);
        }
        self.link.released.clear();
        self.link.waiting.clear();
        self.link.in_turn.clear();
        self.attached = false;
    }
}
