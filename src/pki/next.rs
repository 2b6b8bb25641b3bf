//! The next certificate of a node: its key waits beside the one in use until the certificate is there.
//!
//! The certificate takes its place first, by a rename, and the key after it. Between the two the key that waits is the
//! certificate's, and readers look there, too ([`key_for`]): so what is on the disk can be used at every moment.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::files::{read_key, read_text, write_certificate, write_key};
use super::material::{Material, check_key};
use super::request::{new_key, request};
use super::{Host, Overwrite, PeerIdentity, PkiError};

/// Where the key of the next certificate waits.
pub fn next_key_file(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// Where the request for the next certificate lies, for whoever signs it.
pub fn request_file(cert: &Path) -> PathBuf {
    cert.with_extension("csr")
}

/// The key of the first certificate of a chain: the one in use, or the one that waits if that is the certificate's.
pub(super) fn key_for(
    chain: &[CertificateDer<'static>],
    cert: &Path,
    key: &Path,
) -> Result<PrivateKeyDer<'static>, PkiError> {
    let in_use = read_key(key).and_then(|read| check_key(chain, &read, cert, key).map(|()| read));
    in_use.or_else(|error| {
        let next = next_key_file(key);
        let waiting = read_key(&next).ok();
        waiting.filter(|waiting| check_key(chain, waiting, cert, &next).is_ok()).ok_or(error)
    })
}

/// A request for the next certificate.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// It, in PEM form.
    pub request: String,
    /// Whether the key did not wait already.
    is_fresh: bool,
}

/// Makes the key of the next certificate, unless one waits already, and a request for it.
pub fn prepare(identity: &PeerIdentity, hosts: &[Host], key: &Path) -> Result<Prepared, PkiError> {
    let next = next_key_file(key);
    if let Ok(waiting) = read_text(&next)
        && let Ok(request) = request(identity, hosts, &waiting)
    {
        return Ok(Prepared { request, is_fresh: false });
    }
    let fresh = new_key()?;
    write_key(&next, &fresh, Overwrite::Replace)?;
    Ok(Prepared { request: request(identity, hosts, &fresh)?, is_fresh: true })
}

impl Prepared {
    /// Leaves the request beside the certificate, for whoever signs it. One for the same key stays as it is.
    pub fn leave_request(&self, cert: &Path) -> Result<(), PkiError> {
        let file = request_file(cert);
        if !self.is_fresh && file.exists() {
            return Ok(());
        }
        write_certificate(&file, &self.request, Overwrite::Replace)
    }
}

/// Puts the next certificate, in PEM form, in the place of the one in `cert`, if it belongs to the key that waits, comes from
/// the authority in `ca` and stands for `identity`; then the key. Until when it is good.
pub fn install(
    pem: &str,
    identity: &PeerIdentity,
    ca: &Path,
    cert: &Path,
    key: &Path,
) -> Result<OffsetDateTime, PkiError> {
    let wrong = |reason: String| PkiError::NotPem {
        file: cert.to_path_buf(),
        what: "certificate",
        reason: format!("what was signed cannot be used: {reason}"),
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    let material = Material::of(chain, read_key(&next_key_file(key))?, ca, cert, key)?;
    if material.identity != *identity {
        return Err(wrong(format!("it stands for {}, not for {identity}", material.identity)));
    }
    write_certificate(cert, pem, Overwrite::Replace)?;
    settle(cert, key)?;
    Ok(material.life.until)
}

/// Gives the key that waits its place if the certificate is its own, as after a crash between the two, or once an operator has
/// put the certificate there; whether it did.
pub fn settle(cert: &Path, key: &Path) -> Result<bool, PkiError> {
    let next = next_key_file(key);
    let chain = super::read_certificates(cert)?;
    let is_its =
        |file: &Path| read_key(file).is_ok_and(|read| check_key(&chain, &read, cert, file).is_ok());
    if is_its(key) || !is_its(&next) {
        return Ok(false);
    }
    let failed = |source: io::Error| PkiError::Write { file: key.to_path_buf(), source };
    match fs::rename(&next, key) {
        // Somebody else has just done it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_its(key) => return Ok(false),
        renamed => renamed.map_err(failed)?,
    }
    let folder = key.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    // It was answered; nothing goes by it any more.
    let _ = fs::remove_file(request_file(cert));
    Ok(true)
}
