//! Connections between hosts: who dials whom and where, what both say of themselves, and who lets whom in. A link
//! is one way: who dialled sends on it.

use std::collections::{BTreeMap, BTreeSet};

use konsen::cluster::{
    Addresses, Features, Known, Roster, Seat, Shown, Visitor, Why, door, reconcile, removal, roster,
};
use konsen::kv::{FeatureLevel, Settings};
use konsen::raft::{ClusterId, Input, Membership, NodeId};
use konsen::replica::Event;

use super::due::Due;
use super::oracle::{Broken, ensure};
use super::plan::Time;
use super::world::World;

/// The pause of a host between two looks at whom to dial, on a fast cluster.
const DIAL_EVERY: (Time, Time) = (50, 100);
/// How long a way may be gone until the connections over it end, on a fast cluster.
const IDLE_MAX: Time = 1_000;

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The place of the one who was dialled at the one who dialled, and the other way round.
    seats: [Seat; 2],
    /// What the one who dialled said of itself, and what the other did.
    hellos: [Hello; 2],
    /// Since when the way has been gone.
    cut_since: Option<Time>,
}

/// What a host says of itself when it connects.
#[derive(Clone, Debug)]
struct Hello {
    name: String,
    id: NodeId,
    cluster: Option<ClusterId>,
    addresses: Addresses,
    features: Features,
    settings: Settings,
}

impl Hello {
    fn visitor(&self) -> Visitor<'_> {
        let Hello { name, id, cluster, features, .. } = self;
        Visitor { name, id: *id, cluster: *cluster, features: *features }
    }
}

/// Somebody is about to be dialled.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) from: usize,
    pub(super) life: u64,
    pub(super) seat: Seat,
    pub(super) to: usize,
}

impl World {
    /// Looks whom to dial, gives up what has been gone for long, and does whatever else there is to do from time
    /// to time.
    pub(super) fn dial(&mut self, host: usize, life: u64) -> Result<(), Broken> {
        let pause = self.chance.pace.range(DIAL_EVERY.0, DIAL_EVERY.1) * self.plan.slowness;
        self.after(pause, Due::Dial { host, life });
        self.end_idle_links(host)?;
        if !self.is_up(host, life) {
            return Ok(());
        }
        for (seat, way) in self.ways_to_dial(host) {
            let listener = (0..self.hosts.len()).find(|&other| {
                self.hosts[other].running.is_some()
                    && self.hosts[other].config.addresses.raft == way
            });
            let lost = !self.calm && self.chance.net.chance(self.plan.loss);
            match listener {
                Some(to) if to != host && !lost && self.is_open(host, to) => {
                    let delay = 1 + self.chance.net.below(self.plan.delay);
                    self.after(delay, Due::Knock(Call { from: host, life, seat, to }));
                }
                _ => self.count("dials that reach nobody"),
            }
        }
        self.ask_the_way(host)?;
        self.bootstrap(host)?;
        self.do_chores(host)?;
        self.raise_level(host)?;
        self.agree_on_settings(host)?;
        self.change_access(host)?;
        self.anchor_audits(host)?;
        self.lead_the_members(host)
    }

    /// Each peer to which a host has no link, and where it tries next.
    fn ways_to_dial(&mut self, host: usize) -> Vec<(Seat, String)> {
        let linked: BTreeSet<Seat> =
            self.links.range((host, 0)..(host + 1, 0)).map(|(_, link)| link.seats[0]).collect();
        let Some(running) = &mut self.hosts[host].running else { return Vec::new() };
        let peers = running.roster.peers();
        let mut ways = Vec::new();
        for (seat, peer) in peers.iter().filter(|(seat, _)| !linked.contains(seat)) {
            let met = running.met.entry(*seat).or_default();
            let said = met.said.as_ref().map(|said| said.raft.as_str());
            let all = roster::ways_to(peer, said, met.heard_from.as_deref());
            let times = running.dialled.entry(*seat).or_default();
            if let Some(way) = all.get(*times % all.len().max(1)) {
                ways.push((*seat, way.clone()));
            }
            *times += 1;
        }
        ways
    }

    /// Whether one of the addresses at which a host looks for another is where that is.
    pub(super) fn knows_the_way(&self, host: usize, to: usize) -> bool {
        let Some(running) = &self.hosts[host].running else { return false };
        let (seat, peers) = (self.hosts[to].id, running.roster.peers());
        let met = running.met.get(&seat);
        let said = met.and_then(|met| met.said.as_ref()).map(|said| said.raft.as_str());
        let heard_from = met.and_then(|met| met.heard_from.as_deref());
        peers.get(&seat).is_some_and(|peer| {
            let ways = roster::ways_to(peer, said, heard_from);
            ways.contains(&self.hosts[to].config.addresses.raft)
        })
    }

    pub(super) fn is_open(&self, one: usize, other: usize) -> bool {
        self.blocked[one][other] == 0 && self.blocked[other][one] == 0
    }

    /// Whether `from` has a link to the identity `to`, which is that of a host that runs.
    pub(super) fn is_linked(&self, from: usize, to: usize, id: NodeId) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.hellos[1].id == id)
    }

    /// The highest feature level of the node `id`, as it said on the link that a host has to it.
    pub(super) fn highest_shown(&self, host: usize, id: NodeId) -> Option<FeatureLevel> {
        let links = self.links.range((host, 0)..(host + 1, 0));
        let link = links.map(|(_, link)| link).find(|link| link.hellos[1].id == id)?;
        Some(link.hellos[1].features.highest)
    }

    /// What the configuration of the node `id` says, as it said on the link that a host has to it.
    pub(super) fn settings_shown(&self, host: usize, id: NodeId) -> Option<Settings> {
        let links = self.links.range((host, 0)..(host + 1, 0));
        let link = links.map(|(_, link)| link).find(|link| link.hellos[1].id == id)?;
        Some(link.hellos[1].settings)
    }

    fn hello(&self, host: usize) -> Option<(Hello, Option<Known>)> {
        let one = &self.hosts[host];
        let roster = &one.running.as_ref()?.roster;
        let config = &one.config;
        let hello = Hello {
            name: config.name.clone(),
            id: one.id,
            cluster: roster.cluster(),
            addresses: config.addresses.clone(),
            features: self.features_of(host),
            settings: self.settings_of(host),
        };
        Some((hello, roster.told()))
    }

    /// A call reaches whoever listens: both say who they are and what they know, learn, and decide.
    pub(super) fn knock(&mut self, call: Call) -> Result<(), Broken> {
        let Call { from, life, seat, to } = call;
        let still =
            self.hosts[to].paused_until > self.now || self.hosts[from].paused_until > self.now;
        if !self.is_up(from, life) || still || !self.is_open(from, to) {
            return Ok(());
        }
        let (Some((caller, callers)), Some((called, theirs))) = (self.hello(from), self.hello(to))
        else {
            return Ok(());
        };
        let wanted = self.roster(from).and_then(|roster| roster.peers().remove(&seat));
        if self.links.contains_key(&(from, to))
            || wanted.is_none_or(|peer| peer.name != called.name)
        {
            self.count("dials that reach another");
            return Ok(());
        }
        self.learn(from, theirs.as_ref())?;
        self.learn(to, callers.as_ref())?;
        let connected = [self.connected(from), self.connected(to)];
        let (Some(own), Some(other)) = (self.roster(from), self.roster(to)) else { return Ok(()) };
        let dialled = door::decide(own, caller.features, called.visitor(), &connected[0]);
        let accepted = door::decide(other, called.features, caller.visitor(), &connected[1]);
        for (why, visitor, at) in
            [(dialled.as_ref().err(), to, from), (accepted.as_ref().err(), from, to)]
        {
            if let Some(why) = why {
                self.refused_rightly(visitor, at, why)?;
            }
        }
        self.trace(|_| format!("{} dials {}: {dialled:?}, {accepted:?}", caller.id, called.id));
        match (dialled, accepted) {
            (Ok(place), Ok(back)) if place == seat => {
                self.count("links");
                let heard_from = Some(caller.addresses.raft.clone());
                self.meet(from, place, &called.addresses, None);
                self.meet(to, back, &caller.addresses, heard_from);
                self.hear_settings([from, to], [&called, &caller]);
                let link = Link { seats: [place, back], hellos: [caller, called], cut_since: None };
                self.links.insert((from, to), link);
                if let Some(running) = &mut self.hosts[from].running {
                    running.disowners.remove(&seat);
                    running.dialled.remove(&seat);
                }
                Ok(())
            }
            (_, Err(why)) => self.refused(from, seat, to, &why),
            _ => Ok(()),
        }
    }

    fn hear_settings(&mut self, hosts: [usize; 2], said: [&Hello; 2]) {
        for (host, Hello { id, settings, .. }) in hosts.into_iter().zip(said) {
            if let Some(running) = &mut self.hosts[host].running {
                running.said.insert(*id, *settings);
            }
        }
    }

    fn meet(&mut self, host: usize, seat: Seat, said: &Addresses, heard_from: Option<String>) {
        if let Some(running) = &mut self.hosts[host].running {
            let met = running.met.entry(seat).or_default();
            met.said = Some(said.clone());
            met.heard_from = heard_from.or(met.heard_from.take());
        }
    }

    /// A host hears why another does not let it in, and what that knows of the membership.
    fn refused(&mut self, host: usize, seat: Seat, by: usize, why: &Why) -> Result<(), Broken> {
        self.count(match why {
            Why::OtherCluster { .. } => "refused: another cluster",
            Why::Copy { .. } => "refused: a copy",
            Why::OtherIdentity { .. } => "refused: another identity",
            Why::Replaced { .. } => "refused: replaced",
            Why::NoMember { .. } => "refused: no member",
            Why::Taken { .. } => "refused: the place is taken",
            Why::TooOld { .. } => "refused: its release is too old",
            Why::Outgrown { .. } => "refused: the release here is too old",
        });
        let told = self.roster(by).and_then(Roster::newest).cloned();
        let speaker = self.hosts[by].id;
        let id = self.hosts[host].id;
        let put_out = why.disowns() && self.roster(by).is_some_and(|by| by.was_put_out(id));
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        running.disowners.remove(&seat);
        if let Some(told) = told.as_ref().filter(|_| why.disowns()) {
            running.disowners.insert(seat, (speaker, told.clone()));
        }
        if put_out {
            running.roster.told_put_out();
        }
        self.learn(host, told.as_ref())?;
        self.look_whether_removed(host)
    }

    /// Who knows a membership that names both lets a member in: nobody else may be needed for a quorum.
    fn refused_rightly(&self, visitor: usize, by: usize, why: &Why) -> Result<(), Broken> {
        let ids = [visitor, by].map(|host| self.hosts[host].id);
        if self.is_lost(visitor) != self.is_lost(by) || matches!(why, Why::Taken { .. }) {
            return Ok(());
        }
        let too_old = match why {
            Why::TooOld { .. } => Some(visitor),
            Why::Outgrown { .. } => Some(by),
            _ => None,
        };
        if too_old.is_some_and(|host| self.is_too_old(host)) {
            return Ok(());
        }
        let Some((at, now)) = self.newest_committed(by) else { return Ok(()) };
        let both = ids.iter().all(|id| now.members.contains_key(id) || now.is_voter(*id));
        let known = self.roster(by).and_then(Roster::newest);
        let knows =
            known.is_some_and(|known| known.at >= at && known.membership.cluster == now.cluster);
        ensure!(
            !both || !knows,
            "{} does not let {} in ({why:?}), and both are members as of {at}",
            ids[1],
            ids[0]
        );
        Ok(())
    }

    pub(super) fn roster(&self, host: usize) -> Option<&Roster> {
        self.hosts[host].running.as_ref().map(|up| &up.roster)
    }

    /// Who is connected with a host in which place.
    fn connected(&self, host: usize) -> BTreeMap<Seat, NodeId> {
        let mut connected = BTreeMap::new();
        for ((from, to), link) in &self.links {
            if *from == host {
                connected.insert(link.seats[0], link.hellos[1].id);
            }
            if *to == host {
                connected.insert(link.seats[1], link.hellos[0].id);
            }
        }
        connected
    }

    /// A host is told of a membership.
    pub(super) fn learn(&mut self, host: usize, told: Option<&Known>) -> Result<(), Broken> {
        let Some((running, told)) = self.hosts[host].running.as_mut().zip(told) else {
            return Ok(());
        };
        if running.roster.learn(told) {
            let id = self.hosts[host].id;
            self.count("memberships learnt");
            self.trace(|_| format!("{id} learns of the membership of {}", told.at));
            return self.decide_anew(host);
        }
        Ok(())
    }

    /// A host's log states another membership, or has committed another.
    pub(super) fn follow_memberships(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        let newcomer = running.roster.cluster().is_none();
        running.roster.follow(running.replica.memberships());
        if newcomer && let Some((hello, _)) = self.hello(host) {
            // It says so at once to everybody that it is connected with.
            for ((from, to), link) in &mut self.links {
                for (end, place) in [(*from, 0), (*to, 1)] {
                    if end == host {
                        link.hellos[place] = hello.clone();
                    }
                }
            }
        }
        self.decide_anew(host)
    }

    /// What a host knows of who belongs has changed: it decides about everybody who is connected once more.
    fn decide_anew(&mut self, host: usize) -> Result<(), Broken> {
        let keys: Vec<(usize, usize)> =
            self.links.keys().filter(|(from, to)| *from == host || *to == host).copied().collect();
        for key in keys {
            let Some(mut link) = self.links.remove(&key) else { continue };
            // The end that decides, and the other one.
            let (own, other) = if key.0 == host { (0, 1) } else { (1, 0) };
            let mut connected = self.connected(host);
            connected.retain(|_, shown| *shown != link.hellos[other].id);
            let Some(roster) = self.roster(host) else { continue };
            let features = self.features_of(host);
            let decided = door::decide(roster, features, link.hellos[other].visitor(), &connected);
            let visitor = if own == 0 { key.1 } else { key.0 };
            match decided {
                Ok(seat) => {
                    let before = std::mem::replace(&mut link.seats[own], seat);
                    let said = link.hellos[other].addresses.clone();
                    if before != seat {
                        let met = self.hosts[host].running.as_mut();
                        let met = met.and_then(|up| up.met.remove(&before)).unwrap_or_default();
                        self.meet(host, seat, &said, met.heard_from);
                    }
                    self.links.insert(key, link);
                }
                Err(why) => {
                    self.count("links ended by a door");
                    let ids = [0, 1].map(|end| link.hellos[end].id);
                    self.trace(|_| {
                        format!("{} ends its link with {}: {why:?}", ids[own], ids[other])
                    });
                    self.refused_rightly(visitor, host, &why)?;
                    self.way_is_lost(key, &link)?;
                    if own == 1 {
                        self.refused(visitor, link.seats[0], host, &why)?;
                    }
                }
            }
        }
        if let Some(running) = &mut self.hosts[host].running {
            let peers = running.roster.peers();
            running.met.retain(|seat, _| peers.contains_key(seat));
            running.disowners.retain(|seat, _| peers.contains_key(seat));
            running.dialled.retain(|seat, _| peers.contains_key(seat));
        }
        self.look_whether_removed(host)
    }

    /// The one who sends on a link learns that it is gone.
    fn way_is_lost(&mut self, (from, _): (usize, usize), link: &Link) -> Result<(), Broken> {
        if self.hosts[from].running.is_none() {
            return Ok(());
        }
        let (host, peer, life) = (from, link.hellos[1].id, self.hosts[from].life);
        self.after(0, Due::WayLost { host, life, peer });
        Ok(())
    }

    /// All links of a host end with it.
    pub(super) fn end_links_of(&mut self, host: usize) {
        let keys: Vec<(usize, usize)> =
            self.links.keys().filter(|(from, to)| *from == host || *to == host).copied().collect();
        for key in keys {
            let Some(link) = self.links.remove(&key) else { continue };
            let other = key.0;
            // Not everybody hears of it soon.
            if other != host && self.chance.net.chance(500) {
                let (life, peer) = (self.hosts[other].life, link.hellos[1].id);
                let delay = self.chance.net.below(20) * self.plan.slowness;
                self.after(delay, Due::WayLost { host: other, life, peer });
            }
        }
    }

    pub(super) fn way_lost(&mut self, host: usize, peer: NodeId) -> Result<(), Broken> {
        self.step(host, Event::Raft(Input::Unreachable { peer }))
    }

    /// Gives up the links over ways that have been gone for long.
    fn end_idle_links(&mut self, host: usize) -> Result<(), Broken> {
        let keys: Vec<(usize, usize)> =
            self.links.range((host, 0)..(host + 1, 0)).map(|(key, _)| *key).collect();
        for key in keys {
            let cut = !self.is_open(key.0, key.1);
            let Some(link) = self.links.get_mut(&key) else { continue };
            link.cut_since = cut.then_some(link.cut_since.unwrap_or(self.now));
            let patience = IDLE_MAX * self.plan.slowness;
            if link.cut_since.is_some_and(|since| self.now - since > patience) {
                let link = link.clone();
                self.links.remove(&key);
                self.count("links lost");
                self.way_is_lost(key, &link)?;
            }
        }
        Ok(())
    }

    /// Who hears no leader for an election time-out asks everybody that it reaches for the newest membership.
    fn ask_the_way(&mut self, host: usize) -> Result<(), Broken> {
        let (now, patience) = (self.now, self.plan.election());
        let Some(running) = &mut self.hosts[host].running else { return Ok(()) };
        running.leaderless = match running.replica.summary().leader {
            Some(_) => None,
            None => running.leaderless.or(Some(now)),
        };
        if running.leaderless.is_none_or(|since| now - since < patience) {
            return Ok(());
        }
        let others: Vec<usize> =
            self.links.range((host, 0)..(host + 1, 0)).map(|((_, to), _)| *to).collect();
        for other in others {
            self.ask_members(host, other);
        }
        Ok(())
    }

    /// A host asks another who the members are.
    pub(super) fn ask_members(&mut self, host: usize, other: usize) {
        let away = !self.is_open(host, other) || self.hosts[other].paused_until > self.now;
        let lost = !self.calm && self.chance.net.chance(self.plan.loss);
        let known = self.roster(other).and_then(Roster::newest).cloned();
        if let Some(known) = known.filter(|_| !away && !lost) {
            let life = self.hosts[host].life;
            let delay = 1 + self.chance.net.below(2 * self.plan.delay);
            self.after(delay, Due::Told { host, life, known });
        }
    }

    /// Stops a host that finds out that it was put out.
    fn look_whether_removed(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let disowners = removal::newest_words(running.disowners.values().cloned());
        if !removal::is_removed(&running.roster, &disowners) {
            return Ok(());
        }
        let id = self.hosts[host].id;
        // An empty directory may be put out by one cluster while the other one waits for it, too.
        let by = |now: &Membership| {
            disowners.values().any(|known| known.membership.cluster == now.cluster)
        };
        if let Some((at, now)) = self.newest_committed(host).filter(|(_, now)| by(now)) {
            ensure!(
                !now.members.contains_key(&id) && !now.is_voter(id),
                "{id} stops as if removed, and is a member as of {at}: {now:?}"
            );
        }
        self.trace(|_| format!("{id} was removed and stops"));
        self.count("removed hosts that stop");
        self.end_transfers_of(host)?;
        self.crash(host, false);
        self.hosts[host].removed = true;
        Ok(())
    }

    /// The hosts that are connected both ways with one, and that one, as each showed itself.
    pub(super) fn shown_to(&self, host: usize) -> Vec<Shown> {
        let Some((own, _)) = self.hello(host) else { return Vec::new() };
        let now = self.hosts[host].running.as_ref().and_then(|up| up.replica.membership());
        let both = self.links.range((host, 0)..(host + 1, 0)).filter_map(|((_, other), link)| {
            let back = self.links.get(&(*other, host))?;
            let shows = &link.hellos[1];
            let same = back.hellos[0].id == shows.id;
            (same && reconcile::has_place(link.seats[0], &shows.name, now)).then(|| shows.clone())
        });
        let show =
            |Hello { name, id, addresses, .. }| Shown { id, name, addresses: Some(addresses) };
        std::iter::once(own).chain(both).map(show).collect()
    }

    /// Who is connected with a host that belongs to no cluster, by name.
    pub(super) fn present_at(
        &self,
        host: usize,
    ) -> BTreeMap<String, (usize, NodeId, Option<ClusterId>)> {
        let links = self.links.range((host, 0)..(host + 1, 0));
        links
            .map(|((_, other), link)| {
                let Hello { name, id, cluster, .. } = &link.hellos[1];
                (name.clone(), (*other, *id, *cluster))
            })
            .collect()
    }
}
