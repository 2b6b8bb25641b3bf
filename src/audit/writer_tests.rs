//! Files that begin, go on, are rotated, cut short, damaged and lost.

use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::audit::record::{Action, Outcome, Target, Targets, Who};
use crate::audit::verify::{Anchor, Verified, verify};

const FILE_BYTES: u64 = 4096;

fn place(dir: &Path) -> Place {
    let owner = Owner { node: "node1".into(), id: "17".into(), cluster: "konsen".into() };
    Place { dir: dir.join("audit"), file_bytes: FILE_BYTES, keep: 100, owner }
}

fn put(key: &str) -> Entry {
    Entry::Request(Record {
        time: SystemTime::now(),
        action: Action::Put,
        method: "PUT",
        who: Who::Anonymous,
        from: None,
        via: None,
        targets: Targets::one(Target::Key(Bytes::copy_from_slice(key.as_bytes()))),
        outcome: Outcome { status: Some(201), problem: None, revision: Some(7), fate: None },
        passed_on: false,
    })
}

fn append(writer: &mut Writer, count: u64) {
    let mut entries = (0..count).map(|number| put(&format!("key{number}"))).collect();
    writer.append(&mut entries).unwrap();
    assert!(entries.is_empty());
}

fn open(dir: &Path) -> (Writer, Found) {
    Writer::open(place(dir), None).unwrap()
}

fn verified(dir: &Path, anchors: &[Anchor]) -> Verified {
    verify(&place(dir).dir, anchors).unwrap()
}

#[track_caller]
fn sound(dir: &Path) -> Verified {
    let verified = verified(dir, &[]);
    assert_eq!(verified.findings, []);
    verified
}

fn newest(dir: &Path) -> PathBuf {
    let dir = place(dir).dir;
    let last = files::list(&dir).unwrap().pop().unwrap();
    files::path_of(&dir, last)
}

#[test]
fn one_chain_goes_through_all_files_and_starts() {
    let dir = TempDir::new().unwrap();
    let mut head = Head::default();
    for start in 0..5 {
        let (mut writer, found) = open(dir.path());
        assert_eq!(found, Found { head, ..Found::default() }, "{start}");
        append(&mut writer, 40);
        head = writer.head();
    }
    let verified = sound(dir.path());
    assert_eq!((verified.first, verified.last), (1, head));
    assert!(verified.files > 5, "{}", verified.files);
    // Five starts, their records, and the first record of each file.
    assert_eq!(verified.records, 5 * 41 + verified.files);
    for number in files::list(&place(dir.path()).dir).unwrap() {
        let found = fs::metadata(files::path_of(&place(dir.path()).dir, number)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(found.len() <= FILE_BYTES, "{}", found.len());
    }
}

#[test]
fn the_oldest_files_go_and_the_rest_says_where_it_begins() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = Writer::open(Place { keep: 3, ..place(dir.path()) }, None).unwrap();
    append(&mut writer, 300);
    let numbers = files::list(&place(dir.path()).dir).unwrap();
    assert_eq!(numbers.len(), 3);
    assert!(numbers[0] > 1, "{numbers:?}");
    let verified = sound(dir.path());
    assert!(verified.first > 1 && verified.last == writer.head());
}

#[test]
fn a_record_larger_than_a_file_has_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    let long = "\u{1}".repeat(4096);
    let mut entries = VecDeque::from([put("a"), put(&long), put(&long), put("b")]);
    writer.append(&mut entries).unwrap();
    let verified = sound(dir.path());
    assert_eq!(verified.last, writer.head());
}

/// Wherever a crash cuts the last record, the next start cuts the rest off and goes on.
#[test]
fn what_a_crash_has_cut_short_is_cut_off_and_said() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    append(&mut writer, 2);
    let before = writer.head();
    let whole = fs::read(newest(dir.path())).unwrap();
    append(&mut writer, 1);
    let torn = fs::read(newest(dir.path())).unwrap();
    for length in whole.len()..torn.len() {
        fs::write(newest(dir.path()), &torn[..length]).unwrap();
        let (mut writer, found) = open(dir.path());
        let cut_bytes = (length - whole.len()) as u64;
        assert_eq!(found, Found { head: before, cut_bytes, ..Found::default() });
        append(&mut writer, 1);
        let text = fs::read_to_string(newest(dir.path())).unwrap();
        let said = format!(
            "\"found\":{},\"head\":\"{}\",\"cut_bytes\":{cut_bytes}",
            before.sequence, before.hash
        );
        assert!(text.contains(&said), "{said}");
        sound(dir.path());
    }
}

#[test]
fn a_file_of_which_a_crash_left_no_whole_record_is_made_again() {
    for left in [0, 1, 100] {
        let dir = TempDir::new().unwrap();
        let (mut writer, _) = open(dir.path());
        append(&mut writer, 1);
        let (head, first) = (writer.head(), fs::read(newest(dir.path())).unwrap());
        fs::write(files::path_of(&place(dir.path()).dir, 2), &first[..left]).unwrap();
        let (_, found) = open(dir.path());
        assert_eq!(found.head, head);
        assert_eq!(sound(dir.path()).files, 1);
    }
}

#[test]
fn what_is_damaged_is_left_as_it_is_and_told() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    append(&mut writer, 6);
    let path = newest(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"key2").unwrap();
    bytes[at + 3] = b'9';
    fs::write(&path, &bytes).unwrap();
    let (mut writer, found) = open(dir.path());
    // The first record, a start, two puts.
    assert_eq!(found.damaged, Some((path.clone(), 5)));
    append(&mut writer, 3);
    assert_eq!(fs::read(&path).unwrap(), bytes, "evidence stays");
    let verified = verified(dir.path(), &[]);
    let first = &verified.findings[0];
    assert_eq!((first.line, first.record, first.file.as_str()), (Some(5), Some(5), "00000001.log"));
    let (_, found) = open(dir.path());
    assert_eq!(found.damaged, None, "the newest file is whole");
}

#[test]
fn records_that_the_cluster_knows_and_that_are_gone_leave_a_gap_that_is_seen() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    append(&mut writer, 2);
    let old = fs::read(newest(dir.path())).unwrap();
    let left = writer.head();
    append(&mut writer, 4);
    let anchored = writer.head();
    drop(writer);
    fs::write(newest(dir.path()), old).unwrap();
    let (mut writer, found) = Writer::open(place(dir.path()), Some(anchored)).unwrap();
    assert_eq!((found.head, found.missing), (left, Some(left.sequence + 1)));
    append(&mut writer, 1);
    // The next record's number is none that was given before.
    assert_eq!(writer.head().sequence, anchored.sequence + 3);
    assert!(!verified(dir.path(), &[]).is_sound(), "it needs no anchor to be seen");
    let all_gone = TempDir::new().unwrap();
    let (_, found) = Writer::open(place(all_gone.path()), Some(anchored)).unwrap();
    assert_eq!(found.missing, Some(1));
    let anchor = Anchor { id: "17".into(), head: anchored };
    let verified = verified(all_gone.path(), &[anchor]);
    assert_eq!(
        (verified.first, verified.anchored),
        (anchored.sequence + 1, Some(anchored.sequence))
    );
}

#[test]
fn anchors_that_are_older_than_what_is_there_change_nothing() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _) = open(dir.path());
    append(&mut writer, 2);
    let anchored = writer.head();
    append(&mut writer, 2);
    let head = writer.head();
    let (_, found) = Writer::open(place(dir.path()), Some(anchored)).unwrap();
    assert_eq!(found, Found { head, ..Found::default() });
}

#[test]
fn a_directory_that_cannot_be_made_is_told_with_its_path() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("audit"), "a file").unwrap();
    let error = Writer::open(place(dir.path()), None).unwrap_err().to_string();
    assert!(error.contains("audit"), "{error}");
}
