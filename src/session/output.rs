//! Encoded bytes on their way to the socket.
//!
//! Invariant: bytes leave in the order in which they were put in; small ones are copied into chunks that are never
//! moved again, large ones are shared; and an empty queue holds no buffer.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes from which on a body is shared instead of copied.
pub(super) const SHARE_FROM: usize = 16 * 1024;
/// The first chunk of a burst; grows to [`CHUNK_MAX`].
const CHUNK_MIN: usize = 512;
/// Chunks do not grow beyond this, unless one piece is larger.
const CHUNK_MAX: usize = 32 * 1024;
/// Costs of deliveries that end within so many bytes are reported together.
const MARK_STRIDE: u64 = 16 * 1024;

/// A queue of bytes, written with vectored writes.
#[derive(Debug, Default)]
pub struct Output {
    /// What is complete.
    sealed: VecDeque<Bytes>,
    sealed_len: usize,
    /// What small pieces are appended to.
    tail: BytesMut,
    /// The size of the newest chunk.
    chunk: usize,
    /// Bytes ever written to the socket.
    written: u64,
    marks: VecDeque<Mark>,
    drained: usize,
}

/// Deliveries whose last byte is the one before `end`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    start: u64,
    end: u64,
    cost: usize,
}

impl Output {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sealed_len + self.tail.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts what waits into `slices`, from the front; returns how many slices it took.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.sealed.iter().map(|piece| &piece[..]).chain(std::iter::once(&self.tail[..]));
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// The first `count` bytes have been written. More than there are counts as all.
    pub fn advance(&mut self, count: usize) {
        let mut count = count.min(self.len());
        self.written += count as u64;
        while let Some(first) = self.sealed.front_mut() {
            if count < first.len() {
                first.advance(count);
                self.sealed_len -= count;
                count = 0;
                break;
            }
            count -= first.len();
            self.sealed_len -= first.len();
            self.sealed.pop_front();
        }
        self.tail.advance(count);
        while let Some(mark) = self.marks.front().copied().filter(|mark| mark.end <= self.written) {
            self.drained += mark.cost;
            self.marks.pop_front();
        }
        if self.is_empty() {
            self.release();
        }
    }

    /// An idle connection keeps no buffer.
    fn release(&mut self) {
        self.tail = BytesMut::new();
        self.chunk = 0;
        self.sealed.shrink_to(0);
        self.marks.shrink_to(0);
    }

    /// Where to append a piece of at most about `need` bytes without moving what is there already.
    pub(super) fn room(&mut self, need: usize) -> &mut BytesMut {
        if self.tail.capacity() - self.tail.len() < need {
            self.seal();
            self.chunk = (self.chunk * 4).clamp(CHUNK_MIN, CHUNK_MAX);
            self.tail = BytesMut::with_capacity(self.chunk.max(need));
        }
        &mut self.tail
    }

    /// Appends bytes without copying them.
    pub(super) fn share(&mut self, piece: Bytes) {
        self.seal();
        self.sealed_len += piece.len();
        self.sealed.push_back(piece);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed_len += self.tail.len();
            let piece = self.tail.split().freeze();
            self.sealed.push_back(piece);
        }
    }

    /// What was appended since the output held `from` bytes is a delivery of this cost.
    pub(super) fn mark(&mut self, from: usize, cost: usize) {
        let start = self.written + from as u64;
        let end = self.written + self.len() as u64;
        match self.marks.back_mut() {
            Some(last) if end - last.start <= MARK_STRIDE => {
                last.end = end;
                last.cost += cost;
            }
            _ => self.marks.push_back(Mark { start, end, cost }),
        }
    }

    /// Counts the cost of a delivery that is not going to be written.
    pub(super) fn skip(&mut self, cost: usize) {
        self.drained += cost;
    }

    /// Takes the costs of the deliveries that have been written completely since the last call.
    pub(super) fn take_drained(&mut self) -> usize {
        std::mem::take(&mut self.drained)
    }

    /// Bytes of memory held.
    pub(super) fn capacity(&self) -> usize {
        self.sealed_len + self.tail.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = output.fill(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn bytes_leave_in_order_whatever_the_write_takes() {
        let mut output = Output::default();
        let mut expected = Vec::new();
        for n in 0..40_u8 {
            output.room(100).extend_from_slice(&[n; 100]);
            expected.extend_from_slice(&[n; 100]);
            if n % 10 == 9 {
                output.share(Bytes::from(vec![n; SHARE_FROM]));
                expected.extend_from_slice(&vec![n; SHARE_FROM]);
            }
        }
        assert_eq!(output.len(), expected.len());
        let mut seen = Vec::new();
        while !output.is_empty() {
            let all = text(&output);
            let take = all.len().min(777);
            seen.extend_from_slice(&all[..take]);
            output.advance(take);
        }
        assert_eq!(seen, expected);
        assert_eq!(output.capacity(), 0);
    }

    #[test]
    fn a_cost_is_reported_once_its_last_byte_is_written() {
        let mut output = Output::default();
        output.room(10).extend_from_slice(b"before");
        let from = output.len();
        output.room(10).extend_from_slice(b"delivery");
        output.mark(from, 500);
        output.advance(6 + 7);
        assert_eq!(output.take_drained(), 0);
        output.advance(1);
        assert_eq!(output.take_drained(), 500);
        assert_eq!(output.take_drained(), 0);
    }
}
