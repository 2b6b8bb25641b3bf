//! What is known of a node's certificates: who ends soon, and who may come in to HTTPS with one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::config::Config;
use crate::kv::Serial;
use crate::net::TlsMaterial;
use crate::pki::{
    self, Admits, ClusterName, Entry, Https, Life, Material, PeerIdentity, PkiError, Role,
};
use crate::raft::Membership;
use crate::store::State;

/// How long before its end a certificate is told of.
const WARN_AHEAD: time::Duration = time::Duration::days(30);
/// From then on it is an error.
const URGENT: time::Duration = time::Duration::days(7);

/// What the network needs of a node's certificates.
pub(super) fn tls_material(material: Material) -> TlsMaterial {
    TlsMaterial { ca: material.ca, chain: material.chain, key: material.key }
}

/// What is told of the certificates in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// SHA-256 of each certificate of the authority, in hexadecimal.
    pub(super) authorities: Vec<String>,
    /// From when until when the node's certificate is good.
    pub(super) life: Option<Life>,
    /// Its serial number.
    pub(super) serial: Option<Serial>,
    node: Vec<Ends>,
    /// Of HTTPS where it has its own.
    http: Option<Ends>,
}

/// The end of a certificate.
#[derive(Clone, Debug)]
struct Ends {
    /// What metrics call it.
    label: &'static str,
    what: String,
    at: OffsetDateTime,
    /// What to do about it.
    right: &'static str,
}

impl Facts {
    /// The same with another certificate between nodes.
    #[must_use]
    pub(super) fn with_node(&self, material: &Material) -> Facts {
        let own = Ends {
            label: "node",
            what: format!("the certificate of {}", material.identity.name),
            at: material.life.until,
            right: "make another with `konsen cert renew`",
        };
        let authority = |at| Ends {
            label: "authority",
            what: "the authority's certificate".to_owned(),
            at,
            right: "make another with `konsen cert ca`, and new ones for all nodes",
        };
        // Each could be parsed when it was read.
        let authorities = material.ca.iter().filter_map(|one| pki::not_after(one).ok());
        Facts {
            authorities: material.ca.iter().map(pki::fingerprint).collect(),
            life: Some(material.life),
            serial: material.chain.first().and_then(|leaf| {
                pki::serial_of(leaf).ok().and_then(|bytes| Serial::new(&bytes).ok())
            }),
            node: std::iter::once(own).chain(authorities.map(authority)).collect(),
            http: self.http.clone(),
        }
    }

    /// The same with other HTTPS.
    #[must_use]
    fn with_https(&self, https: Option<&Https>) -> Facts {
        let end = https.and_then(Https::own_end).map(|at| Ends {
            label: "http",
            what: "the certificate of HTTPS".to_owned(),
            at,
            right: "put another into the files of http.tls",
        });
        Facts { http: end, ..self.clone() }
    }

    fn all(&self) -> impl Iterator<Item = &Ends> {
        self.node.iter().chain(&self.http)
    }

    /// When each of them ends, in seconds since 1970: the node's, the first of the authority's, and HTTPS's own.
    pub(super) fn ends(&self) -> BTreeMap<&'static str, i64> {
        let mut first = BTreeMap::new();
        for Ends { label, at, .. } in self.all() {
            let at = at.unix_timestamp();
            first.entry(*label).and_modify(|first: &mut i64| *first = at.min(*first)).or_insert(at);
        }
        first
    }

    /// When the last authority ends, in seconds since 1970: no certificate of theirs outlives it.
    pub(super) fn last_end(&self) -> Option<i64> {
        let authorities = self.all().filter(|ends| ends.label == "authority");
        authorities.map(|ends| ends.at.unix_timestamp()).max()
    }

    /// A line for each that ends within a month.
    pub(super) fn warnings(&self, now: OffsetDateTime) -> Vec<String> {
        self.ending(now).map(|(line, _)| line).collect()
    }

    /// The lines, and whether each is urgent.
    fn ending(&self, now: OffsetDateTime) -> impl Iterator<Item = (String, bool)> {
        self.all().filter(move |ends| ends.at - now < WARN_AHEAD).map(
            move |Ends { what, at, right, .. }| {
                let left = *at - now;
                let when = match left.whole_days() {
                    _ if left.is_negative() => "has ended".to_owned(),
                    0 => "ends within a day".to_owned(),
                    1 => "ends in 1 day".to_owned(),
                    days => format!("ends in {days} days"),
                };
                (format!("{what} {when} ({}): {right}", pki::rfc3339(*at)), left < URGENT)
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

/// What is replaced as certificates are renewed.
pub(super) struct Served {
    /// What HTTPS is served with; none where HTTP is plain.
    pub(super) https: watch::Sender<Option<Arc<rustls::ServerConfig>>>,
    admits: Admits,
    pub(super) facts: Arc<ArcSwap<Facts>>,
}

impl Served {
    /// With the certificate between nodes, and what the configuration names for HTTPS.
    pub(super) fn start(
        config: &Arc<Config>,
        material: &Material,
        membership: watch::Receiver<Option<Membership>>,
        state: Arc<State>,
    ) -> Result<Served, PkiError> {
        let https = config.https()?;
        let facts = Facts::default().with_node(material).with_https(https.as_ref());
        let served = Served {
            https: watch::Sender::new(None),
            admits: admits(config.clone(), membership, state),
            facts: Arc::new(ArcSwap::from_pointee(facts)),
        };
        served.serve(config, https.as_ref())?;
        Ok(served)
    }

    /// Serves connections that come with what the configuration names for HTTPS now.
    pub(super) fn renew_https(&self, config: &Config) -> Result<(), PkiError> {
        let https = config.https()?;
        self.serve(config, https.as_ref())?;
        self.facts.store(Arc::new(self.facts.load().with_https(https.as_ref())));
        Ok(())
    }

    fn serve(&self, config: &Config, https: Option<&Https>) -> Result<(), PkiError> {
        let auth = config.http.client_auth;
        let made = https.map(|https| https.server_config(auth, self.admits.clone())).transpose()?;
        self.https.send_replace(made.map(Arc::new));
        Ok(())
    }
}

/// Who comes in to HTTPS with a certificate of the authority's: clients of this cluster, and its present members; nobody with
/// one that was revoked.
fn admits(
    config: Arc<Config>,
    membership: watch::Receiver<Option<Membership>>,
    state: Arc<State>,
) -> Admits {
    Arc::new(move |identity, serial| {
        if Serial::new(serial).is_ok_and(|serial| state.access().revoked().contains_key(&serial)) {
            return Entry::Revoked;
        }
        let membership = membership.borrow();
        // Before the cluster is founded the file says who belongs to it.
        let is_member = |name: &str| match membership.as_ref() {
            Some(membership) => membership.members.values().any(|member| member.name == name),
            None => config.servers.contains_key(name),
        };
        match may_enter(identity, &config.cluster, is_member) {
            true => Entry::Admitted,
            false => Entry::Stranger,
        }
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
            http: Some(Ends {
                label: "http",
                what: "the certificate of node1".to_owned(),
                at: now + time::Duration::days(days),
                right: "renew it",
            }),
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
