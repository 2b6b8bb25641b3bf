use super::*;
use crate::kv::{Command, Write};
use crate::raft::{ClusterId, Entry, Index, NodeId, Payload, Term};
use crate::store::sample::fill_state;
use crate::store::test_disk::Disk;
use crate::store::{State, StateOptions};

fn whose() -> Origin {
    Origin {
        konsen: "0.1.0".to_owned(),
        cluster: "c".to_owned(),
        node: "n1".to_owned(),
        created: "2026-01-02T03:04:05Z".to_owned(),
    }
}

/// A file whose blocks hold about so many bytes, and the digest that its reader gave.
fn file(bytes_max: usize) -> (Vec<u8>, Sha256) {
    of(&fill_state(&Disk::default(), "key", 60), bytes_max)
}

fn of(state: &State, bytes_max: usize) -> (Vec<u8>, Sha256) {
    let mut reader = state.backup(whose());
    assert_eq!(reader.revision(), state.revision());
    let mut bytes = Vec::new();
    while let Some(part) = reader.next_part(bytes_max).unwrap() {
        bytes.extend_from_slice(&part);
    }
    (bytes, reader.digest().unwrap())
}

fn check(bytes: &[u8]) -> Result<BackupSummary, BackupError> {
    let mut check = BackupCheck::default();
    check.feed(bytes)?;
    check.finish()
}

fn sha256(bytes: &[u8]) -> Sha256 {
    let mut digest = Digest::new();
    digest.add(bytes);
    digest.value()
}

#[test]
fn a_backup_says_what_is_in_it_however_its_bytes_come() {
    for bytes_max in [1, 700, 1 << 20] {
        let (bytes, digest) = file(bytes_max);
        assert_eq!(&bytes[..8], b"KONSENBK");
        assert_eq!(digest, sha256(&bytes), "what sha256sum says of the file");
        let (before, last) = bytes.split_at(bytes.len() - DIGEST_BYTES);
        assert_eq!(sha256(before).0, last, "what the file says of itself");
        let summary = check(&bytes).unwrap();
        assert_eq!(summary.origin, whose());
        assert_eq!((summary.last.index.0, summary.last.term.0), (60, 3));
        assert_eq!((summary.bytes, summary.digest), (bytes.len() as u64, digest));
        // 56 puts, of numbers below 15 times the index, modulo 31.
        assert_eq!((summary.revision, summary.changes), (Revision(57), 56));
        assert!(summary.keys > 10 && summary.keys < 31, "{summary:?}");
        let mut one_by_one = BackupCheck::default();
        bytes.iter().for_each(|byte| one_by_one.feed(&[*byte]).unwrap());
        assert_eq!(one_by_one.finish().unwrap(), summary);
    }
}

#[test]
fn every_turned_bit_is_found() {
    let (bytes, _) = file(700);
    for at in 0..bytes.len() {
        let mut turned = bytes.clone();
        turned[at] ^= 1 << (at % 8);
        let error = check(&turned).unwrap_err();
        match error {
            BackupError::NotABackup => assert!(at < 8),
            BackupError::Format(_) => assert!((8..12).contains(&at)),
            // Before the place, and not far.
            BackupError::Damaged { at: said, .. } => {
                assert!(said as usize <= at, "{at}: {error}");
            }
            // A length that became larger than what is left.
            BackupError::CutOff { .. } => {}
            other => panic!("{at}: {other}"),
        }
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_found() {
    let (bytes, _) = file(700);
    for length in 0..bytes.len() {
        let error = check(&bytes[..length]).unwrap_err();
        assert!(matches!(error, BackupError::CutOff { at } if at == length as u64), "{error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    let error = check(&longer).unwrap_err();
    assert!(matches!(error, BackupError::Damaged { at, .. } if at == bytes.len() as u64));
}

#[test]
fn a_whole_file_without_a_whole_snapshot_is_no_backup() {
    let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
    crate::store::snapshot::backup::push_block(&mut bytes, &serde_json::to_vec(&whose()).unwrap())
        .unwrap();
    bytes.extend_from_slice(&[0; 4]);
    let digest = sha256(&bytes);
    bytes.extend_from_slice(&digest.0);
    let error = check(&bytes).unwrap_err();
    assert!(error.to_string().contains("no end"), "{error}");
}

#[test]
fn a_backup_of_a_cluster_of_a_newer_level_is_sound_and_says_what_to_run() {
    let newer = FeatureLevel(FeatureLevel::HIGHEST.0 + 1);
    let options = StateOptions { cache_bytes: 1 << 20, highest: newer, ..Default::default() };
    let state = State::open_backend(Disk::default(), &options).unwrap();
    let raise = Write::Raise { level: newer, release: "9.9.9".to_owned() };
    let entry = |index, payload| Entry { id: LogId::new(Term(1), Index(index)), payload };
    let members = Membership {
        cluster: ClusterId(1),
        members: [].into(),
        voters: [NodeId(1)].into(),
        outgoing: None,
    };
    let raise = Payload::Command(Command::new(raise).encode());
    state.apply(&[entry(1, Payload::Membership(members)), entry(2, raise)]).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    let (bytes, _) = of(&state, 700);
    let mut knowing = BackupCheck::knowing(newer);
    knowing.feed(&bytes).unwrap();
    knowing.finish().unwrap();
    let error = check(&bytes).unwrap_err();
    assert!(matches!(error, BackupError::Newer(_)), "{error}");
    for word in ["konsen 9.9.9", "written by a newer release"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[test]
fn a_length_that_none_has_is_refused_at_once() {
    let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    let error = BackupCheck::default().feed(&bytes).unwrap_err();
    assert!(matches!(error, BackupError::Damaged { at: 12, .. }), "{error}");
}
