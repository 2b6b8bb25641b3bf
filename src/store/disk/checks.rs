//! What is known of the pages of a file that were there when it was opened: what must be in each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arc_swap::ArcSwapOption;
use parking_lot::RwLock;

use super::pages::{Child, Kind, Layout, Shape};
use super::sums::{SHAPES_MAX, Sums};
use crate::store::error::{DamagedPage, StoreError};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// A page is not what was written.
    #[error(transparent)]
    Damaged(#[from] DamagedPage),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Fault {
    /// As an error of the log or the state.
    pub(super) fn of(self, what: &'static str) -> StoreError {
        match self {
            Fault::Damaged(DamagedPage(detail)) => StoreError::damaged(what, detail),
            Fault::Io(error) => StoreError::database(what, redb::Error::Io(error)),
        }
    }
}

/// See the module's documentation.
pub(in crate::store) struct Checks {
    path: PathBuf,
    layout: Layout,
    /// None once no page is verified as it is read any more.
    sums: ArcSwapOption<Sums>,
    /// How rows lie in the pages, by number.
    shapes: RwLock<Vec<Shape>>,
    /// The first damage that was found.
    damage: OnceLock<String>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Checks {
    /// Of the file at `path`, of so many bytes: nothing yet.
    pub(super) fn new(path: &Path, layout: Layout, bytes: u64) -> Checks {
        Checks {
            path: path.to_path_buf(),
            layout,
            sums: ArcSwapOption::from_pointee(Sums::new(bytes)),
            shapes: RwLock::default(),
            damage: OnceLock::new(),
        }
    }

    /// The first damage that was found in the file.
    pub(in crate::store) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// No page is verified any more as it is read: all of them were. What was known of them is let go of.
    pub(in crate::store) fn end(&self) {
        self.sums.store(None);
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The page at `at` is not what was written.
    pub(super) fn damaged(&self, at: u64, why: &str) -> DamagedPage {
        let path = self.path.display();
        let detail = format!("the page at byte {at} of {path} is not what was written: {why}");
        if self.damage.set(detail.clone()).is_ok() {
            tracing::error!("{detail}");
        }
        DamagedPage(detail)
    }

    /// From now on this page must hold that.
    pub(super) fn expect(&self, child: &Child, shape: Shape) {
        if let (Some(sums), Some(number)) = (&*self.sums.load(), self.number(shape)) {
            sums.expect(child.at, child.sum, number);
        }
    }

    /// Something else is written there.
    pub(super) fn forget(&self, at: u64, bytes: usize) {
        if let Some(sums) = &*self.sums.load() {
            sums.forget(at, bytes);
        }
    }

    /// Whether what was read is what must be there, as far as that is known. What it says of its children must be in those.
    pub(super) fn check(&self, at: u64, page: &[u8]) -> Result<(), DamagedPage> {
        let sums = self.sums.load();
        let Some(sums) = &*sums else { return Ok(()) };
        let Some(known) = sums.of(at) else { return Ok(()) };
        let Some(shape) = self.shapes.read().get(known.shape).copied() else { return Ok(()) };
        let looked = shape.look(page).filter(|(_, sum)| known.fits(*sum));
        let Some((kind, _)) = looked else {
            return Err(self.damaged(at, "its checksum is another"));
        };
        if let Kind::Branch(keys) = kind {
            let children = self.layout.children(page, keys);
            let children = children.ok_or_else(|| self.damaged(at, "it names no pages"))?;
            children.iter().for_each(|child| sums.expect(child.at, child.sum, known.shape));
        }
        Ok(())
    }

    /// The number of a shape; none if there are too many, which are no more than tables of different types.
    fn number(&self, shape: Shape) -> Option<usize> {
        let find = |shapes: &[Shape]| shapes.iter().position(|known| *known == shape);
        if let Some(number) = find(&self.shapes.read()) {
            return Some(number);
        }
        let mut shapes = self.shapes.write();
        if find(&shapes).is_none() && shapes.len() < SHAPES_MAX {
            shapes.push(shape);
        }
        find(&shapes)
    }
}
