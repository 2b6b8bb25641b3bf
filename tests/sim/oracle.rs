//! Sees everything and forgets nothing: what each disk has acknowledged, who led when, what was
//! committed. Says at once when a promise of the protocol is broken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use konsen::raft::{
    Body, Entry, HardState, Index, LogId, LogWrite, Membership, Message, NodeId, Payload, RoleName,
    Term,
};
use konsen::replica::Summary;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::host::Found;
use super::reference::Reference;

/// A broken promise.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

impl Broken {
    /// What is broken, without the numbers: two runs that break the same have the same kind.
    pub(crate) fn kind(&self) -> String {
        self.0.chars().filter(|char| !char.is_ascii_digit()).take(40).collect()
    }
}

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(Broken(format!($($what)*)));
        }
    };
}
pub(crate) use ensure;

/// The changes of writes in the order in which they become durable, and the first entry of the write of each: terms and votes
/// come before everything else.
fn parts(writes: &[LogWrite]) -> Vec<(LogWrite, Option<LogId>)> {
    let hard_state = writes.iter().rev().find_map(|write| write.hard_state);
    let mut parts = vec![(LogWrite { hard_state, ..LogWrite::default() }, None)];
    for LogWrite { reset, truncate_from, entries, .. } in writes.iter().cloned() {
        let instead = entries.first().map(|entry| entry.id);
        parts.push((LogWrite { reset, ..LogWrite::default() }, instead));
        parts.push((LogWrite { truncate_from, ..LogWrite::default() }, instead));
        for entry in entries {
            parts.push((LogWrite { entries: vec![entry], ..LogWrite::default() }, instead));
        }
    }
    parts
}

/// What a host's log disk has acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    pub(crate) hard_state: HardState,
    /// Entry 1 is at 0, each with the hash chained over the log up to it.
    pub(crate) entries: Vec<(Entry, u64)>,
    /// Those of them that state a membership.
    memberships: Vec<(LogId, Membership)>,
    /// The last checkpoint that was acknowledged.
    pub(crate) checkpoint: LogId,
    commit: Index,
    applied: Index,
    term: Term,
    /// The membership in force after the last step.
    membership: Option<Membership>,
    /// While it leads: how far it knew each peer to be.
    pub(super) matched: BTreeMap<NodeId, Index>,
    pub(super) led: Term,
    /// What the log's file holds as long as that does not reach up to a snapshot that took the state's place.
    pub(super) behind: Option<Vec<(Entry, u64)>>,
    /// What the log holds none of any more.
    base: LogId,
    /// And none of what a start finds: it may hold again what was not needed any more.
    anew: Index,
}

impl Durable {
    pub(crate) fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// Puts those in the place of all entries.
    pub(super) fn replace(&mut self, entries: Vec<(Entry, u64)>) {
        let states = entries.iter().filter_map(|(entry, _)| match &entry.payload {
            Payload::Membership(membership) => Some((entry.id, membership.clone())),
            _ => None,
        });
        self.memberships = states.collect();
        self.entries = entries;
    }

    /// A checkpoint covers everything up to `base`, and the log begins after it.
    pub(super) fn begins_after(&mut self, base: LogId) {
        (self.checkpoint, self.base) = (base, base);
    }

    /// The newest membership in the log.
    pub(super) fn stated(&self) -> Option<(LogId, &Membership)> {
        self.memberships.last().map(|(at, membership)| (*at, membership))
    }

    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    pub(super) fn at(&self, index: Index) -> Option<&(Entry, u64)> {
        self.entries.get((index.0 as usize).checked_sub(1)?)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) hosts: BTreeMap<NodeId, Durable>,
    pub(super) leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// The hash of the whole log up to an entry, by the entry's id, whoever holds it.
    logs: HashMap<LogId, u64>,
    pub(crate) committed: Vec<(Entry, u64)>,
    /// The term in which each of them was committed.
    pub(super) committed_in: Vec<Term>,
    pub(crate) reference: Reference,
    /// How many of the committed entries the cluster began with.
    pub(crate) began: usize,
    /// The newest membership that is committed, and the index of its entry.
    pub(crate) newest: Option<(Index, Membership)>,
    /// Whether a change was undone by force.
    pub(super) forced: bool,
    /// Joint memberships that were committed by the voters from before alone, since the next undoes them.
    pub(super) undone: BTreeSet<Index>,
    /// How many changes of the membership are committed and complete.
    pub(crate) changes: u64,
}

impl Oracle {
    pub(super) fn host(&mut self, id: NodeId) -> &mut Durable {
        self.hosts.entry(id).or_default()
    }

    /// The disk acknowledged these writes.
    pub(crate) fn persisted(&mut self, id: NodeId, writes: &[LogWrite]) -> Result<(), Broken> {
        for write in writes {
            let instead = write.entries.first().map(|entry| entry.id);
            self.persisted_part(id, write, instead)?;
        }
        Ok(())
    }

    /// It holds this part of a write, whose first entry is `instead` of what it cuts off.
    fn persisted_part(
        &mut self,
        id: NodeId,
        write: &LogWrite,
        instead: Option<LogId>,
    ) -> Result<(), Broken> {
        {
            let host = self.host(id);
            let overtaken = |last: &LogId| last.index < host.checkpoint.index;
            if host.behind.is_some()
                || write.reset.as_ref().is_some_and(|(last, _)| overtaken(last))
            {
                self.persisted_behind(id, write)?;
                return self.persisted_hard_state(id, write);
            }
            if let Some((last, _)) = &write.reset {
                let kept = self.committed[..last.index.0 as usize].to_vec();
                let host = self.host(id);
                ensure!(*last == host.checkpoint, "{id} begins its log after {last}");
                host.replace(kept);
                (host.base, host.anew) = (*last, last.index);
            }
            if let Some(from) = write.truncate_from {
                let host = self.host(id);
                let gone = host.entries.drain((from.prev().0 as usize).min(host.entries.len())..);
                let gone: Vec<(Entry, u64)> = gone.collect();
                host.memberships.retain(|(at, _)| at.index < from);
                for (entry, hash) in gone {
                    let at = entry.id.index.0 as usize - 1;
                    let decided = self.committed.get(at);
                    // Who has slept through two terms may hear first of the older one, whose leader lacked the entry.
                    let by_older = instead.is_some_and(|instead| {
                        instead.index == from
                            && self.committed_in.get(at).is_some_and(|term| instead.term < *term)
                    });
                    ensure!(
                        by_older || decided.is_none_or(|(_, known)| *known != hash),
                        "{id} cuts off {}, which is committed",
                        entry.id
                    );
                }
            }
            for entry in &write.entries {
                let host = self.host(id);
                ensure!(
                    entry.id.index == host.last().next(),
                    "{id} writes {} after {}",
                    entry.id,
                    host.last()
                );
                self.changes_in_order(id, entry)?;
                let host = self.host(id);
                if let Payload::Membership(membership) = &entry.payload {
                    host.memberships.push((entry.id, membership.clone()));
                }
                let chained = chain(host.entries.last().map_or(0, |(_, hash)| *hash), entry);
                host.entries.push((entry.clone(), chained));
                let known = *self.logs.entry(entry.id).or_insert(chained);
                ensure!(
                    known == chained,
                    "two logs agree on entry {} and differ up to it",
                    entry.id
                );
            }
            self.persisted_hard_state(id, write)?;
        }
        Ok(())
    }

    fn persisted_hard_state(&mut self, id: NodeId, write: &LogWrite) -> Result<(), Broken> {
        if let Some(hard_state) = write.hard_state {
            let host = self.host(id);
            let before = host.hard_state;
            ensure!(
                hard_state.term > before.term
                    || (hard_state.term == before.term
                        && (before.vote.is_none() || hard_state.vote == before.vote)),
                "{id} goes from {before:?} to {hard_state:?}"
            );
            host.hard_state = hard_state;
        }
        Ok(())
    }

    /// What is written to a log that the state is ahead of counts once it reaches up to the state.
    fn persisted_behind(&mut self, id: NodeId, write: &LogWrite) -> Result<(), Broken> {
        let mut file = self.host(id).behind.take().unwrap_or_default();
        if let Some((last, _)) = &write.reset {
            file = self.committed[..last.index.0 as usize].to_vec();
        }
        if let Some(from) = write.truncate_from {
            file.truncate(from.prev().0 as usize);
        }
        for entry in &write.entries {
            ensure!(
                entry.id.index.0 == file.len() as u64 + 1,
                "{id} writes {} after {}",
                entry.id,
                file.len()
            );
            let chained = chain(file.last().map_or(0, |(_, hash)| *hash), entry);
            file.push((entry.clone(), chained));
        }
        let host = self.host(id);
        let reached = file.get(host.checkpoint.index.0 as usize - 1);
        if reached.is_some_and(|(entry, _)| entry.id == host.checkpoint) {
            host.replace(file);
            if let Some((last, _)) = &write.reset {
                (host.base, host.anew) = (*last, last.index);
            }
        } else {
            host.behind = Some(file);
        }
        Ok(())
    }

    /// A host starts. Its disk must hold what it acknowledged, and of the writes that were under way
    /// so many as were made, one change after the other.
    pub(crate) fn started(
        &mut self,
        id: NodeId,
        found: &Found,
        unsure: &[LogWrite],
        unsure_checkpoint: Option<LogId>,
        unsure_install: Option<LogId>,
    ) -> Result<(), Broken> {
        if unsure_install == Some(found.applied) && self.host(id).checkpoint != found.applied {
            self.installed(id, found.applied)?;
        }
        let same = |host: &Durable| {
            let HardState { term, vote, .. } = match &host.behind {
                Some(_) if found.hard_state.term > host.hard_state.term => found.hard_state,
                _ => host.hard_state,
            };
            let base = found.base.index;
            let after = host.entries.get(base.0 as usize..).unwrap_or_default();
            (base == Index(0) || host.at(base).is_some_and(|(entry, _)| entry.id == found.base))
                && after.len() == found.entries.len()
                && after.iter().zip(&found.entries).all(|((known, _), entry)| known == entry)
                && (term, vote) == (found.hard_state.term, found.hard_state.vote)
        };
        for (part, instead) in parts(unsure) {
            let host = self.host(id);
            if same(host) && (host.behind.is_none() || found.base == host.checkpoint) {
                break;
            }
            self.persisted_part(id, &part, instead)?;
        }
        let host = self.host(id);
        if host.behind.take().is_some() {
            // The start began the log anew, and entered the snapshot's term if it had not heard of it.
            ensure!(
                found.base == host.checkpoint,
                "{id} starts with a log that is not its state's"
            );
            (host.base, host.anew) = (found.base, found.base.index);
            if found.hard_state.term > host.hard_state.term {
                host.hard_state = found.hard_state;
            }
        }
        ensure!(
            same(host),
            "{id} finds {:?} and {} entries after {} on its disk, which acknowledged {:?} and {}",
            found.hard_state,
            found.entries.len(),
            found.base,
            host.hard_state,
            host.entries.len()
        );
        ensure!(
            found.base.index >= host.anew && found.base.index <= found.applied.index,
            "{id} finds a log that begins after {}, which began anew after {}; its state is at {}",
            found.base,
            host.anew,
            found.applied
        );
        host.base = found.base;
        ensure!(
            found.applied == host.checkpoint || Some(found.applied) == unsure_checkpoint,
            "{id} finds its state at {}, the last checkpoint was at {}",
            found.applied,
            host.checkpoint
        );
        let stated = host.stated().map(|(_, membership)| membership);
        ensure!(
            found.membership.as_ref() == stated,
            "{id} starts with the membership {:?}, its log states {stated:?}",
            found.membership
        );
        host.membership = found.membership.clone();
        host.matched.clear();
        host.checkpoint = found.applied;
        host.applied = found.applied.index;
        host.commit = Index(0);
        host.term = found.hard_state.term;
        let commit = found.hard_state.commit;
        ensure!(
            commit.0 as usize <= self.committed.len(),
            "{id} finds commit index {commit}, and only {} entries were ever committed",
            self.committed.len()
        );
        Ok(())
    }

    /// The log's file lost everything up to `base`, which a checkpoint has to cover.
    pub(crate) fn compacted(&mut self, id: NodeId, base: LogId) -> Result<(), Broken> {
        let host = self.host(id);
        ensure!(
            base.index <= host.checkpoint.index && base.index > host.base.index,
            "{id} cuts its log up to {base} after {}, the last checkpoint was at {}",
            host.base,
            host.checkpoint
        );
        host.base = base;
        Ok(())
    }

    /// A checkpoint was acknowledged.
    pub(crate) fn checkpointed(&mut self, id: NodeId, covers: LogId) -> Result<(), Broken> {
        let host = self.host(id);
        ensure!(
            host.at(covers.index).is_some_and(|(entry, _)| entry.id == covers),
            "{id} has a checkpoint at {covers}, its log holds {} entries for certain",
            host.last()
        );
        ensure!(
            covers.index >= host.checkpoint.index,
            "{id} checkpoints {covers} after {}",
            host.checkpoint
        );
        host.checkpoint = covers;
        Ok(())
    }

    /// What a host is after a step.
    pub(crate) fn stepped(
        &mut self,
        id: NodeId,
        now: &Summary,
        news: Option<&Membership>,
        now_in_force: Option<&(Index, Membership)>,
        state: (LogId, u64),
    ) -> Result<(), Broken> {
        let host = self.host(id);
        ensure!(now.term >= host.term, "{id} goes back from term {} to {}", host.term, now.term);
        host.term = now.term;
        ensure!(
            now.commit >= host.commit,
            "{id} goes back from commit {} to {}",
            host.commit,
            now.commit
        );
        host.commit = now.commit;
        ensure!(
            now.applied >= host.applied && now.applied <= now.commit && now.commit <= now.last,
            "{id} has applied {} after {}, committed {}, holds {}",
            now.applied,
            host.applied,
            now.commit,
            now.last
        );
        let before = host.applied;
        host.applied = now.applied;
        self.stepped_as_leader(id, now)?;
        let known = self.committed.len() as u64;
        for index in known + 1..=now.commit.0 {
            self.commit(id, Index(index), now.term, news, now_in_force)?;
        }
        if now.commit.0 > known
            && now.role == RoleName::Leader
            && let Some((entry, _)) = self.committed.last()
        {
            // Section 5.4.2: what comes before is committed by an entry of the leader's own term.
            ensure!(
                entry.id.term == now.term,
                "{id} leads {} and commits up to {}, of an older term",
                now.term,
                entry.id
            );
        }
        if let Some(news) = news {
            self.host(id).membership = Some(news.clone());
        }
        if now.applied > before {
            let expected = self.reference.hash_at(now.applied);
            ensure!(
                state == (self.committed[now.applied.0 as usize - 1].0.id, expected),
                "{id} at {} has state {state:x?}, a replay has {expected:x}",
                now.applied
            );
        }
        Ok(())
    }

    /// `id` says that `index` is committed, the first to say so: a quorum has to hold it durably.
    fn commit(
        &mut self,
        id: NodeId,
        index: Index,
        term: Term,
        news: Option<&Membership>,
        now_in_force: Option<&(Index, Membership)>,
    ) -> Result<(), Broken> {
        // Whichever was in force between the last step and now.
        let before = self.hosts.get(&id).and_then(|host| host.membership.as_ref());
        let in_force = || before.into_iter().chain(news);
        let holds = |node: NodeId, hash: u64| {
            let held = self.hosts.get(&node).and_then(|host| host.at(index));
            held.is_some_and(|(_, other)| *other == hash)
        };
        // What is in force may undo a joint change again: then the voters from before decide.
        let is_undone = |joint: &Membership| {
            now_in_force.is_some_and(|(at, next)| {
                let same = joint.outgoing.as_ref() == Some(&next.voters);
                *at > index && next.outgoing.is_none() && same
            })
        };
        let decided = |entry: &Entry, hash: u64| {
            let by = |membership: &Membership| is_quorum(membership, |node| holds(node, hash));
            let own = match &entry.payload {
                Payload::Membership(own) => by(own) || is_undone(own),
                _ => true,
            };
            own && in_force().any(by)
        };
        let mut held = self.hosts.values().filter_map(|host| host.at(index));
        let Some((entry, hash)) = held.find(|(entry, hash)| decided(entry, *hash)).cloned() else {
            return Err(Broken(format!("{id} commits {index}, which no quorum holds durably")));
        };
        self.reference.apply(&entry)?;
        // The first one is the birth.
        let complete = matches!(&entry.payload, Payload::Membership(now) if now.outgoing.is_none());
        self.changes += u64::from(complete && !self.committed.is_empty());
        if let Payload::Membership(now) = &entry.payload {
            if is_undone(now) {
                self.undone.insert(index);
            }
            self.newest = Some((entry.id.index, now.clone()));
        }
        self.committed.push((entry, hash));
        self.committed_in.push(term);
        Ok(())
    }

    /// A message leaves: what it says has to be durable where it comes from.
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), Broken> {
        let Message { from, to, term, body, .. } = message;
        let host = self.hosts.entry(*from).or_default();
        let HardState { term: written, vote, .. } = host.hard_state;
        let ahead = matches!(body, Body::PreVote { .. } | Body::PreVoteReply { .. });
        ensure!(
            ahead || written >= *term,
            "{from} speaks in term {term}, its disk knows {written}: {body:?}"
        );
        let voted = match body {
            Body::Vote { .. } => Some(*from),
            Body::VoteReply { granted: true } => Some(*to),
            _ => None,
        };
        if let Some(voted) = voted {
            ensure!(
                written == *term && vote == Some(voted),
                "{from} votes for {voted} in {term}, its disk knows {vote:?} in {written}"
            );
            let first = *self.votes.entry((*from, *term)).or_insert(voted);
            ensure!(first == voted, "{from} votes for {first} and {voted} in term {term}");
        }
        match body {
            Body::AppendReply { matched } => ensure!(
                *matched <= host.last(),
                "{from} acknowledges {matched}, its disk holds {}",
                host.last()
            ),
            Body::Append { commit, .. } | Body::Heartbeat { commit, .. } => {
                let first = *self.leaders.entry(*term).or_insert(*from);
                ensure!(first == *from, "{first} and {from} both speak as the leader of {term}");
                ensure!(
                    commit.0 as usize <= self.committed.len(),
                    "{from} announces commit {commit}, {} are",
                    self.committed.len()
                );
            }
            _ => {}
        }
        Ok(())
    }
}

/// A majority of the voters, of both sets while joint: said once more, apart from the code that is
/// checked.
pub(crate) fn is_quorum(membership: &Membership, yes: impl Fn(NodeId) -> bool) -> bool {
    std::iter::once(&membership.voters).chain(&membership.outgoing).all(|voters| {
        let count = voters.iter().filter(|&&node| yes(node)).count();
        count > voters.len() / 2
    })
}

fn chain(before: u64, entry: &Entry) -> u64 {
    let bytes = postcard::to_stdvec(entry).expect("plain data");
    xxh3_64_with_seed(&bytes, before)
}
