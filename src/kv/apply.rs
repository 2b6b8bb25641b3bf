//! Carrying a command out on the rows of the state. Total: every command has a reply, none can fail
//! but by the disk that holds the rows.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::access::{ReadRows, Rows};
use super::anchors;
use super::auth::AccessChange;
use super::command::{Command, Header, KEY_BYTES_MAX, Write};
use super::counters::Counters;
use super::level::FeatureLevel;
use super::need::Need;
use super::outcome::{Outcome, Reply};
use super::plan::{Change, Plan, Stop};
use super::record::{self, RecordKey};
use super::revision::Revision;
use super::row_id::RowId;
use super::rows::RevisionRow;
use super::settings::Settings;
use super::txn::{Op, Over, Put, Txn};
use super::unreadable::Unreadable;

/// The longest media type that is kept, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// A command that an entry carries, decoded: what it will read is known before it is carried out.
#[derive(Clone, Debug)]
pub struct Prepared {
    header: Header,
    write: Result<Write, &'static str>,
}

impl Prepared {
    /// The command of these bytes, for a node that knows all levels up to `highest`.
    ///
    /// # Errors
    /// If it cannot be carried out here: the state that it leads to is unknown, and nothing after it may be applied.
    pub fn of(command: &[u8], highest: FeatureLevel) -> Result<Prepared, Unreadable> {
        let Command { header, write } = Command::decode(command, highest)?;
        if let Write::Raise { level, release } = &write {
            Unreadable::beyond(*level, highest, release)?;
        }
        Ok(Prepared { header, write: valid(write) })
    }

    /// Shows what it may read.
    pub fn needs<'a>(&'a self, visit: &mut dyn FnMut(Need<'a>)) {
        if let Ok(write) = &self.write {
            write.needs(visit);
        }
    }

    /// How many keys of ranges it looks at, at most.
    pub fn keys_max(&self) -> u64 {
        self.write.as_ref().map_or(0, Write::keys_max)
    }

    /// Carries it out. What it reads it reads before it changes anything: after an error nothing has changed.
    pub fn apply<R: Rows>(self, rows: &mut R, counters: &mut Counters) -> Result<Reply, R::Error> {
        let Prepared { header, write } = self;
        let outcome = match write {
            // A right that was taken is gone for what is under way.
            Ok(_) if header.admitted.is_some_and(|by| by != counters.access.revision()) => {
                Outcome::Outdated
            }
            Ok(Write::Txn { txn, keys_max }) => {
                let mut plan = Plan::new(rows, counters, keys_max);
                match plan.txn(txn) {
                    Ok(outcome) => {
                        let changes = plan.into_changes();
                        change(rows, counters, changes);
                        Outcome::Txn(outcome)
                    }
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Outcome(outcome)) => outcome,
                }
            }
            Ok(Write::DeleteStep { range, keys_max }) => {
                let mut plan = Plan::new(rows, counters, keys_max);
                let (count, next) = plan.delete_step(&range)?;
                let changes = plan.into_changes();
                change(rows, counters, changes);
                Outcome::Stepped { count, next }
            }
            Ok(Write::Compact { revision }) => compact(counters, revision),
            Ok(Write::Raise { level, release }) => {
                raise(rows, counters, level, &release);
                Outcome::Raised
            }
            Ok(Write::Agree { settings }) => {
                agree(rows, counters, settings);
                Outcome::Agreed
            }
            Ok(Write::Access(change)) => access(rows, counters, change),
            Ok(Write::Anchor(said)) => {
                let clock_ms = counters.clock_ms.max(header.clock_ms);
                anchors::keep(rows, counters, said, clock_ms);
                Outcome::Anchored
            }
            Ok(Write::ForgetAnchors { node }) => {
                anchors::forget(rows, counters, node);
                Outcome::Anchored
            }
            #[cfg(feature = "next-level")]
            Ok(Write::Nothing) => Outcome::Raised,
            Err(reason) => Outcome::Invalid { reason: reason.to_owned() },
        };
        counters.advance_clock(header.clock_ms);
        Ok(Reply { revision: counters.revision, outcome })
    }
}

/// What a transaction comes to on rows that are as `counters` say; nothing is changed. For those that only read.
pub fn evaluate<R: ReadRows>(
    rows: &R,
    counters: &Counters,
    txn: Txn,
    keys_max: u64,
) -> Result<Reply, R::Error> {
    let outcome = match valid(Write::Txn { txn, keys_max }) {
        Ok(Write::Txn { txn, keys_max }) => match Plan::new(rows, counters, keys_max).txn(txn) {
            Ok(outcome) => Outcome::Txn(outcome),
            Err(Stop::Outcome(outcome)) => outcome,
            Err(Stop::Failed(error)) => return Err(error),
        },
        // It comes back as it was.
        Ok(_) => Outcome::Invalid { reason: "it is no transaction".to_owned() },
        Err(reason) => Outcome::Invalid { reason: reason.to_owned() },
    };
    let revision = counters.revision;
    Ok(Reply { revision, outcome })
}

fn valid(write: Write) -> Result<Write, &'static str> {
    let Write::Txn { txn, .. } = &write else { return Ok(write) };
    let mut valid = Ok(());
    let mut check = |key: &Bytes| match key.len() {
        0 => valid = Err("a key is empty"),
        1..=KEY_BYTES_MAX => {}
        _ => valid = Err("a key is longer than 4096 bytes"),
    };
    txn.for_each_compare(&mut |compare| {
        if let Over::Key(key) = &compare.over {
            check(key);
        }
    });
    let mut types_fit = true;
    txn.for_each_op(&mut |op| match op {
        Op::Put(Put { key, content_type, .. }) => {
            check(key);
            types_fit &=
                content_type.as_ref().is_none_or(|kind| kind.len() <= CONTENT_TYPE_BYTES_MAX);
        }
        Op::Delete(Over::Key(key)) | Op::Get(Over::Key(key)) => check(key),
        _ => {}
    });
    valid?;
    match types_fit {
        true => Ok(write),
        false => Err("the media type is longer than 255 bytes"),
    }
}

/// Makes changes the newest of their keys, in one revision; the counter moves on only if there are any.
fn change<R: Rows>(rows: &mut R, counters: &mut Counters, changes: Vec<Change>) {
    if changes.is_empty() {
        return;
    }
    counters.revision = Revision(counters.revision.0 + 1);
    for (sub, Change { row, key_row }) in (0..).zip(changes) {
        let id = RowId { revision: counters.revision, sub };
        counters.hash = chain(counters.hash, id, &row);
        rows.set(id, row, key_row);
    }
}

/// The rows that this hides are removed where they are kept, in time.
fn compact(counters: &mut Counters, revision: Revision) -> Outcome {
    if revision <= counters.compacted {
        return Outcome::CompactedAlready { oldest: counters.compacted };
    }
    if revision > counters.revision {
        return Outcome::NotReached;
    }
    counters.compacted = revision;
    counters.mix(&revision.0.to_le_bytes());
    Outcome::Compacted
}

fn raise<R: Rows>(rows: &mut R, counters: &mut Counters, level: FeatureLevel, release: &str) {
    if level > counters.level {
        counters.level = level;
        let record = record::encode_level(level, release);
        counters.mix(&record);
        rows.set_record(RecordKey::level(), Some(record));
    }
}

fn agree<R: Rows>(rows: &mut R, counters: &mut Counters, settings: Settings) {
    if counters.settings != Some(settings) {
        counters.settings = Some(settings);
        let record = record::encode_settings(settings);
        counters.mix(&record);
        rows.set_record(RecordKey::settings(), Some(record));
    }
}

fn access<R: Rows>(rows: &mut R, counters: &mut Counters, change: AccessChange) -> Outcome {
    match counters.access.after(change) {
        Ok((next, found)) => {
            if let Some(next) = next {
                let record = record::encode_access(next.stated());
                counters.mix(&record);
                rows.set_record(RecordKey::access(), Some(record));
                counters.access = Arc::new(next);
            }
            Outcome::AccessChanged { revision: counters.access.revision(), found }
        }
        Err(refused) => Outcome::AccessRefused(refused),
    }
}

/// The hash once a change is chained to it: over all that the change says.
fn chain(hash: u64, id: RowId, row: &RevisionRow) -> u64 {
    let mut head = Vec::with_capacity(80);
    for id in [Some(id), row.previous, row.jump] {
        head.push(u8::from(id.is_some()));
        let RowId { revision, sub } = id.unwrap_or_default();
        head.extend_from_slice(&revision.0.to_le_bytes());
        head.extend_from_slice(&sub.to_le_bytes());
    }
    for number in [row.create_revision.0, row.version, row.lease] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head.push(u8::from(row.content_type.is_some()));
    let hash = xxh3_64_with_seed(&head, hash);
    let hash = xxh3_64_with_seed(&row.key, hash);
    let hash = xxh3_64_with_seed(row.content_type.as_deref().unwrap_or_default().as_bytes(), hash);
    xxh3_64_with_seed(&row.value, hash)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
