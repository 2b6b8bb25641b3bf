//! Items and pages as JSON: bytes that are not UTF-8 appear in base64 under another name.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::{Item, Revision};

/// One item of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemJson<'a> {
    /// The key, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// The key, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<Cow<'a, str>>,
    /// The value, if it is UTF-8; absent in a listing of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Cow<'a, str>>,
    /// The value, if it is not UTF-8; absent in a listing of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<Cow<'a, str>>,
    /// The revision that created it.
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub mod_revision: Revision,
    /// How many times it was set since it was created.
    pub version: u64,
    /// The media type that its last put gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Cow<'a, str>>,
}

/// An item of JSON that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// There must be exactly one of the two forms.
    #[error("an item must have either {0} or {0}_base64")]
    OneForm(&'static str),
    /// Not base64.
    #[error("{0}_base64 is not base64 (standard alphabet, with padding)")]
    Base64(&'static str),
}

/// Bytes as text or, if they are none, as base64.
fn either(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes).into())),
    }
}

/// The bytes behind the two forms, if there is one.
fn bytes(
    name: &'static str,
    text: Option<Cow<'_, str>>,
    base64: Option<Cow<'_, str>>,
) -> Result<Option<Bytes>, JsonError> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(text.into_owned().into())),
        (None, Some(encoded)) => {
            let decoded =
                STANDARD.decode(encoded.as_bytes()).map_err(|_| JsonError::Base64(name))?;
            Ok(Some(decoded.into()))
        }
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(JsonError::OneForm(name)),
    }
}

impl<'a> ItemJson<'a> {
    /// The JSON of an item; a listing of keys leaves the value out.
    pub fn new(item: &'a Item, keys_only: bool) -> ItemJson<'a> {
        let (key, key_base64) = either(&item.key);
        let (value, value_base64) = if keys_only { (None, None) } else { either(&item.value) };
        ItemJson {
            key,
            key_base64,
            value,
            value_base64,
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
            version: item.version,
            content_type: item.content_type.as_deref().map(Cow::Borrowed),
        }
    }

    /// The item; its value is empty where the JSON has none.
    pub fn into_item(self) -> Result<Item, JsonError> {
        Ok(Item {
            key: bytes("key", self.key, self.key_base64)?.ok_or(JsonError::OneForm("key"))?,
            value: bytes("value", self.value, self.value_base64)?.unwrap_or_default(),
            content_type: self.content_type.map(Cow::into_owned),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
        })
    }
}

/// About how many bytes the JSON of an item takes, and no fewer.
pub fn item_bytes(item: &Item, keys_only: bool) -> usize {
    /// Names, numbers and what is between them.
    const REST_BYTES: usize = 192;
    let value = if keys_only { 0 } else { text_bytes(&item.value) };
    let content_type = item.content_type.as_ref().map_or(0, |text| text_bytes(text.as_bytes()));
    REST_BYTES + text_bytes(&item.key) + value + content_type
}

fn text_bytes(bytes: &[u8]) -> usize {
    if std::str::from_utf8(bytes).is_err() {
        return bytes.len().div_ceil(3) * 4;
    }
    let length = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..0x20 => 6,
        _ => 1,
    };
    bytes.iter().map(length).sum()
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageJson<'a> {
    /// The revision that every page of the listing is read at.
    pub revision: Revision,
    /// The items, in the order asked for.
    pub items: Vec<ItemJson<'a>>,
    /// Asks for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cow<'a, str>>,
}

/// What a range delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedJson {
    /// How many keys are gone.
    pub deleted: u64,
    /// The store's revision.
    pub revision: Revision,
    /// In how many steps, each a revision of its own, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &'static [u8], value: &'static [u8]) -> Item {
        Item {
            key: Bytes::from_static(key),
            value: Bytes::from_static(value),
            content_type: None,
            create_revision: Revision(3),
            mod_revision: Revision(5),
            version: 2,
        }
    }

    #[test]
    fn text_is_text_and_other_bytes_are_base64() {
        let text = serde_json::to_string(&ItemJson::new(&item(b"a", b"1"), false)).unwrap();
        assert_eq!(
            text,
            r#"{"key":"a","value":"1","create_revision":3,"mod_revision":5,"version":2}"#
        );
        let bytes =
            serde_json::to_string(&ItemJson::new(&item(b"\xff", b"\0\xfe"), false)).unwrap();
        assert_eq!(
            bytes,
            r#"{"key_base64":"/w==","value_base64":"AP4=","create_revision":3,"mod_revision":5,"version":2}"#
        );
    }

    #[test]
    fn an_item_takes_no_more_than_is_said() {
        for value in
            [&b"plain"[..], b"\x01\x02\"\\\n", b"\xff\xfe\0", "\u{fc}\u{1f}".as_bytes(), b""]
        {
            let value: &'static [u8] = value;
            let item = Item { content_type: Some("a/b; c=\"d\"".to_owned()), ..item(value, value) };
            for keys_only in [false, true] {
                let json = serde_json::to_vec(&ItemJson::new(&item, keys_only)).unwrap();
                let said = item_bytes(&item, keys_only);
                assert!((json.len()..json.len() + 192).contains(&said), "{value:?}: {said}");
            }
        }
    }

    #[test]
    fn items_survive_the_way_there_and_back() {
        for item in [item(b"a\n\"", b""), item(b"\xff", b"\xfe"), item("ü".as_bytes(), b"\0")] {
            let text = serde_json::to_string(&ItemJson::new(&item, false)).unwrap();
            let back: ItemJson<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(back.into_item().unwrap(), item);
        }
    }

    #[test]
    fn an_item_has_one_form_of_its_key() {
        let parse = |text: &str| {
            let item: ItemJson<'_> = serde_json::from_str(text).unwrap();
            item.into_item().unwrap_err()
        };
        let rest = r#""create_revision":1,"mod_revision":1,"version":1}"#;
        assert_eq!(parse(&format!("{{{rest}")), JsonError::OneForm("key"));
        let both = format!(r#"{{"key":"a","key_base64":"YQ==",{rest}"#);
        assert_eq!(parse(&both), JsonError::OneForm("key"));
        let broken = format!(r#"{{"key_base64":"?",{rest}"#);
        assert_eq!(parse(&broken), JsonError::Base64("key"));
    }
}
