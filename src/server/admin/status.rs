//! What a node tells of itself and of its cluster; see [`crate::api::Status`].

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::progress::progress_of;
use crate::api::{
    AgreedSettings, ClusterFeatures, ClusterStatus, MemberStatus, NodeFeatures, PendingChange,
    SeeMembers, SeeStatus, Status, Verification,
};
use crate::cluster::ClusterView;
use crate::cluster::leaderless::is_awaited;
use crate::cluster::pending::{Pending, pending};
use crate::net::PeerStatus;
use crate::raft::{NodeId, RoleName};
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::store::Verified;

/// How long members may run different releases before somebody is told.
const HALF_UPGRADED_AFTER: Duration = Duration::from_secs(3600);

impl Handle {
    /// What this node says of itself; none if it does not answer.
    pub async fn status(&self, _: &Allowed<SeeStatus>) -> Option<Status> {
        let summary = self.inspect().await?;
        let name = |id: NodeId| self.name_of(id).unwrap_or_else(|| id.to_string());
        let peers = &summary.peers;
        let cluster_id = self.shared.membership.borrow().as_ref().map(|m| m.cluster.to_string());
        let sizes = self.shared.data.sizes();
        Some(Status {
            name: self.shared.config.name.to_string(),
            id: self.shared.id.to_string(),
            cluster: self.cluster_name(),
            cluster_id,
            role: role_name(summary.role).to_owned(),
            term: summary.term.0,
            leader: summary.leader.map(name),
            commit: summary.commit.0,
            applied: summary.applied.0,
            last_index: summary.last.0,
            revision: summary.revision.0,
            compact_revision: self.compacted().0,
            log_bytes: sizes.log_bytes,
            state_bytes: sizes.state_bytes,
            verification: Some(verification(self.state().verified())),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: Some(NodeFeatures {
                level: self.state().level().0,
                highest: self.state().highest().0,
            }),
            uptime_ms: u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            next_index: peers.iter().map(|peer| (name(peer.id), peer.next.0)).collect(),
            match_index: peers.iter().map(|peer| (name(peer.id), peer.matched.0)).collect(),
            warnings: self.warnings(),
        })
    }

    /// This node's role and its leader's name: what health checks tell. None if it does not answer.
    pub async fn role_and_leader(&self) -> Option<(String, Option<String>)> {
        let summary = self.inspect().await?;
        let name = |id: NodeId| self.name_of(id).unwrap_or_else(|| id.to_string());
        Some((role_name(summary.role).to_owned(), summary.leader.map(name)))
    }

    /// The cluster as this node sees it; none if it does not answer.
    pub async fn cluster(&self, _: &Allowed<SeeMembers>) -> Option<ClusterStatus> {
        let summary = self.inspect().await?;
        let progress = match summary.leader {
            Some(leader) if leader == self.shared.id => Some(progress_of(self.shared.id, &summary)),
            Some(leader) => self.ask_progress(leader).await,
            None => None,
        };
        let connections = self.shared.net.peers();
        let levels = self.levels_known();
        let raised_by = self.raised().await.map(|raised| raised.release);
        let change = self.pending_change(&connections);
        let in_force = self.shared.membership.borrow().clone();
        let members = in_force.iter().flat_map(|m| m.members.iter().map(move |x| (m, x)));
        let members = members.map(|(membership, (&id, member))| {
            let own = id == self.shared.id;
            let peer = connections.iter().find(|peer| peer.seat == id);
            let matched = progress.as_ref().and_then(|leader| {
                leader.matched.iter().find(|(node, _)| *node == id).map(|(_, matched)| *matched)
            });
            let role = if summary.leader == Some(id) {
                "leader"
            } else if own {
                role_name(summary.role)
            } else if !membership.is_voter(id) {
                "learner"
            } else if member.seen {
                "follower"
            } else {
                "unknown"
            };
            MemberStatus {
                name: member.name.clone(),
                id: member.seen.then(|| id.to_string()),
                raft_address: member.raft_address.clone(),
                http_address: member.http_address.clone(),
                voter: membership.is_voter(id),
                role: role.to_owned(),
                matched,
                lag: progress.as_ref().zip(matched).map(|(all, own)| all.last.saturating_sub(own)),
                reachable: own || peer.is_some_and(|peer| peer.connected),
                awaited: is_awaited(membership, id),
                certificate_expires: if own {
                    self.shared.net.certificate_expires()
                } else {
                    peer.and_then(|peer| peer.certificate_expires.clone())
                },
                version: if own {
                    Some(env!("CARGO_PKG_VERSION").to_owned())
                } else {
                    peer.and_then(|peer| peer.version.clone())
                },
                features: levels.get(&id).copied().flatten().map(|level| level.0),
            }
        });
        let mut members: Vec<MemberStatus> = members.collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Some(ClusterStatus {
            cluster: self.shared.config.cluster.to_string(),
            cluster_id: in_force.as_ref().map(|m| m.cluster.to_string()),
            leader: summary.leader.and_then(|id| self.name_of(id)),
            term: summary.term.0,
            authorities: self.shared.facts.load().authorities.clone(),
            members,
            features: Some(ClusterFeatures {
                level: self.state().level().0,
                raised_by,
                held_back_by: self.level_held_back_by(),
            }),
            settings: self.state().settings().map(|agreed| AgreedSettings {
                value_bytes: agreed.value_bytes_max,
                election_timeout_ms: agreed.election_timeout_ms,
                lease_reads: agreed.lease_reads,
            }),
            change,
        })
    }

    /// What somebody should do something about.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.shared.facts.load().warnings(OffsetDateTime::now_utc());
        warnings.extend(self.shared.renewal.waits_for().map(|what| String::clone(&what)));
        warnings.extend(self.shared.space.shortage());
        warnings.extend(self.alarms());
        warnings.extend(self.settings_that_differ());
        warnings.extend(self.half_upgraded());
        warnings.extend(self.shared.audit.iter().flat_map(|audit| audit.warnings()));
        warnings
    }

    /// What is wrong with the cluster as a whole: why nobody can lead, who runs twice, and that this node's release is too
    /// old for it.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let peers = self.shared.net.peers();
        let copies = peers.iter().filter_map(|peer| peer.copy.clone());
        self.no_election().into_iter().chain(copies).chain(self.outgrown()).collect()
    }

    /// That this node's release does not know the cluster's feature level, if somebody says so.
    pub(crate) fn outgrown(&self) -> Option<String> {
        self.shared.net.peers().into_iter().find_map(|peer| peer.outgrown)
    }

    /// That the members run different releases, if that has been so for long.
    fn half_upgraded(&self) -> Option<String> {
        let since = (*self.shared.held_back_since.borrow())?;
        if since.elapsed() < HALF_UPGRADED_AFTER {
            return None;
        }
        let held = self.level_held_back_by();
        let level = self.state().level();
        (!held.is_empty()).then(|| {
            format!(
                "the cluster stays at feature level {level} because of {}: end the upgrade, or go back",
                held.join(", ")
            )
        })
    }

    /// What a change of the membership waits for that is under way.
    fn pending_change(&self, connections: &[PeerStatus]) -> Option<PendingChange> {
        let now = self.membership()?;
        let reached = |id| connections.iter().any(|peer| peer.seat == id && peer.connected);
        let reachable = |id| id == self.shared.id || reached(id);
        let view = ClusterView { reachable: &reachable, lag: &|_| None };
        let Pending { before, after, missing } = pending(&now, view)?;
        let since = self.shared.joint_since.borrow().unwrap_or_else(Instant::now);
        Some(PendingChange { before, after, missing, for_seconds: since.elapsed().as_secs() })
    }
}

fn verification(verified: Verified) -> Verification {
    let Verified { verified_bytes, of_bytes, since, ended } = verified;
    let left = of_bytes.saturating_sub(verified_bytes);
    let seconds = since.elapsed().as_secs_f64() * left as f64 / verified_bytes.max(1) as f64;
    Verification {
        verified_bytes,
        of_bytes,
        // More than fits is as good as the most.
        seconds_left: ended.is_none().then_some(seconds.ceil() as u64),
        ended: ended.and_then(|at| OffsetDateTime::from(at).format(&Rfc3339).ok()),
    }
}

fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate | RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}
