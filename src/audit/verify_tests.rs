//! Whatever is done to the files is found.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::audit::line::Owner;
use crate::audit::record::{Action, Outcome, Record, Target, Targets, Who};
use crate::audit::writer::{Entry, Place, Writer};

/// An audit of a few small files, and some of its heads.
struct Sample {
    dir: TempDir,
    heads: Vec<Head>,
}

fn sample() -> Sample {
    let dir = TempDir::new().unwrap();
    let owner = Owner { node: "node1".into(), id: "17".into(), cluster: "konsen".into() };
    let place = Place { dir: dir.path().to_owned(), file_bytes: 1536, keep: 100, owner };
    let (mut writer, _) = Writer::open(place, None).unwrap();
    let mut heads = Vec::new();
    for number in 0..12u8 {
        let record = Record {
            time: SystemTime::now(),
            action: Action::Delete,
            method: "DELETE",
            who: Who::Known { name: "alice".into(), how: "certificate" },
            from: Some("10.0.0.7".parse().unwrap()),
            via: None,
            targets: Targets::one(Target::Key(Bytes::from(vec![number, 200]))),
            outcome: Outcome {
                status: Some(204),
                problem: None,
                revision: Some(number.into()),
                fate: None,
            },
            passed_on: false,
        };
        writer.append(&mut VecDeque::from([Entry::Request(record)])).unwrap();
        heads.push(writer.head());
    }
    Sample { dir, heads }
}

impl Sample {
    fn paths(&self) -> Vec<PathBuf> {
        let numbers = files::list(self.dir.path()).unwrap();
        numbers.into_iter().map(|number| files::path_of(self.dir.path(), number)).collect()
    }

    fn verify(&self) -> Verified {
        verify(self.dir.path(), &[]).unwrap()
    }

    fn anchored(&self, heads: &[Head]) -> Verified {
        let anchor = |head: &Head| Anchor { id: "17".into(), head: *head };
        let anchors: Vec<Anchor> = heads.iter().map(anchor).collect();
        verify(self.dir.path(), &anchors).unwrap()
    }

    /// The lines of all files, each with its file and its place there.
    fn lines(&self) -> Vec<(PathBuf, usize)> {
        let of = |path: &PathBuf| {
            let count = fs::read_to_string(path).unwrap().lines().count();
            (0..count).map(|at| (path.clone(), at)).collect::<Vec<_>>()
        };
        self.paths().iter().flat_map(of).collect()
    }

    fn change(&self, path: &PathBuf, change: impl FnOnce(&mut Vec<String>)) {
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|line| format!("{line}\n")).collect();
        change(&mut lines);
        fs::write(path, lines.concat()).unwrap();
    }
}

#[test]
fn what_was_written_is_sound_with_each_anchor() {
    let sample = sample();
    assert!(sample.paths().len() > 3);
    let verified = sample.anchored(&sample.heads);
    assert_eq!((&verified.findings[..], verified.more), (&[][..], 0));
    let last = *sample.heads.last().unwrap();
    assert_eq!((verified.last, verified.anchored), (last, Some(last.sequence)));
    assert_eq!(verified.anchors, sample.heads.len() as u64);
    // Those of another node say nothing about this one.
    let other = Anchor { id: "18".into(), head: Head { sequence: 999, ..last } };
    assert!(verify(sample.dir.path(), &[other]).unwrap().is_sound());
}

#[test]
fn each_byte_that_is_changed_is_found() {
    let sample = sample();
    for path in sample.paths() {
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            // A letter's case, too: a hash is written in one way only.
            for bit in [0x01, 0x20] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                fs::write(&path, &changed).unwrap();
                assert!(!sample.verify().is_sound(), "{} at {at}", path.display());
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(sample.verify().is_sound());
}

#[test]
fn each_line_that_is_removed_repeated_or_swapped_is_found() {
    let sample = sample();
    let lines = sample.lines();
    let (last_file, last_line) = lines.last().unwrap().clone();
    for (path, at) in lines {
        let text = fs::read_to_string(&path).unwrap();
        let is_last = (&path, at) == (&last_file, last_line);
        sample.change(&path, |lines| drop(lines.remove(at)));
        // The end of the chain is a matter of anchors.
        assert_eq!(sample.verify().is_sound(), is_last, "{} without {at}", path.display());
        assert!(!sample.anchored(&sample.heads[sample.heads.len() - 1..]).is_sound() || !is_last);
        fs::write(&path, &text).unwrap();
        sample.change(&path, |lines| lines.insert(at, lines[at].clone()));
        assert!(!sample.verify().is_sound(), "{} with {at} twice", path.display());
        fs::write(&path, &text).unwrap();
        sample.change(&path, |lines| {
            let next = (at + 1) % lines.len();
            lines.swap(at, next);
        });
        assert!(!sample.verify().is_sound(), "{} with {at} elsewhere", path.display());
        fs::write(&path, &text).unwrap();
    }
    assert!(sample.verify().is_sound());
}

#[test]
fn each_length_that_is_no_lines_end_is_found_and_each_that_is_by_an_anchor() {
    let sample = sample();
    let path = sample.paths().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let last = &sample.heads[sample.heads.len() - 1..];
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let at_an_end = length > 0 && bytes[length - 1] == b'\n';
        assert_eq!(sample.verify().is_sound(), at_an_end, "{length}");
        let anchored = sample.anchored(last);
        assert!(!anchored.is_sound(), "{length}");
        let told = anchored.findings.last().unwrap().what.clone();
        assert!(told.contains("missing at the end"), "{told}");
    }
}

#[test]
fn files_that_are_missing_swapped_or_of_another_node_are_found() {
    let sample = sample();
    let paths = sample.paths();
    let all: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for at in 0..paths.len() {
        fs::remove_file(&paths[at]).unwrap();
        // Without the first it is as after a rotation, and says where it begins.
        let verified = sample.verify();
        assert_eq!(verified.is_sound(), at == 0 || at == paths.len() - 1, "{at}");
        assert!(!sample.anchored(&sample.heads).is_sound() || at == 0, "{at}");
        fs::write(&paths[at], &all[at]).unwrap();
    }
    for at in 1..paths.len() {
        fs::write(&paths[at - 1], &all[at]).unwrap();
        fs::write(&paths[at], &all[at - 1]).unwrap();
        assert!(!sample.verify().is_sound(), "{at}");
        fs::write(&paths[at - 1], &all[at - 1]).unwrap();
        fs::write(&paths[at], &all[at]).unwrap();
    }
    let text = fs::read_to_string(&paths[1]).unwrap();
    fs::write(&paths[1], text.replacen("\"id\":\"17\"", "\"id\":\"18\"", 1)).unwrap();
    let findings = sample.verify().findings;
    assert!(findings.iter().any(|finding| finding.what.contains("another node")), "{findings:?}");
}

/// Somebody who knows how it is done writes all anew: only the cluster's anchors tell.
#[test]
fn a_chain_that_was_written_anew_is_found_by_each_anchor() {
    let (sample, other) = (sample(), self::sample());
    for path in sample.paths() {
        fs::remove_file(path).unwrap();
    }
    for path in other.paths() {
        fs::copy(&path, sample.dir.path().join(path.file_name().unwrap())).unwrap();
    }
    assert!(sample.verify().is_sound());
    for head in &sample.heads {
        let verified = sample.anchored(&[*head]);
        assert!(!verified.is_sound(), "{head:?}");
        assert!(verified.findings[0].what.contains("the cluster knows another"));
    }
}

#[test]
fn what_rotation_removed_is_no_damage_and_the_rest_is_still_anchored() {
    let sample = sample();
    let paths = sample.paths();
    paths[..2].iter().for_each(|path| fs::remove_file(path).unwrap());
    let verified = sample.anchored(&sample.heads);
    assert_eq!(verified.findings, []);
    assert!(verified.first > 1 && verified.anchors < sample.heads.len() as u64);
}

#[test]
fn findings_are_bounded_and_name_file_line_and_record() {
    let sample = sample();
    let path = sample.paths().remove(1);
    fs::write(&path, "nothing\n".repeat(100)).unwrap();
    let verified = sample.verify();
    assert_eq!(verified.findings.len(), FINDINGS_MAX);
    assert!(verified.more >= 80, "{}", verified.more);
    let first = &verified.findings[0];
    assert_eq!((first.file.as_str(), first.line), ("00000002.log", Some(1)));
}

proptest! {
    /// Whatever lines somebody takes out of files, in whatever order they put the rest: if it is sound it is a part of what was
    /// written, from its beginning on or from that of a file.
    #[test]
    fn no_arrangement_of_lines_is_sound_but_what_was_written(
        order in Just((0..8).collect::<Vec<usize>>()).prop_shuffle(),
        kept in 0usize..9,
    ) {
        let sample = sample();
        let path = sample.paths().remove(1);
        sample.change(&path, |lines| {
            let count = lines.len();
            let of = |at: &usize| lines.get(*at).cloned();
            let chosen: Vec<String> = order.iter().take(kept).filter_map(of).collect();
            let as_it_was = chosen.len() == count && chosen == *lines;
            *lines = if as_it_was { vec![chosen.concat() + "x"] } else { chosen };
        });
        prop_assert!(!sample.verify().is_sound());
    }
}

/// Who removes all of it has a node begin anew behind what the cluster knows: that is no rotation, before whose first file there
/// were others.
#[test]
fn an_audit_that_begins_anew_behind_what_was_removed_says_so() {
    let sample = sample();
    let last = *sample.heads.last().unwrap();
    sample.paths().iter().for_each(|path| fs::remove_file(path).unwrap());
    let owner = Owner { node: "node1".into(), id: "17".into(), cluster: "konsen".into() };
    let place = Place { dir: sample.dir.path().to_owned(), file_bytes: 1536, keep: 100, owner };
    drop(Writer::open(place, Some(last)).unwrap());
    let verified = sample.anchored(&[last]);
    let whats: Vec<&str> = verified.findings.iter().map(|it| &it.what[..]).collect();
    assert!(whats.iter().any(|what| what.contains("no file was before the first")), "{whats:?}");
    assert!(whats.iter().any(|what| what.contains("the cluster knew")), "{whats:?}");
}
