//! What operators were told about the membership: it stays true until somebody changes it again.

use std::collections::BTreeMap;

use konsen::raft::{Index, LogId, Membership, NodeId};

use super::oracle::{Broken, ensure};

/// What an operator was told of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// It is a member's.
    Member,
    /// It is no member's.
    Absent,
    /// It is a member's, but not of who had it before.
    Replaced(NodeId),
}

/// The changes that were acknowledged, by the name that they are about.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    facts: BTreeMap<String, (LogId, Fact)>,
    /// The last change about each name that a leader took in, whatever became of it.
    proposed: BTreeMap<String, LogId>,
    /// How many changes there were that are about no name.
    pub(super) others: u64,
}

impl Acknowledged {
    /// A change of another kind may undo anything.
    pub(super) fn forget(&mut self) {
        self.facts.clear();
        self.others += 1;
    }

    /// A leader takes a change in. What was known of the name may be true no more.
    pub(super) fn proposed(&mut self, name: &str, at: LogId) {
        self.facts.remove(name);
        let last = self.proposed.entry(name.to_owned()).or_default();
        *last = at.max(*last);
    }

    /// A change is complete, and its operator told; `others` is how many of other kinds there had been when it
    /// was taken in.
    pub(super) fn done(&mut self, name: &str, at: LogId, fact: Fact, others: u64) {
        if self.proposed.get(name) == Some(&at) && others == self.others {
            self.facts.insert(name.to_owned(), (at, fact));
        }
    }

    /// A membership is committed.
    pub(super) fn check(&self, index: Index, now: &Membership) -> Result<(), Broken> {
        for (name, (at, fact)) in self.facts.iter().filter(|(_, (at, _))| at.index < index) {
            let member = now.by_name(name);
            let holds = match fact {
                Fact::Member => member.is_some(),
                Fact::Absent => member.is_none(),
                Fact::Replaced(old) => {
                    member.is_some() && !now.members.contains_key(old) && !now.is_voter(*old)
                }
            };
            ensure!(
                holds,
                "the change of {at} was acknowledged ({name}: {fact:?}), the membership of {index} says {now:?}"
            );
        }
        Ok(())
    }
}
