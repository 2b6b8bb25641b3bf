//! What clients asked and were answered, in memory and as lines of JSON.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use super::operation::Moment;
use super::txn::{Came, Txn};
use crate::kv::Revision;

/// The newest format. Transactions came with 2; what is of 1 is read as it was.
pub const FORMAT: u32 = 2;
/// The first format with transactions.
const FORMAT_OF_TRANSACTIONS: u32 = 2;
/// The most calls of one history; they take some 200 bytes each in memory, transactions some 600.
pub const CALLS_MAX: usize = 1_000_000;
/// The most keys of one history.
pub const KEYS_MAX: u32 = 64;
/// The longest line of a history's file, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A value that no client wrote.
pub const ALIEN: u64 = 0;

/// The first line of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The format, up to [`FORMAT`].
    pub konsen_check: u32,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// How many keys there are, numbered from 0.
    pub keys: u32,
    /// The endpoints, in the order in which calls number them.
    pub endpoints: Vec<String>,
    /// What the clients drew their calls from.
    pub seed: u64,
}

/// Everything that was asked, in no particular order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Where and how.
    pub head: Head,
    /// The calls. Of those that certainly did nothing only what puts is kept.
    pub calls: Vec<Call>,
}

/// One call of a client and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Who called. A client makes one call at a time.
    pub client: u32,
    /// The endpoint asked.
    pub endpoint: u32,
    /// When it was called: a count of all calls' beginnings and ends, each of which has its own.
    pub called: Moment,
    /// When the answer came; none if none came.
    pub returned: Option<Moment>,
    /// When it was called, microseconds since the start. For people; nothing is judged by it.
    pub called_us: u64,
    /// When it ended or was given up, microseconds since the start.
    pub ended_us: u64,
    /// What was asked.
    pub ask: Ask,
    /// What was answered.
    pub answer: Answer,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Reads a key.
    Get {
        /// Which.
        key: u32,
    },
    /// Reads all keys from one on, up to before another, at one moment.
    List {
        /// The first.
        from: u32,
        /// One after the last.
        to: u32,
    },
    /// Sets a key.
    Put {
        /// Which.
        key: u32,
        /// No other call writes the same.
        value: u64,
        /// Its condition.
        need: Need,
    },
    /// Deletes a key.
    Delete {
        /// Which.
        key: u32,
        /// Its condition.
        need: Need,
    },
    /// Deletes all keys from one on, up to before another, at one moment.
    Sweep {
        /// The first.
        from: u32,
        /// One after the last.
        to: u32,
    },
    /// Does several things at one moment, depending on what is there.
    Txn(Txn),
}

/// A condition as a client states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// None.
    Nothing,
    /// `If-Match: "REVISION"`.
    Revision(Revision),
    /// `If-None-Match: *`.
    Absent,
}

/// What a client was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Nobody knows what became of it.
    Unknown,
    /// It certainly was not carried out, whatever the key was.
    Refused,
    /// What a read found.
    Found {
        /// The store's revision that it reflects.
        revision: Revision,
        /// The keys that exist of those asked for.
        items: Vec<Seen>,
    },
    /// A put was carried out.
    Put {
        /// Its revision.
        revision: Revision,
        /// Whether the key is new.
        created: bool,
    },
    /// A deletion was carried out.
    Deleted {
        /// Its revision; of one that found nothing, the store's then, if that was told.
        revision: Option<Revision>,
        /// How many keys it found.
        count: u64,
    },
    /// The condition did not hold.
    ConditionFailed {
        /// The key's mod revision, if it existed.
        current: Option<Revision>,
    },
    /// A transaction was carried out, one branch or the other.
    Txn {
        /// The store's revision after it; its own, if it changed something.
        revision: Revision,
        /// Whether all compares held.
        succeeded: bool,
        /// What each operation of the branch came to.
        results: Vec<Came>,
    },
}

/// A key's value as a read found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The key.
    pub key: u32,
    /// The value, or [`ALIEN`].
    pub value: u64,
    /// The key's mod revision.
    pub revision: Revision,
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line says nothing.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl Ask {
    /// Whether it is about the key.
    pub fn touches(&self, number: u32) -> bool {
        match self {
            Ask::Get { key } | Ask::Put { key, .. } | Ask::Delete { key, .. } => *key == number,
            Ask::List { from, to } | Ask::Sweep { from, to } => (*from..*to).contains(&number),
            Ask::Txn(txn) => txn.touches(number),
        }
    }

    /// Whether it changes nothing, whatever is there.
    pub fn reads(&self) -> bool {
        match self {
            Ask::Get { .. } | Ask::List { .. } => true,
            Ask::Put { .. } | Ask::Delete { .. } | Ask::Sweep { .. } => false,
            Ask::Txn(txn) => txn.reads(),
        }
    }

    /// The keys that it may put, and their values.
    pub fn puts(&self) -> impl Iterator<Item = (u32, u64)> {
        let (one, txn) = match self {
            Ask::Put { key, value, .. } => (Some((*key, *value)), None),
            Ask::Txn(txn) => (None, Some(txn)),
            _ => (None, None),
        };
        let many = txn.into_iter().flat_map(Txn::puts).map(|put| (put.key, put.value));
        one.into_iter().chain(many)
    }
}

impl Answer {
    /// The store's revision that it reflects, as far as it was told.
    pub fn revision(&self) -> Option<Revision> {
        match self {
            Answer::Found { revision, .. }
            | Answer::Put { revision, .. }
            | Answer::Txn { revision, .. } => Some(*revision),
            Answer::Deleted { revision, .. } => *revision,
            Answer::Unknown | Answer::Refused | Answer::ConditionFailed { .. } => None,
        }
    }

    /// Whether the store was changed, as far as it was told.
    pub fn changed(&self) -> bool {
        match self {
            Answer::Put { .. } | Answer::Deleted { count: 1.., .. } => true,
            Answer::Txn { results, .. } => results.iter().any(Came::changed),
            _ => false,
        }
    }

    /// All that was read.
    pub fn items(&self) -> impl Iterator<Item = &Seen> {
        let (items, results): (&[Seen], &[Came]) = match self {
            Answer::Found { items, .. } => (items, &[]),
            Answer::Txn { results, .. } => (&[], results),
            _ => (&[], &[]),
        };
        items.iter().chain(results.iter().flat_map(Came::items))
    }
}

/// Whether these are items of a read, each once and in order.
pub(super) fn in_order(items: &[Seen]) -> bool {
    items.windows(2).all(|pair| pair[0].key < pair[1].key)
}

impl Call {
    /// Whether question and answer go together; says what does not.
    fn fits(&self, keys: u32) -> Result<(), String> {
        let inside = match &self.ask {
            Ask::Get { key } | Ask::Put { key, .. } | Ask::Delete { key, .. } => *key < keys,
            Ask::List { from, to } | Ask::Sweep { from, to } => from < to && *to <= keys,
            Ask::Txn(txn) => {
                txn.fits()?;
                txn.is_inside(keys)
            }
        };
        if !inside {
            return Err(format!("a key that is none of the {keys}"));
        }
        if self.returned.is_some_and(|returned| returned <= self.called) {
            return Err("it returned before it was called".to_owned());
        }
        if self.returned.is_none() != (self.answer == Answer::Unknown) {
            return Err("an answer without a moment, or a moment without an answer".to_owned());
        }
        let fits = match (&self.ask, &self.answer) {
            (Ask::Put { value: ALIEN, .. }, _) => false,
            (Ask::Get { .. } | Ask::List { .. }, Answer::Found { items, .. }) => {
                in_order(items) && items.iter().all(|item| self.ask.touches(item.key))
            }
            (Ask::Txn(txn), Answer::Txn { succeeded, results, .. }) => {
                txn.branch(*succeeded).len() == results.len()
                    && txn.branch(*succeeded).iter().zip(results).all(|(op, came)| came.fits(op))
            }
            (Ask::Txn(txn), Answer::Unknown) => !txn.reads(),
            (Ask::Txn(txn), Answer::Refused) => txn.puts().next().is_some(),
            (Ask::Put { .. }, Answer::Put { .. } | Answer::Refused)
            | (Ask::Put { .. } | Ask::Delete { .. }, Answer::ConditionFailed { .. })
            | (Ask::Delete { .. }, Answer::Deleted { count: 0 | 1, .. })
            | (Ask::Sweep { .. }, Answer::Deleted { .. })
            | (Ask::Put { .. } | Ask::Delete { .. } | Ask::Sweep { .. }, Answer::Unknown) => true,
            _ => false,
        };
        if fits { Ok(()) } else { Err("an answer to another question".to_owned()) }
    }
}

impl History {
    /// Writes it, one line for the head and one for each call.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *out, &self.head)?;
        out.write_all(b"\n")?;
        for call in &self.calls {
            serde_json::to_writer(&mut *out, call)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads it. Lines over 1 MiB, more than [`CALLS_MAX`] calls, unknown fields, moments that come
    /// twice, values that are written twice, and answers to other questions are refused.
    pub fn read(mut input: impl BufRead) -> Result<History, FormatError> {
        let mut line = Vec::new();
        let mut number = 0;
        let mut next = |line: &mut Vec<u8>| -> Result<(usize, bool), FormatError> {
            line.clear();
            number += 1;
            std::io::Read::take(&mut input, LINE_BYTES_MAX + 1).read_until(b'\n', line)?;
            if line.len() as u64 > LINE_BYTES_MAX {
                return Err(FormatError::Line { line: number, what: "it is too long".to_owned() });
            }
            Ok((number, !line.is_empty()))
        };
        let wrong = |line, what: String| FormatError::Line { line, what };
        let (at, _) = next(&mut line)?;
        let head: Head = serde_json::from_slice(&line)
            .map_err(|error| wrong(at, format!("no head of a history: {error}")))?;
        if !(1..=FORMAT).contains(&head.konsen_check) {
            return Err(wrong(at, format!("format {} is not known", head.konsen_check)));
        }
        if head.keys > KEYS_MAX {
            return Err(wrong(at, format!("more than {KEYS_MAX} keys")));
        }
        let mut history = History { head, calls: Vec::new() };
        let mut moments = std::collections::HashSet::new();
        let mut values = std::collections::HashSet::new();
        loop {
            let (at, more) = next(&mut line)?;
            if !more {
                return Ok(history);
            }
            let call: Call = serde_json::from_slice(&line)
                .map_err(|error| wrong(at, format!("no call: {error}")))?;
            call.fits(history.head.keys).map_err(|what| wrong(at, what))?;
            if matches!(call.ask, Ask::Txn(_)) && history.head.konsen_check < FORMAT_OF_TRANSACTIONS
            {
                return Err(wrong(at, "a transaction, in a format that has none".to_owned()));
            }
            let twice = !moments.insert(call.called)
                || call.returned.is_some_and(|moment| !moments.insert(moment));
            if twice {
                return Err(wrong(at, "a moment that another call has".to_owned()));
            }
            if let Some((_, value)) = call.ask.puts().find(|(_, value)| !values.insert(*value)) {
                return Err(wrong(at, format!("value {value} is written twice")));
            }
            if history.calls.len() == CALLS_MAX {
                return Err(wrong(at, format!("more than {CALLS_MAX} calls")));
            }
            history.calls.push(call);
        }
    }
}
