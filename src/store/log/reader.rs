//! The log, for everybody who reads it.

use std::sync::Arc;

use parking_lot::RwLock;
use redb::StorageBackend;

use super::recent::{Place, Recent, Whereabouts, spans};
use super::rows::{self, Db};
use super::wal;
use crate::raft::{Entry, Index, LogId, Membership};
use crate::store::error::StoreError;

/// The most bytes of the write-ahead log that are read at once, unless one entry is larger.
const READ_BYTES_MAX: u64 = 1 << 20;

/// What a log and its readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) recent: RwLock<Recent>,
    /// The file of the write-ahead log; none once it is closed.
    pub(super) file: RwLock<Option<Arc<dyn StorageBackend>>>,
}

/// The log, for everybody who reads it. Cheap to clone. Once the log is closed every read fails.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// Entries for a peer that is far behind: the one before `from`, and those from `from` to `to`, until
    /// `max_bytes` are reached. None if the log does not reach back so far any more.
    pub fn fetch(
        &self,
        from: Index,
        to: Index,
        max_bytes: usize,
    ) -> Result<Option<(LogId, Vec<Entry>)>, StoreError> {
        let Some(prev) = self.id_at(from.prev())? else { return Ok(None) };
        match self.read(from, to, max_bytes) {
            Ok(entries) => Ok(Some((prev, entries))),
            // They may have gone meanwhile.
            Err(_) if self.id_at(from.prev())? != Some(prev) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The entries from `from` to `to`, both included; stops after the one with which `max_bytes` are
    /// reached. All of them must be there.
    pub fn read(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let max_bytes = max_bytes.max(1);
        self.unmoved(|_| {
            let (base, stored) = {
                let recent = self.shared.recent.read();
                (recent.base.index, recent.stored)
            };
            if from > to {
                return Ok(Vec::new());
            }
            if from <= base {
                return Err(StoreError::missing_entry(from));
            }
            let mut entries = match from <= stored {
                true => self.shared.db.entries(from, to.min(stored), max_bytes)?,
                false => Vec::new(),
            };
            let bytes: usize = entries.iter().map(Entry::cost_bytes).sum();
            if to > stored && bytes < max_bytes {
                self.read_recent(from.max(stored.next()), to, max_bytes - bytes, &mut entries)?;
            }
            Ok(entries)
        })
    }

    /// Adds entries that are in the write-ahead log.
    fn read_recent(
        &self,
        from: Index,
        to: Index,
        max_bytes: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), StoreError> {
        let mut known = 0;
        let places: Vec<(LogId, Place)> = {
            let recent = self.shared.recent.read();
            let is_needed = |(_, place): &(LogId, Place)| {
                let before = known;
                known += place.bytes as usize;
                before < max_bytes
            };
            recent.places(from..=to).take_while(is_needed).collect()
        };
        if places.first().is_none_or(|(id, _)| id.index != from) {
            return Err(StoreError::missing_entry(from));
        }
        let file = self.file()?;
        let (mut part, mut bytes) = (Vec::new(), 0);
        for span in spans(&places, READ_BYTES_MAX) {
            let [(_, first), ..] = span else { continue };
            let start = first.at();
            let end = span.last().map_or(start, |(_, last)| last.at() + u64::from(last.bytes));
            part.resize(usize::try_from(end - start).unwrap_or(usize::MAX), 0);
            file.read(start, &mut part).map_err(wal::failed)?;
            for (id, place) in span {
                let at = usize::try_from(place.at() - start).unwrap_or(usize::MAX);
                let entry = rows::decode(id.index, &part[at..][..place.bytes as usize])?;
                if entry.id != *id {
                    return Err(rows::corrupt(id.index, "it is another one's"));
                }
                bytes += entry.cost_bytes();
                entries.push(entry);
                if bytes >= max_bytes {
                    return Ok(());
                }
            }
        }
        match places.last() {
            Some((last, _)) if last.index < to && known < max_bytes => {
                Err(StoreError::missing_entry(last.index.next()))
            }
            _ => Ok(()),
        }
    }

    /// The id of the entry at `index`, or of the one before the log's beginning; none if the log does
    /// not know it.
    pub fn id_at(&self, index: Index) -> Result<Option<LogId>, StoreError> {
        self.file()?;
        self.unmoved(|recent| match recent.find(index) {
            Whereabouts::Base(id) | Whereabouts::Recent(id) => Ok(Some(id)),
            Whereabouts::Nowhere => Ok(None),
            Whereabouts::Row => match self.shared.db.entry(index)? {
                Some(entry) => Ok(Some(entry.id)),
                None => Err(StoreError::missing_entry(index)),
            },
        })
    }

    /// Reads something as it is at one moment: again, if anything of the log has moved or gone meanwhile.
    fn unmoved<T>(
        &self,
        read: impl Fn(&RecentView<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let now = || {
                let recent = self.shared.recent.read();
                (recent.version, recent.base)
            };
            let before = now();
            let found = read(&RecentView(&self.shared.recent));
            let after = now();
            // What is not needed any more may have gone from under a read; what was read of it is right.
            if before.0 == after.0 && (found.is_ok() || before.1 == after.1) {
                return found;
            }
        }
    }

    /// The index of the last entry; of the one before the log's beginning if it holds none.
    pub fn last(&self) -> Result<Index, StoreError> {
        self.file()?;
        Ok(self.shared.recent.read().last())
    }

    /// All memberships that the log holds, by the index of their entries.
    pub fn memberships(&self) -> Result<Vec<(Index, Membership)>, StoreError> {
        self.file()?;
        let recent = self.shared.recent.read();
        let all = recent.memberships.iter();
        Ok(all.map(|(index, membership)| (*index, membership.clone())).collect())
    }

    /// The file of the write-ahead log, unless the log is closed.
    fn file(&self) -> Result<Arc<dyn StorageBackend>, StoreError> {
        self.shared.file.read().clone().ok_or_else(rows::closed)
    }
}

/// Looks something up without keeping the lock: what is found may need the disk, and who writes the log must not wait for that.
struct RecentView<'a>(&'a RwLock<Recent>);

impl RecentView<'_> {
    fn find(&self, index: Index) -> Whereabouts {
        self.0.read().find(index)
    }
}
