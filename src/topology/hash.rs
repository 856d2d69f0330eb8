//! Hashes by which exchanges choose among their bindings.
//!
//! Invariant: they are the same on every machine, in every release and after every restart, so that a key stays with
//! its queue. Whoever wants keys with equal hashes can have them, at the cost of their own distribution only.

use bytes::BytesMut;
use ferrymq_protocol::table::{Table, ValueRef};

/// What is added between two draws of one sequence: an odd number without a pattern.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash that is being computed: FNV-1a, whose octets are mixed at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn octets(self, octets: &[u8]) -> Self {
        Self(
            octets
                .iter()
                .fold(self.0, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    /// Text and where it ends, so that two texts are not one text divided elsewhere.
    pub(super) fn text(self, text: &str) -> Self {
        self.octets(text.as_bytes()).octets(&[0xff])
    }

    /// A header's value. The width of an integer does not matter.
    pub(super) fn value(self, value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::LongString(octets) | ValueRef::Binary(octets) => self.octets(octets),
            value => {
                let value = value.to_owned();
                match value.as_integer() {
                    Some(integer) => self.octets(&[1]).octets(&integer.to_be_bytes()),
                    // As it stands on the wire: nobody distributes by tables, but they are told apart.
                    None => {
                        let mut octets = BytesMut::new();
                        let encoded = Table::from_pairs([("", value)]).map(|table| table.encode(&mut octets));
                        debug_assert!(matches!(encoded, Ok(Ok(()))), "what was decoded can be encoded");
                        self.octets(&[2]).octets(&octets)
                    }
                }
            }
        }
    }

    pub(super) fn finish(self) -> u64 {
        next(self.0)
    }
}

/// The draw after this one. Every bit of it depends on every bit of the one before.
pub(super) fn next(draw: u64) -> u64 {
    let mut mixed = draw.wrapping_add(STEP);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A slot out of `slots` for the key with this hash: jump consistent hashing, after Lamping and Veach. Every slot has
/// the same chance, and with one slot more a key either stays or goes to the new one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "slots are far fewer than 2^53; a float beyond u64 saturates, which is beyond all slots"
)]
pub(super) fn jump(hash: u64, slots: u64) -> u64 {
    let (mut slot, mut candidate, mut draw) = (0, 0, hash);
    while candidate < slots {
        slot = candidate;
        draw = next(draw);
        // Above 0 and at most 1: how far the key stays where it is, as a share of the slots so far.
        let share = ((draw >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        candidate = ((slot + 1) as f64 / share) as u64;
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_stay_as_they_are() {
        // Stored keys depend on them: a change here moves every key of every user.
        assert_eq!(Hash::new().text("order-1").finish(), 5_000_757_764_102_516_719);
        assert_eq!(jump(Hash::new().text("order-1").finish(), 1_000), 644);
    }

    #[test]
    fn widths_of_integers_do_not_matter_but_texts_are_no_numbers() {
        let of = |value| Hash::new().value(value).finish();
        assert_eq!(of(ValueRef::I8(7)), of(ValueRef::I64(7)));
        assert_ne!(of(ValueRef::I8(7)), of(ValueRef::LongString(b"7")));
        assert_ne!(of(ValueRef::Boolean(true)), of(ValueRef::Boolean(false)));
    }

    #[test]
    fn a_key_stays_or_goes_to_the_new_slot() {
        for key in 0..2_000_u64 {
            let hash = next(key);
            let mut slot = jump(hash, 1);
            assert_eq!(slot, 0);
            for slots in 2..100 {
                let with_one_more = jump(hash, slots);
                assert!(with_one_more == slot || with_one_more == slots - 1);
                slot = with_one_more;
            }
        }
    }
}
