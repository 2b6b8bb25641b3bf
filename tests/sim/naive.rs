//! The state machine once more, written apart from the one that is tested and with no care for speed: what each write must
//! come to, by the text of the rules.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use konsen::kv::{
    AccessChange, AccessRefusal, AccessRevision, Attach, Compare, DELETED_PER_KEY_MAX, KeyRange,
    Name, Op, OpOutcome, Outcome, Over, Put, Refusal, Relation, Reply, Revision, Role, RowId,
    Serial, Test, Txn, TxnOutcome, Write,
};

use super::oracle::{Broken, ensure};

/// All keys, as they are and as they were last changed.
#[derive(Debug, Default)]
pub(super) struct Naive {
    keys: BTreeMap<Bytes, Life>,
    /// The last change of every key that ever was.
    changed: BTreeMap<Bytes, u64>,
    changes: u64,
    compacted: u64,
    access: NaiveAccess,
}

/// Roles and users, as far as the simulator changes them.
#[derive(Debug, Default)]
struct NaiveAccess {
    changes: u64,
    on: bool,
    certificates: bool,
    roles: BTreeMap<Name, Role>,
    users: BTreeMap<Name, BTreeSet<Name>>,
    revoked: Vec<(Serial, u64)>,
}

impl NaiveAccess {
    fn take(&mut self, change: &AccessChange) -> Outcome {
        let before =
            (self.certificates, self.roles.clone(), self.users.clone(), self.revoked.clone());
        let found = match change {
            AccessChange::TurnOn => {
                self.certificates = true;
                std::mem::replace(&mut self.on, true)
            }
            AccessChange::PutRole { name, role } => {
                self.roles.insert(name.clone(), role.clone()).is_some()
            }
            AccessChange::DeleteRole { name } => {
                self.users.values_mut().for_each(|roles| roles.retain(|role| role != name));
                self.roles.remove(name).is_some()
            }
            AccessChange::PutUser { roles, .. }
                if !roles.iter().all(|role| self.roles.contains_key(role)) =>
            {
                let missing = roles.iter().find(|role| !self.roles.contains_key(*role));
                let missing = missing.map(Name::to_string).unwrap_or_default();
                return Outcome::AccessRefused(AccessRefusal::NoSuchRole(missing));
            }
            AccessChange::PutUser { name, roles } => {
                self.users.insert(name.clone(), roles.clone()).is_some()
            }
            AccessChange::DeleteUser { name } => self.users.remove(name).is_some(),
            AccessChange::PutToken { .. } | AccessChange::DeleteToken { .. } => false,
            AccessChange::Revoke { serial, until, now } => {
                self.revoked.retain(|(_, until)| until > now);
                let found = self.forget(serial);
                self.revoked.push((*serial, *until));
                self.revoked.sort();
                found
            }
            AccessChange::Restore { serial } => self.forget(serial),
        };
        let now = (self.certificates, self.roles.clone(), self.users.clone(), self.revoked.clone());
        let changed = before != now;
        self.changes += u64::from(changed);
        Outcome::AccessChanged { revision: AccessRevision(self.changes), found }
    }
}

impl NaiveAccess {
    fn forget(&mut self, serial: &Serial) -> bool {
        let before = self.revoked.len();
        self.revoked.retain(|(one, _)| one != serial);
        self.revoked.len() < before
    }
}

/// A key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Life {
    value: Bytes,
    at: RowId,
    created: u64,
    version: u64,
}

/// A transaction on its way.
struct Run<'a> {
    before: &'a Naive,
    now: BTreeMap<Bytes, Life>,
    /// The keys that were changed, in order.
    trail: Vec<Bytes>,
    revision: u64,
    live_left: u64,
    rows_left: u64,
    seen: Vec<Pairs>,
}

/// Keys and values.
pub(super) type Pairs = Vec<(Bytes, Bytes)>;

impl Naive {
    /// The revision of an empty store is 1.
    fn revision(&self) -> u64 {
        self.changes + 1
    }

    /// Carries a write out and compares what it came to. Gives, for each operation that was carried out, what there was to
    /// see: the keys that it read, or what those were that it changed.
    pub(super) fn apply(
        &mut self,
        admitted: Option<AccessRevision>,
        write: &Write,
        reply: &Reply,
    ) -> Result<Vec<Pairs>, Broken> {
        let mut seen = Vec::new();
        let outcome = match write {
            _ if admitted.is_some_and(|by| by.0 != self.access.changes) => Outcome::Outdated,
            Write::Txn { txn, keys_max } => {
                let mut run = Run::of(self, *keys_max);
                let outcome = run.txn(txn);
                let Run { now, trail, revision, seen: all, .. } = run;
                match outcome {
                    Ok(outcome) => {
                        self.take(now, trail, revision);
                        seen = all;
                        Outcome::Txn(outcome)
                    }
                    Err(outcome) => outcome,
                }
            }
            Write::DeleteStep { range, keys_max } => {
                let mut run = Run::of(self, *keys_max);
                let (going, next) = run.first(range);
                let count = going.len() as u64;
                going.into_iter().for_each(|key| run.remove(key));
                let Run { now, trail, revision, .. } = run;
                self.take(now, trail, revision);
                Outcome::Stepped { count, next }
            }
            Write::Compact { revision } if revision.0 <= self.compacted => {
                Outcome::CompactedAlready { oldest: Revision(self.compacted) }
            }
            Write::Compact { revision } if revision.0 > self.revision() => Outcome::NotReached,
            Write::Compact { revision } => {
                self.compacted = revision.0;
                Outcome::Compacted
            }
            Write::Agree { .. } => Outcome::Agreed,
            Write::Access(change) => self.access.take(change),
            Write::Anchor(_) | Write::ForgetAnchors { .. } => Outcome::Anchored,
            _ => Outcome::Raised,
        };
        let expected = Reply { revision: Revision(self.revision()), outcome };
        ensure!(
            *reply == expected,
            "{write:?} came to {reply:?}, by the text of the rules to {expected:?}"
        );
        Ok(seen)
    }

    fn take(&mut self, now: BTreeMap<Bytes, Life>, trail: Vec<Bytes>, revision: u64) {
        self.changes += u64::from(!trail.is_empty());
        self.changed.extend(trail.into_iter().map(|key| (key, revision)));
        self.keys = now;
    }
}

impl<'a> Run<'a> {
    fn of(before: &'a Naive, keys_max: u64) -> Run<'a> {
        Run {
            now: before.keys.clone(),
            trail: Vec::new(),
            revision: before.revision() + 1,
            live_left: keys_max,
            rows_left: keys_max.saturating_mul(DELETED_PER_KEY_MAX),
            seen: Vec::new(),
            before,
        }
    }

    /// What there is of these keys, now.
    fn see(&mut self, over: &Over) {
        let pairs = self.now.iter().filter(|(key, _)| over.contains(key));
        let pairs = pairs.map(|(key, life)| (key.clone(), life.value.clone())).collect();
        self.seen.push(pairs);
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Outcome> {
        for compare in &txn.compares {
            let Test::UnchangedSince(since) = compare.test else { continue };
            if since.0 < self.before.compacted {
                let oldest = Revision(self.before.compacted);
                return Err(Outcome::CompactedAlready { oldest });
            }
            if since.0 > self.before.revision() {
                return Err(Outcome::NotReached);
            }
        }
        let mut succeeded = true;
        for compare in &txn.compares {
            if succeeded {
                succeeded = self.holds(compare)?;
            }
        }
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        let mut results = Vec::new();
        for op in branch {
            results.push(self.op(op)?);
        }
        Ok(TxnOutcome { succeeded, results })
    }

    fn op(&mut self, op: &Op) -> Result<OpOutcome, Outcome> {
        let first = self.trail.len() as u32;
        match op {
            Op::Put(put) => self.see(&Over::Key(put.key.clone())),
            Op::Delete(over) | Op::Get(over) => self.see(over),
            Op::Txn(_) => {}
        }
        Ok(match op {
            Op::Put(put) => OpOutcome::Put { previous: self.put(put)? },
            Op::Delete(Over::Key(key)) => {
                let exists = self.now.contains_key(key);
                if exists {
                    self.remove(key.clone());
                }
                OpOutcome::Deleted { count: u64::from(exists), first }
            }
            Op::Delete(Over::Range(range)) => {
                // What counts towards the bound is what there was before.
                if self.first(range).1.is_some() {
                    return Err(Outcome::TooManyKeys);
                }
                let going: Vec<Bytes> =
                    self.now.keys().filter(|key| range.contains(key)).cloned().collect();
                let count = going.len() as u64;
                going.into_iter().for_each(|key| self.remove(key));
                OpOutcome::Deleted { count, first }
            }
            Op::Get(Over::Key(key)) => {
                OpOutcome::Got { newest: self.now.get(key).map(|life| life.at) }
            }
            Op::Get(Over::Range(_)) => {
                OpOutcome::Range { before: RowId { revision: Revision(self.revision), sub: first } }
            }
            Op::Txn(nested) => OpOutcome::Txn(self.txn(nested)?),
        })
    }

    fn put(&mut self, put: &Put) -> Result<Option<RowId>, Outcome> {
        let key = put.key.clone();
        let value = match (&put.value, self.before.keys.get(&key)) {
            (Some(value), _) => value.clone(),
            (None, Some(life)) => life.value.clone(),
            (None, None) => return Err(Outcome::Refused(Refusal::NothingToKeep { key })),
        };
        if let Attach::To(lease) = put.lease {
            return Err(Outcome::Refused(Refusal::NoSuchLease { key, lease }));
        }
        let at = RowId { revision: Revision(self.revision), sub: self.trail.len() as u32 };
        let old = self.now.remove(&key);
        let (created, version) =
            old.as_ref().map_or((self.revision, 0), |life| (life.created, life.version));
        self.now.insert(key.clone(), Life { value, at, created, version: version + 1 });
        self.trail.push(key);
        Ok(old.map(|life| life.at))
    }

    fn remove(&mut self, key: Bytes) {
        self.now.remove(&key);
        self.trail.push(key);
    }

    /// The keys of a range that existed before, and where there are more than may be looked at.
    fn first(&mut self, range: &KeyRange) -> (Vec<Bytes>, Option<Bytes>) {
        let mut found = Vec::new();
        for (key, &changed) in &self.before.changed {
            let exists = self.before.keys.contains_key(key);
            if !range.contains(key) || !exists && changed < self.before.compacted {
                continue;
            }
            if self.rows_left == 0 || exists && self.live_left == 0 {
                return (found, Some(key.clone()));
            }
            self.rows_left -= 1;
            if exists {
                self.live_left -= 1;
                found.push(key.clone());
            }
        }
        (found, None)
    }

    fn holds(&mut self, compare: &Compare) -> Result<bool, Outcome> {
        let keys = match &compare.over {
            Over::Key(key) => vec![key.clone()],
            Over::Range(range) => {
                let (found, more) = self.first(range);
                if more.is_some() {
                    return Err(Outcome::TooManyKeys);
                }
                found
            }
        };
        if let Test::UnchangedSince(since) = compare.test {
            let newer = |(key, at): (&Bytes, &u64)| compare.over.contains(key) && *at > since.0;
            return Ok(!self.before.changed.iter().any(newer));
        }
        Ok(keys.iter().all(|key| test(&compare.test, self.before.keys.get(key))))
    }
}

fn test(test: &Test, life: Option<&Life>) -> bool {
    let number = |relation: Relation, left: u64, right: u64| match relation {
        Relation::Eq => left == right,
        Relation::Ne => left != right,
        Relation::Lt => left < right,
        Relation::Le => left <= right,
        Relation::Gt => left > right,
        Relation::Ge => left >= right,
    };
    let (at, created, version) =
        life.map_or((0, 0, 0), |life| (life.at.revision.0, life.created, life.version));
    match test {
        Test::Value(relation, value) => life.is_some_and(|life| {
            let order = life.value.cmp(value) as i8;
            number(*relation, (order + 1) as u64, 1)
        }),
        Test::Version(relation, to) => number(*relation, version, *to),
        Test::CreateRevision(relation, to) => number(*relation, created, to.0),
        Test::ModRevision(relation, to) => number(*relation, at, to.0),
        Test::Lease(relation, to) => number(*relation, 0, *to),
        Test::Exists(exists) => life.is_some() == *exists,
        Test::OneOf(named) => named.iter().any(|one| life.is_some() && one.0 == at),
        Test::NoneOf(named) => !named.iter().any(|one| life.is_some() && one.0 == at),
        Test::UnchangedSince(_) => true,
    }
}
