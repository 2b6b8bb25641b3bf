//! Where the state stands beside its rows.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::auth::Access;
use super::level::FeatureLevel;
use super::record::{self, RecordKey};
use super::revision::Revision;
use super::settings::Settings;
use super::unreadable::Unreadable;

/// The counters that every command moves on, together with the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The store's revision. That of an empty store is 1.
    pub revision: Revision,
    /// A hash chained over every change: equal on all replicas at the same index.
    pub hash: u64,
    /// The oldest revision that can be read; 0: none was compacted. Of what happened up to it, what each key was then is
    /// still there, and so are the deletions of that revision itself. Nothing else counts: neither what was superseded by
    /// then, nor a key that was deleted before, whether or not the rows that say so are gone already.
    pub compacted: Revision,
    /// The cluster's clock, in milliseconds since it began: the time that it had a leader. It stands still without one, and
    /// no wall clock moves it. The newest command's, or that of one before it where that is later.
    pub clock_ms: u64,
    /// The cluster's feature level.
    pub level: FeatureLevel,
    /// The settings that the cluster has agreed on; none before it did.
    pub settings: Option<Settings>,
    /// Who may do what.
    pub access: Arc<Access>,
}

impl Default for Counters {
    /// Of an empty store.
    fn default() -> Counters {
        Counters {
            revision: Revision(1),
            hash: 0,
            compacted: Revision(0),
            clock_ms: 0,
            level: FeatureLevel::BASE,
            settings: None,
            access: Access::initial(),
        }
    }
}

impl Counters {
    /// Takes up what records hold of them; `record` finds one.
    ///
    /// # Errors
    /// A record that cannot be read, and that of a feature level beyond `highest`.
    pub fn with_records<E: From<Unreadable>>(
        self,
        highest: FeatureLevel,
        record: impl Fn(&RecordKey) -> Result<Option<Bytes>, E>,
    ) -> Result<Counters, E> {
        let clock_ms = record::decode_clock(record(&RecordKey::clock())?.as_deref())?;
        let level = record::decode_level(record(&RecordKey::level())?.as_deref())?;
        let level = level.map(|raised| raised.known(highest)).transpose()?;
        let settings = record::decode_settings(record(&RecordKey::settings())?.as_deref())?;
        let access = record::decode_access(record(&RecordKey::access())?.as_deref())?;
        let (level, access) = (level.unwrap_or_default(), Arc::new(access));
        Ok(Counters { clock_ms, level, settings, access, ..self })
    }

    /// The record of the clock, if that has moved since.
    pub fn clock_record(&self, before: &Counters) -> Option<(RecordKey, Bytes)> {
        let moved = self.clock_ms != before.clock_ms;
        moved.then(|| (RecordKey::clock(), record::encode_clock(self.clock_ms)))
    }

    pub(super) fn mix(&mut self, bytes: &[u8]) {
        self.hash = xxh3_64_with_seed(bytes, self.hash);
    }

    pub(super) fn advance_clock(&mut self, clock_ms: u64) {
        if clock_ms > self.clock_ms {
            self.clock_ms = clock_ms;
            self.mix(&clock_ms.to_le_bytes());
        }
    }
}
