//! The queue and the thread behind it, on files that can and cannot be written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::*;
use crate::audit::line::Owner;
use crate::audit::queue::{Rules, Unrecorded};
use crate::audit::record::{Action, Class, Outcome, Record, Target, Targets, Who};
use crate::audit::verify::verify;

const RULES: Rules = Rules { reads: true, refuse: true, queue_bytes: 64 << 10 };

fn place(dir: &Path) -> Place {
    let owner = Owner { node: "node1".into(), id: "17".into(), cluster: "konsen".into() };
    Place { dir: dir.to_owned(), file_bytes: 16 << 10, keep: 1000, owner }
}

fn record(name: &str) -> Record {
    Record {
        time: SystemTime::now(),
        action: Action::AuthChange,
        method: "PUT",
        who: Who::Anonymous,
        from: None,
        via: None,
        targets: Targets::one(Target::Name(name.to_owned())),
        outcome: Outcome { status: Some(200), ..Outcome::default() },
        passed_on: false,
    }
}

fn start(dir: &Path, rules: Rules) -> (Arc<Audit>, JoinHandle<()>) {
    let audit = Audit::new(rules);
    let worker = Worker::open(Arc::clone(&audit), place(dir), None);
    (audit, std::thread::spawn(|| worker.run()))
}

fn settle(audit: &Audit) -> Head {
    audit.settle().blocking_recv().unwrap()
}

fn text(dir: &Path) -> String {
    let mut numbers = crate::audit::list(dir).unwrap();
    let paths = numbers.drain(..).map(|number| crate::audit::path_of(dir, number));
    paths.map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn what_many_threads_record_is_one_chain_and_all_of_it() {
    const EACH: usize = 500;
    let dir = TempDir::new().unwrap();
    let rules = Rules { queue_bytes: 16 << 20, ..RULES };
    let (audit, thread) = start(dir.path(), rules);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let audit = &audit;
            scope.spawn(move || {
                for each in 0..EACH {
                    let room = audit.take_room(Class::Write, 0).unwrap().unwrap();
                    room.record(record(&format!("{number}-{each}.")));
                }
            });
        }
    });
    let head = settle(&audit);
    assert_eq!(audit.counts(), (4 * EACH as u64, 0));
    assert_eq!((audit.held_bytes(), audit.head()), (0, head));
    audit.stop();
    thread.join().unwrap();
    let verified = verify(dir.path(), &[]).unwrap();
    assert_eq!(verified.findings, []);
    let text = text(dir.path());
    for number in 0..4 {
        // Each thread's in its order.
        let places: Vec<usize> =
            (0..EACH).map(|each| text.find(&format!("\"{number}-{each}.\"")).unwrap()).collect();
        assert!(places.is_sorted());
    }
    assert!(text.lines().last().unwrap().contains("\"kind\":\"stop\""));
}

#[test]
fn a_record_that_somebody_waits_for_is_there_when_it_is_told() {
    let dir = TempDir::new().unwrap();
    let (audit, thread) = start(dir.path(), RULES);
    for number in 0..20 {
        let room = audit.take_room(Class::Administration, 0).unwrap().unwrap();
        let head = room.record_durably(record(&format!("r{number}"))).blocking_recv().unwrap();
        let last = text(dir.path()).lines().last().unwrap().to_owned();
        assert!(last.contains(&format!("\"r{number}\"")) && last.contains(&head.hash.to_string()));
    }
    audit.stop();
    thread.join().unwrap();
}

#[test]
fn a_full_queue_refuses_and_keeps_room_for_administration() {
    let audit = Audit::new(RULES);
    audit.went(None);
    let mut rooms = Vec::new();
    let refused = loop {
        match audit.take_room(Class::Write, 1000) {
            Ok(room) => rooms.push(room.unwrap()),
            Err(why) => break why,
        }
    };
    assert_eq!(refused, Unrecorded::Full);
    assert!(audit.held_bytes() <= RULES.queue_bytes);
    assert_eq!(audit.take_room(Class::Read, 1000).err(), Some(Unrecorded::Full));
    let kept = audit.take_room(Class::Administration, 1000);
    assert!(kept.unwrap().is_some(), "what waits keeps nobody from administration");
    // Whoever asks how the node is gets an answer, which is not recorded.
    assert!(audit.take_room(Class::Status, 1000).unwrap().is_none());
    assert_eq!(audit.counts(), (0, 1));
    drop(rooms);
    assert_eq!(audit.held_bytes(), 0, "what is not used is free again");
    assert!(audit.take_room(Class::Write, 1000).is_ok());
}

#[test]
fn reads_are_recorded_only_where_that_is_asked_for() {
    let audit = Audit::new(Rules { reads: false, ..RULES });
    assert!(!audit.records(Class::Read) && !audit.records(Class::Status));
    assert!(audit.records(Class::Write) && audit.records(Class::Administration));
    let audit = Audit::new(RULES);
    assert!(audit.records(Class::Read) && audit.records(Class::Status));
}

/// A directory in the place of which there is something else, until it is taken away.
fn blocked(dir: &Path) -> std::path::PathBuf {
    let audit = dir.join("audit");
    symlink(dir.join("nowhere/at/all"), &audit).unwrap();
    fs::write(dir.join("nowhere"), "a file").unwrap();
    audit
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn files_that_cannot_be_made_refuse_all_and_are_tried_again() {
    let dir = TempDir::new().unwrap();
    let path = blocked(dir.path());
    let (audit, thread) = start(&path, RULES);
    assert_eq!(audit.take_room(Class::Write, 0).err(), Some(Unrecorded::Failing));
    assert_eq!(audit.take_room(Class::Administration, 0).err(), Some(Unrecorded::Failing));
    assert!(audit.failure().unwrap().contains("audit"), "{:?}", audit.failure());
    assert!(audit.warnings()[0].contains("requests are refused"));
    assert!(audit.take_room(Class::Status, 0).unwrap().is_none());
    fs::remove_file(&path).unwrap();
    wait_until("it is tried again", || audit.failure().is_none());
    let room = audit.take_room(Class::Write, 0).unwrap().unwrap();
    room.record(record("after"));
    settle(&audit);
    assert!(audit.warnings().is_empty());
    audit.stop();
    thread.join().unwrap();
    // What was answered meanwhile and not recorded is said.
    assert!(text(&path).contains("\"kind\":\"unrecorded\",\"count\":1"), "{}", text(&path));
    assert!(verify(&path, &[]).unwrap().is_sound());
}

#[test]
fn where_it_shall_go_on_all_is_carried_out_and_counted() {
    let dir = TempDir::new().unwrap();
    let path = blocked(dir.path());
    let (audit, thread) = start(&path, Rules { refuse: false, ..RULES });
    let (mut waiting, mut lost) = (0, 0);
    for number in 0..300 {
        match audit.take_room(Class::Write, 0).unwrap() {
            Some(room) => {
                room.record(record(&format!("r{number}")));
                waiting += 1;
            }
            None => lost += 1,
        }
    }
    assert!(waiting > 0 && lost > 0, "{waiting} {lost}: the queue is bounded");
    assert!(audit.warnings()[0].contains("carried out unrecorded"));
    fs::remove_file(&path).unwrap();
    wait_until("it is tried again", || audit.failure().is_none());
    settle(&audit);
    assert_eq!(audit.counts(), (waiting, lost));
    let text = text(&path);
    assert!(text.contains(&format!("\"kind\":\"unrecorded\",\"count\":{lost}")), "{text}");
    assert_eq!(text.matches("\"kind\":\"auth-change\"").count() as u64, waiting);
    audit.stop();
    thread.join().unwrap();
}

#[test]
fn what_is_wrong_with_the_files_at_a_start_is_a_warning() {
    let dir = TempDir::new().unwrap();
    let (audit, thread) = start(dir.path(), RULES);
    settle(&audit);
    audit.stop();
    thread.join().unwrap();
    let path = crate::audit::path_of(dir.path(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let changed =
        fs::read_to_string(&path).unwrap().replace("\"kind\":\"start\"", "\"kind\":\"stop!\"");
    fs::write(&path, changed).unwrap();
    let (audit, thread) = start(dir.path(), RULES);
    let warnings = audit.warnings();
    assert!(warnings[0].contains("00000001.log") && warnings[0].contains("verify"), "{warnings:?}");
    audit.stop();
    thread.join().unwrap();
}
