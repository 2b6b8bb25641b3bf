//! What a data directory and a backup hold, as text that no later release has a reason to print otherwise.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use konsen::kv::{
    self, Attach, Command, FeatureLevel, Header, Item, KeyRange, Op, Over, RangeQuery, Revision,
    Test, Txn,
};
use konsen::raft::{Membership, NodeId, Payload, Recovered};
use konsen::store::{
    self, BackupCheck, DataDir, IdentityCheck, Log, LogOptions, State, StateOptions,
};

/// Whose directories are recorded.
pub(crate) fn whose() -> IdentityCheck {
    // What the nodes of `tests/cluster` are called.
    IdentityCheck { cluster: "konsen".to_owned(), node: "node1".to_owned() }
}

/// A data directory, opened as a node opens it.
pub(crate) struct Opened {
    pub(crate) data: DataDir,
    pub(crate) state: Arc<State>,
    pub(crate) log: Log,
    pub(crate) recovered: Recovered,
}

pub(crate) fn open(path: &Path) -> Opened {
    let data = DataDir::open(path, &whose()).unwrap();
    let state = Arc::new(State::open(&data.state_path(), None, &StateOptions::default()).unwrap());
    let options = LogOptions { tail_bytes: 0, ..LogOptions::default() };
    let (mut log, found) = Log::open(&data.log_path(), None, &options).unwrap();
    data.files_made().unwrap();
    let recovered = store::recover(&state, &mut log, found).unwrap();
    Opened { data, state, log, recovered }
}

/// What a data directory holds.
pub(crate) fn of_directory(opened: &Opened) -> String {
    let founder = opened.data.founding().granted.unwrap().founder;
    format!("founded by {}\n{}", id(founder, opened.data.id()), of_node(opened))
}

fn of_node(opened: &Opened) -> String {
    let Opened { data, state, log, recovered } = opened;
    let (own, hard_state) = (data.id(), recovered.hard_state);
    let mut text = String::new();
    let vote = hard_state.vote.map_or("nobody".to_owned(), |vote| id(vote, own));
    writeln!(
        text,
        "term {}, vote for {vote}, decided up to {}",
        hard_state.term.0, hard_state.commit.0
    )
    .unwrap();
    text += "\nmembers\n";
    for (index, membership) in &recovered.memberships {
        writeln!(text, "  as of {}: {}", index.0, members(membership, own)).unwrap();
    }
    writeln!(text, "\nlog after {} of term {}", log.base().index.0, log.base().term.0).unwrap();
    let reader = log.reader();
    let last = reader.last().unwrap();
    for entry in reader.read(log.base().index.next(), last, usize::MAX).unwrap() {
        let payload = match &entry.payload {
            Payload::Noop => "nothing".to_owned(),
            Payload::Command(bytes) => {
                command(&Command::decode(bytes, FeatureLevel::HIGHEST).unwrap())
            }
            Payload::Membership(membership) => members(membership, own),
        };
        writeln!(text, "  {} of term {}: {payload}", entry.id.index.0, entry.id.term.0).unwrap();
    }
    text + "\n" + &of_state(state, own)
}

/// What a backup says of itself, and what a directory holds that is made of it.
pub(crate) fn of_backup(bytes: &[u8]) -> String {
    let mut check = BackupCheck::default();
    check.feed(bytes).unwrap();
    let summary = check.finish().unwrap();
    let origin = &summary.origin;
    let mut text = format!(
        "made by konsen {} on node {} of cluster {} at {}\n",
        origin.konsen, origin.node, origin.cluster, origin.created
    );
    writeln!(
        text,
        "{} keys, {} changes, revisions {} to {}, up to entry {} of term {}",
        summary.keys,
        summary.changes,
        summary.oldest,
        summary.revision,
        summary.last.index.0,
        summary.last.term.0
    )
    .unwrap();
    writeln!(text, "members: {}", members(&summary.members, NodeId(0))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let alone = |own| Membership {
        members: [].into(),
        voters: [own].into(),
        outgoing: None,
        ..summary.members.clone()
    };
    store::restore(bytes, dir.path(), &whose(), alone).unwrap();
    text + "\nrestored:\n" + &of_node(&open(dir.path()))
}

fn of_state(state: &State, own: NodeId) -> String {
    let ((applied, hash), revision) = (state.hash(), state.revision());
    let agreed = state.settings().map(|agreed| format!(", agreed on {agreed:?}"));
    let agreed = agreed.unwrap_or_default();
    let mut text = format!(
        "state at entry {} of term {}, revision {revision}, hash {hash:016x}, clock {} ms, level {}{agreed}\n",
        applied.index.0,
        applied.term.0,
        state.clock_ms(),
        state.level()
    );
    let access = state.access();
    if access.revision().0 > 0 {
        let (on, by) = (access.is_on(), access.revision().0);
        let (roles, users, tokens) = (access.roles(), access.users(), access.tokens());
        writeln!(text, "  access {by}, on: {on}, {roles:?}, {users:?}, {tokens:?}").unwrap();
    }
    let (index, membership) = state.membership().unwrap();
    writeln!(text, "  members as of {}: {}", index.0, members(&membership, own)).unwrap();
    for at in (state.compacted().0..=revision.0).map(Revision) {
        writeln!(text, "  at revision {at}").unwrap();
        let query = RangeQuery {
            range: KeyRange::all(),
            at: Some(at),
            descending: false,
            keys_only: false,
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        for item in state.range(&query).unwrap().items {
            assert_eq!(state.get(&item.key, Some(at)).unwrap().1.as_ref(), Some(&item));
            let Item { key, value, content_type, create_revision, mod_revision, version } = item;
            writeln!(
                text,
                "    {} = {}, created at {create_revision}, set at {mod_revision}, {version} times",
                quoted(&key),
                typed(&value, content_type.as_ref())
            )
            .unwrap();
        }
    }
    let before = Revision(state.compacted().0.wrapping_sub(1));
    assert!(before.0 == u64::MAX || state.get(b"plain", Some(before)).is_err(), "it is compacted");
    text
}

fn id(id: NodeId, own: NodeId) -> String {
    if id == own { "itself".to_owned() } else { id.0.to_string() }
}

fn members(membership: &Membership, own: NodeId) -> String {
    let ids = |ids: &std::collections::BTreeSet<NodeId>| {
        // The own one is drawn by chance, and so is its place among the others.
        let mut ids: Vec<String> = ids.iter().map(|one| id(*one, own)).collect();
        ids.sort();
        ids.join(" ")
    };
    let mut text = format!("cluster {}, voters {}", membership.cluster.0, ids(&membership.voters));
    if let Some(outgoing) = &membership.outgoing {
        write!(text, ", outgoing {}", ids(outgoing)).unwrap();
    }
    let mut all: Vec<String> = Vec::new();
    for (&one, member) in &membership.members {
        let mut text = format!(
            "; {} is {} at {} and {}",
            member.name,
            id(one, own),
            member.raft_address,
            member.http_address
        );
        text += if member.seen { ", seen" } else { ", not seen" };
        text += if member.promote { ", to be promoted" } else { "" };
        if let Some(replaces) = member.replaces {
            write!(text, ", replaces {}", id(replaces, own)).unwrap();
        }
        all.push(text);
    }
    all.sort();
    text + &all.concat()
}

fn command(command: &Command) -> String {
    let write = match &command.write {
        kv::Write::Txn { txn: all, keys_max } => format!("{}, {keys_max} at most", txn(all)),
        kv::Write::DeleteStep { range, keys_max } => {
            format!("delete {}, {keys_max} at most, as a step", of_range(range))
        }
        kv::Write::Compact { revision } => format!("compact up to {revision}"),
        kv::Write::Raise { level, release } => format!("raise to level {level} by {release}"),
        kv::Write::Agree { settings } => format!("agree on {settings:?}"),
        kv::Write::Access(change) => format!("{change:?}"),
        kv::Write::Anchor(anchor) => format!("keep {anchor:?}"),
        kv::Write::ForgetAnchors { node } => format!("forget the anchors of {node:016x}"),
        #[cfg(feature = "next-level")]
        kv::Write::Nothing => "nothing".to_owned(),
    };
    let Header { level, clock_ms, caller, token, admitted } = &command.header;
    let by = |what: &str, name: &Option<String>| match name {
        Some(name) => format!(", {what} {name}"),
        None => String::new(),
    };
    let (caller, token) = (by("of", caller), by("as", token));
    let admitted = admitted.map(|by| format!(", admitted by {}", by.0)).unwrap_or_default();
    format!("{write}, at {clock_ms} ms, level {level}{caller}{token}{admitted}")
}

fn txn(txn: &Txn) -> String {
    let list = |all: Vec<String>| format!("[{}]", all.join("; "));
    let compares = txn
        .compares
        .iter()
        .map(|compare| format!("{} {}", over(&compare.over), test(&compare.test)));
    let branch = |ops: &[Op]| list(ops.iter().map(op).collect());
    let (then, otherwise) = (branch(&txn.then), branch(&txn.otherwise));
    match (&txn.compares[..], &txn.otherwise[..]) {
        ([], []) => then,
        _ => format!("if {} then {then} else {otherwise}", list(compares.collect())),
    }
}

fn op(op: &Op) -> String {
    match op {
        Op::Put(put) => {
            let value = match &put.value {
                Some(value) => typed(value, put.content_type.as_ref()),
                None => "what it was".to_owned(),
            };
            let lease = match put.lease {
                Attach::Detach => String::new(),
                lease => format!(", {lease:?}"),
            };
            format!("put {} = {value}{lease}", quoted(&put.key))
        }
        Op::Delete(what) => format!("delete {}", over(what)),
        Op::Get(what) => format!("get {}", over(what)),
        Op::Txn(nested) => txn(nested),
    }
}

fn test(test: &Test) -> String {
    match test {
        Test::Value(relation, value) => format!("value {relation:?} {}", quoted(value)),
        other => format!("{other:?}"),
    }
}

fn over(over: &Over) -> String {
    match over {
        Over::Key(key) => quoted(key),
        Over::Range(range) => of_range(range),
    }
}

fn of_range(range: &kv::KeyRange) -> String {
    let end = range.end.as_ref().map_or("the end".to_owned(), |end| quoted(end));
    format!("from {} to {end}", quoted(&range.start))
}

fn typed(value: &[u8], content_type: Option<&String>) -> String {
    match content_type {
        Some(content_type) => format!("{} of {content_type}", quoted(value)),
        None => quoted(value),
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
