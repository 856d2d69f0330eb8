//! A publisher: writes batches as fast as the broker takes them, within a window of confirms if there is one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ferrymq_protocol::frame::{Frame, FrameKind};
use ferrymq_protocol::method::{Method, confirm};

use super::connection::{note, write_some};
use super::input::{Fill, notice};
use super::{CHANNEL, Connection, Content, Target, Template};
use crate::bench::clock;
use crate::bench::confirms::{Confirm, ConfirmWindow};
use crate::bench::error::{BenchError, Result};
use crate::bench::tally::{Allowance, Tally};

/// How often a publisher without confirms looks whether the broker has something to say.
const LOOK: Duration = Duration::from_millis(100);

/// How many messages may be unconfirmed; `None` is without confirms.
pub(in crate::bench) type Window = Option<u32>;

/// A connection that publishes.
#[derive(Debug)]
pub(in crate::bench) struct Publisher {
    pub(super) connection: Connection,
    pub(super) template: Template,
    window: Window,
    pub(super) confirms: ConfirmWindow,
    sent: u64,
}

impl Publisher {
    pub(in crate::bench) fn open(
        target: &Target,
        content: &Content,
        id: u16,
        window: Window,
    ) -> Result<Self> {
        let mut connection = Connection::open(target)?;
        if window.is_some() {
            connection.call(CHANNEL, confirm::Select { no_wait: false })?;
        }
        let template = Template::new(content, id, connection.frame_max)?;
        Ok(Self { connection, template, window, confirms: ConfirmWindow::new(), sent: 0 })
    }

    /// Publishes what is allowed; returns how many that were, and when all were confirmed, or else when the broker had
    /// read all. The connection is closed then.
    pub(in crate::bench) fn run(mut self, allowance: Allowance, tally: &Tally) -> Result<(u64, Instant)> {
        let window = self.window.map_or(usize::MAX, |window| window as usize);
        // A quarter, so that the broker has work while this reads confirms.
        let batch = self.template.batch().min(window.div_ceil(4));
        let mut looked = clock::now();
        loop {
            tally.go_on()?;
            let count = allowance.next(self.sent, batch);
            if count == 0 {
                break;
            }
            self.publish(count, tally)?;
            if self.window.is_some() {
                while self.confirms.outstanding() + batch as u64 > window as u64 {
                    self.await_confirms(tally)?;
                }
            } else if looked.elapsed() > LOOK {
                looked = clock::now();
                self.listen(tally)?;
            }
        }
        while self.window.is_some() && self.confirms.outstanding() > 0 {
            self.await_confirms(tally)?;
        }
        let (sent, confirmed) = (self.sent, clock::now());
        let with_confirms = self.window.is_some();
        let read = self.end(tally)?;
        Ok((sent, if with_confirms { confirmed } else { read }))
    }

    /// Ends the channel and the connection: what the broker refused of the last messages becomes known. Returns when
    /// the broker answered on the channel, which is after it has read all that was published there.
    fn end(mut self, tally: &Tally) -> Result<Instant> {
        self.listen(tally)?;
        self.connection.close_channel()?;
        let read = clock::now();
        self.connection.close()?;
        Ok(read)
    }

    fn publish(&mut self, count: usize, tally: &Tally) -> Result<()> {
        let Self { connection, template, confirms, .. } = self;
        let (mut octets, count) = template.stamp(self.sent, count);
        self.sent += count as u64;
        if self.window.is_some() {
            confirms.publish(count);
        }
        tally.published.fetch_add(count as u64, Ordering::Release);
        let mut moved = None;
        while !octets.is_empty() {
            match write_some(&connection.stream, octets) {
                Ok(0) => {
                    // The broker may wait for its confirms to be read before it reads on.
                    if connection.poll()? == Fill::Some {
                        read_all(connection, confirms, self.window, tally)?;
                    }
                    tally.wait_on(*moved.get_or_insert_with(clock::now), "the broker reads nothing")?;
                }
                Ok(written) => {
                    octets = &octets[written..];
                    moved = None;
                }
                Err(error) => return Err(connection.last_words(error)),
            }
        }
        Ok(())
    }

    /// Reads what is there without waiting.
    fn listen(&mut self, tally: &Tally) -> Result<()> {
        while self.connection.poll()? == Fill::Some {
            read_all(&mut self.connection, &mut self.confirms, self.window, tally)?;
        }
        Ok(())
    }

    fn await_confirms(&mut self, tally: &Tally) -> Result<()> {
        let start = clock::now();
        loop {
            if self.connection.input.fill(&self.connection.stream)? == Fill::Some {
                return read_all(&mut self.connection, &mut self.confirms, self.window, tally);
            }
            tally.wait_on(start, "no confirm comes")?;
        }
    }
}

/// Reads every whole frame.
fn read_all(
    connection: &mut Connection,
    confirms: &mut ConfirmWindow,
    window: Window,
    tally: &Tally,
) -> Result<()> {
    let before = (confirms.acked(), confirms.nacked());
    while let Some(frame) = connection.input.next()? {
        match read_confirm(&frame, tally)? {
            Some(confirm) if window.is_some() => confirms.settle(confirm, |_| {})?,
            Some(_) => return Err(BenchError::Wrong("it confirms what nobody wanted confirmed".into())),
            None => {}
        }
    }
    tally.confirmed.fetch_add(confirms.acked() - before.0, Ordering::Release);
    tally.nacked.fetch_add(confirms.nacked() - before.1, Ordering::Release);
    Ok(())
}

/// The confirm in a frame, if there is one; notes what else a publisher may be told.
pub(super) fn read_confirm(frame: &Frame<'_>, tally: &Tally) -> Result<Option<Confirm>> {
    if frame.kind == FrameKind::Heartbeat {
        return Ok(None);
    }
    if frame.kind != FrameKind::Method {
        let got = "a content".to_owned();
        return Err(BenchError::Unexpected { expected: "a confirm".to_owned(), got });
    }
    match Method::decode(frame.payload)? {
        Method::BasicAck(ack) => {
            Ok(Some(Confirm { tag: ack.delivery_tag, multiple: ack.multiple, ack: true }))
        }
        Method::BasicNack(nack) => {
            Ok(Some(Confirm { tag: nack.delivery_tag, multiple: nack.multiple, ack: false }))
        }
        other => {
            note(notice(&other, "a confirm")?, tally);
            Ok(None)
        }
    }
}
