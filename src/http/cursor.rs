//! Where a listing goes on: opaque to clients, checked when it comes back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::error::{Kind, Problem};
use super::query::Query;
use crate::kv::{KEY_BYTES_MAX, KeyRange, Page, RangeQuery, Revision};

/// The format of the bytes within; another one is refused.
const FORMAT: u8 = 2;
const CHECKSUM_BYTES: usize = 4;
/// Two keys, the numbers beside them and the checksum, in base64.
const ENCODED_BYTES_MAX: usize = (2 * KEY_BYTES_MAX + 64) * 4 / 3;

/// The rest of a listing. It fixes the revision, so that all pages show one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub(crate) revision: Revision,
    pub(crate) range: KeyRange,
    pub(crate) descending: bool,
    pub(crate) keys_only: bool,
    pub(crate) bounds: Bounds,
}

/// Checksums of the parameters that gave a listing its range, so that a cursor is not taken for another listing's. A
/// parameter that is missing is as one that is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds([u32; 3]);

impl Bounds {
    const NAMES: [&str; 3] = ["prefix", "start", "end"];

    pub(crate) fn of(query: &Query) -> Bounds {
        Bounds(
            Bounds::NAMES.map(|name| query.bytes(name).map_or(0, |value| crc32fast::hash(value))),
        )
    }
}

impl Cursor {
    /// What is left after a page, if anything is.
    pub(crate) fn after(query: &RangeQuery, page: &Page, bounds: Bounds) -> Option<Cursor> {
        Some(Cursor {
            revision: page.revision,
            range: page.rest.clone()?,
            descending: query.descending,
            keys_only: query.keys_only,
            bounds,
        })
    }

    /// Refuses a query beside the cursor that asks for another listing. What it does not say is as it was.
    pub(crate) fn check(&self, query: &Query) -> Result<(), Problem> {
        let mut others = Vec::new();
        for (name, was) in Bounds::NAMES.into_iter().zip(self.bounds.0) {
            if query.bytes(name).is_some_and(|given| crc32fast::hash(given) != was) {
                others.push(name);
            }
        }
        if query.descending()?.is_some_and(|given| given != self.descending) {
            others.push("order");
        }
        if query.flag("keys_only")?.is_some_and(|given| given != self.keys_only) {
            others.push("keys_only");
        }
        if query.revision("revision")?.is_some_and(|given| given != self.revision) {
            others.push("revision");
        }
        if others.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "the cursor is of a listing with another {}; give what the listing was asked for with, or nothing, or begin \
             anew without the cursor",
            others.join(" and another ")
        );
        Err(Problem::new(Kind::InvalidParameter, detail))
    }

    /// As clients carry it.
    pub(crate) fn encode(&self) -> String {
        // Serializing plain data into memory cannot fail; an empty cursor would be refused.
        let mut bytes = postcard::to_stdvec(&(FORMAT, self)).unwrap_or_default();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that a client gives back.
    pub(crate) fn decode(encoded: &[u8]) -> Result<Cursor, Problem> {
        Cursor::checked(encoded).ok_or_else(|| {
            Problem::new(
                Kind::InvalidCursor,
                "the cursor is not one that a listing gave; begin the listing anew without it",
            )
        })
    }

    fn checked(encoded: &[u8]) -> Option<Cursor> {
        if encoded.len() > ENCODED_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (content, checksum) =
            bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        if crc32fast::hash(content).to_le_bytes() != checksum || content.first() != Some(&FORMAT) {
            return None;
        }
        let (_, cursor): (u8, Cursor) = postcard::from_bytes(content).ok()?;
        // Revisions begin at 1.
        (cursor.revision > Revision(0)).then_some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    fn cursor() -> Cursor {
        Cursor {
            revision: Revision(9),
            range: KeyRange { start: Bytes::from_static(b"a\0"), end: Some("b".into()) },
            descending: false,
            keys_only: true,
            bounds: Bounds([1, 0, u32::MAX]),
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        assert_eq!(Cursor::decode(cursor().encode().as_bytes()).unwrap(), cursor());
    }

    #[test]
    fn the_longest_cursor_is_within_the_bound() {
        let key = Bytes::from(vec![0xff; KEY_BYTES_MAX]);
        let start = Bytes::from(vec![0xff; KEY_BYTES_MAX + 1]);
        let longest = Cursor {
            revision: Revision(u64::MAX),
            range: KeyRange { start, end: Some(key) },
            bounds: Bounds([u32::MAX; 3]),
            ..cursor()
        };
        assert!(Cursor::decode(longest.encode().as_bytes()).is_ok());
    }

    #[test]
    fn another_format_is_refused() {
        let mut bytes = postcard::to_stdvec(&(FORMAT + 1, cursor())).unwrap();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        assert!(Cursor::decode(URL_SAFE_NO_PAD.encode(bytes).as_bytes()).is_err());
    }

    #[test]
    fn a_revision_that_no_store_has_is_refused() {
        let of = |revision| Cursor { revision: Revision(revision), ..cursor() }.encode();
        assert!(Cursor::decode(of(1).as_bytes()).is_ok());
        assert!(Cursor::decode(of(0).as_bytes()).is_err());
    }

    #[test]
    fn a_cursor_is_the_rest_of_a_page_with_or_without_items() {
        let query = RangeQuery {
            range: KeyRange::prefix(b"k"),
            at: None,
            descending: true,
            keys_only: true,
            items_max: 1,
            bytes_max: 1,
        };
        let rest = KeyRange { start: "k".into(), end: Some("k5".into()) };
        let page = Page { revision: Revision(9), items: Vec::new(), rest: Some(rest.clone()) };
        let bounds = Bounds([1, 2, 3]);
        let expected = Cursor {
            revision: Revision(9),
            range: rest,
            descending: true,
            keys_only: true,
            bounds,
        };
        assert_eq!(Cursor::after(&query, &page, bounds), Some(expected));
        assert_eq!(Cursor::after(&query, &Page { rest: None, ..page }, bounds), None);
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Cursor::decode(&bytes).is_err());
            prop_assert!(Cursor::decode(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()).is_err());
        }

        #[test]
        fn a_changed_character_is_refused(position in 0_usize..27, character in "[A-Za-z0-9_-]") {
            let encoded = cursor().encode();
            let mut changed = encoded.clone();
            changed.replace_range(position..=position, &character);
            prop_assert_eq!(Cursor::decode(changed.as_bytes()).is_ok(), changed == encoded);
        }
    }
}
