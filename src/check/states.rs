//! What each key was at each revision, laid side by side.

use super::compares;
use super::facts::{self, Fact, Known, Made};
use super::fates::Fates;
use super::history::{Answer, Ask, Call, History};
use super::judge::Violation;
use crate::kv::Revision;

/// Checks that at each revision a key is in one state, that it changes only by what was written, that
/// a condition failed against what was not long gone, that a deletion of many keys found as many
/// as there were, and that transactions did what their compares say. `floors` are the newest revisions that were seen
/// before each call.
pub(super) fn check(
    history: &History,
    floors: &[Revision],
    fates: &Fates<'_>,
) -> Result<(), Violation> {
    let calls = &history.calls;
    let keys = facts::known(history, fates);
    for (key, known) in (0..).zip(&keys) {
        for fact in known.facts() {
            no_future(fact, key)?;
        }
        for pair in known.facts().windows(2) {
            follows(known, pair[0], pair[1], calls, key)?;
        }
    }
    for (at, call) in calls.iter().enumerate() {
        if let (Ask::Put { key, .. } | Ask::Delete { key, .. }, Answer::ConditionFailed { current }) =
            (&call.ask, &call.answer)
            && let Some(known) = keys.get(*key as usize)
        {
            condition(known, at, *current, floors[at], *key)?;
        }
    }
    calls.iter().enumerate().try_for_each(|(at, call)| count(&keys, at, call))?;
    compares::check(calls, &keys, fates)
}

fn shown(state: Option<Revision>) -> String {
    match state {
        Some(set) => format!("set by revision {set}"),
        None => "absent".to_owned(),
    }
}

/// Nothing is there before it is set.
fn no_future(fact: &Fact, key: u32) -> Result<(), Violation> {
    if fact.state.is_none_or(|set| set <= fact.at) {
        return Ok(());
    }
    let rule = format!("at revision {} it is {}, which is later", fact.at, shown(fact.state));
    Err(Violation::of(Some(key), rule, vec![fact.call, fact.witness]))
}

/// The second fact can come after the first with nothing else in between.
fn follows(
    known: &Known,
    first: Fact,
    second: Fact,
    calls: &[Call],
    key: u32,
) -> Result<(), Violation> {
    let deleted = || {
        let maybe = known.may_be_deleted(calls[second.witness].returned);
        second.at > first.at && (second.made != Made::No || maybe)
    };
    let possible = match second.state {
        Some(set) => Some(set) == first.state || set > first.at,
        None => first.state.is_none() || deleted(),
    };
    if possible {
        return Ok(());
    }
    let rule = format!(
        "at revision {} it is {}, at revision {} it is {}, and nothing in between explains it",
        first.at,
        shown(first.state),
        second.at,
        shown(second.state)
    );
    let window = vec![first.call, first.witness, second.call, second.witness];
    Err(Violation::of(Some(key), rule, window))
}

/// The key's state that a condition failed against was in force at some time during the call.
fn condition(
    known: &Known,
    call: usize,
    current: Option<Revision>,
    floor: Revision,
    key: u32,
) -> Result<(), Violation> {
    let Some(current) = current else { return Ok(()) };
    match known.last(floor) {
        Some(fact) if fact.at >= current && fact.state != Some(current) => {
            let rule = format!(
                "a condition failed against revision {current}, which was gone at revision {}, and \
                 that was seen before the call",
                fact.at
            );
            Err(Violation::of(Some(key), rule, vec![fact.call, fact.witness, call]))
        }
        _ => Ok(()),
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
    let before = Revision(revision.0.saturating_sub(1));
    let (mut least, mut most, mut window) = (0, 0, Vec::new());
    for known in &keys[*from as usize..*to as usize] {
        let (sure, by) = known.at(before, returned);
        match sure.exists() {
            None => most += 1,
            Some(exists) => {
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
