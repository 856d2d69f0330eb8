//! Every setting: what it takes, what is said about the rest, and what two policies with it amount to.

use super::*;

fn text(text: &str) -> Value {
    Value::from(text)
}

fn number(number: i64) -> Value {
    Value::I64(number)
}

fn table(name: &str, value: &Value) -> Table {
    Table::from_pairs([(name, value.clone())]).unwrap()
}

fn user(name: &str, value: &Value) -> Result<(), String> {
    check(PolicyKind::User, &table(name, value))
}

/// A name, values that it takes, values that it does not take, and what is said about these.
type Case = (&'static str, Vec<Value>, Vec<Value>, &'static str);

fn words(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| text(word)).collect()
}

fn numbers(numbers: &[i64]) -> Vec<Value> {
    numbers.iter().map(|one| number(*one)).collect()
}

fn text_cases() -> Vec<Case> {
    let no_name = || vec![number(1), Value::Boolean(true), text(&"x".repeat(256))];
    let no_word = || vec![text("lot"), text(""), number(1)];
    let names = || vec![text(""), text("dlx"), text(&"x".repeat(255))];
    let overflows = words(&["drop-head", "reject-publish", "reject-publish-dlx"]);
    let locators = words(&["client-local", "balanced", "random", "least-leaders"]);
    let strategies = words(&["at-most-once", "at-least-once"]);
    let retries = words(&["disabled", "all", "failed", "returned"]);
    vec![
        ("alternate-exchange", names(), no_name(), "alternate exchange name"),
        ("dead-letter-exchange", names(), no_name(), "dead letter exchange name"),
        ("dead-letter-routing-key", names(), no_name(), "dead letter routing key"),
        ("dead-letter-strategy", strategies, no_word(), "dead letter strategy"),
        ("overflow", overflows, no_word(), "overflow value"),
        ("delayed-retry-type", retries, no_word(), "delayed retry type"),
        ("queue-mode", words(&["default", "lazy"]), no_word(), "queue-mode value"),
        ("queue-leader-locator", locators, no_word(), "queue leader locator value"),
        ("max-age", words(&["7D", "10s", "1Y"]), words(&["D", "", "7", "7W", "-7D"]), "max age"),
    ]
}

fn number_cases() -> Vec<Case> {
    let no_number = || vec![text("5"), number(-1), Value::F64(1.0), Value::Boolean(true)];
    let counts = || vec![number(0), number(1), number(i64::MAX), Value::U8(3)];
    let ten_years = 315_360_000_000;
    let filter = "filter size. Valid range is 16-255";
    vec![
        ("message-ttl", numbers(&[0, ten_years]), no_number(), "message TTL"),
        ("message-ttl", vec![], numbers(&[ten_years + 1]), "message TTL"),
        ("expires", numbers(&[1, ten_years]), no_number(), "queue expiry"),
        ("expires", vec![], numbers(&[0, ten_years + 1]), "queue expiry"),
        ("max-length", counts(), no_number(), "maximum length"),
        ("max-length-bytes", counts(), no_number(), "maximum length in bytes"),
        ("max-in-memory-length", counts(), no_number(), "maximum memory in bytes"),
        ("max-in-memory-bytes", counts(), no_number(), "maximum memory in bytes"),
        ("delivery-limit", numbers(&[-1, 0, 20]), vec![text("5"), Value::F64(1.0)], "delivery limit"),
        ("delayed-retry-min", counts(), no_number(), "minimum retry delay"),
        ("delayed-retry-max", counts(), no_number(), "maximum retry delay"),
        ("consumer-timeout", counts(), no_number(), "consumer timeout value"),
        ("consumer-disconnected-timeout", counts(), no_number(), "consumer disconnected timeout value"),
        ("queue-version", numbers(&[1, 2]), numbers(&[0, 3]), "queue-version value"),
        ("target-group-size", numbers(&[1, 5]), numbers(&[0, -1]), "qq target count value"),
        ("initial-cluster-size", counts(), no_number(), "cluster size"),
        ("stream-max-segment-size-bytes", counts(), no_number(), "segment size"),
        ("stream-filter-size-bytes", numbers(&[16, 255]), numbers(&[15, 256]), filter),
    ]
}

fn cases() -> Vec<Case> {
    let any = || vec![text("all"), number(-1), Value::Boolean(false), Value::Array(vec![text("a")])];
    let mirroring = [
        "ha-mode",
        "ha-params",
        "ha-sync-mode",
        "ha-sync-batch-size",
        "ha-promote-on-shutdown",
        "ha-promote-on-failure",
    ];
    let mirroring = mirroring.into_iter().map(|name| (name, any(), vec![], ""));
    text_cases().into_iter().chain(number_cases()).chain(mirroring).collect()
}

#[test]
fn every_setting_takes_what_it_can_mean() {
    let cases = cases();
    for key in KEYS {
        assert!(cases.iter().any(|(name, ..)| *name == key.name), "{} is not tested", key.name);
    }
    for (name, good, bad, wrong) in cases {
        for value in good {
            assert_eq!(user(name, &value), Ok(()), "{name} = {value:?}");
        }
        for value in bad {
            let said = format!("{} is not a valid {wrong}", term(&value));
            assert_eq!(user(name, &value), Err(said), "{name} = {value:?}");
        }
    }
}

#[test]
fn what_is_no_setting_is_refused_in_rabbitmqs_words() {
    assert_eq!(
        user("foo", &text("bar")).unwrap_err(),
        "[{<<\"foo\">>,<<\"bar\">>}] are not recognised policy settings"
    );
    // Neither the type of a queue nor what decides its shape can be changed by a policy.
    for name in
        ["queue-type", "max-priority", "single-active-consumer", "queue-master-locator", "x-max-length"]
    {
        let said = format!("[{{<<\"{name}\">>,1}}] are not recognised policy settings");
        assert_eq!(user(name, &number(1)), Err(said));
    }
    let several = Table::new().with("b", 2_i64).with("max-length", 1_i64).with("a", true);
    let said = "[{<<\"a\">>,true},\n {<<\"b\">>,2}] are not recognised policy settings";
    assert_eq!(check(PolicyKind::User, &several).unwrap_err(), said);
    let both = several.with("expires", 0_i64);
    assert_eq!(check(PolicyKind::User, &both).unwrap_err(), "0 is not a valid queue expiry");
    assert_eq!(check(PolicyKind::User, &Table::new()).unwrap_err(), "no policy provided");
}

#[test]
fn operators_set_limits_only() {
    let operators: Vec<_> = KEYS.iter().filter(|key| key.merge.is_some()).map(|key| key.name).collect();
    let expected = [
        "message-ttl",
        "expires",
        "max-length",
        "max-length-bytes",
        "max-in-memory-length",
        "max-in-memory-bytes",
        "overflow",
        "delivery-limit",
        "delayed-retry-type",
        "delayed-retry-min",
        "delayed-retry-max",
        "queue-version",
        "target-group-size",
        "ha-mode",
        "ha-params",
        "ha-sync-mode",
        "ha-sync-batch-size",
        "ha-promote-on-shutdown",
        "ha-promote-on-failure",
    ];
    assert_eq!(operators, expected);
    let refused = check(PolicyKind::Operator, &Table::new().with("dead-letter-exchange", "x")).unwrap_err();
    assert_eq!(refused, "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings");
}

#[test]
fn two_policies_amount_to_the_stricter_one() {
    for (names, user, operator, expected) in [
        (&["message-ttl", "expires", "max-length", "max-length-bytes"][..], 5, 9, 5),
        (&["message-ttl", "max-in-memory-length", "max-in-memory-bytes"], 9, 5, 5),
        (&["delayed-retry-min", "delayed-retry-max"], 9, 5, 5),
        (&["target-group-size"], 3, 5, 5),
        (&["target-group-size"], 5, 3, 5),
        (&["delivery-limit"], 5, 9, 5),
        (&["delivery-limit"], 9, 5, 5),
        // A negative limit is none, and no way around the other.
        (&["delivery-limit"], -1, 5, 5),
        (&["delivery-limit"], 5, -1, 5),
        (&["delivery-limit"], -1, -1, -1),
        (&["queue-version"], 1, 2, 2),
        (&["queue-version"], 2, 1, 1),
    ] {
        for name in names {
            let (user, operator) = (number(user), number(operator));
            assert_eq!(*merge(name, &user, &operator), number(expected), "{name}");
        }
    }
    for name in ["overflow", "delayed-retry-type", "ha-mode"] {
        assert_eq!(*merge(name, &text("mine"), &text("theirs")), text("theirs"), "{name}");
    }
}

#[test]
fn settings_of_other_types_keep_a_policy_away() {
    let is_for = |name: &str, kind| {
        is_for(&Table::from_pairs([("max-length", number(1)), (name, number(1))]).unwrap(), kind)
    };
    for (names, classic, quorum) in [
        (
            &["message-ttl", "overflow", "dead-letter-exchange", "queue-version", "ha-sync-batch-size"][..],
            true,
            true,
        ),
        (
            &["delivery-limit", "dead-letter-strategy", "target-group-size", "max-in-memory-length"],
            false,
            true,
        ),
        (
            &["max-in-memory-bytes", "delayed-retry-type", "delayed-retry-min", "delayed-retry-max"],
            false,
            true,
        ),
        (&["queue-mode", "ha-mode", "ha-params", "ha-sync-mode", "ha-promote-on-shutdown"], true, false),
        (&["ha-promote-on-failure"], true, false),
        (&["max-age", "stream-max-segment-size-bytes", "initial-cluster-size"], false, false),
    ] {
        for name in names {
            assert_eq!(is_for(name, QueueType::Classic), classic, "{name}");
            assert_eq!(is_for(name, QueueType::Quorum), quorum, "{name}");
        }
    }
}
