//! Histories for people: what was asked and answered, in words.

use std::fmt;

use super::history::{ALIEN, Answer, Ask, Call, Need, Seen};
use super::txn::{Came, Compare, Op, Txn};

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Nothing => Ok(()),
            Need::Revision(revision) => write!(f, " if at revision {revision}"),
            Need::Absent => write!(f, " if absent"),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Get { key } => write!(f, "get key {key}"),
            Ask::List { from, to } => write!(f, "list keys {from} to {}", to - 1),
            Ask::Put { key, value, need } => write!(f, "put key {key} = {value}{need}"),
            Ask::Delete { key, need } => write!(f, "delete key {key}{need}"),
            Ask::Sweep { from, to } => write!(f, "delete keys {from} to {}", to - 1),
            Ask::Txn(txn) => txn.fmt(f),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Unknown => write!(f, "unknown"),
            Answer::Refused => write!(f, "refused"),
            Answer::Found { revision, items } => {
                show_items(f, items)?;
                write!(f, ", at revision {revision}")
            }
            Answer::Put { revision, created } => {
                write!(f, "{}, revision {revision}", if *created { "new" } else { "replaced" })
            }
            Answer::Deleted { revision, count } => {
                write!(f, "deleted {count}")?;
                revision.map_or(Ok(()), |revision| write!(f, ", revision {revision}"))
            }
            Answer::ConditionFailed { current: Some(revision) } => {
                write!(f, "the condition failed, the key is at revision {revision}")
            }
            Answer::ConditionFailed { current: None } => {
                write!(f, "the condition failed, there is no such key")
            }
            Answer::Txn { revision, succeeded, results } => {
                let branch = if *succeeded { "then" } else { "else" };
                write!(f, "{branch}, revision {revision}")?;
                results.iter().try_for_each(|came| write!(f, "; {came}"))
            }
        }
    }
}

/// One line for people: times in seconds since the start.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |us: u64| us as f64 / 1e6;
        write!(
            f,
            "{:>11.6} {:>11.6}  client {:<3} endpoint {:<2} {}: {}",
            seconds(self.called_us),
            seconds(self.ended_us),
            self.client,
            self.endpoint,
            self.ask,
            self.answer
        )
    }
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction")?;
        list(f, "if", &self.compares)?;
        list(f, "then", &self.then)?;
        list(f, "else", &self.otherwise)
    }
}

/// A list after its name, unless it is empty.
fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, all: &[T]) -> fmt::Result {
    for (at, one) in all.iter().enumerate() {
        if at == 0 {
            write!(f, " {name} {one}")?;
        } else {
            write!(f, ", {one}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compare::Revision { key, revision } => write!(f, "key {key} is at revision {revision}"),
            Compare::Exists { key, exists: true } => write!(f, "key {key} exists"),
            Compare::Exists { key, exists: false } => write!(f, "key {key} is absent"),
            Compare::Unchanged { from, to, since } if from + 1 == *to => {
                write!(f, "key {from} is unchanged since {since}")
            }
            Compare::Unchanged { from, to, since } => {
                write!(f, "keys {from} to {} are unchanged since {since}", to - 1)
            }
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Put { key, value } => write!(f, "put key {key} = {value}"),
            Op::Delete { key } => write!(f, "delete key {key}"),
            Op::Get { key } => write!(f, "get key {key}"),
            Op::List { from, to } => write!(f, "list keys {from} to {}", to - 1),
        }
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Came::Put => write!(f, "put"),
            Came::Deleted { count } => write!(f, "deleted {count}"),
            Came::Found { items } => show_items(f, items),
            Came::Unread => write!(f, "not read"),
        }
    }
}

fn show_items(f: &mut fmt::Formatter<'_>, items: &[Seen]) -> fmt::Result {
    for (at, Seen { key, value, revision }) in items.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let value =
            if *value == ALIEN { "what nobody wrote".to_owned() } else { value.to_string() };
        write!(f, "{comma}key {key} = {value} of revision {revision}")?;
    }
    if items.is_empty() { write!(f, "nothing") } else { Ok(()) }
}
