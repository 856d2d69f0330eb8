//! The 64-bit sum that stored bytes carry: FNV-1a with a final mix.
//!
//! Invariant: part of the stored format, never changed. Every change of a single byte changes the sum. It finds
//! accidents; it does not withstand somebody who can write to the data directory.

/// The sum of several parts; where one ends and the next begins matters.
#[derive(Clone, Copy)]
pub(super) struct Checksum(u64);

impl Checksum {
    /// The sum of nothing.
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a part.
    pub(super) fn part(self, bytes: &[u8]) -> Self {
        let length = u64::try_from(bytes.len()).expect("a slice is shorter than 2^64 bytes");
        self.bytes(&length.to_be_bytes()).bytes(bytes)
    }

    /// The sum so far.
    pub(super) fn finish(self) -> u64 {
        let mut sum = self.0;
        sum = (sum ^ (sum >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        sum = (sum ^ (sum >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        sum ^ (sum >> 33)
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        Self(
            bytes
                .iter()
                .fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }
}

/// The sum of one part.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    Checksum::new().part(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_sum_never_changes() {
        assert_eq!(checksum(b""), 0x7bd3_144f_29c0_cc9e);
        assert_eq!(checksum(b"definitions"), 0xc6ac_613a_75d5_ec91);
    }

    #[test]
    fn every_flipped_byte_and_every_border_matters() {
        let bytes = *b"some stored record";
        for at in 0..bytes.len() {
            for flip in 1..=255 {
                let mut other = bytes;
                other[at] ^= flip;
                assert_ne!(checksum(&bytes), checksum(&other));
            }
        }
        let joined = |a: &[u8], b: &[u8]| Checksum::new().part(a).part(b).finish();
        assert_ne!(joined(b"ab", b"c"), joined(b"a", b"bc"));
    }
}
