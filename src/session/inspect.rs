//! What others may know about a session.
//!
//! Invariant: looking changes nothing; what is taken is taken once.

use super::counters::ChannelCounters;
use super::handshake::Client;
use super::options::Peer;
use super::report::CloseReport;
use super::session::Session;
use crate::model::{ChannelNumber, UserName};

impl Session {
    /// Bytes of memory in buffers: unsent output, parked frames and incomplete messages.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.link.output.capacity() + self.link.parked_bytes + self.link.assembling_bytes
    }

    /// Bytes of bodies that are not complete.
    #[must_use]
    pub fn assembling_bytes(&self) -> usize {
        self.link.assembling_bytes
    }

    /// Why the connection ends, once that is known.
    #[must_use]
    pub fn close_report(&self) -> Option<&CloseReport> {
        self.report.as_ref()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.link.peer
    }

    /// What the client says about itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.link.client
    }

    /// Who has logged in.
    #[must_use]
    pub fn user(&self) -> Option<&UserName> {
        self.link.user.as_ref()
    }

    /// The open channels and what happened on them.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = (ChannelNumber, &ChannelCounters)> {
        self.channels.iter().map(|(number, channel)| (*number, &channel.counters))
    }

    /// What happened on all channels there have been.
    #[must_use]
    pub fn totals(&self) -> ChannelCounters {
        let mut totals = self.link.past;
        self.channels.values().for_each(|channel| totals.add(&channel.counters));
        totals
    }

    /// Takes why channels failed since the last call, a line each: `channel 1: NOT_FOUND - no queue 'q' in vhost '/'
    /// (404, queue.declare)`. Of a flood the first few.
    #[must_use]
    pub fn take_channel_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.channel_faults)
    }
}
