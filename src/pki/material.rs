//! What a node or a client shows and trusts, read from files and checked before it is used.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::files::read_certificates;
use super::identity::{PeerIdentity, Role, identity_of, parse};
use super::next::key_for;
use super::{ClusterName, Host, IdentityError, Life, NodeName, PkiError};

/// A certificate with its key and the authority it comes from, all checked.
#[derive(Debug)]
pub struct Material {
    /// The certificate, and those between it and the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The authority's certificates.
    pub ca: Vec<CertificateDer<'static>>,
    /// The authority, which peers' certificates must come from too.
    pub roots: Arc<RootCertStore>,
    /// Whom the certificate stands for.
    pub identity: PeerIdentity,
    /// The DNS names and addresses that it is for.
    pub hosts: Vec<Host>,
    /// From when until when the certificate is valid.
    pub life: Life,
    file: PathBuf,
}

impl Material {
    /// Reads the three files and checks that the certificate is valid now, stands for somebody, belongs
    /// to the key, and comes from the authority.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Material, PkiError> {
        let chain = read_certificates(cert)?;
        let key_der = key_for(&chain, cert, key)?;
        Material::of(chain, key_der, ca, cert, key)
    }

    /// The same of a chain and a key that were read, or are to be written to these files.
    pub(super) fn of(
        chain: Vec<CertificateDer<'static>>,
        key_der: PrivateKeyDer<'static>,
        ca: &Path,
        cert: &Path,
        key: &Path,
    ) -> Result<Material, PkiError> {
        let authorities = read_certificates(ca)?;
        let file = |source: IdentityError| PkiError::File { file: cert.to_path_buf(), source };
        let leaf = chain.first().ok_or_else(|| file(IdentityError::Malformed))?;
        let parsed = parse(leaf).map_err(file)?;
        check_key(&chain, &key_der, cert, key)?;
        check_time(cert, &parsed)?;
        let identity = identity_of(&parsed).map_err(file)?;
        let life = life_of(&parsed);
        let hosts = hosts_of(&parsed);
        let roots = Arc::new(roots(&authorities, ca)?);
        check_signed(&chain, &identity, &roots, cert, ca)?;
        Ok(Material {
            chain,
            key: key_der,
            ca: authorities,
            roots,
            identity,
            hosts,
            life,
            file: cert.to_path_buf(),
        })
    }

    /// Checks that this is the certificate of that node.
    pub fn check_node(&self, cluster: &ClusterName, name: &NodeName) -> Result<(), PkiError> {
        let file = self.file.clone();
        if self.identity.role != Role::Node {
            let found = self.identity.role;
            return Err(PkiError::WrongRole { file, found, wanted: Role::Node });
        }
        if self.identity.cluster != *cluster {
            let found = self.identity.cluster.to_string();
            return Err(PkiError::WrongCluster { file, found, wanted: cluster.to_string() });
        }
        if self.identity.name != *name {
            let found = self.identity.name.to_string();
            return Err(PkiError::WrongName { file, found, wanted: name.to_string() });
        }
        Ok(())
    }
}

impl Material {
    /// Whether the certificate names all of `hosts`, as far as they can be dialled.
    pub fn is_for(&self, hosts: &[Host]) -> bool {
        hosts.iter().all(|host| {
            matches!(host, Host::Ip(ip) if ip.is_unspecified()) || self.hosts.contains(host)
        })
    }
}

/// From when until when a certificate is valid.
fn life_of(parsed: &X509Certificate<'_>) -> Life {
    let validity = parsed.validity();
    Life { from: validity.not_before.to_datetime(), until: validity.not_after.to_datetime() }
}

/// The DNS names and addresses that a certificate is for.
pub fn hosts_in(certificate: &CertificateDer<'_>) -> Result<Vec<Host>, PkiError> {
    Ok(hosts_of(&parse(certificate)?))
}

/// The same of one that was parsed.
pub(super) fn hosts_of(parsed: &X509Certificate<'_>) -> Vec<Host> {
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(Host::Name((*name).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                v4.or(v6).ok().map(Host::Ip)
            }
            _ => None,
        })
        .collect()
}

/// The cryptography of all of konsen's TLS.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// SHA-256 of a certificate, in hexadecimal.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, certificate.as_ref());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The serial number of a certificate, as it stands there.
pub fn serial_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, PkiError> {
    Ok(parse(certificate)?.raw_serial().to_vec())
}

/// Until when a certificate is valid.
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<OffsetDateTime, PkiError> {
    Ok(parse(certificate)?.validity().not_after.to_datetime())
}

/// Until when a certificate is valid, as RFC 3339.
pub fn not_after_rfc3339(certificate: &CertificateDer<'_>) -> Result<String, PkiError> {
    not_after(certificate).map(rfc3339)
}

/// A time as RFC 3339 has it.
pub fn rfc3339(time: OffsetDateTime) -> String {
    // Only years past 9999 have no such form.
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

pub(super) fn check_time(file: &Path, parsed: &X509Certificate<'_>) -> Result<(), PkiError> {
    let now = OffsetDateTime::now_utc();
    let validity = parsed.validity();
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    let file = file.to_path_buf();
    if now < from {
        return Err(PkiError::NotYetValid { file, from: rfc3339(from) });
    }
    if now > until {
        return Err(PkiError::Expired { file, at: rfc3339(until) });
    }
    Ok(())
}

/// Whether `key` is that of the first certificate of `chain`.
pub(super) fn check_key(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    cert_file: &Path,
    key_file: &Path,
) -> Result<(), PkiError> {
    let bad_key = |error: rustls::Error| PkiError::BadKey {
        file: key_file.to_path_buf(),
        reason: error.to_string(),
    };
    let signing = aws_lc_rs::sign::any_supported_type(key).map_err(bad_key)?;
    match rustls::sign::CertifiedKey::new(chain.to_vec(), signing).keys_match() {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(PkiError::KeyMismatch {
                key: key_file.to_path_buf(),
                cert: cert_file.to_path_buf(),
            })
        }
        Err(error) => Err(bad_key(error)),
    }
}

pub(super) fn roots(
    authorities: &[CertificateDer<'static>],
    file: &Path,
) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let not_authority = || PkiError::NotAuthority { file: file.to_path_buf() };
        let parsed = parse(authority)
            .map_err(|source| PkiError::File { file: file.to_path_buf(), source })?;
        if !parsed.is_ca() {
            return Err(not_authority());
        }
        check_time(file, &parsed)?;
        roots.add(authority.clone()).map_err(|_| not_authority())?;
    }
    Ok(roots)
}

/// Checks the chain as a peer would, for each end that the role may be on.
fn check_signed(
    chain: &[CertificateDer<'static>],
    identity: &PeerIdentity,
    roots: &Arc<RootCertStore>,
    cert: &Path,
    ca: &Path,
) -> Result<(), PkiError> {
    let tls = |error: &dyn std::fmt::Display| PkiError::Tls(error.to_string());
    let not_signed = |error: rustls::Error| {
        let reason = match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "another one signed it".to_owned()
            }
            rustls::Error::InvalidCertificate(
                CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            ) => "one of the same name but with another key signed it".to_owned(),
            other => other.to_string(),
        };
        PkiError::NotSigned { cert: cert.to_path_buf(), ca: ca.to_path_buf(), reason }
    };
    let Some((leaf, between)) = chain.split_first() else { return Ok(()) };
    let now = UnixTime::now();
    let client = WebPkiClientVerifier::builder_with_provider(roots.clone(), crypto_provider())
        .build()
        .map_err(|error| tls(&error))?;
    client.verify_client_cert(leaf, between, now).map_err(not_signed)?;
    if identity.role == Role::Node {
        let server = WebPkiServerVerifier::builder_with_provider(roots.clone(), crypto_provider())
            .build()
            .map_err(|error| tls(&error))?;
        let name = ServerName::try_from(identity.name.as_str()).map_err(|error| tls(&error))?;
        server.verify_server_cert(leaf, between, &name, &[], now).map_err(not_signed)?;
    }
    Ok(())
}
