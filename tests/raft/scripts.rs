//! Golden transcripts: each file in `scripts/` is named after what it claims.
//!
//! Commands (nodes are `n1`, `n2`, ...):
//!
//! - `cluster VOTERS [learners=n4] [SETTING=N]`: hosts that belong to one cluster, in term 1;
//!   `members n1 n2` only states the voters, `host n1 [terms=1,1,2] [term=3]` adds one with entries of
//!   these terms after the membership, `empty n4` one with an empty disk.
//! - `tick NODE [COUNT]`, `timeout NODE` (ticks until it stands or the role changes).
//! - `propose NODE TEXT..`, `read NODE ID..`, `change NODE voters=.. [learners=..]`, `undo NODE`,
//!   `force-undo NODE`, `found NODE voters=..`,
//!   `clock NODE MICROSECONDS`, `lease-read NODE ID..`, `transfer NODE [TO]`, `disk-slow NODE`, `unreachable NODE PEER`,
//!   `tell-commits NODE`.
//! - `deliver [FILTER]`: what is on its way now, once; `drop [FILTER]`; `save NAME [FILTER]` takes
//!   messages out and `replay NAME` puts copies of them back, so that they come late, again or out of
//!   order. A filter is `from=n1`, `to=n2`, `kind=append` (a prefix of the text).
//! - `message FROM TO TERM KIND [last=5@2] [commit=N] [matched=N] [prev=5@2 terms=2,2] [cluster=2]`: a message
//!   made up.
//! - `persist NODE [COUNT]`, `disks auto|manual`: whether writes become durable by themselves.
//! - `crash NODE`, `restart NODE`, `cut from=n1 to=n2`, `isolate NODE`, `heal`.
//! - `settle`: delivers and persists until nothing moves; `live COUNT [NODE..]` does so after every
//!   tick of all nodes, or of these.
//! - `apply NODE`, `compact NODE INDEX`, `fetched NODE`; `snapshot NAME from=n1` keeps the state up to where
//!   the log of n1 begins now, `install NODE NAME` puts that in place at another node, `install NODE from=n1`
//!   does both; `installed NODE NAME` does so without asking whether it is wanted any more, as when the log
//!   grew meanwhile; `snapshot-ended NODE PEER ok|failed`.
//! - `status [NODE..]`, `peers NODE`, `log NODE`, `network`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use goldenscript::{Command, Context};
use konsen::raft::{
    Body, ClusterId, Entry, Fetch, Index, Input, LogId, Membership, Message, Moment, NodeId,
    Output, Payload, ProposalId, ReadId, RoleName, Term,
};

use crate::args::{Args, Filter, Outcome, log_id, node, numbers};
use crate::cluster::{Cluster, Disk, membership};
use crate::show;

#[test]
fn scripts() -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    assert!(!paths.is_empty());
    let mut wrong = Vec::new();
    for path in paths {
        // A difference panics inside; go on, so that one run shows all of them.
        let run = std::panic::catch_unwind(|| goldenscript::run(&mut Runner::default(), &path));
        match run {
            Ok(Ok(())) => {}
            Ok(Err(error)) => wrong.push(format!("{}: {error}", path.display())),
            Err(_) => wrong.push(format!("{}: differs", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A state that was sent: whose it is, where it stands, and the membership there.
#[derive(Clone)]
struct Snapshot {
    from: NodeId,
    last: LogId,
    membership: Membership,
}

#[derive(Default)]
struct Runner {
    cluster: Cluster,
    members: Option<Membership>,
    manual: bool,
    saved: BTreeMap<String, Vec<Message>>,
    fetches: Vec<(NodeId, Fetch)>,
    snapshots: BTreeMap<String, Snapshot>,
    proposals: BTreeMap<ProposalId, String>,
}

impl Runner {
    fn step(&mut self, id: NodeId, input: Input) -> Outcome<String> {
        let down = format!("{id} is down");
        let output = self.cluster.step(id, input).ok_or(down)?;
        self.report(id, output)
    }

    fn report(&mut self, id: NodeId, output: Output) -> Outcome<String> {
        let mut text = String::new();
        let durable = if self.manual { "writes" } else { "wrote" };
        if let Some(broken) = &output.fatal {
            writeln!(text, "{id} stops: {broken}")?;
        }
        if let Some(standing) = &output.standing {
            let role = match standing.role {
                RoleName::Follower => "follower",
                RoleName::PreCandidate => "pre-candidate",
                RoleName::Candidate => "candidate",
                RoleName::Leader => "leader",
            };
            write!(text, "{id} {role} {}", standing.term)?;
            match standing.leader {
                Some(leader) if leader != id => writeln!(text, " of {leader}")?,
                _ => writeln!(text)?,
            }
        }
        if let Some(membership) = &output.membership {
            writeln!(text, "{id} members: {}", show::members(membership))?;
        }
        for (proposal, accepted) in &output.accepted {
            let name = self.proposals.get(proposal).cloned().unwrap_or_default();
            match accepted {
                Ok(at) => writeln!(text, "{id} takes {name} as {at}")?,
                Err(why) => writeln!(text, "{id} refuses {name}: {}", show::refused(why))?,
            }
        }
        for write in &output.persist {
            writeln!(text, "{id} {durable} {}", show::write(write))?;
        }
        for (read, outcome) in &output.reads {
            match outcome {
                Ok(index) => writeln!(text, "{id} read {} at {index}", read.0)?,
                Err(why) => writeln!(text, "{id} read {} refused: {}", read.0, show::refused(why))?,
            }
        }
        for fetch in &output.fetch {
            writeln!(text, "{id} fetches {}..{} for {}", fetch.from, fetch.to, fetch.peer)?;
            self.fetches.push((id, *fetch));
        }
        for message in &output.send {
            writeln!(text, "{}", show::message(message))?;
        }
        if let Some(commit) = output.commit {
            writeln!(text, "{id} commits {commit}")?;
        }
        if !self.manual {
            text.push_str(&self.persist_all(id)?);
        }
        Ok(text)
    }

    fn persist_all(&mut self, id: NodeId) -> Outcome<String> {
        let mut text = String::new();
        while let Some(seq) = self.cluster.persist(id) {
            text.push_str(&self.step(id, Input::Persisted { seq })?);
        }
        Ok(text)
    }

    fn deliver(&mut self, filter: &Filter) -> Outcome<String> {
        let (taken, left) =
            std::mem::take(&mut self.cluster.network).into_iter().partition(|m| filter.matches(m));
        self.cluster.network = left;
        let mut text = String::new();
        let taken: Vec<Message> = taken;
        for message in taken {
            if !self.cluster.passes(&message) {
                writeln!(text, "lost: {}", show::message(&message))?;
            } else if self.cluster.node(message.to).is_some() {
                text.push_str(&self.step(message.to, Input::Receive(message))?);
            }
        }
        Ok(text)
    }

    fn ids(&self) -> Vec<NodeId> {
        self.cluster.hosts.keys().copied().collect()
    }

    fn settle(&mut self) -> Outcome<String> {
        let mut text = String::new();
        let all = Filter { from: None, to: None, kind: None };
        for _ in 0..100 {
            text.push_str(&self.deliver(&all)?);
            for id in self.ids() {
                if self.cluster.node(id).is_some() {
                    text.push_str(&self.persist_all(id)?);
                }
            }
            if self.cluster.network.is_empty() {
                return Ok(text);
            }
        }
        Err("it does not settle".into())
    }

    fn status(&self, id: NodeId) -> Outcome<String> {
        let Some(node) = self.cluster.node(id) else { return Ok(format!("{id} down\n")) };
        let leader = match node.leader() {
            Some(leader) if leader != id => format!(" of {leader}"),
            _ => String::new(),
        };
        Ok(format!(
            "{id} {:?} {}{leader}: last {}, durable {}, commit {}\n",
            node.role(),
            node.term(),
            node.last(),
            node.durable(),
            node.commit()
        ))
    }

    fn message(&mut self, args: &mut Args) -> Outcome<Message> {
        let (from, to) = (args.node()?, args.node()?);
        let term = Term(args.next()?.parse()?);
        let kind = args.next()?;
        let prev = args.named("prev").map_or(Ok(LogId::ZERO), |text| log_id(&text))?;
        let last = args.named("last").map_or(Ok(LogId::ZERO), |text| log_id(&text))?;
        let terms = numbers(&args.named("terms").unwrap_or_default())?;
        let commit = Index(args.number("commit")?);
        let matched = Index(args.number("matched")?);
        let round = args.number("round")?;
        let body = match kind.as_str() {
            "vote" => Body::Vote { last, transfer: false },
            "vote-granted" => Body::VoteReply { granted: true },
            "pre-vote" => Body::PreVote { last },
            "append" => {
                let mut index = prev.index;
                let entries = terms
                    .into_iter()
                    .map(|term| {
                        index = index.next();
                        let text = format!("{index}@{term}").into_bytes();
                        Entry {
                            id: LogId::new(Term(term), index),
                            payload: Payload::Command(text.into()),
                        }
                    })
                    .collect();
                Body::Append { prev, entries, commit }
            }
            "appended" => Body::AppendReply { matched },
            "rejected" => Body::AppendReject { prev: prev.index, hint: last },
            "heartbeat" => Body::Heartbeat { commit, round },
            "heartbeat-reply" => Body::HeartbeatReply { round },
            "time-out-now" => Body::TimeoutNow,
            "snapshot" => Body::Snapshot { last },
            _ => return Err(format!("'{kind}' is no message").into()),
        };
        let cluster = ClusterId(args.named("cluster").map_or(Ok(1), |text| text.parse())?);
        Ok(Message { cluster, from, to, term, body })
    }

    /// The state of a host as of its last checkpoint, which is where its log begins.
    fn snapshot(&self, args: &mut Args) -> Outcome<Snapshot> {
        let from = node(&args.named("from").ok_or("from whom?")?)?;
        let disk = &self.cluster.hosts.get(&from).ok_or("no host")?.disk;
        let (_, membership) = disk.membership.clone().ok_or("nothing compacted")?;
        Ok(Snapshot { from, last: disk.base, membership })
    }

    fn settings(&mut self, args: &mut Args) -> Outcome<()> {
        let settings = &mut self.cluster.settings;
        for (key, place) in [
            ("append_bytes_max", &mut settings.append_bytes_max),
            ("inflight_appends_max", &mut settings.inflight_appends_max),
            ("uncommitted_bytes_max", &mut settings.uncommitted_bytes_max),
            ("tail_bytes_max", &mut settings.tail_bytes_max),
            ("reads_max", &mut settings.reads_max),
        ] {
            if let Some(value) = args.named(key) {
                *place = value.parse()?;
            }
        }
        if let Some(value) = args.named("lease_us") {
            settings.lease_us = value.parse()?;
        }
        Ok(())
    }

    fn execute(&mut self, name: &str, mut args: Args) -> Outcome<String> {
        let text = self.dispatch(name, &mut args)?;
        args.end()?;
        Ok(text)
    }

    fn dispatch(&mut self, name: &str, args: &mut Args) -> Outcome<String> {
        let text = match name {
            "cluster" => {
                self.settings(args)?;
                let voters: Vec<u64> = (1..=args.next()?.parse()?).collect();
                let learners = numbers(&args.named("learners").unwrap_or_default())?;
                let members = membership(&voters, &learners);
                for id in members.members.keys() {
                    self.cluster.add_member(*id, &members, &[], 1);
                    // The first output only repeats what was recovered.
                    self.cluster.collect(*id);
                }
                self.members = Some(members);
                String::new()
            }
            "members" => {
                self.settings(args)?;
                let voters: Vec<u64> =
                    args.plain.drain(..).map(|text| Ok(node(&text)?.0)).collect::<Outcome<_>>()?;
                self.members = Some(membership(&voters, &[]));
                String::new()
            }
            "host" => {
                let id = args.node()?;
                let terms = numbers(&args.named("terms").unwrap_or_default())?;
                let term = args.number("term")?.max(1);
                let members = self.members.clone().ok_or("members first")?;
                self.cluster.add_member(id, &members, &terms, term);
                self.cluster.collect(id);
                String::new()
            }
            "empty" => {
                let id = args.node()?;
                self.cluster.add(id, Disk::default());
                self.cluster.collect(id);
                String::new()
            }
            "disks" => {
                self.manual = args.next()? == "manual";
                String::new()
            }
            "tick" => {
                let id = args.node()?;
                let count = args.plain.pop_front().map_or(Ok(1), |text| text.parse())?;
                let mut text = String::new();
                for _ in 0..count {
                    text.push_str(&self.step(id, Input::Tick)?);
                }
                text
            }
            "timeout" => {
                let id = args.node()?;
                let mut text = String::new();
                for _ in 0..40 {
                    text = self.step(id, Input::Tick)?;
                    if text.contains("pre-vote?")
                        || text.contains("candidate")
                        || text.contains("leader")
                    {
                        break;
                    }
                }
                text
            }
            "propose" => {
                let id = args.node()?;
                let node = self.cluster.node_mut(id).ok_or("down")?;
                for text in args.plain.drain(..) {
                    let proposal = ProposalId(self.proposals.len() as u64 + 1);
                    let payload = Payload::Command(text.clone().into_bytes().into());
                    self.proposals.insert(proposal, text);
                    node.step(Input::Propose { id: proposal, payload });
                }
                let output = self.cluster.collect(id).ok_or("down")?;
                self.report(id, output)?
            }
            "clock" => {
                let id = args.node()?;
                let now = Moment(args.next()?.parse()?);
                self.step(id, Input::Now(now))?
            }
            "read" | "lease-read" => {
                let lease = name == "lease-read";
                let id = args.node()?;
                let node = self.cluster.node_mut(id).ok_or("down")?;
                for text in args.plain.drain(..) {
                    node.step(Input::Read { id: ReadId(text.parse()?), lease });
                }
                let output = self.cluster.collect(id).ok_or("down")?;
                self.report(id, output)?
            }
            "change" => {
                let id = args.node()?;
                let membership = args.membership()?;
                let proposal = ProposalId(self.proposals.len() as u64 + 1);
                self.proposals.insert(proposal, "change".into());
                self.step(id, Input::ChangeMembers { id: proposal, membership })?
            }
            "undo" | "force-undo" => {
                let id = args.node()?;
                let proposal = ProposalId(self.proposals.len() as u64 + 1);
                self.proposals.insert(proposal, "undo".into());
                self.step(id, Input::UndoChange { id: proposal, force: name == "force-undo" })?
            }
            "found" => {
                let id = args.node()?;
                let membership = args.membership()?;
                self.step(id, Input::Found { membership })?
            }
            "transfer" => {
                let id = args.node()?;
                let to = args.plain.pop_front().map(|text| node(&text)).transpose()?;
                self.step(id, Input::TransferLeadership { to })?
            }
            "disk-slow" => {
                let id = args.node()?;
                self.step(id, Input::DiskSlow)?
            }
            "tell-commits" => {
                let id = args.node()?;
                self.step(id, Input::TellCommits)?
            }
            "unreachable" => {
                let (id, peer) = (args.node()?, args.node()?);
                self.step(id, Input::Unreachable { peer })?
            }
            "message" => {
                let message = self.message(args)?;
                self.step(message.to, Input::Receive(message))?
            }
            "deliver" => {
                let filter = args.filter()?;
                self.deliver(&filter)?
            }
            "drop" => {
                let filter = args.filter()?;
                let mut text = String::new();
                for message in self.cluster.network.iter().filter(|m| filter.matches(m)) {
                    writeln!(text, "lost: {}", show::message(message))?;
                }
                self.cluster.network.retain(|message| !filter.matches(message));
                text
            }
            "save" => {
                let name = args.next()?;
                let filter = args.filter()?;
                let (taken, left) = std::mem::take(&mut self.cluster.network)
                    .into_iter()
                    .partition(|message| filter.matches(message));
                self.cluster.network = left;
                let taken: Vec<Message> = taken;
                let mut text = String::new();
                for message in &taken {
                    writeln!(text, "saved: {}", show::message(message))?;
                }
                self.saved.insert(name, taken);
                text
            }
            "replay" => {
                let name = args.next()?;
                let saved = self.saved.get(&name).ok_or("nothing was saved")?;
                self.cluster.network.extend(saved.iter().cloned());
                String::new()
            }
            "persist" => {
                let id = args.node()?;
                let count = args.plain.pop_front().map_or(Ok(1), |text| text.parse())?;
                let mut text = String::new();
                for _ in 0..count {
                    let seq = self.cluster.persist(id).ok_or("nothing to persist")?;
                    text.push_str(&self.step(id, Input::Persisted { seq })?);
                }
                text
            }
            "crash" => {
                let id = args.node()?;
                self.cluster.crash(id);
                String::new()
            }
            "restart" => {
                let id = args.node()?;
                self.cluster.start(id);
                self.cluster.collect(id);
                self.status(id)?
            }
            "cut" => {
                let filter = args.filter()?;
                for from in self.ids() {
                    for to in self.ids() {
                        if filter.from.is_none_or(|id| id == from)
                            && filter.to.is_none_or(|id| id == to)
                        {
                            self.cluster.cut.insert((from, to));
                        }
                    }
                }
                String::new()
            }
            "isolate" => {
                let id = args.node()?;
                for other in self.ids() {
                    self.cluster.cut.insert((id, other));
                    self.cluster.cut.insert((other, id));
                }
                String::new()
            }
            "heal" => {
                self.cluster.cut.clear();
                String::new()
            }
            "settle" => self.settle()?,
            "live" => {
                let mut text = String::new();
                let count = args.next()?.parse()?;
                let named: Vec<NodeId> =
                    args.plain.drain(..).map(|text| node(&text)).collect::<Outcome<_>>()?;
                let ids = if named.is_empty() { self.ids() } else { named };
                for _ in 0..count {
                    for &id in &ids {
                        if self.cluster.node(id).is_some() {
                            text.push_str(&self.step(id, Input::Tick)?);
                        }
                    }
                    text.push_str(&self.settle()?);
                }
                text
            }
            "elect" => {
                let id = args.node()?;
                let mut text = self.execute("timeout", Args::of_node(id))?;
                text.push_str(&self.settle()?);
                text
            }
            "apply" => {
                let id = args.node()?;
                let index = self.cluster.node(id).ok_or("down")?.commit();
                self.step(id, Input::Applied { index })?
            }
            "compact" => {
                let id = args.node()?;
                let index = Index(args.next()?.parse()?);
                let disk = &mut self.cluster.hosts.get_mut(&id).ok_or("no host")?.disk;
                let last = disk.id_at(index).ok_or("no such entry")?;
                disk.compact(last);
                self.step(id, Input::Compacted { last })?
            }
            "fetched" => {
                let id = args.node()?;
                let (asked, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.fetches)
                    .into_iter()
                    .partition(|(node, _)| *node == id);
                self.fetches = others;
                let mut text = String::new();
                for (_, fetch) in asked {
                    let disk = &self.cluster.hosts[&id].disk;
                    // What is gone meanwhile cannot be read.
                    let (prev, entries): (LogId, Vec<Entry>) = match disk.id_at(fetch.from.prev()) {
                        Some(prev) => {
                            let wanted = fetch.from.0..=fetch.to.0;
                            (prev, wanted.filter_map(|at| disk.get(Index(at)).cloned()).collect())
                        }
                        None => {
                            writeln!(text, "{id} finds {}..{} gone", fetch.from, fetch.to)?;
                            (LogId::ZERO, Vec::new())
                        }
                    };
                    text.push_str(
                        &self.step(id, Input::Fetched { peer: fetch.peer, prev, entries })?,
                    );
                }
                text
            }
            "snapshot" => {
                let name = args.next()?;
                let snapshot = self.snapshot(args)?;
                let text = format!("{} keeps its state at {}\n", snapshot.from, snapshot.last);
                self.snapshots.insert(name, snapshot);
                text
            }
            "install" | "installed" => {
                let id = args.node()?;
                let snapshot = match args.plain.pop_front() {
                    Some(name) => self.snapshots.get(&name).ok_or("no such snapshot")?.clone(),
                    None => self.snapshot(args)?,
                };
                let Snapshot { from, last, membership } = snapshot;
                let wanted = self.cluster.node(id).ok_or("down")?.wants_snapshot(last);
                if name == "install" && !wanted {
                    return Ok(format!("{id} does not want it\n"));
                }
                let disk = &mut self.cluster.hosts.get_mut(&id).ok_or("no host")?.disk;
                if disk.id_at(last.index) != Some(last) {
                    disk.install(last, membership.clone());
                }
                self.step(id, Input::SnapshotInstalled { last, membership, from })?
            }
            "snapshot-ended" => {
                let (id, peer) = (args.node()?, args.node()?);
                let installed = args.next()? == "ok";
                self.step(id, Input::SnapshotEnded { peer, installed })?
            }
            "status" => {
                let ids = if args.plain.is_empty() {
                    self.ids()
                } else {
                    args.plain.drain(..).map(|text| node(&text)).collect::<Outcome<_>>()?
                };
                ids.into_iter().map(|id| self.status(id)).collect::<Outcome<String>>()?
            }
            "peers" => {
                let id = args.node()?;
                let mut text = String::new();
                for peer in self.cluster.node(id).ok_or("down")?.peers() {
                    writeln!(
                        text,
                        "{} {}: matched {}, next {}",
                        peer.id, peer.state, peer.matched, peer.next
                    )?;
                }
                text
            }
            "log" => {
                let mut text = String::new();
                while !args.plain.is_empty() {
                    let id = args.node()?;
                    let disk = &self.cluster.hosts.get(&id).ok_or("no host")?.disk;
                    let ids: Vec<String> =
                        disk.log.iter().map(|entry| entry.id.to_string()).collect();
                    writeln!(text, "{id} on disk: {}", ids.join(" "))?;
                }
                text
            }
            "network" => {
                let mut text = String::new();
                for message in &self.cluster.network {
                    writeln!(text, "{}", show::message(message))?;
                }
                text
            }
            _ => return Err(format!("unknown command '{name}'").into()),
        };
        Ok(text)
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args = Args::of(command);
        self.execute(&command.name, args)
    }
}
