//! Transactions of a history: what a client asks for at one moment, and what each operation came to.

use serde::{Deserialize, Serialize};

use super::history::{ALIEN, Seen, in_order};
use crate::kv::Revision;

/// The most compares of a transaction, and operations of a branch.
pub const OPERATIONS_MAX: usize = 16;

/// What is to be done, depending on what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Txn {
    /// What must hold for `then` to be carried out; all of it.
    #[serde(rename = "if")]
    pub compares: Vec<Compare>,
    /// What is done if it holds. Of the changes in a branch each has a key of its own.
    pub then: Vec<Op>,
    /// What is done if it does not.
    #[serde(rename = "else")]
    pub otherwise: Vec<Op>,
}

/// What must hold before a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Compare {
    /// The key's mod revision is that.
    Revision {
        /// Which.
        key: u32,
        /// 0: there is no such key.
        revision: Revision,
    },
    /// There is such a key, or none.
    Exists {
        /// Which.
        key: u32,
        /// Whether there has to be one.
        exists: bool,
    },
    /// Nothing was put or deleted since, of all keys from one on, up to before another.
    Unchanged {
        /// The first.
        from: u32,
        /// One after the last.
        to: u32,
        /// Changes of this revision and older ones do not count.
        since: Revision,
    },
}

/// One operation of a branch. It sees what those before it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Sets a key.
    Put {
        /// Which.
        key: u32,
        /// Nobody else writes the same, nor does this transaction elsewhere: it names the transaction, key and branch.
        value: u64,
    },
    /// Deletes a key.
    Delete {
        /// Which.
        key: u32,
    },
    /// Reads a key.
    Get {
        /// Which.
        key: u32,
    },
    /// Reads all keys from one on, up to before another.
    List {
        /// The first.
        from: u32,
        /// One after the last.
        to: u32,
    },
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Came {
    /// The key is set.
    Put,
    /// The key is gone.
    Deleted {
        /// How many there were.
        count: u64,
    },
    /// What a read found.
    Found {
        /// The keys that exist of those asked for.
        items: Vec<Seen>,
    },
    /// What a read found was not told, although all was carried out.
    Unread,
}

/// A put that a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Whether it stands in `then`.
    pub in_then: bool,
    /// The key.
    pub key: u32,
    /// What it is set to.
    pub value: u64,
}

impl Txn {
    /// What is done if all compares hold, or if one does not.
    pub fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.then } else { &self.otherwise }
    }

    /// Every put of both branches.
    pub fn puts(&self) -> impl Iterator<Item = Put> {
        let of = |in_then| {
            self.branch(in_then).iter().filter_map(move |op| match *op {
                Op::Put { key, value } => Some(Put { in_then, key, value }),
                _ => None,
            })
        };
        of(true).chain(of(false))
    }

    /// Whether neither branch changes anything.
    pub fn reads(&self) -> bool {
        self.ops().all(|op| op.changes().is_none())
    }

    /// Whether it is about the key.
    pub fn touches(&self, key: u32) -> bool {
        self.compares.iter().any(|compare| compare.keys().contains(&key))
            || self.ops().any(|op| op.keys().contains(&key))
    }

    /// Whether an operation before the `end`-th of the branch changes the key.
    pub fn is_changed(&self, succeeded: bool, end: usize, key: u32) -> bool {
        let mut before = self.branch(succeeded).iter().take(end);
        before.any(|op| op.changes() == Some(key))
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.then.iter().chain(&self.otherwise)
    }

    /// Whether it is about no others than so many keys.
    pub fn is_inside(&self, keys: u32) -> bool {
        let inside = |of: std::ops::Range<u32>| !of.is_empty() && of.end <= keys;
        self.compares.iter().all(|compare| inside(compare.keys()))
            && self.ops().all(|op| inside(op.keys()))
    }

    /// Whether a client may ask for it; says why not.
    pub fn fits(&self) -> Result<(), String> {
        for length in [self.compares.len(), self.then.len(), self.otherwise.len()] {
            if length > OPERATIONS_MAX {
                return Err(format!("more than {OPERATIONS_MAX} compares or operations"));
            }
        }
        if self.puts().any(|put| put.value == ALIEN) {
            return Err(format!("it writes {ALIEN}, as nobody does"));
        }
        for branch in [&self.then, &self.otherwise] {
            let mut changed: Vec<u32> = branch.iter().filter_map(Op::changes).collect();
            changed.sort_unstable();
            if changed.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err("a branch that changes a key twice".to_owned());
            }
        }
        Ok(())
    }
}

impl Compare {
    /// The keys that it looks at.
    pub fn keys(&self) -> std::ops::Range<u32> {
        match *self {
            Compare::Revision { key, .. } | Compare::Exists { key, .. } => one(key),
            Compare::Unchanged { from, to, .. } => from..to,
        }
    }
}

impl Op {
    /// The keys that it is about.
    pub fn keys(&self) -> std::ops::Range<u32> {
        match *self {
            Op::Put { key, .. } | Op::Delete { key } | Op::Get { key } => one(key),
            Op::List { from, to } => from..to,
        }
    }

    /// The key that it changes.
    pub fn changes(&self) -> Option<u32> {
        match *self {
            Op::Put { key, .. } | Op::Delete { key } => Some(key),
            Op::Get { .. } | Op::List { .. } => None,
        }
    }
}

impl Came {
    /// Whether it changed something.
    pub fn changed(&self) -> bool {
        matches!(self, Came::Put | Came::Deleted { count: 1.. })
    }

    /// What was read.
    pub fn items(&self) -> &[Seen] {
        match self {
            Came::Found { items } => items,
            Came::Put | Came::Deleted { .. } | Came::Unread => &[],
        }
    }

    /// Whether it can be what the operation came to.
    pub(super) fn fits(&self, op: &Op) -> bool {
        match (op, self) {
            (Op::Put { .. }, Came::Put)
            | (Op::Delete { .. }, Came::Deleted { .. })
            | (Op::Get { .. } | Op::List { .. }, Came::Unread) => true,
            (Op::Get { .. } | Op::List { .. }, Came::Found { items }) => {
                in_order(items) && items.iter().all(|item| op.keys().contains(&item.key))
            }
            _ => false,
        }
    }
}

/// The range of one key. The last number of all ends none; no history has so many keys.
fn one(key: u32) -> std::ops::Range<u32> {
    key..key.saturating_add(1)
}
