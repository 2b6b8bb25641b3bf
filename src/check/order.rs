//! The rules of revisions: the store's own numbers must give one order of everything, over all keys,
//! that agrees with what clients saw and when.

use std::collections::HashMap;

use super::fates::{Fate, Fates, Write, writes};
use super::history::{Answer, Ask, Call, History, Seen};
use super::judge::Violation;
use super::states;
use super::txn::Op;
use crate::kv::Revision;

/// Which value a key's mod revision stands for, as far as answers tell.
pub(super) type Values = HashMap<(u32, Revision), u64>;

/// The values by key and revision, and the calls that tell.
type Names = HashMap<(u32, Revision), (u64, usize)>;

/// What the answers tell of everything.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) values: Values,
    pub(super) fates: Fates<'a>,
}

/// Checks that
/// - what was seen before a call is never undone in its answer, and a change is later than all of it;
/// - no two changes have one revision, no change has two, and a key's mod revision stands for one value, its put's;
/// - at each revision a key is in one state, and it changes only by what was written;
/// - a transaction happened as a whole, and as its compares say.
pub(super) fn check(history: &History) -> Result<Order<'_>, Violation> {
    let calls = &history.calls;
    let floors = floors(calls)?;
    let mut changes = changes(calls)?;
    let writes = writes(calls);
    let mut names = Names::new();
    for (at, call) in calls.iter().enumerate() {
        match (&call.ask, &call.answer) {
            (Ask::Put { key, value, .. }, Answer::Put { revision, .. }) => {
                name(&mut names, *key, *revision, *value, at)?;
            }
            (_, Answer::Found { revision, items }) => {
                for item in items {
                    name(&mut names, item.key, item.revision, item.value, at)?;
                    sight(item, at, *revision, &writes, calls, &floors)?;
                }
            }
            _ => txn(&mut names, at, call, &writes, calls, &floors)?,
        }
    }
    let fates = Fates::of(calls, &writes)?;
    gather(&mut names, calls, &fates)?;
    // In their order, so that a history is judged the same each time.
    let mut named: Vec<_> = names.iter().map(|((key, at), named)| (*at, *key, *named)).collect();
    named.sort_unstable();
    let mut shown = HashMap::new();
    for (revision, key, (value, by)) in named {
        if let Some(write) = writes.get(&value) {
            let (first, other) = *shown.entry(value).or_insert((revision, by));
            if first != revision {
                let rule = format!("a put shows at two revisions, {first} and {revision}");
                return Err(Violation::of(Some(key), rule, vec![write.call, other, by]));
            }
            one_change(&mut changes, revision, write.call, by, key)?;
        }
    }
    states::check(history, &floors, &fates)?;
    let values = names.into_iter().map(|(place, (value, _))| (place, value)).collect();
    Ok(Order { values, fates })
}

/// Notes what a key's mod revision stands for.
fn name(
    names: &mut Names,
    key: u32,
    revision: Revision,
    value: u64,
    at: usize,
) -> Result<(), Violation> {
    let (first, by) = *names.entry((key, revision)).or_insert((value, at));
    if first == value {
        return Ok(());
    }
    let rule = format!("revision {revision} stands for two values, {first} and {value}");
    Err(Violation::of(Some(key), rule, vec![by, at]))
}

/// Notes what an answered transaction put, and looks at what it read.
fn txn(
    names: &mut Names,
    at: usize,
    call: &Call,
    writes: &HashMap<u64, Write>,
    calls: &[Call],
    floors: &[Revision],
) -> Result<(), Violation> {
    let (Ask::Txn(txn), Some(fate)) = (&call.ask, Fate::told(at, &call.answer)) else {
        return Ok(());
    };
    for (number, op) in txn.branch(fate.succeeded).iter().enumerate() {
        if let Op::Put { key, value } = *op {
            name(names, key, fate.at, value, at)?;
        }
        for item in fate.came(number).into_iter().flat_map(|came| came.items()) {
            name(names, item.key, item.revision, item.value, at)?;
            let as_of = fate.as_of(txn, number, item.key);
            sight(item, at, as_of, writes, calls, floors)?;
        }
    }
    Ok(())
}

/// Notes what else a transaction put that nobody answered and of which something was seen.
fn gather(names: &mut Names, calls: &[Call], fates: &Fates<'_>) -> Result<(), Violation> {
    for (at, call) in calls.iter().enumerate() {
        let (Ask::Txn(txn), Answer::Unknown) = (&call.ask, &call.answer) else { continue };
        let Some(fate) = fates.get(at) else { continue };
        for put in txn.puts().filter(|put| put.in_then == fate.succeeded) {
            name(names, put.key, fate.at, put.value, at)?;
        }
    }
    Ok(())
}

/// For each call the newest revision that anybody had seen before it.
fn floors(calls: &[Call]) -> Result<Vec<Revision>, Violation> {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
    for (at, call) in calls.iter().enumerate() {
        events.push((call.called, true, at));
        events.extend(call.returned.map(|returned| (returned, false, at)));
    }
    events.sort_unstable();
    let mut floors = vec![Revision(0); calls.len()];
    let mut from = vec![0; calls.len()];
    let (mut newest, mut by) = (Revision(0), 0);
    for (_, begins, at) in events {
        if begins {
            floors[at] = newest;
            from[at] = by;
            continue;
        }
        let answer = &calls[at].answer;
        let Some(revision) = answer.revision() else { continue };
        let floor = floors[at];
        if revision < floor || (answer.changed() && revision == floor) {
            let rule = if answer.changed() {
                format!("a change of revision {revision} began after revision {floor} was seen")
            } else {
                format!("the revision went back from {floor} to {revision}")
            };
            return Err(Violation::of(None, rule, vec![from[at], at]));
        }
        if revision > newest {
            (newest, by) = (revision, at);
        }
    }
    Ok(floors)
}

/// The change of each revision, as far as its client was told.
fn changes(calls: &[Call]) -> Result<HashMap<Revision, usize>, Violation> {
    let mut changes = HashMap::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.answer.changed()) {
        let Some(revision) = call.answer.revision() else { continue };
        if let Some(other) = changes.insert(revision, at) {
            let rule = format!("two changes have revision {revision}");
            return Err(Violation::of(None, rule, vec![other, at]));
        }
    }
    Ok(changes)
}

/// A revision has one change, also if only reads, such as `by`, tell of it.
fn one_change(
    changes: &mut HashMap<Revision, usize>,
    revision: Revision,
    call: usize,
    by: usize,
    key: u32,
) -> Result<(), Violation> {
    let other = *changes.entry(revision).or_insert(call);
    if other == call {
        return Ok(());
    }
    let rule = format!("two changes have revision {revision}");
    Err(Violation::of(Some(key), rule, vec![other, call, by]))
}

/// A value that a read found is that of a put of the key, called before, with that revision.
fn sight(
    item: &Seen,
    at: usize,
    as_of: Revision,
    writes: &HashMap<u64, Write>,
    calls: &[Call],
    floors: &[Revision],
) -> Result<(), Violation> {
    let wrong = |rule: String, window| Err(Violation::of(Some(item.key), rule, window));
    let Some(&Write { call: put, key, in_then }) = writes.get(&item.value) else {
        return wrong("a read found what nobody wrote".to_owned(), vec![at]);
    };
    if item.revision > as_of {
        return wrong("a read found a value of the future".to_owned(), vec![at]);
    }
    if key != item.key {
        return wrong("a read found the value of another key".to_owned(), vec![put, at]);
    }
    if item.revision <= floors[put] {
        let rule = format!(
            "a put has revision {}, and {} was seen before it was called",
            item.revision, floors[put]
        );
        return wrong(rule, vec![put, at]);
    }
    match &calls[put].answer {
        Answer::Txn { succeeded, .. } if in_then != Some(*succeeded) => {
            let rule = "a read found a value of the branch that was not carried out";
            wrong(rule.to_owned(), vec![put, at])
        }
        Answer::Put { revision, .. } | Answer::Txn { revision, .. }
            if *revision != item.revision =>
        {
            wrong("a read found another revision than the put was told".to_owned(), vec![put, at])
        }
        Answer::ConditionFailed { .. } | Answer::Refused => {
            wrong("a read found a value that was refused".to_owned(), vec![put, at])
        }
        _ => Ok(()),
    }
}
