//! The JSON of a request, as [`TxnRequest::parse`](super::TxnRequest::parse) reads it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::relations::written;
use super::{TxnOp, TxnRequest};
use crate::kv::{Attach, Compare, Over, Put, Test};

impl TxnRequest {
    /// Its JSON.
    pub fn to_json(&self) -> Value {
        let ops = |ops: &[TxnOp]| Value::Array(ops.iter().map(op).collect());
        let mut object = Map::new();
        if !self.compares.is_empty() {
            object.insert("if".to_owned(), self.compares.iter().map(compare).collect());
        }
        object.insert("then".to_owned(), ops(&self.then));
        if !self.otherwise.is_empty() {
            object.insert("else".to_owned(), ops(&self.otherwise));
        }
        Value::Object(object)
    }
}

/// Bytes at a name, or in base64 at the other one.
fn set(object: &mut Map<String, Value>, name: &str, bytes: &Bytes) {
    let (name, text) = match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.to_owned()),
        Err(_) => (format!("{name}_base64"), STANDARD.encode(bytes)),
    };
    object.insert(name, Value::String(text));
}

fn set_over(object: &mut Map<String, Value>, over: &Over) {
    match over {
        Over::Key(key) => set(object, "key", key),
        Over::Range(range) => {
            set(object, "start", &range.start);
            if let Some(end) = &range.end {
                set(object, "end", end);
            }
        }
    }
}

fn compare(compare: &Compare) -> Value {
    let mut object = Map::new();
    set_over(&mut object, &compare.over);
    let (name, relation, to) = match &compare.test {
        Test::Value(relation, to) => {
            set(&mut object, "to", to);
            ("value", Some(relation), None)
        }
        Test::Version(relation, to) => ("version", Some(relation), Some(json!(to))),
        Test::CreateRevision(relation, to) => ("create_revision", Some(relation), Some(json!(to))),
        Test::ModRevision(relation, to) => ("mod_revision", Some(relation), Some(json!(to))),
        Test::Lease(relation, to) => ("lease", Some(relation), Some(json!(to.to_string()))),
        Test::Exists(exists) => ("exists", None, Some(json!(exists))),
        Test::UnchangedSince(revision) => ("unchanged_since", None, Some(json!(revision))),
        // What HTTP's conditions become; no request states them.
        Test::OneOf(_) | Test::NoneOf(_) => ("exists", None, None),
    };
    object.insert("compare".to_owned(), json!(name));
    if let Some(relation) = relation {
        object.insert("op".to_owned(), json!(written(*relation)));
    }
    object.extend(to.map(|to| ("to".to_owned(), to)));
    Value::Object(object)
}

fn op(op: &TxnOp) -> Value {
    let mut object = Map::new();
    let name = match op {
        TxnOp::Put { put, previous } => {
            set_put(&mut object, put);
            set_flag(&mut object, "previous", *previous);
            "put"
        }
        TxnOp::Delete { over, previous } => {
            set_over(&mut object, over);
            set_flag(&mut object, "previous", *previous);
            "delete"
        }
        TxnOp::Get { over, limit, keys_only } => {
            set_over(&mut object, over);
            object.extend(limit.map(|limit| ("limit".to_owned(), json!(limit))));
            set_flag(&mut object, "keys_only", *keys_only);
            "get"
        }
        TxnOp::Txn(nested) => return json!({ "txn": nested.to_json() }),
    };
    json!({ name: object })
}

fn set_put(object: &mut Map<String, Value>, put: &Put) {
    set(object, "key", &put.key);
    match &put.value {
        Some(value) => set(object, "value", value),
        None => set_flag(object, "keep_value", true),
    }
    if let Some(content_type) = &put.content_type {
        object.insert("content_type".to_owned(), json!(content_type));
    }
    match put.lease {
        Attach::Detach => {}
        Attach::Keep => set_flag(object, "keep_lease", true),
        Attach::To(lease) => {
            object.insert("lease".to_owned(), json!(lease.to_string()));
        }
    }
}

fn set_flag(object: &mut Map<String, Value>, name: &str, is_set: bool) {
    if is_set {
        object.insert(name.to_owned(), Value::Bool(true));
    }
}
