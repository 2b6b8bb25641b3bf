//! Signing the next certificates of members, and having them renewed.

use std::fmt;
use std::time::Instant;

use time::Duration;

use crate::api::{ChangeError, Error, RenewMember};
use crate::cluster::ChangeRefused;
use crate::net::{Asking, RequestError};
use crate::pki::{Authority, ClusterName, PeerIdentity, Requested, Role, hosts_in};
use crate::server::allowed::Allowed;
use crate::server::handle::Handle;
use crate::server::wire::{Asked, NotSigned, PeerReply};

impl Handle {
    /// Signs the next certificate of a peer, if this node has the authority's key. It is for whom the peer's own certificate
    /// says, and for the same hosts: what the peer tells of its addresses would let it pass for others.
    pub(crate) fn sign(&self, from: &Asking, request: &[u8]) -> Result<String, NotSigned> {
        let tls = &self.shared.config.tls;
        let Some(key) = &tls.authority_key else { return Err(NotSigned::NoSigner) };
        let refused = |why: &dyn fmt::Display| NotSigned::Refused(why.to_string());
        let signed = (|| {
            let requested = Requested::read(request).map_err(|error| refused(&error))?;
            let shows = PeerIdentity::from_certificate(&from.certificate)
                .map_err(|error| refused(&error))?;
            let member = self.name_of(from.id).filter(|_| self.membership().is_some());
            let cluster = &self.shared.config.cluster;
            may_sign(&requested.identity, &shows, member.as_deref(), cluster)
                .map_err(|why| NotSigned::Refused(why.to_owned()))?;
            let hosts = hosts_in(&from.certificate).map_err(|error| refused(&error))?;
            let authority = Authority::load(&tls.ca, key).map_err(|error| refused(&error))?;
            let life = Duration::days(tls.days.into());
            authority
                .sign(&requested, &shows, &hosts, life)
                .map(|pem| (shows, pem))
                .map_err(|error| refused(&error))
        })();
        match signed {
            Ok((whose, pem)) => {
                tracing::info!(%whose, days = tls.days, "signed the next certificate of a member");
                Ok(pem)
            }
            Err(why) => {
                tracing::warn!(from = %from.id, ?why, "a certificate was not signed");
                Err(why)
            }
        }
    }

    /// Has a member renew its certificate, here or there; until when the new one is good, RFC 3339.
    pub async fn renew(
        &self,
        member: Allowed<RenewMember>,
        deadline: Instant,
    ) -> Result<String, ChangeError> {
        let own = self.name();
        let Some(name) = member.name.clone().filter(|name| *name != own) else {
            return self.renew_here(&member, deadline).await;
        };
        let now = self.membership().ok_or(Error::NoCluster)?;
        let id =
            now.members.iter().find(|(_, one)| one.name == name && one.seen).map(|(id, _)| *id);
        let Some(id) = id else {
            let names = now.members.values().map(|one| one.name.as_str());
            return Err(ChangeRefused::no_such_member(&name, names).into());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let known = self.peers_know_callers();
        let request = Asked::Renew.passed_on(member.caller(), left, known);
        match self.ask(id, &request, deadline).await {
            Ok(Some(PeerReply::Renewed(renewed))) => renewed,
            Ok(_) => Err(ChangeError::Refused(format!(
                "{name} runs a release that does not renew its certificate by itself; upgrade it"
            ))),
            Err(RequestError::NotSent) => {
                Err(ChangeError::Refused(format!("{name} cannot be reached; nothing was done")))
            }
            Err(RequestError::Unknown) => Err(Error::Unknown.into()),
        }
    }

    /// Renews the certificate of this node.
    pub(crate) async fn renew_here(
        &self,
        _: &Allowed<RenewMember>,
        deadline: Instant,
    ) -> Result<String, ChangeError> {
        self.shared.renewal.now(deadline).await
    }
}

/// Whether a member may have a certificate for what it asks for: for what it is, and nothing else.
fn may_sign(
    wanted: &PeerIdentity,
    shows: &PeerIdentity,
    member: Option<&str>,
    cluster: &ClusterName,
) -> Result<(), &'static str> {
    if shows.role != Role::Node || shows.cluster != *cluster {
        return Err("whoever asks shows no certificate of a node of this cluster");
    }
    if member != Some(shows.name.as_str()) {
        return Err("whoever asks is no member");
    }
    if wanted != shows {
        return Err("the request is for somebody else than who asks");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_gets_a_certificate_for_itself_alone() {
        let cluster: ClusterName = "konsen".parse().unwrap();
        let may = |wanted: &str, shows: &str, member: Option<&str>| {
            may_sign(&wanted.parse().unwrap(), &shows.parse().unwrap(), member, &cluster).is_ok()
        };
        let [one, two] = ["spiffe://konsen/node/one", "spiffe://konsen/node/two"];
        assert!(may(one, one, Some("one")));
        for wanted in [
            two,
            "spiffe://konsen/client/one",
            "spiffe://konsen/client/admin",
            "spiffe://other/node/one",
        ] {
            assert!(!may(wanted, one, Some("one")), "{wanted}");
        }
        // It was put out, or its identity is another's.
        assert!(!may(one, one, None));
        assert!(!may(one, one, Some("two")));
        for shows in ["spiffe://konsen/client/one", "spiffe://other/node/one"] {
            assert!(!may(shows, shows, Some("one")), "{shows}");
        }
    }
}
