//! Keys in paths, and query strings: percent-encoded bytes, never through UTF-8.

use std::time::Duration;

use bytes::Bytes;

use super::error::{Kind, Problem};
use super::headers;
use crate::api::{Consistency, Freshness};
use crate::kv::{KEY_BYTES_MAX, Revision};

/// A percent sign without two hexadecimal digits after it, at this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BrokenEscape(pub(crate) usize);

/// Undoes percent-encoding; in forms and queries `+` is a space.
pub(crate) fn decode(raw: &[u8], plus_is_space: bool) -> Result<Bytes, BrokenEscape> {
    if !raw.iter().any(|&byte| byte == b'%' || (byte == b'+' && plus_is_space)) {
        return Ok(Bytes::copy_from_slice(raw));
    }
    let digit = |position: usize| {
        raw.get(position).and_then(|&byte| char::from(byte).to_digit(16)).map(|digit| digit as u8)
    };
    let mut decoded = Vec::with_capacity(raw.len());
    let mut position = 0;
    while let Some(&byte) = raw.get(position) {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (digit(position + 1), digit(position + 2)) else {
                    return Err(BrokenEscape(position));
                };
                decoded.push(high << 4 | low);
                position += 3;
                continue;
            }
            b'+' if plus_is_space => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        position += 1;
    }
    Ok(decoded.into())
}

/// The key that the rest of a path names.
pub(crate) fn key(raw: &str) -> Result<Bytes, Problem> {
    let key = decode(raw.as_bytes(), false).map_err(|BrokenEscape(position)| {
        Problem::new(
            Kind::InvalidKey,
            format!(
                "broken percent-encoding at byte {position} of the key: % needs two hexadecimal \
                 digits after it, and a plain % is written %25"
            ),
        )
    })?;
    check_key(&key)?;
    Ok(key)
}

/// Checks the length of a key.
pub(crate) fn check_key(key: &[u8]) -> Result<(), Problem> {
    if key.is_empty() {
        return Err(Problem::new(
            Kind::InvalidKey,
            "the key is empty; it must have a byte or more",
        ));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Problem::new(
            Kind::KeyTooLong,
            format!("the key has {} bytes; {KEY_BYTES_MAX} are the most", key.len()),
        ));
    }
    Ok(())
}

/// A query string whose names are all known and all different.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(&'static str, Bytes)>,
}

impl Query {
    /// Takes a query string apart; `known` are the names that the route has.
    pub(crate) fn parse(raw: Option<&str>, known: &[&'static str]) -> Result<Query, Problem> {
        let mut pairs: Vec<(&'static str, Bytes)> = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let broken = |_| {
                let detail = format!("broken percent-encoding in the query parameter {name:?}");
                Problem::new(Kind::InvalidParameter, detail)
            };
            let decoded = decode(name.as_bytes(), true).map_err(broken)?;
            let Some(&name) = known.iter().find(|known| known.as_bytes() == decoded) else {
                let known = match known {
                    [] => "this request takes none".to_owned(),
                    _ => format!("known here: {}", known.join(", ")),
                };
                let name = String::from_utf8_lossy(&decoded);
                let detail = format!("unknown query parameter {name:?}; {known}");
                return Err(Problem::new(Kind::UnknownParameter, detail));
            };
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                let detail = format!("the query parameter {name:?} is there twice");
                return Err(Problem::new(Kind::InvalidParameter, detail));
            }
            pairs.push((name, decode(value.as_bytes(), true).map_err(broken)?));
        }
        Ok(Query { pairs })
    }

    /// The bytes of a parameter.
    pub(crate) fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.pairs.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    fn parsed<T>(
        &self,
        name: &str,
        right: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.bytes(name) else { return Ok(None) };
        match std::str::from_utf8(value).ok().and_then(parse) {
            Some(parsed) => Ok(Some(parsed)),
            None => {
                let value = String::from_utf8_lossy(value);
                let detail = format!("the query parameter {name} is {value:?}; it must be {right}");
                Err(Problem::new(Kind::InvalidParameter, detail))
            }
        }
    }

    /// A number of at least 1.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.parsed(name, "a whole number of 1 or more", |text| {
            text.parse().ok().filter(|&number| number > 0)
        })
    }

    /// A revision: 1, that of an empty store, or more.
    pub(crate) fn revision(&self, name: &str) -> Result<Option<Revision>, Problem> {
        self.parsed(name, "a revision, and revisions begin at 1", |text| {
            text.parse().ok().filter(|&number| number > 0).map(Revision)
        })
    }

    /// `true` or `false`; the bare name means true.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.parsed(name, "true or false", |text| match text {
            "" | "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// A time such as `30s`.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, Problem> {
        self.parsed(name, "a time between 1ms and 5m, such as 30s", headers::duration)
    }

    /// `order`: whether it is descending.
    pub(crate) fn descending(&self) -> Result<Option<bool>, Problem> {
        self.parsed("order", "asc or desc", |text| match text {
            "asc" => Some(false),
            "desc" => Some(true),
            _ => None,
        })
    }

    /// `consistency`.
    pub(crate) fn consistency(&self) -> Result<Consistency, Problem> {
        let consistency =
            self.parsed("consistency", "linearizable, lease or stale", |text| match text {
                "linearizable" => Some(Consistency::Linearizable),
                "lease" => Some(Consistency::Lease),
                "stale" => Some(Consistency::Stale),
                _ => None,
            })?;
        Ok(consistency.unwrap_or_default())
    }

    /// `consistency`, `revision` and `min_revision`.
    pub(crate) fn freshness(&self) -> Result<Freshness, Problem> {
        Ok(Freshness {
            consistency: self.consistency()?,
            at: self.revision("revision")?,
            min_revision: self.revision("min_revision")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bytes() {
        assert_eq!(key("a/b//c").unwrap(), "a/b//c");
        assert_eq!(key("/").unwrap(), "/");
        assert_eq!(key("%00%ff+%2F%25").unwrap(), &b"\0\xff+/%"[..]);
    }

    #[test]
    fn broken_keys_are_refused() {
        for broken in ["%", "a%2", "%zz", "%%20", "%+1"] {
            assert_eq!(key(broken).unwrap_err().kind(), Kind::InvalidKey, "{broken}");
        }
        assert_eq!(key("").unwrap_err().kind(), Kind::InvalidKey);
        assert!(key(&"x".repeat(KEY_BYTES_MAX)).is_ok());
        assert!(key(&"%41".repeat(KEY_BYTES_MAX)).is_ok());
        assert_eq!(key(&"x".repeat(KEY_BYTES_MAX + 1)).unwrap_err().kind(), Kind::KeyTooLong);
    }

    #[test]
    fn queries_are_bytes_with_plus_as_space() {
        let query = Query::parse(Some("prefix=a+b%ff&limit=3&&end="), &["prefix", "limit", "end"]);
        let query = query.unwrap();
        assert_eq!(query.bytes("prefix").unwrap(), &b"a b\xff"[..]);
        assert_eq!(query.positive("limit").unwrap(), Some(3));
        assert_eq!(query.bytes("end").unwrap(), "");
        assert_eq!(query.bytes("start"), None);
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let problem = Query::parse(Some("prefx=a"), &["prefix", "limit"]).unwrap_err();
        assert_eq!(problem.kind(), Kind::UnknownParameter);
        assert_eq!(
            problem.detail(),
            "unknown query parameter \"prefx\"; known here: prefix, limit"
        );
        let problem = Query::parse(Some("ttl=3s"), &[]).unwrap_err();
        assert!(problem.detail().ends_with("this request takes none"));
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_name() {
        let known = &["limit", "revision", "keys_only", "order", "consistency", "wait"];
        for raw in [
            "limit=0",
            "limit=-1",
            "limit=",
            "limit=x",
            "limit=99999999999999999999",
            "revision=0",
            "keys_only=yes",
            "order=up",
            "consistency=strong",
            "wait=10",
            "wait=1h",
            "limit=%zz",
            "limit=1&limit=2",
        ] {
            let result = Query::parse(Some(raw), known).and_then(|query| {
                query.positive("limit")?;
                query.revision("revision")?;
                query.flag("keys_only")?;
                query.descending()?;
                query.consistency()?;
                query.duration("wait")
            });
            let problem = result.unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidParameter, "{raw}");
            assert!(problem.detail().contains(raw.split('=').next().unwrap()), "{raw}");
        }
    }

    #[test]
    fn revisions_begin_at_1() {
        let of = |raw| Query::parse(Some(raw), &["revision"]).unwrap().revision("revision");
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of("revision=1").unwrap(), Some(Revision(1)));
        for raw in ["revision=0", "revision=-1", "revision=x", "revision="] {
            let problem = of(raw).unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidParameter, "{raw}");
            assert!(problem.detail().ends_with("revisions begin at 1"), "{}", problem.detail());
        }
    }
}
