#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::raft::{
    Body as Said, ClusterId, Entry, Index, LogId, Member, Membership, NodeId, Payload, ReadId, Term,
};

const LIMIT: usize = 1 << 16;

fn message(body: Said) -> Message {
    Message { cluster: ClusterId(2), from: NodeId(1), to: NodeId(300), term: Term(7), body }
}

fn at(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

fn membership() -> Membership {
    let member = Member {
        name: "n1".to_owned(),
        raft_address: "h:1".to_owned(),
        http_address: "h:2".to_owned(),
        seen: true,
        promote: false,
        replaces: None,
    };
    Membership {
        cluster: ClusterId(5),
        members: [(NodeId(1), member)].into(),
        voters: [NodeId(1)].into(),
        outgoing: Some([NodeId(2)].into()),
    }
}

/// Every kind of message with the bytes of its body in hexadecimal; what comes before is the same.
fn golden() -> Vec<(Said, &'static str)> {
    let entries = vec![
        Entry { id: at(6, 10), payload: Payload::Noop },
        Entry { id: at(7, 11), payload: Payload::Command(Bytes::from_static(b"put")) },
        Entry { id: at(7, 12), payload: Payload::Membership(membership()) },
    ];
    vec![
        (Said::PreVote { last: at(6, 9) }, "000609"),
        (Said::PreVoteReply { granted: true }, "0101"),
        (Said::Vote { last: at(6, 9), transfer: true }, "02060901"),
        (Said::VoteReply { granted: false }, "0300"),
        (
            Said::Append { prev: at(6, 9), entries, commit: Index(8) },
            "04060903060a00070b0103707574070c020501\
             01026e3103683a3103683a32010000010101\
             010208",
        ),
        (Said::AppendReply { matched: Index(12) }, "050c"),
        (Said::AppendReject { prev: Index(12), hint: at(5, 4) }, "060c0504"),
        (Said::Heartbeat { commit: Index(12), round: 400 }, "070c9003"),
        (Said::HeartbeatReply { round: 400 }, "089003"),
        (Said::ReadIndex { id: ReadId(3), lease: true }, "090301"),
        (Said::ReadIndexReply { id: ReadId(3), index: Some(Index(12)) }, "0a03010c"),
        (Said::Snapshot { last: at(6, 9) }, "0b0609"),
        (Said::TimeoutNow, "0c"),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bodies(decoder: &mut Decoder) -> Result<Vec<Bytes>, FrameError> {
    let mut bodies = Vec::new();
    while let Some(body) = decoder.next_body()? {
        bodies.push(body);
    }
    Ok(bodies)
}

#[test]
fn the_bytes_of_every_message_are_settled() {
    for (body, expected) in golden() {
        let sent = message(body);
        let mut buffer = BytesMut::new();
        encode(&sent, LIMIT, &mut buffer).unwrap();
        // Of cluster 2, from 1, to 300, term 7.
        assert_eq!(
            hex(&buffer[HEADER_BYTES..]),
            format!("0201ac0207{expected}"),
            "{:?}",
            sent.body
        );
        assert_eq!(decode_message(&buffer[HEADER_BYTES..]), Ok(sent));
    }
}

#[test]
fn the_header_is_settled() {
    let mut buffer = BytesMut::new();
    encode_bytes(b"123456789", LIMIT, &mut buffer).unwrap();
    // The check value of CRC-32 (ISO-HDLC) is 0xcbf43926.
    assert_eq!(&buffer[..], b"\x09\0\0\0\x26\x39\xf4\xcb123456789");
}

#[test]
fn frames_survive_any_cut() {
    let mut stream = BytesMut::new();
    let sent: Vec<Vec<u8>> = [0, 1, 7, 8, 9, 300].map(|length| vec![7; length]).into();
    for body in &sent {
        encode_bytes(body, LIMIT, &mut stream).unwrap();
    }
    let stream = stream.freeze();
    for size in 1..stream.len() {
        let mut decoder = Decoder::new(LIMIT);
        let mut received = Vec::new();
        for start in (0..stream.len()).step_by(size) {
            decoder.push(stream.slice(start..(start + size).min(stream.len())));
            received.extend(bodies(&mut decoder).unwrap());
        }
        assert_eq!(received, sent);
        assert!(decoder.is_between_frames());
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let mut buffer = BytesMut::from(&b"before"[..]);
    let large = message(Said::Append {
        prev: LogId::ZERO,
        entries: vec![Entry {
            id: at(1, 1),
            payload: Payload::Command(Bytes::from(vec![0; LIMIT])),
        }],
        commit: Index(0),
    });
    assert!(matches!(encode(&large, LIMIT, &mut buffer), Err(FrameError::TooLarge { .. })));
    assert!(encode_bytes(&vec![0; LIMIT + 1], LIMIT, &mut buffer).is_err());
    assert_eq!(&buffer[..], b"before");

    let mut decoder = Decoder::new(LIMIT);
    // Refused by its announcement alone.
    decoder.push(Bytes::from_static(b"\xff\xff\xff\xff\0\0\0\0"));
    assert!(matches!(decoder.next_body(), Err(FrameError::TooLarge { .. })));
}

#[test]
fn damage_is_noticed() {
    let mut whole = BytesMut::new();
    encode(&message(Said::Vote { last: at(6, 9), transfer: true }), LIMIT, &mut whole).unwrap();
    for at in 4..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(damaged.freeze());
        assert_eq!(decoder.next_body(), Err(FrameError::Checksum));
    }
    let mut longer = whole[HEADER_BYTES..].to_vec();
    longer.push(0);
    assert_eq!(decode_message(&longer), Err(FrameError::Malformed));
}

proptest! {
    #[test]
    fn garbage_is_an_error_or_a_message(body in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = decode_message(&body) {
            let mut buffer = BytesMut::new();
            encode(&message, LIMIT, &mut buffer).unwrap();
            prop_assert_eq!(decode_message(&buffer[HEADER_BYTES..]), Ok(message));
        }
    }

    #[test]
    fn mutated_messages_do_no_harm(
        kind in 0..golden().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut buffer = BytesMut::new();
        let body = golden().swap_remove(kind).0;
        encode(&message(body), LIMIT, &mut buffer).unwrap();
        let mut body = buffer[HEADER_BYTES..].to_vec();
        for (index, byte) in changes {
            let at = index.index(body.len());
            body[at] = byte;
        }
        let _ = decode_message(&body);
    }

    #[test]
    fn garbage_on_a_stream_does_no_harm(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let mut decoder = Decoder::new(64);
        for chunk in chunks {
            decoder.push(Bytes::from(chunk));
            if bodies(&mut decoder).is_err() {
                break;
            }
        }
    }
}
