//! How the numbers of a history look in the store: the names of keys and the bytes of values.

use bytes::Bytes;

use crate::check::history::{ALIEN, KEYS_MAX};

/// Some values are padded to so many bytes, so that log and state meet small and larger ones.
const SIZES: [usize; 4] = [0, 40, 200, 1000];
/// What stands between a value's number and its padding.
const PADDING: u8 = b'.';

/// The keys of one run.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    count: u32,
}

impl Names {
    /// `count` keys under a prefix, at most [`KEYS_MAX`].
    pub(super) fn new(prefix: String, count: u32) -> Names {
        Names { prefix, count: count.min(KEYS_MAX) }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A key's name; names are in the order of their numbers. That of `count` ends a range.
    pub(super) fn key(&self, number: u32) -> String {
        format!("{}{number:04}", self.prefix)
    }

    /// The number of a name; none if it is no key's.
    pub(super) fn number(&self, name: &[u8]) -> Option<u32> {
        let digits = name.strip_prefix(self.prefix.as_bytes())?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (number < self.count && self.key(number).as_bytes() == name).then_some(number)
    }
}

/// A value's bytes.
pub(super) fn value(number: u64) -> Bytes {
    let mut bytes = number.to_string().into_bytes();
    let size = SIZES[usize::try_from(number % 64).unwrap_or_default() / 16];
    bytes.resize(size.max(bytes.len()), PADDING);
    bytes.into()
}

/// The number of a value, or [`ALIEN`] if no client writes those bytes.
pub(super) fn number_of(bytes: &[u8]) -> u64 {
    let end = bytes.iter().position(|byte| *byte == PADDING).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    match text.parse() {
        Ok(number) if value(number) == bytes => number,
        _ => ALIEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_way_there_and_back() {
        let names = Names::new("p/".to_owned(), KEYS_MAX);
        for key in 0..names.count() {
            assert_eq!(names.number(names.key(key).as_bytes()), Some(key));
            assert!(names.key(key) < names.key(key + 1));
        }
        for name in [&b"p/x"[..], b"p/1", b"p/+001", b"q/0001", b"p/00001", b"p/"] {
            assert_eq!(names.number(name), None, "{}", name.escape_ascii());
        }
        assert_eq!(names.number(names.key(names.count()).as_bytes()), None);
        for number in (1..200).chain([u64::MAX]) {
            assert_eq!(number_of(&value(number)), number);
        }
    }

    #[test]
    fn whatever_is_not_a_whole_value_is_nobodys() {
        for bytes in [&b""[..], b"x", b"01", b"+1", b"1.", b"16", b"\xff", b"0."] {
            assert_eq!(number_of(bytes), ALIEN, "{}", bytes.escape_ascii());
        }
        let whole = value(63);
        assert_eq!(number_of(&whole[..whole.len() - 1]), ALIEN);
    }
}
