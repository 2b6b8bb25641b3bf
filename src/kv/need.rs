//! What a write reads, known before it is carried out.

use bytes::Bytes;

use super::command::Write;
use super::range::KeyRange;
use super::txn::{Op, Over, Put, Test};

/// So many values a write may look at before somebody counts their bytes.
const VALUES_UNCOUNTED: usize = 8;

/// Something that a command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// The row of a key.
    Key(&'a Bytes),
    /// The row of a key, and its newest change if it exists.
    Value(&'a Bytes),
    /// The rows of a range from its beginning.
    Range(&'a KeyRange),
    /// The rows of a range from its beginning, and the newest changes of the keys that exist.
    Values(&'a KeyRange),
}

impl Write {
    /// Whether somebody has to count what it would look at before it is taken into the log.
    pub fn counts_first(&self) -> bool {
        let (mut ranges, mut values) = (false, 0);
        self.needs(&mut |need| match need {
            Need::Key(_) => {}
            Need::Value(_) => values += 1,
            Need::Range(_) | Need::Values(_) => ranges = true,
        });
        ranges || values > VALUES_UNCOUNTED
    }

    /// Shows what it may read.
    pub fn needs<'a>(&'a self, visit: &mut dyn FnMut(Need<'a>)) {
        match self {
            Write::Txn { txn, .. } => {
                txn.for_each_compare(&mut |compare| {
                    let value = matches!(compare.test, Test::Value(..));
                    visit(match (&compare.over, value) {
                        (Over::Key(key), false) => Need::Key(key),
                        (Over::Key(key), true) => Need::Value(key),
                        (Over::Range(range), false) => Need::Range(range),
                        (Over::Range(range), true) => Need::Values(range),
                    });
                });
                txn.for_each_op(&mut |op| match op {
                    Op::Put(Put { key, value: Some(_), .. })
                    | Op::Delete(Over::Key(key))
                    | Op::Get(Over::Key(key)) => visit(Need::Key(key)),
                    Op::Put(Put { key, value: None, .. }) => visit(Need::Value(key)),
                    Op::Delete(Over::Range(range)) => visit(Need::Range(range)),
                    Op::Get(Over::Range(_)) | Op::Txn(_) => {}
                });
            }
            Write::DeleteStep { range, .. } => visit(Need::Range(range)),
            Write::Compact { .. }
            | Write::Raise { .. }
            | Write::Agree { .. }
            | Write::Access(_)
            | Write::Anchor(_)
            | Write::ForgetAnchors { .. } => {}
            #[cfg(feature = "next-level")]
            Write::Nothing => {}
        }
    }

    /// How many keys of ranges it looks at, at most.
    pub fn keys_max(&self) -> u64 {
        match self {
            Write::Txn { keys_max, .. } | Write::DeleteStep { keys_max, .. } => *keys_max,
            _ => 0,
        }
    }
}
