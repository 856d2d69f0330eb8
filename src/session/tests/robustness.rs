//! However the bytes are cut, the same comes out; whatever they are, nothing breaks.

use std::collections::BTreeMap;

use ferrymq_protocol::method::{confirm, queue, tx};
use proptest::prelude::*;

use super::*;

/// A valid conversation after the handshake, without answers.
fn conversation() -> Vec<u8> {
    let method = basic::Publish { exchange: "", routing_key: "q", mandatory: true, immediate: false };
    let properties = Properties { delivery_mode: Some(2), expiration: Some("1000"), ..Properties::default() };
    let mut octets = encoded(1, channel::Open {});
    for frame in [
        encoded(1, confirm::Select { no_wait: false }),
        published(1, method, properties, b"a body"),
        published(1, basic::Publish { routing_key: "nowhere", ..method }, Properties::default(), &[7; 9_000]),
        encoded(1, queue::Purge { queue: "q", no_wait: false }),
        encoded(1, consume("q", "c", false)),
        encoded(2, channel::Open {}),
        encoded(2, tx::Select {}),
        published(2, method, Properties::default(), b""),
        encoded(1, ack(1, false)),
        encoded(2, tx::Commit {}),
        encoded(1, basic::Get { queue: "q", no_ack: true }),
        encoded(1, basic::Cancel { consumer_tag: "c", no_wait: false }),
        encoded(1, basic::Qos { prefetch_size: 0, prefetch_count: 3, global: true }),
        encoded(2, channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }),
        BytesMut::from(&frame::HEARTBEAT_FRAME[..]),
        encoded(0, connection::Close { reply_code: 200, reply_text: "bye", class_id: 0, method_id: 0 }),
    ] {
        octets.extend_from_slice(&frame);
    }
    octets.to_vec()
}

/// Plays the runtime and a vhost that grants everything; returns the commands as text.
fn play(kit: &mut Kit) -> Vec<String> {
    let mut seen = Vec::new();
    let mut position = 0;
    for _ in 0..10_000 {
        let mut events = Vec::new();
        for command in kit.commands.drain(..) {
            seen.push(format!("{command:?}"));
            if let Command::Request { channel, request } = command {
                grant(channel, request, &mut events);
            }
        }
        position += 1;
        for event in events {
            kit.session.event(event, LogPosition(position));
        }
        kit.session.turn_applied(LogPosition(position));
        kit.session.durable(LogPosition(position));
        match &kit.step {
            Step::Detach => kit.detach(),
            Step::Closed => return seen,
            Step::NeedInput => {
                kit.run();
                if kit.commands.is_empty() && matches!(kit.step, Step::NeedInput) {
                    return seen;
                }
            }
            _ => kit.run(),
        }
    }
    panic!("the session never comes to rest: {:?}", kit.step);
}

fn grant(channel: ChannelNumber, request: Request, events: &mut Vec<Event>) {
    let mut deliver = None;
    let reply = match request {
        Request::OpenChannel => Reply::ChannelOpened(ChannelKey(u64::from(channel.0) + 100)),
        Request::CloseChannel(_) => Reply::ChannelClosed,
        Request::DeclareExchange(_) | Request::CheckExchange(_) => Reply::ExchangeDeclared,
        Request::DeleteExchange { .. } => Reply::ExchangeDeleted,
        Request::Bind(_) => Reply::Bound,
        Request::Unbind(_) => Reply::Unbound,
        Request::DeclareQueue(QueueDefinition { name, .. })
        | Request::CheckQueue(name)
        | Request::CheckReplyTo { name, .. } => Reply::QueueDeclared { name, messages: 0, consumers: 0 },
        Request::DeleteQueue { .. } => Reply::QueueDeleted { messages: 0 },
        Request::PurgeQueue(_) => Reply::QueuePurged { messages: 0 },
        Request::Get(_) => Reply::Got(None),
        Request::Consume(consume) => {
            deliver = Some(consume.consumer);
            Reply::Consuming(consume.consumer)
        }
        Request::ConsumeReplies { consumer, .. } => Reply::Consuming(consumer),
        Request::Cancel { consumer, .. } => Reply::Cancelled(consumer),
    };
    events.push(Event::Replied { channel, result: Ok(reply) });
    if let Some(consumer) = deliver {
        events.push(Event::Delivery(Delivery {
            channel,
            consumer,
            queue: QueueId(1),
            seq: Seq(1),
            redelivered: false,
            delivery_count: 0,
            message: message("", "q", b"delivered"),
        }));
    }
}

fn fresh() -> Kit {
    let mut kit = Kit::open();
    kit.queue("q", 1);
    kit
}

fn play_in_pieces(octets: &[u8], cuts: impl IntoIterator<Item = usize>) -> (Vec<String>, Vec<u8>, bool) {
    let mut kit = fresh();
    let mut seen = Vec::new();
    let mut start = 0;
    for cut in cuts.into_iter().chain([octets.len()]) {
        kit.feed(&octets[start..cut]);
        start = cut;
        seen.extend(play(&mut kit));
    }
    let closed = matches!(kit.step, Step::Closed);
    (seen, kit.output.to_vec(), closed)
}

#[test]
fn frames_cut_anywhere_mean_the_same() {
    let octets = conversation();
    let (commands, output, closed) = play_in_pieces(&octets, []);
    assert!(closed && commands.len() > 10, "{commands:?}");
    for cut in 1..octets.len() {
        let (cut_commands, _, closed) = play_in_pieces(&octets, [cut]);
        assert!(closed, "cut at {cut}");
        assert_eq!(cut_commands, commands, "cut at {cut}");
    }
    let (byte_commands, byte_output, closed) = play_in_pieces(&octets, 1..octets.len());
    assert!(closed);
    assert_eq!(byte_commands, commands);
    assert_eq!(told(&byte_output), told(&output));
}

/// Frames by channel.
type Frames = BTreeMap<u16, Vec<Vec<u8>>>;

/// Every frame but the confirms, channel by channel, and the last confirm of each: how confirms fold depends on how
/// the bytes were cut.
fn told(mut output: &[u8]) -> (Frames, BTreeMap<u16, u64>) {
    let mut frames = Frames::new();
    let mut confirmed = BTreeMap::new();
    while let Some((frame, taken)) = frame::decode_frame(output, usize::MAX).unwrap() {
        let method = (frame.kind == FrameKind::Method).then(|| Method::decode(frame.payload).unwrap());
        if let Some(Method::BasicAck(ack)) = method {
            assert!(confirmed.insert(frame.channel, ack.delivery_tag) < Some(ack.delivery_tag));
        } else {
            frames.entry(frame.channel).or_default().push(output[..taken].to_vec());
        }
        output = &output[taken..];
    }
    (frames, confirmed)
}

#[test]
fn an_idle_session_holds_next_to_nothing() {
    let mut kit = fresh();
    kit.channel(1);
    kit.publish(1, "q", &[0; 100_000]);
    kit.commands.clear();
    kit.applied(0);
    assert_eq!(kit.session.buffered_bytes(), 0);
    assert!(size_of::<Session>() < 1_536, "{}", size_of::<Session>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_streams_break_nothing(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        dropped in 0_usize..20,
    ) {
        let mut octets = conversation();
        for (index, octet) in damage {
            let at = index.index(octets.len());
            octets[at] = octet;
        }
        let at = cut.index(octets.len() - dropped);
        octets.drain(at..at + dropped);
        play_in_pieces(&octets, [at]);
    }

    #[test]
    fn frames_in_any_order_break_nothing(order in prop::collection::vec(0_usize..17, 1..60)) {
        let mut frames = Vec::new();
        let mut octets = &conversation()[..];
        while let Ok(Some((_, taken))) = frame::decode_frame(octets, usize::MAX) {
            frames.push(octets[..taken].to_vec());
            octets = &octets[taken..];
        }
        let mut kit = fresh();
        kit.channel(1);
        kit.channel(2);
        for index in order {
            kit.feed(&frames[index % frames.len()]);
            play(&mut kit);
        }
    }

    #[test]
    fn anything_may_knock(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut kit = Kit::new();
        kit.feed(&octets);
        let mut kit = Kit::new();
        kit.feed(&PROTOCOL_HEADER);
        kit.feed(&octets);
    }
}
