//! The digest over a backup, as its stream states it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The trailer with the digest over the whole file (RFC 9530).
pub const DIGEST_TRAILER: &str = "repr-digest";

/// A SHA-256 digest as the trailer states it.
pub fn digest_field(digest: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest))
}
