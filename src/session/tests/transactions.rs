//! Transactions.

use ferrymq_protocol::method::{confirm, tx};

use super::*;

fn transactional() -> (Kit, ConsumerKey) {
    let mut kit = Kit::open();
    kit.queue("q", 1);
    kit.channel(1);
    let consumer = kit.consumer(1, "c", false);
    kit.send(1, tx::Select {});
    kit.expect(1, tx::SelectOk {});
    (kit, consumer)
}

#[test]
fn a_commit_is_one_command_in_the_order_received() {
    let (mut kit, consumer) = transactional();
    kit.deliver_quietly(1, consumer, 1..=3);
    kit.publish(1, "q", b"one");
    kit.send(1, ack(2, true));
    kit.publish(1, "q", b"two");
    kit.send(1, nack(3, false, true));
    assert!(kit.commands.is_empty());
    kit.send(1, tx::Commit {});
    let Some(Command::Transaction(commands)) = kit.commands.pop() else { panic!() };
    let kinds: Vec<_> = commands
        .iter()
        .map(|command| match command {
            Command::Publish(publish) => format!("publish {}", publish.message.body().escape_ascii()),
            Command::Settle(settlement) => format!("{:?} {}", settlement.outcome, settlement.seq.0),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["publish one", "Ack 1", "Ack 2", "publish two", "Return 3"]);
    kit.expect_nothing();
    kit.applied(0);
    kit.expect(1, tx::CommitOk {});
    kit.send(1, tx::Commit {});
    kit.expect(1, tx::CommitOk {});
    assert!(kit.commands.is_empty(), "an empty commit asks for nothing");
}

#[test]
fn a_commit_of_which_a_queue_refused_a_part_closes_the_channel() {
    let (mut kit, _) = transactional();
    kit.publish(1, "q", b"one");
    kit.publish(1, "q", b"two");
    kit.send(1, tx::Commit {});
    let awaiting = Awaiting::Commit { channel: ChannelNumber(1) };
    let Some(Command::Transaction(commands)) = kit.commands.pop() else { panic!() };
    assert!(
        commands
            .iter()
            .all(|command| { matches!(command, Command::Publish(publish) if publish.awaiting == awaiting) })
    );
    kit.session.refused([awaiting]);
    kit.applied(0);
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - partial tx completion", (90, 20));
}

#[test]
fn a_rollback_restores_what_was_acknowledged() {
    let (mut kit, consumer) = transactional();
    kit.deliver_quietly(1, consumer, 1..=3);
    kit.publish(1, "q", b"never");
    kit.send(1, ack(2, false));
    kit.send(1, tx::Rollback {});
    kit.expect(1, tx::RollbackOk {});
    kit.send(1, ack(3, true));
    kit.send(1, tx::Commit {});
    let Some(Command::Transaction(commands)) = kit.commands.pop() else { panic!() };
    assert_eq!(commands.len(), 3);
    assert!(kit.commands.is_empty());
}

#[test]
fn a_delivery_is_settled_once_within_a_transaction() {
    let (mut kit, consumer) = transactional();
    kit.deliver_quietly(1, consumer, 1..=1);
    kit.send(1, ack(1, false));
    kit.send(1, ack(1, false));
    kit.expect_channel_error(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", (60, 80));
}

#[test]
fn returns_come_with_the_commit() {
    let (mut kit, _) = transactional();
    let method = basic::Publish { exchange: "", routing_key: "nowhere", mandatory: true, immediate: false };
    kit.feed(&published(1, method, Properties::default(), b"x"));
    kit.expect_nothing();
    kit.send(1, tx::Commit {});
    let returned =
        basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "", routing_key: "nowhere" };
    kit.expect(1, returned);
    kit.expect_content(1);
    kit.applied(0);
    kit.expect(1, tx::CommitOk {});
}

#[test]
fn confirm_and_transactions_exclude_each_other() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.channel(2);
    kit.send(1, tx::Select {});
    kit.send(1, tx::Select {});
    kit.skip(2);
    kit.send(1, confirm::Select { no_wait: false });
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    kit.expect_channel_error(1, 406, text, (85, 10));
    kit.send(2, confirm::Select { no_wait: false });
    kit.skip(1);
    kit.send(2, tx::Select {});
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    kit.expect_channel_error(2, 406, text, (90, 10));
}

#[test]
fn there_is_nothing_to_commit_without_a_transaction() {
    let mut kit = Kit::open();
    kit.channel(1);
    kit.channel(2);
    let text = "PRECONDITION_FAILED - channel is not transactional";
    kit.send(1, tx::Commit {});
    kit.expect_channel_error(1, 406, text, (90, 20));
    kit.send(2, tx::Rollback {});
    kit.expect_channel_error(2, 406, text, (90, 30));
}

#[test]
fn a_transaction_has_a_limit() {
    let options = SessionOptions { transaction_bytes_max: 10_000, ..SessionOptions::default() };
    let mut kit = Kit::open_with(options, &capabilities());
    kit.queue("q", 1);
    kit.channel(1);
    kit.send(1, tx::Select {});
    kit.skip(1);
    kit.publish(1, "q", &[0; 6_000]);
    kit.send(1, tx::Rollback {});
    kit.expect(1, tx::RollbackOk {});
    kit.publish(1, "q", &[0; 6_000]);
    kit.expect_nothing();
    kit.publish(1, "q", &[0; 6_000]);
    let text = "PRECONDITION_FAILED - transaction is larger than the configured limit of 10000 bytes";
    kit.expect_channel_error(1, 406, text, (60, 40));
}
