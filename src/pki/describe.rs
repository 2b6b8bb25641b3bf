//! What PEM files hold, told without judging it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use serde::Serialize;
use time::OffsetDateTime;

use super::PkiError;
use super::files::{read_certificates, read_key};
use super::identity::{Role, identity_of, parse};
use super::material::{hosts_of, rfc3339};

/// One certificate or key of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The file.
    pub file: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// In which cluster its owner is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its owner's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The DNS names and addresses it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// What it says of its owner, X.500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What it says of its signer, X.500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// In hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Whole days until it expires, negative afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// A key file's mode, octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// What a file's part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The certificate of an authority.
    Authority,
    /// A node's certificate.
    Node,
    /// A client's certificate.
    Client,
    /// A certificate that is none of konsen's.
    Foreign,
    /// A private key.
    Key,
}

/// What a file holds: its certificates, or where there are none its key.
pub fn describe(file: &Path) -> Result<Vec<Description>, PkiError> {
    match read_certificates(file) {
        Ok(certificates) => certificates.iter().map(|one| certificate(file, one)).collect(),
        Err(no_certificate @ PkiError::NotPem { .. }) => match read_key(file) {
            Ok(_) => key(file).map(|key| vec![key]),
            Err(_) => Err(no_certificate),
        },
        Err(error) => Err(error),
    }
}

fn certificate(file: &Path, der: &CertificateDer<'_>) -> Result<Description, PkiError> {
    let parsed =
        parse(der).map_err(|source| PkiError::File { file: file.to_path_buf(), source })?;
    let identity = identity_of(&parsed).ok();
    let kind = match &identity {
        _ if parsed.is_ca() => Kind::Authority,
        Some(identity) if identity.role == Role::Node => Kind::Node,
        Some(_) => Kind::Client,
        None => Kind::Foreign,
    };
    let validity = parsed.validity();
    let not_after = validity.not_after.to_datetime();
    let serial = parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Description {
        file: file.to_path_buf(),
        kind,
        cluster: identity.as_ref().map(|identity| identity.cluster.to_string()),
        name: identity.as_ref().map(|identity| identity.name.to_string()),
        hosts: hosts_of(&parsed).iter().map(ToString::to_string).collect(),
        subject: Some(parsed.subject().to_string()),
        issuer: Some(parsed.issuer().to_string()),
        serial: Some(serial),
        not_before: Some(rfc3339(validity.not_before.to_datetime())),
        not_after: Some(rfc3339(not_after)),
        days_left: Some((not_after - OffsetDateTime::now_utc()).whole_seconds().div_euclid(86_400)),
        mode: None,
    })
}

fn key(file: &Path) -> Result<Description, PkiError> {
    let metadata =
        file.metadata().map_err(|source| PkiError::Read { file: file.to_path_buf(), source })?;
    Ok(Description {
        file: file.to_path_buf(),
        kind: Kind::Key,
        cluster: None,
        name: None,
        hosts: Vec::new(),
        subject: None,
        issuer: None,
        serial: None,
        not_before: None,
        not_after: None,
        days_left: None,
        mode: Some(format!("{:04o}", metadata.permissions().mode() & 0o7777)),
    })
}
