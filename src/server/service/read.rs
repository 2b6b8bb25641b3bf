//! Reads: of one key, and of a range, here or at the leader.
//!
//! A node that is slow, or without room on its disk, falls behind, and a read that must be fresh would wait for it. So the
//! leader answers such a read in its place: the read is forwarded as what it means, and comes back as items.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::api::{
    Caller, Consistency, Error, Found, Freshness, Get, Got, List, PAGE_BYTES_MAX, PAGE_ITEMS_MAX,
    Wait,
};
use crate::kv::{Matcher, Page};
use crate::raft::NodeId;
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::peer::at_leader::Leader;
use crate::server::peer::passed_on;
use crate::server::wire::{self, Asked, PeerAnswer, PeerRead, PeerReply};

/// How much longer than its deadline a forwarded read is waited for, so that what the leader says of it still arrives.
pub(super) const WAY: Duration = Duration::from_millis(250);

impl Handle {
    /// Reads one key, here or at the leader.
    ///
    /// # Errors
    /// [`Error::ReadTimedOut`] after the deadline, and whatever else hinders a read that is as fresh as asked for.
    pub async fn get(&self, get: Allowed<Get>, deadline: Instant) -> Result<Got, Error> {
        if let Some(leader) = self.reads_elsewhere(get.freshness, deadline).await? {
            let (read, caller) = (PeerRead::Get(Get::clone(&get)), get.caller());
            let answer = self.forward_read(leader, caller, read, deadline).await?;
            if let Some(PeerAnswer::Got(got)) = answer {
                return Ok(got);
            }
        }
        self.get_here(get, deadline).await
    }

    async fn get_here(&self, get: Allowed<Get>, deadline: Instant) -> Result<Got, Error> {
        self.reach(get.freshness, deadline).await?;
        self.still_allowed(&get)?;
        let Get { key, freshness, unless } = get.into_request();
        match freshness.at {
            None => self.look_at(&key, unless.as_ref()),
            Some(at) => {
                let (revision, item) = self.get_past(key, at, deadline).await?;
                Ok(Got { revision, found: item.map_or(Found::Absent, Found::Item) })
            }
        }
    }

    /// Reads the key that is waited for as this node has it now; its value only if that is asked for.
    pub fn look(&self, wait: &Allowed<Wait>) -> Result<Got, Error> {
        self.still_allowed(wait)?;
        let Wait(get) = &**wait;
        self.look_at(&get.key, get.unless.as_ref())
    }

    fn look_at(&self, key: &[u8], unless: Option<&Matcher>) -> Result<Got, Error> {
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
        list: Allowed<List>,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if let Some(leader) = self.reads_elsewhere(list.freshness(), deadline).await? {
            let (read, caller) = (PeerRead::List(List::clone(&list)), list.caller());
            let answer = self.forward_read(leader, caller, read, deadline).await?;
            if let Some(PeerAnswer::Page(page)) = answer {
                return self.read_apart(deadline + WAY, move || then(page)).await;
            }
        }
        self.list_here(list, deadline, then).await
    }

    async fn list_here<T: Send + 'static>(
        &self,
        list: Allowed<List>,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.reach(list.freshness(), deadline).await?;
        self.page(list, deadline, then).await
    }

    /// Reads a part of a listing as this node has it now.
    pub async fn page<T: Send + 'static>(
        &self,
        list: Allowed<List>,
        deadline: Instant,
        then: impl FnOnce(Page) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.still_allowed(&list)?;
        self.range(list.into_request().query, deadline, then).await
    }

    /// Who should answer a read, if this node does not keep up, or lacks the room to: the leader. Whoever wants what this
    /// node has gets it here.
    ///
    /// # Errors
    /// Nobody leads until the deadline, which a fresh read needs here, too: once somebody does, this node still lacks what
    /// it has decided.
    pub(super) async fn reads_elsewhere(
        &self,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<Option<NodeId>, Error> {
        let keeps_up = !self.shared.space.is_low() && !self.shared.behind.now();
        if keeps_up || freshness.consistency == Consistency::Stale {
            return Ok(None);
        }
        let known = self.standing().leader;
        match known {
            Some(leader) => Ok(Some(leader).filter(|leader| *leader != self.shared.id)),
            // The past needs nobody.
            None if freshness.at.is_some() => Ok(None),
            None => match self.leaders(deadline).next().await? {
                Leader::There(leader) => Ok(Some(leader)),
                Leader::Here => Ok(None),
            },
        }
    }

    /// Lets the leader answer a read; none if it has no answer that fits between nodes, so that it is to be read here.
    pub(super) async fn forward_read(
        &self,
        leader: NodeId,
        caller: &Caller,
        read: PeerRead,
        deadline: Instant,
    ) -> Result<Option<PeerAnswer>, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = Asked::Read(read).passed_on(caller, left, self.peers_know_callers());
        let until = deadline + WAY;
        passed_on::note();
        match self.ask(leader, &request, until).await {
            Ok(Some(PeerReply::Read(Some(answer)))) => answer.map(Some),
            _ if Instant::now() < until => Ok(None),
            _ => Err(Error::ReadTimedOut),
        }
    }

    /// Answers a read that a peer forwarded, whatever room the disk has: the bytes of a [`PeerReply`]. They count among
    /// those of answers on their way to peers until they are gone.
    pub(crate) async fn answer_read(
        &self,
        caller: &Caller,
        read: PeerRead,
        deadline: Instant,
    ) -> Bytes {
        let sealed = |answer| wire::encode(&PeerReply::Read(Some(Ok::<PeerAnswer, Error>(answer))));
        let answer = match read {
            PeerRead::Get(get) => match self.admit(caller, get).await {
                Ok(get) => {
                    self.get_here(get, deadline).await.map(|got| sealed(PeerAnswer::Got(got)))
                }
                Err(error) => Err(error),
            },
            PeerRead::List(mut list) => {
                list.query.items_max = list.query.items_max.min(PAGE_ITEMS_MAX);
                list.query.bytes_max = list.query.bytes_max.min(PAGE_BYTES_MAX);
                let sealed = move |page| sealed(PeerAnswer::Page(page));
                match self.admit(caller, list).await {
                    Ok(list) => self.list_here(list, deadline, sealed).await,
                    Err(error) => Err(error),
                }
            }
            PeerRead::Txn(json) => match self.answer_txn(caller, &json, deadline).await {
                Some(answer) => answer.map(|answer| sealed(PeerAnswer::Txn(answer))),
                None => return wire::encode(&PeerReply::Read(None)),
            },
        };
        let answer = match answer {
            Ok(bytes) if bytes.len() > self.shared.frame_bytes_max => {
                return wire::encode(&PeerReply::Read(None));
            }
            answer => answer.and_then(|bytes| self.shared.answer_room.hold(bytes)),
        };
        answer.unwrap_or_else(|error| wire::encode(&PeerReply::Read(Some(Err(error)))))
    }
}
