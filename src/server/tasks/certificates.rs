//! A node's certificates: renewed ones come into use without a restart, who ends soon is told, and who shows one
//! to HTTPS is somebody.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::net::{Net, TlsMaterial};
use crate::pki::{self, Admits, ClusterName, Material, PeerIdentity, Role};
use crate::raft::Membership;

/// How often to look whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long before its end a certificate is told of, and how often.
const WARN_AHEAD: time::Duration = time::Duration::days(30);
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);
/// From then on it is an error.
const URGENT: time::Duration = time::Duration::days(7);

/// What the network needs of a node's certificates.
pub(crate) fn tls_material(material: Material) -> TlsMaterial {
    TlsMaterial { ca: material.ca, chain: material.chain, key: material.key }
}

/// What is told of the certificates in use.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// SHA-256 of each certificate of the authority, in hexadecimal.
    pub(crate) authorities: Vec<String>,
    /// What ends, when, and what to do about it.
    ends: Vec<(String, OffsetDateTime, &'static str)>,
}

impl Facts {
    pub(crate) fn of(material: &Material) -> Facts {
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

    /// A line for each that ends within a month.
    pub(crate) fn warnings(&self, now: OffsetDateTime) -> Vec<String> {
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

    fn tell(&self) {
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
pub(crate) fn admits(
    config: Arc<Config>,
    membership: watch::Receiver<Option<Membership>>,
) -> Admits {
    Arc::new(move |identity| {
        let membership = membership.borrow();
        // Before the cluster is born the file says who belongs to it.
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

/// The files as they were when the node read them, and the signal to read them again.
#[derive(Debug)]
pub(crate) struct Files {
    known: [Option<Vec<u8>>; 3],
    hang_up: Option<Signal>,
}

/// Where renewed certificates go.
pub(crate) struct Users {
    pub(crate) net: Net,
    pub(crate) https: watch::Sender<Option<Arc<rustls::ServerConfig>>>,
    pub(crate) admits: Admits,
    pub(crate) facts: Arc<ArcSwap<Facts>>,
}

impl Files {
    /// To be called before the files are used, so that no change is missed, and as early as SIGHUP may
    /// come, which ends a process that does not expect it.
    pub(crate) fn note(config: &Config) -> Files {
        Files { known: contents(config), hang_up: signal(SignalKind::hangup()).ok() }
    }

    /// Reads the files again every half minute and at SIGHUP. Files that cannot be used change nothing
    /// but the log. Tells once a day of those that end soon.
    pub(crate) async fn follow(mut self, users: Users, config: Arc<Config>) {
        users.facts.load().tell();
        let mut told = Instant::now();
        loop {
            let asked = async {
                match &mut self.hang_up {
                    Some(hang_up) => drop(hang_up.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asked => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            if told.elapsed() >= WARN_EVERY {
                users.facts.load().tell();
                told = Instant::now();
            }
            let now = contents(&config);
            if now == self.known {
                continue;
            }
            self.known = now;
            let read = config
                .material()
                .and_then(|material| Ok((material, config.http_tls(users.admits.clone())?)));
            let (material, http_tls) = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!("the certificates have changed and cannot be used: {error}");
                    continue;
                }
            };
            let facts = Facts::of(&material);
            match users.net.reload_tls(tls_material(material)) {
                Ok(()) => {
                    users.https.send_replace(http_tls);
                    tracing::info!(
                        expires = users.net.certificate_expires(),
                        "new certificates are in use"
                    );
                    facts.tell();
                    told = Instant::now();
                    users.facts.store(Arc::new(facts));
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
}

/// The files' bytes; none for one that cannot be read now.
fn contents(config: &Config) -> [Option<Vec<u8>>; 3] {
    let read = |path: &Path| std::fs::read(path).ok();
    [read(&config.tls.ca), read(&config.tls.cert), read(&config.tls.key)]
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
