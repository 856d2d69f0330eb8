//! Edits are noticed however they are made. Every wait is for an event, with a bound only against hanging.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::config::watch::Watch;

const BOUND: Duration = Duration::from_secs(30);

fn watch(path: &Path, seen: &[u8]) -> (Watch, Receiver<Vec<u8>>) {
    let (told, heard) = channel();
    let watch = Watch::start(path, seen, move |content| drop(told.send(content.to_vec()))).unwrap();
    (watch, heard)
}

fn file(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn next(heard: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(heard.recv_timeout(BOUND).unwrap()).unwrap()
}

#[test]
fn an_edit_in_place_is_told_once() {
    let directory = tempdir().unwrap();
    let path = file(&directory, "config.toml", "a");
    let (watch, heard) = watch(&path, b"a");
    for content in ["bb", "ccc"] {
        fs::write(&path, content).unwrap();
        assert_eq!(next(&heard), content);
    }
    drop(watch);
    assert!(heard.recv().is_err(), "something was told twice");
}

#[test]
fn a_file_renamed_over_it_is_told() {
    let directory = tempdir().unwrap();
    let path = file(&directory, "config.toml", "a");
    let (_watch, heard) = watch(&path, b"a");
    for content in ["b", "c"] {
        fs::rename(file(&directory, "config.toml.new", content), &path).unwrap();
        assert_eq!(next(&heard), content);
    }
}

#[test]
fn a_swapped_directory_symlink_is_told() {
    let directory = tempdir().unwrap();
    for version in ["v1", "v2", "v3"] {
        fs::create_dir(directory.path().join(version)).unwrap();
        file(&directory, &format!("{version}/config.toml"), version);
    }
    let data = directory.path().join("..data");
    symlink("v1", &data).unwrap();
    let path = directory.path().join("config.toml");
    symlink("..data/config.toml", &path).unwrap();
    let (_watch, heard) = watch(&path, b"v1");
    for version in ["v2", "v3"] {
        let new = directory.path().join("..data_tmp");
        symlink(version, &new).unwrap();
        fs::rename(&new, &data).unwrap();
        assert_eq!(next(&heard), version);
    }
}

#[test]
fn an_edit_where_the_symlink_leads_is_told() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    let target = file(&there, "real.toml", "a");
    let path = here.path().join("config.toml");
    symlink(&target, &path).unwrap();
    let (_watch, heard) = watch(&path, b"a");
    fs::write(&target, "b").unwrap();
    assert_eq!(next(&heard), "b");
}

#[test]
fn an_edit_made_before_the_watch_began_is_told() {
    let directory = tempdir().unwrap();
    let path = file(&directory, "config.toml", "edited");
    let (_watch, heard) = watch(&path, b"loaded");
    assert_eq!(next(&heard), "edited");
}

#[test]
fn what_leaves_the_bytes_as_they_were_is_not_told() {
    let directory = tempdir().unwrap();
    let path = file(&directory, "config.toml", "a");
    let (_watch, heard) = watch(&path, b"a");
    fs::write(&path, "a").unwrap();
    file(&directory, "neighbour.toml", "b");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "c").unwrap();
    assert_eq!(next(&heard), "c");
}

#[test]
fn a_directory_that_is_not_there_cannot_be_watched() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("missing/config.toml");
    let error = Watch::start(&path, b"", |_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot watch {}: ", path.display())), "{error}");
}
