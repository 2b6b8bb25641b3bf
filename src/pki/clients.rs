//! Which clients HTTPS lets in: a chain to the authority is not enough, it must stand for somebody who may.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::identity::PeerIdentity;

/// Whether somebody may come in whose certificate is sound.
pub type Admits = Arc<dyn Fn(&PeerIdentity) -> bool + Send + Sync>;

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
        match PeerIdentity::from_certificate(end_entity) {
            Ok(identity) if (self.admits)(&identity) => Ok(verified),
            Ok(identity) => {
                tracing::debug!(%identity, "a certificate that opens nothing");
                Err(refused.into())
            }
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
