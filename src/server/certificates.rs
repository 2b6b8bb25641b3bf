//! What is known of a node's certificates: who ends soon, and who may come in to HTTPS with one.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::config::Config;
use crate::net::TlsMaterial;
use crate::pki::{self, Admits, ClusterName, Material, PeerIdentity, Role};
use crate::raft::Membership;

/// How long before its end a certificate is told of.
const WARN_AHEAD: time::Duration = time::Duration::days(30);
/// From then on it is an error.
const URGENT: time::Duration = time::Duration::days(7);

/// What the network needs of a node's certificates.
pub(super) fn tls_material(material: Material) -> TlsMaterial {
    TlsMaterial { ca: material.ca, chain: material.chain, key: material.key }
}

/// What is told of the certificates in use.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// SHA-256 of each certificate of the authority, in hexadecimal.
    pub(super) authorities: Vec<String>,
    /// What ends, when, and what to do about it.
    ends: Vec<(String, OffsetDateTime, &'static str)>,
}

impl Facts {
    pub(super) fn of(material: &Material) -> Facts {
        let own = format!("the certificate of {}", material.identity.name);
        let mut ends = vec![(own, material.not_after, "make another with `konsen cert renew`")];
        for authority in &material.ca {
            // It could be parsed when it was read.
            let Ok(end) = pki::not_after(authority) else { continue };
            let what = "the authority's certificate".to_owned();
            ends.push((
                what,
                end,
                "make another with `konsen cert ca`, and new ones for all nodes",
            ));
        }
        let authorities = material.ca.iter().map(pki::fingerprint).collect();
        Facts { authorities, ends }
    }

    /// When each of them ends, in seconds since 1970: the node's, and the first of the authority's.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let seconds = |(_, end, _): &(String, OffsetDateTime, _)| end.unix_timestamp();
        let own = self.ends.first().map(seconds);
        let authority = self.ends.iter().skip(1).map(seconds).min();
        own.map(|end| ("node", end)).into_iter().chain(authority.map(|end| ("authority", end)))
    }

    /// A line for each that ends within a month.
    pub(super) fn warnings(&self, now: OffsetDateTime) -> Vec<String> {
        self.ending(now).map(|(line, _)| line).collect()
    }

    /// The lines, and whether each is urgent.
    fn ending(&self, now: OffsetDateTime) -> impl Iterator<Item = (String, bool)> {
        self.ends.iter().filter(move |(_, end, _)| *end - now < WARN_AHEAD).map(
            move |(what, end, right)| {
                let left = *end - now;
                let when = match left.whole_days() {
                    _ if left.is_negative() => "has ended".to_owned(),
                    0 => "ends within a day".to_owned(),
                    1 => "ends in 1 day".to_owned(),
                    days => format!("ends in {days} days"),
                };
                (format!("{what} {when} ({}): {right}", pki::rfc3339(*end)), left < URGENT)
            },
        )
    }

    pub(super) fn tell(&self) {
        for (line, urgent) in self.ending(OffsetDateTime::now_utc()) {
            if urgent {
                tracing::error!("{line}");
            } else {
                tracing::warn!("{line}");
            }
        }
    }
}

/// Who comes in to HTTPS with a certificate of the authority's: clients of this cluster, and its present members.
pub(super) fn admits(
    config: Arc<Config>,
    membership: watch::Receiver<Option<Membership>>,
) -> Admits {
    Arc::new(move |identity| {
        let membership = membership.borrow();
        // Before the cluster is founded the file says who belongs to it.
        let is_member = |name: &str| match membership.as_ref() {
            Some(membership) => membership.members.values().any(|member| member.name == name),
            None => config.servers.contains_key(name),
        };
        may_enter(identity, &config.cluster, is_member)
    })
}

fn may_enter(
    identity: &PeerIdentity,
    cluster: &ClusterName,
    is_member: impl Fn(&str) -> bool,
) -> bool {
    identity.cluster == *cluster
        && match identity.role {
            Role::Client => true,
            Role::Node => is_member(identity.name.as_str()),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_within_a_month_is_told_with_what_to_do() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let ends = |days| Facts {
            ends: vec![(
                "the certificate of node1".to_owned(),
                now + time::Duration::days(days),
                "renew it",
            )],
            ..Facts::default()
        };
        assert!(ends(31).warnings(now).is_empty());
        let line = ends(29).warnings(now).remove(0);
        assert_eq!(
            line,
            "the certificate of node1 ends in 29 days (1970-01-30T00:00:00Z): renew it"
        );
        assert!(ends(0).warnings(now)[0].contains("within a day"));
        assert!(ends(-1).warnings(now)[0].contains("has ended"));
        let urgent = |days| ends(days).ending(now).any(|(_, urgent)| urgent);
        assert_eq!([29, 7, 6, -1].map(urgent), [false, false, true, true]);
    }

    #[test]
    fn clients_of_the_cluster_and_its_members_come_in() {
        let cluster = "konsen".parse().unwrap();
        let enters = |uri: &str| may_enter(&uri.parse().unwrap(), &cluster, |name| name == "node1");
        assert!(enters("spiffe://konsen/client/alice"));
        assert!(enters("spiffe://konsen/node/node1"));
        // It was put out, or never belonged to it.
        assert!(!enters("spiffe://konsen/node/node2"));
        assert!(!enters("spiffe://other/node/node1"));
        assert!(!enters("spiffe://other/client/alice"));
    }
}
