//! Records as lines: one JSON object each, which ends in the hash over the one before and its own bytes.
//!
//! The bytes that count are those that stand in the file, up to the hash: nobody who verifies has to write JSON just as this
//! module does.

use std::io::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::hash::{HASH_BYTES, Hash};
use super::record::{Outcome, Record, Target, Targets, Who};

/// What stands before the hash of a line, and what after it.
const HASH: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
/// The longest line, in bytes: a record of keys of which each byte takes six, and its other parts.
pub(super) const LINE_BYTES_MAX: usize = 128 << 10;

/// The last record of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0: there is none.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Whose records these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node's name.
    pub node: String,
    /// Its identity, 16 hexadecimal digits.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
}

/// What a node records of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// A file begins: its number. The line has the hash of the last record of the file before, too.
    File(u64),
    /// The node has started.
    Start {
        /// The last record that it found.
        found: Head,
        /// How many bytes of a record that a crash had cut short it cut off.
        cut_bytes: u64,
        /// The first record of those that are anchored and that it did not find, if there are any.
        missing: Option<u64>,
    },
    /// The node stops.
    Stop,
    /// So many requests were carried out and not recorded.
    Unrecorded(u64),
}

/// Writes lines, each chained to the one before.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    owner: Owner,
    head: Head,
    /// The second that was written last, and how.
    second: (i64, String),
}

impl Lines {
    /// Goes on after `head`.
    pub(super) fn after(owner: Owner, head: Head) -> Lines {
        Lines { owner, head, second: (0, "1970-01-01T00:00:00".to_owned()) }
    }

    /// The last line that was written.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// What was written after `head` did not reach the file.
    pub(super) fn back_to(&mut self, head: Head) {
        self.head = head;
    }

    /// Writes a request.
    pub(super) fn request(&mut self, out: &mut Vec<u8>, record: &Record) {
        let at = self.begin(out, record.time, record.action.name());
        if !record.method.is_empty() {
            text(out, ",\"method\":", record.method);
        }
        who(out, &record.who);
        from(out, record.from);
        if let Some(via) = &record.via {
            text(out, ",\"via\":", via);
        }
        targets(out, &record.targets);
        outcome(out, &record.outcome);
        if record.passed_on {
            out.extend_from_slice(b",\"passed_on\":true");
        }
        self.seal(out, at);
    }

    /// Writes what the node says of itself.
    pub(super) fn note(&mut self, out: &mut Vec<u8>, time: SystemTime, note: Note) {
        let before = self.head.hash;
        let name = match note {
            Note::File(_) => FILE,
            Note::Start { .. } => "start",
            Note::Stop => "stop",
            Note::Unrecorded(_) => "unrecorded",
        };
        let at = self.begin(out, time, name);
        match note {
            Note::File(file) => {
                number(out, ",\"number\":", file);
                text(out, ",\"id\":", &self.owner.id);
                text(out, ",\"cluster\":", &self.owner.cluster);
                text(out, ",\"before\":", &before.to_string());
            }
            Note::Start { found, cut_bytes, missing } => {
                text(out, ",\"release\":", env!("CARGO_PKG_VERSION"));
                number(out, ",\"found\":", found.sequence);
                text(out, ",\"head\":", &found.hash.to_string());
                number(out, ",\"cut_bytes\":", cut_bytes);
                if let Some(missing) = missing {
                    number(out, ",\"missing_from\":", missing);
                }
            }
            Note::Stop => {}
            Note::Unrecorded(count) => number(out, ",\"count\":", count),
        }
        self.seal(out, at);
    }

    fn begin(&mut self, out: &mut Vec<u8>, time: SystemTime, kind: &str) -> usize {
        let at = out.len();
        number(out, "{\"seq\":", self.head.sequence + 1);
        out.extend_from_slice(b",\"time\":\"");
        self.time(out, time);
        out.push(b'"');
        text(out, ",\"node\":", &self.owner.node);
        text(out, ",\"kind\":", kind);
        at
    }

    /// RFC 3339, with microseconds. What is the same for a second is made once.
    fn time(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let time = OffsetDateTime::from(time);
        let second = time.unix_timestamp();
        if second != self.second.0 {
            let whole = time.replace_nanosecond(0).unwrap_or(time);
            let mut text = whole.format(&Rfc3339).unwrap_or_default();
            text.truncate(text.trim_end_matches('Z').len());
            self.second = (second, text);
        }
        out.extend_from_slice(self.second.1.as_bytes());
        // A vector takes everything in.
        let _ = write!(out, ".{:06}Z", time.microsecond());
    }

    fn seal(&mut self, out: &mut Vec<u8>, at: usize) {
        let hash = self.head.hash.then(&out[at..]);
        out.extend_from_slice(HASH);
        out.extend_from_slice(&hash.digits());
        out.extend_from_slice(END);
        out.push(b'\n');
        self.head = Head { sequence: self.head.sequence + 1, hash };
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    // A vector takes everything in.
    let _ = serde_json::to_writer(&mut *out, &value);
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    let _ = serde_json::to_writer(&mut *out, value);
}

/// Bytes as in a listing: as text or, if they are none, in base64 at another name. `open` is what stands before the name.
fn bytes(out: &mut Vec<u8>, open: &str, name: &str, value: &[u8]) {
    out.extend_from_slice(open.as_bytes());
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match std::str::from_utf8(value) {
        Ok(value) => text(out, "\":", value),
        Err(_) => text(out, "_base64\":", &STANDARD.encode(value)),
    }
}

fn who(out: &mut Vec<u8>, who: &Who) {
    match who {
        Who::Anonymous => out.extend_from_slice(b",\"who\":null"),
        Who::Known { name, how } => {
            text(out, ",\"who\":", name);
            text(out, ",\"by\":", how);
        }
        Who::Unknown { why } => text(out, ",\"who\":null,\"why\":", why),
    }
}

fn from(out: &mut Vec<u8>, from: Option<IpAddr>) {
    if let Some(address) = from {
        let _ = write!(out, ",\"from\":\"{}\"", address.to_canonical());
    }
}

fn targets(out: &mut Vec<u8>, targets: &Targets) {
    if targets.first().is_empty() {
        return;
    }
    out.extend_from_slice(b",\"of\":");
    for (at, target) in targets.first().iter().enumerate() {
        out.push(if at == 0 { b'[' } else { b',' });
        match target {
            Target::Key(key) => bytes(out, "{", "key", key),
            Target::Range { start, end } => {
                bytes(out, "{", "start", start);
                if let Some(end) = end {
                    bytes(out, ",", "end", end);
                }
            }
            Target::Name(name) => text(out, "{\"name\":", name),
        }
        out.push(b'}');
    }
    out.push(b']');
    if targets.more() > 0 {
        number(out, ",\"more\":", targets.more());
    }
}

fn outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match (outcome.status, outcome.fate) {
        (_, Some(fate)) => text(out, ",\"outcome\":", fate),
        (Some(status), None) => number(out, ",\"status\":", u64::from(status)),
        (None, None) => out.extend_from_slice(b",\"status\":null"),
    }
    if let Some(problem) = outcome.problem {
        text(out, ",\"problem\":", problem);
    }
    if let Some(revision) = outcome.revision {
        number(out, ",\"revision\":", revision);
    }
}

/// The kind of a file's first record.
const FILE: &str = "file";

/// What a line says of its place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Place {
    /// The record's number.
    pub seq: u64,
    /// The node's name.
    pub node: String,
    /// What it is a record of.
    pub kind: String,
    /// Of a file's first record: the file's number.
    pub number: Option<u64>,
    /// The identity of the node.
    pub id: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The hash of the record before.
    pub before: Option<String>,
    /// Of a start: the first record that the cluster knew and that was gone.
    pub missing_from: Option<u64>,
}

/// A line as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The bytes that count.
    pub record: &'a [u8],
    /// The hash that it states.
    pub hash: Hash,
    /// Where it belongs.
    pub place: Place,
}

impl Line<'_> {
    /// Whether it is the first record of a file.
    pub(super) fn begins_a_file(&self) -> bool {
        self.place.kind == FILE
    }
}

/// Takes a line apart, without its end; none if it is no record.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let rest = line.strip_suffix(END)?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(2 * HASH_BYTES)?)?;
    let record = rest.strip_suffix(HASH)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let hash: Hash = digits.parse().ok()?;
    // A hash is written in one way only: so no digit of it can be another.
    if hash.digits() != digits.as_bytes() {
        return None;
    }
    let mut whole = serde_json::Deserializer::from_slice(line);
    let place = Place::deserialize(&mut whole).ok()?;
    whole.end().ok()?;
    Some(Line { record, hash, place })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::audit::record::Action;

    fn lines() -> Lines {
        let owner = Owner { node: "node1".into(), id: "00".into(), cluster: "konsen".into() };
        Lines::after(owner, Head::default())
    }

    fn text_of(out: &[u8]) -> (serde_json::Value, String) {
        let text = std::str::from_utf8(out).unwrap().strip_suffix('\n').unwrap().to_owned();
        (serde_json::from_str(&text).unwrap(), text)
    }

    #[test]
    fn a_record_is_one_line_of_json_with_keys_as_in_listings() {
        let mut targets = Targets::one(Target::Key(Bytes::from_static(b"a\"\n")));
        targets.add(Target::Key(Bytes::from_static(b"\xff")));
        targets.add(Target::Range { start: Bytes::from_static(b"b"), end: Some("c".into()) });
        let record = Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567_890_000_042),
            action: Action::Txn,
            method: "POST",
            who: Who::Known { name: "alice".into(), how: "token" },
            from: Some("::ffff:10.0.0.1".parse().unwrap()),
            via: None,
            targets,
            outcome: Outcome {
                status: Some(503),
                problem: Some("no-leader"),
                revision: Some(7),
                ..Outcome::default()
            },
            passed_on: true,
        };
        let (mut lines, mut out) = (lines(), Vec::new());
        lines.request(&mut out, &record);
        let (_, text) = text_of(&out);
        let (told, hash) = text.split_once(",\"hash\":\"").unwrap();
        assert_eq!(
            told,
            r#"{"seq":1,"time":"2009-02-13T23:31:30.000042Z","node":"node1","kind":"txn","method":"POST","who":"alice","by":"token","from":"10.0.0.1","of":[{"key":"a\"\n"},{"key_base64":"/w=="},{"start":"b","end":"c"}],"status":503,"problem":"no-leader","revision":7,"passed_on":true"#
        );
        assert_eq!(hash.strip_suffix("\"}").unwrap(), Hash::NONE.then(told.as_bytes()).to_string());
        let line = parse(text.as_bytes()).unwrap();
        assert_eq!((line.record, line.hash), (told.as_bytes(), lines.head().hash));
        assert_eq!((line.place.seq, lines.head().sequence), (1, 1));
    }

    #[test]
    fn what_a_peer_passed_on_is_told_with_its_fate() {
        let record = Record {
            time: SystemTime::UNIX_EPOCH,
            action: Action::Put,
            method: "",
            who: Who::Known { name: "alice".into(), how: "peer" },
            from: None,
            via: Some("node2".into()),
            targets: Targets::one(Target::Key("a".into())),
            outcome: Outcome { fate: Some("forbidden"), ..Outcome::default() },
            passed_on: false,
        };
        let (mut lines, mut out) = (lines(), Vec::new());
        lines.request(&mut out, &record);
        let (_, text) = text_of(&out);
        let told = r#","kind":"put","who":"alice","by":"peer","via":"node2","of":[{"key":"a"}],"outcome":"forbidden","hash":"#;
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn who_is_not_known_is_told_apart() {
        let mut out = Vec::new();
        who(&mut out, &Who::Unknown { why: "token" });
        assert_eq!(out, b",\"who\":null,\"why\":\"token\"");
        out.clear();
        who(&mut out, &Who::Anonymous);
        assert_eq!(out, b",\"who\":null");
    }

    #[test]
    fn what_a_node_says_of_itself_is_chained_like_everything_else() {
        let (mut lines, mut out) = (lines(), Vec::new());
        lines.note(&mut out, SystemTime::now(), Note::File(1));
        let first = lines.head();
        let start = Note::Start { found: first, cut_bytes: 3, missing: Some(9) };
        lines.note(&mut out, SystemTime::now(), start);
        lines.note(&mut out, SystemTime::now(), Note::Unrecorded(5));
        lines.note(&mut out, SystemTime::now(), Note::Stop);
        let text = String::from_utf8(out).unwrap();
        let mut before = Hash::NONE;
        for (at, line) in (1..).zip(text.lines()) {
            let line = parse(line.as_bytes()).unwrap();
            assert_eq!((line.place.seq, line.hash), (at, before.then(line.record)));
            assert_eq!(line.begins_a_file(), at == 1);
            before = line.hash;
        }
        assert_eq!(lines.head(), Head { sequence: 4, hash: before });
        lines.back_to(first);
        assert_eq!(lines.head(), first);
    }

    #[test]
    fn what_is_no_record_is_none() {
        let (mut lines, mut out) = (lines(), Vec::new());
        lines.note(&mut out, SystemTime::now(), Note::Stop);
        let line = out.strip_suffix(b"\n").unwrap();
        assert!(parse(line).is_some());
        for cut in 0..line.len() {
            assert!(parse(&line[..cut]).is_none() && parse(&line[cut + 1..]).is_none(), "{cut}");
        }
        assert!(parse(&line.to_ascii_uppercase()).is_none());
    }
}
