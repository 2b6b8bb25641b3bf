//! The JSON of small requests.

use serde::de::DeserializeOwned;

/// Reads an object. Serde's own way takes an array for one, whose items are the fields in order.
///
/// # Errors
/// What is wrong with it, for the client.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        _ => Err("it must be a JSON object".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CompactJson;

    #[test]
    fn only_an_object_is_one() {
        assert!(object::<CompactJson>(b" {\"revision\":7}").is_ok());
        for other in ["", " ", "[7]", "null", "7", "\"x\""] {
            let why = object::<CompactJson>(other.as_bytes()).unwrap_err();
            assert_eq!(why, "it must be a JSON object", "{other}");
        }
    }
}
