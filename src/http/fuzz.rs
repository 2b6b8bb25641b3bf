//! What clients send, from any bytes.

use axum::http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cursor::Cursor;
use super::framing::{self, Chunks};
use super::hpack::Table;
use super::query::{self, Query};
use super::{compat, condition, form, headers};
use crate::api::{
    ItemJson, TIMEOUT_MAX, TXN_EXTRA_BYTES_MAX, TXN_LISTS_MAX, TxnLimits, TxnRequest,
};
use crate::kv::{KEY_BYTES_MAX, Write};

const NAMES: &[&str] =
    &["a", "limit", "revision", "min_revision", "wait", "order", "consistency", "keys_only"];

/// A path and a query string: a key is within its bounds, and every parameter is read or refused.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, parameters) = text.split_once('?').unwrap_or((text, text));
    if let Ok(key) = query::key(path) {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
    }
    if let Ok(query) = Query::parse(Some(parameters), NAMES) {
        for name in NAMES {
            if let Ok(Some(number)) = query.positive(name) {
                assert!(number > 0);
            }
            let _ = (query.flag(name), query.duration(name), query.revision(name));
        }
        let _ = (query.descending(), query.consistency());
    }
    // As the original reads it: leniently, but never more than is there.
    for name in ["key", "prefix"] {
        if let Some(value) = compat::lenient(Some(parameters), name) {
            assert!(value.len() <= parameters.len());
        }
    }
    let limit = compat::keys_limit(compat::lenient(Some(parameters), "limit"));
    assert!((1..=compat::KEYS_MAX).contains(&limit));
    if let Some(duration) = headers::duration(text) {
        assert!(duration <= TIMEOUT_MAX);
    }
}

/// A content type, a line feed and a form: no more comes out than went in.
pub fn form(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (content_type, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(content_type) = std::str::from_utf8(content_type) else { return };
    if let Ok(fields) = form::parse(content_type, body) {
        assert!(fields.len() <= form::FIELDS_MAX);
        let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= body.len());
    }
}

/// A cursor as a client gives it back, and the same bytes as the content of one that is sealed well: what
/// is understood encodes to what decodes to it.
pub fn cursor(data: &[u8]) {
    let mut sealed = data.to_vec();
    sealed.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    for encoded in [data, URL_SAFE_NO_PAD.encode(sealed).as_bytes()] {
        if let Ok(cursor) = Cursor::decode(encoded) {
            let again = Cursor::decode(cursor.encode().as_bytes());
            assert_eq!(again.ok(), Some(cursor));
        }
    }
}

/// Lines that become the values of two headers in turn: a condition is read or refused.
pub fn conditions(data: &[u8]) {
    let mut fields = HeaderMap::new();
    for (at, line) in data.split(|&byte| byte == b'\n').enumerate().take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append(if at % 2 == 0 { IF_MATCH } else { IF_NONE_MATCH }, value);
        }
    }
    let _ = condition::parse(&fields);
    let _ = headers::accepts(&fields, "application/json");
}

/// What comes on a connection of HTTP/1: a head is taken or refused, wherever it is cut its end is found in the same place, and
/// chunks that are followed a byte at a time end where they do at once.
pub fn heads(data: &[u8]) {
    let whole = framing::head_end(data, 0);
    for seen in [1, data.len() / 2, data.len()] {
        if whole.is_none_or(|end| end > seen) {
            assert_eq!(framing::head_end(data, seen), whole);
        }
    }
    let Some(end) = whole else { return };
    let Ok(framing) = framing::check_head(&data[..end]) else { return };
    let first = data[..end].split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    assert!(!first.unwrap_or_default().contains(&b'#'), "a fragment is taken");
    if framing != framing::Framing::Chunked {
        return;
    }
    let body = &data[end..];
    let at_once = Chunks::default().follow(body);
    let (mut chunks, mut at) = (Chunks::default(), 0);
    for until in 1..=body.len() {
        match chunks.follow(&body[at..until]) {
            Ok((taken, ended)) => {
                at += taken;
                if ended {
                    return assert_eq!(at_once, Ok((at, true)));
                }
            }
            Err(broken) => return assert_eq!(at_once, Err(broken)),
        }
    }
    assert_eq!(at_once, Ok((at, false)));
}

/// Header blocks of HTTP/2, each with its length before it: following them ends, and a second time says the same.
pub fn blocks(data: &[u8]) {
    let mut tables = [Table::new(), Table::new()];
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (block, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let [first, second] = tables.each_mut().map(|table| table.has_fragment(block));
        assert_eq!(first, second);
        if first.is_err() {
            return;
        }
    }
}

/// JSON: an item is shown as what it was read from.
pub fn item_json(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<ItemJson<'_>>(data) else { return };
    let Ok(item) = json.into_item() else { return };
    let again = serde_json::to_vec(&ItemJson::new(&item, false)).expect("plain data");
    let again: ItemJson<'_> = serde_json::from_slice(&again).expect("what was just written");
    assert_eq!(again.into_item(), Ok(item));
}

/// JSON: a transaction that is taken is within its bounds, and is stated as what it was read from.
pub fn txn(data: &[u8]) {
    let limits = TxnLimits { operations_max: 4, value_bytes_max: 64 };
    let request = match TxnRequest::parse(data, &limits) {
        Ok(request) => request,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Write::Txn { txn, .. } = request.lower(1) else { panic!("it is no transaction") };
    let mut all = 0;
    txn.for_each_op(&mut |_| all += 1);
    txn.for_each_compare(&mut |_| all += 1);
    assert!(all <= TXN_LISTS_MAX * limits.operations_max);
    assert!(txn.cost_bytes() <= limits.value_bytes_max + TXN_EXTRA_BYTES_MAX);
    assert_eq!(txn.is_read_only(), request.is_read_only());
    let again = request.to_json().to_string();
    assert_eq!(TxnRequest::parse(again.as_bytes(), &limits), Ok(request));
}
