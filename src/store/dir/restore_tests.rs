use std::fs;

use super::*;
use crate::kv::{Command, Write};
use crate::raft::{ClusterId, Entry, Index, Payload, Term};
use crate::store::sample::{self, backup, content, fill_state};
use crate::store::test_disk::Disk;

fn check(node: &str) -> IdentityCheck {
    IdentityCheck { cluster: "c".to_owned(), node: node.to_owned() }
}

/// The node alone, of cluster 99.
fn alone(id: NodeId) -> Membership {
    sample::alone(99, id)
}

/// What a start finds.
fn start(path: &Path) -> Result<(DataDir, State, Log, crate::raft::Recovered), StoreError> {
    let data = DataDir::open(path, &check("n1"))?;
    let state = State::open(&data.state_path(), None, &StateOptions::default())?;
    let (mut log, found) = Log::open(&data.log_path(), None, &LogOptions::default())?;
    let recovered = recover(&state, &mut log, found)?;
    Ok((data, state, log, recovered))
}

#[test]
fn a_restored_directory_holds_the_rows_and_the_new_members_only() {
    let source = fill_state(&Disk::default(), "key", 60);
    let file = backup(&source);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/data");
    let id = restore(&file[..], &path, &check("n1"), alone).unwrap();
    let last = LogId::new(Term(3), Index(60));
    for _ in 0..2 {
        let (data, state, log, recovered) = start(&path).unwrap();
        assert_eq!(data.id(), id);
        let (hash, members, revision, items) = content(&state).unwrap();
        let (source_hash, _, source_revision, source_items) = content(&source).unwrap();
        assert_eq!((hash, revision, items), (source_hash, source_revision, source_items));
        assert_eq!(members, Some((Index(60), alone(id))));
        assert_eq!((log.base(), recovered.committed, recovered.applied), (last, last, Index(60)));
        assert_eq!(recovered.memberships, [(Index(60), alone(id))]);
        assert_eq!(recovered.hard_state.term, Term(3));
        assert!(recovered.tail.is_empty());
    }
    // Nobody's directory is written over.
    let refused = restore(&file[..], &path, &check("n1"), alone).unwrap_err().to_string();
    assert!(refused.contains("not empty"), "{refused}");
    start(&path).unwrap();
}

#[test]
fn a_restore_that_fails_leaves_nothing_and_can_be_done_again() {
    let file = backup(&fill_state(&Disk::default(), "key", 60));
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    for path in [dir.path(), &new] {
        for length in [0, 100, file.len() / 2, file.len() - 1] {
            assert!(restore(&file[..length], path, &check("n1"), alone).is_err());
            assert_eq!(path.exists(), path == dir.path());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    restore(&file[..], &new, &check("n1"), alone).unwrap();
    start(&new).unwrap();
}

#[test]
fn a_directory_in_which_a_restore_broke_off_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open_for(dir.path(), &check("n1"), Some(Rebuild::Restore)).unwrap());
    let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err();
    assert!(matches!(refused, StoreError::HalfRestored { .. }), "{refused}");
    let refused = rescue(dir.path(), &check("n1"), alone).unwrap_err();
    assert!(matches!(refused, StoreError::HalfRestored { .. }), "{refused}");
}

fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    Entry { id: LogId::new(Term(term), Index(index)), payload }
}

fn put(index: u64) -> Payload {
    let write = Write::put(format!("key {index}").into(), "v".into());
    Payload::Command(Command::new(write).encode())
}

/// A node of three whose state is at entry 4, which knows of 6 that it is decided, and has 9.
fn survivor(path: &Path) -> NodeId {
    let data = DataDir::open(path, &check("n1")).unwrap();
    let state = State::open(&data.state_path(), None, &StateOptions::default()).unwrap();
    let (mut log, _) = Log::open(&data.log_path(), None, &LogOptions::default()).unwrap();
    let id = data.id();
    let old = Membership {
        cluster: ClusterId(7),
        voters: [id, NodeId(5000), NodeId(6000)].into(),
        ..alone(id)
    };
    let mut entries = vec![entry(1, 1, Payload::Membership(old))];
    entries.extend((2..=9).map(|index| entry(2, index, put(index))));
    log.append(&[LogWrite {
        hard_state: Some(HardState { term: Term(4), vote: Some(NodeId(5000)), commit: Index(6) }),
        entries: entries.clone(),
        ..LogWrite::default()
    }])
    .unwrap();
    state.apply(&entries[..4]).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    data.files_made().unwrap();
    id
}

fn is_rescued(path: &Path, id: NodeId) {
    let (data, state, log, recovered) = start(path).unwrap();
    let last = LogId::new(Term(2), Index(9));
    assert_eq!(data.id(), id);
    assert_eq!((state.applied(), log.base(), recovered.committed), (last, last, last));
    assert_eq!(recovered.memberships, [(Index(9), alone(id))]);
    assert_eq!(state.membership(), Some((Index(9), alone(id))));
    assert_eq!((recovered.hard_state.term, recovered.hard_state.vote), (Term(2), None));
    for index in 2..=9 {
        assert!(state.get(format!("key {index}").as_bytes(), None).unwrap().1.is_some());
    }
}

#[test]
fn a_rescued_node_keeps_all_that_its_log_has() {
    let dir = tempfile::tempdir().unwrap();
    let id = survivor(dir.path());
    let seen = survey(dir.path(), &check("n1")).unwrap();
    assert_eq!((seen.id, seen.members.cluster), (id, ClusterId(7)));
    assert_eq!((seen.committed.index, seen.last.index), (Index(6), Index(9)));
    let (_, state, _, recovered) = start(dir.path()).unwrap();
    assert_eq!((state.applied().index, recovered.hard_state.commit), (Index(4), Index(6)));
    drop(state);
    assert_eq!(rescue(dir.path(), &check("n1"), alone).unwrap(), (seen, Revision(9)));
    is_rescued(dir.path(), id);
    is_rescued(dir.path(), id);
}

#[test]
fn a_rescue_that_broke_off_is_taken_up_again_and_no_node_runs_meanwhile() {
    // Before anything is done, and after the state and before the log.
    for steps in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let id = survivor(dir.path());
        {
            let (data, state, log, _) = start(dir.path()).unwrap();
            data.begin_new_cluster().unwrap();
            if steps > 0 {
                state.apply(&log.reader().read(Index(5), Index(9), usize::MAX).unwrap()).unwrap();
                state.write_checkpoint(state.freeze().unwrap()).unwrap();
                state.begin_anew(Membership { cluster: ClusterId(98), ..alone(id) }).unwrap();
            }
        }
        let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err();
        assert!(matches!(refused, StoreError::HalfRescued { .. }), "{refused}");
        rescue(dir.path(), &check("n1"), alone).unwrap();
        is_rescued(dir.path(), id);
    }
}

#[test]
fn only_a_nodes_own_directory_is_rescued() {
    let dir = tempfile::tempdir().unwrap();
    let refused = rescue(dir.path(), &check("n1"), alone).unwrap_err();
    assert!(matches!(refused, StoreError::NoNode { .. }), "{refused}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it is as it was");
    // It never belonged to a cluster.
    drop(DataDir::open(dir.path(), &check("n1")).unwrap());
    let refused = rescue(dir.path(), &check("n1"), alone).unwrap_err();
    assert!(matches!(refused, StoreError::NoNode { .. }), "{refused}");
    let other = tempfile::tempdir().unwrap();
    survivor(other.path());
    let refused = rescue(other.path(), &check("n2"), alone).unwrap_err();
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    start(other.path()).unwrap();
}
