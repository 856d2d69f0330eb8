//! Feeds arbitrary octets to `ferrymq_fuzz::field_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ferrymq_fuzz::field_table(input));
