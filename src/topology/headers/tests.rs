//! Every mode of `x-match` on the headers that tell them apart.

use bytes::BytesMut;

use super::super::tests::fixture::table;
use super::*;
use crate::model::QueueId;

fn holds<const A: usize, const H: usize>(arguments: [(&str, Value); A], headers: [(&str, Value); H]) -> bool {
    let arguments = table(arguments);
    let mut rules = Headers::new();
    let canonical = super::super::binding::canonical(&arguments);
    rules.add(&canonical, &arguments, Target::Queue(QueueId(1)));
    let mut octets = BytesMut::new();
    table(headers).encode(&mut octets).expect("small");
    let headers = TableRef::parse(&octets).expect("just written");
    let mut found = false;
    rules.for_each_match(&SortedHeaders::new(Some(headers)), &mut |_| found = true);
    found
}

#[test]
fn all_is_the_default() {
    for mode in [None, Some("all")] {
        let with = |headers: [(&str, Value); 2]| match mode {
            None => holds([("b", 1.into()), ("a", "x".into())], headers),
            Some(mode) => holds([("b", 1.into()), ("x-match", mode.into()), ("a", "x".into())], headers),
        };
        assert!(with([("a", "x".into()), ("b", 1.into())]));
        assert!(!with([("a", "x".into()), ("b", 2.into())]));
        assert!(!with([("a", "x".into()), ("c", 1.into())]));
    }
}

#[test]
fn any_needs_one() {
    let arguments = || [("x-match", "any".into()), ("a", 1.into()), ("b", 2.into())];
    assert!(holds(arguments(), [("b", 2.into())]));
    assert!(holds(arguments(), [("a", 1.into()), ("b", 3.into())]));
    assert!(!holds(arguments(), [("a", 2.into()), ("b", 1.into())]));
    assert!(!holds(arguments(), []));
}

#[test]
fn without_conditions_all_match_and_none_is_any() {
    assert!(holds([], []));
    assert!(holds([("x-match", "all".into())], [("a", 1.into())]));
    assert!(!holds([("x-match", "any".into())], [("a", 1.into())]));
    assert!(holds([("x-match", "all".into()), ("x-a", 1.into())], []));
    assert!(!holds([("x-match", "any".into()), ("x-a", 1.into())], [("x-a", 1.into())]));
}

#[test]
fn names_with_x_count_where_the_mode_says_so() {
    assert!(!holds([("x-match", "all-with-x".into()), ("x-a", 1.into())], []));
    assert!(holds([("x-match", "all-with-x".into()), ("x-a", 1.into())], [("x-a", 1.into())]));
    assert!(holds(
        [("x-match", "any-with-x".into()), ("x-a", 1.into()), ("b", 1.into())],
        [("x-a", 1.into())]
    ));
    // The choice of mode is itself no condition.
    assert!(!holds([("x-match", "any-with-x".into())], [("x-match", "any-with-x".into())]));
}

#[test]
fn void_asks_for_presence() {
    assert!(holds([("a", Value::Void)], [("a", "whatever".into())]));
    assert!(holds([("a", Value::Void)], [("a", Value::Void)]));
    assert!(!holds([("a", Value::Void)], [("b", 1.into())]));
    assert!(!holds([("a", 1.into())], [("a", Value::Void)]));
}

#[test]
fn the_type_of_a_number_is_ignored() {
    assert!(holds([("a", 5_i8.into())], [("a", 5_i64.into())]));
    assert!(holds([("a", 5_i8.into())], [("a", 5.0_f64.into())]));
    assert!(!holds([("a", 5_i8.into())], [("a", 5.5_f64.into())]));
    assert!(!holds([("a", 5_i8.into())], [("a", "5".into())]));
}

#[test]
fn arrays_and_tables_are_compared_whole() {
    let array = || Value::from(vec![Value::I32(1), Value::Table(table([("k", true.into())]))]);
    assert!(holds([("a", array())], [("a", array())]));
    assert!(!holds([("a", array())], [("a", Value::from(vec![Value::I32(1)]))]));
}

#[test]
fn equal_arguments_share_a_rule() {
    let mut rules = Headers::new();
    let arguments = table([("a", 1.into()), ("b", 2.into())]);
    let reordered = table([("b", 2.into()), ("a", 1.into())]);
    let canonical = super::super::binding::canonical(&arguments);
    assert_eq!(canonical, super::super::binding::canonical(&reordered));
    rules.add(&canonical, &arguments, Target::Queue(QueueId(1)));
    rules.add(&canonical, &reordered, Target::Queue(QueueId(2)));
    assert_eq!(rules.0.size(), 1);
    rules.remove(&canonical, &Target::Queue(QueueId(1)));
    assert_eq!(rules.0.size(), 1);
    rules.remove(&canonical, &Target::Queue(QueueId(2)));
    assert!(rules.0.is_empty());
}

#[test]
fn of_equal_names_the_first_counts() {
    let mut octets = BytesMut::new();
    for value in [1, 2] {
        table([("a", value.into())]).encode(&mut octets).expect("small");
    }
    let twice = TableRef::parse(&octets).expect("names may repeat");
    let canonical = super::super::binding::canonical;
    assert_eq!(canonical(&twice.to_owned()), canonical(&table([("a", 1.into())])));
    for (value, expected) in [(1, true), (2, false)] {
        let conditions = Conditions::new(&table([("a", value.into())]));
        assert_eq!(conditions.hold(&SortedHeaders::new(Some(twice))), expected);
        let asked_twice = Conditions::new(&twice.to_owned());
        let mut octets = BytesMut::new();
        table([("a", value.into())]).encode(&mut octets).expect("small");
        let once = TableRef::parse(&octets).expect("just written");
        assert_eq!(asked_twice.hold(&SortedHeaders::new(Some(once))), expected);
    }
}
