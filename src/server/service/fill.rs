//! What a transaction is to give back beside what replicas tell of it: previous values, keys and ranges, read where it was
//! applied, and the result made of all.

use std::collections::VecDeque;

use crate::api::{
    PAGE_BYTES_MAX, PAGE_ITEMS_MAX, TxnDone, TxnOp, TxnRequest, TxnResult, item_bytes,
};
use crate::kv::{Item, OpOutcome, Over, RangeQuery, Revision, RowId, TxnOutcome};
use crate::store::{Pin, RangeRead, ReadError, State};

/// Reads for one transaction, a row or a slice of a range at a time.
pub(super) struct Fill {
    request: TxnRequest,
    outcome: TxnOutcome,
    /// The store's revision after the transaction.
    revision: Revision,
    /// What was not read yet, one for each operation that was carried out, in order.
    wanted: VecDeque<Wanted>,
    /// What was read, likewise.
    found: Vec<Found>,
    /// What of the first of `wanted` was read.
    current: Found,
    /// The range that is being read.
    range: Option<RangeRead>,
    /// The bytes of the JSON of all that was read.
    bytes: usize,
}

/// What is to be read for an operation.
enum Wanted {
    Nothing,
    /// What a change made of its key.
    Item(RowId, KeysOnly),
    /// What was deleted by so many changes, from this one on.
    Deleted(RowId, u64),
    /// A range as it was right before a change.
    Range(RangeQuery, RowId),
}

/// Whether values are left out.
type KeysOnly = bool;

/// What was read for an operation.
#[derive(Default)]
struct Found {
    items: Vec<Item>,
    more: bool,
}

impl Fill {
    /// Nothing is read yet.
    pub(super) fn new(request: TxnRequest, outcome: TxnOutcome, revision: Revision) -> Fill {
        let mut wanted = VecDeque::new();
        let ops = branch(&request, outcome.succeeded);
        want(ops, &outcome.results, revision, &mut wanted);
        Fill {
            request,
            outcome,
            revision,
            wanted,
            found: Vec::new(),
            current: Found::default(),
            range: None,
            bytes: 0,
        }
    }

    /// Whether there is nothing to read.
    pub(super) fn is_filled(&self) -> bool {
        self.wanted.iter().all(|wanted| matches!(wanted, Wanted::Nothing | Wanted::Deleted(_, 0)))
    }

    /// Goes on until all is read, or `pause`, which is asked after every row, says so; none if it is to go on.
    pub(super) fn step(
        &mut self,
        state: &State,
        pin: &Pin,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<Option<TxnDone>, ReadError> {
        while let Some(wanted) = self.wanted.front_mut() {
            let more = match wanted {
                Wanted::Nothing | Wanted::Deleted(_, 0) => false,
                // What comes first is there, what does not fit is missing.
                _ if self.bytes >= PAGE_BYTES_MAX => true,
                Wanted::Item(id, keys_only) => {
                    let item = pin.item(*id)?;
                    let keys_only = *keys_only;
                    self.add(item, keys_only);
                    if pause() {
                        self.next(false);
                        return Ok(None);
                    }
                    false
                }
                Wanted::Deleted(..) if self.current.items.len() >= PAGE_ITEMS_MAX => true,
                Wanted::Deleted(id, left) => {
                    let item = pin.deleted(*id)?;
                    id.sub += 1;
                    *left -= 1;
                    self.add(item, false);
                    if pause() {
                        return Ok(None);
                    }
                    continue;
                }
                Wanted::Range(query, before) => {
                    query.bytes_max = PAGE_BYTES_MAX - self.bytes;
                    let begin = || pin.range(query.clone(), *before);
                    let range = self.range.get_or_insert_with(begin);
                    let Some(page) = range.step(state, pause)? else { return Ok(None) };
                    let (keys_only, mut more) = (query.keys_only, page.rest.is_some());
                    self.range = None;
                    for item in page.items {
                        // Escapes make the JSON longer than what it says.
                        if self.bytes >= PAGE_BYTES_MAX {
                            more = true;
                            break;
                        }
                        self.add(Some(item), keys_only);
                    }
                    more
                }
            };
            self.next(more);
        }
        Ok(Some(self.done(None)))
    }

    fn add(&mut self, item: Option<Item>, keys_only: KeysOnly) {
        let Some(mut item) = item else { return };
        if keys_only {
            (item.value, item.content_type) = Default::default();
        }
        self.bytes += item_bytes(&item, keys_only);
        self.current.items.push(item);
    }

    fn next(&mut self, more: bool) {
        self.wanted.pop_front();
        let found = std::mem::take(&mut self.current);
        self.found.push(Found { more, ..found });
    }

    /// What the transaction came to, without anything that was to be read, for the reason given if something was.
    pub(super) fn unread(mut self, why: Option<String>) -> TxnDone {
        let nothing = |wanted: &Wanted| Found {
            items: Vec::new(),
            more: !matches!(wanted, Wanted::Nothing | Wanted::Deleted(_, 0)),
        };
        self.found = self.wanted.iter().map(nothing).collect();
        self.done(why)
    }

    fn done(&mut self, unread: Option<String>) -> TxnDone {
        let ops = branch(&self.request, self.outcome.succeeded);
        let mut found = std::mem::take(&mut self.found).into_iter();
        TxnDone {
            succeeded: self.outcome.succeeded,
            revision: self.revision,
            unread,
            results: results(ops, &self.outcome.results, &mut found),
        }
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[TxnOp] {
    if succeeded { &request.then } else { &request.otherwise }
}

/// Adds what is to be read for each operation.
fn want(ops: &[TxnOp], results: &[OpOutcome], revision: Revision, wanted: &mut VecDeque<Wanted>) {
    for (op, result) in ops.iter().zip(results) {
        wanted.push_back(match (op, result) {
            (TxnOp::Put { previous: true, .. }, OpOutcome::Put { previous: Some(id) }) => {
                Wanted::Item(*id, false)
            }
            (TxnOp::Delete { previous: true, .. }, OpOutcome::Deleted { count, first }) => {
                Wanted::Deleted(RowId { revision, sub: *first }, *count)
            }
            (TxnOp::Get { keys_only, .. }, OpOutcome::Got { newest: Some(id) }) => {
                Wanted::Item(*id, *keys_only)
            }
            (
                TxnOp::Get { over: Over::Range(range), limit, keys_only },
                OpOutcome::Range { before },
            ) => {
                let query = RangeQuery {
                    range: range.clone(),
                    at: None,
                    descending: false,
                    keys_only: *keys_only,
                    items_max: limit.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX),
                    bytes_max: PAGE_BYTES_MAX,
                };
                Wanted::Range(query, *before)
            }
            (TxnOp::Txn(request), OpOutcome::Txn(outcome)) => {
                let ops = branch(request, outcome.succeeded);
                want(ops, &outcome.results, revision, wanted);
                continue;
            }
            _ => Wanted::Nothing,
        });
    }
}

/// What each operation came to, with what was read for it.
fn results(
    ops: &[TxnOp],
    outcomes: &[OpOutcome],
    found: &mut impl Iterator<Item = Found>,
) -> Vec<TxnResult> {
    let result = |(op, outcome): (&TxnOp, &OpOutcome)| {
        if let (TxnOp::Txn(request), OpOutcome::Txn(outcome)) = (op, outcome) {
            let ops = branch(request, outcome.succeeded);
            let results = results(ops, &outcome.results, &mut *found);
            return TxnResult::Txn { succeeded: outcome.succeeded, results };
        }
        let Found { mut items, more } = found.next().unwrap_or_default();
        match (op, outcome) {
            (TxnOp::Put { .. }, _) => TxnResult::Put { previous: items.pop(), more },
            (TxnOp::Delete { previous, .. }, outcome) => {
                let deleted = match outcome {
                    OpOutcome::Deleted { count, .. } => *count,
                    _ => 0,
                };
                TxnResult::Delete { deleted, previous: previous.then_some(items), more }
            }
            (TxnOp::Get { keys_only, .. }, _) => {
                TxnResult::Get { items, keys_only: *keys_only, more }
            }
            // Replicas tell of each operation what it is, so this never is.
            (TxnOp::Txn(_), _) => TxnResult::Txn { succeeded: false, results: Vec::new() },
        }
    };
    ops.iter().zip(outcomes).map(result).collect()
}
