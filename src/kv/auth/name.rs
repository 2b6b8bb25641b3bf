//! Names of users, roles and tokens.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// The name of a user, a role or a token: 1 to 63 of a-z, 0-9 and `-`, with a letter and no `-` at either end, as certificates name
/// clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text that is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 of a-z, 0-9 and -, a letter among them, and no - at either end")]
pub struct NameError;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let spelled = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
        let has_letter = text.bytes().any(|byte| byte.is_ascii_lowercase());
        match spelled && has_letter && !text.starts_with('-') && !text.ends_with('-') {
            true => Ok(Name(text.into())),
            false => Err(NameError),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What comes from a file or a peer is looked at as what a client sends.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_a_certificate_can_have() {
        for name in ["a", "a-1", "1a", &"x".repeat(63)] {
            assert_eq!(name.parse::<Name>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for wrong in ["", "A", "a_b", "a b", "-a", "a-", "-", "1", "\u{e4}", &"x".repeat(64)] {
            assert_eq!(wrong.parse::<Name>(), Err(NameError), "{wrong}");
        }
    }
}
