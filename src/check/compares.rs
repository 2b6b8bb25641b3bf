//! Transactions against the state that they began with: whether their compares held, and whether what they deleted was
//! there. Where it is not certain what a key was, nothing is said.

use super::facts::{Known, Sure, Told};
use super::fates::{Fate, Fates};
use super::history::{Ask, Call};
use super::judge::Violation;
use super::operation::Moment;
use super::txn::{Came, Compare, Op, Txn};
use crate::kv::Revision;

/// Checks all of which it is known how they were carried out.
pub(super) fn check(calls: &[Call], keys: &[Known], fates: &Fates<'_>) -> Result<(), Violation> {
    for (at, call) in calls.iter().enumerate() {
        let (Ask::Txn(txn), Some(fate)) = (&call.ask, fates.get(at)) else { continue };
        let began = Began { keys, before: fate.before(), returned: fate.returned(calls) };
        began.branch(txn, fate, at)?;
        began.deletions(txn, fate, at)?;
    }
    Ok(())
}

/// What a transaction began with.
struct Began<'a> {
    keys: &'a [Known],
    before: Revision,
    returned: Moment,
}

impl Began<'_> {
    /// It took the branch that its compares say.
    fn branch(&self, txn: &Txn, fate: &Fate<'_>, at: usize) -> Result<(), Violation> {
        let mut window = vec![at, fate.witness];
        let mut all_hold = true;
        for compare in &txn.compares {
            let (holds, by) = self.holds(compare);
            if fate.succeeded && holds == Some(false) {
                window.extend(by);
                let rule = format!(
                    "a transaction was carried out as if all of its compares held, and at revision {} it is not so that {compare}",
                    self.before
                );
                return Err(Violation::of(single(compare), rule, window));
            }
            all_hold &= holds == Some(true);
            if !fate.succeeded && all_hold {
                window.extend(by);
            }
        }
        if fate.succeeded || !all_hold {
            return Ok(());
        }
        let rule = format!(
            "a transaction was carried out as if a compare did not hold, and all of them do at revision {}",
            self.before
        );
        Err(Violation::of(None, rule, window))
    }

    /// It deleted what was there.
    fn deletions(&self, txn: &Txn, fate: &Fate<'_>, at: usize) -> Result<(), Violation> {
        for (number, op) in txn.branch(fate.succeeded).iter().enumerate() {
            let (Op::Delete { key }, Some(Came::Deleted { count })) = (op, fate.came(number))
            else {
                continue;
            };
            let (sure, mut window) = self.key(*key);
            let possible = match sure.exists() {
                Some(exists) => *count == u64::from(exists),
                None => *count <= 1,
            };
            if !possible {
                window.extend([at, fate.witness]);
                let rule = format!(
                    "a transaction deleted the key {count} times, and before, at revision {}, {}",
                    self.before,
                    if sure == Sure::Is(None) { "there was none" } else { "there was one" }
                );
                return Err(Violation::of(Some(*key), rule, window));
            }
        }
        Ok(())
    }

    fn key(&self, key: u32) -> Told<Sure> {
        let known = self.keys.get(key as usize);
        known.map_or((Sure::Nothing, Vec::new()), |known| known.at(self.before, self.returned))
    }

    /// Whether a compare held, if that is certain.
    fn holds(&self, compare: &Compare) -> Told<Option<bool>> {
        match *compare {
            Compare::Revision { key, revision } => {
                let (sure, by) = self.key(key);
                let holds = match sure {
                    Sure::Is(state) => Some(state.unwrap_or_default() == revision),
                    Sure::Present if revision.0 == 0 => Some(false),
                    Sure::Present | Sure::Nothing => None,
                };
                (holds, by)
            }
            Compare::Exists { key, exists } => {
                let (sure, by) = self.key(key);
                (sure.exists().map(|there| there == exists), by)
            }
            Compare::Unchanged { from, to, since } => self.unchanged(from, to, since),
        }
    }

    fn unchanged(&self, from: u32, to: u32, since: Revision) -> Told<Option<bool>> {
        let (mut holds, mut all) = (Some(true), Vec::new());
        for known in &self.keys[from as usize..to as usize] {
            let (unchanged, by) = known.unchanged(since, self.before, self.returned);
            match unchanged {
                Some(false) => return (Some(false), by),
                Some(true) => all.extend(by),
                None => holds = None,
            }
        }
        (holds, all)
    }
}

/// The key of a compare that is about one.
fn single(compare: &Compare) -> Option<u32> {
    let keys = compare.keys();
    (keys.len() == 1).then_some(keys.start)
}
