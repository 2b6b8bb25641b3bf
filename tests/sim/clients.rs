//! What clients ask and what they were answered, and whether the answers make sense together.

use std::collections::BTreeMap;

use bytes::Bytes;
use konsen::check::linear::{self, Verdict};
use konsen::check::operation::{Action, Expect, Moment, Operation, Outcome};
use konsen::kv::{
    self, Condition, KeyRange, Matcher, OpOutcome, Put, Reply, Revision, Single, TxnOutcome, Write,
};

use super::oracle::{Broken, ensure};
use super::random::Random;
use super::reference::Reference;
use super::txns::TxnAsk;

/// One call of a client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Names it for ever. It is the value that a put writes, too.
    pub(crate) request: u64,
    pub(crate) ask: Ask,
    pub(crate) called: Moment,
    pub(crate) answer: Option<(Moment, Answer)>,
    /// Whatever was seen by anybody before the call.
    floor: Revision,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Get {
        key: u64,
    },
    Put {
        key: u64,
        need: Need,
    },
    Delete {
        key: u64,
        need: Need,
    },
    /// The keys from one on, up to before another.
    Sweep {
        from: u64,
        to: u64,
    },
    /// Several keys at once.
    Txn(TxnAsk),
    /// Gives up the past before a revision.
    Compact {
        revision: Revision,
    },
}

/// A precondition as a client states it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    Nothing,
    Revision(Revision),
    Present,
    Absent,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Read {
        revision: Revision,
        item: Option<(u64, Revision)>,
    },
    Written(Reply),
    /// Certainly nothing happened.
    Refused,
}

pub(crate) fn key_name(key: u64) -> Bytes {
    Bytes::from(format!("key{key}"))
}

/// The key that has a name.
pub(crate) fn key_of(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.strip_prefix("key")?.parse().ok()
}

pub(crate) fn value_bytes(request: u64) -> Bytes {
    // Of many sizes, so that windows and pages fill in many ways.
    let mut bytes = request.to_le_bytes().to_vec();
    bytes.resize(8 + (request * 7919 % 97) as usize, b'.');
    bytes.into()
}

/// The request that wrote a value.
pub(crate) fn value_of(bytes: &[u8]) -> Option<u64> {
    let request = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (value_bytes(request) == bytes).then_some(request)
}

impl Ask {
    /// `compactions` of a thousand give up most of the past before `newest`.
    pub(crate) fn draw(
        random: &mut Random,
        keys: u64,
        seen: &BTreeMap<u64, Revision>,
        newest: Revision,
        compactions: u64,
    ) -> Ask {
        if random.chance(compactions) {
            // Now and then one that has to be refused.
            return match random.below(10) {
                0 => Ask::Compact { revision: Revision(random.below(2 * newest.0 + 2)) },
                _ => {
                    let most = random.range(1, 20);
                    let kept = random.below(most);
                    Ask::Compact { revision: Revision(newest.0.saturating_sub(kept)) }
                }
            };
        }
        let key = random.below(keys);
        let need = match (random.below(10), seen.get(&key)) {
            (0, _) => Need::Present,
            (1 | 2, _) => Need::Absent,
            (3..=5, Some(&revision)) => Need::Revision(revision),
            _ => Need::Nothing,
        };
        match random.below(100) {
            0..45 => Ask::Get { key },
            45..70 => Ask::Put { key, need },
            70..85 => Ask::Txn(TxnAsk::draw(random, keys, seen, newest)),
            85..95 => Ask::Delete { key, need },
            _ => {
                let from = random.below(keys);
                Ask::Sweep { from, to: random.range(from + 1, keys) }
            }
        }
    }

    /// The command; none for a read.
    pub(crate) fn write(&self, request: u64) -> Option<Write> {
        Some(match *self {
            Ask::Get { .. } => return None,
            Ask::Txn(ref txn) => txn.write(request),
            Ask::Put { key, need } => {
                Write::put_if(Put::new(key_name(key), value_bytes(request)), need.condition())
            }
            Ask::Delete { key, need } => Write::delete_if(key_name(key), need.condition()),
            // Few enough that some are refused, on all replicas or on none.
            Ask::Sweep { from, to } => Write::delete_range(
                KeyRange { start: key_name(from), end: Some(key_name(to)) },
                1 + request % 8,
            ),
            Ask::Compact { revision } => Write::Compact { revision },
        })
    }
}

impl Need {
    fn condition(self) -> Condition {
        match self {
            Need::Nothing => Condition::default(),
            Need::Revision(revision) => Condition {
                if_match: Some(Matcher::Revisions(vec![revision])),
                if_none_match: None,
            },
            Need::Present => Condition { if_match: Some(Matcher::Any), if_none_match: None },
            Need::Absent => Condition { if_match: None, if_none_match: Some(Matcher::Any) },
        }
    }
}

/// Everything that was asked and answered.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    now: Moment,
    seen: Revision,
    /// How many of the calls went to a cluster that was given up.
    before: usize,
    /// What was there before all others: for each key, the value and its revision.
    found: BTreeMap<u64, (u64, Revision)>,
}

impl History {
    fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A client calls; gives the request's name.
    pub(crate) fn call(&mut self, ask: Ask) -> u64 {
        let request = self.calls.len() as u64 + 1;
        let called = self.moment();
        self.calls.push(Call { request, ask, called, answer: None, floor: self.seen });
        request
    }

    /// What was asked so far counts no more; what is there now is where all begins.
    pub(crate) fn begin_anew(&mut self, keys: u64, reference: &Reference) {
        self.before = self.calls.len();
        self.seen = reference.revision();
        let value = |key| {
            let (value, revision) = reference.value_at(&key_name(key), self.seen)?;
            Some((key, (value_of(&value)?, revision)))
        };
        self.found = (0..keys).filter_map(value).collect();
    }

    /// Whether a request went to a cluster that was given up.
    pub(crate) fn is_of_before(&self, request: u64) -> bool {
        request <= self.before as u64
    }

    /// The newest revision that anybody has seen.
    pub(crate) fn newest(&self) -> Revision {
        self.seen
    }

    pub(crate) fn get(&self, request: u64) -> &Call {
        &self.calls[request as usize - 1]
    }

    /// An answer reaches the client. It is compared with what the committed log says.
    pub(crate) fn answer(
        &mut self,
        request: u64,
        answer: Answer,
        reference: &Reference,
    ) -> Result<(), Broken> {
        let moment = self.moment();
        let call = &mut self.calls[request as usize - 1];
        let floor = call.floor;
        let committed = reference.replies.get(&request);
        match &answer {
            Answer::Refused => {
                ensure!(committed.is_none(), "request {request} was refused and is committed");
            }
            Answer::Written(reply) => {
                let Some((index, expected)) = committed else {
                    return Err(Broken(format!("request {request} is answered, not committed")));
                };
                ensure!(
                    reply == expected,
                    "request {request} at {index} is answered {reply:?}, a replay says {expected:?}"
                );
                ensure!(
                    reply.revision >= floor,
                    "request {request} is answered revision {}, {floor} was seen before",
                    reply.revision
                );
                self.seen = self.seen.max(reply.revision);
            }
            Answer::Read { revision, item } => {
                ensure!(
                    *revision >= floor && *revision <= reference.revision(),
                    "request {request} reads at {revision}, {floor} was seen before, {} is committed",
                    reference.revision()
                );
                let Ask::Get { key } = call.ask else {
                    return Err(Broken(format!("request {request} is no read")));
                };
                let expected = reference.value_at(&key_name(key), *revision);
                let expected =
                    expected.map(|(value, revision)| (value_of(&value).unwrap_or(0), revision));
                ensure!(
                    *item == expected,
                    "request {request} reads {item:?} at {revision}, a replay has {expected:?}"
                );
                self.seen = self.seen.max(*revision);
            }
        }
        call.answer = Some((moment, answer));
        Ok(())
    }

    /// The judgement of those who see nothing but calls and answers.
    pub(crate) fn judge(&self, keys: u64, reference: &Reference) -> Result<u64, Broken> {
        for call in self.counted() {
            if let Some((_, Answer::Refused)) = call.answer {
                ensure!(
                    !reference.replies.contains_key(&call.request),
                    "request {} was refused and is committed",
                    call.request
                );
            }
        }
        let values = self.values()?;
        let mut checked = 0;
        for key in 0..keys {
            let found = self.found.get(&key).map(|&(value, revision)| {
                let outcome = Outcome::Done { existed: false };
                let action = Action::Put { value, expect: Expect::Anything, outcome };
                ((revision.0, false), Operation { called: 0, returned: Some(0), action })
            });
            let asked = self.counted().iter().filter_map(|call| {
                Some((place(call, reference), operation(call, key, &values, reference)?))
            });
            let (order, operations): (Vec<(u64, bool)>, Vec<Operation>) =
                found.into_iter().chain(asked).unzip();
            checked += operations.len() as u64;
            match linear::check_in_order(&operations, |at| order[at]) {
                Verdict::Linearizable => {}
                verdict => {
                    let mut lines = format!("the history of key{key}: {verdict:?}\n");
                    for one in &operations {
                        lines.push_str(&format!("    {one:?}\n"));
                    }
                    return Err(Broken(lines));
                }
            }
        }
        Ok(checked)
    }

    fn counted(&self) -> &[Call] {
        &self.calls[self.before..]
    }

    /// Which put a mod revision belongs to, as far as answers tell. It is always the same one.
    fn values(&self) -> Result<BTreeMap<Revision, u64>, Broken> {
        let mut values: BTreeMap<Revision, u64> =
            self.found.values().map(|&(value, revision)| (revision, value)).collect();
        for call in self.counted() {
            let named = match (&call.ask, &call.answer) {
                (_, Some((_, Answer::Read { item: Some((value, revision)), .. }))) => {
                    (*revision, *value)
                }
                (Ask::Put { .. }, Some((_, Answer::Written(reply))))
                    if matches!(reply.outcome.single(), Some(Single::Put { .. })) =>
                {
                    (reply.revision, call.request)
                }
                _ => continue,
            };
            let first = *values.entry(named.0).or_insert(named.1);
            ensure!(first == named.1, "revision {} is {first} and {}", named.0, named.1);
        }
        Ok(values)
    }
}

/// Where the committed log has a call: a good order to look for a witness in.
fn place(call: &Call, reference: &Reference) -> (u64, bool) {
    match (&call.answer, reference.replies.get(&call.request)) {
        // What changed the store comes before those who saw it so.
        (_, Some((_, reply))) => {
            let changes = match &reply.outcome {
                kv::Outcome::Txn(outcome) => changes(outcome),
                _ => false,
            };
            (reply.revision.0, !changes)
        }
        (Some((_, Answer::Read { revision, .. })), None) => (revision.0, true),
        _ => (u64::MAX, true),
    }
}

fn changes(outcome: &TxnOutcome) -> bool {
    outcome.results.iter().any(|result| match result {
        OpOutcome::Put { .. } => true,
        OpOutcome::Deleted { count, .. } => *count > 0,
        OpOutcome::Txn(nested) => changes(nested),
        OpOutcome::Got { .. } | OpOutcome::Range { .. } => false,
    })
}

/// What a call means for one key; none if nothing.
fn operation(
    call: &Call,
    key: u64,
    values: &BTreeMap<Revision, u64>,
    reference: &Reference,
) -> Option<Operation> {
    let expect = |need: Need| match need {
        Need::Nothing => Expect::Anything,
        // Clients only state revisions that they were answered.
        Need::Revision(revision) => Expect::Value(values.get(&revision).copied().unwrap_or(0)),
        Need::Present => Expect::Present,
        Need::Absent => Expect::Absent,
    };
    let answer = call.answer.as_ref().map(|(_, answer)| answer);
    if matches!(answer, Some(Answer::Refused)) {
        return None;
    }
    let returned = call.answer.as_ref().map(|(moment, _)| *moment);
    if let Ask::Txn(txn) = &call.ask {
        // Where no answer came, nobody but the log knows which branch was chosen.
        let (_, reply) = reference.replies.get(&call.request)?;
        let kv::Outcome::Txn(outcome) = &reply.outcome else { return None };
        let action = txn.action(call.request, key, outcome, returned.is_some())?;
        return Some(Operation { called: call.called, returned, action });
    }
    let outcome = match answer {
        Some(Answer::Written(reply)) => match reply.outcome.single() {
            Some(Single::Put { created }) => Outcome::Done { existed: !created },
            Some(Single::Deleted { count }) => Outcome::Done { existed: count > 0 },
            Some(Single::ConditionFailed { current: None }) => Outcome::FailedAbsent,
            Some(Single::ConditionFailed { current: Some(revision) }) => {
                Outcome::FailedPresent(values.get(&revision).copied())
            }
            _ => return None,
        },
        _ => Outcome::Unknown,
    };
    let action = match call.ask {
        Ask::Get { key: of } if of == key => match answer {
            Some(Answer::Read { item, .. }) => Action::Get { found: item.map(|(value, _)| value) },
            _ => return None,
        },
        Ask::Put { key: of, need } if of == key => {
            Action::Put { value: call.request, expect: expect(need), outcome }
        }
        Ask::Delete { key: of, need } if of == key => {
            Action::Delete { expect: expect(need), outcome }
        }
        Ask::Sweep { from, to } if (from..to).contains(&key) => Action::Sweep,
        _ => return None,
    };
    Some(Operation { called: call.called, returned, action })
}
