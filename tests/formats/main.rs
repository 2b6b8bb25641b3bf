//! Whether this release reads what earlier ones wrote: data directories of stopped nodes and backups, recorded when a
//! format was new, and as text what each holds. They are never recorded again: what a release wrote stays as it is.
//!
//! When a format's version, or the feature level, is raised the first test fails until
//!
//!     UPDATE_GOLDENFILES=1 cargo test --test formats
//!
//! has recorded another one beside those there are. Read `data.txt` and `backup.txt` of it, and commit all.
#![allow(clippy::unwrap_used)]

mod hex;
mod holds;
mod record;
mod recorded;

use std::fs;
use std::path::Path;

use holds::{Opened, of_backup, of_directory, open};
use konsen::kv::FeatureLevel;
use konsen::raft::{Config, Index, Input, Node, RoleName};
use konsen::store::FORMATS;

#[test]
fn the_formats_of_this_release_are_recorded() {
    let formats = FORMATS.map(|(name, version)| format!("{name}{version}"));
    // Commands and records have no version of their own: they belong to a feature level.
    let level = FeatureLevel::ACCESS;
    let folder = recorded::folder().join(format!("{}-level{level}", formats.join("-")));
    if folder.exists() {
        return;
    }
    let update = std::env::var("UPDATE_GOLDENFILES").is_ok_and(|update| update == "1");
    assert!(update, "{} is missing: record it as main.rs says", folder.display());
    let data = tempfile::tempdir().unwrap();
    let backup = record::record(data.path());
    let partly = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded");
    fs::create_dir_all(&partly).unwrap();
    fs::copy(data.path().join("identity"), partly.join("identity")).unwrap();
    for file in recorded::FILES {
        let bytes = fs::read(data.path().join(file)).unwrap();
        fs::write(partly.join(format!("{file}.hex")), hex::write(&bytes)).unwrap();
    }
    fs::write(partly.join("backup.hex"), hex::write(&backup)).unwrap();
    // Of the originals, so that the other test compares what the text makes of them.
    fs::write(partly.join("data.txt"), of_directory(&open(data.path()))).unwrap();
    fs::write(partly.join("backup.txt"), of_backup(&backup)).unwrap();
    fs::rename(partly, folder).unwrap();
}

#[test]
fn recorded_data_directories_hold_what_was_put_there_and_their_nodes_go_on() {
    for folder in recorded::all() {
        let name = folder.display();
        let data = tempfile::tempdir().unwrap();
        recorded::unpack(&folder, data.path());
        let holds = fs::read_to_string(folder.join("data.txt")).unwrap();
        // The second time it was closed by this release.
        for _ in 0..2 {
            assert_eq!(of_directory(&open(data.path())), holds, "{name}");
        }
        let opened = goes_on(open(data.path()));
        assert_eq!(opened.state.get(b"plain", None).unwrap().1.unwrap().value, "third", "{name}");
        assert_eq!(
            opened.state.get(b"tail", None).unwrap().1.unwrap().value,
            "undecided",
            "{name}"
        );
    }
}

#[test]
fn recorded_backups_hold_what_was_put_there() {
    for folder in recorded::all() {
        let holds = fs::read_to_string(folder.join("backup.txt")).unwrap();
        assert_eq!(of_backup(&recorded::file_of(&folder, "backup")), holds, "{}", folder.display());
    }
}

/// The node, the only voter, is elected, and decides and carries out all that it has.
fn goes_on(mut opened: Opened) -> Opened {
    let config = Config::new(opened.data.id(), 1);
    let ticks = 4 * config.election_ticks;
    let last = opened.log.reader().last().unwrap();
    let mut node = Node::new(config, opened.recovered.clone());
    for _ in 0..ticks {
        node.step(Input::Tick);
        for write in node.take_output().persist {
            opened.log.append(std::slice::from_ref(&write)).unwrap();
            node.step(Input::Persisted { seq: write.seq });
        }
    }
    assert_eq!(node.role(), RoleName::Leader);
    assert!(node.commit() > last, "it decided up to {}", node.commit());
    let from: Index = opened.state.applied().index.next();
    let entries = opened.log.reader().read(from, node.commit(), usize::MAX).unwrap();
    opened.state.apply(&entries).unwrap();
    opened
}
