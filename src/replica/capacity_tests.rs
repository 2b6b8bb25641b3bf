use super::*;
use crate::raft::{ClusterId, Config, Index, LogId, Member, Membership, Recovered, Seq, Term};

const LOW: Capacity = Capacity { low: true, entries_bytes: 0, stuck: false };

/// Node 1, which leads three, with a peer that has answered.
fn leader() -> Node {
    let member = |id: u64| Member {
        name: format!("n{id}"),
        raft_address: format!("n{id}:1"),
        http_address: format!("n{id}:2"),
        seen: true,
        promote: false,
        replaces: None,
    };
    let ids = || (1..=3).map(NodeId);
    let membership = Membership {
        cluster: ClusterId(1),
        members: ids().map(|id| (id, member(id.0))).collect(),
        voters: ids().collect(),
        outgoing: None,
    };
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    node.step(Input::Found { membership });
    let _ = node.take_output();
    node.step(Input::Persisted { seq: Seq(1) });
    for peer in [2, 3] {
        node.step(received(peer, Body::AppendReply { matched: Index(1) }));
    }
    let _ = node.take_output();
    assert_eq!(node.commit(), Index(1));
    node
}

fn received(from: u64, body: Body) -> Input {
    Input::Receive(Message {
        cluster: ClusterId(1),
        from: NodeId(from),
        to: NodeId(1),
        term: Term(1),
        body,
    })
}

fn append(payload: Payload) -> Message {
    let entries = vec![Entry { id: LogId::new(Term(1), Index(2)), payload }];
    let prev = LogId::new(Term(1), Index(1));
    let body = Body::Append { prev, entries, commit: Index(1) };
    Message { cluster: ClusterId(1), from: NodeId(1), to: NodeId(2), term: Term(1), body }
}

fn command(bytes: usize) -> Message {
    append(Payload::Command(vec![0; bytes].into()))
}

#[test]
fn a_leader_refuses_if_it_or_a_quorum_lacks_room() {
    let node = leader();
    let mut capacities = Capacities::default();
    assert!(!capacities.refuses(&node));
    capacities.heard(NodeId(2), LOW);
    assert!(!capacities.refuses(&node), "two of three have room");
    capacities.heard(NodeId(3), LOW);
    assert!(capacities.refuses(&node));
    for _ in 0..COUNTS_TICKS {
        assert!(capacities.refuses(&node));
        assert_eq!(capacities.tick(&node), None, "it leads itself");
    }
    assert!(!capacities.refuses(&node), "nobody has said so again");
    [2, 3].into_iter().for_each(|peer| capacities.heard(NodeId(peer), LOW));
    assert!(capacities.refuses(&node));
    capacities.heard(NodeId(2), Capacity::default());
    assert!(!capacities.refuses(&node), "it has more again");
    capacities.set_own(LOW);
    assert!(capacities.refuses(&node));
}

#[test]
fn who_can_apply_nothing_more_hands_over_to_whoever_can() {
    let node = leader();
    let stuck = Capacity { stuck: true, ..LOW };
    let mut capacities = Capacities::default();
    capacities.set_own(LOW);
    for peer in [2, 3] {
        capacities.heard(NodeId(peer), LOW);
    }
    assert!(capacities.transferee(&node).is_none(), "no quorum has room, and all of them apply");
    capacities.set_own(stuck);
    capacities.heard(NodeId(3), stuck);
    let handed = capacities.transferee(&node);
    assert!(
        matches!(handed, Some(Input::TransferLeadership { to: Some(NodeId(2)) })),
        "{handed:?}"
    );
    assert!(capacities.transferee(&node).is_none(), "not again at once");
    for _ in 0..RETRY_TICKS {
        capacities.tick(&node);
        capacities.heard(NodeId(2), stuck);
        capacities.heard(NodeId(3), stuck);
    }
    assert!(capacities.transferee(&node).is_none(), "it goes nowhere where it is no better");
    capacities.heard(NodeId(2), Capacity::default());
    assert!(capacities.transferee(&node).is_some());
}

#[test]
fn what_makes_room_passes_as_long_as_the_reserve_has_some() {
    use crate::kv::{KeyRange, Revision, Write};
    let node = leader();
    let mut capacities = Capacities::default();
    let left = Capacity { low: true, entries_bytes: 2 * FREEING_BYTES, stuck: false };
    let compact = Write::Compact { revision: Revision(1) };
    let delete = Write::delete_range(KeyRange::prefix(b"a"), u64::MAX);
    let put = Write::put("a".into(), "1".into());
    capacities.set_own(left);
    for peer in [2, 3] {
        capacities.heard(NodeId(peer), left);
    }
    assert!(capacities.refuses(&node));
    assert!(capacities.spares(&node, &compact) && capacities.spares(&node, &delete));
    assert!(!capacities.spares(&node, &put));
    let long = Write::delete_range(KeyRange::prefix(&[b'a'; 4096]), u64::MAX);
    assert!(!capacities.spares(&node, &long), "it does not fit");
    capacities.heard(NodeId(2), LOW);
    assert!(capacities.spares(&node, &compact), "two of three have some left");
    capacities.heard(NodeId(3), LOW);
    assert!(!capacities.spares(&node, &compact));
    capacities.heard(NodeId(3), Capacity::default());
    assert!(capacities.spares(&node, &compact));
    capacities.set_own(LOW);
    assert!(!capacities.spares(&node, &compact), "this node's votes come first");
}

#[test]
fn a_leader_without_room_hands_over_to_somebody_with_room_only() {
    let mut node = leader();
    let mut capacities = Capacities::default();
    assert_eq!(capacities.transferee(&node), None, "it has room itself");
    capacities.set_own(LOW);
    capacities.heard(NodeId(3), LOW);
    assert_eq!(capacities.transferee(&node), None, "no quorum would have room");
    capacities.peers.clear();
    let transfer = capacities.transferee(&node).unwrap();
    assert!(matches!(transfer, Input::TransferLeadership { to: Some(_) }));
    assert_eq!(capacities.transferee(&node), None, "not again at once");
    node.step(transfer);
    assert!(!capacities.refuses(&node), "the next leader takes what comes now");
    assert_eq!(capacities.tick(&node), None);
}

#[test]
fn a_follower_without_room_tells_its_leader_again_and_again() {
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    let mut capacities = Capacities::default();
    capacities.set_own(LOW);
    assert_eq!(capacities.tick(&node), None, "nobody leads");
    node.step(received(2, Body::Heartbeat { commit: Index(0), round: 1 }));
    assert_eq!(node.leader(), Some(NodeId(2)));
    let told = (0..2 * TELL_TICKS).filter_map(|_| capacities.tick(&node)).collect::<Vec<_>>();
    assert_eq!(told, [(NodeId(2), LOW); 2]);
    assert!(!capacities.refuses(&node), "whoever leads decides");
    capacities.set_own(Capacity::default());
    let enough = (NodeId(2), Capacity::default());
    assert_eq!(capacities.tick(&node), Some(enough), "enough again");
    // Once more, since what was said last may have overtaken what was said before it.
    let told = (0..COUNTS_TICKS).filter_map(|_| capacities.tick(&node)).collect::<Vec<_>>();
    assert_eq!(told, [enough]);
    capacities.set_own(LOW);
    assert_eq!(capacities.tick(&node), Some((NodeId(2), LOW)));
    capacities.set_own(Capacity::default());
    assert_eq!(capacities.tick(&node), Some(enough));
    capacities.set_own(LOW);
    assert_eq!(capacities.tick(&node), Some((NodeId(2), LOW)), "at once");
}

#[test]
fn entries_are_taken_and_sent_as_far_as_they_fit() {
    let bytes = client_bytes(&command(100));
    let capacity = Capacity { low: true, entries_bytes: 2 * bytes, stuck: false };
    let mut capacities = Capacities::default();
    assert!(capacities.takes(&command(1 << 20)), "there is room enough");
    capacities.set_own(capacity);
    assert!(capacities.takes(&command(100)) && capacities.takes(&command(100)));
    assert!(!capacities.takes(&command(100)), "that was all");
    assert!(capacities.takes(&append(Payload::Noop)), "a new leader's first entry");
    capacities.heard(NodeId(2), capacity);
    assert!(capacities.sends(&command(200)) && !capacities.sends(&command(300)));
    assert!(capacities.sends(&append(Payload::Noop)));
    assert!(capacities.sends(&Message { to: NodeId(3), ..command(300) }));
}
