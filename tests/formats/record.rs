//! Makes what is recorded: a backup of a node, and the data directory of another that began with that backup, went
//! on, and was stopped. Every kind of entry and command is in it, and every field of what is stored has a value.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use konsen::kv::{
    AccessChange, AccessRevision, Administration, Anchor, Attach, Command, Compare, Condition,
    FeatureLevel, Grant, Header, KeyRange, Matcher, Name, Op, Over, Put, Relation, Revision, Right,
    Role, Settings, Test, Token, Txn, Write,
};
use konsen::raft::founding::{Ask, Ballot};
use konsen::raft::{
    ClusterId, Entry, HardState, Index, LogId, LogWrite, Member, Membership, NodeId, Payload, Term,
};
use konsen::store::{self, DataDir, Log, LogOptions, Origin, State, StateOptions, take_in};

use crate::holds::whose;
use crate::recorded;

/// The last entry in the backup.
const SAVED: u64 = 13;
/// The last entry in the directory's state, and the last that it knows to be decided.
const APPLIED: u64 = 28;
const DECIDED: u64 = 30;

/// Makes the data directory; the backup.
pub(crate) fn record(data: &Path) -> Vec<u8> {
    let backup = backup();
    let data = DataDir::open(data, &whose()).unwrap();
    let own = data.id();
    data.asked_to_found(Ask::Grant(Ballot { round: 1, founder: own })).unwrap();
    let state = Arc::new(State::open(&data.state_path(), None, &StateOptions::default()).unwrap());
    take_in(&backup[..], &state, members(own, None)).unwrap();
    // Small, and used again: some of the log is in its database.
    let (wal_slot_bytes, wal_bytes) = (8 << 10, 24 << 10);
    let options = LogOptions { tail_bytes: 0, wal_slot_bytes, wal_bytes, ..LogOptions::default() };
    let (mut log, found) = Log::open(&data.log_path(), None, &options).unwrap();
    store::recover(&state, &mut log, found).unwrap();
    data.files_made().unwrap();
    let entries = entries(own).split_off(usize::try_from(SAVED).unwrap());
    let (term, vote) = (Term(5), Some(NodeId(5000)));
    let hard_state = HardState { term, vote, commit: Index(DECIDED) };
    for entry in &entries {
        log.append(&[LogWrite {
            hard_state: Some(hard_state),
            entries: vec![entry.clone()],
            ..LogWrite::default()
        }])
        .unwrap();
    }
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

/// A transaction with every kind of compare and operation.
fn every_kind(then: Vec<Op>) -> Txn {
    let key = |key: &'static str| Over::Key(key.into());
    let range = || Over::Range(KeyRange::prefix(b"many/"));
    let compare = |over, test| Compare { over, test };
    let seven = Revision(7);
    let compares = vec![
        compare(key("typed"), Test::Value(Relation::Eq, "".into())),
        compare(key("typed"), Test::Version(Relation::Le, 1)),
        compare(range(), Test::CreateRevision(Relation::Lt, Revision(70))),
        compare(range(), Test::ModRevision(Relation::Ne, seven)),
        compare(key("none"), Test::Lease(Relation::Eq, 0)),
        compare(key("none"), Test::Exists(false)),
        compare(key("plain"), Test::OneOf(vec![Revision(2), seven])),
        compare(key("plain"), Test::NoneOf(vec![Revision(3)])),
        compare(range(), Test::UnchangedSince(Revision(12))),
        compare(key("typed"), Test::Version(Relation::Gt, 0)),
        compare(key("typed"), Test::Version(Relation::Ge, 1)),
    ];
    Txn { compares, then, otherwise: vec![Op::Get(key("plain")), Op::Delete(range())] }
}

fn entries(own: NodeId) -> Vec<Entry> {
    let put = |key: &'static [u8], value: &'static [u8]| Put::new(key.into(), value.into());
    let typed =
        |content_type: &str, put| Put { content_type: Some(content_type.to_owned()), ..put };
    let always = Condition::default;
    let is = |revisions: &[u64]| {
        Some(Matcher::Revisions(revisions.iter().copied().map(Revision).collect()))
    };
    let any = Some(Matcher::Any);
    let if_match = |if_match| Condition { if_match, if_none_match: None };
    let if_none_match = |if_none_match| Condition { if_match: None, if_none_match };
    let range = |start: &'static str, end: Option<&'static str>| KeyRange {
        start: start.into(),
        end: end.map(Bytes::from),
    };
    let pairs = [("many/1", "1"), ("many/2", "2"), ("many/3", "3")];
    let pairs = pairs.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).to_vec();
    let mut clock_ms = 0;
    let mut write = |write| {
        clock_ms += 40;
        let header = Header { clock_ms, ..Header::default() };
        Payload::Command(Command { header, write }.encode())
    };
    let keep = Put { value: None, lease: Attach::Keep, ..put(b"typed", b"") };
    let nested = Txn::always(vec![Op::Put(keep), Op::Get(Over::Range(KeyRange::all()))]);
    let then =
        vec![Op::Put(put(b"of/txn", b"first")), Op::Txn(nested), Op::Get(Over::Key("x".into()))];
    let settings =
        Settings { value_bytes_max: 1 << 20, election_timeout_ms: 500, lease_reads: true };
    let leased = Put { lease: Attach::To(77), ..put(b"leased", b"refused") };
    let of_somebody = Command {
        header: Header {
            clock_ms: 5000,
            caller: Some("client/anna".to_owned()),
            token: Some("a token".to_owned()),
            ..Header::default()
        },
        write: Write::put("of/somebody".into(), "x".into()),
    };
    let admitted = Command {
        header: Header {
            level: FeatureLevel::ACCESS,
            clock_ms: 5040,
            caller: Some("anna".to_owned()),
            token: None,
            admitted: Some(AccessRevision(3)),
        },
        write: Write::put("app/admitted".into(), "x".into()),
    };
    let name = |text: &str| text.parse::<Name>().unwrap();
    let grant = Grant { range: KeyRange::prefix(b"app/"), may: [Right::Read, Right::Write].into() };
    let role = Role { grants: vec![grant], admin: [Administration::Backup].into() };
    let token = Token {
        user: name("admin"),
        hash: digest(&SHA256, recorded::TOKEN.as_bytes()).as_ref().try_into().unwrap(),
        made: 1_800_000_000,
        expires: None,
    };
    let anchor = Anchor { node: 5000, sequence: 77, hash: [9; 32], at_s: 1_800_000_000 };
    let three = BTreeSet::from([own, NodeId(5000), NodeId(6000)]);
    let payloads = vec![
        Payload::Membership(Membership { voters: three.clone(), ..members(own, None) }),
        write(Write::put("plain".into(), "first".into())),
        write(Write::put_if(
            typed("application/json", put(b"typed", b"{\"a\": [1, \"\xc3\xa4\"]}")),
            always(),
        )),
        write(Write::put_if(put(b"\x00\xff/binary", b"\x00\x01\x7f\x80\xfe\xff"), always())),
        write(Write::put_many(pairs)),
        write(Write::put_if(put(b"plain", b"second"), if_match(is(&[7, 2])))),
        write(Write::delete_if("typed".into(), if_match(any.clone()))),
        write(Write::put_if(typed("text/plain; charset=utf-8", put(b"typed", b"")), always())),
        write(Write::put_if(put(b"plain", b"refused"), if_none_match(any.clone()))),
        write(Write::put_if(put(b"many/2", &[b'v'; 100]), always())),
        Payload::Noop,
        write(Write::delete_range(range("many/1", Some("many/2")), 10)),
        write(Write::Txn { txn: every_kind(then.clone()), keys_max: 1000 }),
        // Here the backup ends, and the directory's log begins.
        Payload::Noop,
        write(Write::put("plain".into(), "third".into())),
        write(Write::delete("many/3".into())),
        write(Write::put_if(put(b"many/3", b"back"), if_none_match(is(&[])))),
        write(Write::Compact { revision: Revision(6) }),
        write(Write::DeleteStep { range: range("typed", None), keys_max: 1 }),
        write(Write::put_many(vec![("pair".into(), "".into())])),
        write(Write::put_if(typed("text/css", put(b"kept", b"a {}")), if_none_match(any))),
        write(Write::Raise { level: FeatureLevel::ACCESS, release: "0.1.0".to_owned() }),
        write(Write::Agree { settings }),
        write(Write::Access(AccessChange::PutRole { name: name("app"), role })),
        write(Write::Access(AccessChange::PutUser {
            name: name("anna"),
            roles: [name("app")].into(),
        })),
        write(Write::Access(AccessChange::PutToken { name: name("laptop"), token })),
        write(Write::Anchor(anchor)),
        write(Write::ForgetAnchors { node: 6000 }),
        // Here the state ends.
        write(Write::put("tail".into(), "replayed".into())),
        Payload::Membership(members(own, Some(three))),
        // And from here on nothing is known to be decided.
        Payload::Membership(members(own, None)),
        write(Write::txn(Txn::always(vec![Op::Put(leased)]))),
        Payload::Command(of_somebody.encode()),
        Payload::Command(admitted.encode()),
        write(Write::put_if(
            put(b"tail", b"undecided"),
            Condition { if_match: None, if_none_match: is(&[2]) },
        )),
    ];
    let term = |index| if index <= SAVED { Term(2) } else { Term(3 + u64::from(index > DECIDED)) };
    let entry = |(payload, index)| Entry { id: LogId::new(term(index), Index(index)), payload };
    payloads.into_iter().zip(1..).map(entry).collect()
}
