use redb::backends::InMemoryBackend;

use super::*;
use crate::kv::Write;
use crate::raft::{Body, Broken, Config, Entry, Message, Recovered};
use crate::store::StateOptions;

fn append(term: u64, prev: LogId, entries: Vec<Entry>) -> Event {
    let (from, to, commit) = (NodeId(2), NodeId(1), prev.index.next());
    let body = Body::Append { prev, entries, commit };
    Event::Raft(Input::Receive(Message { cluster: ClusterId(1), from, to, term: Term(term), body }))
}

#[test]
fn what_a_replica_wants_when_an_invariant_is_broken_is_to_stop_and_nothing_else() {
    let options = StateOptions { cache_bytes: 1 << 20, ..StateOptions::default() };
    let state = Arc::new(State::open_backend(InMemoryBackend::new(), &options).unwrap());
    let node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    let mut replica = Replica::new(node, state.clone(), Duration::from_millis(10));
    let voters = [NodeId(1), NodeId(2)].into();
    let membership =
        Membership { cluster: ClusterId(1), members: [].into(), voters, outgoing: None };
    let first = |term, payload| Entry { id: LogId::new(Term(term), Index(1)), payload };
    replica.step(append(1, LogId::ZERO, vec![first(1, Payload::Membership(membership))]));
    let written = replica.take_effects().unwrap().persist;
    assert_eq!(written.len(), 1);

    // There is more to apply now and to write, an entry is to be acknowledged, and somebody to be refused.
    let next = Entry { id: LogId::new(Term(1), Index(2)), payload: Payload::Noop };
    replica.step(append(1, LogId::new(Term(1), Index(1)), vec![next]));
    replica.step(Event::Raft(Input::Persisted { seq: written[0].seq }));
    let (id, range) = (RequestId(1), crate::kv::KeyRange::all());
    replica.step(Event::Write {
        id,
        write: Write::delete_range(range, u64::MAX),
        origin: Origin::default(),
    });
    replica.step(append(2, LogId::ZERO, vec![first(2, Payload::Noop)]));
    for _ in 0..2 {
        let effects = replica.take_effects().unwrap();
        assert!(matches!(effects.fatal, Some(Broken::ContradictsCommitted { .. })));
        assert!(effects.send.is_empty() && effects.persist.is_empty() && effects.writes.is_empty());
        assert_eq!((effects.applied, effects.standing), (None, None));
        assert_eq!((state.applied().index, replica.has_more()), (Index(1), false));
        replica.step(Event::Raft(Input::Tick));
    }
}
