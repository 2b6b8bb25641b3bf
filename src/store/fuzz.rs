//! Damaged files, and snapshots that are not what was sent.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use redb::TableHandle;
use xxhash_rust::xxh3::Xxh3;

use super::dir::identity;
use super::sample::{
    LogContent, StateContent, content, fill_state, log_files, open_state, read_log, read_state,
    state_files,
};
use super::sealed;
use super::snapshot::backup::{Digest, FORMAT, MAGIC, Origin, push_block};
use super::snapshot::backup_check::{BackupCheck, BackupError, BackupSummary};
use super::snapshot::pieces::{END, End, KEY_ROWS, REVISION_ROWS, pop, push};
use super::snapshot::{Incoming, IncomingError};
use super::state::ReadError;
use super::state::State;
use super::state::tables::{KEYS, REVISIONS};
use super::test_disk::{Disk, Keeps};

struct Sample {
    log: Vec<u8>,
    log_content: LogContent,
    state: Vec<u8>,
    state_content: StateContent,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let ([_, log], _) = log_files();
        let [_, state] = state_files();
        Sample {
            log_content: read_log(Disk::holding(log.clone())).expect("a sound file"),
            log,
            state_content: read_state(Disk::holding(state.clone())).expect("a sound file"),
            state,
        }
    })
}

/// Which file, and in four bytes each where to change it and how: it is refused, or nothing is read from it
/// that was never written.
pub fn files(data: &[u8]) {
    let Some((which, changes)) = data.split_first() else { return };
    let sample = sample();
    if which % 2 == 0 {
        if let Ok((_, _, entries, memberships)) = read_log(damaged(&sample.log, changes)) {
            let (_, _, written, written_memberships) = &sample.log_content;
            assert!(entries.iter().all(|entry| written.contains(entry)));
            assert!(memberships.iter().all(|found| written_memberships.contains(found)));
        }
    } else if let Ok((_, _, _, items)) = read_state(damaged(&sample.state, changes)) {
        assert!(items.iter().all(|item| sample.state_content.3.contains(item)));
    }
}

fn damaged(bytes: &[u8], changes: &[u8]) -> Disk {
    let mut bytes = bytes.to_vec();
    for change in changes.chunks_exact(4).take(16) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % bytes.len();
        bytes[at] ^= change[3];
    }
    Disk::holding(bytes)
}

/// The file that says whose a directory is: what is read is written so that the same is read again.
pub fn identity(data: &[u8]) {
    let file = Path::new("/data/identity");
    match identity::read(data, file) {
        Ok(identity) => {
            let written = identity::bytes(&identity).expect("plain data");
            assert!(identity.id.len() == 16 && !identity.id.starts_with('+'), "{identity:?}");
            assert_eq!(identity::read(&written, file).ok(), Some(identity));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A snapshot cut into pieces of several sizes, what it brings, and a node that has something else.
struct Sent {
    pieces: [Vec<Vec<u8>>; 3],
    content: StateContent,
    receiver: Vec<u8>,
    receiver_content: StateContent,
}

fn sent() -> &'static Sent {
    static SENT: OnceLock<Sent> = OnceLock::new();
    SENT.get_or_init(|| {
        let sender = fill_state(&Disk::default(), "key", 60);
        let pieces = [1, 700, 1 << 20].map(|bytes_max| {
            let mut reader = sender.snapshot();
            std::iter::from_fn(|| reader.next_piece(bytes_max).expect("a sound disk")).collect()
        });
        let disk = Disk::default();
        drop(fill_state(&disk, "old key", 20));
        let receiver = disk.bytes();
        Sent {
            pieces,
            content: content(&sender).expect("a sound disk"),
            receiver_content: read_state(disk).expect("a sound file"),
            receiver,
        }
    })
}

/// A snapshot that comes in. The first byte says what follows: what is wrong with the pieces of a sound
/// one, pieces of any bytes, or rows that are sealed well before they are sent. Whatever comes, the state
/// is as it was until the snapshot is whole; a sound one is whole only as it was sent, and then brings what
/// the sender had.
pub fn snapshot(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let sent = sent();
    let disk = Disk::holding(sent.receiver.clone());
    let state = Arc::new(open_state(&disk).expect("a sound file"));
    let original = sent.pieces.get(usize::from(kind % 5));
    let pieces = match (original, kind % 5) {
        (Some(pieces), _) => changed(pieces, rest),
        (None, 3) => parts(rest).map(<[u8]>::to_vec).collect(),
        (None, _) => sealed_well(parts(rest)),
    };
    let (taken, incoming) = take(&state, &pieces);
    assert_eq!(content(&state).expect("a sound disk"), sent.receiver_content);
    let whole = taken.is_ok() && incoming.is_whole();
    if original.is_some() {
        assert_eq!(whole, original == Some(&pieces), "{taken:?}");
    }
    if !whole {
        if let Err(error) = taken {
            let refused = !matches!(error, IncomingError::Store(_) | IncomingError::Busy);
            assert!(refused && !error.to_string().is_empty(), "{error}");
        } else {
            assert!(!state.put_in_place(incoming).expect("a sound disk"));
        }
        drop(state);
        let left = read_state(disk.after_power_loss(Keeps::All)).expect("a sound disk");
        assert_eq!(left, sent.receiver_content);
        return;
    }
    let placed = state.put_in_place(incoming).expect("a sound disk");
    let left = disk.after_power_loss(Keeps::None);
    if original.is_some() {
        assert!(placed);
        assert_eq!(content(&state).expect("a sound disk"), sent.content);
        assert_eq!(read_state(left).expect("a sound disk"), sent.content);
    } else {
        // What a sender makes up may contradict itself. That is found, at the latest when it is read.
        let found = content(&state);
        let again = open_state(&left).map_err(ReadError::Store).and_then(|state| content(&state));
        assert_eq!(found.ok(), again.ok());
    }
}

fn take(state: &Arc<State>, pieces: &[Vec<u8>]) -> (Result<(), IncomingError>, Incoming) {
    let mut incoming = state.receive().expect("the only one");
    (pieces.chunks(2).try_for_each(|pieces| incoming.take(pieces)), incoming)
}

/// Parts of `data`, each with its length before it.
fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = data.split_first()?;
        let (part, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        Some(part)
    })
}

/// What happens to the pieces on the way, in four bytes each: how, to which piece, and two that say more.
fn changed(pieces: &[Vec<u8>], changes: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = pieces.to_vec();
    for change in changes.chunks_exact(4).take(8) {
        let &[how, piece, place, value] = change else { continue };
        if pieces.is_empty() {
            break;
        }
        let at = usize::from(piece) % pieces.len();
        let other = usize::from(place) % pieces.len();
        // Anywhere in a piece of any size.
        let byte = pieces[at].len() * usize::from(place) / 256;
        match how % 9 {
            0 => drop(pieces.remove(at)),
            1 => pieces.insert(other, pieces[at].clone()),
            2 => pieces.swap(at, other),
            3 => pieces[at].truncate(byte),
            4 => pieces[at].push(value),
            5 => pieces.truncate(at),
            6 => pieces.insert(at, vec![place, value]),
            7 => {
                let end = pieces[at].split_off(byte);
                pieces.insert(at + 1, end);
            }
            _ => {
                if let Some(byte) = pieces[at].get_mut(byte) {
                    *byte ^= value;
                }
            }
        }
    }
    pieces
}

/// Pieces whose rows got the right checksum, with the right last piece after them.
fn sealed_well<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut end = End::default();
    let mut digest = Xxh3::new();
    let mut pieces = Vec::new();
    for part in parts {
        let mut piece = part.to_vec();
        if let Some((&kind @ (KEY_ROWS | REVISION_ROWS), mut rows)) = part.split_first() {
            let (table, count) = match kind {
                KEY_ROWS => (KEYS.name(), &mut end.keys),
                _ => (REVISIONS.name(), &mut end.revisions),
            };
            piece.truncate(1);
            while let Some((key, row)) = pop(&mut rows) {
                let mut row = row.to_vec();
                sealed::seal(table, key, &mut row);
                push(&mut piece, key, &row);
                *count += 1;
            }
        }
        digest.update(&piece);
        pieces.push(piece);
    }
    end.digest = digest.digest();
    pieces.push(postcard::to_extend(&end, vec![END]).expect("plain data"));
    pieces
}

/// A sound backup, and what is in it.
fn sound_backup() -> &'static (Vec<u8>, BackupSummary) {
    static BACKUP: OnceLock<(Vec<u8>, BackupSummary)> = OnceLock::new();
    BACKUP.get_or_init(|| {
        let text = String::new;
        let origin = Origin { konsen: text(), cluster: text(), node: text(), created: text() };
        let state = fill_state(&Disk::default(), "key", 60);
        let mut reader = state.backup(origin);
        let parts = std::iter::from_fn(|| reader.next_part(700).expect("a sound disk"));
        let bytes = parts.collect::<Vec<_>>().concat();
        let summary = check_backup(&bytes, bytes.len()).expect("a sound file");
        (bytes, summary)
    })
}

fn check_backup(bytes: &[u8], part_bytes: usize) -> Result<BackupSummary, BackupError> {
    let mut check = BackupCheck::default();
    bytes.chunks(part_bytes.max(1)).try_for_each(|part| check.feed(part))?;
    check.finish()
}

/// The file of a backup. The first byte says what follows: what is wrong with a sound one, any bytes, or
/// blocks that get the right checksums and the right end. A sound one is taken only as it was written, and
/// how the bytes are cut on the way makes no difference.
pub fn backup(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let (sound, summary) = sound_backup();
    let bytes = match kind % 3 {
        0 => {
            let mut bytes = sound.clone();
            for change in rest.chunks_exact(4).take(16) {
                let at = usize::from(change[0]) << 8 | usize::from(change[1]);
                let at = at % bytes.len().max(1);
                match change[2] % 4 {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, change[3]),
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= change[3];
                        }
                    }
                }
            }
            bytes
        }
        1 => rest.to_vec(),
        _ => {
            let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
            for part in parts(rest).filter(|part| !part.is_empty()) {
                push_block(&mut bytes, part).expect("a short block");
            }
            bytes.extend_from_slice(&[0; 4]);
            let mut digest = Digest::new();
            digest.add(&bytes);
            bytes.extend_from_slice(&digest.value().0);
            bytes
        }
    };
    let found = check_backup(&bytes, bytes.len());
    if kind % 3 == 0 {
        assert_eq!(found.is_ok(), bytes == *sound);
    }
    match (&found, check_backup(&bytes, usize::from(kind) + 1)) {
        (Ok(found), Ok(again)) => assert_eq!(*found, again),
        (Err(error), Err(again)) => assert_eq!(error.to_string(), again.to_string()),
        (found, again) => panic!("{found:?} and {again:?}"),
    }
    match found {
        Ok(found) if bytes == *sound => assert_eq!(found, *summary),
        Ok(found) => assert_eq!(found.bytes, bytes.len() as u64),
        Err(error) => assert!(!matches!(error, BackupError::Store(_) | BackupError::Unreadable(_))),
    }
}
