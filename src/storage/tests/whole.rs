//! Log and metadata store together: whatever happens to the store, the log has the definitions.

use bytes::Bytes;

use super::*;
use crate::model::{Message, MessageParts, QueueId, Seq};
use crate::storage::log::VhostId;

/// What is there: definitions, where they were found, and the seqs of messages.
struct Found {
    storage: Storage,
    definitions: Vec<Definition>,
    source: Source,
    seqs: Vec<u64>,
}

fn open_whole(path: &Path) -> Found {
    let mut seqs = Vec::new();
    let options = Options::new(path.to_owned(), LogOptions::new(7));
    let opened = super::super::open(&options, &mut |placed| {
        if let Record::Publish { queues, .. } = placed.record {
            seqs.extend(queues.iter().map(|(_, seq)| seq.0));
        }
    });
    let super::super::Opened { storage, mut definitions, source, .. } = opened.expect("the storage opens");
    let definitions = definitions.remove(&vhost("/")).unwrap_or_default();
    Found { storage, definitions, source, seqs }
}

fn publish(seq: u64) -> Batch {
    let parts = MessageParts { exchange: "", routing_key: "q", properties: &[0, 0], persistent: true };
    let message = Message::new(parts, Bytes::from_static(b"body"));
    let mut batch = Batch::new();
    let queues = [(QueueId(1), Seq(seq))];
    batch.push(&Record::Publish {
        vhost: VhostId(1),
        queues: &queues,
        deadlines: &[],
        message: (&message).into(),
    });
    batch
}

fn append(storage: &Storage, batch: &mut Batch, changes: &[DefinitionChange]) -> LogPosition {
    let position = storage.append(batch, &vhost("/"), changes, true).position;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut durable = storage.log().durable();
    runtime.block_on(durable.wait_for(|durable| *durable >= position)).expect("the log lives");
    position
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<Definition> {
    numbers.map(|n| queue(&format!("q{n:02}"))).collect()
}

/// Twenty messages and nineteen queues, as a kill leaves them.
fn filled() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let Found { storage, .. } = open_whole(root.path());
    for (n, definition) in (0..).zip(numbered(0..20)) {
        append(&storage, &mut publish(n), &[put(definition)]);
    }
    append(&storage, &mut Batch::new(), &[delete(queue("q00"))]);
    copy(root.path())
}

#[test]
fn what_a_turn_changed_comes_back_together() {
    let root = filled();
    let found = open_whole(root.path());
    assert_eq!(found.definitions, numbered(1..20));
    assert_eq!(found.seqs, (0..20).collect::<Vec<_>>());
    found.storage.shutdown(true).unwrap();
    drop(found);
    assert_eq!(open_whole(root.path()).definitions, numbered(1..20));
}

#[test]
fn a_store_that_is_missing_damaged_or_old_costs_no_definition() {
    let root = filled();
    let early = copy(root.path());
    let found = open_whole(root.path());
    append(&found.storage, &mut Batch::new(), &[put(queue("late")), delete(queue("q01"))]);
    found.storage.shutdown(true).unwrap();
    drop(found);
    let expected: Vec<_> = numbered(2..20).into_iter().chain([queue("late")]).collect();

    for harm in ["missing", "truncated", "old"] {
        let harmed = copy(root.path());
        let store = harmed.path().join("metadata");
        if harm == "truncated" {
            fs::write(store.join("db"), b"").unwrap();
        } else {
            fs::remove_dir_all(&store).unwrap();
        }
        if harm == "old" {
            fs::create_dir(&store).unwrap();
            copy_into(&early.path().join("metadata"), &store);
        }
        let found = open_whole(harmed.path());
        assert_eq!((&found.definitions, found.source), (&expected, Source::Log), "{harm}");
        found.storage.shutdown(true).unwrap();
        drop(found);
        let again = open_whole(harmed.path());
        assert_eq!((&again.definitions, again.source), (&expected, Source::Store), "{harm}");
    }
}

#[test]
fn a_data_directory_from_before_the_log_is_upgraded() {
    let (root, queues) = hundred_queues();
    let found = open_whole(root.path());
    assert_eq!(found.definitions, queues);
    let position = append(&found.storage, &mut Batch::new(), &[put(queue("new"))]);
    assert!(position > LogPosition(100), "positions go on: {position:?}");
    // Killed at once, and without the store: the log has been told everything.
    let killed = copy(root.path());
    fs::remove_dir_all(killed.path().join("metadata")).unwrap();
    let found = open_whole(killed.path());
    assert_eq!((found.definitions.len(), found.source), (101, Source::Log));
}

#[test]
fn a_log_that_is_gone_leaves_the_definitions_of_the_store() {
    let root = filled();
    open_whole(root.path()).storage.shutdown(true).unwrap();
    fs::remove_dir_all(root.path().join("log")).unwrap();
    for _ in 0..2 {
        let found = open_whole(root.path());
        assert_eq!((found.definitions, found.seqs.len()), (numbered(1..20), 0));
    }
}
