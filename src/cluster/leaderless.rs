//! Why no leader can be elected, in a sentence for whoever runs the nodes.
//!
//! Who is to lead needs the votes of a majority, and a host that the cluster knows by its name only has none to give:
//! its place counts in the size of the majority, and can be part of none. Only a leader takes it in. So where those
//! that founded the cluster are gone again before that, such a host helps nobody, however well it is connected.

use std::collections::BTreeSet;

use super::{Own, stand_in};
use crate::raft::{Membership, NodeId};

/// Why those that the node of `own` is connected to can elect no leader with it; none if they can, as far as votes
/// go. `connected` tells of each place, be it a member's or one that waits for its host.
pub fn obstacle(now: &Membership, own: &Own, connected: &dyn Fn(NodeId) -> bool) -> Option<String> {
    let seen_from = View { now, own, connected };
    let after = Side::of(&now.voters, &seen_from);
    let Some(outgoing) = &now.outgoing else {
        return (!after.can_elect()).then(|| format!("no leader: {}", after.lack()));
    };
    let before = Side::of(outgoing, &seen_from);
    // Only with those from before it can a change be undone.
    let undo = match before.can_elect() {
        true => "; if they are lost for good, see `konsen member undo --help`",
        false => "",
    };
    (!before.can_elect() || !after.can_elect()).then(|| {
        format!(
            "no leader: the voters are being changed, so those before and those after it have to agree; before: {}; \
             after: {}{undo}",
            before.sentence(),
            after.sentence()
        )
    })
}

/// Whether a member was not taken in yet, or not for good: it has no vote to give before that is decided.
pub fn is_awaited(now: &Membership, id: NodeId) -> bool {
    let Some(member) = now.members.get(&id) else { return false };
    let place = stand_in(&member.name);
    !member.seen || now.outgoing.as_ref().is_some_and(|before| before.contains(&place))
}

struct View<'a> {
    now: &'a Membership,
    own: &'a Own,
    connected: &'a dyn Fn(NodeId) -> bool,
}

/// One of those without whom there is no majority.
struct Missing {
    name: String,
    why: Absence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// It has a vote, and no connection.
    Away,
    /// It was never taken in, so that it has no vote to give.
    Awaited {
        /// Whether its host is there.
        connected: bool,
    },
    /// It is being taken in, which is not decided.
    Entering,
}

/// A set of voters of which a majority is needed.
struct Side {
    voters: usize,
    here: usize,
    /// Those that could vote come first.
    missing: Vec<Missing>,
}

impl View<'_> {
    /// Why a voter is missing; none if it is here and can vote.
    fn missing(&self, id: NodeId) -> Option<Missing> {
        let there = id == self.own.id || (self.connected)(id);
        let missing = |name: &str, why| Some(Missing { name: name.to_owned(), why });
        // The place of a host that is just being taken in stays until that is decided, perhaps as a voter alone.
        let mut members = self.now.members.values();
        if let Some(member) = members.find(|member| member.seen && stand_in(&member.name) == id) {
            return missing(&member.name, Absence::Entering);
        }
        if let Some(member) = self.now.members.get(&id) {
            let connected = there || member.name == self.own.name;
            return match (member.seen, there) {
                (true, true) => None,
                (true, false) => missing(&member.name, Absence::Away),
                (false, _) => missing(&member.name, Absence::Awaited { connected }),
            };
        }
        match there {
            true => None,
            false => missing(&format!("a voter that is to go ({id})"), Absence::Away),
        }
    }
}

impl Side {
    fn of(voters: &BTreeSet<NodeId>, seen_from: &View<'_>) -> Side {
        let mut missing: Vec<Missing> =
            voters.iter().filter_map(|id| seen_from.missing(*id)).collect();
        let here = voters.len() - missing.len();
        missing.sort_by_key(|one| (one.why != Absence::Away, one.name.clone()));
        Side { voters: voters.len(), here, missing }
    }

    fn needed(&self) -> usize {
        self.voters / 2 + 1
    }

    fn can_elect(&self) -> bool {
        self.here >= self.needed()
    }

    fn sentence(&self) -> String {
        match self.can_elect() {
            true => format!("{} of {}, which is enough", self.here, self.voters),
            false => self.lack(),
        }
    }

    /// How many are here and needed, who is missing and why, and who would have to come.
    fn lack(&self) -> String {
        let is = |count: usize| if count == 1 { "is" } else { "are" };
        let (here, needed) = (self.here, self.needed());
        let missing: Vec<String> = self.missing.iter().map(Missing::told).collect();
        format!(
            "{here} of {} voters {} here, {needed} {} needed; missing: {}{}",
            self.voters,
            is(here),
            is(needed),
            missing.join(", "),
            self.advice()
        )
    }

    fn advice(&self) -> String {
        let away = self.missing.iter().filter(|one| one.why == Absence::Away);
        let away: Vec<&str> = away.map(|one| one.name.as_str()).collect();
        let lacking = self.needed() - self.here;
        match away.len() {
            // Without those there is no majority of voters left, whoever comes.
            few if few < lacking => String::new(),
            same if same == lacking => format!("; bring {} back", away.join(" and ")),
            _ if lacking == 1 => format!("; bring one of {} back", away.join(", ")),
            _ => format!("; bring {lacking} of {} back", away.join(", ")),
        }
    }
}

impl Missing {
    fn told(&self) -> String {
        let why = match self.why {
            Absence::Away => "not connected",
            Absence::Awaited { connected: true } => {
                "connected, but it has never been taken in, which takes a leader"
            }
            Absence::Awaited { connected: false } => {
                "not connected, and never taken in, which takes a leader"
            }
            Absence::Entering => {
                "connected, but its admission is not decided, which takes a leader"
            }
        };
        format!("{} ({why})", self.name)
    }
}

#[cfg(test)]
#[path = "leaderless_tests.rs"]
mod tests;
