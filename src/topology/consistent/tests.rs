//! Shares, and what moves when destinations come and go.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::QueueId;

const KEYS: u64 = 60_000;

fn queue(id: u64) -> Target {
    Target::Queue(QueueId(id))
}

fn of(weights: &[u16]) -> Consistent {
    let mut members = Consistent::new(&Table::new());
    for (id, weight) in (0..).zip(weights) {
        members.add(&weight.to_string(), queue(id));
    }
    members
}

fn owner(members: &Consistent, key: u64) -> Option<Target> {
    members.choose(&format!("order-{key}"), &Features::default()).cloned()
}

/// How many of the keys each destination gets.
fn counts(members: &Consistent) -> BTreeMap<Target, u64> {
    let mut counts = BTreeMap::new();
    for key in 0..KEYS {
        *counts.entry(owner(members, key).expect("somebody is bound")).or_default() += 1;
    }
    counts
}

/// Every destination's share is its weight's, give or take five standard deviations of a fair draw.
fn assert_fair(members: &Consistent, weights: &[(u64, u16)]) {
    let total: f64 = weights.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let counts = counts(members);
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand keys")]
    for (id, weight) in weights {
        let share = f64::from(*weight) / total;
        let (keys, got) = (KEYS as f64, counts.get(&queue(*id)).copied().unwrap_or(0) as f64);
        let bound = 5.0 * (keys * share * (1.0 - share)).sqrt() + 1.0;
        let expected = keys * share;
        assert!(
            (got - expected).abs() <= bound,
            "{id} of weight {weight} got {got}, not {expected} +- {bound}"
        );
    }
}

fn assert_sound(members: &Consistent) {
    let mut end = 0;
    for (place, span) in members.spans.iter().enumerate() {
        assert_eq!(span.start, end);
        assert!(span.used <= span.len);
        assert_eq!(span.target.is_none(), span.used == 0);
        assert_eq!(span.target.is_none(), members.free.contains(&(span.len, place)));
        if let Some(target) = &span.target {
            let member = &members.members.get(target).expect("whoever owns slots is a member");
            assert_eq!((member.span, member.weight), (place, span.used));
        }
        end += u64::from(span.len);
    }
    assert_eq!(members.end, end);
    assert_eq!(members.owned, members.spans.iter().map(|span| u64::from(span.used)).sum::<u64>());
    assert!(members.end <= 8 * members.owned);
}

#[test]
fn equal_weights_get_equal_shares() {
    for (number, weight) in [(1, 1), (2, 1), (10, 1), (10, 100), (300, 7)] {
        let weights: Vec<_> = (0..number).map(|id| (id, weight)).collect();
        assert_fair(&of(&vec![weight; weights.len()]), &weights);
    }
}

#[test]
fn unequal_weights_get_shares_in_proportion() {
    for weights in [&[1, 2][..], &[1, 1, 2, 2], &[10, 200, 3_000, 1], &[10_000, 9_999, 1]] {
        let named: Vec<_> = (0..).zip(weights.iter().copied()).collect();
        assert_fair(&of(weights), &named);
    }
}

#[test]
fn shares_are_fair_with_free_slots_too() {
    let mut members = of(&[5; 40]);
    let gone = |id: &u64| !id.is_multiple_of(3);
    for id in (0..40).filter(gone) {
        members.remove("5", &queue(id));
        assert_sound(&members);
    }
    assert!(members.free.size() > 0, "slots are free");
    let left: Vec<_> = (0..40).filter(|id| !gone(id)).map(|id| (id, 5)).collect();
    assert_fair(&members, &left);
}

#[test]
fn a_light_destination_in_a_heavy_ones_place_takes_its_own_keys_only() {
    let mut members = of(&[20, 30, 40, 1]);
    members.remove("40", &queue(2));
    members.remove("1", &queue(3));
    let before: Vec<_> = (0..2_000).map(|key| owner(&members, key)).collect();
    members.add("5", queue(4));
    members.remove("5", &queue(4));
    assert_sound(&members);
    assert_eq!((0..2_000).map(|key| owner(&members, key)).collect::<Vec<_>>(), before);
}

#[test]
fn the_first_weight_of_a_destination_counts_for_as_long_as_it_is_bound() {
    let mut members = of(&[1, 1]);
    members.add("10", queue(0));
    members.add("1", queue(0));
    assert_fair(&members, &[(0, 1), (1, 1)]);
    members.remove("1", &queue(0));
    assert_fair(&members, &[(0, 1), (1, 1)]);
    members.remove("1", &queue(0));
    assert_fair(&members, &[(0, 10), (1, 1)]);
    members.remove("7", &queue(0));
    members.remove("10", &queue(0));
    assert_sound(&members);
    assert_eq!(counts(&members), BTreeMap::from([(queue(1), KEYS)]));
    members.remove("1", &queue(1));
    assert_eq!((owner(&members, 1), members.end, members.owned), (None, 0, 0));
}

#[test]
fn what_a_message_does_not_have_goes_one_way() {
    let by_property = |name: &str| Table::new().with("hash-property", name);
    for arguments in
        [by_property("message_id"), by_property("timestamp"), Table::new().with("hash-header", "customer")]
    {
        let mut members = Consistent::new(&arguments);
        (0..9).for_each(|id| members.add("1", queue(id)));
        assert!(members.looks_inside());
        let first = owner(&members, 0);
        assert!((1..50).all(|key| owner(&members, key) == first), "the routing key has no say");
        let choose = |n: u64| {
            let text = n.to_string();
            let features = Features { message_id: Some(&text), timestamp: Some(n), ..Features::default() };
            members.choose("k", &features).cloned()
        };
        let chosen: BTreeSet<_> = (0..50).map(choose).collect();
        let looks_at_features = arguments.get("hash-property").is_some();
        assert_eq!(chosen.len() > 5, looks_at_features, "{arguments:?}");
    }
}

#[test]
fn keys_that_are_no_weights_are_refused() {
    for (key, text) in [
        ("", "The binding key must be an integer: <<>>"),
        ("abc", "The binding key must be an integer: <<\"abc\">>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
        (" 1", "The binding key must be an integer: <<\" 1\">>"),
        ("-", "The binding key must be an integer: <<\"-\">>"),
        ("a\"b", "The binding key must be an integer: <<\"a\\\"b\">>"),
        ("a\u{1}", "The binding key must be an integer: <<97,1>>"),
        ("0", "The binding key must be greater than 0"),
        ("-0", "The binding key must be greater than 0"),
        ("-99999999999999999999", "The binding key must be greater than 0"),
        ("10001", "The binding key must not be greater than 10000"),
        ("99999999999999999999", "The binding key must not be greater than 10000"),
    ] {
        assert_eq!(check_key(key).map_err(|refusal| refusal.to_string()), Err(text.to_owned()), "{key:?}");
    }
    for (key, expected) in [("1", 1), ("+7", 7), ("0010", 10), ("10000", 10_000)] {
        assert_eq!(weight(key), Ok(expected));
    }
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let check = |arguments: Table| {
        check_arguments(&arguments, "exchange 'x'", &VhostName::from("/"))
            .map_err(|refusal| refusal.to_string())
    };
    let both = Table::new().with("hash-header", "h").with("hash-property", "message_id");
    assert_eq!(check(both), Err("hash-header and hash-property are mutually exclusive".to_owned()));
    let unknown = Table::new().with("hash-property", "app_id");
    assert_eq!(check(unknown), Err("Unsupported property: app_id".to_owned()));
    let number = Table::new().with("hash-header", 1);
    assert_eq!(
        check(number),
        Err("invalid type 'signedint' for arg 'hash-header' in exchange 'x' in vhost '/'".to_owned())
    );
    assert_eq!(check(Table::new().with("hash-property", "correlation_id")), Ok(()));
}

proptest! {
    #[test]
    fn keys_move_only_to_who_comes_and_from_who_goes(
        steps in vec((any::<bool>(), 0..24_u64, select(vec![1_u16, 1, 2, 5, 40])), 1..60),
    ) {
        let mut members = of(&[]);
        let mut weights = BTreeMap::new();
        let owners = |members: &Consistent| (0..150).map(|key| owner(members, key)).collect::<Vec<_>>();
        for (add, id, weight) in steps {
            let (before, ends) = (owners(&members), (members.end, members.owned));
            if add {
                if weights.contains_key(&id) {
                    continue;
                }
                weights.insert(id, weight);
                members.add(&weight.to_string(), queue(id));
            } else {
                let Some(weight) = weights.remove(&id) else { continue };
                members.remove(&weight.to_string(), &queue(id));
            }
            assert_sound(&members);
            let after = owners(&members);
            let laid_out = !add && ends.0 > 8 * members.owned;
            for (before, after) in before.into_iter().zip(after) {
                prop_assert_eq!(after.is_some(), !weights.is_empty());
                if before == after || laid_out {
                    continue;
                }
                let (moved_from, moved_to) = (before == Some(queue(id)), after == Some(queue(id)));
                prop_assert!(
                    if add { moved_to } else { moved_from },
                    "{:?} became {:?} when {} {}", before, after, id, if add { "came" } else { "went" }
                );
            }
        }
    }
}
