use redb::backends::InMemoryBackend;

use super::*;
use crate::raft::{Body, ClusterId, Config, Entry, Message, Recovered};
use crate::store::StateOptions;

const LEADER: NodeId = NodeId(1);

fn state() -> Arc<State> {
    let options = StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() };
    Arc::new(State::open_backend(InMemoryBackend::new(), &options).unwrap())
}

/// The state of a leader that applied so much, with all of it in its file.
fn leaders_state(last: u64) -> Arc<State> {
    let state = state();
    let voters = [LEADER, NodeId(2)].into();
    let membership =
        Membership { cluster: ClusterId(1), members: [].into(), voters, outgoing: None };
    let entries: Vec<Entry> = (1..=last)
        .map(|index| Entry {
            id: LogId::new(Term(1), Index(index)),
            payload: if index == 1 {
                Payload::Membership(membership.clone())
            } else {
                Payload::Noop
            },
        })
        .collect();
    state.apply(&entries).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    state
}

/// A snapshot takes the state's place before the replica is told. Until then the log may hold something else up
/// there, and must not be cut by what is the snapshot's.
#[test]
fn the_log_hears_of_a_checkpoint_only_after_it_follows_the_snapshot_that_overtook_it() {
    let state = state();
    let node = Node::new(Config::new(NodeId(2), 1), Recovered::default());
    let mut replica = Replica::new(node, state.clone(), Duration::from_millis(10));
    // Whose term the snapshot is of.
    let body = Body::Append { prev: LogId::default(), entries: Vec::new(), commit: Index(0) };
    let heard = Message { cluster: ClusterId(1), from: LEADER, to: NodeId(2), term: Term(1), body };
    replica.step(Event::Raft(Input::Receive(heard)));
    assert!(replica.wants_snapshot(LEADER, Term(1), LogId::new(Term(1), Index(20))));
    let _ = replica.take_effects().unwrap();

    let source = leaders_state(20);
    let mut reader = source.snapshot();
    let mut incoming = state.receive().unwrap();
    while let Some(piece) = reader.next_piece(4096).unwrap() {
        incoming.take(&[piece]).unwrap();
    }
    assert!(state.put_in_place(incoming).unwrap());
    let last = state.durable();
    assert_eq!(last, LogId::new(Term(1), Index(20)));
    replica.checkpointed(last);
    let effects = replica.take_effects().unwrap();
    assert_eq!((effects.compact_to, effects.persist.len()), (None, 0));

    replica.installed(LEADER);
    replica.checkpointed(last);
    let effects = replica.take_effects().unwrap();
    let anew = effects.persist.iter().find_map(|write| Some(write.reset.as_ref()?.0));
    assert_eq!((anew, effects.compact_to), (Some(last), Some(last)));
}
