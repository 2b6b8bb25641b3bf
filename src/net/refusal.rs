//! Why two nodes do not talk to each other, in sentences for whoever runs them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{ConnectionError, VarInt};

use super::hello::{Refused, Versions};
use super::identity::NotANode;
use crate::cluster::{Known, Why};
use crate::kv::Serial;
use crate::raft::NodeId;

/// How long a peer's refusal for one reason is not logged again.
const QUIET: Duration = Duration::from_secs(60);
/// How many pairs of peer and reason are remembered for that.
const REMEMBERED_MAX: usize = 1024;
/// The longest reason of a peer that is shown, in characters.
const REASON_CHARS_MAX: usize = 500;

/// This release.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// The application codes with which connections are closed. The numbers are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCode {
    /// The connection is not needed any more.
    Done = 0,
    /// The node stops.
    ShuttingDown = 1,
    /// No common version of the protocol.
    Version = 2,
    /// The node's data directory is not the one that is known under its name.
    Identity = 3,
    /// The node is of another cluster.
    Cluster = 4,
    /// The node is not, or no longer, a member.
    NotAMember = 5,
    /// The node broke the protocol.
    Protocol = 6,
    /// Something went wrong on this side; another connection may do better.
    Failed = 7,
    /// The node was a member, and is none any more.
    PutOut = 8,
    /// The node's release does not know the cluster's feature level.
    TooOld = 9,
    /// The release of whoever closes does not know the feature level of the cluster, to which the node belongs.
    Outgrown = 10,
}

impl CloseCode {
    pub(super) fn as_varint(self) -> VarInt {
        VarInt::from_u32(u32::from(self as u8))
    }
}

/// A decision against a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Refusal {
    pub(super) code: CloseCode,
    /// Whether the other end does not belong to the cluster, as far as is known here.
    pub(super) disowns: bool,
    pub(super) sentence: String,
}

impl Refusal {
    fn new(code: CloseCode, sentence: String) -> Refusal {
        Refusal { code, disowns: false, sentence }
    }

    pub(super) fn versions(theirs: Versions) -> Refusal {
        let Versions { oldest, newest } = Versions::OWN;
        Refusal::new(
            CloseCode::Version,
            format!(
                "the releases do not understand each other: one speaks versions {oldest} to {newest} \
                 of the protocol, the other {} to {}; upgrade one release at a time",
                theirs.oldest, theirs.newest
            ),
        )
    }

    /// What a decision at the door means, for the operator of the host `name`.
    pub(super) fn of(name: &str, why: &Why) -> Refusal {
        let host = shown(name);
        let (code, sentence) = match why {
            Why::OtherCluster { own, theirs } => (
                CloseCode::Cluster,
                format!(
                    "{host} belongs to the cluster that was founded as {:016x}, this node to {:016x}: two clusters \
                     of the same name were founded; empty the data directories of the wrong one",
                    theirs.0, own.0
                ),
            ),
            Why::Copy { of } if of == name => (
                CloseCode::Identity,
                format!(
                    "{host} has reached itself, or another host with its certificate and a copy of its data \
                     directory: where another {name} is a member already, this one is not needed"
                ),
            ),
            Why::Copy { of } => (
                CloseCode::Identity,
                format!(
                    "{host} shows the identity of {of}: its data directory is a copy; give {name} a data \
                     directory of its own: an empty one, after `konsen member replace {name}`"
                ),
            ),
            Why::OtherIdentity { expected } => (
                CloseCode::Identity,
                format!(
                    "{host} shows another identity than {expected}, by which the cluster knows it: its data \
                     directory was lost or exchanged, or this is another host with its certificate. If {name} runs \
                     elsewhere, stop this one; else restore the data directory, or use `konsen member replace {name}`"
                ),
            ),
            Why::Replaced { .. } => (
                CloseCode::NotAMember,
                format!(
                    "{host} was put out of the cluster and another host has its place, or is to have it; this \
                     data directory is not needed any more"
                ),
            ),
            Why::NoMember { .. } => (
                CloseCode::NotAMember,
                format!("{host} is not a member of this cluster, as far as this node knows"),
            ),
            Why::Taken { by } => (
                CloseCode::Identity,
                format!(
                    "two hosts show the certificate of {host}, and {by} is connected in its place: stop one of \
                     them, and give each host a certificate of its own"
                ),
            ),
            Why::TooOld { level, knows } => (
                CloseCode::TooOld,
                format!(
                    "this cluster is at feature level {level} (konsen {OWN}); the release of {host} knows level \
                     {knows}: run a newer release there"
                ),
            ),
            Why::Outgrown { level, knows } => (
                CloseCode::Outgrown,
                format!(
                    "{host} says that this cluster is at feature level {level}; konsen {OWN}, which this node runs, knows \
                     level {knows}: run a newer release here"
                ),
            ),
        };
        Refusal { disowns: why.disowns(), ..Refusal::new(code, sentence) }
    }

    /// The same, of one that `was_put_out` or not, as far as this node remembers.
    pub(super) fn of_one(self, was_put_out: bool) -> Refusal {
        let code = if self.disowns && was_put_out { CloseCode::PutOut } else { self.code };
        Refusal { code, ..self }
    }

    /// The host of that name that answers is not the one that the dialled place is for: while a member is taken in
    /// or replaced there are two places of one name.
    pub(super) fn other_place(name: &str, id: NodeId) -> Refusal {
        let name = shown(name);
        Refusal::new(
            CloseCode::Done,
            format!(
                "{name} answers here as {id}, by which it has a place of its own; another place under this name is \
                 kept until it is decided whether {id} was taken in, or for the host that is to come instead of it"
            ),
        )
    }

    /// Another run of the same data directory is connected, and lives.
    pub(super) fn copy(name: &str, id: NodeId, first: SocketAddr, second: SocketAddr) -> Refusal {
        Refusal::new(
            CloseCode::Identity,
            format!(
                "two hosts run with the identity of {} ({id}), on copies of one data directory: the one at {first} is \
                 connected, so the one at {second} is refused; stop the copy and remove its data directory",
                shown(name)
            ),
        )
    }

    /// The process at the other end is gone: its node was started again.
    pub(super) fn run_is_over(name: &str) -> Refusal {
        Refusal::new(CloseCode::Done, format!("{} was started again", shown(name)))
    }

    /// The other end's certificate is of an authority that is trusted no more.
    pub(super) fn no_longer_trusted(name: &str, error: &rustls::Error) -> Refusal {
        let sentence = format!("the certificate of {} is trusted no more: {error}", shown(name));
        Refusal::new(CloseCode::NotAMember, sentence)
    }

    /// The other end's certificate was revoked.
    pub(super) fn revoked(name: &str, serial: &Serial) -> Refusal {
        let sentence =
            format!("the certificate of {} with the number {serial} was revoked", shown(name));
        Refusal::new(CloseCode::NotAMember, sentence)
    }

    pub(super) fn cluster_name(own: &str, theirs: &str) -> Refusal {
        Refusal::new(
            CloseCode::Cluster,
            format!("this is the cluster {}, not {}", shown(own), shown(theirs)),
        )
    }

    pub(super) fn not_a_node(error: &NotANode) -> Refusal {
        Refusal::new(CloseCode::NotAMember, error.to_string())
    }

    pub(super) fn other_name(certified: &str, claimed: &str) -> Refusal {
        Refusal::new(
            CloseCode::NotAMember,
            format!(
                "the certificate is that of {}, the node is {}; each node needs its own certificate",
                shown(certified),
                shown(claimed)
            ),
        )
    }

    /// The place that was kept under that name gives way to another one.
    pub(super) fn known_anew(name: &str) -> Refusal {
        let sentence = format!(
            "the place that was kept under the name {} before its identity was known, or for an earlier host of that \
             name, is none any more; the cluster knows the member by its identity now, and is connected to that",
            shown(name)
        );
        Refusal::new(CloseCode::Done, sentence)
    }

    pub(super) fn removed(name: &str) -> Refusal {
        Refusal::new(CloseCode::NotAMember, format!("{name} was removed from the cluster"))
    }

    pub(super) fn protocol(what: impl std::fmt::Display) -> Refusal {
        Refusal::new(CloseCode::Protocol, format!("the protocol was broken: {what}"))
    }

    /// Tells the other end and ends the connection.
    pub(super) fn close(&self, connection: &quinn::Connection) {
        connection.close(self.code.as_varint(), self.sentence.as_bytes());
    }
}

/// A name that a peer claims, made fit for a log.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(100).collect();
    format!("{cut:?}")
}

/// Why a connection ended or never began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// What kind of ending it is; the same kind is not logged again and again.
    pub(super) kind: u64,
    /// Whether one of the two ends decided against the other.
    pub(super) refused: bool,
    pub(super) sentence: String,
    /// What a peer that refused this node knows of who belongs.
    pub(super) told: Option<Box<Known>>,
    /// Who said so that this node is no member.
    pub(super) disowned: Option<NodeId>,
    /// Whether it said, too, that this node was one.
    pub(super) put_out: bool,
    /// Whether this node's release is too old for the cluster, as either end has found.
    pub(super) outgrown: bool,
}

/// Kinds of endings that are no codes of QUIC; those are below 2^62.
const KIND_UNREACHABLE: u64 = 1 << 62;
const KIND_ADDRESS: u64 = KIND_UNREACHABLE + 1;
const KIND_OWN_REFUSAL: u64 = KIND_UNREACHABLE + 16;
const KIND_PEER_REFUSAL: u64 = KIND_UNREACHABLE + 32;

impl Ending {
    fn new(kind: u64, refused: bool, sentence: String) -> Ending {
        Ending {
            kind,
            refused,
            sentence,
            told: None,
            disowned: None,
            put_out: false,
            outgrown: false,
        }
    }

    /// Nothing came back.
    pub(super) fn unreachable(sentence: &str) -> Ending {
        Ending::new(KIND_UNREACHABLE, false, sentence.to_owned())
    }

    /// The address leads nowhere.
    pub(super) fn address(sentence: String) -> Ending {
        Ending::new(KIND_ADDRESS, false, sentence)
    }

    /// The other end decided, and said why; `told` is what it knows of who belongs.
    pub(super) fn by_peer(peer: NodeId, refused: &Refused, told: Option<Known>) -> Ending {
        let Refused { code, disowns, sentence } = refused;
        let kind = KIND_PEER_REFUSAL + u64::from(*code);
        let sentence = format!("the other end refused this node: {}", readable(sentence));
        let disowned = told.as_ref().filter(|_| *disowns).map(|_| peer);
        let told = told.map(Box::new);
        let put_out = *code == CloseCode::PutOut as u8;
        let outgrown = *code == CloseCode::TooOld as u8;
        Ending {
            told,
            disowned,
            put_out,
            outgrown,
            ..Ending::new(kind, *code != CloseCode::Done as u8, sentence)
        }
    }

    /// This end decided.
    pub(super) fn own(refusal: &Refusal) -> Ending {
        let refused = refusal.code != CloseCode::Done;
        let kind = KIND_OWN_REFUSAL + refusal.code as u64;
        let outgrown = refusal.code == CloseCode::Outgrown;
        Ending { outgrown, ..Ending::new(kind, refused, refusal.sentence.clone()) }
    }

    pub(super) fn of(error: &ConnectionError) -> Ending {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                let reason = readable(&String::from_utf8_lossy(&close.reason));
                let peaceful = code <= CloseCode::ShuttingDown as u64;
                let sentence = match peaceful {
                    true => format!("the other end closed the connection: {reason}"),
                    false => format!("the other end refused this node: {reason}"),
                };
                let kind = KIND_PEER_REFUSAL + code.min(1 << 20);
                let outgrown = code == CloseCode::TooOld as u64;
                Ending { outgrown, ..Ending::new(kind, !peaceful, sentence) }
            }
            ConnectionError::TransportError(error) => {
                let code = u64::from(error.code);
                match tls_alert(code).map(alert_sentence) {
                    Some(alert) => {
                        let reason = &error.reason;
                        let sentence =
                            format!("this node refused the other end: {alert} ({reason})");
                        Ending::new(code, true, sentence)
                    }
                    None => Ending::new(code, false, error.to_string()),
                }
            }
            ConnectionError::ConnectionClosed(close) => {
                let code = u64::from(close.error_code);
                match tls_alert(code).map(alert_sentence) {
                    Some(alert) => {
                        let sentence = format!("the other end refused this node: {alert}");
                        Ending::new(KIND_PEER_REFUSAL.saturating_add(code), true, sentence)
                    }
                    None => Ending::new(code, false, close.to_string()),
                }
            }
            ConnectionError::TimedOut => Ending::unreachable("nothing is heard from the other end"),
            ConnectionError::Reset => Ending::unreachable("the other end was restarted"),
            other => Ending::unreachable(&other.to_string()),
        }
    }
}

/// What a peer says, made fit for a log.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

/// The TLS alert in a QUIC error code (RFC 9001, section 4.8).
fn tls_alert(code: u64) -> Option<u8> {
    code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

/// What an alert means here (RFC 8446, section 6).
fn alert_sentence(alert: u8) -> &'static str {
    match alert {
        42 => "the certificate is not valid for that node's name, or is damaged",
        43 => "the certificate may not be used for this purpose",
        44 => "the certificate was revoked",
        45 => "the certificate has expired or is not valid yet; renew it and check the clocks",
        46 => "the certificate is not acceptable",
        48 | 51 => "the certificate was not issued by the authority of this cluster",
        70 => "no common version of TLS",
        112 => "the certificate does not bear the name that was asked for",
        116 => "no certificate was presented",
        120 => "the other end does not speak konsen's protocol",
        _ => "the TLS handshake failed",
    }
}

/// Logs refusals, each kind at most once a minute for a peer, and counts all of them.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    said: Mutex<HashMap<(String, u64), Instant>>,
    count: AtomicU64,
}

impl RefusalLog {
    /// A connection with the peer `name` failed.
    pub(super) fn peer(&self, name: &str, address: &str, ending: &Ending) {
        let news = self.note(name.to_owned(), ending);
        match (ending.refused, news) {
            (true, true) => {
                tracing::warn!(peer = name, address, "no connection: {}", ending.sentence);
            }
            (false, true) => {
                tracing::info!(peer = name, address, "no connection: {}", ending.sentence);
            }
            (_, false) => tracing::debug!(peer = name, address, "again: {}", ending.sentence),
        }
    }

    /// Somebody without a name that could be trusted was refused.
    pub(super) fn stranger(&self, address: IpAddr, ending: &Ending) {
        if self.note(address.to_string(), ending) && ending.refused {
            tracing::warn!(%address, "connection refused: {}", ending.sentence);
        } else {
            tracing::debug!(%address, "connection failed: {}", ending.sentence);
        }
    }

    /// How many were refused so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts; true if it is to be said.
    fn note(&self, subject: String, ending: &Ending) -> bool {
        if ending.refused {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let now = Instant::now();
        let mut said = self.said.lock();
        let key = (subject, ending.kind);
        if said.get(&key).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return false;
        }
        if said.len() >= REMEMBERED_MAX {
            said.retain(|_, at| now.duration_since(*at) < QUIET);
        }
        if said.len() >= REMEMBERED_MAX {
            return false;
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::FeatureLevel;

    #[test]
    fn a_wiped_directory_is_explained() {
        let refusal = Refusal::of("n2", &Why::OtherIdentity { expected: NodeId(1000) });
        assert_eq!(refusal.code as u8, 3);
        for word in ["identity", "data directory", "konsen member replace n2", "restore"] {
            assert!(refusal.sentence.contains(word), "{word}: {refusal}");
        }
    }

    #[test]
    fn other_versions_of_the_protocol_are_explained() {
        let refusal = Refusal::versions(Versions { oldest: 7, newest: 9 });
        assert_eq!(refusal.code as u8, CloseCode::Version as u8);
        for word in ["versions 1 to 1", "the other 7 to 9", "upgrade one release at a time"] {
            assert!(refusal.sentence.contains(word), "{word}: {refusal}");
        }
    }

    #[test]
    fn an_old_release_is_told_by_either_end_that_it_has_to_be_a_newer_one() {
        let (level, knows) = (FeatureLevel(2), FeatureLevel(1));
        let refusal = Refusal::of("n4", &Why::TooOld { level, knows });
        for word in
            ["this cluster is at feature level 2 (konsen ", "knows level 1", "newer release"]
        {
            assert!(refusal.sentence.contains(word), "{word}: {refusal}");
        }
        let (code, sentence) = (refusal.code as u8, refusal.sentence.clone());
        let told = Refused { code, disowns: refusal.disowns, sentence };
        let outgrown = |ending: Ending| ending.outgrown;
        assert!(outgrown(Ending::by_peer(NodeId(1), &told, None)));
        assert!(
            !outgrown(Ending::own(&refusal)),
            "whoever knows more is not the one to be replaced"
        );
        assert!(outgrown(Ending::own(&Refusal::of("n1", &Why::Outgrown { level, knows }))));
        assert_eq!([CloseCode::TooOld as u8, CloseCode::Outgrown as u8], [9, 10]);
    }

    #[test]
    fn the_same_is_said_once_a_minute() {
        let log = RefusalLog::default();
        let ending = Ending::own(&Refusal::removed("x"));
        assert!(log.note("n1".to_owned(), &ending));
        assert!(!log.note("n1".to_owned(), &ending));
        assert!(log.note("n2".to_owned(), &ending));
        assert_eq!(log.count(), 3);
        for stranger in 0..REMEMBERED_MAX * 2 {
            log.note(stranger.to_string(), &ending);
        }
        assert!(log.said.lock().len() <= REMEMBERED_MAX);
    }

    #[test]
    fn alerts_have_sentences() {
        assert_eq!(tls_alert(0x174), Some(116));
        assert_eq!(tls_alert(0x0a), None);
        assert_eq!(tls_alert(0x200), None);
        assert_eq!(alert_sentence(116), "no certificate was presented");
    }
}
