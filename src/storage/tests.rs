//! The metadata store alone, on a real disk: reopened, copied at a moment, damaged. `whole` has the log beside it.
//!
//! A copy of the data directory is what `kill -9` leaves: everything written and nothing of the process.

mod whole;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use ferrymq_protocol::table::{Table, Value};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::log::{Location, SegmentNumber};
use super::record::tests::any_definition;
use super::*;
use crate::model::{
    BindingDefinition, Definition, DefinitionChange, Destination, ExchangeName, LogPosition, Origin,
    QueueDefinition, QueueName, RoutingKey, VhostName,
};

fn queue(name: &str) -> Definition {
    queue_with(name, Table::new())
}

fn queue_with(name: &str, arguments: Table) -> Definition {
    Definition::Queue(QueueDefinition {
        name: QueueName::from(name),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
        origin: Origin::Client,
    })
}

fn binding(queue: &str, arguments: Table) -> Definition {
    Definition::Binding(BindingDefinition {
        source: ExchangeName::from("amq.topic"),
        destination: Destination::Queue(QueueName::from(queue)),
        routing_key: RoutingKey::from("k"),
        arguments,
        origin: Origin::Client,
    })
}

fn put(definition: Definition) -> DefinitionChange {
    DefinitionChange::Put(definition)
}

fn delete(definition: Definition) -> DefinitionChange {
    DefinitionChange::Delete(definition)
}

fn vhost(name: &str) -> VhostName {
    VhostName::from(name)
}

/// A store and the thread that writes it, as a log would drive it whose batches are durable at once.
struct Opened {
    writer: Writer,
    contents: Contents,
    report: OpenReport,
}

struct Contents {
    position: LogPosition,
    definitions: BTreeMap<VhostName, Vec<Definition>>,
}

struct Writer {
    store: DefinitionWriter,
    last: Mutex<LogPosition>,
    _durable: watch::Sender<LogPosition>,
    _failed: watch::Sender<Option<FailureText>>,
}

#[allow(clippy::unwrap_in_result, reason = "only what the test is about is an error")]
fn open_store(path: &Path) -> Result<Opened, OpenError> {
    let (mut store, report) = SledStore::open(Arc::new(DataDirectory::open(path)?), 1 << 20)?;
    let position = store.position();
    let records =
        store.take_records().into_iter().map(|record| (record.key, record.value.expect("it is there")));
    let contents =
        Contents { position, definitions: decode(&records.collect()).expect("the store has checked") };
    let (durable_sender, durable) = watch::channel(LogPosition(u64::MAX));
    let (failed_sender, failed) = watch::channel(None);
    let log = LogWatch { durable, failed };
    let store = DefinitionWriter::start(Box::new(store), position, 64 << 20, log).expect("a thread");
    let writer =
        Writer { store, last: Mutex::new(position), _durable: durable_sender, _failed: failed_sender };
    Ok(Opened { writer, contents, report })
}

fn open_at(path: &Path) -> Opened {
    open_store(path).expect("the store opens")
}

impl Writer {
    /// Without changes, the position of everything appended before.
    fn append(&self, vhost: &VhostName, changes: &[DefinitionChange]) -> LogPosition {
        let mut last = self.last.lock();
        if !changes.is_empty() {
            last.0 += 1;
            let changes = changes.iter().map(|change| RecordChange::new(vhost, change)).collect();
            self.store.follow(changes, || Appended {
                position: *last,
                location: Location { segment: SegmentNumber(1), offset: 0 },
            });
        }
        *last
    }

    fn shutdown(&self) -> Result<(), FailureText> {
        self.store.shutdown()
    }
}

fn wait(writer: &Writer, position: LogPosition) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut applied = writer.store.applied();
    runtime.block_on(applied.wait_for(|applied| *applied >= position)).expect("the writer lives");
}

/// What `kill -9` at this moment leaves, in a new directory.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The definitions of a vhost, in the order of their stored keys.
fn sorted(vhost_name: &str, definitions: &[Definition]) -> Vec<Definition> {
    let key = |definition: &Definition| RecordChange::new(&vhost(vhost_name), &put(definition.clone())).key;
    let mut definitions = definitions.to_vec();
    definitions.sort_by_key(key);
    definitions
}

fn damage(report: &OpenReport) -> &Damage {
    match report {
        OpenReport::Damaged(damage) => damage,
        other => panic!("damage was not noticed: {other:?}"),
    }
}

#[test]
fn a_new_store_is_empty_and_then_intact() {
    let root = tempfile::tempdir().unwrap();
    let Opened { writer, contents, report } = open_at(root.path());
    assert_eq!(report, OpenReport::Created);
    assert_eq!((contents.position, contents.definitions.len()), (LogPosition::START, 0));
    writer.shutdown().unwrap();
    let opened = open_at(root.path());
    assert_eq!(opened.report, OpenReport::Intact { definitions: 0 });
}

#[test]
fn definitions_come_back_by_vhost_and_kind() {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    let first = writer.append(&vhost("b"), &[put(binding("q", Table::new())), put(queue("q"))]);
    let second = writer.append(&vhost("a"), &[put(queue("q")), put(queue("gone"))]);
    let third = writer.append(&vhost("a"), &[delete(queue("gone")), delete(queue("never was"))]);
    assert!(first < second && second < third);
    writer.shutdown().unwrap();

    let Opened { writer, contents, report } = open_at(root.path());
    assert_eq!(report, OpenReport::Intact { definitions: 3 });
    assert_eq!(contents.position, third);
    assert_eq!(contents.definitions[&vhost("a")], [queue("q")]);
    assert_eq!(contents.definitions[&vhost("b")], [queue("q"), binding("q", Table::new())]);
    assert!(writer.append(&vhost("a"), &[put(queue("r"))]) > third);
}

#[test]
fn a_put_replaces_what_has_the_same_identity() {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    let long = Table::new().with("x", Value::Binary(vec![7; 30_000]));
    let short = Table::new().with("x", 1_i32);
    let one = binding("q", short.clone());
    let other = binding("q", long.clone());
    let position =
        writer.append(&vhost("/"), &[put(queue_with("q", long)), put(one.clone()), put(other.clone())]);
    wait(&writer, position);
    // In another batch, the thirty kilobytes shrink to nothing: no piece of them may stay.
    let _ = writer.append(&vhost("/"), &[put(queue_with("q", short.clone())), delete(other)]);
    writer.shutdown().unwrap();
    let Opened { contents, report, .. } = open_at(root.path());
    assert_eq!(report, OpenReport::Intact { definitions: 2 });
    assert_eq!(contents.definitions[&vhost("/")], [queue_with("q", short), one]);
}

#[test]
fn values_stay_below_four_kilobytes() {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    let definition = queue_with("q", Table::new().with("x", Value::Binary(vec![7; 100_000])));
    let _ = writer.append(&vhost("/"), &[put(definition.clone())]);
    writer.shutdown().unwrap();
    let db = sled::open(root.path().join("metadata")).unwrap();
    let longest = db.iter().values().map(|value| value.unwrap().len()).max();
    assert!(longest.is_some_and(|longest| longest <= 4096), "{longest:?}");
    assert!(db.len() > 25);
    drop(db);
    assert_eq!(open_at(root.path()).contents.definitions[&vhost("/")], [definition]);
}

#[test]
fn everything_published_is_in_a_copy_taken_right_then() {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    let mut expected = Vec::new();
    for round in 0..5 {
        for n in 0..20 {
            let definition = queue(&format!("q{round}-{n}"));
            expected.push(definition.clone());
            let _ = writer.append(&vhost("/"), &[put(definition)]);
        }
        let position = writer.append(&vhost("/"), &[]);
        wait(&writer, position);
        let killed = copy(root.path());
        let Opened { contents, report, .. } = open_at(killed.path());
        assert_eq!(report, OpenReport::Intact { definitions: expected.len() });
        assert_eq!(contents.position, position);
        assert_eq!(contents.definitions[&vhost("/")], sorted("/", &expected));
    }
}

#[test]
fn random_changes_survive_kills_like_a_model_does() {
    let mut runner = seeded();
    let pool: Vec<_> =
        (0..30).map(|_| any_definition().new_tree(&mut runner).expect("a definition").current()).collect();
    let mut model = BTreeMap::new();
    let mut killed = tempfile::tempdir().unwrap();
    for _ in 0..8 {
        let Opened { writer, contents, .. } = open_at(killed.path());
        let found: Vec<_> = contents.definitions.into_values().flatten().collect();
        assert_eq!(found, model.values().cloned().collect::<Vec<Definition>>());
        for _ in 0..40 {
            let definition = &pool[index(&mut runner, pool.len())];
            let key = RecordChange::new(&vhost("/"), &put(definition.clone())).key;
            let change = if index(&mut runner, 3) == 0 {
                model.remove(&key);
                delete(definition.clone())
            } else {
                model.insert(key, definition.clone());
                put(definition.clone())
            };
            let _ = writer.append(&vhost("/"), &[change]);
        }
        wait(&writer, writer.append(&vhost("/"), &[]));
        killed = copy(killed.path());
    }
}

/// A source of random values. Its seed is printed, and taken from the environment if it is there.
fn seeded() -> TestRunner {
    const VARIABLE: &str = "FERRYMQ_TEST_SEED";
    let seed: u64 = match std::env::var(VARIABLE) {
        Ok(seed) => seed.parse().expect("the seed is a number"),
        Err(_) => RandomState::new().hash_one(VARIABLE),
    };
    println!("replay with {VARIABLE}={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Where the process that is killed keeps its data; unset in any other process.
const KILLED_DIRECTORY: &str = "FERRYMQ_TEST_KILLED_DIRECTORY";

/// Not a test by itself: what [`a_killed_process_loses_nothing_it_reported`] runs in a process of its own. Declares
/// queues until it is killed and reports each position that is durable.
#[test]
fn process_to_be_killed() {
    let Ok(directory) = std::env::var(KILLED_DIRECTORY) else { return };
    let writer = open_at(Path::new(&directory)).writer;
    for n in 0u64.. {
        let position = writer.append(&vhost("/"), &[put(queue(&format!("q{n:08}")))]);
        if n % 7 == 0 {
            wait(&writer, position);
            println!("durable {}", position.0);
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_it_reported() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "storage::tests::process_to_be_killed"])
        .env(KILLED_DIRECTORY, root.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    // The test harness may write to the first line before the process does.
    let reported = |line: io::Result<String>| line.ok()?.split_once("durable ")?.1.parse::<u64>().ok();
    let mut reports = lines.filter_map(reported);
    let early = reports.by_ref().nth(100).expect("it reports until it is killed");
    let refusal = open_store(root.path()).map(drop).unwrap_err().to_string();
    assert!(refusal.contains(&format!("process {}", child.id())), "{refusal}");
    child.kill().unwrap();
    child.wait().unwrap();
    let last = reports.last().unwrap_or(early);

    let Opened { contents, report, .. } = open_at(root.path());
    assert!(contents.position >= LogPosition(last), "{last} was durable, {report}");
    let expected: Vec<_> = (0..contents.position.0).map(|n| queue(&format!("q{n:08}"))).collect();
    assert_eq!(contents.definitions[&vhost("/")], expected);
    assert_eq!(report, OpenReport::Intact { definitions: expected.len() });
}

fn index(runner: &mut TestRunner, below: usize) -> usize {
    (0..below).new_tree(runner).expect("a number").current()
}

#[test]
fn a_second_process_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let _opened = open_at(root.path());
    let refusal = open_store(root.path()).map(drop).unwrap_err();
    assert!(matches!(refusal, OpenError::Directory(DirectoryError::InUse { .. })), "{refusal}");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    drop(open_at(root.path()));
    let db = sled::open(root.path().join("metadata")).unwrap();
    let mut entry = 2u32.to_be_bytes().to_vec();
    entry.extend_from_slice(b"whatever a later release keeps here");
    let sum = checksum::checksum(&entry);
    entry.extend_from_slice(&sum.to_be_bytes());
    db.insert([0], entry).unwrap();
    db.flush().unwrap();
    drop(db);
    for _ in 0..2 {
        let refusal = open_store(root.path()).map(drop).unwrap_err();
        assert!(matches!(refusal, OpenError::NewerFormat { found: 2, known: 1, .. }), "{refusal}");
        assert!(refusal.to_string().contains("use the release that wrote it"), "{refusal}");
    }
}

/// A data directory with a hundred queues, closed cleanly.
fn hundred_queues() -> (tempfile::TempDir, Vec<Definition>) {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    let queues: Vec<_> = (0..100).map(|n| queue(&format!("q{n:03}"))).collect();
    for queue in &queues {
        let _ = writer.append(&vhost("/"), &[put(queue.clone())]);
    }
    writer.shutdown().unwrap();
    (root, queues)
}

#[test]
fn a_missing_store_is_noticed() {
    let (root, queues) = hundred_queues();
    fs::remove_dir_all(root.path().join("metadata")).unwrap();
    let Opened { writer, contents, report } = open_at(root.path());
    assert_eq!(damage(&report).moved_to, None);
    // Positions go on from where they were, so that nobody sees one twice.
    assert_eq!(contents.position, LogPosition(100));
    assert_eq!(contents.definitions[&vhost("/")], queues);
    drop(writer);
    assert!(matches!(open_at(root.path()).report, OpenReport::Intact { definitions: 100 }));
}

#[test]
fn an_older_store_is_noticed_and_kept_in_use() {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    wait(&writer, writer.append(&vhost("/"), &[put(queue("old"))]));
    let older = copy(root.path());
    let _ = writer.append(&vhost("/"), &[put(queue("new"))]);
    writer.shutdown().unwrap();
    fs::remove_dir_all(root.path().join("metadata")).unwrap();
    fs::create_dir(root.path().join("metadata")).unwrap();
    copy_into(&older.path().join("metadata"), &root.path().join("metadata"));
    fs::remove_file(root.path().join("metadata.copy")).unwrap();

    let Opened { contents, report, .. } = open_at(root.path());
    assert_eq!(damage(&report).kept, 1);
    assert!(report.to_string().contains("it ends at change 1, but change 2 was durable"), "{report}");
    assert_eq!(contents.definitions[&vhost("/")], [queue("old")]);
    assert_eq!(contents.position, LogPosition(2));
}

#[test]
fn a_record_that_vanished_or_changed_is_noticed_and_the_others_are_kept() {
    for vanished in [true, false] {
        let (root, queues) = hundred_queues();
        let db = sled::open(root.path().join("metadata")).unwrap();
        let (key, value) = db.iter().nth(7).unwrap().unwrap();
        if vanished {
            db.remove(key).unwrap();
        } else {
            let mut value = value.to_vec();
            *value.last_mut().unwrap() ^= 1;
            db.insert(key, value).unwrap();
        }
        db.flush().unwrap();
        drop(db);
        fs::remove_file(root.path().join("metadata.copy")).unwrap();
        let Opened { contents, report, writer } = open_at(root.path());
        assert_eq!(damage(&report).kept, 99);
        assert!(damage(&report).moved_to.as_ref().is_some_and(|path| path.ends_with("metadata.damaged-1")));
        let mut kept = queues.clone();
        kept.remove(6);
        assert_eq!(contents.definitions[&vhost("/")], kept);
        // The repaired store is a store like any other.
        let _ = writer.append(&vhost("/"), &[put(queues[6].clone())]);
        writer.shutdown().unwrap();
        let Opened { contents, report, .. } = open_at(root.path());
        assert_eq!(report, OpenReport::Intact { definitions: 100 });
        assert_eq!(contents.definitions[&vhost("/")], queues);
    }
}

#[test]
fn what_the_copy_has_and_the_store_lost_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let writer = open_at(root.path()).writer;
    let _ = writer.append(&vhost("/"), &[put(queue("before")), put(queue_with("both", Table::new()))]);
    writer.shutdown().unwrap();
    let writer = open_at(root.path()).writer;
    let newer = queue_with("both", Table::new().with("x-max-length", 5_i32));
    let _ = writer.append(&vhost("/"), &[put(queue("after")), put(newer.clone())]);
    wait(&writer, writer.append(&vhost("/"), &[]));
    let killed = copy(root.path());
    let db = sled::open(killed.path().join("metadata")).unwrap();
    let lost = RecordChange::new(&vhost("/"), &put(queue("before"))).key;
    assert!(db.remove([&lost[..], &[0; 4]].concat()).unwrap().is_some());
    drop(db);
    let Opened { contents, report, .. } = open_at(killed.path());
    assert_eq!(damage(&report).kept, 3);
    assert_eq!(contents.definitions[&vhost("/")], sorted("/", &[queue("after"), queue("before"), newer]));
}

#[test]
fn a_replacement_that_was_interrupted_is_completed() {
    let (root, queues) = hundred_queues();
    // Killed between the renames: the old store is aside, the new one not yet in place.
    fs::rename(root.path().join("metadata"), root.path().join("metadata.new")).unwrap();
    let Opened { contents, report, .. } = open_at(root.path());
    assert_eq!(report, OpenReport::Intact { definitions: 100 });
    assert_eq!(contents.definitions[&vhost("/")], queues);
}

#[test]
fn a_creation_that_was_interrupted_starts_over() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("metadata.new")).unwrap();
    fs::write(root.path().join("metadata.new/db"), b"half a database").unwrap();
    assert_eq!(open_at(root.path()).report, OpenReport::Created);
}

/// Opens a damaged copy. It may be whole or not, but the API must not panic, whatever is kept was written, and
/// whatever is missing is reported.
fn open_damaged(path: &Path, queues: &[Definition], what: &str) -> OpenReport {
    let Opened { contents, report, writer } = open_store(path).expect(what);
    let found: Vec<_> = contents.definitions.values().flatten().collect();
    assert!(found.iter().all(|definition| queues.contains(definition)), "{what}: made up");
    match &report {
        OpenReport::Intact { definitions } => assert_eq!((*definitions, found.len()), (100, 100), "{what}"),
        // It was closed cleanly, so that the copy has everything.
        OpenReport::Damaged(damage) => assert_eq!((damage.kept, found.len()), (100, 100), "{what}"),
        OpenReport::NoSpace | OpenReport::Created => panic!("{what}: the store was forgotten"),
    }
    // It works from here on.
    let _ = writer.append(&vhost("/"), &[put(queue("afterwards"))]);
    writer.shutdown().expect(what);
    report
}

#[test]
fn cut_and_emptied_files_are_whole_or_reported() {
    let (root, queues) = hundred_queues();
    for file in fs::read_dir(root.path().join("metadata")).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_dir() {
            continue;
        }
        let length = file.metadata().unwrap().len();
        let name = file.file_name();
        for cut in
            [0, 1, 100, 4096, length / 4, length / 2, length - length.min(4096), length - length.min(1)]
        {
            let damaged = copy(root.path());
            let path = damaged.path().join("metadata").join(&name);
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(cut.min(length)).unwrap();
            let report = open_damaged(damaged.path(), &queues, &format!("{name:?} cut to {cut}"));
            let matters = name == "db" && cut <= 4096;
            assert!(!matters || matches!(report, OpenReport::Damaged(_)), "{cut}: {report}");
        }
        let damaged = copy(root.path());
        fs::remove_file(damaged.path().join("metadata").join(&name)).unwrap();
        open_damaged(damaged.path(), &queues, &format!("{name:?} removed"));
    }
}

#[test]
fn flipped_bytes_are_harmless_or_reported() {
    let mut runner = seeded();
    let (root, queues) = hundred_queues();
    let db = fs::read(root.path().join("metadata/db")).unwrap();
    // Most of the file is padding; damage is aimed at what was written.
    let written: Vec<usize> = (0..db.len()).filter(|at| db[*at] != 0).collect();
    let mut noticed = 0;
    for _ in 0..200 {
        let at = written[index(&mut runner, written.len())];
        let flip = u8::try_from(1 + index(&mut runner, 255)).expect("at most 255");
        let damaged = copy(root.path());
        let mut bytes = db.clone();
        bytes[at] ^= flip;
        fs::write(damaged.path().join("metadata/db"), bytes).unwrap();
        let report = open_damaged(damaged.path(), &queues, &format!("byte {at} xor {flip:#x}"));
        noticed += usize::from(matches!(report, OpenReport::Damaged(_)));
    }
    // sled keeps old versions of pages, so that some of the bytes no longer matter; many do.
    assert!(noticed > 30, "the damage did not reach the store");
}
