//! What a peer shows of itself on a connection.

use std::net::SocketAddr;

use super::PeerHello;
use super::hello::Hello;
use super::identity::CertifiedNode;
use crate::cluster::Visitor;
use crate::cluster::copies::Speaker;

/// A peer's hello and certificate, both seen by the one who checks them.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) certified: CertifiedNode,
    pub(super) hello: Hello,
}

impl Shown {
    pub(super) fn peer(&self) -> PeerHello {
        let hello = self.hello.clone();
        let Hello { name, node_id, cluster_id, version, addresses, settings, features, .. } = hello;
        PeerHello { name, node_id, cluster_id, version, addresses, settings, features }
    }

    pub(super) fn is_same_node(&self, other: &Shown) -> bool {
        self.hello.node_id == other.hello.node_id
    }

    pub(super) fn speaks_from(&self, at: SocketAddr) -> Speaker {
        Speaker { run: self.hello.run, at }
    }

    pub(super) fn visitor(&self) -> Visitor<'_> {
        let Hello { name, node_id, cluster_id, features, .. } = &self.hello;
        Visitor { name, id: *node_id, cluster: *cluster_id, features: *features }
    }
}
