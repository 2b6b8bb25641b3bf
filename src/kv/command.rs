//! What clients may change, and what they are told.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::anchor::{ANCHOR_HASH_BYTES, Anchor};
use super::auth::{ACCESS_BYTES_MAX, AccessChange, AccessRevision};
use super::condition::Condition;
use super::level::FeatureLevel;
use super::range::KeyRange;
use super::revision::Revision;
use super::settings::Settings;
use super::txn::{Op, Over, Put, Txn};
use super::unreadable::Unreadable;

/// A command as an entry of the log carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What goes for every command.
    pub header: Header,
    /// What to do.
    pub write: Write,
}

/// What goes for every command. The order of the fields is part of the log's format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster's feature level when the leader took it in: by whose rules it is carried out.
    pub level: FeatureLevel,
    /// The cluster's clock when the leader took it in, in milliseconds; see [`Counters::clock_ms`](super::Counters::clock_ms).
    pub clock_ms: u64,
    /// Who asked for it, if that is known.
    pub caller: Option<String>,
    /// What the caller has named the request by.
    pub token: Option<String>,
    /// By which state of who may do what it was found to be allowed: at any other it is not carried out. None: it is the
    /// cluster's own, or of a cluster below [`FeatureLevel::ACCESS`], whose commands do not have it.
    pub admitted: Option<AccessRevision>,
}

/// A header as it is at every level.
type BaseHeader = (FeatureLevel, u64, Option<String>, Option<String>);

/// A change. The order of the variants is part of the log's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Sets and deletes keys, all in one revision or none.
    Txn {
        /// What to do.
        txn: Txn,
        /// How many keys of ranges it may look at, so that no entry takes long to apply; nothing is done if there are
        /// more. Of keys that were deleted lately there may be [`DELETED_PER_KEY_MAX`](super::DELETED_PER_KEY_MAX) times as many.
        keys_max: u64,
    },
    /// Deletes the first keys of a range.
    DeleteStep {
        /// The range.
        range: KeyRange,
        /// How many of them, as above.
        keys_max: u64,
    },
    /// Gives up the past before a revision: see [`Counters::compacted`](super::Counters::compacted).
    Compact {
        /// The oldest revision that can still be read afterwards.
        revision: Revision,
    },
    /// Raises the cluster's feature level: commands of that level may follow.
    Raise {
        /// The level; one that the cluster has already changes nothing.
        level: FeatureLevel,
        /// The release that raised it: what a node that does not know the level is told to run.
        release: String,
    },
    /// Makes these the settings of the cluster, whatever they were.
    Agree {
        /// The settings.
        settings: Settings,
    },
    /// Changes who may do what.
    Access(AccessChange),
    /// Keeps what a node says of its audit.
    Anchor(Anchor),
    /// Forgets what a node has said of its audit that belongs to the cluster no more.
    ForgetAnchors {
        /// The node's identity.
        node: u64,
    },
    /// What a release yet to come may add: proves that nodes which do not know it stop before it.
    #[cfg(feature = "next-level")]
    Nothing,
}

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// The first byte of every command: the version of its layout.
const LAYOUT: u8 = 2;

impl Command {
    /// A write of nobody in particular, at the beginning of a cluster.
    pub fn new(write: Write) -> Command {
        Command { header: Header::default(), write }
    }

    /// The bytes that an entry carries.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(32 + self.write.cost_bytes());
        bytes.push(LAYOUT);
        let Header { level, clock_ms, caller, token, admitted } = &self.header;
        let written = postcard::to_extend(&(level, clock_ms, caller, token), bytes)
            .and_then(|bytes| match *level >= FeatureLevel::ACCESS {
                true => postcard::to_extend(admitted, bytes),
                false => Ok(bytes),
            })
            .and_then(|bytes| postcard::to_extend(&self.write, bytes));
        // Writing plain data to a growing vector has no way to fail; an empty command would be refused
        // when it is applied.
        written.map(Bytes::from).unwrap_or_default()
    }

    /// The command of these bytes, or why they are none for a node that knows all levels up to `highest`.
    pub fn decode(bytes: &[u8], highest: FeatureLevel) -> Result<Command, Unreadable> {
        let (&layout, command) = bytes.split_first().ok_or(Unreadable::Damaged("it is empty"))?;
        match layout {
            0 | 1 => return Err(Unreadable::Damaged("it has no layout")),
            LAYOUT => {}
            found => return Err(Unreadable::NewerLayout { found }),
        }
        // The level first: what follows may look quite different at a higher one.
        let (found, _) = postcard::take_from_bytes::<FeatureLevel>(command)
            .map_err(|_| Unreadable::Damaged("its level cannot be read"))?;
        if found > highest {
            return Err(Unreadable::NewerLevel { found });
        }
        match Command::read(command) {
            Ok((command, [])) => Ok(command),
            Ok(_) => Err(Unreadable::Damaged("something follows it")),
            Err(_) => Err(Unreadable::Damaged("it cannot be read")),
        }
    }

    fn read(bytes: &[u8]) -> postcard::Result<(Command, &[u8])> {
        let (base, rest): (BaseHeader, _) = postcard::take_from_bytes(bytes)?;
        let (level, clock_ms, caller, token) = base;
        let (admitted, rest) = match level >= FeatureLevel::ACCESS {
            true => postcard::take_from_bytes(rest)?,
            false => (None, rest),
        };
        let (write, rest) = postcard::take_from_bytes(rest)?;
        let header = Header { level, clock_ms, caller, token, admitted };
        Ok((Command { header, write }, rest))
    }
}

impl Write {
    /// One transaction on single keys only.
    pub fn txn(txn: Txn) -> Write {
        Write::Txn { txn, keys_max: 0 }
    }

    /// Sets one key.
    pub fn put(key: Bytes, value: Bytes) -> Write {
        Write::put_if(Put::new(key, value), Condition::default())
    }

    /// Sets one key if a condition holds.
    pub fn put_if(put: Put, condition: Condition) -> Write {
        let key = put.key.clone();
        Write::txn(on_condition(&key, condition, Op::Put(put)))
    }

    /// Sets several keys; of one that is named twice the last value counts.
    pub fn put_many(pairs: Vec<(Bytes, Bytes)>) -> Write {
        let ops = pairs.into_iter().map(|(key, value)| Op::Put(Put::new(key, value)));
        Write::txn(Txn::always(ops.collect()))
    }

    /// Deletes one key.
    pub fn delete(key: Bytes) -> Write {
        Write::delete_if(key, Condition::default())
    }

    /// Deletes one key if a condition holds.
    pub fn delete_if(key: Bytes, condition: Condition) -> Write {
        let delete = Op::Delete(Over::Key(key.clone()));
        Write::txn(on_condition(&key, condition, delete))
    }

    /// Deletes the keys of a range, if they are not too many.
    pub fn delete_range(range: KeyRange, keys_max: u64) -> Write {
        Write::Txn { txn: Txn::always(vec![Op::Delete(Over::Range(range))]), keys_max }
    }

    /// The feature level that it belongs to: a cluster below that must not meet it.
    pub fn level(&self) -> FeatureLevel {
        match self {
            Write::Txn { .. }
            | Write::DeleteStep { .. }
            | Write::Compact { .. }
            | Write::Raise { .. }
            | Write::Agree { .. } => FeatureLevel::BASE,
            Write::Access(_) | Write::Anchor(_) | Write::ForgetAnchors { .. } => {
                FeatureLevel::ACCESS
            }
            #[cfg(feature = "next-level")]
            Write::Nothing => FeatureLevel(3),
        }
    }

    /// Whether it is a way out of a full disk: what it takes away makes room, in time.
    pub fn frees(&self) -> bool {
        match self {
            Write::DeleteStep { .. }
            | Write::Compact { .. }
            | Write::Raise { .. }
            | Write::Agree { .. }
            | Write::Anchor(_)
            | Write::ForgetAnchors { .. } => true,
            // What takes a right away must not wait for a disk; what it may take is bounded.
            Write::Access(_) => true,
            Write::Txn { txn, .. } => {
                let mut frees = true;
                txn.for_each_op(&mut |op| frees &= !matches!(op, Op::Put(_)));
                frees
            }
            #[cfg(feature = "next-level")]
            Write::Nothing => true,
        }
    }

    /// The bytes of keys and values in it.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Write::Txn { txn, .. } => txn.cost_bytes(),
            Write::DeleteStep { range, .. } => {
                range.start.len() + range.end.as_ref().map_or(0, Bytes::len)
            }
            Write::Raise { release, .. } => release.len(),
            // All that there may be of it is written anew.
            Write::Access(_) => ACCESS_BYTES_MAX,
            Write::Anchor(_) => ANCHOR_HASH_BYTES,
            Write::Compact { .. } | Write::Agree { .. } | Write::ForgetAnchors { .. } => 0,
            #[cfg(feature = "next-level")]
            Write::Nothing => 0,
        }
    }
}

/// One operation on a key if a condition holds for it; else the outcome says what its newest revision is.
fn on_condition(key: &Bytes, condition: Condition, op: Op) -> Txn {
    let compares = condition.compares(key);
    let otherwise = match compares.is_empty() {
        true => Vec::new(),
        false => vec![Op::Get(Over::Key(key.clone()))],
    };
    Txn { compares, then: vec![op], otherwise }
}
