//! Making authorities and certificates: ECDSA P-256, random serials, bounded validity.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use super::files::{read_certificates, read_key};
use super::identity::{PeerIdentity, Role, parse};
use super::material::check_key;
use super::request::{Requested, alternative_names, common_name};
use super::{ClusterName, Host, PkiError, material};

/// How long an authority is valid unless set.
pub const AUTHORITY_DAYS: u32 = 3650;
/// How long other certificates are valid unless set.
pub const CERTIFICATE_DAYS: u32 = 365;
/// The longest validity that can be asked for.
pub const DAYS_MAX: u32 = 36_500;
/// How far other hosts' clocks may lag: a certificate is good for them, too, from the moment that it is made. A day
/// covers a wrong time zone.
const SKEW: Duration = Duration::days(1);

/// A certificate and its key, in PEM form.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: String,
}

// Keys do not belong in logs.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    fingerprint: String,
    not_after: OffsetDateTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// A new authority for `cluster`.
pub fn issue_authority(cluster: &ClusterName, days: u32) -> Result<Issued, PkiError> {
    let mut params = params(&format!("konsen authority of {cluster}"), life_of_days(days));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

impl Authority {
    /// Reads an authority's certificate and key and checks that they belong together and are valid now. Of several
    /// certificates in the file it is the one that the key belongs to.
    pub fn load(cert: &Path, key: &Path) -> Result<Authority, PkiError> {
        let certificates = read_certificates(cert)?;
        let not_authority = || PkiError::NotAuthority { file: cert.to_path_buf() };
        let key_der = read_key(key)?;
        let is_its = |one: &&CertificateDer<'static>| {
            check_key(std::slice::from_ref(*one), &key_der, cert, key).is_ok()
        };
        let certificate =
            certificates.iter().find(is_its).or(certificates.first()).ok_or_else(not_authority)?;
        let parsed = parse(certificate)
            .map_err(|source| PkiError::File { file: cert.to_path_buf(), source })?;
        if !parsed.is_ca() {
            return Err(not_authority());
        }
        material::check_time(cert, &parsed)?;
        let not_after = parsed.validity().not_after.to_datetime();
        check_key(std::slice::from_ref(certificate), &key_der, cert, key)?;
        let PrivateKeyDer::Pkcs8(pkcs8) = &key_der else {
            return Err(PkiError::BadKey {
                file: key.to_path_buf(),
                reason: "it is not in PKCS #8 form".to_owned(),
            });
        };
        let pair = KeyPair::try_from(pkcs8.secret_pkcs8_der()).map_err(|error| {
            PkiError::BadKey { file: key.to_path_buf(), reason: error.to_string() }
        })?;
        let issuer = Issuer::from_ca_cert_der(certificate, pair)?;
        let encoded = pem("CERTIFICATE", certificate.as_ref());
        let fingerprint = material::fingerprint(certificate);
        Ok(Authority { issuer, certificate: encoded, fingerprint, not_after })
    }

    /// SHA-256 of the authority's certificate, in hexadecimal: by it a cluster says whose it is.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The authority's certificate, in PEM form.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for `identity`; a node's is for both ends of a connection and for `hosts` besides
    /// the node's name and this machine. It ends no later than the authority.
    pub fn issue(
        &self,
        identity: &PeerIdentity,
        hosts: &[Host],
        days: u32,
    ) -> Result<Issued, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = self.leaf(identity, hosts, life_of_days(days))?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A certificate for the key of a request, in PEM form, good for as long as `life`: as [`Authority::issue`] makes it. Of
    /// what the request asks for nothing counts but the key; who it is for and for which hosts the caller has found out.
    pub fn sign(
        &self,
        requested: &Requested,
        identity: &PeerIdentity,
        hosts: &[Host],
        life: Duration,
    ) -> Result<String, PkiError> {
        let params = self.leaf(identity, hosts, life)?;
        Ok(params.signed_by(requested.public_key(), &self.issuer)?.pem())
    }

    fn leaf(
        &self,
        identity: &PeerIdentity,
        hosts: &[Host],
        life: Duration,
    ) -> Result<CertificateParams, PkiError> {
        let mut params = params(identity.name.as_str(), life);
        params.not_after = params.not_after.min(self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let mut all = BTreeSet::new();
        if identity.role == Role::Node {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            all.insert(Host::Name(identity.name.to_string()));
            all.insert(Host::Name("localhost".to_owned()));
            all.insert(Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            all.extend(hosts.iter().cloned());
        }
        let all: Vec<Host> = all.into_iter().collect();
        params.subject_alt_names = alternative_names(identity, &all)?;
        Ok(params)
    }
}

fn life_of_days(days: u32) -> Duration {
    Duration::days(i64::from(days.clamp(1, DAYS_MAX)))
}

fn params(name: &str, life: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    // Of a short life it takes no more than a part, lest it be over before it has begun.
    params.not_before = now - SKEW.min(life / 10);
    params.not_after = now + life;
    params.distinguished_name = common_name(name);
    // Positive, and never zero: RFC 5280, 4.1.2.2.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

/// DER in PEM form.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a boundary.
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out + &format!("-----END {label}-----\n")
}
