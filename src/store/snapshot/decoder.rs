//! Whether pieces are a snapshot: each in its place, each row as it was sealed, all of them there.

use redb::TableHandle;
use xxhash_rust::xxh3::Xxh3;

use super::pieces::{
    self, END, End, FORMAT, HEAD, Head, KEY_ROWS, RECORD_ROWS, REVISION_ROWS, pop,
};
use crate::kv::{self, FeatureLevel, KeyRow, Revision, RevisionRow, RowId, Unreadable};
use crate::store::error::StoreError;
use crate::store::sealed;
use crate::store::state::position::Position;
use crate::store::state::tables::{KEYS, RECORDS, REVISIONS};

/// Why a snapshot cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// It is not what a snapshot looks like. The state is as it was.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// It was written by another release.
    #[error("the snapshot has format {0}; this release knows format {FORMAT}")]
    Format(u32),
    /// It has a piece of a kind that came later.
    #[error("the snapshot has pieces of kind {0}: it was written by a newer release than konsen {own}", own = env!("CARGO_PKG_VERSION"))]
    NewerPiece(u8),
    /// A record in it cannot be read.
    #[error("a record of the snapshot: {0}")]
    Record(Unreadable),
    /// Another one is coming in.
    #[error("another snapshot is coming in")]
    Busy,
    /// There is no room for it on the disk. The state is as it was.
    #[error("there is no room for the snapshot on the disk")]
    NoRoom,
    /// The disk failed, which is final.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A row as a piece holds it: sound, and still sealed.
pub(super) enum Row<'a> {
    Key(&'a [u8], &'a [u8]),
    Revision(RowId, &'a [u8]),
    Record((u16, &'a [u8]), &'a [u8]),
}

/// What has come of a snapshot so far.
pub(super) struct Sequence {
    /// The highest feature level that is known.
    highest: FeatureLevel,
    position: Option<Position>,
    before: Before,
    had: End,
    live_keys: u64,
    digest: Xxh3,
}

/// What came last: pieces and rows come in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Nothing,
    Head,
    Keys,
    Revisions,
    Records,
    End,
}

impl Sequence {
    /// One that has not begun, for a node that knows all feature levels up to `highest`.
    pub(super) fn new(highest: FeatureLevel) -> Sequence {
        Sequence {
            highest,
            position: None,
            before: Before::default(),
            had: End::default(),
            live_keys: 0,
            digest: Xxh3::default(),
        }
    }

    /// Where in the history it stands, once the first piece is here.
    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether the last piece is here.
    pub(super) fn is_whole(&self) -> bool {
        self.before == Before::End
    }

    /// How many rows came.
    pub(super) fn had(&self) -> End {
        self.had
    }

    /// Of how many keys that exist.
    pub(super) fn live_keys(&self) -> u64 {
        self.live_keys
    }

    /// Takes the next piece, and hands its rows over one by one, each once it is checked. After an error no
    /// more pieces may follow.
    pub(super) fn take<'a>(
        &mut self,
        piece: &'a [u8],
        row: impl FnMut(Row<'a>) -> Result<(), IncomingError>,
    ) -> Result<(), IncomingError> {
        let (&kind, body) = piece.split_first().ok_or(IncomingError::Damaged("an empty piece"))?;
        let in_order = match kind {
            HEAD => self.before == Before::Nothing,
            KEY_ROWS => matches!(self.before, Before::Head | Before::Keys),
            REVISION_ROWS => {
                matches!(self.before, Before::Head | Before::Keys | Before::Revisions)
            }
            RECORD_ROWS | END => !matches!(self.before, Before::Nothing | Before::End),
            kind => return Err(IncomingError::NewerPiece(kind)),
        };
        if !in_order {
            return Err(IncomingError::Damaged("a piece out of order"));
        }
        match kind {
            HEAD => self.take_head(body)?,
            KEY_ROWS => self.take_keys(body, row)?,
            REVISION_ROWS => self.take_revisions(body, row)?,
            RECORD_ROWS => self.take_records(body, row)?,
            _ => return self.take_end(body),
        }
        self.digest.update(piece);
        Ok(())
    }

    fn take_head(&mut self, body: &[u8]) -> Result<(), IncomingError> {
        // The format first: a newer one may look quite different after it.
        let (format, _) = postcard::take_from_bytes::<u32>(body)
            .map_err(|_| IncomingError::Damaged("its head cannot be read"))?;
        if format != FORMAT {
            return Err(IncomingError::Format(format));
        }
        let head: Head = postcard::from_bytes(body)
            .map_err(|_| IncomingError::Damaged("its head cannot be read"))?;
        let position = Position::from(head.position);
        if position.membership.is_none() {
            return Err(IncomingError::Damaged("it names no members"));
        }
        self.position = Some(position);
        self.before = Before::Head;
        Ok(())
    }

    fn take_keys<'a>(
        &mut self,
        mut body: &'a [u8],
        mut take: impl FnMut(Row<'a>) -> Result<(), IncomingError>,
    ) -> Result<(), IncomingError> {
        while !body.is_empty() {
            let (key, row) = pop(&mut body).ok_or(IncomingError::Damaged("a row is cut off"))?;
            let sound = sealed::unseal(KEYS.name(), key, row).and_then(KeyRow::decode);
            let sound =
                sound.ok_or(IncomingError::Damaged("a row of a key is not what was written"))?;
            take(Row::Key(key, row))?;
            self.had.keys += 1;
            self.live_keys += u64::from(sound.is_live());
        }
        self.before = Before::Keys;
        Ok(())
    }

    fn take_revisions<'a>(
        &mut self,
        mut body: &'a [u8],
        mut take: impl FnMut(Row<'a>) -> Result<(), IncomingError>,
    ) -> Result<(), IncomingError> {
        while !body.is_empty() {
            let (key, row) = pop(&mut body).ok_or(IncomingError::Damaged("a row is cut off"))?;
            let id = row_id(key).ok_or(IncomingError::Damaged("a revision is cut off"))?;
            if !sealed::unseal(REVISIONS.name(), key, row).is_some_and(RevisionRow::is_row) {
                return Err(IncomingError::Damaged("a row of a revision is not what was written"));
            }
            take(Row::Revision(id, row))?;
            self.had.revisions += 1;
        }
        self.before = Before::Revisions;
        Ok(())
    }

    fn take_records<'a>(
        &mut self,
        mut body: &'a [u8],
        mut take: impl FnMut(Row<'a>) -> Result<(), IncomingError>,
    ) -> Result<(), IncomingError> {
        while !body.is_empty() {
            let (sealed_key, row) =
                pop(&mut body).ok_or(IncomingError::Damaged("a record is cut off"))?;
            let (kind, key) = sealed_key
                .split_first_chunk()
                .ok_or(IncomingError::Damaged("the kind of a record is cut off"))?;
            let kind = u16::from_le_bytes(*kind);
            let record = sealed::unseal(RECORDS.name(), sealed_key, row);
            let record =
                record.ok_or(IncomingError::Damaged("a record is not what was written"))?;
            kv::check_record(kind, key, record, self.highest).map_err(IncomingError::Record)?;
            take(Row::Record((kind, key), row))?;
            self.had.records += 1;
        }
        self.before = Before::Records;
        Ok(())
    }

    fn take_end(&mut self, body: &[u8]) -> Result<(), IncomingError> {
        // Byte for byte: nothing follows the end, and nothing says the same in other bytes.
        let end = pieces::encode(END, &End { digest: self.digest.digest(), ..self.had })?;
        if end[1..] != *body {
            return Err(IncomingError::Damaged("not everything has come as it was sent"));
        }
        self.before = Before::End;
        Ok(())
    }
}

fn row_id(key: &[u8]) -> Option<RowId> {
    let (revision, sub) = key.split_first_chunk::<8>()?;
    let revision = Revision(u64::from_le_bytes(*revision));
    Some(RowId { revision, sub: u32::from_le_bytes(sub.try_into().ok()?) })
}
