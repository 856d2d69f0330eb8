//! Feeds arbitrary octets to `ferrymq_fuzz::method`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrymq_fuzz::method(input));
