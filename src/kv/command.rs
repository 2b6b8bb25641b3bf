//! What clients may change, and what they are told.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::range::KeyRange;
use super::revision::Revision;

/// A command as an entry of the log carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The leader's wall clock when it took the command in, milliseconds since 1970. The only time
    /// that the state machine knows.
    pub time_unix_ms: u64,
    /// What to do.
    pub write: Write,
}

/// A change. The order of the variants is part of the log's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Sets one key, if the condition holds.
    Put(Put),
    /// Deletes one key, if the condition holds.
    Delete {
        /// The key.
        key: Bytes,
        /// What must hold.
        condition: Condition,
    },
    /// Deletes every key of a range.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
    /// Sets several keys in one revision; of a key named twice the first value counts.
    PutMany {
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// Gives up the past before a revision: see [`Counters::compacted`](super::Counters::compacted).
    Compact {
        /// The oldest revision that can still be read afterwards.
        revision: Revision,
    },
    /// Deletes the keys of a range if they are not too many, so that no entry takes long to apply.
    DeleteUpTo {
        /// The range.
        range: KeyRange,
        /// How many are not too many. Of keys that were deleted lately the range may hold
        /// [`DELETED_PER_KEY_MAX`] times as many.
        keys_max: u64,
        /// If they are too many: whether to delete the first of them, rather than none.
        in_steps: bool,
    },
}

/// How many keys that exist no more a bounded deletion may step over for each that it may delete.
pub const DELETED_PER_KEY_MAX: u64 = 20;

/// Sets one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The media type to give back with the value.
    pub content_type: Option<String>,
    /// What must hold.
    pub condition: Condition,
}

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// Preconditions of RFC 9110, both of which must hold; the default always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `If-Match`: the key's mod revision is one of these, or it exists.
    pub if_match: Option<Matcher>,
    /// `If-None-Match`: the key's mod revision is none of these, or it does not exist.
    pub if_none_match: Option<Matcher>,
}

/// The right side of `If-Match` and `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Matcher {
    /// `*`: anything that exists.
    Any,
    /// One of these mod revisions. An entity tag that is no revision of ours matches nothing and is
    /// left out.
    Revisions(Vec<Revision>),
}

/// What became of a write that was applied. The order of the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The store's revision after the write.
    pub revision: Revision,
    /// What happened.
    pub outcome: Outcome,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The key is set; its mod revision is the reply's.
    Put {
        /// Whether the key did not exist before.
        created: bool,
    },
    /// So many keys were deleted, possibly none; with none the revision did not grow.
    Deleted {
        /// How many.
        count: u64,
    },
    /// All pairs are set.
    PutMany,
    /// A condition did not hold; nothing changed.
    ConditionFailed {
        /// The key's mod revision, if it exists.
        current: Option<Revision>,
    },
    /// The command is not one that this release understands or allows; nothing changed.
    Invalid {
        /// Why, for the client.
        reason: String,
    },
    /// The past before the revision that was named cannot be read any more.
    Compacted,
    /// It could not be read before either; nothing changed.
    CompactedAlready {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The reply's revision is the newest, and the one that was named comes after it; nothing changed.
    NotReached,
    /// So many keys were deleted, possibly none; with none the revision did not grow. It was a step.
    DeletedInPart {
        /// How many.
        count: u64,
        /// Where the next step goes on; none: the range is done.
        next: Option<Bytes>,
    },
    /// The range holds more keys than may be deleted at once; nothing changed.
    TooManyKeys,
}

/// The first byte of every command: the version of its layout.
const LAYOUT: u8 = 1;

impl Command {
    /// The bytes that an entry carries.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(32 + self.write.cost_bytes());
        bytes.push(LAYOUT);
        // Writing plain data to a growing vector has no way to fail; an empty command would be refused
        // when it is applied.
        postcard::to_extend(self, bytes).map(Bytes::from).unwrap_or_default()
    }

    /// The command of these bytes, or why they are none that this release knows.
    pub fn decode(bytes: &[u8]) -> Result<Command, &'static str> {
        match bytes.split_first() {
            Some((&LAYOUT, command)) => {
                postcard::from_bytes(command).map_err(|_| "the command cannot be read")
            }
            Some(_) => Err("the command is of a layout that this release does not know"),
            None => Err("the command is empty"),
        }
    }
}

impl Write {
    /// Whether it is a way out of a full disk: what it takes away makes room, in time.
    pub fn frees(&self) -> bool {
        match self {
            Write::Delete { .. }
            | Write::DeleteRange { .. }
            | Write::DeleteUpTo { .. }
            | Write::Compact { .. } => true,
            Write::Put(_) | Write::PutMany { .. } => false,
        }
    }

    /// The bytes of keys and values in it.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Write::Put(put) => put.key.len() + put.value.len(),
            Write::Delete { key, .. } => key.len(),
            Write::DeleteRange { range } | Write::DeleteUpTo { range, .. } => {
                range.start.len() + range.end.as_ref().map_or(0, Bytes::len)
            }
            Write::PutMany { pairs } => pairs.iter().map(|(k, v)| k.len() + v.len()).sum(),
            Write::Compact { .. } => 0,
        }
    }
}
