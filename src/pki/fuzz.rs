//! Certificates and names, from any bytes.

use rustls_pki_types::CertificateDer;

use super::identity::PeerIdentity;

/// A certificate names a peer or is refused; a name that is understood is written as it was read.
pub fn certificate(data: &[u8]) {
    if let Ok(identity) = PeerIdentity::from_certificate(&CertificateDer::from(data)) {
        assert_eq!(identity.uri().parse::<PeerIdentity>().ok(), Some(identity));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(identity) = text.parse::<PeerIdentity>()
    {
        assert_eq!(identity.uri(), text);
    }
}
