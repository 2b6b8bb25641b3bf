//! The records of a file that are no rows: its format, and one each of what the file keeps besides.

use std::path::Path;

use redb::{ReadableTable, Table, TableDefinition, TableHandle};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::sealed;

/// Name → record.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The version of the databases that this release reads and writes; see that of the identity.
pub(super) const FORMAT: u32 = 3;
/// The oldest one that it reads: that of a log without a write-ahead log, which gets one.
const OLDEST: u32 = 2;
/// A number of four bytes, sealed; the same in every format, so that each release can read it.
const FORMAT_KEY: &str = "format";

/// The first byte of every record but the format: the version of its layout.
const LAYOUT: u8 = 1;

/// Says that the file is of this release's format.
pub(super) fn put_format(
    meta: &mut Table<'_, &str, &[u8]>,
    what: &'static str,
) -> Result<(), StoreError> {
    put_bytes(meta, what, FORMAT_KEY, FORMAT.to_le_bytes().to_vec())
}

/// Says that the file is of another format.
#[cfg(test)]
pub(super) fn put_other_format(meta: &mut Table<'_, &str, &[u8]>, format: u32) {
    put_bytes(meta, "test", FORMAT_KEY, format.to_le_bytes().to_vec()).unwrap();
}

/// Refuses a file of another format.
pub(super) fn check_format(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    what: &'static str,
    path: &str,
) -> Result<(), StoreError> {
    let found = get_bytes(meta, what, FORMAT_KEY, |bytes| bytes.try_into().ok())?;
    match u32::from_le_bytes(found) {
        OLDEST..=FORMAT => Ok(()),
        found => Err(StoreError::other_format(Path::new(path), found, FORMAT)),
    }
}

/// Sets a record.
pub(super) fn put<T: Serialize>(
    meta: &mut Table<'_, &str, &[u8]>,
    what: &'static str,
    key: &'static str,
    value: &T,
) -> Result<(), StoreError> {
    let bytes = postcard::to_extend(value, vec![LAYOUT])
        .map_err(|error| StoreError::damaged(what, format!("{key}: {error}")))?;
    put_bytes(meta, what, key, bytes)
}

/// A record. All are written when the file is made: one that is missing is lost.
pub(super) fn get<T: DeserializeOwned>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    what: &'static str,
    key: &'static str,
) -> Result<T, StoreError> {
    let read = |bytes: &[u8]| match bytes.split_first()? {
        (&LAYOUT, value) => postcard::from_bytes(value).ok().map(Some),
        (&newer, _) if newer > LAYOUT => Some(None),
        _ => None,
    };
    let newer = || StoreError::NewerRow { which: format!("the record {key:?} of the {what}") };
    get_bytes(meta, what, key, read)?.ok_or_else(newer)
}

/// A record that a file may lack.
pub(super) fn find<T: DeserializeOwned>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    what: &'static str,
    key: &'static str,
) -> Result<Option<T>, StoreError> {
    let found = meta.get(key).map_err(|error| StoreError::database(what, error))?;
    if found.is_none() { Ok(None) } else { get(meta, what, key).map(Some) }
}

fn put_bytes(
    meta: &mut Table<'_, &str, &[u8]>,
    what: &'static str,
    key: &'static str,
    mut bytes: Vec<u8>,
) -> Result<(), StoreError> {
    sealed::seal(META.name(), key.as_bytes(), &mut bytes);
    meta.insert(key, &bytes[..]).map_err(|error| StoreError::database(what, error))?;
    Ok(())
}

fn get_bytes<T>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    what: &'static str,
    key: &'static str,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, StoreError> {
    let damaged = |why| StoreError::damaged(what, format!("the record {key:?} {why}"));
    let found = meta.get(key).map_err(|error| StoreError::database(what, error))?;
    let found = found.ok_or_else(|| damaged("is missing"))?;
    let bytes = sealed::unseal(META.name(), key.as_bytes(), found.value());
    decode(bytes.ok_or_else(|| damaged("has a wrong checksum"))?)
        .ok_or_else(|| damaged("cannot be read"))
}
