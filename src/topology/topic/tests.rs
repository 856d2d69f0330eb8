//! The trie against a matcher that is obviously right, and its cost.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::QueueId;

fn target(id: usize) -> Target {
    Target::Queue(QueueId(id as u64))
}

fn matches(topic: &Topic, key: &str) -> Vec<u64> {
    let mut found = Vec::new();
    topic.for_each_match(key, &mut |target| {
        if let Target::Queue(queue) = target {
            found.push(queue.0);
        }
    });
    found.sort_unstable();
    found.dedup();
    found
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

/// The rule, word for word.
pub(in crate::topology) fn naive_match(pattern: &str, key: &str) -> bool {
    fn go(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => go(rest, key) || (!key.is_empty() && go(pattern, &key[1..])),
            (["*", rest @ ..], [_, key @ ..]) => go(rest, key),
            ([word, rest @ ..], [first, key @ ..]) => word == first && go(rest, key),
            _ => false,
        }
    }
    go(&split(pattern), &split(key))
}

#[test]
fn words_stars_and_hashes_match() {
    for (pattern, key, expected) in [
        ("a.b", "a.b", true),
        ("a.b", "a.b.c", false),
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*", "a.", true),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("#", "", true),
        ("#", "a.b", true),
        ("*", "", false),
        ("", "", true),
        ("", "a", false),
        ("#.#.#", "a.b.c", true),
        ("#.b.#", "a.b.c", true),
        ("#.b.#", "a.c", false),
        ("#.*", "", false),
        ("*.#.*", "a.b", true),
        ("*.#.*", "a", false),
        ("a..b", "a..b", true),
        ("a.*.b", "a..b", true),
        ("a#", "a", false),
        ("a*", "ab", false),
    ] {
        let mut topic = Topic::new();
        topic.add(pattern, target(1));
        assert_eq!(!matches(&topic, key).is_empty(), expected, "{pattern:?} on {key:?}");
        assert_eq!(naive_match(pattern, key), expected, "naive, {pattern:?} on {key:?}");
    }
}

#[test]
fn removal_leaves_no_node_behind_and_spares_the_others() {
    let mut topic = Topic::new();
    for (id, pattern) in ["a.b.c", "a.b", "a.#.c", "a.*", "#.#", ""].into_iter().enumerate() {
        topic.add(pattern, target(id));
    }
    topic.remove("a.b.c", &target(0));
    topic.remove("a.b.c.d", &target(0));
    topic.remove("a.b", &target(7));
    assert_eq!(matches(&topic, "a.b.c"), [2, 4]);
    assert_eq!(matches(&topic, "a.b"), [1, 3, 4]);
    for (id, pattern) in ["a.b.c", "a.b", "a.#.c", "a.*", "#", ""].into_iter().enumerate() {
        topic.remove(pattern, &target(id));
    }
    assert!(!topic.root.has_children() && topic.root.targets.is_empty());
}

#[test]
fn snapshots_are_spared_by_later_changes() {
    let mut topic = Topic::new();
    topic.add("a.*.#.b", target(1));
    let snapshot = topic.clone();
    topic.remove("a.*.#.b", &target(1));
    topic.add("a.#", target(2));
    assert_eq!(matches(&snapshot, "a.x.y.b"), [1]);
    assert_eq!(matches(&topic, "a.x.y.b"), [2]);
}

#[test]
fn a_key_of_128_words_costs_words_times_nodes() {
    let mut topic = Topic::new();
    let mut nodes = 1;
    // `#.a.#.a…` of every length shares one path; `#.b<i>.#.a.#.a` does not.
    for length in 1..=60 {
        topic.add(&format!("{}#", "#.a.".repeat(length)), target(length));
        topic.add(&format!("#.b{length}.#.a.#.a.#"), target(100 + length));
        nodes += 2 + 6;
    }
    let key = vec!["a"; 128].join(".");
    let mut found = 0;
    let cost = topic.for_each_match(&key, &mut |_| found += 1);
    assert_eq!(found, 60, "each pattern of a's once, none of b's");
    assert!(cost <= 2 * 129 * nodes, "{cost} looks at {nodes} nodes");
    // What the key does not lead to is not looked at.
    let cost = topic.for_each_match("c", &mut |_| {});
    assert!(cost < 10, "{cost}");
}

#[test]
fn repeated_hashes_cost_what_one_does() {
    let mut topic = Topic::new();
    topic.add(&vec!["#"; 128].join("."), target(1));
    let key = vec!["a"; 128].join(".");
    let mut found = 0;
    let cost = topic.for_each_match(&key, &mut |_| found += 1);
    assert_eq!(found, 1);
    assert!(cost < 10, "{cost}");
    topic.remove("#", &target(1));
    assert!(!topic.root.has_children());
}

#[test]
fn ten_thousand_patterns_do_not_slow_a_key_that_meets_few() {
    let mut topic = Topic::new();
    for i in 0..10_000 {
        topic.add(&format!("region{}.device{i}.*", i % 100), target(i));
    }
    let cost = topic.for_each_match("region7.device1007.temperature", &mut |_| {});
    assert!(cost < 10, "{cost}");
}

fn key() -> impl Strategy<Value = String> {
    vec(select(&["a", "b", "", "*", "#"]), 0..7).prop_map(|words| words.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    vec(select(&["a", "a", "b", "", "*", "#", "#"]), 0..7).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn the_trie_agrees_with_the_naive_matcher(
        patterns in vec(pattern(), 0..12),
        removed in vec(any::<bool>(), 12),
        keys in vec(key(), 1..8),
    ) {
        let mut topic = Topic::new();
        for (id, pattern) in patterns.iter().enumerate() {
            topic.add(pattern, target(id));
        }
        for (id, pattern) in patterns.iter().enumerate().filter(|(id, _)| removed[*id]) {
            topic.remove(pattern, &target(id));
        }
        for key in &keys {
            let expected: Vec<u64> = patterns
                .iter()
                .enumerate()
                .filter(|(id, pattern)| !removed[*id] && naive_match(pattern, key))
                .map(|(id, _)| id as u64)
                .collect();
            prop_assert_eq!(matches(&topic, key), expected, "key {:?}", key);
        }
        for (id, pattern) in patterns.iter().enumerate().filter(|(id, _)| !removed[*id]) {
            topic.remove(pattern, &target(id));
        }
        prop_assert!(!topic.root.has_children() && topic.root.targets.is_empty());
    }
}
