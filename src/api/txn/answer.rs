//! What a transaction came to, and its JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::super::item::{ItemJson, JsonError};
use crate::kv::{Item, Revision};

/// A transaction that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnDone {
    /// Whether all compares held, so that `then` was carried out.
    pub succeeded: bool,
    /// The store's revision after it; its own, if it changed something.
    pub revision: Revision,
    /// Why what it was to read is not there, although it was carried out; none if it is there.
    pub unread: Option<String>,
    /// What each operation of the branch came to, in their order.
    pub results: Vec<TxnResult>,
}

/// What an operation came to. With `more` there is more than `items` or `previous` hold: than was asked for, than an answer
/// may have, or than could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// The key is set.
    Put {
        /// What it was before, if that was asked for and it existed.
        previous: Option<Item>,
        /// See above.
        more: bool,
    },
    /// Keys were deleted.
    Delete {
        /// How many.
        deleted: u64,
        /// What they were before, if that was asked for, in the order of their keys.
        previous: Option<Vec<Item>>,
        /// See above.
        more: bool,
    },
    /// Keys were read.
    Get {
        /// What exists of them, in their order.
        items: Vec<Item>,
        /// Whether the values were left out, as asked for.
        keys_only: bool,
        /// See above.
        more: bool,
    },
    /// What the nested transaction did.
    Txn {
        /// Whether all of its compares held.
        succeeded: bool,
        /// What each operation of its branch came to.
        results: Vec<TxnResult>,
    },
}

impl TxnDone {
    /// Leaves out what was read, for this reason.
    pub fn leave_out(&mut self, why: &str) {
        if leave_out(&mut self.results) {
            self.unread = Some(why.to_owned());
        }
    }
}

/// Whether something was left out.
fn leave_out(results: &mut [TxnResult]) -> bool {
    let mut any = false;
    for result in results {
        any |= match result {
            TxnResult::Put { previous, more } => {
                *more |= previous.is_some();
                previous.take().is_some()
            }
            TxnResult::Delete { previous: None, .. } => false,
            TxnResult::Delete { previous: Some(items), more, .. }
            | TxnResult::Get { items, more, .. } => {
                *more |= !items.is_empty();
                !std::mem::take(items).is_empty()
            }
            TxnResult::Txn { results, .. } => leave_out(results),
        };
    }
    any
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnJson<'a> {
    /// As [`TxnDone`] has it, and so are the others.
    pub succeeded: bool,
    #[allow(missing_docs)]
    pub revision: Revision,
    #[allow(missing_docs)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Cow<'a, str>>,
    #[allow(missing_docs)]
    pub results: Vec<ResultJson<'a>>,
}

/// A [`TxnResult`] as an object with one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultJson<'a> {
    #[allow(missing_docs)]
    Put(PutJson<'a>),
    #[allow(missing_docs)]
    Delete(DeleteJson<'a>),
    #[allow(missing_docs)]
    Get(GetJson<'a>),
    #[allow(missing_docs)]
    Txn(NestedJson<'a>),
}

#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutJson<'a> {
    /// The key's mod revision now.
    pub revision: Revision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ItemJson<'a>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteJson<'a> {
    pub deleted: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Vec<ItemJson<'a>>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetJson<'a> {
    pub items: Vec<ItemJson<'a>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedJson<'a> {
    pub succeeded: bool,
    pub results: Vec<ResultJson<'a>>,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

impl<'a> TxnJson<'a> {
    /// The JSON of what a transaction came to.
    pub fn new(done: &'a TxnDone) -> TxnJson<'a> {
        TxnJson {
            succeeded: done.succeeded,
            revision: done.revision,
            unread: done.unread.as_deref().map(Cow::Borrowed),
            results: results(&done.results, done.revision),
        }
    }

    /// What the transaction came to.
    ///
    /// # Errors
    /// If an item is none.
    pub fn into_done(self) -> Result<TxnDone, JsonError> {
        Ok(TxnDone {
            succeeded: self.succeeded,
            revision: self.revision,
            unread: self.unread.map(Cow::into_owned),
            results: self.results.into_iter().map(from_json).collect::<Result<_, _>>()?,
        })
    }
}

fn results(all: &[TxnResult], revision: Revision) -> Vec<ResultJson<'_>> {
    all.iter().map(|result| to_json(result, revision)).collect()
}

fn to_json(result: &TxnResult, revision: Revision) -> ResultJson<'_> {
    let item = |item| ItemJson::new(item, false);
    match result {
        TxnResult::Put { previous, more } => {
            let previous = previous.as_ref().map(item);
            ResultJson::Put(PutJson { revision, previous, more: *more })
        }
        TxnResult::Delete { deleted, previous, more } => {
            let previous = previous.as_ref().map(|items| items.iter().map(item).collect());
            ResultJson::Delete(DeleteJson { deleted: *deleted, previous, more: *more })
        }
        TxnResult::Get { items, keys_only, more } => {
            let items = items.iter().map(|item| ItemJson::new(item, *keys_only)).collect();
            ResultJson::Get(GetJson { items, more: *more })
        }
        TxnResult::Txn { succeeded, results: nested } => ResultJson::Txn(NestedJson {
            succeeded: *succeeded,
            results: results(nested, revision),
        }),
    }
}

fn from_json(result: ResultJson<'_>) -> Result<TxnResult, JsonError> {
    let items = |items: Vec<ItemJson<'_>>| items.into_iter().map(ItemJson::into_item).collect();
    Ok(match result {
        ResultJson::Put(PutJson { previous, more, .. }) => {
            TxnResult::Put { previous: previous.map(ItemJson::into_item).transpose()?, more }
        }
        ResultJson::Delete(DeleteJson { deleted, previous, more }) => {
            TxnResult::Delete { deleted, previous: previous.map(items).transpose()?, more }
        }
        ResultJson::Get(GetJson { items: found, more }) => {
            let valueless =
                |item: &ItemJson<'_>| item.value.is_none() && item.value_base64.is_none();
            let keys_only = found.iter().any(valueless);
            TxnResult::Get { items: items(found)?, keys_only, more }
        }
        ResultJson::Txn(NestedJson { succeeded, results }) => TxnResult::Txn {
            succeeded,
            results: results.into_iter().map(from_json).collect::<Result<_, _>>()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &'static str) -> Item {
        Item {
            key: key.into(),
            value: "1".into(),
            content_type: None,
            create_revision: Revision(3),
            mod_revision: Revision(5),
            version: 2,
        }
    }

    #[test]
    fn an_answer_has_a_result_for_each_operation_and_comes_back_from_its_json() {
        let read = TxnResult::Get { items: vec![item("c")], keys_only: true, more: true };
        let done = TxnDone {
            succeeded: true,
            revision: Revision(9),
            unread: None,
            results: vec![
                TxnResult::Put { previous: None, more: false },
                TxnResult::Put { previous: Some(item("a")), more: false },
                TxnResult::Delete { deleted: 1, previous: Some(vec![item("b")]), more: false },
                TxnResult::Delete { deleted: 7, previous: None, more: false },
                TxnResult::Txn { succeeded: false, results: vec![read] },
            ],
        };
        let text = serde_json::to_string(&TxnJson::new(&done)).unwrap();
        let numbers = r#""create_revision":3,"mod_revision":5,"version":2"#;
        let expected = [
            r#"{"succeeded":true,"revision":9,"results":[{"put":{"revision":9}},"#,
            &format!(
                r#"{{"put":{{"revision":9,"previous":{{"key":"a","value":"1",{numbers}}}}}}},"#
            ),
            &format!(
                r#"{{"delete":{{"deleted":1,"previous":[{{"key":"b","value":"1",{numbers}}}]}}}},"#
            ),
            r#"{"delete":{"deleted":7}},"#,
            &format!(
                r#"{{"txn":{{"succeeded":false,"results":[{{"get":{{"items":[{{"key":"c",{numbers}}}],"more":true}}}}]}}}}]}}"#
            ),
        ];
        assert_eq!(text, expected.concat());
        let back: TxnJson<'_> = serde_json::from_str(&text).unwrap();
        let mut valueless = done;
        if let Some(TxnResult::Txn { results, .. }) = valueless.results.last_mut() {
            let value = bytes::Bytes::new();
            let item = Item { value, ..item("c") };
            *results = vec![TxnResult::Get { items: vec![item], keys_only: true, more: true }];
        }
        assert_eq!(back.into_done().unwrap(), valueless);
    }
}
