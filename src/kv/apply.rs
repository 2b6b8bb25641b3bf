//! Carrying a command out on the rows of the state. Total: every command has a reply, none can fail
//! but by the disk that holds the rows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::command::{
    Command, Condition, DELETED_PER_KEY_MAX, KEY_BYTES_MAX, Matcher, Outcome, Put, Reply, Write,
};
use super::range::KeyRange;
use super::revision::Revision;
use super::rows::{KeyRow, RevisionRow, RowId};

/// The longest media type that is kept, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// The rows that a command works on.
pub trait Rows {
    /// What can go wrong where they are kept.
    type Error;

    /// The newest change of a key.
    fn key(&self, key: &[u8]) -> Result<Option<KeyRow>, Self::Error>;

    /// Shows the keys of a range in order, those too whose newest change deleted them, until `visit` has
    /// seen enough. Deletions that compaction has reached may be among them, or not.
    fn visit(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Bytes, KeyRow) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Adds a change; it becomes the key's newest.
    fn set(&mut self, id: RowId, row: RevisionRow);
}

/// The counters that every command moves on, together with the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The store's revision.
    pub revision: Revision,
    /// A hash chained over every change: equal on all replicas at the same index.
    pub hash: u64,
    /// The oldest revision that can be read. Of what happened up to it, what each key was then is still
    /// there, and nothing else counts: neither what was superseded by then, nor a key that was deleted,
    /// whether or not the rows that say so are gone already.
    pub compacted: Revision,
}

/// Applies the command that an entry carries.
pub fn apply<R: Rows>(
    rows: &mut R,
    counters: &mut Counters,
    command: &[u8],
) -> Result<Reply, R::Error> {
    Prepared::of(command).apply(rows, counters)
}

/// A command that an entry carries, decoded: what it will read is known before it is carried out.
#[derive(Clone, Debug)]
pub struct Prepared(Result<Write, &'static str>);

impl Prepared {
    /// The command of these bytes. One that cannot be read changes nothing, and says so.
    pub fn of(command: &[u8]) -> Prepared {
        Prepared(Command::decode(command).and_then(|command| valid(command.write)))
    }

    /// The keys whose rows it reads.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().flat_map(Write::keys)
    }

    /// The range that it goes through from its beginning, and how many keys of it at most.
    pub fn range(&self) -> Option<(&KeyRange, u64)> {
        self.0.as_ref().ok().and_then(Write::range)
    }

    /// Carries it out. What it reads it reads before it changes anything, but for [`Prepared::keys`]: a range that
    /// cannot be read leaves no change.
    pub fn apply<R: Rows>(self, rows: &mut R, counters: &mut Counters) -> Result<Reply, R::Error> {
        let outcome = match self.0 {
            Ok(write) => write_out(rows, counters, write)?,
            Err(reason) => Outcome::Invalid { reason: reason.to_owned() },
        };
        Ok(Reply { revision: counters.revision, outcome })
    }
}

fn valid(write: Write) -> Result<Write, &'static str> {
    let keys: Vec<&Bytes> = match &write {
        Write::Put(put) => vec![&put.key],
        Write::Delete { key, .. } => vec![key],
        Write::DeleteRange { .. } | Write::DeleteUpTo { .. } | Write::Compact { .. } => vec![],
        Write::PutMany { pairs } => pairs.iter().map(|(key, _)| key).collect(),
    };
    if keys.iter().any(|key| key.is_empty()) {
        return Err("a key is empty");
    }
    if keys.iter().any(|key| key.len() > KEY_BYTES_MAX) {
        return Err("a key is longer than 4096 bytes");
    }
    match &write {
        Write::Put(Put { content_type: Some(kind), .. }) if kind.len() > CONTENT_TYPE_BYTES_MAX => {
            Err("the media type is longer than 255 bytes")
        }
        _ => Ok(write),
    }
}

fn write_out<R: Rows>(
    rows: &mut R,
    counters: &mut Counters,
    write: Write,
) -> Result<Outcome, R::Error> {
    match write {
        Write::Put(Put { key, value, content_type, condition }) => {
            let before = newest(rows, counters, &key)?;
            if let Some(failed) = check(&condition, before) {
                return Ok(failed);
            }
            let mut change = Change::begin(counters);
            change.put(rows, key, value, content_type, before);
            let created = !before.is_some_and(|row| row.is_live());
            change.end();
            Ok(Outcome::Put { created })
        }
        Write::Delete { key, condition } => {
            let before = newest(rows, counters, &key)?;
            if let Some(failed) = check(&condition, before) {
                return Ok(failed);
            }
            let mut change = Change::begin(counters);
            if let Some(before) = before.filter(KeyRow::is_live) {
                change.delete(rows, key, before);
            }
            Ok(Outcome::Deleted { count: change.end() })
        }
        Write::DeleteRange { range } => {
            let found = first_keys(rows, counters, &range, u64::MAX)?;
            Ok(Outcome::Deleted { count: delete_all(rows, counters, found.keys) })
        }
        Write::DeleteUpTo { range, keys_max, in_steps } => {
            let found = first_keys(rows, counters, &range, keys_max)?;
            if found.next.is_some() && !in_steps {
                return Ok(Outcome::TooManyKeys);
            }
            let count = delete_all(rows, counters, found.keys);
            Ok(match in_steps {
                true => Outcome::DeletedInPart { count, next: found.next },
                false => Outcome::Deleted { count },
            })
        }
        Write::PutMany { pairs } => {
            let mut change = Change::begin(counters);
            let mut named = BTreeSet::new();
            for (key, value) in pairs {
                if named.insert(key.clone()) {
                    let before = newest(rows, change.counters, &key)?;
                    change.put(rows, key, value, None, before);
                }
            }
            change.end();
            Ok(Outcome::PutMany)
        }
        Write::Compact { revision } => Ok(compact(counters, revision)),
    }
}

/// A key's newest change, but for deletions that compaction has reached: where their rows are gone is not
/// the same on all replicas.
fn newest<R: Rows>(rows: &R, counters: &Counters, key: &[u8]) -> Result<Option<KeyRow>, R::Error> {
    let counts = |row: &KeyRow| row.is_live() || row.newest.revision > counters.compacted;
    Ok(rows.key(key)?.filter(counts))
}

/// Keys of a range that exist, in order.
struct Found {
    keys: Vec<(Bytes, KeyRow)>,
    /// Where there may be more.
    next: Option<Bytes>,
}

/// Counts the keys that a deletion takes, and those that exist no more and that it steps over. Of those, what
/// compaction has reached does not count, since it may be gone on other replicas.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    keys_max: u64,
    keys: u64,
    seen: u64,
}

impl Bound {
    /// At most `keys_max` keys.
    pub fn new(keys_max: u64) -> Bound {
        Bound { keys_max, keys: 0, seen: 0 }
    }

    /// Whether the key that has this row still fits; none if it does not count.
    pub fn takes(&mut self, row: &KeyRow, compacted: Revision) -> Option<bool> {
        let live = row.is_live();
        if !live && row.newest.revision <= compacted {
            return None;
        }
        let seen_max = self.keys_max.saturating_mul(DELETED_PER_KEY_MAX);
        let fits = self.seen < seen_max && (!live || self.keys < self.keys_max);
        if fits {
            self.seen += 1;
            self.keys += u64::from(live);
        }
        Some(fits)
    }
}

/// The first `keys_max` keys of a range, or fewer if too many stand among them that were deleted.
fn first_keys<R: Rows>(
    rows: &R,
    counters: &Counters,
    range: &KeyRange,
    keys_max: u64,
) -> Result<Found, R::Error> {
    let mut found = Found { keys: Vec::new(), next: None };
    let mut bound = Bound::new(keys_max);
    rows.visit(range, &mut |key, row| {
        match bound.takes(&row, counters.compacted) {
            Some(false) => {
                found.next = Some(key);
                return ControlFlow::Break(());
            }
            Some(true) if row.is_live() => found.keys.push((key, row)),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Deletes keys that exist, in one revision; how many.
fn delete_all<R: Rows>(rows: &mut R, counters: &mut Counters, keys: Vec<(Bytes, KeyRow)>) -> u64 {
    let mut change = Change::begin(counters);
    for (key, before) in keys {
        change.delete(rows, key, before);
    }
    change.end()
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
    counters.hash = xxh3_64_with_seed(&revision.0.to_le_bytes(), counters.hash);
    Outcome::Compacted
}

/// The conditions in the order of RFC 9110, section 13.2.2; none if they hold.
fn check(condition: &Condition, row: Option<KeyRow>) -> Option<Outcome> {
    let current = row.filter(KeyRow::is_live).map(|row| row.newest.revision);
    (!condition.holds(current)).then_some(Outcome::ConditionFailed { current })
}

impl Write {
    /// Whether somebody has to count what it would change before it is taken into the log.
    pub fn counts_first(&self) -> bool {
        matches!(self, Write::DeleteUpTo { .. })
    }

    /// The keys whose rows it reads.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let (one, many) = match self {
            Write::Put(Put { key, .. }) | Write::Delete { key, .. } => (Some(key), &[][..]),
            Write::PutMany { pairs } => (None, &pairs[..]),
            Write::DeleteRange { .. } | Write::DeleteUpTo { .. } | Write::Compact { .. } => {
                (None, &[][..])
            }
        };
        one.into_iter().chain(many.iter().map(|(key, _)| key))
    }

    /// The range that it goes through from its beginning, and how many keys of it at most.
    pub fn range(&self) -> Option<(&KeyRange, u64)> {
        match self {
            Write::DeleteRange { range } => Some((range, u64::MAX)),
            Write::DeleteUpTo { range, keys_max, .. } => Some((range, *keys_max)),
            _ => None,
        }
    }
}

impl Condition {
    /// Whether it holds for a key with that mod revision, or for one that does not exist.
    pub fn holds(&self, current: Option<Revision>) -> bool {
        let matched = self.if_match.as_ref().is_none_or(|matcher| matcher.matches(current));
        let none_matched =
            !self.if_none_match.as_ref().is_some_and(|matcher| matcher.matches(current));
        matched && none_matched
    }
}

impl Matcher {
    /// Whether a key with that mod revision is meant; one that does not exist never is.
    pub fn matches(&self, current: Option<Revision>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Matcher::Any, Some(_)) => true,
            (Matcher::Revisions(named), Some(current)) => named.contains(&current),
        }
    }
}

/// The changes of one revision. The counter moves on only if there are any.
struct Change<'a> {
    counters: &'a mut Counters,
    revision: Revision,
    count: u32,
}

impl<'a> Change<'a> {
    fn begin(counters: &'a mut Counters) -> Change<'a> {
        let revision = Revision(counters.revision.0 + 1);
        Change { counters, revision, count: 0 }
    }

    fn put<R: Rows>(
        &mut self,
        rows: &mut R,
        key: Bytes,
        value: Bytes,
        content_type: Option<String>,
        before: Option<KeyRow>,
    ) {
        let live = before.filter(KeyRow::is_live);
        self.set(
            rows,
            RevisionRow {
                key,
                value,
                content_type,
                create_revision: live.map_or(self.revision, |row| row.create_revision),
                version: live.map_or(0, |row| row.version) + 1,
                lease: 0,
                previous: before.map(|row| row.newest),
            },
        );
    }

    fn delete<R: Rows>(&mut self, rows: &mut R, key: Bytes, before: KeyRow) {
        self.set(
            rows,
            RevisionRow {
                key,
                value: Bytes::new(),
                content_type: None,
                create_revision: before.create_revision,
                version: 0,
                lease: 0,
                previous: Some(before.newest),
            },
        );
    }

    fn set<R: Rows>(&mut self, rows: &mut R, row: RevisionRow) {
        let id = RowId { revision: self.revision, sub: self.count };
        self.counters.hash = chain(self.counters.hash, id, &row);
        rows.set(id, row);
        self.count += 1;
    }

    fn end(self) -> u64 {
        if self.count > 0 {
            self.counters.revision = self.revision;
        }
        u64::from(self.count)
    }
}

fn chain(hash: u64, id: RowId, row: &RevisionRow) -> u64 {
    let mut head = [0; 40];
    head[..8].copy_from_slice(&id.revision.0.to_le_bytes());
    head[8..12].copy_from_slice(&id.sub.to_le_bytes());
    head[12..20].copy_from_slice(&row.create_revision.0.to_le_bytes());
    head[20..28].copy_from_slice(&row.version.to_le_bytes());
    let previous = row.previous.unwrap_or_default();
    head[28..36].copy_from_slice(&previous.revision.0.to_le_bytes());
    head[36..].copy_from_slice(&previous.sub.to_le_bytes());
    let hash = xxh3_64_with_seed(&head, hash);
    let hash = xxh3_64_with_seed(&row.key, hash);
    let hash = xxh3_64_with_seed(row.content_type.as_deref().unwrap_or_default().as_bytes(), hash);
    xxh3_64_with_seed(&row.value, hash)
}

impl RevisionRow {
    /// The key's row once this is its newest change.
    pub fn key_row(&self, id: RowId) -> KeyRow {
        KeyRow {
            newest: id,
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
