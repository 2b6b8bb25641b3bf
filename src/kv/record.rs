//! Records: what the state keeps besides keys, each by its kind and a key of its own. They have no history.
//!
//! A kind is known to this module alone: storing, sending, saving and comparing records goes by bytes. Each record begins
//! with the version of its layout.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::anchor::{self, Anchored};
use super::auth::{Access, Stated};
use super::level::FeatureLevel;
use super::settings::Settings;
use super::unreadable::Unreadable;

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What it is.
    pub kind: u16,
    /// Which one of that kind.
    pub key: Bytes,
}

/// The kind of the cluster's clock: one record.
const CLOCK: u16 = 1;
/// The kind of the cluster's feature level, and of who raised it: one record, once it was raised.
const LEVEL: u16 = 2;
/// The kind of the settings that the cluster has agreed on: one record, once it did.
const SETTINGS: u16 = 3;
/// The kind of who may do what: one record, once that was changed.
const ACCESS: u16 = 4;
/// The kind of what nodes have said of their audits: some records a node.
const ANCHOR: u16 = 5;

/// The first byte of every record: the version of its layout.
const LAYOUT: u8 = 1;
/// That of who may do what where certificates are revoked, too.
const LAYOUT_REVOKED: u8 = 2;

/// The cluster's feature level as a record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The level.
    pub level: FeatureLevel,
    /// The release that raised it.
    pub release: String,
}

impl Raised {
    /// The level, if a node knows it that knows all up to `highest`.
    pub(super) fn known(&self, highest: FeatureLevel) -> Result<FeatureLevel, Unreadable> {
        Unreadable::beyond(self.level, highest, &self.release).map(|()| self.level)
    }
}

/// The clock as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    ms: u64,
}

impl RecordKey {
    fn only(kind: u16) -> RecordKey {
        RecordKey { kind, key: Bytes::new() }
    }

    /// The clock's.
    pub fn clock() -> RecordKey {
        RecordKey::only(CLOCK)
    }

    /// The feature level's.
    pub fn level() -> RecordKey {
        RecordKey::only(LEVEL)
    }

    /// That of who may do what.
    pub fn access() -> RecordKey {
        RecordKey::only(ACCESS)
    }

    /// An anchor's.
    pub(super) fn anchor(key: Bytes) -> RecordKey {
        RecordKey { kind: ANCHOR, key }
    }

    /// Those of all anchors: from the first one on and before the second.
    pub fn anchors() -> (RecordKey, RecordKey) {
        (RecordKey::only(ANCHOR), RecordKey::only(ANCHOR + 1))
    }

    /// That of the settings.
    pub fn settings() -> RecordKey {
        RecordKey::only(SETTINGS)
    }
}

/// The record of the clock.
pub(super) fn encode_clock(ms: u64) -> Bytes {
    encode(&Clock { ms })
}

/// The clock of a record; a cluster without one is at its beginning.
pub(super) fn decode_clock(record: Option<&[u8]>) -> Result<u64, Unreadable> {
    Ok(record.map(decode::<Clock>).transpose()?.map_or(0, |clock| clock.ms))
}

/// The record of a feature level.
pub(super) fn encode_level(level: FeatureLevel, release: &str) -> Bytes {
    encode(&Raised { level, release: release.to_owned() })
}

/// The feature level of a record, also one that this release does not know; none: it was never raised.
pub fn decode_level(record: Option<&[u8]>) -> Result<Option<Raised>, Unreadable> {
    record.map(decode).transpose()
}

/// The record of the settings that the cluster has agreed on.
pub(super) fn encode_settings(settings: Settings) -> Bytes {
    encode(&settings)
}

/// The settings of a record; a cluster without one has agreed on none.
pub(super) fn decode_settings(record: Option<&[u8]>) -> Result<Option<Settings>, Unreadable> {
    record.map(decode).transpose()
}

/// The record of who may do what.
pub(super) fn encode_access(access: &Stated) -> Bytes {
    let layout = if access.has_revoked() { LAYOUT_REVOKED } else { LAYOUT };
    access.encode(vec![layout]).map(Bytes::from).unwrap_or_default()
}

/// Who may do what as a record says it; in a cluster without one, as at its beginning.
pub(super) fn decode_access(record: Option<&[u8]>) -> Result<Access, Unreadable> {
    let Some(record) = record else { return Ok(Access::default()) };
    let stated = match record.split_first() {
        Some((&LAYOUT_REVOKED, rest)) => Stated::decode(rest).map_err(|_| UNREADABLE)?,
        _ => decode(record)?,
    };
    Ok(Access::of(stated))
}

/// The record of an anchor.
pub(super) fn encode_anchor(anchored: &Anchored) -> Bytes {
    encode(anchored)
}

/// The anchor of a record.
pub(super) fn decode_anchor(record: &[u8]) -> Result<Anchored, Unreadable> {
    decode(record)
}

/// Whether a node that knows all levels up to `highest` can read a record: one of a kind that it does not know belongs to a
/// later one.
pub fn check_record(
    kind: u16,
    key: &[u8],
    record: &[u8],
    highest: FeatureLevel,
) -> Result<(), Unreadable> {
    match (kind, key) {
        (CLOCK, []) => decode_clock(Some(record)).map(drop),
        (LEVEL, []) => {
            let raised = decode_level(Some(record))?;
            raised.map_or(Ok(()), |raised| raised.known(highest).map(drop))
        }
        (SETTINGS, []) => decode_settings(Some(record)).map(drop),
        (ACCESS, []) => decode_access(Some(record)).map(drop),
        (ANCHOR, key) if anchor::is_key(key) => decode_anchor(record).map(drop),
        (CLOCK | LEVEL | SETTINGS | ACCESS | ANCHOR, _) => {
            Err(Unreadable::Damaged("a record has a key that it cannot have"))
        }
        _ => Err(Unreadable::NewerRecord { kind }),
    }
}

const UNREADABLE: Unreadable = Unreadable::Damaged("a record cannot be read");

fn encode<T: Serialize>(record: &T) -> Bytes {
    // Writing plain data to a growing vector has no way to fail; nothing at all is no record.
    postcard::to_extend(record, vec![LAYOUT]).map(Bytes::from).unwrap_or_default()
}

fn decode<T: for<'a> Deserialize<'a>>(record: &[u8]) -> Result<T, Unreadable> {
    match record.split_first() {
        Some((&LAYOUT, record)) => postcard::from_bytes(record).map_err(|_| UNREADABLE),
        Some((&found, _)) if found > LAYOUT => Err(Unreadable::NewerLayout { found }),
        _ => Err(Unreadable::Damaged("a record has no layout")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::auth::{AccessChange, Serial};
    use super::*;

    #[test]
    fn who_may_do_what_is_read_back_with_and_without_revoked_certificates() {
        let read = |access: &Access| decode_access(Some(&encode_access(access.stated()))).unwrap();
        let access = Access::default();
        assert_eq!(encode_access(access.stated())[0], LAYOUT);
        assert_eq!(read(&access), access);
        let serial = Serial::new(&[7, 8]).unwrap();
        let revoke = AccessChange::Revoke { serial, until: 9, now: 1 };
        let access = access.after(revoke).unwrap().0.unwrap();
        let record = encode_access(access.stated());
        assert_eq!(record[0], LAYOUT_REVOKED);
        assert_eq!(read(&access), access);
        assert_eq!(read(&access).revoked().len(), 1);
        for short in 0..record.len() {
            assert!(decode_access(Some(&record[..short])).is_err(), "{short}");
        }
    }
}
