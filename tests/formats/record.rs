//! Makes what is recorded: a backup of a node, and the data directory of another that began with that backup, went
//! on, and was stopped. Every kind of entry and command is in it, and every field of what is stored has a value.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use konsen::kv::{Command, Condition, KeyRange, Matcher, Put, Revision, Write};
use konsen::raft::founding::{Ask, Ballot};
use konsen::raft::{
    ClusterId, Entry, HardState, Index, LogId, LogWrite, Member, Membership, NodeId, Payload, Term,
};
use konsen::store::{self, DataDir, Log, LogOptions, Origin, State, StateOptions, take_in};

use crate::holds::whose;

/// The last entry in the backup.
const SAVED: u64 = 12;
/// The last entry in the directory's state, and the last that it knows to be decided.
const APPLIED: u64 = 20;
const DECIDED: u64 = 22;

/// Makes the data directory; the backup.
pub(crate) fn record(data: &Path) -> Vec<u8> {
    let backup = backup();
    let data = DataDir::open(data, &whose()).unwrap();
    let own = data.id();
    data.asked_to_found(Ask::Grant(Ballot { round: 1, founder: own })).unwrap();
    let state = Arc::new(State::open(&data.state_path(), None, &StateOptions::default()).unwrap());
    take_in(&backup[..], &state, members(own, None)).unwrap();
    let options = LogOptions { tail_bytes: 0, ..LogOptions::default() };
    let (mut log, found) = Log::open(&data.log_path(), None, &options).unwrap();
    store::recover(&state, &mut log, found).unwrap();
    data.files_made().unwrap();
    let entries = entries(own).split_off(usize::try_from(SAVED).unwrap());
    let (term, vote) = (Term(5), Some(NodeId(5000)));
    let hard_state = HardState { term, vote, commit: Index(DECIDED) };
    log.append(&[LogWrite {
        hard_state: Some(hard_state),
        entries: entries.clone(),
        ..LogWrite::default()
    }])
    .unwrap();
    state.apply(&entries[..usize::try_from(APPLIED - SAVED).unwrap()]).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    log.compact_to(LogId::new(Term(3), Index(SAVED + 1))).unwrap();
    log.append(&[LogWrite::default()]).unwrap();
    log.close().unwrap();
    backup
}

fn backup() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let state =
        State::open(&dir.path().join("state.redb"), None, &StateOptions::default()).unwrap();
    // None is this node's.
    let entries = entries(NodeId(4000));
    state.apply(&entries[..usize::try_from(SAVED).unwrap()]).unwrap();
    state.write_checkpoint(state.freeze().unwrap()).unwrap();
    let mut reader = state.backup(Origin {
        konsen: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: "konsen".to_owned(),
        node: "node4".to_owned(),
        created: "2026-01-02T03:04:05Z".to_owned(),
    });
    std::iter::from_fn(|| reader.next_part(400).unwrap()).flatten().collect()
}

/// The node as the only voter, of late, and two that it waits for.
fn members(own: NodeId, outgoing: Option<BTreeSet<NodeId>>) -> Membership {
    let member = |name: &str, host: u8| Member {
        name: name.to_owned(),
        raft_address: format!("127.0.0.{host}:1"),
        http_address: format!("127.0.0.{host}:2"),
        seen: true,
        promote: false,
        replaces: None,
    };
    let stand_in =
        Member { seen: false, promote: true, replaces: Some(NodeId(6000)), ..member("node3", 3) };
    Membership {
        cluster: ClusterId(77),
        members: [
            (own, member("node1", 1)),
            (NodeId(5000), member("node2", 2)),
            // As a host is called that was never seen.
            (NodeId(1 << 63 | 6001), stand_in),
        ]
        .into(),
        voters: [own].into(),
        outgoing,
    }
}

fn entries(own: NodeId) -> Vec<Entry> {
    let put = |key: &'static [u8], value: &'static [u8]| Put {
        key: key.into(),
        value: value.into(),
        content_type: None,
        condition: Condition::default(),
    };
    let typed =
        |content_type: &str, put| Put { content_type: Some(content_type.to_owned()), ..put };
    let when = |condition, put| Put { condition, ..put };
    let is = |revisions: &[u64]| {
        Some(Matcher::Revisions(revisions.iter().copied().map(Revision).collect()))
    };
    let any = Some(Matcher::Any);
    let if_match = |if_match| Condition { if_match, if_none_match: None };
    let if_none_match = |if_none_match| Condition { if_match: None, if_none_match };
    let range = |start: &'static str, end: Option<&'static str>| Write::DeleteRange {
        range: KeyRange { start: start.into(), end: end.map(Bytes::from) },
    };
    let pairs = [("many/1", "1"), ("many/2", "2"), ("many/3", "3"), ("many/1", "again")];
    let pairs = pairs.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).to_vec();
    let write = |write| {
        // A day in 2026.
        Payload::Command(Command { time_unix_ms: 1_767_323_045_678, write }.encode())
    };
    let delete = |key: &'static str, condition| Write::Delete { key: key.into(), condition };
    let three = BTreeSet::from([own, NodeId(5000), NodeId(6000)]);
    let payloads = vec![
        Payload::Membership(Membership { voters: three.clone(), ..members(own, None) }),
        write(Write::Put(put(b"plain", b"first"))),
        write(Write::Put(typed("application/json", put(b"typed", b"{\"a\": [1, \"\xc3\xa4\"]}")))),
        write(Write::Put(put(b"\x00\xff/binary", b"\x00\x01\x7f\x80\xfe\xff"))),
        write(Write::PutMany { pairs }),
        write(Write::Put(when(if_match(is(&[7, 1])), put(b"plain", b"second")))),
        write(delete("typed", if_match(any.clone()))),
        write(Write::Put(typed("text/plain; charset=utf-8", put(b"typed", b"")))),
        write(Write::Put(when(if_none_match(any.clone()), put(b"plain", b"refused")))),
        write(Write::Put(put(b"many/2", &[b'v'; 100]))),
        Payload::Noop,
        write(range("many/1", Some("many/2"))),
        // Here the backup ends, and the directory's log begins.
        Payload::Noop,
        write(Write::Put(put(b"plain", b"third"))),
        write(delete("many/3", Condition::default())),
        write(Write::Put(when(if_none_match(is(&[])), put(b"many/3", b"back")))),
        write(Write::Compact { revision: Revision(6) }),
        write(range("typed", None)),
        write(Write::PutMany { pairs: vec![("pair".into(), "".into())] }),
        write(Write::Put(typed("text/css", when(if_none_match(any), put(b"kept", b"a {}"))))),
        // Here the state ends.
        write(Write::Put(put(b"tail", b"replayed"))),
        Payload::Membership(members(own, Some(three))),
        // And from here on nothing is known to be decided.
        Payload::Membership(members(own, None)),
        write(Write::Put(when(
            Condition { if_match: is(&[15, 16]), if_none_match: is(&[2]) },
            put(b"tail", b"undecided"),
        ))),
    ];
    let term = |index| if index <= SAVED { Term(2) } else { Term(3 + u64::from(index > DECIDED)) };
    let entry = |(payload, index)| Entry { id: LogId::new(term(index), Index(index)), payload };
    payloads.into_iter().zip(1..).map(entry).collect()
}
