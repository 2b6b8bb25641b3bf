//! The rules of revisions: the store's own numbers must give one order of everything, over all keys,
//! that agrees with what clients saw and when.

use std::collections::HashMap;

use super::history::{Answer, Ask, Call, History, Seen};
use super::judge::Violation;
use super::states;
use crate::kv::Revision;

/// Checks that
/// - what was seen before a call is never undone in its answer, and a change is later than all of it;
/// - no two changes have one revision, and a key's mod revision stands for one value, its put's;
/// - at each revision a key is in one state, and it changes only by what was written.
pub(super) fn check(history: &History) -> Result<(), Violation> {
    let calls = &history.calls;
    let floors = floors(calls)?;
    unique(calls)?;
    let puts = puts(calls);
    let mut names: HashMap<(u32, Revision), (u64, usize)> = HashMap::new();
    for (at, call) in calls.iter().enumerate() {
        let mut named = |key: u32, revision: Revision, value: u64| {
            let (first, by) = *names.entry((key, revision)).or_insert((value, at));
            if first == value {
                return Ok(());
            }
            let rule = format!("revision {revision} stands for two values, {first} and {value}");
            Err(Violation::of(Some(key), rule, vec![by, at]))
        };
        match (&call.ask, &call.answer) {
            (Ask::Put { key, value, .. }, Answer::Put { revision, .. }) => {
                named(*key, *revision, *value)?;
            }
            (_, Answer::Found { revision, items }) => {
                for item in items {
                    named(item.key, item.revision, item.value)?;
                    sight(item, at, *revision, &puts, calls, &floors)?;
                }
            }
            _ => {}
        }
    }
    states::check(history, &floors)
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

fn unique(calls: &[Call]) -> Result<(), Violation> {
    let mut changes = HashMap::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.answer.changed()) {
        let Some(revision) = call.answer.revision() else { continue };
        if let Some(other) = changes.insert(revision, at) {
            let rule = format!("two changes have revision {revision}");
            return Err(Violation::of(None, rule, vec![other, at]));
        }
    }
    Ok(())
}

/// Which call writes a value.
fn puts(calls: &[Call]) -> HashMap<u64, usize> {
    let puts = calls.iter().enumerate().filter_map(|(at, call)| match call.ask {
        Ask::Put { value, .. } => Some((value, at)),
        _ => None,
    });
    puts.collect()
}

/// A value that a read found is that of a put of the key, called before, with that revision.
fn sight(
    item: &Seen,
    at: usize,
    revision: Revision,
    puts: &HashMap<u64, usize>,
    calls: &[Call],
    floors: &[Revision],
) -> Result<(), Violation> {
    let wrong = |rule: String, window| Err(Violation::of(Some(item.key), rule, window));
    let Some(&put) = puts.get(&item.value) else {
        return wrong("a read found what nobody wrote".to_owned(), vec![at]);
    };
    if item.revision > revision {
        return wrong("a read found a value of the future".to_owned(), vec![at]);
    }
    if !calls[put].ask.touches(item.key) {
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
        Answer::Put { revision, .. } if *revision != item.revision => {
            wrong("a read found another revision than the put was told".to_owned(), vec![put, at])
        }
        Answer::ConditionFailed { .. } | Answer::Refused => {
            wrong("a read found a value that was refused".to_owned(), vec![put, at])
        }
        _ => Ok(()),
    }
}
