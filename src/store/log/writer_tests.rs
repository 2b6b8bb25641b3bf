use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::raft::{ClusterId, Entry, HardState, Index, LogId, Membership, NodeId, Payload, Term};
use crate::store::disk::space::tests::{Small, boundless};
use crate::store::test_disk::{Disk, Fault, Power, open_log};

fn write(seq: u64) -> LogWrite {
    let id = LogId::new(Term(1), Index(seq));
    let entries = vec![Entry { id, payload: Payload::Noop }];
    LogWrite { seq: Seq(seq), entries, ..LogWrite::default() }
}

/// One that the write-ahead log has no room for.
fn large(seq: u64) -> LogWrite {
    let id = LogId::new(Term(1), Index(seq));
    let entries = vec![Entry { id, payload: Payload::Command(vec![0; 1 << 20].into()) }];
    LogWrite { seq: Seq(seq), entries, ..LogWrite::default() }
}

fn open(disk: &Disk) -> Log {
    open_log(disk).unwrap().0
}

fn spawn(log: Log) -> (LogWriter, Receiver<LogEvent>) {
    let (sender, events) = mpsc::channel();
    let writer =
        LogWriter::spawn(log, boundless(), move |event| sender.send(event).unwrap()).unwrap();
    (writer, events)
}

fn persisted(event: LogEvent) -> u64 {
    let LogEvent::Persisted { seq } = event else { panic!("{event:?}") };
    seq.0
}

fn failure(event: LogEvent) -> StoreError {
    let LogEvent::Failed(error) = event else { panic!("{event:?}") };
    error
}

#[test]
fn writes_are_reported_in_order_and_the_last_ones_before_the_end() {
    let disk = Disk::default();
    let (writer, events) = spawn(open(&disk));
    for seq in 1..=100 {
        writer.submit(write(seq));
    }
    writer.stop();
    assert_eq!(writer.busy_for(), Duration::ZERO);
    let seqs: Vec<u64> = events.iter().map(persisted).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert_eq!(seqs.last(), Some(&100));
    let log = open(&disk);
    assert_eq!(log.reader().read(Index(1), Index(100), usize::MAX).unwrap().len(), 100);
}

#[test]
fn large_writes_go_one_commit_after_the_other() {
    let large = |seq, bytes: u64| {
        let payload = Payload::Command(vec![0; usize::try_from(bytes).unwrap()].into());
        let entries = vec![Entry { id: LogId::new(Term(1), Index(seq)), payload }];
        LogWrite { seq: Seq(seq), entries, ..LogWrite::default() }
    };
    let third = COMMIT_BYTES_MAX / 3;
    let writes = [large(1, third), large(2, third), large(3, third), write(4)];
    assert_eq!(fitting(&writes), 2);
    assert_eq!(fitting(&writes[2..]), 2);
    assert_eq!(fitting(&[large(1, COMMIT_BYTES_MAX), write(2)]), 1, "one goes however large");
    assert_eq!(fitting(&[]), 0);
}

#[test]
fn a_stop_closes_the_file_although_there_are_readers_and_drops_what_comes_later() {
    let disk = Disk::default();
    let log = open(&disk);
    let reader = log.reader();
    let (writer, _events) = spawn(log);
    writer.submit(write(1));
    writer.stop();
    assert!(reader.last().is_err());
    writer.submit(write(2));
    assert!(writer.shared.queue.lock().waiting.is_empty());
    writer.stop();
    assert_eq!(open(&disk).reader().last().unwrap(), Index(1));
}

#[test]
fn what_comes_during_a_commit_goes_into_the_next_one_together() {
    let (sender, events) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    // The thread is held in its first report, until everything else waits.
    let tell = move |event| {
        sender.send(event).unwrap();
        let _ = held.recv();
    };
    let writer = LogWriter::spawn(open(&Disk::default()), boundless(), tell).unwrap();
    writer.submit(write(1));
    assert_eq!(persisted(events.recv().unwrap()), 1);
    assert!(writer.busy_for() > Duration::ZERO);
    for seq in 2..=50 {
        writer.submit(write(seq));
    }
    drop(release);
    assert_eq!(persisted(events.recv().unwrap()), 50);
    writer.stop();
    assert!(events.recv().is_err(), "one report for all of them");
}

#[test]
fn a_full_disk_is_told_as_such_and_once() {
    let power = Power::default();
    let (writer, events) = spawn(open(&Disk::new(&power)));
    power.fail(Fault::FullFrom(0));
    writer.submit(write(1));
    assert!(matches!(failure(events.recv().unwrap()), StoreError::DiskFull { .. }));
    writer.submit(write(2));
    assert!(writer.shared.queue.lock().waiting.is_empty());
    drop(writer);
    assert!(events.recv().is_err());
}

#[test]
fn a_gap_is_refused_and_nothing_is_written_after_it() {
    let disk = Disk::default();
    let (writer, events) = spawn(open(&disk));
    writer.submit(write(2));
    assert!(matches!(failure(events.recv().unwrap()), StoreError::Damaged { .. }));
    writer.submit(write(1));
    drop(writer);
    assert!(events.recv().is_err());
    assert_eq!(open(&disk).reader().last().unwrap(), Index(0));
}

#[test]
fn a_panic_in_a_commit_is_told_as_a_failure() {
    let power = Power::default();
    let (writer, events) = spawn(open(&Disk::new(&power)));
    power.fail(Fault::PanicAt(0));
    writer.submit(write(1));
    let error = failure(events.recv().unwrap()).to_string();
    assert!(error.contains("panicked"), "{error}");
    writer.submit(write(2));
    writer.stop();
    assert!(events.recv().is_err());
}

#[test]
fn what_a_checkpoint_covers_goes_with_the_next_write_and_is_told() {
    let disk = Disk::default();
    let (writer, events) = spawn(open(&disk));
    for seq in 1..=10 {
        writer.submit(write(seq));
    }
    while persisted(events.recv().unwrap()) < 10 {}
    writer.compact_to(LogId::new(Term(1), Index(8)));
    writer.submit(write(11));
    assert_eq!(persisted(events.recv().unwrap()), 11);
    let LogEvent::Compacted { last } = events.recv().unwrap() else { panic!("not told") };
    assert_eq!(last, LogId::new(Term(1), Index(8)));
    writer.stop();
    let log = open(&disk);
    // What went is gone for good once its slot is settled.
    assert!(log.base().index <= last.index);
    assert_eq!(log.reader().read(Index(9), Index(11), usize::MAX).unwrap().len(), 3);
}

#[test]
fn what_a_checkpoint_covers_waits_for_the_writes_before_it() {
    // The state is a snapshot's, and the log, which has another entry there, has yet to follow it.
    let small = Small::new(1016 << 20);
    let space = small.space(64 << 20);
    let (sender, events) = mpsc::channel();
    let tell = move |event| sender.send(event).unwrap();
    let writer = LogWriter::spawn(open(&Disk::default()), space, tell).unwrap();
    writer.submit(write(1));
    writer.submit(write(2));
    while persisted(events.recv().unwrap()) < 2 {}
    // What comes now has to wait for room, so that all of it is there when the thread goes on.
    small.fill(1000 << 20);
    let payload = Payload::Command(vec![0; 10 << 20].into());
    let entries = vec![Entry { id: LogId::new(Term(1), Index(3)), payload }];
    writer.submit(LogWrite { seq: Seq(3), entries, ..LogWrite::default() });
    let last = LogId::new(Term(3), Index(2));
    let cluster = ClusterId(1);
    let members =
        Membership { cluster, members: [].into(), voters: [NodeId(1)].into(), outgoing: None };
    let reset = Some((last, members));
    writer.submit(LogWrite { seq: Seq(4), reset, ..LogWrite::default() });
    writer.compact_to(last);
    let entries = vec![Entry { id: LogId::new(Term(3), Index(3)), payload: Payload::Noop }];
    writer.submit(LogWrite { seq: Seq(5), entries, ..LogWrite::default() });
    small.fill(0);
    while persisted(events.recv().unwrap()) < 5 {}
}

#[test]
fn a_commit_without_room_waits_and_a_vote_goes_on() {
    const MIB: usize = 1 << 20;
    let small = Small::new(1016 << 20);
    let space = small.space(64 << 20);
    let (sender, events) = mpsc::channel();
    let tell = move |event| sender.send(event).unwrap();
    let writer = LogWriter::spawn(open(&Disk::default()), space, tell).unwrap();
    small.fill(1000 << 20);
    let hard_state = Some(HardState { term: Term(1), ..HardState::default() });
    writer.submit(LogWrite { seq: Seq(1), hard_state, ..LogWrite::default() });
    assert_eq!(persisted(events.recv().unwrap()), 1);
    let payload = Payload::Command(vec![0; 10 * MIB].into());
    let entries = vec![Entry { id: LogId::new(Term(1), Index(1)), payload }];
    writer.submit(LogWrite { seq: Seq(2), entries, ..LogWrite::default() });
    assert!(events.recv_timeout(Duration::from_millis(200)).is_err(), "it did not fit");
    assert!(writer.busy_for() > Duration::ZERO && writer.waiting_bytes() > 10 << 20);
    small.fill(0);
    assert_eq!(persisted(events.recv().unwrap()), 2);
    assert_eq!(writer.waiting_bytes(), 0);
}

#[test]
fn a_commit_without_room_does_not_keep_the_thread_from_ending() {
    let small = Small::new(16 << 20);
    let (sender, events) = mpsc::channel();
    let tell = move |event| sender.send(event).unwrap();
    let writer = LogWriter::spawn(open(&Disk::default()), small.space(64 << 20), tell).unwrap();
    small.fill(16 << 20);
    writer.submit(large(1));
    drop(writer);
    assert!(events.recv().is_err(), "nothing was durable");
}

#[test]
fn a_panic_outside_of_a_commit_is_told_too() {
    let (sender, events) = mpsc::channel();
    let writer = LogWriter::spawn(open(&Disk::default()), boundless(), move |event| {
        assert!(!matches!(event, LogEvent::Persisted { .. }), "of the listener");
        sender.send(event).unwrap();
    });
    let writer = writer.unwrap();
    writer.submit(write(1));
    let error = failure(events.recv_timeout(Duration::from_secs(60)).unwrap());
    assert_eq!(error.to_string(), "log ended: of the listener");
    // Nothing is taken in any more, and nobody waits for it.
    writer.submit(write(2));
    writer.stop();
    assert_eq!(writer.waiting_bytes(), 0);
}

#[test]
fn a_log_that_waits_for_room_lives_and_one_with_nothing_to_do_rests() {
    let small = Small::new(0);
    let space = small.space(4 << 20);
    let life = space.life().clone();
    let (sender, events) = mpsc::channel();
    let writer =
        LogWriter::spawn(open(&Disk::default()), space, move |event| sender.send(event).unwrap());
    let writer = writer.unwrap();
    assert_eq!(life.log.still_for(), None);
    writer.submit(large(1));
    let began = std::time::Instant::now();
    let mut beats = 0;
    // It looks for room again and again, each of which is a sign.
    while beats < 3 {
        assert!(began.elapsed() < Duration::from_secs(60));
        // The clock is a coarse one.
        if let Some(still) = life.log.still_for().filter(|still| !still.is_zero()) {
            let before = std::time::Instant::now();
            while life.log.still_for().is_some_and(|now| now >= still) {
                assert!(before.elapsed() < Duration::from_secs(60));
                std::thread::yield_now();
            }
            beats += 1;
        }
    }
    drop(writer);
    assert!(events.recv().is_err(), "there was never room");
    assert_eq!(life.log.still_for(), None);
}
