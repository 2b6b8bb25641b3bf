//! What the answers tell of each key by revision, and what is certain of it in between. Apart from the rules, which ask for it.

use super::fates::{Fate, Fates};
use super::history::{Answer, Ask, Call, History, Need};
use super::operation::Moment;
use super::txn::{Came, Compare, Op, Txn};
use crate::kv::Revision;

/// Whether the call that tells of a state made it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Made {
    /// It did.
    Surely,
    /// It may have.
    Maybe,
    /// It only saw it.
    No,
}

/// What the key was at a revision: set by another, or absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) at: Revision,
    pub(super) state: Option<Revision>,
    pub(super) made: Made,
    /// The call that tells.
    pub(super) call: usize,
    /// The call by which that is known: the same unless nobody answered it.
    pub(super) witness: usize,
}

/// What is certain of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// Nothing.
    Nothing,
    /// That it exists.
    Present,
    /// What it is: set by a revision, or absent.
    Is(Option<Revision>),
}

/// All that is known of a key.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By revision.
    facts: Vec<Fact>,
    /// For each fact the newest change up to it that is certain, and the call that tells.
    changes: Vec<(Revision, [usize; 2])>,
    /// When the first deletion was called that nobody knows the outcome of.
    maybe_deleted: Option<Moment>,
    /// When the first such put was called.
    maybe_put: Option<Moment>,
}

/// Something, and the calls that tell it together.
pub(super) type Told<T> = (T, Vec<usize>);

/// Lays out what is known of every key.
pub(super) fn known(history: &History, fates: &Fates<'_>) -> Vec<Known> {
    let mut keys: Vec<Known> = (0..history.head.keys).map(|_| Known::default()).collect();
    for (call, one) in history.calls.iter().enumerate() {
        let touched = match &one.ask {
            Ask::Get { key } | Ask::Put { key, .. } | Ask::Delete { key, .. } => *key..key + 1,
            Ask::List { from, to } | Ask::Sweep { from, to } => *from..*to,
            Ask::Txn(txn) => {
                txn_facts(&mut keys, call, one, txn, fates);
                continue;
            }
        };
        for key in touched {
            if let Some(known) = keys.get_mut(key as usize) {
                known.take(call, one, key, fates);
            }
        }
    }
    for known in &mut keys {
        known.sort();
    }
    keys
}

fn txn_facts(keys: &mut [Known], call: usize, one: &Call, txn: &Txn, fates: &Fates<'_>) {
    if let Some(fate) = fates.get(call) {
        let mut carried = Carried { keys, call, txn, fate };
        carried.compares();
        carried.operations();
        return;
    }
    if one.answer != Answer::Unknown {
        return;
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        let known = op.changes().and_then(|key| keys.get_mut(key as usize));
        match (op, known) {
            (Op::Put { .. }, Some(known)) => first(&mut known.maybe_put, one.called),
            (Op::Delete { .. }, Some(known)) => first(&mut known.maybe_deleted, one.called),
            _ => {}
        }
    }
}

/// Notes the first of several moments.
fn first(moment: &mut Option<Moment>, called: Moment) {
    *moment = Some(moment.map_or(called, |first| first.min(called)));
}

/// A transaction of which it is known how it was carried out.
struct Carried<'a> {
    keys: &'a mut [Known],
    call: usize,
    txn: &'a Txn,
    fate: &'a Fate<'a>,
}

impl Carried<'_> {
    fn fact(&mut self, key: u32, at: Revision, state: Option<Revision>, made: Made) {
        let (call, witness) = (self.call, self.fate.witness);
        if let Some(known) = self.keys.get_mut(key as usize) {
            known.facts.push(Fact { at, state, made, call, witness });
        }
    }

    /// A state that it saw, which says, too, what was there when that was set.
    fn saw(&mut self, key: u32, at: Revision, state: Option<Revision>) {
        self.fact(key, at, state, Made::No);
        if let Some(set) = state {
            self.fact(key, set, Some(set), Made::No);
        }
    }

    /// What its compares say of single keys. Of those that failed only one alone says something.
    fn compares(&mut self) {
        let (before, succeeded) = (self.fate.before(), self.fate.succeeded);
        for compare in &self.txn.compares {
            match *compare {
                Compare::Revision { key, revision } if succeeded => {
                    self.saw(key, before, (revision.0 > 0).then_some(revision));
                }
                Compare::Exists { key, exists }
                    if exists != succeeded && (succeeded || self.txn.compares.len() == 1) =>
                {
                    self.saw(key, before, None);
                }
                _ => {}
            }
        }
    }

    fn operations(&mut self) {
        let Fate { at, succeeded, .. } = *self.fate;
        let before = self.fate.before();
        for (number, op) in self.txn.branch(succeeded).iter().enumerate() {
            let came = self.fate.came(number);
            match (*op, came) {
                (Op::Put { key, .. }, _) => self.fact(key, at, Some(at), Made::Surely),
                (Op::Delete { key }, Some(Came::Deleted { count: 0 })) => {
                    self.saw(key, before, None);
                    self.saw(key, at, None);
                }
                (Op::Delete { key }, came) => {
                    let made = if came.is_some() { Made::Surely } else { Made::Maybe };
                    self.fact(key, at, None, made);
                }
                (Op::Get { .. } | Op::List { .. }, Some(Came::Found { items })) => {
                    for key in op.keys() {
                        let item = items.iter().find(|item| item.key == key);
                        let as_of = self.fate.as_of(self.txn, number, key);
                        self.saw(key, as_of, item.map(|item| item.revision));
                    }
                }
                (Op::Get { .. } | Op::List { .. }, _) => {}
            }
        }
    }
}

impl Fact {
    /// The calls that tell.
    fn told(&self) -> Vec<usize> {
        vec![self.call, self.witness]
    }
}

impl Known {
    /// All facts, by revision.
    pub(super) fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// Whether a deletion of unknown outcome was called before that.
    pub(super) fn may_be_deleted(&self, told: Option<Moment>) -> bool {
        self.maybe_deleted.is_some_and(|called| Some(called) < told)
    }

    fn take(&mut self, call: usize, one: &Call, key: u32, fates: &Fates<'_>) {
        let mut fact = |at: Revision, state, made| {
            self.facts.push(Fact { at, state, made, call, witness: call });
        };
        let before =
            |fact: &mut dyn FnMut(Revision, Option<Revision>, Made), at: Revision, need| {
                let at = Revision(at.0.saturating_sub(1));
                match need {
                    Need::Nothing => {}
                    Need::Revision(required) => {
                        fact(at, Some(required), Made::No);
                        fact(required, Some(required), Made::No);
                    }
                    Need::Absent => fact(at, None, Made::No),
                }
            };
        match (&one.ask, &one.answer) {
            (Ask::Put { need, .. }, Answer::Put { revision, created }) => {
                before(&mut fact, *revision, *need);
                let created = if *created { Need::Absent } else { Need::Nothing };
                before(&mut fact, *revision, created);
                fact(*revision, Some(*revision), Made::Surely);
            }
            (ask, Answer::Deleted { revision: Some(revision), count }) => {
                if let (Ask::Delete { need, .. }, 1..) = (ask, count) {
                    before(&mut fact, *revision, *need);
                }
                let made = match (ask, *count) {
                    (_, 0) => Made::No,
                    (Ask::Sweep { from, to }, count) if count < u64::from(to - from) => Made::Maybe,
                    _ => Made::Surely,
                };
                fact(*revision, None, made);
            }
            (_, Answer::Found { revision, items }) => {
                let item = items.iter().find(|item| item.key == key);
                fact(*revision, item.map(|item| item.revision), Made::No);
                if let Some(item) = item {
                    fact(item.revision, Some(item.revision), Made::No);
                }
            }
            (_, Answer::ConditionFailed { current: Some(revision) }) => {
                fact(*revision, Some(*revision), Made::No);
            }
            (
                Ask::Delete { .. } | Ask::Sweep { .. },
                Answer::Unknown | Answer::Deleted { revision: None, count: 1.. },
            ) => first(&mut self.maybe_deleted, one.called),
            // One that was seen is no longer in doubt: that it was is a fact.
            (Ask::Put { value, .. }, Answer::Unknown) if !fates.is_seen(*value) => {
                first(&mut self.maybe_put, one.called);
            }
            _ => {}
        }
    }

    fn sort(&mut self) {
        self.facts.sort_by_key(|fact| (fact.at, fact.state, fact.made));
        let (mut newest, mut by) = (Revision(0), [0; 2]);
        for fact in &self.facts {
            let change = match (fact.state, fact.made) {
                (Some(set), _) => set,
                (None, Made::Surely) => fact.at,
                (None, Made::Maybe | Made::No) => Revision(0),
            };
            if change > newest {
                (newest, by) = (change, [fact.call, fact.witness]);
            }
            self.changes.push((newest, by));
        }
    }

    /// The last fact up to a revision.
    pub(super) fn last(&self, at: Revision) -> Option<Fact> {
        let end = self.facts.partition_point(|fact| fact.at <= at);
        end.checked_sub(1).map(|last| self.facts[last])
    }

    /// What it was at a revision, as far as that is certain to a call that returned then.
    pub(super) fn at(&self, at: Revision, returned: Moment) -> Told<Sure> {
        let begin = self.facts.partition_point(|fact| fact.at < at);
        let may = |called: Option<Moment>, by: Moment| called.is_some_and(|called| called < by);
        if let Some(next) = self.facts.get(begin) {
            let undoubted = match next.state {
                Some(set) => set <= at,
                // Nothing deleted it in between, so it was gone before.
                None => next.made == Made::No && !may(self.maybe_deleted, Moment::MAX),
            };
            if next.at == at || undoubted {
                return (Sure::Is(next.state), next.told());
            }
        }
        let last = begin.checked_sub(1).map(|last| self.facts[last]);
        let (put, deleted) = (may(self.maybe_put, returned), may(self.maybe_deleted, returned));
        let sure = match (last.and_then(|fact| fact.state), put, deleted) {
            (None, true, _) | (Some(_), _, true) => Sure::Nothing,
            (Some(_), true, false) => Sure::Present,
            (state, false, _) => Sure::Is(state),
        };
        (sure, last.map(|fact| fact.told()).unwrap_or_default())
    }

    /// Whether nothing changed it after the one revision up to the other, if that is certain.
    pub(super) fn unchanged(
        &self,
        since: Revision,
        at: Revision,
        returned: Moment,
    ) -> Told<Option<bool>> {
        if since >= at {
            return (Some(true), Vec::new());
        }
        let end = self.facts.partition_point(|fact| fact.at <= at);
        if let Some(&(newest, by)) = end.checked_sub(1).map(|last| &self.changes[last])
            && newest > since
        {
            return (Some(false), by.to_vec());
        }
        let (then, mut by) = self.at(since, returned);
        let (now, more) = self.at(at, returned);
        by.extend(more);
        let unchanged = match (then, now) {
            (Sure::Is(then), Sure::Is(now)) if then != now => Some(false),
            // Each put has its own revision, so nothing came in between.
            (Sure::Is(Some(_)), Sure::Is(_)) => Some(true),
            (Sure::Is(None), Sure::Is(_)) => {
                self.maybe_put.is_none_or(|called| called > returned).then_some(true)
            }
            _ => None,
        };
        (unchanged, by)
    }
}

impl Sure {
    /// Whether it exists, if that is certain.
    pub(super) fn exists(self) -> Option<bool> {
        match self {
            Sure::Nothing => None,
            Sure::Present => Some(true),
            Sure::Is(state) => Some(state.is_some()),
        }
    }
}
