//! Requests for certificates (PKCS #10): whoever is to have one makes the key and keeps it, and shows with the request that it
//! has it.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKey, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use super::identity::PeerIdentity;
use super::{Host, IdentityError, PkiError};

/// The longest request that is read, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;

/// A request, read and found to be signed by the key that it is about. What it asks for is not what its sender may have.
#[derive(Clone, Debug)]
pub struct Requested {
    /// Whom the certificate is to stand for.
    pub identity: PeerIdentity,
    /// The DNS names and addresses that it is to be for.
    pub hosts: Vec<Host>,
    public_key: PublicKey,
}

/// A request for `identity` and `hosts` with the key in PEM form, itself in PEM form.
pub fn request(identity: &PeerIdentity, hosts: &[Host], key: &str) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(identity.name.as_str());
    params.subject_alt_names = alternative_names(identity, hosts)?;
    Ok(params.serialize_request(&key)?.pem()?)
}

/// A new key, PKCS #8 in PEM form.
pub fn new_key() -> Result<String, PkiError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem())
}

impl Requested {
    /// Reads a request in PEM form.
    ///
    /// # Errors
    /// [`PkiError::Request`] says what is wrong with it.
    pub fn read(pem: &[u8]) -> Result<Requested, PkiError> {
        let wrong = |reason: String| PkiError::Request { reason };
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(wrong(format!("it has more than {REQUEST_BYTES_MAX} bytes")));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|error| wrong(format!("it is not in PEM form: {error}")))?;
        let read = CertificateSigningRequestParams::from_der(&der)
            .map_err(|error| wrong(error.to_string()))?;
        if read.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(wrong("its key is not ECDSA P-256".to_owned()));
        }
        let (mut uris, mut hosts) = (Vec::new(), Vec::new());
        for name in &read.params.subject_alt_names {
            match name {
                SanType::URI(uri) => uris.push(uri.as_str()),
                SanType::IpAddress(ip) => hosts.push(Host::Ip(*ip)),
                SanType::DnsName(name) => {
                    hosts.push(name.as_str().parse().map_err(|error| wrong(format!("{error}")))?);
                }
                _ => return Err(wrong("it has a name of another kind".to_owned())),
            }
        }
        let identity = match uris.as_slice() {
            [uri] => uri.parse()?,
            uris => return Err(IdentityError::Uris(uris.len()).into()),
        };
        Ok(Requested { identity, hosts, public_key: read.public_key })
    }

    /// The key that the certificate is to be for.
    pub(super) fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

/// What certificates say of their owner in X.500's way.
pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::OrganizationName, "konsen");
    all.push(DnType::CommonName, name);
    all
}

/// The names of a certificate: hosts that can be dialled, then the identity.
pub(super) fn alternative_names(
    identity: &PeerIdentity,
    hosts: &[Host],
) -> Result<Vec<SanType>, PkiError> {
    let mut names = Vec::new();
    for host in hosts {
        match host {
            // Nobody dials it.
            Host::Ip(ip) if ip.is_unspecified() => {}
            Host::Ip(ip) => names.push(SanType::IpAddress(*ip)),
            Host::Name(name) => names.push(SanType::DnsName(name.as_str().try_into()?)),
        }
    }
    names.push(SanType::URI(identity.uri().try_into()?));
    Ok(names)
}
