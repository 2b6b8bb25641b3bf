//! What a write asks to be allowed.

use super::auth::{Administration, Ask, Asks, Keys, Right};
use super::command::Write;
use super::txn::{Op, Put};

impl Asks for Write {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        match self {
            Write::Txn { txn, .. } => {
                // Every branch: which one is taken tells what is there.
                txn.for_each_compare(&mut |compare| {
                    ask(Ask::Keys(Right::Read, Keys::from(&compare.over)));
                });
                txn.for_each_op(&mut |op| match op {
                    Op::Put(Put { key, value, .. }) => {
                        ask(Ask::Keys(Right::Write, Keys::One(key)));
                        // To keep a value tells whether there is one.
                        if value.is_none() {
                            ask(Ask::Keys(Right::Read, Keys::One(key)));
                        }
                    }
                    Op::Delete(over) => ask(Ask::Keys(Right::Write, Keys::from(over))),
                    Op::Get(over) => ask(Ask::Keys(Right::Read, Keys::from(over))),
                    // Its own operations are shown, too.
                    Op::Txn(_) => {}
                });
                // One without operations, too, is somebody's.
                ask(Ask::BeKnown);
            }
            Write::DeleteStep { range, .. } => ask(Ask::Keys(Right::Write, Keys::Range(range))),
            Write::Compact { .. } => ask(Ask::Admin(Administration::Compact)),
            Write::Access(_) => ask(Ask::Admin(Administration::Auth)),
            Write::Raise { .. }
            | Write::Agree { .. }
            | Write::Anchor(_)
            | Write::ForgetAnchors { .. } => ask(Ask::Nobody),
            #[cfg(feature = "next-level")]
            Write::Nothing => ask(Ask::Nobody),
        }
    }
}
