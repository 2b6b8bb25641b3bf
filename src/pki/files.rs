//! PEM files: read with errors that name them, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::PkiError;

/// The largest file read; a chain of certificates has a few kilobytes.
const FILE_MAX: u64 = 1 << 20;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// Whether a file that is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It is an error.
    Never,
    /// Replace it.
    Replace,
}

/// The certificates in a file, at least one.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let bytes = read(file)?;
    let wrong =
        |reason: String| PkiError::NotPem { file: file.to_path_buf(), what: "certificate", reason };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is none".to_owned())) } else { Ok(found) }
}

/// The first private key in a file.
pub fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| PkiError::NotPem {
        file: file.to_path_buf(),
        what: "private key",
        reason: error.to_string(),
    })
}

/// The bytes of a file, no more than such a one may have.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, PkiError> {
    use io::Read;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => PkiError::Missing { file: file.to_path_buf() },
        _ => PkiError::Read { file: file.to_path_buf(), source },
    };
    let mut bytes = Vec::new();
    File::open(file).map_err(failed)?.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes a certificate and its key. Where either may not be written, neither is.
pub fn write_pair(
    cert: (&Path, &str),
    key: (&Path, &str),
    overwrite: Overwrite,
) -> Result<(), PkiError> {
    if overwrite == Overwrite::Never {
        for (file, _) in [cert, key] {
            if file.symlink_metadata().is_ok() {
                return Err(PkiError::Exists { file: file.to_path_buf() });
            }
        }
    }
    write(key.0, key.1, KEY_MODE, overwrite)?;
    write(cert.0, cert.1, CERTIFICATE_MODE, overwrite)
}

/// Writes a key, for its owner only.
pub(super) fn write_key(file: &Path, pem: &str, overwrite: Overwrite) -> Result<(), PkiError> {
    write(file, pem, KEY_MODE, overwrite)
}

/// The text of a file.
pub(super) fn read_text(file: &Path) -> Result<String, PkiError> {
    String::from_utf8(read(file)?).map_err(|error| PkiError::NotPem {
        file: file.to_path_buf(),
        what: "text",
        reason: error.to_string(),
    })
}

/// Writes a file that anyone may read.
pub fn write_certificate(file: &Path, pem: &str, overwrite: Overwrite) -> Result<(), PkiError> {
    write(file, pem, CERTIFICATE_MODE, overwrite)
}

/// The file comes into being with its mode, under another name; it gets its own name when it is whole.
fn write(file: &Path, text: &str, mode: u32, overwrite: Overwrite) -> Result<(), PkiError> {
    let temporary = temporary_name(file);
    let written = write_as(file, &temporary, text, mode, overwrite);
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists { file: file.to_path_buf() },
        _ => PkiError::Write { file: file.to_path_buf(), source },
    })
}

fn write_as(
    file: &Path,
    temporary: &Path,
    text: &str,
    mode: u32,
    overwrite: Overwrite,
) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    match overwrite {
        Overwrite::Replace => fs::rename(temporary, file)?,
        // Unlike a rename, a link never replaces what came into being meanwhile.
        Overwrite::Never => {
            fs::hard_link(temporary, file)?;
            fs::remove_file(temporary)?;
        }
    }
    File::open(folder)?.sync_all()
}

fn temporary_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    PathBuf::from(name)
}
