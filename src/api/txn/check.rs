//! Whether a transaction may be carried out, whatever the state is: how much it asks for, and that no branch changes one key
//! twice where the order would decide.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use bytes::Bytes;

use super::super::kind::Kind;
use super::{
    TXN_DEPTH_MAX, TXN_EXTRA_BYTES_MAX, TXN_LISTS_MAX, TxnError, TxnLimits, TxnOp, TxnRequest,
};
use crate::kv::{Compare, KeyRange, Over, Test};

impl TxnRequest {
    /// Checks it against these limits, and that no key is put twice, or put and deleted, in one branch. A nested transaction
    /// counts with the branch that holds it; but two of them side by side may change one key each, and the two branches of a
    /// transaction never meet. Takes time in the order of `n log n`, times the depth.
    ///
    /// # Errors
    /// What is wrong, and where; it is not to be carried out.
    pub fn check(&self, limits: &TxnLimits) -> Result<(), TxnError> {
        let mut counted = Counted { limits, all: 0, bytes: 0 };
        counted.txn(self, 1, limits.operations_max, None)?;
        let bytes_max = limits.value_bytes_max.saturating_add(TXN_EXTRA_BYTES_MAX);
        if counted.bytes > bytes_max {
            let detail = format!(
                "the keys and values of the transaction have {} bytes; {bytes_max} are the most (limits.value and 64 KiB)",
                counted.bytes
            );
            return Err(TxnError::new(Kind::ValueTooLarge, detail));
        }
        branches(self, None)
    }
}

/// Which branch of which transaction.
#[derive(Clone, Copy)]
struct Branch<'a> {
    /// The branch around it, and where it is in that.
    around: Option<(&'a Branch<'a>, usize)>,
    name: &'static str,
}

impl fmt::Display for Branch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((around, at)) = self.around {
            write!(f, "{around}[{at}].txn.")?;
        }
        f.write_str(self.name)
    }
}

/// What was counted so far.
struct Counted<'a> {
    limits: &'a TxnLimits,
    /// Compares and operations.
    all: usize,
    /// Of keys and values.
    bytes: usize,
}

impl Counted<'_> {
    /// Counts a transaction whose lists may have `left` operations each.
    fn txn(
        &mut self,
        txn: &TxnRequest,
        depth: usize,
        left: usize,
        around: Option<(&Branch<'_>, usize)>,
    ) -> Result<(), TxnError> {
        let wrong = |detail: String| Err(TxnError::new(Kind::InvalidTransaction, detail));
        let max = self.limits.operations_max;
        if depth > TXN_DEPTH_MAX {
            return wrong(format!("transactions are nested more than {TXN_DEPTH_MAX} deep"));
        }
        let TxnRequest { compares, then, otherwise } = txn;
        let lists = [("if", compares.len()), ("then", then.len()), ("else", otherwise.len())];
        let mut longest = 0;
        for (name, length) in lists {
            let branch = Branch { around, name };
            if length > left {
                return wrong(match around {
                    None => format!(
                        "{branch}: there are more than {max} in one list (limits.txnOperations)"
                    ),
                    Some(_) => format!(
                        "{branch}: there are more than {left}, what the lists around it leave of {max} (limits.txnOperations)"
                    ),
                });
            }
            longest = longest.max(length);
            self.all += length;
        }
        if self.all > max.saturating_mul(TXN_LISTS_MAX) {
            return wrong(format!(
                "there are more than {TXN_LISTS_MAX} times {max} (limits.txnOperations) compares and operations in all"
            ));
        }
        self.bytes += compares.iter().map(compare_bytes).sum::<usize>();
        for (name, ops) in [("then", then), ("else", otherwise)] {
            let branch = Branch { around, name };
            for (at, op) in ops.iter().enumerate() {
                match op {
                    TxnOp::Txn(nested) => {
                        self.txn(nested, depth + 1, left - longest, Some((&branch, at)))?;
                    }
                    op => self.op(op, &branch, at)?,
                }
            }
        }
        Ok(())
    }

    fn op(&mut self, op: &TxnOp, branch: &Branch<'_>, at: usize) -> Result<(), TxnError> {
        let max = self.limits.value_bytes_max;
        self.bytes += match op {
            TxnOp::Put { put, .. } => {
                let value = put.value.as_ref().map_or(0, Bytes::len);
                if value > max {
                    let detail = format!(
                        "{branch}[{at}].put: the value has {value} bytes; {max} are the most (limits.value)"
                    );
                    return Err(TxnError::new(Kind::ValueTooLarge, detail));
                }
                put.key.len() + value + put.content_type.as_ref().map_or(0, String::len)
            }
            TxnOp::Delete { over, .. } | TxnOp::Get { over, .. } => over.cost_bytes(),
            TxnOp::Txn(_) => 0,
        };
        Ok(())
    }
}

fn compare_bytes(compare: &Compare) -> usize {
    let value = match &compare.test {
        Test::Value(_, value) => value.len(),
        _ => 0,
    };
    compare.over.cost_bytes() + value
}

/// Checks both branches of a transaction, each in itself and with those around it.
fn branches(txn: &TxnRequest, around: Option<(&Changes<'_>, usize)>) -> Result<(), TxnError> {
    for (name, ops) in [("then", &txn.then), ("else", &txn.otherwise)] {
        let changes = Changes::of(ops, name, around);
        changes.meet_themselves(ops)?;
        let mut outer = around;
        while let Some((one, _)) = outer {
            changes.meet(one)?;
            outer = one.around;
        }
        for (at, op) in ops.iter().enumerate() {
            if let TxnOp::Txn(nested) = op {
                branches(nested, Some((&changes, at)))?;
            }
        }
    }
    Ok(())
}

/// What the operations of one branch change, without those of nested transactions.
struct Changes<'a> {
    branch: Branch<'a>,
    around: Option<(&'a Changes<'a>, usize)>,
    /// Each key that is put, and by which operation.
    puts: BTreeMap<&'a Bytes, usize>,
    deletions: Deletions,
}

impl<'a> Changes<'a> {
    fn of(
        ops: &'a [TxnOp],
        name: &'static str,
        around: Option<(&'a Changes<'a>, usize)>,
    ) -> Changes<'a> {
        let branch = Branch { around: around.map(|(one, at)| (&one.branch, at)), name };
        let (mut puts, mut ranges) = (BTreeMap::new(), Vec::new());
        for (at, op) in ops.iter().enumerate() {
            match op {
                TxnOp::Put { put, .. } => {
                    puts.entry(&put.key).or_insert(at);
                }
                TxnOp::Delete { over, .. } => ranges.push((range(over), at)),
                TxnOp::Get { .. } | TxnOp::Txn(_) => {}
            }
        }
        Changes { branch, around, puts, deletions: Deletions::of(ranges) }
    }

    /// No key is put twice, or put and deleted, in the branch itself.
    fn meet_themselves(&self, ops: &[TxnOp]) -> Result<(), TxnError> {
        for (at, op) in ops.iter().enumerate() {
            if let TxnOp::Put { put, .. } = op
                && let Some(first) = self.puts.get(&put.key).filter(|first| **first != at)
            {
                return Err(twice(&put.key, (&self.branch, at), (&self.branch, *first), "puts"));
            }
        }
        self.meet_deletions(self)
    }

    /// Nothing that is changed here and in a branch around it is put in either.
    fn meet(&self, outer: &Changes<'_>) -> Result<(), TxnError> {
        for (key, at) in &self.puts {
            if let Some(other) = outer.puts.get(key) {
                return Err(twice(key, (&self.branch, *at), (&outer.branch, *other), "puts"));
            }
        }
        self.meet_deletions(outer)?;
        for (range, at) in self.deletions.ranges() {
            if let Some((key, other)) = outer.first_put(range) {
                return Err(twice(key, (&outer.branch, other), (&self.branch, *at), "deletes"));
            }
        }
        Ok(())
    }

    /// Nothing that is put here is deleted there.
    fn meet_deletions(&self, other: &Changes<'_>) -> Result<(), TxnError> {
        for (key, at) in &self.puts {
            if let Some(deletes) = other.deletions.of_key(key) {
                return Err(twice(key, (&self.branch, *at), (&other.branch, deletes), "deletes"));
            }
        }
        Ok(())
    }

    /// The first key of a range that is put, and by which operation.
    fn first_put(&self, range: &KeyRange) -> Option<(&Bytes, usize)> {
        if range.is_empty() {
            return None;
        }
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut puts = self.puts.range::<Bytes, _>((Bound::Included(&range.start), end));
        puts.next().map(|(key, at)| (*key, *at))
    }
}

fn range(over: &Over) -> KeyRange {
    match over {
        Over::Key(key) => KeyRange::key(key),
        Over::Range(range) => range.clone(),
    }
}

fn twice(
    key: &Bytes,
    (put, put_at): (&Branch<'_>, usize),
    (other, other_at): (&Branch<'_>, usize),
    does: &str,
) -> TxnError {
    let detail = format!(
        "{put}[{put_at}]: puts the key \"{}\", which {other}[{other_at}] {does}, too; in one branch a key is put once, \
         or deleted",
        key.escape_ascii()
    );
    TxnError::new(Kind::InvalidTransaction, detail)
}

/// Ranges that are deleted, in the order of their beginnings, and by which operation each.
struct Deletions {
    ranges: Vec<(KeyRange, usize)>,
    /// For each of them, which one so far goes furthest.
    furthest: Vec<usize>,
}

impl Deletions {
    fn of(mut ranges: Vec<(KeyRange, usize)>) -> Deletions {
        ranges.retain(|(range, _)| !range.is_empty());
        ranges.sort_by(|(one, _), (other, _)| one.start.cmp(&other.start));
        let mut furthest: Vec<usize> = Vec::with_capacity(ranges.len());
        for (number, (range, _)) in ranges.iter().enumerate() {
            let so_far = furthest.last().copied().unwrap_or(number);
            furthest.push(if goes_further(range, &ranges[so_far].0) { number } else { so_far });
        }
        Deletions { ranges, furthest }
    }

    fn ranges(&self) -> &[(KeyRange, usize)] {
        &self.ranges
    }

    /// The operation that deletes a key, if one does.
    fn of_key(&self, key: &Bytes) -> Option<usize> {
        let begun = self.ranges.partition_point(|(range, _)| range.start <= *key);
        let (range, at) = &self.ranges[*self.furthest.get(begun.checked_sub(1)?)?];
        range.contains(key).then_some(*at)
    }
}

/// Whether the one ends behind the other.
fn goes_further(one: &KeyRange, other: &KeyRange) -> bool {
    match (&one.end, &other.end) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
    }
}
