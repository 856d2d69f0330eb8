//! The persistent hash map of this room.
//!
//! Invariant: hashing is keyed with a constant, so that equal histories give equal maps in equal order. A map is
//! at most as deep as a hash has digits, and `SipHash` leaves a peer no cheap way to names whose hashes are equal.

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use rpds::HashTrieMapSync;

pub(super) type Map<K, V> = HashTrieMapSync<K, V, BuildHasherDefault<DefaultHasher>>;

pub(super) fn new_map<K: Eq + std::hash::Hash, V>() -> Map<K, V> {
    HashTrieMapSync::new_with_hasher_and_ptr_kind(BuildHasherDefault::default())
}
