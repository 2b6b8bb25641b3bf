//! JSON as the original konsen's server reads it: as Go's `encoding/json` fills a struct.
//!
//! Names match whatever their case, of a name that is there twice the last counts, `null` changes nothing, other names
//! are ignored, and so is what follows the object.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The body of `POST /api/kv`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PutJson {
    pub(super) key: String,
    pub(super) value: String,
}

impl PutJson {
    /// Reads the first value of these bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<PutJson, serde_json::Error> {
        // Bytes that are no text become replacement characters there, too.
        let text = String::from_utf8_lossy(bytes);
        PutJson::deserialize(&mut serde_json::Deserializer::from_str(&text))
    }
}

impl<'de> Deserialize<'de> for PutJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PutJson, D::Error> {
        deserializer.deserialize_any(PutVisitor)
    }
}

struct PutVisitor;

impl<'de> Visitor<'de> for PutVisitor {
    type Value = PutJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object such as {"key":"a","value":"1"}"#)
    }

    fn visit_unit<E: de::Error>(self) -> Result<PutJson, E> {
        Ok(PutJson::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PutJson, A::Error> {
        let mut put = PutJson::default();
        while let Some(name) = map.next_key::<String>()? {
            let field = match name.to_ascii_lowercase().as_str() {
                "key" => &mut put.key,
                "value" => &mut put.value,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if let Some(text) = map.next_value::<Option<String>>()? {
                *field = text;
            }
        }
        Ok(put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_original_takes_is_taken() {
        for (text, key, value) in [
            (r#"{"key":"a","value":null}"#, "a", ""),
            (r#"{"Key":"b","VALUE":"x"}"#, "b", "x"),
            (r#"{"key":"c","value":"1"} trailing"#, "c", "1"),
            (r#"{"key":"d","value":"1","value":"2"}"#, "d", "2"),
            (r#"{"key":"d","value":"1","value":null}"#, "d", "1"),
            (r#"{"key":"e"}"#, "e", ""),
            (r#"{"key":"f","other":{"key":[1]},"value":"1"}"#, "f", "1"),
            ("null", "", ""),
        ] {
            let (key, value) = (key.to_owned(), value.to_owned());
            assert_eq!(PutJson::parse(text.as_bytes()).unwrap(), PutJson { key, value }, "{text}");
        }
    }

    #[test]
    fn what_the_original_refuses_is_refused() {
        for text in [
            "",
            "[]",
            "7",
            r#""a""#,
            r#"{"key":"a","value":1}"#,
            r#"{"key":["a"]}"#,
            r#"{"key":"a""#,
            "{",
        ] {
            assert!(PutJson::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
