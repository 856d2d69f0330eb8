//! Order, groups and failures, with a store whose flush the test controls.

use std::sync::mpsc;

use super::*;
use crate::model::{Definition, Origin, QueueDefinition, QueueName};
use crate::model::{DefinitionChange, VhostName};
use crate::storage::log::{Location, SegmentNumber};

/// What the fake store was asked for.
#[derive(Debug, PartialEq)]
enum Call {
    Apply { position: LogPosition, changes: usize },
    Flush,
    Close,
}

struct FakeStore {
    calls: mpsc::Sender<Call>,
    /// Every flush waits for one answer; without a sender it succeeds at once.
    answers: mpsc::Receiver<Answer>,
}

enum Answer {
    Durable,
    Failed,
    Panic,
}

impl MetadataStore for FakeStore {
    fn apply(&mut self, position: LogPosition, changes: &[RecordChange]) -> Result<(), StoreError> {
        let _ = self.calls.send(Call::Apply { position, changes: changes.len() });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let _ = self.calls.send(Call::Flush);
        match self.answers.recv() {
            Ok(Answer::Durable) | Err(mpsc::RecvError) => Ok(()),
            Ok(Answer::Failed) => Err(StoreError::Sync(io::Error::other("disk on fire"))),
            Ok(Answer::Panic) => panic!("a bug in the store"),
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let _ = self.calls.send(Call::Close);
        Ok(())
    }
}

/// The writer, behind a log that the test makes durable.
struct Following {
    store: DefinitionWriter,
    last: Mutex<LogPosition>,
    durable: watch::Sender<LogPosition>,
    log_failed: watch::Sender<Option<FailureText>>,
}

impl Following {
    fn append(&self, vhost: &VhostName, changes: &[DefinitionChange]) -> LogPosition {
        let mut last = self.last.lock();
        last.0 += 1;
        let changes = changes.iter().map(|change| RecordChange::new(vhost, change)).collect();
        self.store
            .follow(changes, || Appended {
                position: *last,
                location: Location { segment: SegmentNumber(1), offset: 0 },
            })
            .position
    }
}

impl std::ops::Deref for Following {
    type Target = DefinitionWriter;

    fn deref(&self) -> &DefinitionWriter {
        &self.store
    }
}

struct Fake {
    writer: Following,
    calls: mpsc::Receiver<Call>,
    answers: mpsc::Sender<Answer>,
}

fn fake(max_pending_bytes: usize) -> Fake {
    let (call_sender, calls) = mpsc::channel();
    let (answers, answer_receiver) = mpsc::channel();
    let store = Box::new(FakeStore { calls: call_sender, answers: answer_receiver });
    let (durable, log_durable) = watch::channel(LogPosition(u64::MAX));
    let (log_failed, failed) = watch::channel(None);
    let log = LogWatch { durable: log_durable, failed };
    let store = DefinitionWriter::start(store, LogPosition(100), max_pending_bytes, log).unwrap();
    let writer = Following { store, last: Mutex::new(LogPosition(100)), durable, log_failed };
    Fake { writer, calls, answers }
}

fn change(name: &str) -> DefinitionChange {
    DefinitionChange::Put(Definition::Queue(QueueDefinition {
        name: QueueName::from(name),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: ferrymq_protocol::table::Table::default(),
        origin: Origin::Client,
    }))
}

fn vhost() -> VhostName {
    VhostName::from("/")
}

/// Waits until the position is durable.
fn wait(applied: &mut watch::Receiver<LogPosition>, position: LogPosition) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(applied.wait_for(|applied| *applied >= position)).expect("the writer lives");
}

fn wait_for_failure(failed: &mut watch::Receiver<Option<FailureText>>) -> FailureText {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = runtime.block_on(failed.wait_for(Option::is_some)).expect("the writer lives").clone();
    text.expect("waited for it")
}

#[test]
fn what_gathers_during_a_sync_is_one_batch() {
    let Fake { writer, calls, answers } = fake(usize::MAX);
    let first = writer.append(&vhost(), &[change("first")]);
    assert_eq!(first, LogPosition(101));
    assert_eq!(calls.recv(), Ok(Call::Apply { position: first, changes: 1 }));
    assert_eq!(calls.recv(), Ok(Call::Flush));
    // The first sync stands still: everything from here on gathers.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = LogPosition::START;
                for _ in 0..2500 {
                    let position = writer.append(&vhost(), &[change("q")]);
                    assert!(position > last);
                    last = position;
                }
            });
        }
    });
    assert_eq!(*writer.applied().borrow(), LogPosition(100));
    answers.send(Answer::Durable).unwrap();
    answers.send(Answer::Durable).unwrap();
    wait(&mut writer.applied(), LogPosition(10_101));
    assert_eq!(calls.recv(), Ok(Call::Apply { position: LogPosition(10_101), changes: 10_000 }));
    assert_eq!(calls.recv(), Ok(Call::Flush));
    writer.shutdown().unwrap();
    assert_eq!(calls.recv(), Ok(Call::Close));
    assert_eq!(calls.recv(), Err(mpsc::RecvError));
}

#[test]
fn a_position_is_published_after_its_sync_only() {
    let Fake { writer, calls, answers } = fake(usize::MAX);
    let position = writer.append(&vhost(), &[change("q")]);
    calls.recv().unwrap();
    assert_eq!(calls.recv(), Ok(Call::Flush));
    assert_eq!(*writer.applied().borrow(), LogPosition(100));
    answers.send(Answer::Durable).unwrap();
    wait(&mut writer.applied(), position);
}

#[test]
fn the_store_is_never_ahead_of_the_log() {
    let Fake { writer, calls, answers } = fake(usize::MAX);
    drop(answers);
    writer.durable.send_replace(LogPosition(100));
    let first = writer.append(&vhost(), &[change("a")]);
    writer.durable.send_replace(first);
    assert_eq!(calls.recv(), Ok(Call::Apply { position: first, changes: 1 }));
    assert_eq!(calls.recv(), Ok(Call::Flush));
    wait(&mut writer.applied(), first);
    let second = writer.append(&vhost(), &[change("b")]);
    writer.log_failed.send_replace(Some("the disk is gone".into()));
    assert_eq!(calls.recv(), Err(mpsc::RecvError), "neither applied nor closed in order");
    assert_eq!(*writer.applied().borrow(), first);
    assert!(writer.append(&vhost(), &[change("c")]) > second);
    assert!(!writer.is_full(), "what the log will never have is not kept");
    assert_eq!(writer.shutdown(), Ok(()), "the failure is the log's");
}

#[test]
fn shutdown_drains() {
    let Fake { writer, calls, answers } = fake(usize::MAX);
    drop(answers);
    let durable = writer.applied();
    let last = (0..100).map(|_| writer.append(&vhost(), &[change("q")])).max().unwrap();
    writer.shutdown().unwrap();
    assert_eq!(*durable.borrow(), last);
    let applied: usize =
        calls.iter().map(|call| if let Call::Apply { changes, .. } = call { changes } else { 0 }).sum();
    assert_eq!(applied, 100);
}

#[test]
fn what_is_appended_after_shutdown_is_never_published() {
    let Fake { writer, calls, answers } = fake(1);
    drop(answers);
    writer.shutdown().unwrap();
    for number in 101..104 {
        assert_eq!(writer.append(&vhost(), &[change("late")]), LogPosition(number));
    }
    writer.shutdown().unwrap();
    assert_eq!(*writer.applied().borrow(), LogPosition(100));
    assert_eq!(calls.iter().collect::<Vec<_>>(), [Call::Close]);
}

#[test]
fn a_failed_sync_is_final() {
    for (answer, text) in [(Answer::Failed, "disk on fire"), (Answer::Panic, "a bug in the store")] {
        let Fake { writer, calls, answers } = fake(usize::MAX);
        let durable = writer.applied();
        assert_eq!(*writer.failed().borrow(), None);
        let position = writer.append(&vhost(), &[change("q")]);
        calls.recv().unwrap();
        calls.recv().unwrap();
        // Another change gathers while the sync fails; it must not be retried with it.
        assert!(writer.append(&vhost(), &[change("r")]) > position);
        answers.send(answer).unwrap();
        let failure = wait_for_failure(&mut writer.failed());
        assert!(failure.contains(text), "{failure}");
        // Positions go on, nothing is published, and the store is never asked again.
        assert!(writer.append(&vhost(), &[change("s")]) > position);
        assert_eq!(calls.recv(), Err(mpsc::RecvError));
        assert_eq!(writer.shutdown().unwrap_err(), failure);
        assert_eq!(*durable.borrow(), LogPosition(100));
    }
}

#[test]
fn more_than_the_bound_is_full_until_it_is_taken() {
    let Fake { writer, calls, answers } = fake(1);
    assert!(!writer.is_full());
    let _ = writer.append(&vhost(), &[change("first")]);
    calls.recv().unwrap();
    calls.recv().unwrap();
    assert!(!writer.is_full(), "what is on its way to the disk is not pending");
    // Nobody waits for the disk in here, however full it is.
    let _ = writer.append(&vhost(), &[change("second")]);
    let third = writer.append(&vhost(), &[change("third")]);
    assert!(writer.is_full());
    answers.send(Answer::Durable).unwrap();
    answers.send(Answer::Durable).unwrap();
    wait(&mut writer.applied(), third);
    assert!(!writer.is_full());
}
