//! What one node knows of who belongs to the cluster, and whom it dials.
//!
//! Three memberships count, and whoever is in any of them is dialled and listened to: the one in force in
//! the node's own log, which may yet be undone; the newest one that its log has committed; and the newest
//! committed one that somebody told of, until the log has it. So a node that was away while members changed
//! finds its way to a leader that it has never heard of, and an outgoing voter stays until it is decided
//! that it goes.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::change::stands_for_all;
use super::stand_in;
use crate::raft::{ClusterId, Index, LogId, Membership, Node, NodeId, Term};

/// How many identities that were put out are remembered: they count for as long as their hosts may knock.
const PUT_OUT_MAX: usize = 256;

/// A membership that is committed, and from which index of the log on it is known to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The index of its entry, or of a snapshot that states it.
    pub at: Index,
    /// The term of an entry there or further on that is committed. What an older term has left further on is not part
    /// of the log that the cluster agrees on, and is cut off when that is heard.
    pub term: Term,
    /// The membership.
    pub membership: Membership,
}

impl Known {
    /// What is newer orders after what is older, also where both state the same membership: first by the term, as terms
    /// only grow along the log that the cluster agrees on. By the index alone, a snapshot of an old term would hide
    /// what a later term says of the same membership.
    pub fn as_of(&self) -> (Term, Index) {
        (self.term, self.at)
    }
}

/// The membership in force with its entry, and the newest one that is committed.
pub type Memberships = (Option<(LogId, Membership)>, Option<Known>);

/// What a node's own log says.
pub fn memberships_of(node: &Node) -> Memberships {
    let [in_force, committed] = node.memberships();
    let known = |(LogId { term, index: at }, membership): (LogId, &Membership)| Known {
        at,
        term,
        membership: membership.clone(),
    };
    (in_force.map(|(entry, now)| (entry, now.clone())), committed.map(known))
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name, as its certificate states it.
    pub name: String,
    /// The identity of its data directory.
    pub id: NodeId,
}

/// Somebody to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, as its certificate has to state it.
    pub name: String,
    /// Where the memberships and the configuration say that it listens, the likeliest first.
    pub addresses: Vec<String>,
    /// Whether its identity is known: then its key is that, else it is kept for who shows itself.
    pub seen: bool,
    /// The identity that was put out for it, and is not let in in its place.
    pub replaces: Option<NodeId>,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Roster {
    own: Own,
    /// The servers of the configuration: name and where it listens for peers.
    configured: BTreeMap<String, String>,
    in_force: Option<(LogId, Membership)>,
    committed: Option<Known>,
    learnt: Option<Known>,
    /// Those that were put out, as far as this node saw it or was told, the last ones.
    put_out: VecDeque<NodeId>,
}

impl Roster {
    /// Of a node that knows its configuration only.
    pub fn new(own: Own, configured: BTreeMap<String, String>) -> Roster {
        Roster {
            own,
            configured,
            in_force: None,
            committed: None,
            learnt: None,
            put_out: VecDeque::new(),
        }
    }

    /// Who the node is.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// The cluster that the node belongs to; none before its log says so.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.in_force.as_ref().map(|(_, membership)| membership.cluster)
    }

    /// The membership in force in the node's own log.
    pub fn in_force(&self) -> Option<&Membership> {
        self.in_force.as_ref().map(|(_, membership)| membership)
    }

    /// The newest committed membership that the node knows of, its own or one that it was told.
    pub fn newest(&self) -> Option<&Known> {
        self.committed.iter().chain(&self.learnt).max_by_key(|known| known.as_of())
    }

    /// What the node tells of who belongs: the newest that it knows. But whoever was put out tells what named it
    /// last: by that the others know that it was a member and is none any more.
    pub fn told(&self) -> Option<Known> {
        let own = self.committed.clone().or_else(|| self.founding());
        let Some(newest) = self.newest() else { return own };
        let names_this = |known: &Known| names(&known.membership, self.own.id);
        let last = own.filter(|own| own.membership.cluster == newest.membership.cluster);
        last.filter(|own| names_this(own) && !names_this(newest)).or_else(|| Some(newest.clone()))
    }

    /// The membership in force if it is that of the log's first entry. No other can come in its place: whoever
    /// founds a cluster draws its identity, and the log of another is no log of this one.
    fn founding(&self) -> Option<Known> {
        let (LogId { term, index: at }, membership) = self.in_force.as_ref()?;
        (*at == Index(1)).then(|| Known { at: *at, term: *term, membership: membership.clone() })
    }

    /// Takes in what was decided before what the log has committed now, each with the index of its entry.
    pub fn remember(&mut self, history: impl IntoIterator<Item = (Index, Membership)>) {
        for (at, earlier) in history {
            self.note_put_out(at, &earlier);
        }
    }

    /// Whether the newest membership that the node knows of is one without it, although its log is of that
    /// cluster: what it would say of the members is out of date.
    pub fn is_outside(&self) -> bool {
        let without = |known: &Known| !names(&known.membership, self.own.id);
        self.cluster().is_some() && self.newest().is_some_and(without)
    }

    /// Whether an identity was a member and is none any more, as far as this node saw it or was told. It stays so:
    /// an identity is that of a data directory, and a host that is taken in again has an empty one.
    pub fn was_put_out(&self, id: NodeId) -> bool {
        self.put_out.contains(&id)
    }

    /// A member tells that this node was one, too, and is none any more.
    pub fn told_put_out(&mut self) {
        if !self.was_put_out(self.own.id) {
            self.put_out.push_back(self.own.id);
        }
    }

    /// Whether anything that the node knows, be it undecided, has ever named it. A host that a leader lets in catches up from
    /// the log's beginning, and until it comes to its own admission nothing does.
    pub fn was_named(&self) -> bool {
        self.is_member() || self.was_put_out(self.own.id)
    }

    /// Remembers whom a membership names that was decided before the newest one, which does not.
    /// Whom a change of the voters that was under way has only just let in does not count: it may have been undone.
    fn note_put_out(&mut self, at: Index, before: &Membership) {
        let Some(newest) = self.newest() else { return };
        let now = &newest.membership;
        if newest.at <= at || before.cluster != now.cluster {
            return;
        }
        let undone = before.undone();
        let members = &undone.as_ref().unwrap_or(before).members;
        let seen = members.iter().filter(|(_, member)| member.seen).map(|(id, _)| *id);
        let gone: Vec<NodeId> =
            seen.filter(|id| !names(now, *id) && !self.put_out.contains(id)).collect();
        self.put_out.extend(gone);
        let over = self.put_out.len().saturating_sub(PUT_OUT_MAX);
        self.put_out.drain(..over);
    }

    /// The log states another membership, or has committed another.
    pub fn follow(&mut self, (in_force, committed): Memberships) {
        let before = self.newest().cloned();
        (self.in_force, self.committed) = (in_force, committed);
        let (decided, cluster) = (self.decided_as_of(), self.cluster());
        self.learnt.take_if(|learnt| {
            let other = cluster.is_some_and(|own| own != learnt.membership.cluster);
            Some(learnt.as_of()) <= decided || other
        });
        if let Some(before) = before {
            self.note_put_out(before.at, &before.membership);
        }
    }

    /// Somebody tells of a membership. True if that is news: whom to dial and whom to let in has changed then.
    ///
    /// Who belongs to no cluster yet listens to one that waits for it, and only to the first.
    pub fn learn(&mut self, told: &Known) -> bool {
        let own = self.learnt.as_ref().map(|learnt| learnt.membership.cluster);
        let fits = match self.cluster().or(own) {
            Some(own) => told.membership.cluster == own,
            None => self.is_awaited_in(&told.membership),
        };
        let known = self.decided_as_of().max(self.learnt.as_ref().map(Known::as_of));
        let news = fits && known.is_none_or(|known| told.as_of() > known);
        let before = self.newest().cloned();
        if news {
            self.learnt = Some(told.clone());
        }
        for earlier in before.iter().chain([told]) {
            self.note_put_out(earlier.at, &earlier.membership);
        }
        news
    }

    /// As of when the log's newest membership is known to be committed. What is not may be cut off again: it says
    /// nothing against what somebody tells, however far the log goes.
    fn decided_as_of(&self) -> Option<(Term, Index)> {
        self.committed.as_ref().map(Known::as_of)
    }

    /// Whether the newest membership that the node knows of keeps a place for it.
    pub fn is_awaited(&self) -> bool {
        self.newest().is_some_and(|known| self.is_awaited_in(&known.membership))
    }

    fn is_awaited_in(&self, membership: &Membership) -> bool {
        let stand_in = stand_in(&self.own.name);
        membership.members.contains_key(&self.own.id) || membership.members.contains_key(&stand_in)
    }

    /// The memberships that count, the newest first.
    pub(super) fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let learnt = self.learnt.as_ref().map(|known| &known.membership);
        let committed = self.committed.as_ref().map(|known| &known.membership);
        learnt.into_iter().chain(self.in_force()).chain(committed)
    }

    /// Whether the node belongs to any of the memberships that count.
    pub fn is_member(&self) -> bool {
        self.memberships().any(|one| names(one, self.own.id))
    }

    /// The newest index as of which a membership names the node, `newest` being the newest that is committed: what its
    /// own log has further on of an older term counts for nothing.
    pub(super) fn named_at(&self, newest: &Known) -> Option<Index> {
        let names = |membership: &Membership| names(membership, self.own.id);
        // If it is the very entry that is committed there, the newest says the same.
        let other = |entry: &LogId| entry.index != newest.at;
        let stands = |entry: &LogId| entry.index <= newest.at || entry.term >= newest.term;
        let counts = |entry: &LogId| other(entry) && stands(entry);
        let in_force = self.in_force.iter().filter(|(entry, one)| names(one) && counts(entry));
        let in_force = in_force.map(|(entry, _)| entry.index);
        let known = self.committed.iter().chain(&self.learnt);
        in_force.chain(known.filter(|known| names(&known.membership)).map(|known| known.at)).max()
    }

    /// Whom to be connected to: each by its identity, or by a stand-in as long as that is not known. Those of
    /// the configuration until there is a membership, which rules from then on.
    pub fn peers(&self) -> BTreeMap<NodeId, Peer> {
        let mut peers: BTreeMap<NodeId, Peer> = BTreeMap::new();
        let mut ruled = false;
        for membership in self.memberships() {
            ruled = true;
            for (&id, member) in &membership.members {
                let waits_here = !member.seen && member.name == self.own.name;
                if id == self.own.id || waits_here {
                    continue;
                }
                let peer = peers.entry(id).or_insert_with(|| Peer {
                    name: member.name.clone(),
                    addresses: Vec::new(),
                    seen: member.seen,
                    replaces: member.replaces,
                });
                push_new(&mut peer.addresses, &member.raft_address);
            }
        }
        // The way to the others if the whole cluster has moved.
        for peer in peers.values_mut().filter(|peer| peer.name != self.own.name) {
            if let Some(address) = self.configured.get(&peer.name) {
                push_new(&mut peer.addresses, address);
            }
        }
        if !ruled {
            for (name, address) in
                self.configured.iter().filter(|(name, _)| **name != self.own.name)
            {
                let addresses = vec![address.clone()];
                let peer = Peer { name: name.clone(), addresses, seen: false, replaces: None };
                peers.insert(stand_in(name), peer);
            }
        }
        peers
    }
}

/// Where a peer can be dialled, the likeliest first: where memberships and configuration say, where it says
/// itself that it listens, and where it was heard from.
pub fn ways_to(peer: &Peer, said: Option<&str>, heard_from: Option<&str>) -> Vec<String> {
    let mut ways = peer.addresses.clone();
    for address in said.into_iter().chain(heard_from) {
        push_new(&mut ways, address);
    }
    ways
}

/// The same of one that is connected from its side: what it says is as of now, and all else may be as of before it was
/// started again elsewhere.
pub fn ways_to_caller(peer: &Peer, said: Option<&str>, heard_from: Option<&str>) -> Vec<String> {
    let said = said.filter(|said| !stands_for_all(said));
    let mut ways: Vec<String> = said.map(str::to_owned).into_iter().collect();
    for address in ways_to(peer, said, heard_from) {
        push_new(&mut ways, &address);
    }
    ways.retain(|way| !way.is_empty());
    ways
}

/// Whether a node belongs to a membership, be it as one whose vote is needed until it is decided that it goes.
fn names(membership: &Membership, id: NodeId) -> bool {
    membership.members.contains_key(&id) || membership.is_voter(id)
}

fn push_new(addresses: &mut Vec<String>, address: &str) {
    if !address.is_empty() && addresses.iter().all(|one| one != address) {
        addresses.push(address.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_calls_is_dialled_where_it_says_first() {
        let addresses = vec!["member:1".to_owned(), "file:1".to_owned()];
        let peer = Peer { name: "n1".to_owned(), addresses, seen: true, replaces: None };
        let ways = |said: &str| ways_to_caller(&peer, Some(said), Some("heard:1"));
        assert_eq!(ways("said:1"), ["said:1", "member:1", "file:1", "heard:1"]);
        assert_eq!(ways("file:1"), ["file:1", "member:1", "heard:1"]);
        // What leads to every machine, or nowhere, leads to none in particular.
        assert_eq!(ways("0.0.0.0:1"), ["member:1", "file:1", "heard:1"]);
        assert_eq!(ways(""), ["member:1", "file:1", "heard:1"]);
        assert_eq!(ways_to(&peer, Some("said:1"), None), ["member:1", "file:1", "said:1"]);
    }
}
