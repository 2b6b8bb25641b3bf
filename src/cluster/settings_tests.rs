use super::*;

/// One of several that differ in everything.
fn settings(kind: u64) -> Settings {
    Settings {
        value_bytes_max: kind << 20,
        election_timeout_ms: kind * 100,
        lease_reads: kind % 2 == 1,
    }
}

fn members(said: &[Option<u64>]) -> BTreeMap<NodeId, Option<Settings>> {
    (1..).zip(said).map(|(id, said)| (NodeId(id), said.map(settings))).collect()
}

#[test]
fn the_first_leader_has_its_own_agreed_on_and_something_else_takes_all_members() {
    type Kind = Option<u64>;
    let cases: [(Kind, &[Kind], Kind); 11] = [
        // Nothing is agreed on yet: whatever others say, or do not.
        (None, &[Some(1), Some(1), Some(1)], Some(1)),
        (None, &[Some(2), Some(1), Some(1)], Some(2)),
        (None, &[Some(1), None, None], Some(1)),
        // All say what is agreed on.
        (Some(1), &[Some(1), Some(1), Some(1)], None),
        // Some say something else, the leader among them or not.
        (Some(1), &[Some(2), Some(2), Some(1)], None),
        (Some(1), &[Some(1), Some(2), Some(2)], None),
        // All but one that is away.
        (Some(1), &[Some(2), Some(2), None], None),
        (Some(1), &[Some(2), None, None], None),
        // All say the same, or different things.
        (Some(1), &[Some(2), Some(2), Some(2)], Some(2)),
        (Some(1), &[Some(2), Some(3), Some(2)], None),
        (Some(1), &[Some(2)], Some(2)),
    ];
    for (agreed, said, expected) in cases {
        let own = settings(said[0].unwrap());
        let to_agree = to_agree(agreed.map(settings), own, &members(said));
        assert_eq!(to_agree, expected.map(settings), "{agreed:?} {said:?}");
    }
}

#[test]
fn who_goes_with_the_change_under_way_is_asked_too() {
    let membership = Membership {
        cluster: crate::raft::ClusterId(1),
        members: [].into(),
        voters: [NodeId(1), NodeId(2)].into(),
        outgoing: Some([NodeId(1), NodeId(3)].into()),
    };
    let said = said_by(&membership, |id| (id != NodeId(3)).then(|| settings(2)));
    assert_eq!(said.len(), 3);
    assert_eq!(to_agree(Some(settings(1)), settings(2), &said), None);
}

#[test]
fn a_lease_takes_an_agreement_that_all_follow() {
    let with = |election_timeout_ms, lease_reads| Settings {
        value_bytes_max: 1,
        election_timeout_ms,
        lease_reads,
    };
    let own = with(500, true);
    let other_value = Settings { value_bytes_max: 2, ..own };
    let cases: [(Option<Settings>, Settings, &[Settings], bool); 10] = [
        (None, own, &[own], false),
        (Some(own), own, &[own, own], true),
        (Some(own), own, &[], true),
        (Some(other_value), own, &[other_value], true),
        (Some(with(500, false)), own, &[own], false),
        (Some(own), with(500, false), &[own], false),
        (Some(with(400, true)), own, &[own], false),
        (Some(own), with(400, true), &[own], false),
        (Some(own), own, &[own, with(400, true)], false),
        (Some(own), own, &[own, with(500, false)], false),
    ];
    for (agreed, own, others, expected) in cases {
        let may = may_lease(agreed, own, others.iter().copied().map(Some));
        assert_eq!(may, expected, "{agreed:?} {own:?} {others:?}");
    }
    assert!(!may_lease(Some(own), own, [Some(own), None].into_iter()), "one does not say");
    assert_eq!(guards_at_start_ms(None, own, 0), 500);
    assert_eq!(guards_at_start_ms(Some(with(700, false)), own, 600), 700);
    assert_eq!(guards_at_start_ms(Some(with(300, true)), own, 0), 500);
    assert_eq!(guards_at_start_ms(Some(own), own, 900), 900);
    assert_eq!([with(500, true), with(500, false)].map(|own| promised_ms(&own)), [500, 0]);
}

#[test]
fn each_difference_is_named_with_both_values() {
    let (own, theirs) = (settings(1), settings(2));
    assert!(differences(own, "n2", own).is_empty());
    let pairwise = differences(own, "n2", theirs);
    assert_eq!(pairwise.len(), 3);
    assert_eq!(
        pairwise[0],
        "limits.value is 1048576 bytes here and 2097152 bytes at n2; it should be the same on all nodes"
    );
    assert!(deviations(own, None, own).is_empty());
    assert_eq!(
        deviations(own, None, theirs),
        [
            "limits.value is 1048576 bytes here, and the cluster has agreed on 2097152 bytes, which rules until all members say the same",
            "raft.electionTimeout is 100 ms here, and the cluster has agreed on 200 ms: until all members say the same, how long the cluster may be without a leader is for the longest of them to say",
            "reads.lease is true here, and the cluster has agreed on false, which rules until all members say the same",
        ]
    );
    let peer = Settings { value_bytes_max: own.value_bytes_max, ..theirs };
    assert_eq!(
        deviations(peer, Some("n2"), theirs),
        [
            "limits.value is 1048576 bytes at n2, and the cluster has agreed on 2097152 bytes, which rules until all members say the same"
        ]
    );
}
