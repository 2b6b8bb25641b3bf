//! Certificates and names, from any bytes.

use rustls_pki_types::CertificateDer;

use super::identity::PeerIdentity;
use super::issue::pem;
use super::request::Requested;

/// A request for a certificate names whom it is for, or is refused.
fn request(data: &[u8]) {
    if let Ok(read) = Requested::read(pem("CERTIFICATE REQUEST", data).as_bytes()) {
        assert_eq!(read.identity.uri().parse::<PeerIdentity>().ok(), Some(read.identity));
    }
    // Or in any form.
    drop(Requested::read(data));
}

/// A certificate names a peer or is refused; a name that is understood is written as it was read.
pub fn certificate(data: &[u8]) {
    request(data);
    if let Ok(identity) = PeerIdentity::from_certificate(&CertificateDer::from(data)) {
        assert_eq!(identity.uri().parse::<PeerIdentity>().ok(), Some(identity));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(identity) = text.parse::<PeerIdentity>()
    {
        assert_eq!(identity.uri(), text);
    }
}
