//! What a transaction comes to: found out before anything of it is carried out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::access::ReadRows;
use super::bound::Bound;
use super::counters::Counters;
use super::outcome::{OpOutcome, Outcome, Refusal, TxnOutcome};
use super::range::KeyRange;
use super::revision::Revision;
use super::roots::Roots;
use super::row_id::RowId;
use super::rows::{KeyRow, RevisionRow};
use super::txn::{Attach, Compare, Op, Over, Put, Test, Txn};

/// A change to be made, and the row that its key has then.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) row: RevisionRow,
    pub(super) key_row: KeyRow,
}

/// Why a transaction has no branch that can be carried out.
pub(super) enum Stop<E> {
    /// That is its outcome.
    Outcome(Outcome),
    /// The rows could not be read.
    Failed(E),
}

/// Keys that exist, in order.
type Keys = Vec<(Bytes, KeyRow)>;

/// The changes of one revision, as they are gathered.
pub(super) struct Plan<'a, R> {
    rows: &'a R,
    /// The revision that the changes will have.
    revision: Revision,
    compacted: Revision,
    bound: Bound,
    changes: Vec<Change>,
    /// The keys that were changed so far, if anything can follow that looks at them.
    changed: BTreeMap<Bytes, KeyRow>,
}

impl<'a, R: ReadRows> Plan<'a, R> {
    pub(super) fn new(rows: &'a R, counters: &Counters, keys_max: u64) -> Plan<'a, R> {
        Plan {
            rows,
            revision: Revision(counters.revision.0 + 1),
            compacted: counters.compacted,
            bound: Bound::new(keys_max),
            changes: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    /// The changes, in order.
    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Chooses a branch and goes through its operations.
    pub(super) fn txn(&mut self, txn: Txn) -> Result<TxnOutcome, Stop<R::Error>> {
        let mut succeeded = true;
        // Whether a question can be answered does not depend on which comes first.
        txn.compares.iter().try_for_each(|compare| self.can_tell(compare))?;
        for compare in &txn.compares {
            succeeded = succeeded && self.holds(compare)?;
        }
        let branch = if succeeded { txn.then } else { txn.otherwise };
        let results = branch.into_iter().map(|op| self.op(op));
        Ok(TxnOutcome { succeeded, results: results.collect::<Result<_, _>>()? })
    }

    /// Deletes the first keys of a range: how many, and where there may be more.
    pub(super) fn delete_step(
        &mut self,
        range: &KeyRange,
    ) -> Result<(u64, Option<Bytes>), R::Error> {
        let (found, next) = self.first_keys(range)?;
        let count = found.len() as u64;
        found.into_iter().for_each(|(key, row)| self.delete(key, &row));
        Ok((count, next))
    }

    fn op(&mut self, op: Op) -> Result<OpOutcome, Stop<R::Error>> {
        match op {
            Op::Put(put) => self.put(put),
            Op::Delete(over) => {
                let first = self.place();
                let found = match over {
                    Over::Key(key) => {
                        let row = self.newest(&key)?.filter(KeyRow::is_live);
                        row.map(|row| (key, row)).into_iter().collect()
                    }
                    Over::Range(range) => self.all_keys(&range)?,
                };
                let count = found.len() as u64;
                found.into_iter().for_each(|(key, row)| self.delete(key, &row));
                Ok(OpOutcome::Deleted { count, first })
            }
            Op::Get(Over::Key(key)) => {
                let row = self.newest(&key)?.filter(KeyRow::is_live);
                Ok(OpOutcome::Got { newest: row.map(|row| row.newest) })
            }
            Op::Get(Over::Range(_)) => Ok(OpOutcome::Range { before: self.next_id() }),
            Op::Txn(nested) => self.txn(nested).map(OpOutcome::Txn),
        }
    }

    fn put(&mut self, put: Put) -> Result<OpOutcome, Stop<R::Error>> {
        let Put { key, value, content_type, lease } = put;
        let refused = |refusal| Err(Stop::Outcome(Outcome::Refused(refusal)));
        // What is kept is what there was before the transaction, whatever operations before this one did.
        let before = self.before(&key)?.filter(KeyRow::is_live);
        let (value, content_type) = match (value, &before) {
            (Some(value), _) => (value, content_type),
            (None, Some(row)) => {
                let kept = self.rows.row(row.newest).map_err(Stop::Failed)?;
                (kept.value, content_type.or(kept.content_type))
            }
            (None, None) => return refused(Refusal::NothingToKeep { key }),
        };
        let lease = match lease {
            Attach::Detach => 0,
            Attach::Keep => before.map_or(0, |row| row.lease),
            // No lease is ever made at this feature level.
            Attach::To(lease) => return refused(Refusal::NoSuchLease { key, lease }),
        };
        let current = self.newest(&key)?;
        let live = current.as_ref().filter(|row| row.is_live());
        let previous = live.map(|row| row.newest);
        let create_revision = live.map_or(self.revision, |row| row.create_revision);
        let version = live.map_or(0, |row| row.version) + 1;
        let row = RevisionRow {
            key,
            value,
            content_type,
            create_revision,
            version,
            lease,
            previous: None,
            jump: None,
        };
        self.set(row, current.as_ref());
        Ok(OpOutcome::Put { previous })
    }

    fn delete(&mut self, key: Bytes, before: &KeyRow) {
        let row = RevisionRow {
            key,
            value: Bytes::new(),
            content_type: None,
            create_revision: before.create_revision,
            version: 0,
            lease: 0,
            previous: None,
            jump: None,
        };
        self.set(row, Some(before));
    }

    /// Adds a change, linked to the one before it.
    fn set(&mut self, mut row: RevisionRow, before: Option<&KeyRow>) {
        let (roots, jump) = match before {
            Some(before) => before.roots.after(before.newest),
            None => (Roots::default(), None),
        };
        row.previous = before.map(|row| row.newest);
        row.jump = jump;
        let key_row = KeyRow {
            newest: self.next_id(),
            create_revision: row.create_revision,
            version: row.version,
            lease: row.lease,
            roots,
        };
        self.changed.insert(row.key.clone(), key_row.clone());
        self.changes.push(Change { row, key_row });
    }

    /// The change that comes next.
    fn next_id(&self) -> RowId {
        RowId { revision: self.revision, sub: self.place() }
    }

    /// How many changes there are so far.
    fn place(&self) -> u32 {
        // Each takes bytes of a command, or a row of a range; both are bounded far below that.
        u32::try_from(self.changes.len()).unwrap_or(u32::MAX)
    }

    /// A key's newest change before the transaction.
    fn before(&self, key: &[u8]) -> Result<Option<KeyRow>, Stop<R::Error>> {
        let row = self.rows.key(key).map_err(Stop::Failed)?;
        Ok(row.filter(|row| row.counts(self.compacted)))
    }

    /// A key's newest change so far.
    fn newest(&self, key: &[u8]) -> Result<Option<KeyRow>, Stop<R::Error>> {
        match self.changed.get(key) {
            Some(row) => Ok(Some(row.clone())),
            None => self.before(key),
        }
    }

    /// The keys of a range that exist so far, in order, unless they are too many.
    fn all_keys(&mut self, range: &KeyRange) -> Result<Keys, Stop<R::Error>> {
        let (mut found, next) = self.first_keys(range).map_err(Stop::Failed)?;
        if next.is_some() {
            return Err(Stop::Outcome(Outcome::TooManyKeys));
        }
        if !self.changed.is_empty() {
            found.retain(|(key, _)| !self.changed.contains_key(key));
            let live =
                self.changed.iter().filter(|(key, row)| range.contains(key) && row.is_live());
            found.extend(live.map(|(key, row)| (key.clone(), row.clone())));
            found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        }
        Ok(found)
    }

    /// The first keys of a range that existed before, and where there may be more than may be looked at.
    fn first_keys(&mut self, range: &KeyRange) -> Result<(Keys, Option<Bytes>), R::Error> {
        let (mut found, mut next) = (Vec::new(), None);
        let (bound, compacted) = (&mut self.bound, self.compacted);
        self.rows.visit(range, &mut |key, row| {
            match bound.takes(&row, compacted) {
                Some(false) => {
                    next = Some(key);
                    return ControlFlow::Break(());
                }
                Some(true) if row.is_live() => found.push((key, row)),
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok((found, next))
    }

    /// Whether a compare asks about revisions of which the store knows.
    fn can_tell(&self, compare: &Compare) -> Result<(), Stop<R::Error>> {
        let Test::UnchangedSince(since) = compare.test else { return Ok(()) };
        if since < self.compacted {
            return Err(Stop::Outcome(Outcome::CompactedAlready { oldest: self.compacted }));
        }
        // Whoever names one that is yet to come has it from elsewhere, or from before a restore.
        if since >= self.revision {
            return Err(Stop::Outcome(Outcome::NotReached));
        }
        Ok(())
    }

    /// Whether a compare holds in the state before the transaction.
    fn holds(&mut self, compare: &Compare) -> Result<bool, Stop<R::Error>> {
        match &compare.over {
            Over::Key(key) => {
                let row = self.before(key)?;
                self.test(&compare.test, row.as_ref())
            }
            Over::Range(range) => self.all_hold(range, &compare.test),
        }
    }

    fn all_hold(&mut self, range: &KeyRange, test: &Test) -> Result<bool, Stop<R::Error>> {
        let (mut rows, mut too_many) = (Vec::new(), false);
        let (bound, compacted) = (&mut self.bound, self.compacted);
        let deletions_count = matches!(test, Test::UnchangedSince(_));
        let visited = self.rows.visit(range, &mut |_, row| {
            match bound.takes(&row, compacted) {
                Some(false) => {
                    too_many = true;
                    return ControlFlow::Break(());
                }
                Some(true) if row.is_live() || deletions_count => rows.push(row),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        visited.map_err(Stop::Failed)?;
        if too_many {
            return Err(Stop::Outcome(Outcome::TooManyKeys));
        }
        for row in &rows {
            if !self.test(test, Some(row))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it holds for a key with that newest change.
    fn test(&self, test: &Test, row: Option<&KeyRow>) -> Result<bool, Stop<R::Error>> {
        let live = row.filter(|row| row.is_live());
        let zero = Revision(0);
        Ok(match test {
            Test::Value(relation, value) => match live {
                Some(row) => {
                    let found = self.rows.row(row.newest).map_err(Stop::Failed)?;
                    relation.holds(&found.value[..], &value[..])
                }
                None => false,
            },
            Test::Version(relation, to) => relation.holds(&live.map_or(0, |row| row.version), to),
            Test::CreateRevision(relation, to) => {
                relation.holds(&live.map_or(zero, |row| row.create_revision), to)
            }
            Test::ModRevision(relation, to) => {
                relation.holds(&live.map_or(zero, |row| row.newest.revision), to)
            }
            Test::Lease(relation, to) => relation.holds(&live.map_or(0, |row| row.lease), to),
            Test::Exists(exists) => live.is_some() == *exists,
            Test::OneOf(named) => live.is_some_and(|row| named.contains(&row.newest.revision)),
            Test::NoneOf(named) => !live.is_some_and(|row| named.contains(&row.newest.revision)),
            Test::UnchangedSince(revision) => {
                row.is_none_or(|row| row.newest.revision <= *revision)
            }
        })
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
