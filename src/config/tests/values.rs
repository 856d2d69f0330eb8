//! What good files mean.

use std::time::Duration;

use super::*;
use crate::config::quantity::Unit;
use proptest::prelude::*;

fn text(word: &str) -> Argument {
    Argument::Text(word.to_owned())
}

fn arguments<const N: usize>(pairs: [(&str, Argument); N]) -> Arguments {
    pairs.into_iter().map(|(name, argument)| (name.to_owned(), argument)).collect()
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = load("").unwrap();
    assert_eq!(Config { source: Source::default(), ..config }, Config::default());
}

#[test]
fn every_setting_arrives() {
    let config = load(
        r#"
        [server]
        listen = ["0.0.0.0:5672", "[::1]:0"]
        data_dir = "/var/lib/ferrymq"
        [log]
        level = "debug"
        format = "json"
        [limits]
        frame_max = "64 KiB"
        channel_max = 100
        heartbeat = "0 s"
        max_message_size = "512 MiB"
        handshake_timeout = "1500 ms"
        max_connections = 5000
        max_unauthenticated_connections = 10
        memory_watermark = "400MiB"
        outbox = "2 MB"
        write_timeout = "1 min"
        max_consumers_per_channel = 8
        [identity]
        product = "FerryMQ"
        version = "4.0.0"
        platform = "A ferry"
        information = "Ask the captain"
        cluster_name = "harbour"
        "#,
    )
    .unwrap();
    let expected = Config {
        listen: vec!["0.0.0.0:5672".parse().unwrap(), "[::1]:0".parse().unwrap()],
        data_dir: "/var/lib/ferrymq".into(),
        log: Log { level: LogLevel::Debug, format: LogFormat::Json },
        limits: Limits {
            frame_max: 65_536,
            channel_max: 100,
            heartbeat_seconds: 0,
            max_message_size_bytes: 536_870_912,
            handshake_timeout: Duration::from_millis(1500),
            max_connections: Some(5000),
            max_unauthenticated_connections: 10,
            memory_watermark: MemoryWatermark::Bytes(419_430_400),
            outbox_bytes: 2_000_000,
            write_timeout: Duration::from_secs(60),
            max_consumers_per_channel: Some(8),
        },
        identity: Identity {
            product: "FerryMQ".into(),
            version: "4.0.0".into(),
            platform: "A ferry".into(),
            information: "Ask the captain".into(),
            cluster_name: "harbour".into(),
        },
        source: config.source.clone(),
        ..Config::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn every_text_of_the_identity_has_1_to_255_bytes() {
    for key in ["product", "version", "platform", "information", "cluster_name"] {
        let good = |text: &str| load(&format!("[identity]\n{key} = \"{text}\"")).is_ok();
        assert!(good("a") && good(&"é".repeat(127)), "{key} cannot have 1 or 254 bytes");
        assert!(good(&"a".repeat(255)), "{key} cannot have 255 bytes");
        assert!(!good("") && !good(&"é".repeat(128)), "{key} can have 0 or 256 bytes");
    }
}

#[test]
fn every_key_of_an_exchange_arrives() {
    let config = load(
        r#"
[[exchange]]
name = "events"
type = "topic"
durable = false
auto_delete = true
internal = true
alternate_exchange = "lost"
arguments = { a = [1, 2.5, "three"], b = { c = false } }
"#,
    )
    .unwrap();
    let events = Exchange {
        name: "events".into(),
        kind: ExchangeType::Topic,
        durable: false,
        auto_delete: true,
        internal: true,
        arguments: arguments([
            ("alternate-exchange", text("lost")),
            ("a", Argument::List(vec![Argument::Integer(1), Argument::Float(2.5), text("three")])),
            ("b", Argument::Table(arguments([("c", Argument::Bool(false))]))),
        ]),
    };
    assert_eq!(config.exchanges, [Located { line: 2, value: events }]);
}

#[test]
fn every_key_of_a_queue_arrives() {
    let config = load(
        r#"
[[queue]]
name = "work"
durable = false
auto_delete = true
message_ttl = "1 h"
expires = "1 ms"
max_length = 0
max_length_bytes = "1 GiB"
overflow = "reject-publish-dlx"
dead_letter_exchange = ""
dead_letter_routing_key = "dead"
max_priority = 255
single_active_consumer = true

[[queue]]
name = "safe"
type = "quorum"
delivery_limit = -1
arguments = { x-message-ttl = 5 }
"#,
    )
    .unwrap();
    let work = arguments([
        ("x-message-ttl", Argument::Integer(3_600_000)),
        ("x-expires", Argument::Integer(1)),
        ("x-max-length", Argument::Integer(0)),
        ("x-max-length-bytes", Argument::Integer(1 << 30)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
        ("x-max-priority", Argument::Integer(255)),
        ("x-single-active-consumer", Argument::Bool(true)),
    ]);
    let work = Queue { name: "work".into(), durable: false, auto_delete: true, arguments: work };
    let safe = arguments([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", Argument::Integer(-1)),
        ("x-message-ttl", Argument::Integer(5)),
    ]);
    let safe = Queue { name: "safe".into(), durable: true, auto_delete: false, arguments: safe };
    assert_eq!(config.queues, [Located { line: 2, value: work }, Located { line: 16, value: safe }]);
}

#[test]
fn the_defaults_of_queues_arrive() {
    let defaults = |text: &str| load(&format!("[queues]\n{text}")).unwrap().queues_default;
    let expected = QueueDefaults { delivery_limit: Some(0), nack_counts_as_failure: true };
    assert_eq!(defaults("default_delivery_limit = 0\nnack_counts_as_failure = true"), expected);
    assert_eq!(defaults("default_delivery_limit = -1"), QueueDefaults::default());
    assert!(load("[queues]\ndefault_delivery_limit = -2").is_err());
}

#[test]
fn every_key_of_a_binding_arrives() {
    let config = load(
        r#"
[[binding]]
source = "events"
exchange = "amq.fanout"
routing_key = "a.#"
arguments = { note = "n" }

[[binding]]
source = "amq.match"
queue = "work"
headers = { kind = "x", n = 1 }
match = "any-with-x"
"#,
    )
    .unwrap();
    let to_exchange = Binding {
        source: "events".into(),
        destination: Destination::Exchange("amq.fanout".into()),
        routing_key: "a.#".into(),
        arguments: arguments([("note", text("n"))]),
    };
    let by_headers = Binding {
        source: "amq.match".into(),
        destination: Destination::Queue("work".into()),
        routing_key: String::new(),
        arguments: arguments([
            ("kind", text("x")),
            ("n", Argument::Integer(1)),
            ("x-match", text("any-with-x")),
        ]),
    };
    assert_eq!(
        config.bindings,
        [Located { line: 2, value: to_exchange }, Located { line: 8, value: by_headers }]
    );
}

#[test]
fn every_key_of_a_policy_arrives() {
    let config = load(
        r#"
[[policy]]
name = "amq.lazy"
pattern = '^(?!amq\.)'
apply_to = "classic_queues"
priority = -3
message_ttl = "1 min"
expires = "1 h"
max_length = 5
max_length_bytes = "1 KiB"
overflow = "reject-publish"
dead_letter_exchange = "dlx"
dead_letter_routing_key = "k"
alternate_exchange = "lost"
delivery_limit = -1
definition = { ha-mode = "all", ha-params = [1], queue-mode = "lazy", max-age = "7D" }

[[operator_policy]]
name = "amq.lazy"
pattern = "" # every name
definition = { message-ttl = 7, target-group-size = 3 }
"#,
    )
    .unwrap();
    let settings = [
        ("message-ttl", Argument::Integer(60_000)),
        ("expires", Argument::Integer(3_600_000)),
        ("max-length", Argument::Integer(5)),
        ("max-length-bytes", Argument::Integer(1024)),
        ("overflow", text("reject-publish")),
        ("dead-letter-exchange", text("dlx")),
        ("dead-letter-routing-key", text("k")),
        ("alternate-exchange", text("lost")),
        ("delivery-limit", Argument::Integer(-1)),
        ("ha-mode", text("all")),
        ("ha-params", Argument::List(vec![Argument::Integer(1)])),
        ("queue-mode", text("lazy")),
        ("max-age", text("7D")),
    ];
    let users = Policy {
        name: "amq.lazy".into(),
        operator: false,
        pattern: Located { line: 4, value: "^(?!amq\\.)".into() },
        apply_to: "classic_queues",
        priority: -3,
        definition: arguments(settings),
    };
    let operators = Policy {
        name: "amq.lazy".into(),
        operator: true,
        pattern: Located { line: 20, value: String::new() },
        apply_to: "all",
        priority: 0,
        definition: arguments([
            ("message-ttl", Argument::Integer(7)),
            ("target-group-size", Argument::Integer(3)),
        ]),
    };
    let expected = [Located { line: 2, value: users }, Located { line: 18, value: operators }];
    assert_eq!(config.policies, expected);
}

#[test]
fn an_exchange_and_a_queue_may_share_a_name_and_bind_what_clients_declare() {
    let file = "[[exchange]]\nname = \"a\"\n[[queue]]\nname = \"a\"\n[[binding]]\nsource = \"theirs\"\nqueue = \"a\"";
    assert_eq!(
        load(file).unwrap().topology_counts(),
        TopologyCounts { exchanges: 1, queues: 1, bindings: 1, policies: 0 }
    );
}

#[test]
fn flags_win_over_the_file_and_over_its_next_edit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, "server.listen = [\"127.0.0.1:1\"]\nserver.data_dir = \"file\"").unwrap();
    let flag = vec!["127.0.0.1:2".parse().unwrap()];
    let overrides = Overrides { listen: flag.clone(), data_dir: None };

    let config = Config::load(&path, &overrides).unwrap();
    assert_eq!((&config.listen, config.data_dir.to_str()), (&flag, Some("file")));
    std::fs::write(&path, "log.level = \"warn\"\n[[queue]]\nname = \"q\"").unwrap();
    let edited = config.reload().unwrap();
    assert_eq!(edited.listen, flag);
    assert_eq!(edited.data_dir, Config::default().data_dir);
    assert_eq!(config.restart_needed(&edited), ["[server]", "[log]"]);
    assert_eq!(edited.restart_needed(&edited), [""; 0]);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(config.reload(), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn addresses_are_read_or_explained() {
    assert_eq!(parse_address("[::1]:5672").unwrap().port(), 5672);
    let advice = [
        ("localhost:1", "write \"127.0.0.1:1\" or \"[::1]:1\""),
        (":1", "write \"0.0.0.0:1\" for all interfaces or \"127.0.0.1:1\" for this machine"),
        ("5673", "write \"0.0.0.0:5673\" for all interfaces or \"127.0.0.1:5673\" for this machine"),
        ("10.0.0.1", "write \"10.0.0.1:5672\""),
        ("::1", "write \"[::1]:5672\""),
        ("mq.example", "write an IP address and a port, such as \"127.0.0.1:5672\" or \"[::1]:5672\""),
    ];
    for (text, expected) in advice {
        assert_eq!(parse_address(text).unwrap_err(), expected);
    }
}

#[test]
fn quantities_need_a_known_unit() {
    assert_eq!(Unit::Size.parse("64 MiB"), Some(64 << 20));
    assert_eq!(Unit::Size.parse("64MB"), Some(64_000_000));
    assert_eq!(Unit::Duration.parse("2 d"), Some(172_800_000));
    for bad in
        ["", "64", "MiB", "-1 MiB", "1.5 MiB", "1 mib", "1 MiB ", " 1 MiB", "1 s", "99999999999 GiB", "+1 B"]
    {
        assert_eq!(Unit::Size.parse(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn a_formatted_quantity_reads_back(amount: u64) {
        for unit in [Unit::Size, Unit::Duration] {
            prop_assert_eq!(unit.parse(&unit.format(amount)), Some(amount));
        }
    }
}
