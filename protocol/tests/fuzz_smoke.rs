//! The fuzz targets on stable: their seeds, seeded random octets and mutated seeds. The number that a failing test
//! prints replays it, as `FERRYMQ_SEED`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own when it is not included here")]
mod targets;

use std::path::Path;

const ROUNDS: usize = 5_000;
const DEFAULT_SEED: u64 = 0x0FE4_41E5;

/// SplitMix64: all that is needed here, and the same run for the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn octet(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    /// Octets that mean something somewhere: limits, type letters, the frame end.
    const TELLING: &[u8] = b"\x00\x01\x02\x03\x08\x7f\x80\xce\xfe\xfftbBsuIilLfdDSATFVx";
    let mut octets = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let place = random.below(octets.len() + 1);
        match random.below(6) {
            0 => octets.truncate(place),
            1 => octets.insert(place, random.octet()),
            2 => octets.extend_from_slice(&seeds[random.below(seeds.len())]),
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let piece = other[random.below(other.len())..].to_vec();
                octets.splice(place..place, piece);
            }
            kind => {
                let octet = if kind == 4 { random.octet() } else { TELLING[random.below(TELLING.len())] };
                if let Some(present) = octets.get_mut(place) {
                    *present = octet;
                }
            }
        }
    }
    octets
}

fn run(target: &str, feed: fn(&[u8])) {
    let seed = std::env::var("FERRYMQ_SEED").map_or(DEFAULT_SEED, |seed| seed.parse().unwrap());
    println!("FERRYMQ_SEED={seed}");
    let mut random = Random(seed);
    let seeds = seeds(target);
    assert!(!seeds.is_empty());
    for seed in &seeds {
        feed(seed);
    }
    for _ in 0..ROUNDS {
        let length = random.below(64);
        let octets: Vec<u8> = (0..length).map(|_| random.octet()).collect();
        feed(&octets);
        feed(&mutated(&mut random, &seeds));
    }
}

#[test]
fn frame() {
    run("frame", targets::frame);
}

#[test]
fn method() {
    run("method", targets::method);
}

#[test]
fn field_table() {
    run("field_table", targets::field_table);
}

#[test]
fn properties() {
    run("properties", targets::properties);
}

/// The seeds are valid input: a target that refuses its seeds at the door would test nothing.
#[test]
fn the_seeds_are_accepted() {
    use ferrymq_protocol::method::Method;
    use ferrymq_protocol::properties::{ContentHeader, Properties};
    use ferrymq_protocol::table::TableRef;

    for seed in seeds("method") {
        Method::decode(&seed).unwrap();
    }
    for seed in seeds("field_table") {
        TableRef::parse(&seed).unwrap();
    }
    for seed in seeds("properties") {
        Properties::decode(ContentHeader::decode(&seed).unwrap().raw_properties).unwrap();
    }
}
