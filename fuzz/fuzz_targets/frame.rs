//! Feeds arbitrary octets to `ferrymq_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrymq_fuzz::frame(input));
