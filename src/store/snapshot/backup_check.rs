//! Reading a backup: its blocks as its bytes come in, and whether all of it is as it was written.

use super::backup::block_sum;
use super::backup::{BLOCK_BYTES_MAX, DIGEST_BYTES, Digest, FORMAT, MAGIC, Origin, Sha256};
use super::decoder::{IncomingError, Sequence};
use super::pieces;
use crate::kv::{FeatureLevel, Revision, Unreadable};
use crate::raft::{LogId, Membership};
use crate::store::error::StoreError;

const HEAD_BYTES: usize = MAGIC.len() + 4;
const BLOCK_HEAD_BYTES: usize = 8;

/// Why a file cannot be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not begin as a backup does.
    #[error("it is not a backup of konsen, which begins with KONSENBK")]
    NotABackup,
    /// It was written by another release.
    #[error(
        "it has format {0}; this release knows format {FORMAT}: use the release that wrote it, or a newer one"
    )]
    Format(u32),
    /// What is in it was written by another release.
    #[error(
        "the snapshot in it has format {0}; this release knows format {known}: use the release that wrote it, or a \
         newer one",
        known = pieces::FORMAT
    )]
    SnapshotFormat(u32),
    /// A record in it was written by another release.
    #[error("a record in it: {0}")]
    Newer(Unreadable),
    /// Bytes are not what was written.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// Where what is wrong begins.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// It has no end.
    #[error("it ends at byte {at}, in the middle: the rest is missing")]
    CutOff {
        /// How many bytes there are.
        at: u64,
    },
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// The disk on which it is to be taken in failed.
    #[error(transparent)]
    Store(StoreError),
}

/// What a sound backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The version of the file's format.
    pub format: u32,
    /// Whose it is.
    pub origin: Origin,
    /// The last entry that it covers.
    pub last: LogId,
    /// The revision that it reflects.
    pub revision: Revision,
    /// The oldest revision that can be read from it.
    pub oldest: Revision,
    /// The members as of then.
    pub members: Membership,
    /// How many keys there are.
    pub keys: u64,
    /// How many changes of keys are remembered, these and the past ones.
    pub changes: u64,
    /// The file's size.
    pub bytes: u64,
    /// Over all bytes of the file, as `sha256sum` says.
    pub digest: Sha256,
}

/// Takes a backup's bytes apart, however they are cut, and hands over each block's body once it is checked.
/// Holds no more than a block.
pub(in crate::store) struct Blocks {
    /// What came of the part that is next.
    held: Vec<u8>,
    /// Where in the file that part begins.
    at: u64,
    digest: Digest,
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Head,
    Length,
    Body { bytes: usize },
    Digest,
    Nothing,
}

impl Blocks {
    pub(in crate::store) fn new() -> Blocks {
        Blocks { held: Vec::new(), at: 0, digest: Digest::new(), next: Next::Head }
    }

    /// Takes the next bytes. `body` gets every body that is whole with them, and where its block begins.
    pub(in crate::store) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut body: impl FnMut(u64, &[u8]) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let wanted = match self.next {
                Next::Head => HEAD_BYTES,
                // Of a block's head the length comes first: after the last block nothing else does.
                Next::Length => 4,
                Next::Body { bytes } => BLOCK_HEAD_BYTES + bytes,
                Next::Digest => DIGEST_BYTES,
                Next::Nothing => return Err(self.damaged("something follows the end")),
            };
            let (now, rest) = bytes.split_at(bytes.len().min(wanted - self.held.len()));
            self.held.extend_from_slice(now);
            bytes = rest;
            if self.held.len() == wanted {
                self.take(&mut body)?;
            }
        }
        Ok(())
    }

    /// What is held is all of the next part.
    fn take(
        &mut self,
        body: &mut impl FnMut(u64, &[u8]) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        match self.next {
            Next::Head => {
                let (magic, format) = self.held.split_at(MAGIC.len());
                if magic != MAGIC {
                    return Err(BackupError::NotABackup);
                }
                match number(format) {
                    FORMAT => self.pass(Next::Length),
                    other => return Err(BackupError::Format(other)),
                }
            }
            Next::Length => match number(&self.held) as usize {
                0 => self.pass(Next::Digest),
                bytes if bytes > BLOCK_BYTES_MAX => {
                    return Err(self.damaged("a block is longer than any can be"));
                }
                // The length stays held: the checksum covers it.
                bytes => self.next = Next::Body { bytes },
            },
            Next::Body { .. } => {
                let (head, block) = self.held.split_at(BLOCK_HEAD_BYTES);
                let (length, sum) = head.split_at(4);
                let length = number(length).to_le_bytes();
                if block_sum(length, block) != number(sum) {
                    return Err(self.damaged("the checksum of a block does not fit"));
                }
                body(self.at, block)?;
                self.pass(Next::Length);
            }
            Next::Digest => {
                if self.digest.value().0 != self.held[..] {
                    return Err(self.damaged("the digest over the whole file does not fit"));
                }
                self.pass(Next::Nothing);
            }
            Next::Nothing => {}
        }
        Ok(())
    }

    fn pass(&mut self, next: Next) {
        self.digest.add(&self.held);
        self.at += self.held.len() as u64;
        self.held.clear();
        self.next = next;
    }

    fn damaged(&self, what: &str) -> BackupError {
        BackupError::Damaged { at: self.at, what: what.to_owned() }
    }

    /// There are no more bytes: how many there were, and the digest over all.
    pub(in crate::store) fn finish(&self) -> Result<(u64, Sha256), BackupError> {
        match self.next {
            Next::Nothing => Ok((self.at, self.digest.value())),
            _ => Err(BackupError::CutOff { at: self.at + self.held.len() as u64 }),
        }
    }
}

/// Four bytes, which all callers have.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// Checks a backup, whose bytes may come in any parts. Holds no more than a block.
pub struct BackupCheck {
    blocks: Blocks,
    content: Content,
}

/// What the blocks were.
struct Content {
    origin: Option<Origin>,
    sequence: Sequence,
}

impl Content {
    fn take(&mut self, at: u64, body: &[u8]) -> Result<(), BackupError> {
        if self.origin.is_none() {
            self.origin = Some(origin(at, body)?);
            return Ok(());
        }
        self.sequence.take(body, |_| Ok(())).map_err(|error| refused(at, error))
    }
}

impl Default for BackupCheck {
    /// For this release.
    fn default() -> BackupCheck {
        BackupCheck::knowing(FeatureLevel::HIGHEST)
    }
}

impl BackupCheck {
    /// For a node that knows all feature levels up to `highest`.
    pub fn knowing(highest: FeatureLevel) -> BackupCheck {
        let content = Content { origin: None, sequence: Sequence::new(highest) };
        BackupCheck { blocks: Blocks::new(), content }
    }

    /// Takes the next bytes. After an error no more may follow.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let BackupCheck { blocks, content } = self;
        blocks.feed(bytes, |at, body| content.take(at, body))
    }

    /// The revision of the backup, once that has come.
    pub fn revision(&self) -> Option<Revision> {
        self.content.sequence.position().map(|position| position.counters.revision)
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// `CutOff`, or `Damaged` if it ends in order and holds no whole snapshot.
    pub fn finish(self) -> Result<BackupSummary, BackupError> {
        let (bytes, digest) = self.blocks.finish()?;
        let Content { origin, sequence } = self.content;
        let whole = sequence.position().filter(|_| sequence.is_whole()).zip(origin);
        let (position, origin) = whole.ok_or_else(|| BackupError::Damaged {
            at: bytes,
            what: "the snapshot in it has no end".to_owned(),
        })?;
        let members = position.membership.clone().map(|(_, members)| members);
        Ok(BackupSummary {
            format: FORMAT,
            origin,
            last: position.applied,
            revision: position.counters.revision,
            oldest: position.counters.compacted,
            members: members.ok_or_else(|| BackupError::Damaged {
                at: bytes,
                what: "it names no members".to_owned(),
            })?,
            keys: sequence.live_keys(),
            changes: sequence.had().revisions,
            bytes,
            digest,
        })
    }
}

impl std::fmt::Debug for BackupCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupCheck").field("at", &self.blocks.at).finish_non_exhaustive()
    }
}

/// The first block.
pub(in crate::store) fn origin(at: u64, body: &[u8]) -> Result<Origin, BackupError> {
    serde_json::from_slice(body).map_err(|error| BackupError::Damaged {
        at,
        what: format!("whose backup it is cannot be read: {error}"),
    })
}

/// A block's body is not the piece that should be there.
pub(in crate::store) fn refused(at: u64, error: IncomingError) -> BackupError {
    match error {
        IncomingError::Store(error) => BackupError::Store(error),
        IncomingError::Format(found) => BackupError::SnapshotFormat(found),
        IncomingError::Record(newer) if !matches!(newer, Unreadable::Damaged(_)) => {
            BackupError::Newer(newer)
        }
        other => BackupError::Damaged { at, what: other.to_string() },
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
