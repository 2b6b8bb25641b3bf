//! The rows of the state, and their bytes on disk.
//!
//! `keys` maps a key to its newest change, tombstones included; `revisions` holds what each change set,
//! with a link to the key's change before, and one that jumps further, so that the past can be read by walking back.

use bytes::Bytes;

use super::revision::Revision;
use super::roots::Roots;
use super::row_id::RowId;

/// The newest change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Where its value is.
    pub newest: RowId,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// How many times it was set since; 0 once it is deleted.
    pub version: u64,
    /// The lease that it belongs to; 0 is none.
    pub lease: u64,
    /// Where the changes before it can be jumped to.
    pub roots: Roots,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRow {
    /// The key.
    pub key: Bytes,
    /// What it was set to; empty for a deletion.
    pub value: Bytes,
    /// The media type that came with the value.
    pub content_type: Option<String>,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// How many times it was set since; 0 for a deletion.
    pub version: u64,
    /// The lease that it belongs to; 0 is none.
    pub lease: u64,
    /// The key's change before this one.
    pub previous: Option<RowId>,
    /// A change before that one; see [`Roots`]. None: there is none, or it is `previous`.
    pub jump: Option<RowId>,
}

/// The first byte of every row: the version of its layout.
const LAYOUT: u8 = 2;
const KEY_ROW_HEAD_BYTES: usize = 1 + 8 + 4 + 8 + 8 + 8 + 1;
const ROW_ID_BYTES: usize = 8 + 4;
const REVISION_ROW_HEAD_BYTES: usize = 1 + 8 + 8 + 8 + 1 + 2 * ROW_ID_BYTES + 2 + 2;

/// Whether what begins so is a row of a layout that came later.
pub fn is_of_newer_layout(row: &[u8]) -> bool {
    row.first().is_some_and(|layout| *layout > LAYOUT)
}

impl KeyRow {
    /// Whether the key exists.
    pub fn is_live(&self) -> bool {
        self.version > 0
    }

    /// Whether it says something: deletions before the compacted revision do not, since on other replicas their rows may be
    /// gone.
    pub fn counts(&self, compacted: Revision) -> bool {
        self.is_live() || self.newest.revision >= compacted
    }

    /// The memory that it takes beyond that of a key which was set once, roughly.
    pub fn extra_bytes(&self) -> usize {
        self.roots.older().len() * size_of::<(RowId, u64)>()
    }

    /// The row's bytes, appended to `into`.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.reserve(KEY_ROW_HEAD_BYTES + self.roots.older().len() * (ROW_ID_BYTES + 1));
        into.push(LAYOUT);
        put_id(into, self.newest);
        into.extend_from_slice(&self.create_revision.0.to_le_bytes());
        into.extend_from_slice(&self.version.to_le_bytes());
        into.extend_from_slice(&self.lease.to_le_bytes());
        into.push(self.roots.height());
        for (root, height) in self.roots.older() {
            put_id(into, *root);
            into.push(*height);
        }
    }

    /// The row of these bytes; none if they are not one.
    pub fn decode(bytes: &[u8]) -> Option<KeyRow> {
        let mut reader = Reader(bytes);
        if reader.byte()? != LAYOUT {
            return None;
        }
        let newest = reader.id()?;
        let create_revision = Revision(reader.u64()?);
        let (version, lease, height) = (reader.u64()?, reader.u64()?, reader.byte()?);
        let mut older = Vec::new();
        while !reader.0.is_empty() {
            older.push((reader.id()?, reader.byte()?));
        }
        let roots = Roots::new(height, older)?;
        Some(KeyRow { newest, create_revision, version, lease, roots })
    }
}

impl RevisionRow {
    /// Whether the key exists after this change.
    pub fn is_live(&self) -> bool {
        self.version > 0
    }

    /// Whether the key did not exist before this change.
    pub fn creates(&self) -> bool {
        self.version == 1
    }

    /// The memory that the row takes, roughly.
    pub fn cost_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 192;
        OVERHEAD_BYTES
            + self.key.len()
            + self.value.len()
            + self.content_type.as_ref().map_or(0, String::len)
    }

    /// The row's bytes, appended to `into`.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let content_type = self.content_type.as_deref().unwrap_or_default().as_bytes();
        // Both are bounded far below 64 KiB where they come in: `apply` refuses longer ones.
        let key_len = u16::try_from(self.key.len()).unwrap_or(u16::MAX);
        let type_len = u16::try_from(content_type.len()).unwrap_or(u16::MAX);
        into.reserve(REVISION_ROW_HEAD_BYTES + self.key.len() + self.value.len());
        into.push(LAYOUT);
        into.extend_from_slice(&self.create_revision.0.to_le_bytes());
        into.extend_from_slice(&self.version.to_le_bytes());
        into.extend_from_slice(&self.lease.to_le_bytes());
        let flags = u8::from(self.previous.is_some())
            | u8::from(self.content_type.is_some()) << 1
            | u8::from(self.jump.is_some()) << 2;
        into.push(flags);
        self.previous.into_iter().chain(self.jump).for_each(|id| put_id(into, id));
        into.extend_from_slice(&key_len.to_le_bytes());
        into.extend_from_slice(&type_len.to_le_bytes());
        into.extend_from_slice(&self.key);
        into.extend_from_slice(content_type);
        into.extend_from_slice(&self.value);
    }

    /// The row of these bytes; none if they are not one.
    pub fn decode(bytes: &[u8]) -> Option<RevisionRow> {
        RevisionRow::read(bytes, Bytes::copy_from_slice)
    }

    /// Whether these bytes are a row.
    pub fn is_row(bytes: &[u8]) -> bool {
        RevisionRow::read(bytes, |_| Bytes::new()).is_some()
    }

    fn read(bytes: &[u8], copy: fn(&[u8]) -> Bytes) -> Option<RevisionRow> {
        let mut reader = Reader(bytes);
        if reader.byte()? != LAYOUT {
            return None;
        }
        let create_revision = Revision(reader.u64()?);
        let (version, lease, flags) = (reader.u64()?, reader.u64()?, reader.byte()?);
        let previous = if flags & 1 != 0 { Some(reader.id()?) } else { None };
        let jump = if flags & 4 != 0 { Some(reader.id()?) } else { None };
        let (key_len, type_len) = (reader.u16()?, reader.u16()?);
        let key = copy(reader.take(usize::from(key_len))?);
        let content_type = std::str::from_utf8(reader.take(usize::from(type_len))?).ok()?;
        Some(RevisionRow {
            key,
            value: copy(reader.0),
            content_type: (flags & 2 != 0).then(|| content_type.to_owned()),
            create_revision,
            version,
            lease,
            previous,
            jump,
        })
    }
}

fn put_id(into: &mut Vec<u8>, id: RowId) {
    into.extend_from_slice(&id.revision.0.to_le_bytes());
    into.extend_from_slice(&id.sub.to_le_bytes());
}

/// Takes numbers off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<RowId> {
        Some(RowId { revision: Revision(self.u64()?), sub: self.u32()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> RevisionRow {
        RevisionRow {
            key: Bytes::from_static(b"a/\xff"),
            value: Bytes::from_static(b"value"),
            content_type: Some("text/plain".to_owned()),
            create_revision: Revision(3),
            version: 7,
            lease: 0,
            previous: Some(RowId { revision: Revision(9), sub: 2 }),
            jump: Some(RowId { revision: Revision(4), sub: 0 }),
        }
    }

    #[test]
    fn a_row_comes_back_from_its_bytes() {
        let mut bytes = Vec::new();
        row().encode(&mut bytes);
        assert_eq!(RevisionRow::decode(&bytes), Some(row()));
        let key = KeyRow {
            newest: RowId { revision: Revision(u64::MAX), sub: 1 },
            create_revision: Revision(2),
            version: 3,
            lease: 4,
            roots: Roots::new(1, vec![(RowId { revision: Revision(8), sub: 2 }, 3)]).unwrap(),
        };
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        assert_eq!(KeyRow::decode(&bytes), Some(key));
    }

    #[test]
    fn no_cut_of_a_row_is_taken_for_one() {
        let mut bytes = Vec::new();
        RevisionRow { value: Bytes::new(), ..row() }.encode(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(RevisionRow::decode(&bytes[..end]), None);
        }
        bytes[0] = 9;
        assert_eq!(RevisionRow::decode(&bytes), None, "another layout");
        assert!(is_of_newer_layout(&bytes));
    }
}
