//! What two nodes tell each other before anything else, on the first stream of a connection and again
//! whenever a node becomes part of a cluster.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::FrameError;
use crate::cluster::{Features, Known, Settings};
use crate::raft::{ClusterId, NodeId};

/// The newest version of the protocol between nodes that this release speaks.
pub const WIRE_VERSION_MAX: u16 = 1;
/// The oldest version that it still speaks.
pub const WIRE_VERSION_MIN: u16 = 1;
/// The largest hello, in bytes.
pub(super) const HELLO_BYTES_MAX: usize = 64 << 10;

/// A hello. The two versions come first in every version of the protocol; further fields are only ever
/// appended, and what follows the fields known here is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) versions: Versions,
    /// The cluster's name, as configured and certified.
    pub(super) cluster: String,
    /// The node's name.
    pub(super) name: String,
    /// The identity of its data directory.
    pub(super) node_id: NodeId,
    /// The cluster that it belongs to, if it does.
    pub(super) cluster_id: Option<ClusterId>,
    /// The release of the software.
    pub(super) version: String,
    /// Where it says that it listens. Appended later: empty where a peer does not say.
    pub(super) addresses: Addresses,
    /// The newest committed membership that it knows of; from one that was put out, the last that names it.
    /// Appended later.
    pub(super) known: Option<Known>,
    /// In an answer: why the other end is refused. Appended later.
    pub(super) refused: Option<Refused>,
    /// What its configuration says that should be the same everywhere. Appended later.
    pub(super) settings: Option<Settings>,
    /// Which run of the node it is: drawn at the start of its process. Appended later: 0 where a peer does not say.
    pub(super) run: u64,
    /// The cluster's feature level as the node has it, and the highest that it knows. Appended later: who does not say
    /// knows the base alone.
    pub(super) features: Features,
}

/// A refusal, as the one who is refused is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    /// The number of its [`CloseCode`](super::CloseCode).
    pub(super) code: u8,
    /// Whether the other end says that this node does not belong to the cluster, as far as it knows.
    pub(super) disowns: bool,
    /// For an operator.
    pub(super) sentence: String,
}

/// Where a node is reached, as it says itself. Empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// By its peers, `host:port` (UDP).
    pub raft: String,
    /// By clients, `host:port` (TCP).
    pub http: String,
}

/// The fields that every hello has had since version 1, in their order.
type First = (Versions, String, String, NodeId, Option<ClusterId>, String);

/// The range of protocol versions that a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Versions {
    pub(super) oldest: u16,
    pub(super) newest: u16,
}

impl Versions {
    pub(super) const OWN: Versions =
        Versions { oldest: WIRE_VERSION_MIN, newest: WIRE_VERSION_MAX };

    /// The version to speak with a node that speaks `other`.
    pub(super) fn agree(self, other: Versions) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// What the bytes of a hello turned out to be.
#[derive(Debug)]
pub(super) enum Greeting {
    Understood(Box<Hello>),
    /// No version is spoken by both; the rest was not looked at.
    OtherVersions(Versions),
}

impl Hello {
    /// Reads a hello; a peer of an unknown version is recognised whatever else it says.
    pub(super) fn decode(body: &[u8]) -> Result<Greeting, FrameError> {
        let (versions, _) =
            postcard::take_from_bytes::<Versions>(body).map_err(|_| FrameError::Malformed)?;
        if Versions::OWN.agree(versions).is_none() {
            return Ok(Greeting::OtherVersions(versions));
        }
        let ((versions, cluster, name, node_id, cluster_id, version), rest) =
            postcard::take_from_bytes::<First>(body).map_err(|_| FrameError::Malformed)?;
        let (addresses, rest) = appended(rest)?;
        let (known, rest) = appended(rest)?;
        let (refused, rest) = appended(rest)?;
        let (settings, rest) = appended(rest)?;
        let (run, rest) = appended(rest)?;
        let (features, _) = appended(rest)?;
        Ok(Greeting::Understood(Box::new(Hello {
            versions,
            cluster,
            name,
            node_id,
            cluster_id,
            version,
            addresses,
            known,
            refused,
            settings,
            run,
            features,
        })))
    }
}

/// A field that earlier hellos did not have, and what follows it.
fn appended<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<(T, &[u8]), FrameError> {
    if bytes.is_empty() {
        return Ok((T::default(), bytes));
    }
    postcard::take_from_bytes(bytes).map_err(|_| FrameError::Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kv::FeatureLevel;

    fn hello() -> Hello {
        Hello {
            versions: Versions::OWN,
            cluster: "c".to_owned(),
            name: "n1".to_owned(),
            node_id: NodeId(7),
            cluster_id: Some(ClusterId(9)),
            version: "0.1.0".to_owned(),
            addresses: Addresses { raft: "h:1".to_owned(), http: "h:2".to_owned() },
            known: None,
            refused: Some(Refused { code: 5, disowns: true, sentence: "no".to_owned() }),
            settings: Some(Settings {
                value_bytes_max: 100,
                election_timeout_ms: 50,
                lease_reads: true,
            }),
            run: 6,
            features: Features { level: FeatureLevel(2), highest: FeatureLevel(3) },
        }
    }

    #[test]
    fn bytes_are_settled() {
        let bytes = postcard::to_stdvec(&hello()).unwrap();
        assert_eq!(
            bytes,
            b"\x01\x01\x01c\x02n1\x07\x01\x09\x050.1.0\x03h:1\x03h:2\x00\x01\x05\x01\x02no\x01\x64\x32\x01\x06\x02\x03"
        );
    }

    #[test]
    fn the_first_hellos_named_no_addresses() {
        let recorded = b"\x01\x01\x01c\x02n1\x07\x01\x09\x050.1.0";
        let Ok(Greeting::Understood(read)) = Hello::decode(recorded) else { panic!() };
        let first = Hello {
            addresses: Addresses::default(),
            known: None,
            refused: None,
            settings: None,
            run: 0,
            features: Features::default(),
            ..hello()
        };
        assert_eq!(*read, first);
        assert_eq!(
            (first.features.level, first.features.highest),
            (FeatureLevel(1), FeatureLevel(1))
        );
        assert!(Hello::decode(&recorded[..recorded.len() - 1]).is_err());
    }

    #[test]
    fn fields_of_later_releases_are_ignored() {
        let mut bytes = postcard::to_stdvec(&hello()).unwrap();
        bytes.extend_from_slice(b"more");
        let Ok(Greeting::Understood(read)) = Hello::decode(&bytes) else { panic!() };
        assert_eq!(*read, hello());
    }

    #[test]
    fn versions_are_agreed_or_refused() {
        let of = |oldest, newest| Versions { oldest, newest };
        assert_eq!(of(1, 3).agree(of(2, 5)), Some(3));
        assert_eq!(of(1, 1).agree(of(1, 9)), Some(1));
        assert_eq!(of(1, 1).agree(of(2, 3)), None);
        let bytes = postcard::to_stdvec(&of(2, 3)).unwrap();
        assert!(matches!(Hello::decode(&bytes), Ok(Greeting::OtherVersions(v)) if v == of(2, 3)));
    }
}
