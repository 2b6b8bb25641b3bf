//! Which clients HTTPS lets in: a chain to the authority is not enough, it must stand for somebody who may.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::identity::PeerIdentity;
use super::material::serial_of;

/// Whether somebody may come in whose certificate is sound, by whom it stands for and its serial number.
pub type Admits = Arc<dyn Fn(&PeerIdentity, &[u8]) -> Entry + Send + Sync>;

/// What becomes of somebody who wants to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// They come in.
    Admitted,
    /// The certificate stands for nobody who may.
    Stranger,
    /// The certificate opens nothing any more.
    Revoked,
}

/// Checks the chain, then who it stands for.
pub(super) struct Doorkeeper {
    chain: Arc<dyn ClientCertVerifier>,
    admits: Admits,
}

impl Doorkeeper {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, admits: Admits) -> Arc<Doorkeeper> {
        Arc::new(Doorkeeper { chain, admits })
    }
}

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorkeeper").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Doorkeeper {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        // Told as "access denied".
        let refused = CertificateError::ApplicationVerificationFailure;
        let serial = serial_of(end_entity);
        match PeerIdentity::from_certificate(end_entity) {
            Ok(identity) => match (self.admits)(&identity, &serial.unwrap_or_default()) {
                Entry::Admitted => Ok(verified),
                Entry::Stranger => {
                    tracing::debug!(%identity, "a certificate that opens nothing");
                    Err(refused.into())
                }
                Entry::Revoked => {
                    tracing::debug!(%identity, "a certificate that was revoked");
                    Err(CertificateError::Revoked.into())
                }
            },
            Err(error) => {
                tracing::debug!(%error, "a certificate that stands for nobody");
                Err(refused.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
