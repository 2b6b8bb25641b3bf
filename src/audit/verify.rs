//! Verifies the files of an audit: that each record is as it was written, that none is missing between two others, and, with
//! anchors, that none is missing at the end and that the chain is the one that the cluster knows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::files::{self, LinesOf, Piece, about};
use super::hash::Hash;
use super::line::{self, Head, Line};

/// How many findings are told; of others, how many there were.
pub(super) const FINDINGS_MAX: usize = 20;

/// What the cluster knows of a chain: the hash of one of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The identity of the node.
    pub id: String,
    /// The record.
    pub head: Head,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// The line in it, from 1 on; none where it is about the file as a whole.
    pub line: Option<u64>,
    /// The number of the record, where that is known.
    pub record: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The node's name and identity, as the first file has them.
    pub node: String,
    /// Its identity.
    pub id: String,
    /// How many files there are.
    pub files: u64,
    /// How many records.
    pub records: u64,
    /// The number of the first record that is there; what was before it has gone as the files are rotated.
    pub first: u64,
    /// The last record.
    pub last: Head,
    /// How many anchors of this node there are, of records that are there, or should be.
    pub anchors: u64,
    /// The number of the last record that an anchor vouches for.
    pub anchored: Option<u64>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How many findings there were beside these.
    pub more: u64,
}

impl Verified {
    /// Whether all is as it was written.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies all files of a directory.
///
/// # Errors
/// A file that cannot be read. What is wrong with what is in it is a finding.
pub fn verify(dir: &Path, anchors: &[Anchor]) -> io::Result<Verified> {
    let mut walk = Walk { anchors, ..Walk::default() };
    for number in files::list(dir)? {
        let path = files::path_of(dir, number);
        walk.begin_file(number, &path);
        let failed = |error| about(&path, "read", error);
        let mut lines = LinesOf::of(File::open(&path).map_err(failed)?);
        while let Some(piece) = lines.next_piece().map_err(failed)? {
            walk.line(&piece);
        }
        walk.end_file();
    }
    Ok(walk.end())
}

/// How far it has come.
#[derive(Default)]
struct Walk<'a> {
    anchors: &'a [Anchor],
    /// The hashes that anchors state, by record; known once the node is.
    expected: BTreeMap<u64, Vec<Hash>>,
    done: Verified,
    file: String,
    number: u64,
    line: u64,
    /// The last record, as it states itself; none before the first.
    last: Option<Head>,
}

impl Walk<'_> {
    fn begin_file(&mut self, number: u64, path: &Path) {
        let before = self.number;
        self.file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (self.number, self.line) = (number, 0);
        self.done.files += 1;
        if before > 0 && number != before + 1 {
            let what = match number - before - 1 {
                1 => format!("the file before it is missing, number {}", before + 1),
                _ => format!("the files {} to {} before it are missing", before + 1, number - 1),
            };
            self.find(None, what);
        }
    }

    fn end_file(&mut self) {
        if self.line == 0 {
            self.find(None, "it is empty, and every file begins with a record".to_owned());
        }
    }

    fn line(&mut self, piece: &Piece<'_>) {
        self.line += 1;
        match piece {
            Piece::TooLong => self.find(None, "the line is longer than any record".to_owned()),
            Piece::CutShort(_) => self.find(
                None,
                "the line is cut short: a node that runs is writing it, or a crash did that, and the next start cuts it off".to_owned(),
            ),
            Piece::Whole(line) => match line::parse(line) {
                None => self.find(None, "the line is no record".to_owned()),
                Some(line) => self.record(&line),
            },
        }
    }

    fn record(&mut self, line: &Line<'_>) {
        let seq = line.place.seq;
        self.done.records += 1;
        if (self.line == 1) != line.begins_a_file() {
            let what = match self.line {
                1 => "the file does not begin with the record that begins a file",
                _ => "a file's first record stands here",
            };
            self.find(Some(seq), what.to_owned());
        }
        let before = match line.place.before.as_ref().map(|before| before.parse::<Hash>()) {
            Some(Ok(stated)) if line.begins_a_file() => {
                self.file_record(line, stated);
                Some(stated)
            }
            Some(_) if line.begins_a_file() => None,
            _ => self.last.map(|last| last.hash),
        };
        let expected = self.last.map(|last| last.sequence + 1);
        match before {
            None => self.find(Some(seq), "nothing says what stood before it".to_owned()),
            Some(_) if expected.is_some_and(|expected| expected != seq) => {
                let what = out_of_place(seq, expected.unwrap_or_default());
                self.find(Some(seq), what);
            }
            Some(before) if before.then(line.record) != line.hash => {
                let what = "the record, or what stood before it, is not what was written";
                self.find(Some(seq), what.to_owned());
            }
            Some(_) => {}
        }
        if let Some(from) = line.place.missing_from {
            let what = format!(
                "the node found here that records from {from} on were gone, which the cluster knew"
            );
            self.find(Some(seq), what);
        }
        self.hold_against_anchors(seq, line.hash);
        self.last = Some(Head { sequence: seq, hash: line.hash });
    }

    /// The first record of a file, and what it states of the one before.
    fn file_record(&mut self, line: &Line<'_>, before: Hash) {
        let place = &line.place;
        let seq = Some(place.seq);
        if place.number != Some(self.number) {
            let number = place.number.unwrap_or_default();
            self.find(seq, format!("the file was written as number {number}"));
        }
        let id = place.id.clone().unwrap_or_default();
        match self.last {
            None => {
                self.done.node.clone_from(&place.node);
                self.done.first = place.seq;
                self.done.id = id;
                self.expect();
                let head = Head { sequence: place.seq.saturating_sub(1), hash: before };
                let begins = head.sequence == 0;
                if !begins && self.number == 1 {
                    let what = format!(
                        "records before {} are gone, although no file was before the first",
                        place.seq
                    );
                    self.find(seq, what);
                }
                if begins != (before == Hash::NONE) {
                    let what = "the chain begins here, and not with the record that it says";
                    self.find(seq, what.to_owned());
                }
                if !begins {
                    self.hold_against_anchors(head.sequence, head.hash);
                }
            }
            Some(last) => {
                if last.hash != before {
                    let what = "the file does not go on where the one before it ends";
                    self.find(seq, what.to_owned());
                }
                if self.done.id != id {
                    self.find(seq, format!("it is a file of another node, {id}"));
                }
            }
        }
    }

    /// Takes up what anchors say of this node.
    fn expect(&mut self) {
        for anchor in self.anchors.iter().filter(|anchor| anchor.id == self.done.id) {
            self.expected.entry(anchor.head.sequence).or_default().push(anchor.head.hash);
        }
    }

    fn hold_against_anchors(&mut self, seq: u64, hash: Hash) {
        let Some(stated) = self.expected.remove(&seq) else { return };
        self.done.anchors += 1;
        if stated.iter().all(|stated| *stated == hash) {
            self.done.anchored = self.done.anchored.max(Some(seq));
        } else {
            let what = format!("the cluster knows another record {seq}: its hash is {}", stated[0]);
            self.find(Some(seq), what);
        }
    }

    fn find(&mut self, record: Option<u64>, what: String) {
        if self.done.findings.len() >= FINDINGS_MAX {
            self.done.more += 1;
            return;
        }
        let line = Some(self.line).filter(|line| *line > 0);
        self.done.findings.push(Finding { file: self.file.clone(), line, record, what });
    }

    fn end(mut self) -> Verified {
        self.done.last = self.last.unwrap_or_default();
        let first = self.done.first;
        let missing: Vec<u64> = self.expected.keys().copied().filter(|seq| *seq >= first).collect();
        self.done.anchors += missing.len() as u64;
        if let (Some(least), Some(most)) = (missing.first(), missing.last()) {
            let last = self.done.last.sequence;
            let what = match *least > last {
                true => format!(
                    "records are missing at the end: the last one is {last}, and the cluster knows record {most}"
                ),
                false => format!("record {least} is missing, which the cluster knows"),
            };
            self.find(Some(*least), what);
        }
        self.done
    }
}

fn out_of_place(seq: u64, expected: u64) -> String {
    match seq > expected {
        true if seq - expected == 1 => format!("record {expected} is missing before it"),
        true => format!("the records {expected} to {} are missing before it", seq - 1),
        false => format!("record {seq} stands where record {expected} belongs"),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
