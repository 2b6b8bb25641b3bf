//! Why certificates cannot be used or made.

use std::io;
use std::path::PathBuf;

use super::{IdentityError, Role};

/// One line that names the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// There is no such file.
    #[error("{}: there is no such file", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("{}: cannot be written: {source}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there already.
    #[error("{}: exists already and is not overwritten without --force", .file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// No PEM, or not of what is looked for.
    #[error("{}: holds no {what} in PEM form: {reason}", .file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// A certificate that cannot be parsed or shows no identity of konsen.
    #[error("{}: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// A peer's certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Two files that do not belong together.
    #[error("{}: is not the key of the certificate in {}", .key.display(), .cert.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// A key of a kind that TLS cannot use here.
    #[error("{}: the key cannot be used: {reason}", .file.display())]
    BadKey {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Too late.
    #[error("{}: the certificate expired at {at}; `konsen cert renew` makes a new one", .file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// RFC 3339.
        at: String,
    },
    /// Too early, or the clock is wrong.
    #[error("{}: the certificate is not valid before {from}; is this host's clock right?", .file.display())]
    NotYetValid {
        /// The file.
        file: PathBuf,
        /// RFC 3339.
        from: String,
    },
    /// From another authority, or not usable as its role demands.
    #[error("{}: is not signed by the authority in {}: {reason}", .cert.display(), .ca.display())]
    NotSigned {
        /// The certificate's file.
        cert: PathBuf,
        /// The authority's file.
        ca: PathBuf,
        /// What the verifier said.
        reason: String,
    },
    /// A client's certificate where a node's is needed, or the reverse.
    #[error("{}: is the certificate of a {found}, not of a {wanted}", .file.display())]
    WrongRole {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Role,
        /// Whose it should be.
        wanted: Role,
    },
    /// Another node's certificate.
    #[error("{}: is the certificate of {found}, not of {wanted}", .file.display())]
    WrongName {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// Another cluster's certificate.
    #[error("{}: is for the cluster {found}, not for {wanted}", .file.display())]
    WrongCluster {
        /// The file.
        file: PathBuf,
        /// The cluster in it.
        found: String,
        /// The cluster it should be for.
        wanted: String,
    },
    /// A certificate that may not sign others.
    #[error("{}: is not the certificate of an authority", .file.display())]
    NotAuthority {
        /// The file.
        file: PathBuf,
    },
    /// A request for a certificate that cannot be answered.
    #[error("the request for a certificate cannot be used: {reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// Making a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// Putting the parts of TLS together failed.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl PkiError {
    /// What to do about it, where the line itself does not say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PkiError::Missing { .. } => {
                Some("`konsen cluster build` makes all certificates, `konsen cert` single ones")
            }
            PkiError::NotSigned { .. } => Some(
                "all nodes' certificates must come from one authority; issue it again with `konsen cert node`",
            ),
            _ => None,
        }
    }
}
