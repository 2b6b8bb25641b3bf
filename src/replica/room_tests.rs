use super::*;
use crate::raft::{ClusterId, Config, Index, LogId, Member, Membership, Recovered, Seq, Term};

const LOW: Room = Room { low: true, entries_bytes: 0, stuck: false };

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
    let mut rooms = Rooms::default();
    assert!(!rooms.refuses(&node));
    rooms.heard(NodeId(2), LOW);
    assert!(!rooms.refuses(&node), "two of three have room");
    rooms.heard(NodeId(3), LOW);
    assert!(rooms.refuses(&node));
    for _ in 0..COUNTS_TICKS {
        assert!(rooms.refuses(&node));
        assert_eq!(rooms.tick(&node), None, "it leads itself");
    }
    assert!(!rooms.refuses(&node), "nobody has said so again");
    [2, 3].into_iter().for_each(|peer| rooms.heard(NodeId(peer), LOW));
    assert!(rooms.refuses(&node));
    rooms.heard(NodeId(2), Room::default());
    assert!(!rooms.refuses(&node), "it has more again");
    rooms.set_own(LOW);
    assert!(rooms.refuses(&node));
}

#[test]
fn who_can_apply_nothing_more_hands_over_to_whoever_can() {
    let node = leader();
    let stuck = Room { stuck: true, ..LOW };
    let mut rooms = Rooms::default();
    rooms.set_own(LOW);
    for peer in [2, 3] {
        rooms.heard(NodeId(peer), LOW);
    }
    assert!(rooms.heir(&node).is_none(), "no quorum has room, and all of them apply");
    rooms.set_own(stuck);
    rooms.heard(NodeId(3), stuck);
    let handed = rooms.heir(&node);
    assert!(
        matches!(handed, Some(Input::TransferLeadership { to: Some(NodeId(2)) })),
        "{handed:?}"
    );
    assert!(rooms.heir(&node).is_none(), "not again at once");
    for _ in 0..RETRY_TICKS {
        rooms.tick(&node);
        rooms.heard(NodeId(2), stuck);
        rooms.heard(NodeId(3), stuck);
    }
    assert!(rooms.heir(&node).is_none(), "it goes nowhere where it is no better");
    rooms.heard(NodeId(2), Room::default());
    assert!(rooms.heir(&node).is_some());
}

#[test]
fn what_makes_room_passes_as_long_as_the_reserve_has_some() {
    use crate::kv::{KeyRange, Revision, Write};
    let node = leader();
    let mut rooms = Rooms::default();
    let left = Room { low: true, entries_bytes: 2 * FREEING_BYTES, stuck: false };
    let compact = Write::Compact { revision: Revision(1) };
    let delete = Write::DeleteRange { range: KeyRange::prefix(b"a") };
    let put = Write::PutMany { pairs: Vec::new() };
    rooms.set_own(left);
    for peer in [2, 3] {
        rooms.heard(NodeId(peer), left);
    }
    assert!(rooms.refuses(&node));
    assert!(rooms.spares(&node, &compact) && rooms.spares(&node, &delete));
    assert!(!rooms.spares(&node, &put));
    let long = Write::DeleteRange { range: KeyRange::prefix(&[b'a'; 4096]) };
    assert!(!rooms.spares(&node, &long), "it does not fit");
    rooms.heard(NodeId(2), LOW);
    assert!(rooms.spares(&node, &compact), "two of three have some left");
    rooms.heard(NodeId(3), LOW);
    assert!(!rooms.spares(&node, &compact));
    rooms.heard(NodeId(3), Room::default());
    assert!(rooms.spares(&node, &compact));
    rooms.set_own(LOW);
    assert!(!rooms.spares(&node, &compact), "this node's votes come first");
}

#[test]
fn a_leader_without_room_hands_over_to_somebody_with_room_only() {
    let mut node = leader();
    let mut rooms = Rooms::default();
    assert_eq!(rooms.heir(&node), None, "it has room itself");
    rooms.set_own(LOW);
    rooms.heard(NodeId(3), LOW);
    assert_eq!(rooms.heir(&node), None, "no quorum would have room");
    rooms.peers.clear();
    let hand_over = rooms.heir(&node).unwrap();
    assert!(matches!(hand_over, Input::TransferLeadership { to: Some(_) }));
    assert_eq!(rooms.heir(&node), None, "not again at once");
    node.step(hand_over);
    assert!(!rooms.refuses(&node), "the next leader takes what comes now");
    assert_eq!(rooms.tick(&node), None);
}

#[test]
fn a_follower_without_room_tells_its_leader_again_and_again() {
    let mut node = Node::new(Config::new(NodeId(1), 1), Recovered::default());
    let mut rooms = Rooms::default();
    rooms.set_own(LOW);
    assert_eq!(rooms.tick(&node), None, "nobody leads");
    node.step(received(2, Body::Heartbeat { commit: Index(0), round: 1 }));
    assert_eq!(node.leader(), Some(NodeId(2)));
    let told = (0..2 * TELL_TICKS).filter_map(|_| rooms.tick(&node)).collect::<Vec<_>>();
    assert_eq!(told, [(NodeId(2), LOW); 2]);
    assert!(!rooms.refuses(&node), "whoever leads decides");
    rooms.set_own(Room::default());
    assert_eq!(rooms.tick(&node), Some((NodeId(2), Room::default())), "enough again");
    assert_eq!((0..COUNTS_TICKS).find_map(|_| rooms.tick(&node)), None);
}

#[test]
fn entries_are_taken_and_sent_as_far_as_they_fit() {
    let bytes = client_bytes(&command(100));
    let room = Room { low: true, entries_bytes: 2 * bytes, stuck: false };
    let mut rooms = Rooms::default();
    assert!(rooms.takes(&command(1 << 20)), "there is room enough");
    rooms.set_own(room);
    assert!(rooms.takes(&command(100)) && rooms.takes(&command(100)));
    assert!(!rooms.takes(&command(100)), "that was all");
    assert!(rooms.takes(&append(Payload::Noop)), "a new leader's first entry");
    rooms.heard(NodeId(2), room);
    assert!(rooms.sends(&command(200)) && !rooms.sends(&command(300)));
    assert!(rooms.sends(&append(Payload::Noop)));
    assert!(rooms.sends(&Message { to: NodeId(3), ..command(300) }));
}
