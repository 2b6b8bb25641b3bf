//! The power fails at every operation of a script, and the log holds what it acknowledged.

use redb::StorageBackend as _;

use super::*;
use crate::raft::{
    ClusterId, Entry, HardState, Index, LogId, LogWrite, Membership, NodeId, Payload, Seq, Term,
};
use crate::store::error::StoreError;
use crate::store::test_disk::{Disk, Fault, Journal, Keeps, Power, open_log as open, subsets_of};

/// Entries of different sizes; some larger than a page.
fn entry(term: u64, index: u64) -> Entry {
    let size = usize::try_from(index % 4 * 700 + index % 7 * 900).unwrap();
    let payload = if index.is_multiple_of(5) {
        Payload::Membership(membership(term * 1000 + index))
    } else {
        Payload::Command(format!("{term}/{index}/{}", "x".repeat(size)).into())
    };
    Entry { id: LogId::new(Term(term), Index(index)), payload }
}

fn membership(number: u64) -> Membership {
    let voters = [NodeId(number)].into();
    Membership { cluster: ClusterId(number), members: [].into(), voters, outgoing: None }
}

enum Step {
    Append(Vec<LogWrite>),
    Compact(LogId),
}

fn write(term: u64, truncate: bool, indexes: std::ops::RangeInclusive<u64>) -> LogWrite {
    let commit = Index(indexes.start().saturating_sub(1));
    LogWrite {
        seq: Seq(term),
        hard_state: Some(HardState { term: Term(term), vote: Some(NodeId(term)), commit }),
        truncate_from: truncate.then_some(Index(*indexes.start())),
        entries: indexes.map(|index| entry(term, index)).collect(),
        ..LogWrite::default()
    }
}

fn script() -> Vec<Step> {
    let vote = HardState { term: Term(2), vote: None, commit: Index(4) };
    let vote = LogWrite { seq: Seq(9), hard_state: Some(vote), ..LogWrite::default() };
    vec![
        Step::Append(vec![write(1, false, 1..=6)]),
        Step::Append(vec![vote]),
        Step::Append(vec![write(2, true, 5..=9), write(2, false, 10..=12)]),
        Step::Append(vec![write(3, true, 11..=11)]),
        Step::Compact(LogId::new(Term(2), Index(7))),
        Step::Append(vec![write(3, false, 12..=20)]),
        Step::Append(vec![write(4, true, 12..=13), write(5, true, 13..=16)]),
        Step::Compact(LogId::new(Term(5), Index(16))),
        Step::Append(vec![write(5, false, 17..=18)]),
    ]
}

fn run(log: &mut Log, step: &Step) -> Result<(), StoreError> {
    match step {
        Step::Append(writes) => log.append(writes),
        Step::Compact(to) => {
            log.compact_to(*to)?;
            log.append(&[LogWrite::default()])
        }
    }
}

/// What a log holds, all of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState,
    base: LogId,
    entries: Vec<Entry>,
    memberships: Vec<(Index, Membership)>,
}

impl Model {
    fn after(&self, step: &Step) -> Model {
        let mut next = self.clone();
        match step {
            Step::Append(writes) => {
                for write in writes {
                    if let Some((last, membership)) = &write.reset {
                        next.base = *last;
                        next.entries.clear();
                        next.memberships = vec![(last.index, membership.clone())];
                    }
                    if let Some(from) = write.truncate_from {
                        next.entries.retain(|entry| entry.id.index < from);
                        next.memberships.retain(|(index, _)| *index < from);
                    }
                    for entry in &write.entries {
                        if let Payload::Membership(membership) = &entry.payload {
                            next.memberships.push((entry.id.index, membership.clone()));
                        }
                        next.entries.push(entry.clone());
                    }
                    next.hard_state = write.hard_state.unwrap_or(next.hard_state);
                }
            }
            Step::Compact(to) => {
                next.base = *to;
                next.entries.retain(|entry| entry.id.index > to.index);
                let newest = next.memberships.iter().rposition(|(index, _)| *index <= to.index);
                next.memberships.drain(..newest.unwrap_or(0));
            }
        }
        next
    }

    /// What a log may hold while it takes a step, change by change.
    fn during(&self, step: &Step) -> Vec<Model> {
        let mut all = vec![self.clone()];
        let mut add = |write: LogWrite| {
            let next = all[all.len() - 1].after(&Step::Append(vec![write]));
            all.push(next);
        };
        if let Step::Append(writes) = step {
            let newest = writes.iter().rev().find_map(|write| write.hard_state);
            let term = newest.map(|newest| HardState { commit: self.hard_state.commit, ..newest });
            add(LogWrite { hard_state: term, ..LogWrite::default() });
            for LogWrite { reset, truncate_from, entries, .. } in writes.clone() {
                add(LogWrite { reset, ..LogWrite::default() });
                add(LogWrite { truncate_from, ..LogWrite::default() });
                for entry in entries {
                    add(LogWrite { entries: vec![entry], ..LogWrite::default() });
                }
            }
        }
        let whole = self.after(step);
        all.push(whole);
        all
    }

    /// Whether a log that was opened anew holds this: entries that were not needed any more may be there again.
    fn is_in(&self, found: &Model) -> bool {
        found.base.index <= self.base.index && found.after(&Step::Compact(self.base)) == *self
    }

    fn of(log: &Log, found: &RecoveredLog) -> Model {
        let (first, last) = (found.base.index.next(), found.last);
        let reader = log.reader();
        Model {
            hard_state: found.hard_state,
            base: found.base,
            entries: if first > last {
                Vec::new()
            } else {
                reader.read(first, last, usize::MAX).unwrap()
            },
            memberships: reader.memberships().unwrap(),
        }
    }
}

/// A step of which some may be there already.
fn again(step: &Step) -> Step {
    let replaces = |write: &LogWrite| {
        let first = write.entries.first().map(|entry| entry.id.index);
        LogWrite { truncate_from: write.truncate_from.or(first), ..write.clone() }
    };
    match step {
        Step::Append(writes) => Step::Append(writes.iter().map(replaces).collect()),
        Step::Compact(to) => Step::Compact(*to),
    }
}

/// What was acknowledged is there, and of the next step as much as was written.
#[track_caller]
fn assert_during(models: &[Model], script: &[Step], acknowledged: usize, holds: &Model, at: &str) {
    let before = &models[acknowledged];
    let allowed = match script.get(acknowledged) {
        Some(step) => before.during(step),
        None => vec![before.clone()],
    };
    assert!(allowed.iter().any(|model| model.is_in(holds)), "{at}: {holds:#?}");
}

#[test]
fn what_is_acknowledged_survives_a_power_loss_at_any_operation() {
    let script = script();
    let mut models = vec![Model::default()];
    for step in &script {
        models.push(models[models.len() - 1].after(step));
    }
    let mut crashes = 0;
    for operation in 1.. {
        // A file that was never made whole is made anew; see `files`.
        let power = Power::default();
        let disk = Disk::new(&power);
        drop(open(&disk).unwrap());
        power.fail(Fault::StopAt(power.operations() + operation));
        let mut acknowledged = 0;
        let finished = (|| {
            let (mut log, _) = open(&disk)?;
            for step in &script {
                run(&mut log, step)?;
                acknowledged += 1;
            }
            Ok::<_, StoreError>(())
        })();
        for keeps in Keeps::all(operation) {
            let at = format!("operation {operation}, {keeps:?}, {acknowledged} acknowledged");
            let disk = disk.after_power_loss(keeps);
            let (mut log, found) = open(&disk).unwrap_or_else(|error| panic!("{at}: {error}"));
            let holds = Model::of(&log, &found);
            assert_during(&models, &script, acknowledged, &holds, &at);
            found.into_recovered(&log.reader(), holds.base).unwrap();
            // And it goes on from there, with what was not acknowledged once more.
            for step in &script[acknowledged..] {
                run(&mut log, &again(step)).unwrap();
            }
            drop(log);
            let (log, found) = open(&disk).unwrap();
            let last = models.last().unwrap();
            assert!(last.is_in(&Model::of(&log, &found)), "{at}");
            crashes += 1;
        }
        if finished.is_ok() {
            break;
        }
    }
    assert!(crashes > 100, "{crashes}");
    eprintln!("{crashes} crashes");
}

/// What a node in a troubled cluster does to its log.
struct Life {
    random: u64,
    term: u64,
    base: u64,
    commit: u64,
    /// The term of each entry, from index 0 on.
    terms: Vec<u64>,
}

impl Life {
    fn draw(&mut self, below: u64) -> u64 {
        const STEP: u64 = 6_364_136_223_846_793_005;
        self.random = self.random.wrapping_mul(STEP).wrapping_add(1);
        (self.random >> 33) % below
    }

    fn next(&self) -> u64 {
        self.terms.len() as u64
    }

    fn append(&mut self, from: u64, count: u64) -> LogWrite {
        let truncate = from < self.next();
        self.terms.truncate(usize::try_from(from).unwrap());
        self.terms.extend((0..count).map(|_| self.term));
        self.commit = from - 1;
        write(self.term, truncate, from..=from + count - 1)
    }

    fn step(&mut self) -> Step {
        let uncommitted = self.next() - 1 - self.commit;
        let count = 1 + self.draw(3);
        match self.draw(12) {
            0 | 1 if uncommitted > 0 => {
                self.term += 1;
                let from = self.next() - 1 - self.draw(uncommitted);
                Step::Append(vec![self.append(from, count)])
            }
            2 => Step::Append(vec![self.append(self.next(), count), self.append(self.next(), 1)]),
            3 => {
                self.term += 1;
                let (term, vote) = (Term(self.term), Some(NodeId(3)));
                let state = HardState { term, vote, commit: Index(self.commit) };
                let (seq, hard_state) = (Seq(self.term), Some(state));
                Step::Append(vec![LogWrite { seq, hard_state, ..LogWrite::default() }])
            }
            4 if self.commit > self.base => {
                self.base += 1 + self.draw(self.commit - self.base);
                let term = self.terms[usize::try_from(self.base).unwrap()];
                Step::Compact(LogId::new(Term(term), Index(self.base)))
            }
            5 => {
                // A snapshot that goes beyond the log, or into it.
                let last = (self.commit + 1 + self.draw(6)).max(self.base + 1);
                self.term += 1;
                self.terms = vec![self.term; usize::try_from(last + 1).unwrap()];
                (self.base, self.commit) = (last, last);
                let reset = Some((LogId::new(Term(self.term), Index(last)), membership(last)));
                let hard_state =
                    Some(HardState { term: Term(self.term), vote: None, commit: Index(last) });
                let after = self.append(self.next(), count);
                Step::Append(vec![LogWrite { reset, hard_state, ..LogWrite::default() }, after])
            }
            _ => Step::Append(vec![self.append(self.next(), count)]),
        }
    }
}

#[test]
fn every_crash_point_of_a_long_life_leaves_what_was_acknowledged() {
    let mut life = Life { random: 7, term: 1, base: 0, commit: 0, terms: vec![0] };
    let script: Vec<Step> = (0..200).map(|_| life.step()).collect();
    let mut models = vec![Model::default()];
    for step in &script {
        models.push(models[models.len() - 1].after(step));
    }
    let journal = Journal::default();
    let (mut log, _) = open(&Disk::recorded(&journal)).unwrap();
    // After how many operations the file was made, and each step acknowledged.
    let mut ends = vec![journal.len()];
    for step in &script {
        run(&mut log, step).unwrap();
        ends.push(journal.len());
    }
    let acknowledged = |operations| ends.partition_point(|end| *end <= operations);
    let mut losses = 0;
    journal.power_losses(subsets_of(), acknowledged, |loss| {
        // A file that was never made whole is made anew; see `files`.
        let Some(acknowledged) = acknowledged(loss.operations).checked_sub(1) else { return };
        let at = format!("after operation {}, {acknowledged} acknowledged", loss.operations);
        let found = open(&Disk::holding(loss.bytes));
        let (log, found) = found.unwrap_or_else(|error| panic!("{at}: {error}"));
        let holds = Model::of(&log, &found);
        assert_during(&models, &script, acknowledged, &holds, &at);
        losses += 1;
    });
    eprintln!("{} operations, {losses} losses of power", journal.len());
    assert!(losses > 1_000, "{losses}");
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let power = Power::default();
    let disk = Disk::new(&power);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, false, 1..=6)]).unwrap();
    power.fail(Fault::FullFrom(0));
    let refused = log.append(&[write(1, false, 7..=90)]).unwrap_err();
    assert!(matches!(refused, StoreError::DiskFull { what: "log" }), "{refused}");
    drop(log);
    for keeps in Keeps::all(7) {
        let (log, found) = open(&disk.after_power_loss(keeps)).unwrap();
        assert_eq!(found.last, Index(6));
        assert_eq!(log.reader().read(Index(1), Index(6), usize::MAX).unwrap().len(), 6);
    }
}

#[test]
fn nothing_is_reported_as_durable_after_a_sync_failed() {
    let power = Power::default();
    let disk = Disk::new(&power);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, false, 1..=2)]).unwrap();
    power.fail(Fault::SyncAt(0));
    assert!(log.append(&[write(1, false, 3..=4)]).is_err());
    // The disk syncs again, but what the first try left is unknown: the kernel may have dropped it.
    assert!(log.append(&[write(1, false, 5..=6)]).is_err());
    let (log, found) = open(&disk.after_power_loss(Keeps::None)).unwrap();
    assert_eq!(found.last, Index(2));
    drop(log);
}

#[test]
fn the_thread_tells_of_a_failed_sync_once_and_of_nothing_after_it() {
    use crate::store::{LogEvent, LogWriter};
    let power = Power::default();
    let (log, _) = open(&Disk::new(&power)).unwrap();
    let (sender, events) = std::sync::mpsc::channel();
    let writer =
        LogWriter::spawn(log, crate::store::disk::space::tests::boundless(), move |event| {
            sender.send(event).unwrap()
        })
        .unwrap();
    writer.submit(LogWrite { seq: Seq(1), ..write(1, false, 1..=2) });
    assert!(matches!(events.recv().unwrap(), LogEvent::Persisted { seq: Seq(1) }));
    power.fail(Fault::SyncAt(0));
    writer.submit(LogWrite { seq: Seq(2), ..write(1, false, 3..=4) });
    assert!(matches!(events.recv().unwrap(), LogEvent::Failed(_)));
    writer.submit(LogWrite { seq: Seq(3), ..write(1, false, 5..=6) });
    writer.stop();
    assert!(events.recv().is_err());
}

#[test]
fn a_read_stops_where_it_is_told_and_misses_nothing() {
    let (mut log, _) = open(&Disk::default()).unwrap();
    log.append(&[write(1, false, 1..=12)]).unwrap();
    run(&mut log, &Step::Compact(LogId::new(Term(1), Index(3)))).unwrap();
    let reader = log.reader();
    let read = |from, to, bytes| {
        let entries = reader.read(Index(from), Index(to), bytes);
        entries.map(|entries| entries.iter().map(|entry| entry.id.index.0).collect::<Vec<_>>())
    };
    assert_eq!(read(4, 6, usize::MAX).unwrap(), [4, 5, 6]);
    assert_eq!(read(12, 12, usize::MAX).unwrap(), [12]);
    assert_eq!(read(4, 12, 0).unwrap(), [4], "at least one, however large");
    let two = entry(1, 4).cost_bytes() + 1;
    assert_eq!(read(4, 12, two).unwrap(), [4, 5], "up to the one that reaches the bound");
    assert!(read(3, 6, usize::MAX).is_err(), "compacted");
    assert!(read(12, 13, usize::MAX).is_err(), "past the end");
    assert!(read(13, 13, usize::MAX).is_err());
    assert!(read(6, 5, usize::MAX).unwrap().is_empty());
}

#[test]
fn a_write_that_reaches_below_the_log_is_refused() {
    let (mut log, _) = open(&Disk::default()).unwrap();
    log.append(&[write(1, false, 1..=9)]).unwrap();
    run(&mut log, &Step::Compact(LogId::new(Term(1), Index(5)))).unwrap();
    let refused = log.append(&[write(2, true, 5..=6)]).unwrap_err().to_string();
    assert!(refused.contains('5'), "{refused}");
}

#[test]
fn a_compaction_to_another_history_is_refused() {
    let (mut log, _) = open(&Disk::default()).unwrap();
    log.append(&[write(1, false, 1..=9)]).unwrap();
    assert!(log.compact_to(LogId::new(Term(2), Index(5))).is_err());
    assert!(log.reader().read(Index(1), Index(9), usize::MAX).is_ok());
}

/// The disk after the power failed at `operation` of the script, and how many steps were acknowledged.
fn interrupted(script: &[Step], operation: u64) -> (Disk, usize) {
    let power = Power::default();
    let disk = Disk::new(&power);
    drop(open(&disk).unwrap());
    power.fail(Fault::StopAt(power.operations() + operation));
    let mut acknowledged = 0;
    if let Ok((mut log, _)) = open(&disk) {
        acknowledged = script.iter().take_while(|step| run(&mut log, step).is_ok()).count();
    }
    (disk, acknowledged)
}

#[test]
fn a_second_power_loss_during_the_repair_takes_nothing_either() {
    let script = script();
    let mut models = vec![Model::default()];
    for step in &script {
        models.push(models[models.len() - 1].after(step));
    }
    let mut repairs_cut = 0;
    // Repairs are much alike: not every operation needs its own.
    for operation in (1..).step_by(4) {
        let (disk, acknowledged) = interrupted(&script, operation);
        let left = disk.after_power_loss(Keeps::Random(operation)).bytes();
        for second in 1.. {
            let power = Power::default();
            let disk = Disk::new(&power);
            disk.set_len(left.len() as u64).unwrap();
            disk.write(0, &left).unwrap();
            disk.sync_data().unwrap();
            power.fail(Fault::StopAt(power.operations() + second));
            let repaired = open(&disk);
            let at = format!("operation {operation}, then {second} of the repair");
            let whole = repaired.is_ok();
            drop(repaired);
            let disk = disk.after_power_loss(Keeps::Random(second));
            let (log, found) = open(&disk).unwrap_or_else(|error| panic!("{at}: {error}"));
            let holds = Model::of(&log, &found);
            assert_during(&models, &script, acknowledged, &holds, &at);
            if whole {
                break;
            }
            repairs_cut += 1;
        }
        if acknowledged == script.len() {
            break;
        }
    }
    assert!(repairs_cut > 50, "{repairs_cut}");
}

#[test]
fn a_process_that_dies_loses_nothing_whether_or_not_the_power_goes_too() {
    let disk = Disk::default();
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    for step in &script() {
        run(&mut log, step).unwrap();
        model = model.after(step);
        // The log is still open: what is opened here was never closed.
        for keeps in [Keeps::All, Keeps::None] {
            let (other, found) = open(&disk.after_power_loss(keeps)).unwrap();
            assert!(model.is_in(&Model::of(&other, &found)));
        }
    }
}
