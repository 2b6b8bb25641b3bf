//! Mistakes in what a write comes to: one state, driven by hand, against the text of the rules, and against what is read at
//! the places that a transaction names.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use konsen::kv::{
    self, Command, Compare, Counters, Header, KeyRange, Op, OpOutcome, Outcome, Over, Put,
    RangeQuery, Reply, Revision, RowId, Test, Txn, TxnOutcome, Write,
};
use konsen::raft::{Entry, LogId, Payload, Term};
use konsen::store::{Pin, State, StateOptions};
use redb::backends::InMemoryBackend;

use super::clients::{key_name, value_bytes};
use super::direct::Check;
use super::naive::{Naive, Pairs};
use super::oracle::{Broken, ensure};
use super::random::Random;
use super::txns::TxnAsk;

/// The checks that find a mistake which runs of a cluster find late or never, by its name.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("ComparesSeeOwnChanges", writes_come_to_what_the_rules_say),
    ("UnchangedIgnoresDeletions", writes_come_to_what_the_rules_say),
    ("KeepsNothing", writes_come_to_what_the_rules_say),
    ("BoundOneMore", writes_come_to_what_the_rules_say),
    ("NothingIsARevision", writes_come_to_what_the_rules_say),
    ("LaterRangesUnseen", writes_come_to_what_the_rules_say),
    ("RangeReadTooEarly", writes_come_to_what_the_rules_say),
    ("DeletionForgottenEarly", writes_come_to_what_the_rules_say),
    ("PinIgnored", writes_come_to_what_the_rules_say),
    ("DeletionUnseenLater", a_deletion_is_seen_once_its_key_is_set_again),
    ("JumpTooFar", the_past_is_what_it_was),
    ("ClockGoesBack", the_clock_never_goes_back),
];

const KEYS: u64 = 6;

struct Bench {
    state: Arc<State>,
    naive: Naive,
    random: Random,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let options = StateOptions { sweep_rows: 4, ..StateOptions::default() };
        let state = State::open_backend(InMemoryBackend::new(), &options);
        Bench {
            // The memory is sound.
            state: Arc::new(state.expect("an empty state")),
            naive: Naive::default(),
            random: Random::new(seed),
        }
    }

    fn write(&mut self, number: u64) -> Write {
        let newest = self.state.revision();
        let key = key_name(self.random.below(KEYS));
        match self.random.below(12) {
            0 => Write::put(key, value_bytes(number)),
            1 => Write::delete(key),
            2 => {
                Write::Compact { revision: Revision(newest.0.saturating_sub(self.random.below(6))) }
            }
            3 => Write::DeleteStep {
                range: KeyRange { start: key, end: None },
                keys_max: self.random.below(4),
            },
            _ => {
                let seen = (0..KEYS).filter_map(|key| {
                    let found = self.state.mod_revision(&key_name(key));
                    Some((key, found.ok()?.1?))
                });
                let seen: BTreeMap<u64, Revision> = seen.collect();
                TxnAsk::draw(&mut self.random, KEYS, &seen, newest).keeping().write(number)
            }
        }
    }

    /// Applies writes in one go, and puts all away that may go; the replies.
    fn apply(&self, writes: &[Write]) -> Vec<Reply> {
        let next = self.state.applied().index.next();
        let entry = |(number, write): (u64, &Write)| {
            let header = Header { clock_ms: next.0 + number, ..Header::default() };
            let command = Command { header, write: write.clone() };
            let id = LogId::new(Term(1), konsen::raft::Index(next.0 + number));
            Entry { id, payload: Payload::Command(command.encode()) }
        };
        let entries: Vec<Entry> = (0..).zip(writes).map(entry).collect();
        let mut rest = &entries[..];
        let mut replies = Vec::new();
        while !rest.is_empty() {
            let applied = self.state.apply(rest).expect("the memory is sound");
            rest = &rest[applied.len()..];
            replies.extend(applied.into_iter().filter_map(|one| one.reply));
        }
        replies
    }

    fn sweep(&self) {
        while let Some(frozen) = self.state.freeze() {
            self.state.write_checkpoint(frozen).expect("the memory is sound");
        }
    }
}

fn writes_come_to_what_the_rules_say() -> Result<(), Broken> {
    for seed in 0..60 {
        let mut bench = Bench::new(seed);
        for number in 1..60 {
            let pin = bench.state.pin();
            let write = bench.write(number);
            // A compaction right behind it, now and then, and all that may go is gone before anybody reads.
            let compaction = Write::Compact { revision: Revision(bench.state.revision().0 + 1) };
            let writes = match bench.random.chance(200) {
                true => vec![write, compaction],
                false => vec![write],
            };
            let replies = bench.apply(&writes);
            if bench.random.chance(300) || writes.len() > 1 {
                bench.sweep();
            }
            for (write, reply) in writes.iter().zip(&replies) {
                let expected = bench.naive.apply(None, write, reply)?;
                if let (Write::Txn { txn, keys_max }, Outcome::Txn(outcome)) =
                    (write, &reply.outcome)
                {
                    compares_hold_as_before(&bench, &pin, txn, *keys_max, outcome.succeeded)?;
                    let mut seen = Vec::new();
                    see(&pin, reply.revision, txn, outcome, &mut seen)?;
                    ensure!(
                        seen == expected,
                        "seed {seed}: of {write:?} was read {seen:?}, there was {expected:?}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Asked once more of the revision that it was carried out on, now that keys are others: as for what only reads.
fn compares_hold_as_before(
    bench: &Bench,
    pin: &Pin,
    txn: &Txn,
    keys_max: u64,
    held: bool,
) -> Result<(), Broken> {
    let compares = txn.compares.clone();
    let asked = Txn { compares, ..Txn::default() };
    let compacted = bench.state.compacted().min(pin.revision());
    let counters = Counters { revision: pin.revision(), compacted, ..Counters::default() };
    let stop = || false;
    let reply = kv::evaluate(&pin.rows(&stop), &counters, asked, keys_max)
        .map_err(|error| Broken(format!("it cannot be evaluated: {error}")))?;
    let now = match &reply.outcome {
        Outcome::Txn(outcome) => outcome.succeeded == held,
        // What was compacted right behind it.
        Outcome::CompactedAlready { .. } => true,
        _ => false,
    };
    ensure!(now, "as of {} the compares of {txn:?} come to {reply:?}", pin.revision());
    Ok(())
}

/// What each operation had before it, read as whoever serves the client does.
fn see(
    pin: &Pin,
    revision: Revision,
    txn: &Txn,
    outcome: &TxnOutcome,
    seen: &mut Vec<Pairs>,
) -> Result<(), Broken> {
    let broken = |error: konsen::store::ReadError| Broken(format!("it cannot be read: {error}"));
    let item = |id: Option<RowId>| match id.map(|id| pin.item(id)).transpose() {
        Ok(item) => Ok(item.flatten().map(|item| (item.key, item.value)).into_iter().collect()),
        Err(error) => Err(broken(error)),
    };
    let branch = if outcome.succeeded { &txn.then } else { &txn.otherwise };
    for (op, result) in branch.iter().zip(&outcome.results) {
        seen.push(match (op, result) {
            (Op::Txn(nested), OpOutcome::Txn(outcome)) => {
                see(pin, revision, nested, outcome, seen)?;
                continue;
            }
            (Op::Put(Put { .. }), OpOutcome::Put { previous }) => item(*previous)?,
            (Op::Get(_), OpOutcome::Got { newest }) => item(*newest)?,
            (Op::Delete(_), OpOutcome::Deleted { count, first }) => {
                let ids = (0..*count as u32).map(|at| RowId { revision, sub: first + at });
                let deleted = ids.map(|id| pin.deleted(id).map_err(broken));
                let deleted = deleted.collect::<Result<Vec<_>, _>>()?;
                deleted.into_iter().flatten().map(|item| (item.key, item.value)).collect()
            }
            (Op::Get(Over::Range(range)), OpOutcome::Range { before }) => {
                let query = RangeQuery {
                    range: range.clone(),
                    at: None,
                    descending: false,
                    keys_only: false,
                    items_max: 100,
                    bytes_max: 1 << 20,
                };
                let mut read = pin.range(query, *before);
                let page = loop {
                    if let Some(page) = read.step(pin.state(), &mut || true).map_err(broken)? {
                        break page;
                    }
                };
                page.items.into_iter().map(|item| (item.key, item.value)).collect()
            }
            other => return Err(Broken(format!("{other:?} do not belong together"))),
        });
    }
    Ok(())
}

/// Whatever the distance: a read steps over changes without looking at them.
fn the_past_is_what_it_was() -> Result<(), Broken> {
    let bench = Bench::new(1);
    let mut was = vec![None];
    for number in 2..400 {
        let write = match number % 7 {
            0 => Write::delete(key_name(0)),
            _ => Write::put(key_name(0), value_bytes(number)),
        };
        bench.apply(&[write]);
        was.push((number % 7 != 0).then(|| value_bytes(number)));
        if number % 50 == 0 {
            bench.sweep();
        }
    }
    for (at, was) in (1..).zip(was) {
        let found = bench.state.get(&key_name(0), Some(Revision(at)));
        let found = found.map_err(|error| Broken(error.to_string()))?.1.map(|item| item.value);
        ensure!(found == was, "at {at} it is {found:?}, it was {was:?}");
    }
    Ok(())
}

fn the_clock_never_goes_back() -> Result<(), Broken> {
    let bench = Bench::new(1);
    let at = |index: u64, clock_ms| {
        let header = Header { clock_ms, ..Header::default() };
        let command = Command { header, write: Write::delete(Bytes::from_static(b"a")) };
        let id = LogId::new(Term(1), konsen::raft::Index(index));
        let entry = Entry { id, payload: Payload::Command(command.encode()) };
        bench.state.apply(&[entry]).expect("the memory is sound");
        bench.state.clock_ms()
    };
    let clocks = [at(1, 500), at(2, 400), at(3, 600)];
    ensure!(clocks == [500, 500, 600], "commands of 500, 400 and 600 ms make it {clocks:?}");
    Ok(())
}

/// As of a revision at which the key was gone.
fn a_deletion_is_seen_once_its_key_is_set_again() -> Result<(), Broken> {
    let bench = Bench::new(1);
    let put = || Write::put(key_name(0), value_bytes(1));
    bench.apply(&[put(), Write::delete(key_name(0))]);
    let pin = bench.state.pin();
    bench.apply(&[put()]);
    let since = Revision(pin.revision().0 - 1);
    let compares =
        vec![Compare { over: Over::Key(key_name(0)), test: Test::UnchangedSince(since) }];
    let txn = Txn { compares, ..Txn::default() };
    compares_hold_as_before(&bench, &pin, &txn, 9, false)
}
