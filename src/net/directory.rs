//! The peers: who they are, how things stand with each, and who is connected in whose place.
//!
//! A peer is kept by its identity, or by the stand-in that waits for it, never by its name: while a member is
//! being replaced there are two of one name. Every decision is one of [`crate::cluster`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::Connection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::refusal::{Ending, Refusal};
use super::shown::Shown;
use super::{OwnFeatures, PeerStatus};
use crate::cluster::copies::{Claim, claim};
use crate::cluster::{Known, Peer, Roster, Seat, Settings, door, removal, roster};
use crate::raft::NodeId;

/// The most connections of one peer that are served at once: the present one and those that it is about
/// to give up.
const ACCEPTED_MAX: usize = 4;

/// For how long a copy of a node's data directory is told of after it was refused last.
const COPY_TOLD: Duration = Duration::from_secs(60);

/// All peers, and what is known of who belongs.
#[derive(Debug)]
pub(super) struct Directory {
    roster: Roster,
    features: OwnFeatures,
    entries: BTreeMap<Seat, Entry>,
    /// How many entries there have been.
    begun: u64,
}

/// Names the place of a peer, and its task that dials, for as long as it is one, whatever identity it shows.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    number: u64,
    /// The peer's name.
    pub(super) name: String,
    /// Cuts the wait before the next attempt to connect short.
    pub(super) wake: Arc<Notify>,
    /// The peer is none any more.
    pub(super) stop: CancellationToken,
}

/// One peer.
#[derive(Debug)]
struct Entry {
    slot: Slot,
    peer: Peer,
    /// What the run of the node says of itself whose connections these are: all of them are of one.
    shown: Option<Shown>,
    link: Option<Arc<Link>>,
    accepted: Vec<Connection>,
    problem: Option<String>,
    /// Whether the problem is that this node's release is too old for the cluster.
    outgrown: bool,
    /// Who said there last that this node is no member, and which membership it knows.
    disowned: Option<(NodeId, Known)>,
    /// Where it was heard from last.
    heard_from: Option<SocketAddr>,
    /// Another host with its identity that was refused last, in words, and when.
    copy: Option<(Instant, String)>,
}

/// What follows from a hello.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Whether others should hear of the peer: it became part of a cluster.
    pub(super) news: bool,
}

impl Entry {
    fn is_connected(&self) -> bool {
        self.link.is_some() || !self.accepted.is_empty()
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.link.iter().map(|link| &link.connection).chain(&self.accepted)
    }

    /// The connections of another run of the node that shows itself on `connection`, and what that one is to them.
    fn claims<'a>(
        &'a self,
        shown: &'a Shown,
        connection: &'a Connection,
    ) -> impl Iterator<Item = (&'a Connection, Claim)> {
        let newcomer = shown.speaks_from(connection.remote_address());
        let present = self.shown.iter().filter(|present| present.is_same_node(shown));
        present.flat_map(move |present| {
            let open = self.connections().filter(|one| one.close_reason().is_none());
            open.map(move |one| (one, claim(present.speaks_from(one.remote_address()), newcomer)))
        })
    }

    /// Takes in what a node says on `connection`. What it said in an earlier run is over, with the connections of
    /// that; `over` are those of a run elsewhere that was found to be over. Refused while such a one lives.
    fn hear(
        &mut self,
        shown: &Shown,
        connection: &Connection,
        over: &[Connection],
    ) -> Result<Option<Shown>, Refusal> {
        let is_over = |one: &Connection| over.iter().any(|o| o.stable_id() == one.stable_id());
        let mut claims = self.claims(shown, connection);
        let lives = claims.find(|(one, claim)| *claim == Claim::Contested && !is_over(one));
        let first = lives.map(|(first, _)| first.remote_address());
        drop(claims);
        if let Some(first) = first {
            let second = connection.remote_address();
            let refusal = Refusal::copy(&self.slot.name, shown.hello.node_id, first, second);
            self.copy = Some((Instant::now(), refusal.sentence.clone()));
            return Err(refusal);
        }
        if self.shown.as_ref().is_some_and(|before| before.hello.run != shown.hello.run) {
            self.end_run();
            self.copy = None;
        }
        Ok(self.shown.replace(shown.clone()))
    }

    /// Closes the connections of a run of the node that is over.
    fn end_run(&mut self) {
        let over = Refusal::run_is_over(&self.slot.name);
        if let Some(link) = self.link.take() {
            over.close(&link.connection);
            link.close_queues();
        }
        for connection in self.accepted.drain(..) {
            over.close(&connection);
        }
    }

    fn close(&mut self, refusal: &Refusal) {
        if let Some(link) = &self.link {
            refusal.close(&link.connection);
            link.close_queues();
        }
        for connection in self.accepted.drain(..) {
            refusal.close(&connection);
        }
        self.shown = None;
    }
}

impl Directory {
    pub(super) fn new(roster: Roster, features: OwnFeatures) -> Directory {
        Directory { roster, features, entries: BTreeMap::new(), begun: 0 }
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Changes what is known of who belongs, closes the connections of those that do not any more, and returns
    /// the places of peers that are new and have to be dialled.
    pub(super) fn change(
        &mut self,
        stop: &CancellationToken,
        change: impl FnOnce(&mut Roster),
    ) -> Vec<Slot> {
        change(&mut self.roster);
        self.follow_roster(stop)
    }

    /// Takes in what a peer told of the membership.
    pub(super) fn learn(&mut self, stop: &CancellationToken, told: Option<&Known>) -> Vec<Slot> {
        let news = told.is_some_and(|told| self.roster.learn(told));
        if news { self.follow_roster(stop) } else { Vec::new() }
    }

    fn follow_roster(&mut self, stop: &CancellationToken) -> Vec<Slot> {
        let mut peers = self.roster.peers();
        let mut connected = self.connected();
        for (seat, mut entry) in std::mem::take(&mut self.entries) {
            let decided = entry.shown.as_ref().map(|shown| {
                connected.remove(&seat);
                door::decide(&self.roster, self.features.now(), shown.visitor(), &connected)
            });
            let now = match &decided {
                // Its identity took the place that was kept for it, or lost it again.
                Some(Ok(now))
                    if peers.get(now).is_some_and(|peer| peer.name == entry.slot.name) =>
                {
                    *now
                }
                _ => seat,
            };
            if let Some(Err(why)) = &decided {
                let shown = entry.shown.as_ref();
                let was = shown.is_some_and(|shown| self.roster.was_put_out(shown.hello.node_id));
                entry.close(&Refusal::of(&entry.slot.name, why).of_one(was));
            }
            match peers.remove(&now).filter(|peer| peer.name == entry.slot.name) {
                Some(peer) => {
                    let moved = entry.peer.addresses != peer.addresses;
                    entry.peer = peer;
                    if moved && entry.link.is_none() {
                        entry.slot.wake.notify_one();
                    }
                    if let Some(shown) = entry.shown.as_ref().filter(|_| entry.is_connected()) {
                        connected.insert(now, shown.hello.node_id);
                    }
                    self.entries.insert(now, entry);
                }
                None => {
                    entry.slot.stop.cancel();
                    entry.close(&self.no_peer(&entry.slot.name));
                }
            }
        }
        peers.into_iter().map(|(seat, peer)| self.begin(seat, peer, stop)).collect()
    }

    fn begin(&mut self, seat: Seat, peer: Peer, stop: &CancellationToken) -> Slot {
        self.begun += 1;
        let slot = Slot {
            number: self.begun,
            name: peer.name.clone(),
            wake: Arc::new(Notify::new()),
            stop: stop.child_token(),
        };
        let entry = Entry {
            slot: slot.clone(),
            peer,
            shown: None,
            link: None,
            accepted: Vec::new(),
            problem: None,
            outgrown: false,
            disowned: None,
            heard_from: None,
            copy: None,
        };
        self.entries.insert(seat, entry);
        slot
    }

    /// Who is connected in which place.
    fn connected(&self) -> BTreeMap<Seat, NodeId> {
        let connected = self.entries.iter().filter(|(_, entry)| entry.is_connected());
        connected
            .filter_map(|(seat, entry)| Some((*seat, entry.shown.as_ref()?.hello.node_id)))
            .collect()
    }

    /// Decides about a peer that has shown itself, in which place it belongs.
    fn check(&self, cluster: &str, shown: &Shown) -> Result<Seat, Refusal> {
        let Shown { certified, hello } = shown;
        for theirs in [&certified.cluster, &hello.cluster] {
            if theirs != cluster {
                return Err(Refusal::cluster_name(cluster, theirs));
            }
        }
        if certified.name != hello.name {
            return Err(Refusal::other_name(&certified.name, &hello.name));
        }
        let decided =
            door::decide(&self.roster, self.features.now(), shown.visitor(), &self.connected());
        decided.map_err(|why| {
            Refusal::of(&hello.name, &why).of_one(self.roster.was_put_out(hello.node_id))
        })
    }

    /// Why a place is none any more: nobody of that name is left, or it is known by its identity now, or by another.
    fn no_peer(&self, name: &str) -> Refusal {
        match self.roster.peers().values().any(|peer| peer.name == name) {
            true => Refusal::known_anew(name),
            false => Refusal::removed(name),
        }
    }

    /// Decides about a peer that was dialled as `slot`.
    fn check_dialled(&self, cluster: &str, shown: &Shown, slot: &Slot) -> Result<Seat, Refusal> {
        // Set under the lock: a link is never installed for a peer that was removed meanwhile.
        if slot.stop.is_cancelled() {
            return Err(self.no_peer(&slot.name));
        }
        let seat = self.check(cluster, shown)?;
        match self.entries.get(&seat) {
            Some(entry) if entry.slot.number == slot.number => Ok(seat),
            _ if shown.hello.name != slot.name => {
                Err(Refusal::other_name(&shown.hello.name, &slot.name))
            }
            _ => Err(Refusal::other_place(&slot.name, shown.hello.node_id)),
        }
    }

    /// Checks a peer that was dialled and, if nothing speaks against it, sends on the link that `open` makes.
    pub(super) fn install(
        &mut self,
        cluster: &str,
        shown: &Shown,
        slot: &Slot,
        (connection, over): (&Connection, &[Connection]),
        open: impl FnOnce() -> Arc<Link>,
    ) -> Result<Arc<Link>, Refusal> {
        let seat = self.check_dialled(cluster, shown, slot)?;
        let Some(entry) = self.entries.get_mut(&seat) else {
            return Err(Refusal::removed(&slot.name));
        };
        entry.hear(shown, connection, over)?;
        let link = open();
        entry.link = Some(link.clone());
        (entry.problem, entry.outgrown, entry.disowned) = (None, false, None);
        Ok(link)
    }

    /// Sends on `link` no more.
    pub(super) fn uninstall(&mut self, link: &Arc<Link>) {
        for entry in self.entries.values_mut() {
            entry.link.take_if(|present| Arc::ptr_eq(present, link));
        }
        link.close_queues();
    }

    /// Checks a peer that dialled and, if nothing speaks against it, remembers its connection.
    pub(super) fn admit(
        &mut self,
        cluster: &str,
        shown: &Shown,
        connection: &Connection,
        over: &[Connection],
    ) -> Result<Admitted, Refusal> {
        let seat = self.check(cluster, shown)?;
        let Some(entry) = self.entries.get_mut(&seat) else {
            return Err(Refusal::removed(&shown.hello.name));
        };
        let before = entry.hear(shown, connection, over)?;
        entry.heard_from = Some(connection.remote_address());
        let first = !entry.accepted.iter().any(|c| c.stable_id() == connection.stable_id());
        if first {
            entry.accepted.push(connection.clone());
            if entry.accepted.len() > ACCEPTED_MAX {
                let oldest = entry.accepted.remove(0);
                Refusal::protocol("too many connections of one node").close(&oldest);
            }
        }
        if entry.link.is_none() {
            // It lives, so it can be reached.
            if first {
                entry.slot.wake.notify_one();
            }
            return Ok(Admitted { news: false });
        }
        Ok(Admitted {
            news: before.and_then(|shown| shown.hello.cluster_id) != shown.hello.cluster_id,
        })
    }

    /// Checks what a peer that is connected says after this node, or the peer, joined a cluster.
    pub(super) fn renew(
        &mut self,
        cluster: &str,
        shown: &Shown,
        slot: &Slot,
    ) -> Result<Admitted, Refusal> {
        let seat = self.check_dialled(cluster, shown, slot)?;
        let Some(entry) = self.entries.get_mut(&seat) else {
            return Err(Refusal::removed(&slot.name));
        };
        if entry.link.as_ref().is_some_and(|link| link.node_id != shown.hello.node_id) {
            return Err(Refusal::protocol("another identity than in the first hello"));
        }
        if entry.shown.as_ref().is_some_and(|before| before.hello.run != shown.hello.run) {
            return Err(Refusal::protocol("another run of the node than in the first hello"));
        }
        let before = entry.shown.replace(shown.clone());
        Ok(Admitted {
            news: before.and_then(|shown| shown.hello.cluster_id) != shown.hello.cluster_id,
        })
    }

    /// The connections of other runs of the node that shows itself on `connection`, elsewhere: whether they live is
    /// to be found out before it is decided about.
    pub(super) fn contested(&self, shown: &Shown, connection: &Connection) -> Vec<Connection> {
        let claims = self.entries.values().flat_map(|entry| entry.claims(shown, connection));
        let contested = claims.filter(|(_, claim)| *claim == Claim::Contested);
        contested.map(|(connection, _)| connection.clone()).collect()
    }

    /// A connection that was admitted has ended.
    pub(super) fn leave(&mut self, connection: &Connection) {
        for entry in self.entries.values_mut() {
            entry.accepted.retain(|c| c.stable_id() != connection.stable_id());
        }
    }

    /// Where a peer can be dialled, the likeliest address first; none once it is no peer any more.
    pub(super) fn ways_to(&self, slot: &Slot) -> Vec<String> {
        let Some(entry) = self.entry(slot) else { return Vec::new() };
        let said = entry.shown.as_ref().map(|shown| shown.hello.addresses.raft.as_str());
        let heard = entry.heard_from.map(|heard| heard.to_string());
        match entry.accepted.is_empty() {
            true => roster::ways_to(&entry.peer, said, heard.as_deref()),
            false => roster::ways_to_caller(&entry.peer, said, heard.as_deref()),
        }
    }

    /// Why there is no connection with a peer. True if it says that this node is no member.
    pub(super) fn set_problem(&mut self, slot: &Slot, ending: &Ending) -> bool {
        let entry = self.entries.values_mut().find(|entry| entry.slot.number == slot.number);
        if let Some(entry) = entry {
            entry.problem = Some(ending.sentence.clone());
            entry.outgrown = ending.outgrown;
            let told = ending.told.as_deref().cloned();
            entry.disowned = ending.disowned.zip(told);
        }
        if ending.put_out {
            self.roster.told_put_out();
        }
        ending.disowned.is_some()
    }

    /// Those who say that this node is no member, and what they know. It counts who spoke, not who was dialled.
    pub(super) fn disowners(&self) -> BTreeMap<NodeId, Known> {
        let said = self.entries.values().filter_map(|entry| entry.disowned.clone());
        removal::newest_words(said)
    }

    /// All connections, those that this node dialled and those that it accepted, each with its peer's name.
    pub(super) fn connections(&self) -> Vec<(String, Connection)> {
        let of = |entry: &Entry| {
            let all = entry.connections().cloned();
            all.map(|connection| (entry.slot.name.clone(), connection)).collect::<Vec<_>>()
        };
        self.entries.values().flat_map(of).collect()
    }

    pub(super) fn links(&self) -> impl Iterator<Item = Arc<Link>> {
        self.entries.values().filter_map(|entry| entry.link.clone())
    }

    pub(super) fn links_by_name(&self) -> Vec<(String, Option<Arc<Link>>)> {
        self.entries.values().map(|entry| (entry.slot.name.clone(), entry.link.clone())).collect()
    }

    pub(super) fn take_links(&mut self) -> Vec<Arc<Link>> {
        self.entries.values_mut().filter_map(|entry| entry.link.take()).collect()
    }

    /// What each peer said last that its configuration says, whether or not it is connected now; none if it did not say.
    pub(super) fn settings(&self) -> Vec<(NodeId, Option<Settings>)> {
        let shown = self.entries.values().filter_map(|entry| entry.shown.as_ref());
        shown.map(|shown| (shown.hello.node_id, shown.hello.settings)).collect()
    }

    pub(super) fn status(&self) -> Vec<PeerStatus> {
        let status = |(seat, entry): (&Seat, &Entry)| {
            let hello = entry.shown.as_ref().map(|shown| &shown.hello);
            let certified = entry.shown.as_ref().map(|shown| &shown.certified);
            PeerStatus {
                seat: *seat,
                name: entry.slot.name.clone(),
                node_id: hello.map(|hello| hello.node_id),
                connected: entry.link.is_some(),
                cluster_id: hello.and_then(|hello| hello.cluster_id),
                version: hello.map(|hello| hello.version.clone()),
                addresses: hello.map(|hello| hello.addresses.clone()),
                settings: hello.and_then(|hello| hello.settings),
                features: hello.map(|hello| hello.features),
                certificate_expires: certified.map(|certified| certified.expires.clone()),
                certificate_serial: certified.map(|certified| certified.serial),
                rtt: entry.link.as_ref().map(|link| link.connection.rtt()),
                problem: entry.problem.clone(),
                outgrown: entry.problem.clone().filter(|_| entry.outgrown),
                copy: entry
                    .copy
                    .as_ref()
                    .filter(|(at, _)| at.elapsed() < COPY_TOLD)
                    .map(|(_, told)| told.clone()),
            }
        };
        self.entries.iter().map(status).collect()
    }

    fn entry(&self, slot: &Slot) -> Option<&Entry> {
        self.entries.values().find(|entry| entry.slot.number == slot.number)
    }
}
