//! The way through all pages of a file as one commit left them, each held against the checksum that its parent has for it.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use super::checks::{Checks, Fault};
use super::pages::{Child, Kind, Roots, Shape, Table};
use crate::store::error::{DamagedPage, StoreError};

/// No tree is as deep: a page that names itself, below it, is damage.
const DEPTH_MAX: u8 = 128;

/// See the module's documentation. It goes on a few pages at a time, beside whoever reads and writes the file. Nobody may
/// put anything in the place of these pages meanwhile.
pub(in crate::store) struct Walk {
    file: Arc<dyn StorageBackend>,
    checks: Arc<Checks>,
    tables: Vec<Seen>,
    /// The pages to look at, those that come last first: the children of the pages on the way down.
    next: Vec<Visit>,
    page: Vec<u8>,
    verified_bytes: u64,
    file_bytes: u64,
}

/// A table, and how many rows of it were there.
#[derive(Debug)]
struct Seen {
    table: Table,
    rows: u64,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    child: Child,
    /// Which table it belongs to.
    table: usize,
    depth: u8,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("verified_bytes", &self.verified_bytes).finish_non_exhaustive()
    }
}

impl Walk {
    /// Verifies the trees of tables, and redb's own tables with all their rows; the other tables are to come.
    pub(super) fn begin(
        file: Arc<dyn StorageBackend>,
        checks: Arc<Checks>,
        roots: &Roots,
        file_bytes: u64,
    ) -> Result<Walk, Fault> {
        let mut walk = Walk {
            file,
            checks,
            tables: Vec::new(),
            next: Vec::new(),
            page: Vec::new(),
            verified_bytes: 0,
            file_bytes,
        };
        let own = walk.tables_of(roots.own_tables)?;
        walk.enter(own);
        while walk.visit()? {}
        walk.tables.clear();
        let tables = walk.tables_of(roots.tables)?;
        for table in &tables {
            if let Some(root) = &table.root {
                walk.checks.expect(root, table.shape);
            }
        }
        walk.enter(tables);
        Ok(walk)
    }

    /// How many bytes of pages were verified, of how many at most.
    pub(in crate::store) fn progress(&self) -> (u64, u64) {
        (self.verified_bytes, self.file_bytes)
    }

    /// What is known of the pages.
    pub(in crate::store) fn checks(&self) -> &Arc<Checks> {
        &self.checks
    }

    /// Verifies pages of so many bytes or a few more; whether there are others.
    pub(in crate::store) fn step(
        &mut self,
        bytes: u64,
        what: &'static str,
    ) -> Result<bool, StoreError> {
        let until = self.verified_bytes.saturating_add(bytes);
        while self.verified_bytes < until {
            if !self.visit().map_err(|fault| fault.of(what))? {
                self.counted().map_err(|damaged| Fault::from(damaged).of(what))?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The tables that a tree of tables names.
    fn tables_of(&mut self, root: Option<Child>) -> Result<Vec<Table>, Fault> {
        let (mut tables, mut next) = (Vec::new(), Vec::from_iter(root));
        // No page is there twice.
        while let Some(child) = next.pop() {
            let kind = self.read(&child, Shape::TABLES)?;
            let layout = self.checks.layout();
            match kind {
                Kind::Leaf(rows) => layout.tables(&self.page, rows).map(|found| {
                    tables.extend(found);
                }),
                Kind::Branch(keys) => layout.children(&self.page, keys).map(|children| {
                    next.extend(children);
                }),
            }
            .ok_or_else(|| self.checks.damaged(child.at, "it names no tables"))?;
        }
        Ok(tables)
    }

    /// Goes through these tables next.
    fn enter(&mut self, tables: Vec<Table>) {
        for table in tables {
            let number = self.tables.len();
            let root = table.root;
            self.tables.push(Seen { table, rows: 0 });
            self.next.extend(root.map(|child| Visit { child, table: number, depth: 0 }));
        }
    }

    /// Verifies the next page; false if there is none.
    fn visit(&mut self) -> Result<bool, Fault> {
        let Some(Visit { child, table, depth }) = self.next.pop() else { return Ok(false) };
        if depth == DEPTH_MAX {
            return Err(self.checks.damaged(child.at, "it is below itself").into());
        }
        match self.read(&child, self.tables[table].table.shape)? {
            Kind::Leaf(rows) => self.tables[table].rows += rows as u64,
            Kind::Branch(keys) => {
                let children = self.checks.layout().children(&self.page, keys);
                let children =
                    children.ok_or_else(|| self.checks.damaged(child.at, "it names no pages"))?;
                let first = self.next.len();
                let visit = |child| Visit { child, table, depth: depth + 1 };
                self.next.extend(children.into_iter().map(visit));
                // In the order of the file, which is the disk's.
                self.next[first..].sort_unstable_by_key(|visit| std::cmp::Reverse(visit.child.at));
            }
        }
        Ok(true)
    }

    /// Reads a page, and verifies it.
    fn read(&mut self, child: &Child, shape: Shape) -> Result<Kind, Fault> {
        let beyond =
            |length| child.at.checked_add(child.bytes as u64).is_none_or(|end| end > length);
        // It may have grown since.
        if beyond(self.file_bytes) && beyond(self.file.len()?) {
            return Err(self.checks.damaged(child.at, "the file ends before it").into());
        }
        self.page.resize(child.bytes, 0);
        match self.file.read(child.at, &mut self.page) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.checks.damaged(child.at, "the file ends before it").into());
            }
            read => read?,
        }
        self.verified_bytes += child.bytes as u64;
        let looked = shape.look(&self.page).filter(|(_, sum)| *sum == child.sum);
        let kind = looked.map(|(kind, _)| kind);
        Ok(kind.ok_or_else(|| self.checks.damaged(child.at, "its checksum is another"))?)
    }

    /// Whether each table has as many rows as it says.
    fn counted(&self) -> Result<(), DamagedPage> {
        let wrong = self.tables.iter().find(|seen| seen.rows != seen.table.rows);
        let Some(Seen { table, rows }) = wrong else { return Ok(()) };
        let at = table.root.map_or(0, |root| root.at);
        let why = format!("table {:?} has {rows} rows and says {}", table.name, table.rows);
        Err(self.checks.damaged(at, &why))
    }
}
