//! Whom a certificate stands for: one URI among its names, `spiffe://CLUSTER/node/NAME` or
//! `spiffe://CLUSTER/client/NAME`.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{ClusterName, NodeName, PkiError};

/// What a certificate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes part in the cluster.
    Node,
    /// Uses it.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Node => "node",
            Role::Client => "client",
        })
    }
}

/// Whom a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// In which cluster.
    pub cluster: ClusterName,
    /// As what.
    pub role: Role,
    /// By which name. Clients' names have the form of nodes' names.
    pub name: NodeName,
}

/// A certificate that shows no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No X.509.
    #[error("the certificate cannot be parsed")]
    Malformed,
    /// No URI, or several.
    #[error("the certificate has {0} URIs among its names, not one")]
    Uris(usize),
    /// A URI of another form.
    #[error(
        "the certificate's URI is {0:?}, not spiffe://CLUSTER/node/NAME or spiffe://CLUSTER/client/NAME"
    )]
    Uri(String),
}

impl PeerIdentity {
    /// The identity in the one URI among the certificate's names. Says nothing about who signed it.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, PkiError> {
        Ok(identity_of(&parse(certificate)?)?)
    }

    /// The identity as it stands in certificates.
    pub fn uri(&self) -> String {
        format!("spiffe://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for PeerIdentity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<PeerIdentity, IdentityError> {
        let wrong = || IdentityError::Uri(uri.to_owned());
        let rest = uri.strip_prefix("spiffe://").ok_or_else(wrong)?;
        let mut parts = rest.split('/');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(cluster), Some(role), Some(name), None) = parts else { return Err(wrong()) };
        let role = match role {
            "node" => Role::Node,
            "client" => Role::Client,
            _ => return Err(wrong()),
        };
        Ok(PeerIdentity {
            cluster: cluster.parse().map_err(|_| wrong())?,
            role,
            name: name.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.uri())
    }
}

/// The certificate's parts; bytes after its end are refused.
pub(super) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(certificate.as_ref()) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(IdentityError::Malformed),
    }
}

pub(super) fn identity_of(
    certificate: &X509Certificate<'_>,
) -> Result<PeerIdentity, IdentityError> {
    // An extension that comes twice is an error here.
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => uri.parse(),
        uris => Err(IdentityError::Uris(uris.len())),
    }
}
