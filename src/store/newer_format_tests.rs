//! What a newer release wrote is refused, and is there as it was for the newer release.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use redb::Database;

use super::dir::identity::{DataDir, IdentityCheck};
use super::log::{Log, LogOptions};
use super::meta::{self, META};
use super::paths;
use super::sample::{self, StateContent, content, fill_state};
use super::snapshot::backup::{MAGIC, push_block};
use super::state::{State, StateOptions};
use super::test_disk::Disk;
use super::{BackupCheck, Origin, StoreError, recover, restore};
use crate::raft::{LogId, Membership, NodeId, Recovered};

fn check() -> IdentityCheck {
    IdentityCheck { cluster: "c".to_owned(), node: "n1".to_owned() }
}

fn alone(id: NodeId) -> Membership {
    sample::alone(99, id)
}

/// A backup, whose first piece is changed.
fn backup(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let state = fill_state(&Disk::default(), "key", 60);
    let text = String::new;
    let origin = Origin { konsen: text(), cluster: text(), node: text(), created: text() };
    let mut bytes = [&MAGIC[..], &1_u32.to_le_bytes()].concat();
    push_block(&mut bytes, &serde_json::to_vec(&origin).unwrap()).unwrap();
    let mut reader = state.snapshot();
    let mut pieces: Vec<_> = std::iter::from_fn(|| reader.next_piece(700).unwrap()).collect();
    change(&mut pieces[0]);
    pieces.iter().for_each(|piece| push_block(&mut bytes, piece).unwrap());
    bytes.extend_from_slice(&[0; 4]);
    let mut digest = super::snapshot::backup::Digest::new();
    digest.add(&bytes);
    bytes.extend_from_slice(&digest.value().0);
    bytes
}

/// The directory of a node that stopped.
fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    restore(&backup(|_| ())[..], dir.path(), &check(), alone).unwrap();
    dir
}

/// Opens a directory as a node does: what it finds there.
fn start(path: &Path) -> Result<(NodeId, StateContent, LogId, Recovered), StoreError> {
    let data = DataDir::open(path, &check())?;
    let state = State::open(&data.state_path(), None, &StateOptions::default())?;
    let (mut log, found) = Log::open(&data.log_path(), None, &LogOptions::default())?;
    data.files_made()?;
    let recovered = recover(&state, &mut log, found)?;
    Ok((data.id(), content(&state).unwrap(), log.base(), recovered))
}

fn is_refused(path: &Path, file: &str) {
    let refused = start(path).unwrap_err();
    assert!(matches!(refused, StoreError::NewerFormat { .. }), "{refused}");
    let told = refused.to_string();
    for word in [&*path.join(file).display().to_string(), "format 9", "format 3", "run the newer"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

fn bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let read = |path| fs::read(path).unwrap();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), read(entry.path()))).collect()
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_not_a_byte_of_it_is_changed() {
    let dir = stopped();
    let file = dir.path().join("identity");
    let identity = fs::read_to_string(&file).unwrap();
    // Whatever else a newer one says.
    let newer = identity.replace("\"format\": 3", "\"format\": 9").replace("\"node\"", "\"host\"");
    assert!(newer.contains("\"format\": 9"), "{newer}");
    fs::write(&file, newer).unwrap();
    let before = bytes(dir.path());
    is_refused(dir.path(), "identity");
    let rescued = super::rescue(dir.path(), &check(), alone).unwrap_err();
    assert!(matches!(rescued, StoreError::NewerFormat { found: 9, .. }), "{rescued}");
    assert_eq!(bytes(dir.path()), before);
}

/// The identity's format says so first; what is checked here is a file from elsewhere.
#[test]
fn a_database_of_a_newer_format_is_refused_and_holds_what_it_held() {
    for file in [paths::LOG, paths::STATE] {
        let dir = stopped();
        let before = start(dir.path()).unwrap();
        let set_format = |format| {
            let db = Database::create(dir.path().join(file)).unwrap();
            let write = db.begin_write().unwrap();
            meta::put_other_format(&mut write.open_table(META).unwrap(), format);
            write.commit().unwrap();
        };
        set_format(9);
        is_refused(dir.path(), file);
        is_refused(dir.path(), file);
        set_format(3);
        assert_eq!(start(dir.path()).unwrap(), before, "{file}");
    }
}

#[test]
fn a_backup_of_a_newer_format_is_refused() {
    let mut newer = backup(|_| ());
    newer[MAGIC.len()] = 9;
    let with_newer_pieces = backup(|piece| piece[1] = 9);
    for (bytes, what) in [(newer, "it has"), (with_newer_pieces, "the snapshot in it has")] {
        let dir = tempfile::tempdir().unwrap();
        let restored = restore(&bytes[..], dir.path(), &check(), alone).unwrap_err();
        let checked = BackupCheck::default().feed(&bytes).unwrap_err();
        for told in [restored, checked].map(|error| error.to_string()) {
            assert!(told.starts_with(what), "{told}");
            for word in ["format 9", "use the release that wrote it"] {
                assert!(told.contains(word), "{word}: {told}");
            }
        }
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 0, "something was restored");
    }
}
