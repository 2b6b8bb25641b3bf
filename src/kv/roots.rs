//! Jump pointers over the changes of a key, so that a change long ago is found in O(log n) steps.
//!
//! The changes of a key are the nodes of a forest of complete binary trees whose sizes are a skew-binary number (E. W.
//! Myers, "An applicative random-access stack", 1983). Each change leads to the one before it and, where that takes it
//! further, jumps to the root of the next tree. A key's row remembers the roots, as the next change needs them: of n changes
//! about log2 n, and none beyond the newest for a key that was set once.

use std::sync::Arc;

use super::row_id::RowId;

/// A tree: its root, and how high it is. It has 2^height - 1 changes.
pub(super) type Root = (RowId, u8);

/// The roots of the trees, as the key's newest change left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The height of the tree whose root is the newest change.
    height: u8,
    /// The others, newest first; heights never fall, and only the first may equal `height`.
    older: Option<Arc<[Root]>>,
}

impl Default for Roots {
    /// Of a key's first change.
    fn default() -> Roots {
        Roots { height: 1, older: None }
    }
}

impl Roots {
    /// The most trees that there can be, far beyond what a 64-bit counter of changes comes to.
    pub(super) const OLDER_MAX: usize = 128;

    /// The roots of these; none if there cannot be such.
    pub(super) fn new(height: u8, older: Vec<Root>) -> Option<Roots> {
        let heights = || std::iter::once(height).chain(older.iter().map(|(_, height)| *height));
        let sound =
            height > 0 && height < 64 && heights().is_sorted() && older.len() <= Roots::OLDER_MAX;
        sound.then(|| Roots { height, older: (!older.is_empty()).then(|| older.into()) })
    }

    /// The roots once a change follows the `newest`, and where that change jumps to; none: no further than to the
    /// one before it.
    pub(super) fn after(&self, newest: RowId) -> (Roots, Option<RowId>) {
        let older = self.older();
        match older.split_first() {
            // Two trees of one height: the new change becomes the root above both.
            Some((&(_, height), rest)) if height == self.height => {
                let jump = rest.first().map(|(root, _)| *root);
                (Roots { height: height + 1, older: shared(rest.to_vec()) }, jump)
            }
            _ => {
                let mut older = older.to_vec();
                older.insert(0, (newest, self.height));
                (Roots { height: 1, older: shared(older) }, None)
            }
        }
    }

    /// The height of the first tree, whose root is the newest change.
    pub(super) fn height(&self) -> u8 {
        self.height
    }

    /// The other roots, newest first.
    pub(super) fn older(&self) -> &[Root] {
        self.older.as_deref().unwrap_or_default()
    }
}

fn shared(older: Vec<Root>) -> Option<Arc<[Root]>> {
    (!older.is_empty()).then(|| older.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Revision;

    fn id(number: usize) -> RowId {
        RowId { revision: Revision(number as u64), sub: 0 }
    }

    /// The jumps of so many changes, 1, 2 and so on.
    fn jumps(count: usize) -> (Roots, Vec<Option<RowId>>) {
        let (mut roots, mut jumps) = (Roots::default(), vec![None]);
        for number in 1..count {
            let (next, jump) = roots.after(id(number));
            (roots, _) = (next, jumps.push(jump));
        }
        (roots, jumps)
    }

    #[test]
    fn any_change_is_found_in_few_steps() {
        let count = 20_000;
        let (roots, jumps) = jumps(count);
        assert!(roots.older().len() <= 15, "{roots:?}");
        let mut most = 0;
        for sought in 1..=count {
            let (mut at, mut steps) = (count, 0);
            while at > sought {
                let jump = jumps[at - 1].map_or(at - 1, |jump| jump.revision.0 as usize);
                at = if jump >= sought { jump } else { at - 1 };
                steps += 1;
            }
            assert_eq!(at, sought);
            most = most.max(steps);
        }
        assert!(most <= 42, "{most} steps, more than three times the logarithm");
    }

    #[test]
    fn roots_that_cannot_be_are_refused() {
        let (roots, _) = jumps(1000);
        assert_eq!(Roots::new(roots.height(), roots.older().to_vec()), Some(roots));
        assert_eq!(Roots::new(0, vec![]), None);
        assert_eq!(Roots::new(2, vec![(id(1), 1)]), None);
    }
}
