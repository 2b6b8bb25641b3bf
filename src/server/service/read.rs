//! Reads: of one key, and of a range, here or at the leader.
//!
//! A node that is slow, or without room on its disk, falls behind, and a read that must be fresh would wait for it. So the
//! leader answers such a read in its place: the read is forwarded as what it means, and comes back as items.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::{
    Consistency, Error, Found, Freshness, Get, Got, List, PAGE_BYTES_MAX, PAGE_ITEMS_MAX,
};
use crate::kv::{Matcher, Page};
use crate::raft::NodeId;
use crate::server::handle::Handle;
use crate::server::wire::{self, PeerAnswer, PeerRead, PeerReply, PeerRequest};

/// How much longer than its deadline a forwarded read is waited for, so that what the leader says of it still arrives.
const WAY: Duration = Duration::from_millis(250);

impl Handle {
    /// Reads one key, here or at the leader.
    ///
    /// # Errors
    /// [`Error::ReadTimedOut`] after the deadline, and whatever else hinders a read that is as fresh as asked for.
    pub async fn get(&self, get: Get, deadline: Instant) -> Result<Got, Error> {
        if let Some(leader) = self.reads_elsewhere(get.freshness.consistency) {
            let read = PeerRead::Get(get.clone());
            if let Some(PeerAnswer::Got(got)) = self.forward_read(leader, read, deadline).await? {
                return Ok(got);
            }
        }
        self.get_here(get, deadline).await
    }

    async fn get_here(&self, get: Get, deadline: Instant) -> Result<Got, Error> {
        let Get { key, freshness, unless } = get;
        self.reach(freshness, deadline).await?;
        match freshness.at {
            None => self.look(&key, unless.as_ref()),
            Some(at) => {
                let (revision, item) = self.get_past(key, at, deadline).await?;
                Ok(Got { revision, found: item.map_or(Found::Absent, Found::Item) })
            }
        }
    }

    /// Reads one key as this node has it now; its value only if that is asked for.
    pub fn look(&self, key: &[u8], unless: Option<&Matcher>) -> Result<Got, Error> {
        let state = self.state();
        if let Some(unless) = unless {
            let (revision, current) =
                state.mod_revision(key).map_err(|error| self.damaged(error))?;
            if let Some(current) = current.filter(|current| unless.matches(Some(*current))) {
                return Ok(Got { revision, found: Found::Unchanged(current) });
            }
        }
        let (revision, item) = state.get(key, None).map_err(|error| self.read_failed(error))?;
        Ok(Got { revision, found: item.map_or(Found::Absent, Found::Item) })
    }

    /// Reads a part of a listing, here or at the leader, and makes of it what `then` says, where that holds nobody up.
    ///
    /// # Errors
    /// As [`Handle::get`].
    pub async fn list<T: Send + 'static>(
        &self,
        list: List,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if let Some(leader) = self.reads_elsewhere(list.consistency) {
            let read = PeerRead::List(list.clone());
            if let Some(PeerAnswer::Page(page)) = self.forward_read(leader, read, deadline).await? {
                return self.read_apart(deadline + WAY, move || then(page)).await;
            }
        }
        self.list_here(list, deadline, then).await
    }

    async fn list_here<T: Send + 'static>(
        &self,
        list: List,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.reach(list.freshness(), deadline).await?;
        self.range(list.query, deadline, then).await
    }

    /// Waits until this node's state is as fresh as asked for.
    pub async fn reach(&self, freshness: Freshness, deadline: Instant) -> Result<(), Error> {
        let Freshness { consistency, at, min_revision } = freshness;
        // A revision never changes once it exists, so a node that has it need ask nobody.
        if let Some(at) = at
            && at.max(min_revision.unwrap_or_default()) <= self.revision()
            && consistency != Consistency::Lease
        {
            return Ok(());
        }
        self.read_barrier(consistency, min_revision, deadline).await
    }

    /// Who should answer a read, if this node does not keep up, or lacks the room to: the leader. Whoever wants what this
    /// node has gets it here.
    fn reads_elsewhere(&self, consistency: Consistency) -> Option<NodeId> {
        let keeps_up = !self.shared.space.is_low() && !self.shared.behind.now();
        if keeps_up || consistency == Consistency::Stale {
            return None;
        }
        self.standing().leader.filter(|leader| *leader != self.shared.id)
    }

    /// Lets the leader answer a read; none if it has no answer that fits between nodes, so that it is to be read here.
    async fn forward_read(
        &self,
        leader: NodeId,
        read: PeerRead,
        deadline: Instant,
    ) -> Result<Option<PeerAnswer>, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = wire::encode(&PeerRequest::Read { read, deadline: left });
        let until = deadline + WAY;
        let replied = self.shared.net.request(leader, request, until).await;
        match replied.map(|bytes| wire::decode(&bytes)) {
            Ok(Some(PeerReply::Read(Some(answer)))) => answer.map(Some),
            _ if Instant::now() < until => Ok(None),
            _ => Err(Error::ReadTimedOut),
        }
    }

    /// Answers a read that a peer forwarded, whatever room the disk has: the bytes of a [`PeerReply`]. They count among
    /// those of answers on their way to peers until they are gone.
    pub(crate) async fn answer_read(&self, read: PeerRead, deadline: Instant) -> Bytes {
        let sealed = |answer| wire::encode(&PeerReply::Read(Some(Ok::<PeerAnswer, Error>(answer))));
        let answer = match read {
            PeerRead::Get(get) => {
                self.get_here(get, deadline).await.map(|got| sealed(PeerAnswer::Got(got)))
            }
            PeerRead::List(mut list) => {
                list.query.items_max = list.query.items_max.min(PAGE_ITEMS_MAX);
                list.query.bytes_max = list.query.bytes_max.min(PAGE_BYTES_MAX);
                self.list_here(list, deadline, move |page| sealed(PeerAnswer::Page(page))).await
            }
        };
        let answer = match answer {
            Ok(bytes) if bytes.len() > self.shared.frame_bytes_max => {
                return wire::encode(&PeerReply::Read(None));
            }
            answer => answer.and_then(|bytes| self.shared.peer_answers.hold(bytes)),
        };
        answer.unwrap_or_else(|error| wire::encode(&PeerReply::Read(Some(Err(error)))))
    }
}

/// The memory set aside for answers on their way to peers.
#[derive(Debug)]
pub(crate) struct PeerAnswers {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// An answer, and its share of the memory, which is free again when the last of its bytes is gone.
struct Held {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PeerAnswers {
    /// So many bytes at a time; one alone may be larger.
    pub(crate) fn new(bytes_max: usize) -> PeerAnswers {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        PeerAnswers { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// The same bytes, which count until they are dropped; [`Error::Busy`] if there is no room for them.
    fn hold(&self, bytes: Bytes) -> Result<Bytes, Error> {
        let share = u32::try_from(bytes.len().min(self.bytes_max)).unwrap_or(u32::MAX);
        let share = self.bytes.clone().try_acquire_many_owned(share).map_err(|_| Error::Busy)?;
        Ok(Bytes::from_owner(Held { bytes, _share: share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_peers_share_a_budget_until_they_are_gone() {
        let answers = PeerAnswers::new(100);
        let first = answers.hold(Bytes::from(vec![1; 60])).unwrap();
        assert_eq!(answers.hold(Bytes::from(vec![2; 60])), Err(Error::Busy));
        let part = first.slice(1..2);
        drop(first);
        assert_eq!(answers.hold(Bytes::from(vec![2; 60])), Err(Error::Busy));
        drop(part);
        assert_eq!(answers.hold(Bytes::from(vec![2; 600])).map(|held| held.len()), Ok(600));
    }
}
