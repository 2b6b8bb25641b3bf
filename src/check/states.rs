//! What each key was at each revision, laid side by side.

use super::history::{Answer, Ask, Call, History, Need};
use super::judge::Violation;
use super::operation::Moment;
use crate::kv::Revision;

/// What the key was at a revision: set by another, or absent.
#[derive(Clone, Copy, Debug)]
struct Fact {
    at: Revision,
    state: Option<Revision>,
    /// Whether the call that tells may have made it so.
    made: bool,
    /// The call that tells.
    call: usize,
}

/// All that is known of a key.
#[derive(Debug, Default)]
struct Known {
    /// By revision.
    facts: Vec<Fact>,
    /// When the first deletion was called that nobody knows the outcome of.
    maybe_deleted: Option<Moment>,
    /// When the first such put was called.
    maybe_put: Option<Moment>,
}

/// Checks that at each revision a key is in one state, that it changes only by what was written, that
/// a condition failed against what was not long gone, and that a deletion of many keys found as many
/// as there were. `floors` are the newest revisions that were seen before each call.
pub(super) fn check(history: &History, floors: &[Revision]) -> Result<(), Violation> {
    let calls = &history.calls;
    let keys: Vec<Known> = (0..history.head.keys).map(|key| Known::of(calls, key)).collect();
    for (key, known) in (0..).zip(&keys) {
        known.check(calls, key)?;
    }
    for (at, call) in calls.iter().enumerate() {
        if let (Ask::Put { key, .. } | Ask::Delete { key, .. }, Answer::ConditionFailed { current }) =
            (&call.ask, &call.answer)
            && let Some(known) = keys.get(*key as usize)
        {
            known.condition(at, *current, floors[at], *key)?;
        }
    }
    calls.iter().enumerate().try_for_each(|(at, call)| count(&keys, at, call))
}

impl Known {
    fn of(calls: &[Call], key: u32) -> Known {
        let mut known = Known::default();
        for (call, one) in calls.iter().enumerate().filter(|(_, one)| one.ask.touches(key)) {
            known.take(call, one, key);
        }
        known.facts.sort_by_key(|fact| (fact.at, fact.state, !fact.made));
        known
    }

    fn take(&mut self, call: usize, one: &Call, key: u32) {
        let made = one.answer.changed();
        let mut fact = |at: Revision, state| {
            let made = made && one.answer.revision() == Some(at);
            self.facts.push(Fact { at, state, made, call });
        };
        let mut before = |revision: Revision, need| {
            let at = Revision(revision.0.saturating_sub(1));
            match need {
                Need::Nothing => {}
                Need::Revision(required) => {
                    fact(at, Some(required));
                    fact(required, Some(required));
                }
                Need::Absent => fact(at, None),
            }
        };
        match (&one.ask, &one.answer) {
            (Ask::Put { need, .. }, Answer::Put { revision, created }) => {
                before(*revision, *need);
                before(*revision, if *created { Need::Absent } else { Need::Nothing });
                fact(*revision, Some(*revision));
            }
            (ask, Answer::Deleted { revision: Some(revision), count }) => {
                if let (Ask::Delete { need, .. }, 1..) = (ask, count) {
                    before(*revision, *need);
                }
                fact(*revision, None);
            }
            (_, Answer::Found { revision, items }) => {
                let item = items.iter().find(|item| item.key == key);
                fact(*revision, item.map(|item| item.revision));
                if let Some(item) = item {
                    fact(item.revision, Some(item.revision));
                }
            }
            (_, Answer::ConditionFailed { current: Some(revision) }) => {
                fact(*revision, Some(*revision));
            }
            (Ask::Delete { .. } | Ask::Sweep { .. }, Answer::Unknown) => {
                let first = self.maybe_deleted.get_or_insert(one.called);
                *first = one.called.min(*first);
            }
            (Ask::Put { .. }, Answer::Unknown) => {
                let first = self.maybe_put.get_or_insert(one.called);
                *first = one.called.min(*first);
            }
            _ => {}
        }
    }

    fn check(&self, calls: &[Call], key: u32) -> Result<(), Violation> {
        for pair in self.facts.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            let deleted = || {
                let told = calls[second.call].returned;
                let maybe = self.maybe_deleted.is_some_and(|called| Some(called) < told);
                second.at > first.at && (second.made || maybe)
            };
            let possible = match second.state {
                Some(set) => Some(set) == first.state || set > first.at,
                None => first.state.is_none() || deleted(),
            };
            if !possible {
                let state = |fact: Fact| match fact.state {
                    Some(set) => format!("set by revision {set}"),
                    None => "absent".to_owned(),
                };
                let rule = format!(
                    "at revision {} it is {}, at revision {} it is {}, and nothing in between \
                     explains it",
                    first.at,
                    state(first),
                    second.at,
                    state(second)
                );
                return Err(Violation::of(Some(key), rule, vec![first.call, second.call]));
            }
        }
        Ok(())
    }

    /// The key's state that a condition failed against was in force at some time during the call.
    fn condition(
        &self,
        call: usize,
        current: Option<Revision>,
        floor: Revision,
        key: u32,
    ) -> Result<(), Violation> {
        let Some(current) = current else { return Ok(()) };
        let end = self.facts.partition_point(|fact| fact.at <= floor);
        match end.checked_sub(1).map(|at| self.facts[at]) {
            Some(fact) if fact.at >= current && fact.state != Some(current) => {
                let rule = format!(
                    "a condition failed against revision {current}, which was gone at revision {}, and \
                     that was seen before the call",
                    fact.at
                );
                Err(Violation::of(Some(key), rule, vec![fact.call, call]))
            }
            _ => Ok(()),
        }
    }

    /// What it was just before a revision, as far as it is certain to a call that returned then:
    /// whether it existed, and the call that tells.
    fn before(&self, revision: Revision, returned: Moment) -> Option<(bool, Option<usize>)> {
        let end = self.facts.partition_point(|fact| fact.at < revision);
        let fact = end.checked_sub(1).map(|at| self.facts[at]);
        let exists = fact.is_some_and(|fact| fact.state.is_some());
        let doubt = if exists { self.maybe_deleted } else { self.maybe_put };
        let certain = doubt.is_none_or(|called| called > returned);
        certain.then(|| (exists, fact.map(|fact| fact.call)))
    }
}

/// A deletion of many keys found all that certainly existed, and none that certainly did not.
fn count(keys: &[Known], at: usize, call: &Call) -> Result<(), Violation> {
    let (Ask::Sweep { from, to }, Some(returned)) = (&call.ask, call.returned) else {
        return Ok(());
    };
    let &Answer::Deleted { revision: Some(revision), count: found @ 1.. } = &call.answer else {
        return Ok(());
    };
    let (mut least, mut most, mut window) = (0, 0, Vec::new());
    for known in &keys[*from as usize..*to as usize] {
        match known.before(revision, returned) {
            None => most += 1,
            Some((exists, by)) => {
                least += u64::from(exists);
                most += u64::from(exists);
                window.extend(by);
            }
        }
    }
    if (least..=most).contains(&found) {
        return Ok(());
    }
    window.push(at);
    let keys = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let rule = format!("a deletion of many keys found {found}, there were {keys}");
    Err(Violation::of(None, rule, window))
}
