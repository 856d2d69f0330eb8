//! What the messages of a benchmark say: who published them, which one it is, and that nothing was changed.
//!
//! A body of 16 octets or more begins with publisher, variant, sequence number and a check of these and the size; the
//! rest is a known pattern, which each variant begins at another place, so that the tail of one message under the
//! head of another shows. A shorter body is a piece of the pattern.

/// What a body needs for a head.
pub(super) const HEAD: usize = 16;
/// How many places the pattern begins at. A prime, so that it does not keep step with batches.
const VARIANTS: usize = 251;

/// The head of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) publisher: u16,
    /// Below [`VARIANTS`].
    variant: u16,
    /// Of its publisher, from 0.
    pub(super) sequence: u64,
}

impl Head {
    #[inline]
    fn check(self, size: usize) -> u32 {
        let words = self.sequence ^ (u64::from(self.publisher) << 48) ^ (u64::from(self.variant) << 32);
        let mixed = mix(words ^ (size as u64).rotate_right(16));
        // Only the upper half: it depends on all bits.
        (mixed >> 32) as u32
    }

    #[inline]
    fn write(self, size: usize, to: &mut [u8; HEAD]) {
        to[..2].copy_from_slice(&self.publisher.to_be_bytes());
        to[2..4].copy_from_slice(&self.variant.to_be_bytes());
        to[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        to[12..].copy_from_slice(&self.check(size).to_be_bytes());
    }

    #[inline]
    fn read(size: usize, from: &[u8; HEAD]) -> Option<Self> {
        let &[p0, p1, v0, v1, s0, s1, s2, s3, s4, s5, s6, s7, check @ ..] = from;
        let head = Self {
            publisher: u16::from_be_bytes([p0, p1]),
            variant: u16::from_be_bytes([v0, v1]),
            sequence: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
        };
        (head.check(size).to_be_bytes() == check && usize::from(head.variant) < VARIANTS).then_some(head)
    }
}

/// Spreads what differs in a few bits over all of them; no two numbers come out the same.
#[inline]
pub(super) fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bodies of one size.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    size: usize,
    pattern: Vec<u8>,
}

impl Bodies {
    /// Takes as much memory as a body.
    pub(super) fn of_size(size: usize) -> Self {
        let words = (size + VARIANTS).div_ceil(8) as u64;
        Self { size, pattern: (0..words).flat_map(|word| mix(word).to_be_bytes()).collect() }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether there is room for a head.
    pub(super) fn have_heads(&self) -> bool {
        self.size >= HEAD
    }

    /// A body with room for a head, which [`Self::stamp`] writes.
    pub(super) fn body(&self, slot: usize) -> Vec<u8> {
        if self.have_heads() {
            let mut body = vec![0; HEAD];
            body.extend_from_slice(self.tail(slot % VARIANTS));
            body
        } else {
            self.pattern[..self.size].to_vec()
        }
    }

    /// Writes the head of a body that was made for `slot`.
    #[inline]
    pub(super) fn stamp(&self, publisher: u16, slot: usize, sequence: u64, to: &mut [u8; HEAD]) {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder by 251 always fits")]
        let variant = (slot % VARIANTS) as u16;
        Head { publisher, variant, sequence }.write(self.size, to);
    }

    /// Reads a head; `None` if it is not one that was written for this size.
    #[inline]
    pub(super) fn head(&self, from: &[u8; HEAD]) -> Option<Head> {
        Head::read(self.size, from)
    }

    /// What follows this head.
    #[inline]
    pub(super) fn after(&self, head: Head) -> &[u8] {
        self.tail(usize::from(head.variant))
    }

    /// A body without a head.
    pub(super) fn headless(&self) -> &[u8] {
        &self.pattern[..self.size]
    }

    #[inline]
    fn tail(&self, variant: usize) -> &[u8] {
        &self.pattern[variant..variant + self.size - HEAD]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(bodies: &Bodies, publisher: u16, slot: usize, sequence: u64) -> Vec<u8> {
        let mut body = bodies.body(slot);
        bodies.stamp(publisher, slot, sequence, body.first_chunk_mut().unwrap());
        body
    }

    #[test]
    fn a_head_says_who_and_which() {
        for size in [16, 17, 1024] {
            let bodies = Bodies::of_size(size);
            let body = stamped(&bodies, 7, 300, 1 << 40);
            assert_eq!(body.len(), size);
            let head = bodies.head(body.first_chunk().unwrap()).unwrap();
            assert_eq!((head.publisher, head.sequence), (7, 1 << 40));
            assert_eq!(bodies.after(head), &body[HEAD..]);
        }
    }

    #[test]
    fn no_bit_of_a_head_changes_unseen() {
        let bodies = Bodies::of_size(64);
        let body = stamped(&bodies, 3, 5, 123_456);
        for bit in 0..HEAD * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(bodies.head(changed.first_chunk().unwrap()), None, "bit {bit}");
        }
        assert_eq!(Bodies::of_size(65).head(body.first_chunk().unwrap()), None, "another size");
    }

    #[test]
    fn neighbours_have_different_tails() {
        let bodies = Bodies::of_size(32);
        assert_ne!(bodies.body(1)[HEAD..], bodies.body(2)[HEAD..]);
        assert_eq!(Bodies::of_size(15).body(9).len(), 15);
        assert_eq!(Bodies::of_size(0).body(0).len(), 0);
    }
}
