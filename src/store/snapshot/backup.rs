//! A backup: a snapshot of the state in a file of its own.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `KONSENBK` |
//! | 4 | the version of the format: 1 |
//! | the first block | whose backup it is, as JSON: [`Origin`] |
//! | blocks | the pieces of a snapshot, one a block |
//! | 4 | 0: no more blocks |
//! | 32 | SHA-256 over everything before it |
//!
//! A block is the length of its body in bytes (4, at least 1), CRC-32 over that length and the body (4), and
//! the body. So damage is found where it is, before anything is made of it. Numbers are little-endian.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::pieces::SnapshotReader;
use crate::kv::Revision;
use crate::store::error::StoreError;
use crate::store::state::State;

pub(in crate::store) const MAGIC: &[u8; 8] = b"KONSENBK";
/// The version of the format that this release writes and reads.
pub(in crate::store) const FORMAT: u32 = 1;
/// The largest body of a block: a piece, which may end with the largest value there can be.
pub(super) const BLOCK_BYTES_MAX: usize = 64 << 20;
pub(super) const DIGEST_BYTES: usize = 32;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; DIGEST_BYTES]);

impl std::fmt::Display for Sha256 {
    /// As `sha256sum` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Whose backup it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The release that made it.
    pub konsen: String,
    /// The cluster's name.
    pub cluster: String,
    /// The node that gave it out.
    pub node: String,
    /// When, in UTC as in RFC 3339.
    pub created: String,
}

/// SHA-256 over what is added, so far.
#[derive(Clone)]
pub(in crate::store) struct Digest(Context);

impl Digest {
    pub(in crate::store) fn new() -> Digest {
        Digest(Context::new(&SHA256))
    }

    pub(in crate::store) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(in crate::store) fn value(&self) -> Sha256 {
        let mut bytes = [0; DIGEST_BYTES];
        bytes.copy_from_slice(self.0.clone().finish().as_ref());
        Sha256(bytes)
    }
}

/// Gives a backup out, part by part. The file keeps what it needs until this is dropped.
pub struct BackupReader {
    snapshot: SnapshotReader,
    origin: Origin,
    at: At,
    digest: Digest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Beginning,
    Pieces,
    End,
}

impl State {
    /// The state as the newest checkpoint left it, as a backup.
    pub fn backup(&self, origin: Origin) -> BackupReader {
        let snapshot = self.snapshot();
        BackupReader { snapshot, origin, at: At::Beginning, digest: Digest::new() }
    }
}

impl BackupReader {
    /// The revision that it reflects.
    pub fn revision(&self) -> Revision {
        self.snapshot.revision()
    }

    /// The next bytes of the file; none after the last. About `bytes_max`, but a row is never cut.
    /// Reads the disk.
    ///
    /// # Errors
    /// What the disk says, and `Damaged` with the row that is.
    pub fn next_part(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let mut part = Vec::new();
        match self.at {
            At::Beginning => {
                part.extend_from_slice(MAGIC);
                part.extend_from_slice(&FORMAT.to_le_bytes());
                let origin = serde_json::to_vec(&self.origin)
                    .map_err(|error| StoreError::damaged("backup", error.to_string()))?;
                push_block(&mut part, &origin)?;
                self.at = At::Pieces;
            }
            At::Pieces => match self.snapshot.next_piece(bytes_max)? {
                Some(piece) => push_block(&mut part, &piece)?,
                None => {
                    part.extend_from_slice(&0_u32.to_le_bytes());
                    let mut digest = self.digest.clone();
                    digest.add(&part);
                    part.extend_from_slice(&digest.value().0);
                    self.at = At::End;
                }
            },
            At::End => return Ok(None),
        }
        self.digest.add(&part);
        Ok(Some(part))
    }

    /// Over all bytes of the file, as `sha256sum` says; none before the last of them is out.
    pub fn digest(&self) -> Option<Sha256> {
        (self.at == At::End).then(|| self.digest.value())
    }
}

impl std::fmt::Debug for BackupReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupReader").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

pub(super) fn block_sum(length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

pub(in crate::store) fn push_block(part: &mut Vec<u8>, body: &[u8]) -> Result<(), StoreError> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BLOCK_BYTES_MAX);
    let length = length.ok_or_else(|| StoreError::damaged("state", "a row is too large"))?;
    let length = length.to_le_bytes();
    part.extend_from_slice(&length);
    part.extend_from_slice(&block_sum(length, body).to_le_bytes());
    part.extend_from_slice(body);
    Ok(())
}
