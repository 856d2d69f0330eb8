//! A disk that remembers what was done to it, and can say what a power cut would have left at any point.
//!
//! Legal after a power cut: bytes and sizes as of the last sync of each file, plus any subset of the writes since,
//! each whole or torn into sectors of 512 or 4,096 bytes of which any subset arrived; names as of the last sync of
//! the directory, plus any subset of the changes since. Writes that a failed sync was about may arrive or not, and
//! no later sync changes that.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::file_system::{FileSystem, LogFile};
use super::Random;

/// Names and bytes.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

/// Something that happened, in order.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Create {
        name: String,
        inode: usize,
    },
    Write {
        inode: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    SetSize {
        inode: usize,
        size: usize,
    },
    Sync {
        inode: usize,
    },
    SyncFailed {
        inode: usize,
    },
    Rename {
        inode: usize,
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    SyncDirectory,
    /// The client has appended so many batches in all.
    Appended(usize),
    /// The client was told that this position is durable.
    Durable(u64),
}

/// Makes calls fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// The call that fails, counted from 0.
    pub(super) at: usize,
    /// So do all calls after it, until the disk is healed.
    pub(super) sticky: bool,
    pub(super) kind: io::ErrorKind,
}

#[derive(Clone)]
pub(super) struct SimDisk(Arc<Mutex<Inner>>);

struct Inner {
    inodes: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    initial: Image,
    events: Vec<Event>,
    calls: usize,
    fault: Option<Fault>,
    /// Bytes of all files together.
    limit: Option<usize>,
}

impl SimDisk {
    pub(super) fn new(image: Image) -> Self {
        let names = image.keys().cloned().zip(0..).collect();
        let inodes = image.values().cloned().collect();
        let inner =
            Inner { inodes, names, initial: image, events: Vec::new(), calls: 0, fault: None, limit: None };
        Self(Arc::new(Mutex::new(inner)))
    }

    pub(super) fn note(&self, event: Event) {
        self.0.lock().events.push(event);
    }

    pub(super) fn fail(&self, fault: Option<Fault>) {
        self.0.lock().fault = fault;
    }

    /// How large all files together may become.
    pub(super) fn limit(&self, limit: Option<usize>) {
        self.0.lock().limit = limit;
    }

    /// How large all files together are.
    pub(super) fn bytes(&self) -> usize {
        self.image().values().map(Vec::len).sum()
    }

    /// Calls so far that can fail.
    pub(super) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> usize {
        self.0.lock().events.len()
    }

    /// What is there without a crash.
    pub(super) fn image(&self) -> Image {
        let inner = self.0.lock();
        inner.names.iter().map(|(name, inode)| (name.clone(), inner.inodes[*inode].clone())).collect()
    }

    pub(super) fn history(&self) -> (Cut, Vec<Event>) {
        let inner = self.0.lock();
        (Cut::new(&inner.initial), inner.events.clone())
    }
}

impl Inner {
    /// Counts a call and fails it if it is its turn.
    fn call(&mut self) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some(fault) if call == fault.at || (fault.sticky && call > fault.at) => Err(fault.kind.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl FileSystem for SimDisk {
    fn path(&self) -> &Path {
        Path::new("disk")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut inner = self.0.lock();
        inner.call()?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.call()?;
        Ok(Box::new(SimFile { disk: self.clone(), inode: inner.find(name)?, writable: true }))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.call()?;
        Ok(Box::new(SimFile { disk: self.clone(), inode: inner.find(name)?, writable: false }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut inner = self.0.lock();
        inner.call()?;
        let inode = match inner.find(name) {
            Ok(inode) => {
                inner.inodes[inode].clear();
                inner.events.push(Event::SetSize { inode, size: 0 });
                inode
            }
            Err(_) => {
                let inode = inner.inodes.len();
                inner.inodes.push(Vec::new());
                inner.names.insert(name.to_owned(), inode);
                inner.events.push(Event::Create { name: name.to_owned(), inode });
                inode
            }
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode, writable: true }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.call()?;
        let inode = inner.find(from)?;
        inner.names.remove(from);
        inner.names.insert(to.to_owned(), inode);
        inner.events.push(Event::Rename { inode, from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.call()?;
        inner.find(name)?;
        inner.names.remove(name);
        inner.events.push(Event::Unlink { name: name.to_owned() });
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.call()?;
        inner.events.push(Event::SyncDirectory);
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    writable: bool,
}

impl SimFile {
    fn write(&self, inner: &mut Inner, bytes: &[u8], offset: usize) {
        write_at(&mut inner.inodes[self.inode], bytes, offset);
        inner.events.push(Event::Write { inode: self.inode, offset, bytes: bytes.to_vec() });
    }
}

impl LogFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut inner = self.disk.0.lock();
        inner.call()?;
        Ok(inner.inodes[self.inode].len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.0.lock();
        inner.call()?;
        let rest = inner.inodes[self.inode].get(index(offset)..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert!(self.writable, "writes to a file that was opened for reading");
        let mut inner = self.disk.0.lock();
        let offset = index(offset);
        if let Err(error) = inner.call() {
            // As a real disk may: the first half arrived.
            self.write(&mut inner, &bytes[..bytes.len() / 2], offset);
            return Err(error);
        }
        let size = inner.inodes[self.inode].len();
        let used: usize = inner.names.values().map(|inode| inner.inodes[*inode].len()).sum();
        let grows = (offset + bytes.len()).saturating_sub(size);
        if inner.limit.is_some_and(|limit| used + grows > limit) && grows > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.write(&mut inner, bytes, offset);
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        assert!(self.writable, "resizes a file that was opened for reading");
        let mut inner = self.disk.0.lock();
        inner.call()?;
        let size = index(size);
        inner.inodes[self.inode].resize(size, 0);
        inner.events.push(Event::SetSize { inode: self.inode, size });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        if let Err(error) = inner.call() {
            inner.events.push(Event::SyncFailed { inode: self.inode });
            return Err(error);
        }
        inner.events.push(Event::Sync { inode: self.inode });
        Ok(())
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn write_at(file: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The disk as far as it is certain at one point of its history, and what is uncertain.
#[derive(Clone)]
pub(super) struct Cut {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    name_changes: Vec<Event>,
    pub(super) appended: usize,
    pub(super) durable: u64,
}

#[derive(Clone, Default)]
struct File {
    certain: Vec<u8>,
    /// Changes since, and whether a sync of them failed.
    changes: Vec<(Event, bool)>,
}

impl Cut {
    fn new(image: &Image) -> Self {
        let files =
            image.values().map(|bytes| File { certain: bytes.clone(), changes: Vec::new() }).collect();
        let names = image.keys().cloned().zip(0..).collect();
        Self { files, names, name_changes: Vec::new(), appended: 0, durable: 0 }
    }

    /// Goes on by one event. Says whether the disk could look different after it.
    pub(super) fn step(&mut self, event: &Event) -> bool {
        match event {
            Event::Create { inode, .. } => {
                assert_eq!(*inode, self.files.len());
                self.files.push(File::default());
                self.name_changes.push(event.clone());
            }
            Event::Rename { .. } | Event::Unlink { .. } => self.name_changes.push(event.clone()),
            Event::Write { inode, .. } | Event::SetSize { inode, .. } => {
                self.files[*inode].changes.push((event.clone(), false));
            }
            Event::Sync { inode } => {
                let file = &mut self.files[*inode];
                let changes = std::mem::take(&mut file.changes);
                for (change, doomed) in changes {
                    if doomed {
                        file.changes.push((change, true));
                    } else {
                        apply(&mut file.certain, &change);
                    }
                }
            }
            Event::SyncFailed { inode } => {
                self.files[*inode].changes.iter_mut().for_each(|(_, doomed)| *doomed = true);
            }
            Event::SyncDirectory => {
                for change in std::mem::take(&mut self.name_changes) {
                    rename(&mut self.names, &change);
                }
            }
            Event::Appended(count) => self.appended = *count,
            Event::Durable(position) => self.durable = self.durable.max(*position),
        }
        !matches!(event, Event::Appended(_) | Event::Durable(_))
    }

    /// What a power cut may leave. Variant 0 is the least, 1 the most, the others are random.
    pub(super) fn image(&self, variant: usize, random: &mut Random) -> Image {
        let mut names = self.names.clone();
        let in_order = random.one_in(2);
        let first = random.below(self.name_changes.len() + 1);
        for (at, change) in self.name_changes.iter().enumerate() {
            let arrives = match variant {
                0 => false,
                1 => true,
                _ if in_order => at < first,
                _ => random.one_in(2),
            };
            if arrives {
                rename(&mut names, change);
            }
        }
        names.into_iter().map(|(name, inode)| (name, self.files[inode].image(variant, random))).collect()
    }
}

impl File {
    fn image(&self, variant: usize, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.certain.clone();
        for (change, _) in &self.changes {
            match variant {
                0 => {}
                1 => apply(&mut bytes, change),
                _ => match random.below(4) {
                    0 => {}
                    1 => apply(&mut bytes, change),
                    2 => tear(&mut bytes, change, 512, random),
                    _ => tear(&mut bytes, change, 4096, random),
                },
            }
        }
        bytes
    }
}

fn rename(names: &mut BTreeMap<String, usize>, change: &Event) {
    match change {
        Event::Create { name, inode } => {
            names.insert(name.clone(), *inode);
        }
        Event::Rename { inode, from, to } => {
            if names.get(from) == Some(inode) {
                names.remove(from);
            }
            names.insert(to.clone(), *inode);
        }
        Event::Unlink { name } => {
            names.remove(name);
        }
        other => unreachable!("not about names: {other:?}"),
    }
}

fn apply(file: &mut Vec<u8>, change: &Event) {
    match change {
        Event::Write { offset, bytes, .. } => write_at(file, bytes, *offset),
        Event::SetSize { size, .. } => file.resize(*size, 0),
        other => unreachable!("not about bytes: {other:?}"),
    }
}

/// Some sectors of a write arrive.
fn tear(file: &mut Vec<u8>, change: &Event, sector: usize, random: &mut Random) {
    let Event::Write { offset, bytes, .. } = change else {
        return apply(file, change);
    };
    let prefix = random.one_in(2).then(|| random.below(bytes.len() / sector + 2));
    let (mut at, mut index) = (0, 0);
    while at < bytes.len() {
        let end = bytes.len().min((offset + at + 1).next_multiple_of(sector) - offset);
        if prefix.map_or_else(|| random.one_in(2), |prefix| index < prefix) {
            write_at(file, &bytes[at..end], offset + at);
        }
        (at, index) = (end, index + 1);
    }
}
