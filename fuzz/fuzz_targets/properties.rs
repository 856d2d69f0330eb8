//! Feeds arbitrary octets to `ferrymq_fuzz::properties`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrymq_fuzz::properties(input));
