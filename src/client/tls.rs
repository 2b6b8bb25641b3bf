//! The client's side of TLS: which servers it trusts, and what it shows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::Error;
use super::pin::{Fingerprint, Pinned};

/// Files in PEM, and whom they do not name. Without `ca` and `fingerprint` no server is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that servers' certificates come from.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the one certificate that is trusted in their place: a server's own, or that of an authority which the
    /// server shows or `ca` holds.
    pub fingerprint: Option<Fingerprint>,
    /// The client's certificate and what leads to its authority.
    pub cert: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Tls(format!("{}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|iterator| iterator.collect::<Result<Vec<_>, _>>())
        .map_err(|error| unreadable(path, error))?;
    if certificates.is_empty() {
        return Err(unreadable(path, "there is no certificate in it"));
    }
    Ok(certificates)
}

fn roots(path: &Path, authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate).map_err(|error| unreadable(path, error))?;
    }
    Ok(roots)
}

/// The configuration for a client with these files.
pub(crate) fn config(files: &TlsFiles) -> Result<ClientConfig, Error> {
    let authorities = match &files.ca {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    // Named, because a default provider is a matter of the whole process.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let builder = match (files.fingerprint, &files.ca) {
        (Some(fingerprint), _) => {
            let pinned = Pinned::new(fingerprint, authorities, provider);
            builder.dangerous().with_custom_certificate_verifier(pinned)
        }
        (None, Some(path)) => builder.with_root_certificates(roots(path, authorities)?),
        (None, None) => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = match (&files.cert, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| unreadable(cert, error))?
        }
        (Some(_), None) => {
            return Err(Error::Usage("a certificate needs its private key (--key)".to_owned()));
        }
        (None, Some(_)) => {
            return Err(Error::Usage("a private key needs its certificate (--cert)".to_owned()));
        }
    };
    // HTTP/2 would turn the alert of a server that refuses a certificate into mere text.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
