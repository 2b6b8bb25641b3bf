//! Certificates: an authority for each cluster, and a certificate for each node and client.
//!
//! Whoever holds a certificate is named by one URI in it, see [`PeerIdentity`]. Keys are ECDSA P-256.

mod clients;
mod describe;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod https;
mod identity;
mod issue;
mod life;
mod material;
mod name;
mod next;
#[cfg(test)]
mod next_tests;
mod request;
#[cfg(test)]
mod tests;

pub use clients::{Admits, Entry};
pub use describe::{Description, Kind, describe};
pub use error::PkiError;
pub use files::{Overwrite, read_certificates, read_key, write_certificate, write_pair};
pub use host::{Host, HostError};
pub use https::{ClientAuth, ClientAuthError, Https};
pub use identity::{IdentityError, PeerIdentity, Role};
pub use issue::{AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS, DAYS_MAX, Issued, issue_authority};
pub use life::Life;
pub use material::{
    Material, crypto_provider, fingerprint, hosts_in, not_after, not_after_rfc3339, rfc3339,
    serial_of,
};
pub use name::{ClusterName, NAME_MAX, NameError, NodeName};
pub use next::{Prepared, install, next_key_file, prepare, request_file, settle};
pub use request::{REQUEST_BYTES_MAX, Requested, new_key, request};
