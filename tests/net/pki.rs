//! Certificates for tests.

use konsen::net::TlsMaterial;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// An authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is to say.
pub(crate) struct Wish<'a> {
    pub(crate) dns: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) valid_for: Duration,
    pub(crate) usages: &'a [ExtendedKeyUsagePurpose],
}

pub(crate) const BOTH: &[ExtendedKeyUsagePurpose] =
    &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// A good certificate of a node of the cluster "shop".
    pub(crate) fn node(&self, name: &str) -> TlsMaterial {
        self.issue(&Wish {
            dns: name,
            uri: &format!("spiffe://shop/node/{name}"),
            valid_for: Duration::days(1),
            usages: BOTH,
        })
    }

    pub(crate) fn issue(&self, wish: &Wish<'_>) -> TlsMaterial {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![wish.dns.to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(wish.uri.try_into().unwrap()));
        params.distinguished_name.push(DnType::CommonName, wish.dns);
        params.extended_key_usages = wish.usages.to_vec();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(30);
        params.not_after = now + wish.valid_for;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TlsMaterial {
            ca: vec![self.certificate()],
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}
