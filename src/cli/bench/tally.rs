//! What became of the operations: how many, how long, and why not.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::keys::Op;
use super::wire::Answer;
use crate::api::Outcome;

/// What is told apart at least, and at most, in nanoseconds.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// How many digits of a latency are kept.
const DIGITS: u8 = 3;

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was done.
    Done,
    /// It was read that there is no such key.
    Absent,
    /// A node said that it was certainly not done.
    Refused,
    /// Nobody answered in a way that means something, and nothing was changed.
    Failed,
    /// Nobody told whether it was done.
    Unknown,
}

/// Why an operation did not come to a good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The status of the answer.
    Status(u16),
    /// No connection could be made, so nothing was sent.
    Connect,
    /// The connection broke.
    Transport,
    /// No answer came in time.
    Timeout,
    /// An answer that is not konsen's.
    Stranger,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Status(status) => write!(f, "{status}"),
            Reason::Connect => f.write_str("connect"),
            Reason::Transport => f.write_str("transport"),
            Reason::Timeout => f.write_str("timeout"),
            Reason::Stranger => f.write_str("not_konsen"),
        }
    }
}

impl Reason {
    /// Whether the same operation may succeed soon.
    pub(super) fn may_pass(self) -> bool {
        match self {
            Reason::Status(status) => matches!(status, 429 | 503 | 504),
            Reason::Stranger => false,
            Reason::Connect | Reason::Transport | Reason::Timeout => true,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    Connect(io::Error),
    Transport(io::Error),
    Timeout,
}

/// What an operation came to, and what to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) end: End,
    pub(super) reason: Option<Reason>,
    pub(super) text: String,
}

/// Judges an answer, or that there is none.
pub(super) fn judge(op: Op, answer: Result<Answer, Lost>) -> Judged {
    let bad = |end, reason, text| Judged { end, reason: Some(reason), text };
    // Nothing tells what became of it.
    let lost = if op.writes() { End::Unknown } else { End::Failed };
    match answer {
        Err(Lost::Connect(error)) => bad(End::Failed, Reason::Connect, error.to_string()),
        Err(Lost::Transport(error)) => bad(lost, Reason::Transport, error.to_string()),
        Err(Lost::Timeout) => bad(lost, Reason::Timeout, "no answer in time".to_owned()),
        Ok(Answer { is_konsens: false, status, .. }) => {
            bad(lost, Reason::Stranger, format!("an answer ({status}) that is not konsen's"))
        }
        Ok(Answer { status: 200..300, .. }) => {
            Judged { end: End::Done, reason: None, text: String::new() }
        }
        Ok(Answer { status: 404, .. }) if !op.writes() => {
            Judged { end: End::Absent, reason: None, text: String::new() }
        }
        Ok(Answer { status, outcome, detail, .. }) => {
            let end = if outcome == Some(Outcome::NotApplied) { End::Refused } else { lost };
            bad(end, Reason::Status(status), format!("{status}: {detail}"))
        }
    }
}

/// Operations of one kind.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) done: u64,
    pub(super) absent: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    /// How long those took that were done, in nanoseconds.
    pub(super) latency_ns: Histogram<u64>,
}

impl Kind {
    fn new() -> Kind {
        // Both bounds and the digits are constants that it takes, as the tests show.
        let latency_ns = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS)
            .expect("bounds that a histogram takes");
        Kind { done: 0, absent: 0, refused: 0, failed: 0, unknown: 0, latency_ns }
    }

    /// How many there were.
    pub(super) fn all(&self) -> u64 {
        self.succeeded() + self.refused + self.failed + self.unknown
    }

    /// How many were answered as they should be.
    pub(super) fn succeeded(&self) -> u64 {
        self.done + self.absent
    }

    /// Adds others.
    pub(super) fn add(&mut self, other: &Kind) {
        self.done += other.done;
        self.absent += other.absent;
        self.refused += other.refused;
        self.failed += other.failed;
        self.unknown += other.unknown;
        // All have the same bounds, and so it fits.
        let _ = self.latency_ns.add(&other.latency_ns);
    }

    fn count(&mut self, end: End, took: Duration) {
        match end {
            End::Done => self.done += 1,
            End::Absent => self.absent += 1,
            End::Refused => self.refused += 1,
            End::Failed => self.failed += 1,
            End::Unknown => self.unknown += 1,
        }
        if matches!(end, End::Done | End::Absent) {
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.latency_ns.saturating_record(took);
        }
    }
}

/// What one thread, or all of them, saw.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) reads: Kind,
    pub(super) writes: Kind,
    /// Of those above that did not succeed.
    pub(super) errors: BTreeMap<Reason, u64>,
    /// What the first of these said.
    pub(super) complaint: Option<String>,
    /// Requests that were due and found no connection in time.
    pub(super) unsent: u64,
    /// Puts that were done at any time: before, during and after what is measured.
    pub(super) written: u64,
    /// Puts at any time of which nobody told.
    pub(super) unsure: u64,
    /// When the last measured operation ended.
    pub(super) last: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            reads: Kind::new(),
            writes: Kind::new(),
            errors: BTreeMap::new(),
            complaint: None,
            unsent: 0,
            written: 0,
            unsure: 0,
            last: None,
        }
    }

    /// Takes note of a put, measured or not.
    pub(super) fn note(&mut self, op: Op, judged: &Judged) {
        if op.writes() {
            self.written += u64::from(judged.end == End::Done);
            self.unsure += u64::from(judged.end == End::Unknown);
        }
    }

    /// Counts a measured operation that ended now and was due that long ago.
    pub(super) fn count(&mut self, op: Op, judged: Judged, now: Instant, took: Duration) {
        let kind = if op.writes() { &mut self.writes } else { &mut self.reads };
        kind.count(judged.end, took);
        if let Some(reason) = judged.reason {
            *self.errors.entry(reason).or_default() += 1;
            self.complaint.get_or_insert(judged.text);
        }
        self.last = self.last.max(Some(now));
    }

    /// Adds what another thread saw.
    pub(super) fn add(&mut self, other: &Tally) {
        self.reads.add(&other.reads);
        self.writes.add(&other.writes);
        for (reason, count) in &other.errors {
            *self.errors.entry(*reason).or_default() += count;
        }
        if self.complaint.is_none() {
            self.complaint.clone_from(&other.complaint);
        }
        self.unsent += other.unsent;
        self.written += other.written;
        self.unsure += other.unsure;
        self.last = self.last.max(other.last);
    }

    /// Reads and writes together.
    pub(super) fn both(&self) -> Kind {
        let mut both = self.reads.clone();
        both.add(&self.writes);
        both
    }

    /// Whether any of the errors is one that may pass.
    pub(super) fn may_pass(&self) -> bool {
        self.errors.keys().any(|reason| reason.may_pass())
    }

    /// How many succeeded, and how many did not.
    pub(super) fn counts(&self) -> (u64, u64) {
        let succeeded = self.reads.succeeded() + self.writes.succeeded();
        (succeeded, self.reads.all() + self.writes.all() - succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, outcome: Option<Outcome>) -> Result<Answer, Lost> {
        Ok(Answer { status, is_konsens: true, outcome, detail: "d".to_owned() })
    }

    #[test]
    fn what_certainly_did_not_happen_is_told_from_what_nobody_knows() {
        let (put, get) = (Op::Put(1), Op::Read(1));
        let (not, unknown) = (Some(Outcome::NotApplied), Some(Outcome::Unknown));
        for (op, status, outcome, end) in [
            (put, 204, None, End::Done),
            (put, 201, None, End::Done),
            (get, 200, None, End::Done),
            (get, 404, not, End::Absent),
            (put, 404, not, End::Refused),
            (put, 429, not, End::Refused),
            (get, 429, not, End::Refused),
            (put, 503, not, End::Refused),
            (put, 507, not, End::Refused),
            (put, 504, unknown, End::Unknown),
            (get, 504, unknown, End::Failed),
            (put, 500, None, End::Unknown),
            (get, 500, None, End::Failed),
        ] {
            let judged = judge(op, answer(status, outcome));
            assert_eq!(judged.end, end, "{op:?} {status}");
            let good = matches!(end, End::Done | End::Absent);
            assert_eq!(judged.reason, (!good).then_some(Reason::Status(status)));
        }
        let stranger =
            || Ok(Answer { status: 200, is_konsens: false, outcome: None, detail: String::new() });
        assert_eq!(judge(put, stranger()).end, End::Unknown);
        assert_eq!(judge(get, stranger()).reason, Some(Reason::Stranger));
        assert_eq!(judge(put, Err(Lost::Timeout)).end, End::Unknown);
        let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(judge(put, Err(Lost::Transport(gone()))).end, End::Unknown);
        assert_eq!(judge(get, Err(Lost::Transport(gone()))).end, End::Failed);
        // Nothing was sent.
        assert_eq!(judge(put, Err(Lost::Connect(gone()))).end, End::Failed);
    }

    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        let now = Instant::now();
        for (tally, millis) in [(&mut one, 1), (&mut other, 3)] {
            let done = judge(Op::Put(1), answer(204, None));
            tally.note(Op::Put(1), &done);
            tally.count(Op::Put(1), done, now, Duration::from_millis(millis));
            let failed = judge(Op::Read(1), Err(Lost::Timeout));
            tally.note(Op::Read(1), &failed);
            tally.count(Op::Read(1), failed, now, Duration::from_secs(5));
        }
        one.add(&other);
        assert_eq!((one.written, one.unsure, one.counts()), (2, 0, (2, 2)));
        assert_eq!(one.errors, BTreeMap::from([(Reason::Timeout, 2)]));
        assert_eq!(one.complaint.as_deref(), Some("no answer in time"));
        let both = one.both();
        assert_eq!((both.all(), both.failed, both.latency_ns.len()), (4, 2, 2));
        // Three digits.
        assert!(both.latency_ns.max().abs_diff(3_000_000) < 3_000);
        let mut long = Kind::new();
        long.count(End::Done, Duration::from_secs(7200));
        assert!(long.latency_ns.max() >= LATENCY_NS_MAX);
    }
}
