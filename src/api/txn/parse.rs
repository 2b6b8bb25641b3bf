//! Reads the JSON of a request: strictly, so that no misspelt condition is overlooked, and with the place of what is wrong.
//! What is read is bounded while it is read.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::kind::Kind;
use super::fields::{Fields, FieldsSeed, Place, next_name};
use super::relations::{RELATIONS, relation_of};
use super::{TXN_DEPTH_MAX, TXN_LISTS_MAX, TxnError, TxnLimits, TxnOp, TxnRequest};
use crate::kv::{
    Attach, CONTENT_TYPE_BYTES_MAX, Compare, KEY_BYTES_MAX, KeyRange, Over, Put, Relation,
    Revision, Test,
};

const TXN_NAMES: &[&str] = &["if", "then", "else"];
const OP_NAMES: &[&str] = &["put", "delete", "get", "txn"];
const COMPARE_NAMES: &[&str] = &[
    "key",
    "key_base64",
    "prefix",
    "prefix_base64",
    "start",
    "start_base64",
    "end",
    "end_base64",
    "compare",
    "op",
    "to",
    "to_base64",
];
const PUT_NAMES: &[&str] = &[
    "key",
    "key_base64",
    "value",
    "value_base64",
    "content_type",
    "lease",
    "ttl",
    "keep_value",
    "keep_lease",
    "previous",
];
const DELETE_NAMES: &[&str] = &[
    "key",
    "key_base64",
    "prefix",
    "prefix_base64",
    "start",
    "start_base64",
    "end",
    "end_base64",
    "previous",
];
const GET_NAMES: &[&str] = &[
    "key",
    "key_base64",
    "prefix",
    "prefix_base64",
    "start",
    "start_base64",
    "end",
    "end_base64",
    "limit",
    "keys_only",
];

impl TxnRequest {
    /// The request that these bytes of JSON state, checked.
    ///
    /// # Errors
    /// What is wrong with it, and where; it is not to be carried out.
    pub fn parse(bytes: &[u8], limits: &TxnLimits) -> Result<TxnRequest, TxnError> {
        let reader = Reader { place: Place::new(), limits, read: Cell::new(0) };
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let request = TxnSeed { reader: &reader, depth: 1 }.deserialize(&mut json);
        let request = request.and_then(|request| json.end().map(|()| request));
        let request = request.map_err(|error| {
            let place = reader.place.to_string();
            let colon = if place.is_empty() { "" } else { ": " };
            TxnError::new(reader.place.kind(), format!("{place}{colon}{error}"))
        })?;
        request.check(limits)?;
        Ok(request)
    }
}

/// What all that reads one request shares.
struct Reader<'a> {
    place: Place,
    limits: &'a TxnLimits,
    /// How many compares and operations were read.
    read: Cell<usize>,
}

impl Reader<'_> {
    /// Counts one more, the `count`-th of its list.
    fn count<E: de::Error>(&self, count: usize) -> Result<(), E> {
        let max = self.limits.operations_max;
        let wrong = |what: String| Err(self.place.wrong(Kind::InvalidTransaction, what));
        if count > max {
            return wrong(format!("there are more than {max} in one list (limits.txnOperations)"));
        }
        self.read.set(self.read.get() + 1);
        match self.read.get() > max.saturating_mul(TXN_LISTS_MAX) {
            true => wrong(format!(
                "there are more than {TXN_LISTS_MAX} times {max} (limits.txnOperations) compares and operations in all"
            )),
            false => Ok(()),
        }
    }
}

/// Reads a transaction.
#[derive(Clone, Copy)]
struct TxnSeed<'a> {
    reader: &'a Reader<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for TxnSeed<'_> {
    type Value = TxnRequest;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TxnRequest, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TxnSeed<'_> {
    type Value = TxnRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            r#"a transaction such as {"if":[],"then":[{"put":{"key":"a","value":"1"}}],"else":[]}"#,
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TxnRequest, A::Error> {
        let reader = self.reader;
        if self.depth > TXN_DEPTH_MAX {
            let what = format!("transactions are nested more than {TXN_DEPTH_MAX} deep");
            return Err(reader.place.wrong(Kind::InvalidTransaction, what));
        }
        let (mut compares, mut then, mut otherwise) = (None, None, None);
        while let Some(name) = next_name(&mut map, TXN_NAMES)? {
            reader.place.at(name, || {
                let twice = match name {
                    "if" => {
                        let list = List { reader, element: CompareSeed { reader } };
                        compares.replace(map.next_value_seed(list)?).is_some()
                    }
                    _ => {
                        let list = List { reader, element: OpSeed(self) };
                        let branch = if name == "then" { &mut then } else { &mut otherwise };
                        branch.replace(map.next_value_seed(list)?).is_some()
                    }
                };
                if twice { Err(de::Error::custom("it is there twice")) } else { Ok(()) }
            })?;
        }
        Ok(TxnRequest {
            compares: compares.unwrap_or_default(),
            then: then.unwrap_or_default(),
            otherwise: otherwise.unwrap_or_default(),
        })
    }
}

/// Reads a list.
struct List<'a, S> {
    reader: &'a Reader<'a>,
    element: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let next = || seq.next_element_seed(self.element);
            match self.reader.place.at_index(list.len(), next)? {
                Some(element) => list.push(element),
                None => return Ok(list),
            }
            self.reader.count(list.len())?;
        }
    }
}

/// Reads a compare.
#[derive(Clone, Copy)]
struct CompareSeed<'a> {
    reader: &'a Reader<'a>,
}

impl<'de> DeserializeSeed<'de> for CompareSeed<'_> {
    type Value = Compare;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Compare, D::Error> {
        let seed = FieldsSeed { place: &self.reader.place, known: COMPARE_NAMES };
        let mut fields = seed.deserialize(deserializer)?;
        Ok(Compare { over: over(&mut fields)?, test: test(&mut fields)? })
    }
}

/// Reads an operation: an object with one name.
#[derive(Clone, Copy)]
struct OpSeed<'a>(TxnSeed<'a>);

impl<'de> DeserializeSeed<'de> for OpSeed<'_> {
    type Value = TxnOp;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TxnOp, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OpSeed<'_> {
    type Value = TxnOp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an operation such as {"get":{"key":"a"}}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TxnOp, A::Error> {
        let OpSeed(txn) = self;
        let place = &txn.reader.place;
        let one = || de::Error::custom("an operation is one of put, delete, get and txn");
        let Some(name) = next_name(&mut map, OP_NAMES)? else { return Err(one()) };
        let op = place.at(name, || {
            let mut fields = |known| map.next_value_seed(FieldsSeed { place, known });
            match name {
                "put" => put(fields(PUT_NAMES)?),
                "delete" => delete(fields(DELETE_NAMES)?),
                "get" => get(fields(GET_NAMES)?),
                _ => {
                    let depth = txn.depth + 1;
                    map.next_value_seed(TxnSeed { depth, ..txn }).map(TxnOp::Txn)
                }
            }
        })?;
        match next_name(&mut map, OP_NAMES)? {
            Some(_) => Err(one()),
            None => Ok(op),
        }
    }
}

fn key<E: de::Error>(fields: &mut Fields<'_>) -> Result<Option<Bytes>, E> {
    let Some(key) = fields.bytes("key", "key_base64")? else { return Ok(None) };
    match key.len() {
        0 => Err(fields.place().wrong(Kind::InvalidKey, "the key is empty")),
        1..=KEY_BYTES_MAX => Ok(Some(key)),
        length => {
            let what = format!("the key has {length} bytes; the longest has {KEY_BYTES_MAX}");
            Err(fields.place().wrong(Kind::KeyTooLong, what))
        }
    }
}

/// The keys that are named: by `key`, or by `prefix`, `start` and `end`, which hold together.
fn over<E: de::Error>(fields: &mut Fields<'_>) -> Result<Over, E> {
    let one = key(fields)?;
    let prefix = fields.bytes("prefix", "prefix_base64")?;
    let start = fields.bytes("start", "start_base64")?;
    let end = fields.bytes("end", "end_base64")?;
    let ranged = prefix.is_some() || start.is_some() || end.is_some();
    match one {
        Some(_) if ranged => Err(E::custom("key excludes prefix, start and end")),
        Some(key) => Ok(Over::Key(key)),
        None if !ranged => Err(E::custom("it needs a key, or a prefix, start or end")),
        None => {
            // Empty, the end is no bound, as an empty start is none.
            let end = end.filter(|end| !end.is_empty());
            let between = KeyRange { start: start.unwrap_or_default(), end };
            Ok(Over::Range(match prefix {
                Some(prefix) => KeyRange::prefix(&prefix).intersect(&between),
                None => between,
            }))
        }
    }
}

fn test<E: de::Error>(fields: &mut Fields<'_>) -> Result<Test, E> {
    const COMPARES: &[&str] = &[
        "value",
        "version",
        "create_revision",
        "mod_revision",
        "lease",
        "exists",
        "unchanged_since",
    ];
    let compare = fields.text("compare")?.ok_or_else(|| E::missing_field("compare"))?;
    let compare = COMPARES.iter().find(|name| **name == compare).ok_or_else(|| {
        E::custom(format_args!("compare is {compare:?}; it must be one of {}", COMPARES.join(", ")))
    })?;
    if *compare != "value" && fields.has("to_base64") {
        return Err(E::custom("to_base64 is for values only"));
    }
    let op = fields.text("op")?;
    let relation = relation(op.as_deref())?;
    let missing = || E::missing_field("to");
    match *compare {
        "value" => {
            let to = fields.bytes("to", "to_base64")?.ok_or_else(missing)?;
            return Ok(Test::Value(relation, to));
        }
        "exists" => {
            let to = fields.flag("to")?.ok_or_else(missing)?;
            return match relation {
                Relation::Eq => Ok(Test::Exists(to)),
                Relation::Ne => Ok(Test::Exists(!to)),
                _ => Err(E::custom("op of exists must be == or !=")),
            };
        }
        "lease" => {
            let to = fields.decimal("to")?.ok_or_else(missing)?;
            return Ok(Test::Lease(relation, to));
        }
        _ => {}
    }
    let to = fields.number("to")?.ok_or_else(missing)?;
    Ok(match *compare {
        "version" => Test::Version(relation, to),
        "create_revision" => Test::CreateRevision(relation, Revision(to)),
        "mod_revision" => Test::ModRevision(relation, Revision(to)),
        _ if op.is_some() => return Err(E::custom("unchanged_since has no op")),
        _ => Test::UnchangedSince(Revision(to)),
    })
}

fn relation<E: de::Error>(op: Option<&str>) -> Result<Relation, E> {
    match op {
        None => Ok(Relation::Eq),
        Some(op) => relation_of(op).ok_or_else(|| {
            let known = RELATIONS.map(|(text, _)| text).join(", ");
            E::custom(format_args!("op is {op:?}; it must be one of {known}"))
        }),
    }
}

fn put<E: de::Error>(mut fields: Fields<'_>) -> Result<TxnOp, E> {
    let key = key(&mut fields)?.ok_or_else(|| E::missing_field("key"))?;
    let value = fields.bytes("value", "value_base64")?;
    let keep_value = fields.flag("keep_value")?.unwrap_or_default();
    match (&value, keep_value) {
        (Some(_), true) => return Err(E::custom("value and keep_value exclude each other")),
        (None, false) => {
            return Err(E::custom("it needs a value, which may be empty, or keep_value"));
        }
        _ => {}
    }
    let content_type = fields.text("content_type")?.filter(|text| !text.trim_ascii().is_empty());
    if let Some(text) = &content_type
        && (text.len() > CONTENT_TYPE_BYTES_MAX
            || !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')))
    {
        let what =
            format!("content_type must be ASCII text of at most {CONTENT_TYPE_BYTES_MAX} bytes");
        return Err(E::custom(what));
    }
    let lease = fields.decimal("lease")?.filter(|lease| *lease > 0);
    if lease.is_some() || fields.text("ttl")?.is_some() {
        let what = "this release has no leases, so a put takes neither lease nor ttl";
        return Err(fields.place().wrong(Kind::NotSupported, what));
    }
    let keep_lease = fields.flag("keep_lease")?.unwrap_or_default();
    let lease = if keep_lease { Attach::Keep } else { Attach::Detach };
    let put = Put { key, value, content_type, lease };
    Ok(TxnOp::Put { put, previous: fields.flag("previous")?.unwrap_or_default() })
}

fn delete<E: de::Error>(mut fields: Fields<'_>) -> Result<TxnOp, E> {
    // An unset variable in a script must not delete all that follows, nor everything.
    if fields.is_empty("end") || fields.is_empty("end_base64") {
        return Err(E::custom("end is empty; leave it out to delete to the end of the keys"));
    }
    let over = over(&mut fields)?;
    if matches!(&over, Over::Range(range) if range.start.is_empty() && range.end.is_none()) {
        return Err(E::custom(
            "a range delete needs a prefix, start or end that is not empty; \
             a start of one zero byte deletes every key",
        ));
    }
    Ok(TxnOp::Delete { over, previous: fields.flag("previous")?.unwrap_or_default() })
}

fn get<E: de::Error>(mut fields: Fields<'_>) -> Result<TxnOp, E> {
    let over = over(&mut fields)?;
    let limit = fields.number("limit")?;
    if limit == Some(0) {
        return Err(E::custom("limit must be 1 or more"));
    }
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let keys_only = fields.flag("keys_only")?.unwrap_or_default();
    Ok(TxnOp::Get { over, limit, keys_only })
}
