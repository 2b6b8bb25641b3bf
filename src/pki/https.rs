//! HTTPS for clients, with the node's certificate.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;

use super::PkiError;
use super::clients::{Admits, Doorkeeper};
use super::material::{Material, crypto_provider};

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One that is shown must come from the authority.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// A word that says no way of client authentication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of none, optional, required")]
pub struct ClientAuthError(String);

impl FromStr for ClientAuth {
    type Err = ClientAuthError;

    fn from_str(text: &str) -> Result<ClientAuth, ClientAuthError> {
        match text {
            "none" => Ok(ClientAuth::None),
            "optional" => Ok(ClientAuth::Optional),
            "required" => Ok(ClientAuth::Required),
            other => Err(ClientAuthError(other.to_owned())),
        }
    }
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ClientAuth::None => "none",
            ClientAuth::Optional => "optional",
            ClientAuth::Required => "required",
        })
    }
}

/// TLS 1.3 for HTTP/2 and HTTP/1.1. Of clients that show a certificate of the authority's, those come in that
/// `admits` names, which is asked at every handshake: no session outlives the answer.
pub fn https_config(
    material: &Material,
    client_auth: ClientAuth,
    admits: Admits,
) -> Result<rustls::ServerConfig, PkiError> {
    let failed = |error: &dyn fmt::Display| PkiError::Tls(error.to_string());
    let builder = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(&error))?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(material.roots.clone(), crypto_provider());
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional => {
            let chain = verifier.allow_unauthenticated().build().map_err(|error| failed(&error))?;
            builder.with_client_cert_verifier(Doorkeeper::new(chain, admits))
        }
        ClientAuth::Required => {
            let chain = verifier.build().map_err(|error| failed(&error))?;
            builder.with_client_cert_verifier(Doorkeeper::new(chain, admits))
        }
    };
    let mut config = builder
        .with_single_cert(material.chain.clone(), material.key.clone_key())
        .map_err(|error| failed(&error))?;
    if client_auth != ClientAuth::None {
        // A session taken up again would come in without the certificate being looked at.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
