//! How redb lays out its file (version 3 of its format, `docs/design.md` among its sources): as much of it as it takes to verify its
//! pages beside it. redb itself verifies only a whole file at once, which nobody may use meanwhile.
//!
//! Each page is named by its parent, with a checksum over what the page holds; the first ones by the header, in one of two slots with
//! a checksum of its own. So whoever goes down from the slot in use knows of each page what must be in it.

use xxhash_rust::xxh3::xxh3_128;

use super::backend::PAGE_BYTES;

/// What the header takes.
pub(super) const HEADER_BYTES: usize = 320;
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
const FLAGS_AT: usize = 9;
const PAGE_SIZE_AT: usize = 12;
const REGION_HEADER_AT: usize = 16;
const REGION_PAGES_AT: usize = 20;
const SLOTS_AT: usize = 64;
const SLOT_BYTES: usize = 128;
const SLOT_SUM_AT: usize = SLOT_BYTES - SUM_BYTES;
const FORMAT: u8 = 3;

/// Which slot is in use.
const SECOND_SLOT: u8 = 1;
/// The slot in use was whole on the disk before it came into use, so that no other may take its place.
const TWO_PHASES: u8 = 4;
/// Other processes are not to read the slot in use yet: nobody shares these files.
const UNFLUSHED: u8 = 8;

const SUM_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
const ROOT_BYTES: usize = NUMBER_BYTES + SUM_BYTES + 8;

/// Where in a leaf it says where its keys end, if they have no fixed size.
const KEY_ENDS_AT: usize = 4;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// A table with one value a key; konsen has no others.
const PLAIN_TABLE: u8 = 3;

/// Where pages are. None of this ever changes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    region_header_pages: u64,
    region_pages: u64,
}

/// A page, as its parent names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    /// Its first byte.
    pub(super) at: u64,
    pub(super) bytes: usize,
    /// The checksum over what it holds.
    pub(super) sum: u128,
}

/// What the slot in use names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    pub(super) layout: Layout,
    /// The tree of the tables.
    pub(super) tables: Option<Child>,
    /// The tree of redb's own tables: free pages, and which are in use.
    pub(super) own_tables: Option<Child>,
}

/// How rows lie in the pages of a table: whether keys and values have a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    key: Option<usize>,
    value: Option<usize>,
}

/// A table, as a row of the tree of tables names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) root: Option<Child>,
    pub(super) shape: Shape,
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With so many rows.
    Leaf(usize),
    /// With so many keys, and one child more.
    Branch(usize),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Roots {
    /// What the header names, if its slot in use is whole and no other can take its place. Else redb has to find out by a look at all
    /// pages what the file holds.
    pub(super) fn of(header: &[u8; HEADER_BYTES]) -> Option<Roots> {
        let flags = header[FLAGS_AT];
        let is_settled = flags & TWO_PHASES != 0 && flags & UNFLUSHED == 0;
        let is_known = header.starts_with(MAGIC) && u32_at(header, PAGE_SIZE_AT)? == PAGE_BYTES;
        if !is_settled || !is_known {
            return None;
        }
        let layout = Layout {
            region_header_pages: u32_at(header, REGION_HEADER_AT)? as u64,
            region_pages: u32_at(header, REGION_PAGES_AT)? as u64,
        };
        let slot = SLOTS_AT + usize::from(flags & SECOND_SLOT) * SLOT_BYTES;
        let slot = header.get(slot..slot + SLOT_BYTES)?;
        if slot[0] != FORMAT || xxh3_128(&slot[..SLOT_SUM_AT]) != u128_at(slot, SLOT_SUM_AT)? {
            return None;
        }
        let root = |is_there: usize, at: usize| match slot[is_there] {
            0 => Some(None),
            _ => layout.root(slot, at).map(Some),
        };
        Some(Roots { layout, tables: root(1, 8)?, own_tables: root(2, 8 + ROOT_BYTES)? })
    }
}

impl Layout {
    /// The page with this number.
    fn page(&self, number: u64, sum: u128) -> Option<Child> {
        let order = u32::try_from(number >> 59).ok()?;
        let index = number & (0xf_ffff_u64.checked_shr(order)?);
        let region = (number >> 20) & 0xf_ffff;
        let page = PAGE_BYTES as u64;
        let bytes = page.checked_shl(order).filter(|_| order <= 20)?;
        let region_bytes = (self.region_header_pages + self.region_pages) * page;
        let at = region.checked_mul(region_bytes)?;
        let at = at.checked_add(page + self.region_header_pages * page + index * bytes)?;
        Some(Child { at, bytes: usize::try_from(bytes).ok()?, sum })
    }

    /// The root that is named at this place: its number, its checksum, and how many rows are below it.
    fn root(&self, bytes: &[u8], at: usize) -> Option<Child> {
        self.page(u64_at(bytes, at)?, u128_at(bytes, at + NUMBER_BYTES)?)
    }

    /// The children of a branch.
    pub(super) fn children(&self, page: &[u8], keys: usize) -> Option<Vec<Child>> {
        let numbers = 8 + SUM_BYTES * (keys + 1);
        let child = |place: usize| {
            let sum = u128_at(page, 8 + SUM_BYTES * place)?;
            self.page(u64_at(page, numbers + NUMBER_BYTES * place)?, sum)
        };
        (0..=keys).map(child).collect()
    }

    /// The tables that a leaf of the tree of tables names.
    pub(super) fn tables(&self, page: &[u8], rows: usize) -> Option<Vec<Table>> {
        let values = Shape::TABLES.value_ends(rows);
        let end = |ends: usize, row: usize| u32_at(page, ends + 4 * row);
        let first_key = Shape::TABLES.keys_at(rows);
        let table = |row: usize| {
            let key = match row {
                0 => first_key,
                _ => end(KEY_ENDS_AT, row - 1)?,
            };
            let value = match row {
                0 => end(KEY_ENDS_AT, rows - 1)?,
                _ => end(values, row - 1)?,
            };
            let name = page.get(key..end(KEY_ENDS_AT, row)?)?;
            let name = String::from_utf8_lossy(name).into_owned();
            self.table(name, page.get(value..end(values, row)?)?)
        };
        (0..rows).map(table).collect()
    }

    fn table(&self, name: String, row: &[u8]) -> Option<Table> {
        const ROOT_AT: usize = 1 + 8;
        const KEY_AT: usize = ROOT_AT + 1 + ROOT_BYTES;
        const VALUE_AT: usize = KEY_AT + 1 + 4;
        if *row.first()? != PLAIN_TABLE {
            return None;
        }
        let fixed = |at: usize| match row.get(at)? {
            0 => Some(None),
            _ => u32_at(row, at + 1).map(Some),
        };
        let root = match row.get(ROOT_AT)? {
            0 => None,
            _ => Some(self.root(row, ROOT_AT + 1)?),
        };
        let shape = Shape { key: fixed(KEY_AT)?, value: fixed(VALUE_AT)? };
        Some(Table { name, rows: u64_at(row, 1)?, root, shape })
    }
}

impl Shape {
    /// That of the tree of tables.
    pub(super) const TABLES: Shape = Shape { key: None, value: None };

    /// Where in a leaf it says where its values end, if they have no fixed size.
    fn value_ends(&self, rows: usize) -> usize {
        KEY_ENDS_AT + if self.key.is_none() { 4 * rows } else { 0 }
    }

    /// Where in a leaf the keys begin.
    fn keys_at(&self, rows: usize) -> usize {
        self.value_ends(rows) + if self.value.is_none() { 4 * rows } else { 0 }
    }

    /// What a page is, and the checksum over what it holds; none if it is no page.
    pub(super) fn look(&self, page: &[u8]) -> Option<(Kind, u128)> {
        let count = u16_at(page, 2).filter(|count| *count > 0)?;
        let (kind, end) = match *page.first()? {
            LEAF => (Kind::Leaf(count), self.leaf_end(page, count)?),
            BRANCH => (Kind::Branch(count), self.branch_end(page, count)?),
            _ => return None,
        };
        Some((kind, xxh3_128(page.get(..end)?)))
    }

    fn leaf_end(&self, page: &[u8], rows: usize) -> Option<usize> {
        match self.value {
            None => u32_at(page, self.value_ends(rows) + 4 * (rows - 1)),
            Some(value) => {
                let keys_end = match self.key {
                    None => u32_at(page, KEY_ENDS_AT + 4 * (rows - 1))?,
                    Some(key) => self.keys_at(rows).checked_add(key.checked_mul(rows)?)?,
                };
                keys_end.checked_add(value.checked_mul(rows)?)
            }
        }
    }

    fn branch_end(&self, page: &[u8], keys: usize) -> Option<usize> {
        let after_children = 8 + (SUM_BYTES + NUMBER_BYTES) * (keys + 1);
        match self.key {
            None => u32_at(page, after_children + 4 * (keys - 1)),
            Some(key) => after_children.checked_add(key.checked_mul(keys)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout { region_header_pages: 0, region_pages: 1 << 20 };

    #[test]
    fn a_number_says_where_its_page_is_and_how_large() {
        let page = |number| LAYOUT.page(number, 7).map(|page| (page.at, page.bytes));
        assert_eq!(page(0), Some((4096, 4096)));
        assert_eq!(page(3), Some((4096 + 3 * 4096, 4096)));
        assert_eq!(page(3 | 1 << 59), Some((4096 + 3 * 8192, 8192)));
        assert_eq!(page(5 | 2 << 20), Some((4096 + 2 * (4 << 30) + 5 * 4096, 4096)));
        assert_eq!(page(21 << 59), None);
    }

    proptest! {
        /// Whatever a damaged file holds, it is told, and nothing panics.
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            kind in 0..4u8,
            count in any::<u16>(),
            key in proptest::option::of(any::<u32>()),
            value in proptest::option::of(any::<u32>()),
        ) {
            let mut bytes = bytes;
            if bytes.len() >= 4 {
                bytes[0] = kind;
                bytes[2..4].copy_from_slice(&count.to_le_bytes());
            }
            let shape = Shape { key: key.map(|key| key as usize), value: value.map(|value| value as usize) };
            let _ = shape.look(&bytes);
            let _ = LAYOUT.children(&bytes, usize::from(count));
            let _ = LAYOUT.tables(&bytes, usize::from(count).max(1));
            let _ = LAYOUT.table(String::new(), &bytes);
            if let Some(header) = bytes.first_chunk() {
                let _ = Roots::of(header);
            }
        }
    }
}
