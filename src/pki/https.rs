//! HTTPS for clients, with the node's certificate or one of its own.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::clients::{Admits, Doorkeeper, Entry};
use super::files::{read_certificates, read_key};
use super::identity::{Role, parse};
use super::material::{Material, check_key, check_time, crypto_provider, roots};
use super::{IdentityError, PkiError};

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

impl ClientAuth {
    /// What holds where nothing is said: with TLS those come in, too, that show no certificate, and may do what such
    /// clients may.
    pub fn default_with(tls: bool) -> ClientAuth {
        if tls { ClientAuth::Optional } else { ClientAuth::None }
    }
}

/// What HTTPS shows, and whom it takes in.
#[derive(Debug)]
pub struct Https {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// What clients' certificates come from.
    authorities: Arc<RootCertStore>,
    /// Whether those are others than the nodes'.
    has_other_authorities: bool,
    /// Until when the certificate is valid, if it is not the node's.
    own_end: Option<OffsetDateTime>,
}

impl Https {
    /// With the node's certificate, for clients of its authority.
    pub fn of(node: &Material) -> Https {
        let mut chain = node.chain.clone();
        // Clients that know an authority by its fingerprint alone have to be shown it.
        chain.extend(node.ca.iter().filter(|ca| has_signed(ca, &node.chain)).cloned());
        Https {
            chain,
            key: node.key.clone_key(),
            authorities: node.roots.clone(),
            has_other_authorities: false,
            own_end: None,
        }
    }

    /// With a certificate of its own, whoever signed it, for clients of the nodes' authority in `ca`. It is checked to be
    /// valid now and to belong to the key.
    pub fn load(cert: &Path, key: &Path, ca: &Path) -> Result<Https, PkiError> {
        let chain = read_certificates(cert)?;
        let key_der = read_key(key)?;
        let file = |source: IdentityError| PkiError::File { file: cert.to_path_buf(), source };
        let leaf = chain.first().ok_or_else(|| file(IdentityError::Malformed))?;
        let parsed = parse(leaf).map_err(file)?;
        check_key(&chain, &key_der, cert, key)?;
        check_time(cert, &parsed)?;
        let own_end = Some(parsed.validity().not_after.to_datetime());
        let authorities = Arc::new(roots(&read_certificates(ca)?, ca)?);
        Ok(Https { chain, key: key_der, authorities, has_other_authorities: false, own_end })
    }

    /// The same for clients of the authorities in a file.
    pub fn for_clients_of(self, file: &Path) -> Result<Https, PkiError> {
        let authorities = Arc::new(roots(&read_certificates(file)?, file)?);
        Ok(Https { authorities, has_other_authorities: true, ..self })
    }

    /// Until when the certificate is valid; none where it is the node's.
    pub fn own_end(&self) -> Option<OffsetDateTime> {
        self.own_end
    }

    /// TLS 1.3 for HTTP/2 and HTTP/1.1. Of clients that show a certificate of an authority's, those come in that
    /// `admits` names, which is asked at every handshake: no session outlives the answer. Who is a node only the nodes'
    /// authority says.
    pub fn server_config(
        &self,
        client_auth: ClientAuth,
        admits: Admits,
    ) -> Result<rustls::ServerConfig, PkiError> {
        let failed = |error: &dyn fmt::Display| PkiError::Tls(error.to_string());
        let admits: Admits = match self.has_other_authorities {
            false => admits,
            true => Arc::new(move |identity, serial| match identity.role {
                Role::Client => admits(identity, serial),
                Role::Node => Entry::Stranger,
            }),
        };
        let builder = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(
            self.authorities.clone(),
            crypto_provider(),
        );
        let builder = match client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Optional => {
                let chain =
                    verifier.allow_unauthenticated().build().map_err(|error| failed(&error))?;
                builder.with_client_cert_verifier(Doorkeeper::new(chain, admits))
            }
            ClientAuth::Required => {
                let chain = verifier.build().map_err(|error| failed(&error))?;
                builder.with_client_cert_verifier(Doorkeeper::new(chain, admits))
            }
        };
        let mut config = builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| failed(&error))?;
        if client_auth != ClientAuth::None {
            // A session taken up again would come in without the certificate being looked at.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Whether an authority is named as the signer of the last certificate of a chain, and is not in it.
fn has_signed(authority: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> bool {
    let Some(last) = chain.last() else { return false };
    let names = parse(authority).ok().zip(parse(last).ok());
    !chain.contains(authority)
        && names
            .is_some_and(|(authority, last)| authority.subject().as_raw() == last.issuer().as_raw())
}
