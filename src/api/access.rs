//! Users, roles and tokens as clients state them and are told, in JSON.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::kv::{
    Administration, Ask, Asks, Grant, KEY_BYTES_MAX, KeyRange, Keys, Name, Right, Role, Serial,
    Token, TokenHash, User,
};

/// What a token begins with, so that whoever finds one knows what it is.
const TOKEN_PREFIX: &str = "konsen_";
/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// The most grants of a role.
pub const GRANTS_MAX: usize = 1000;

/// Which keys: one of `key`, `prefix`, and `start` with or without `end`, each as text or in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeysJson {
    /// One key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The same in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// All keys that begin with it; empty: all keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The same in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_base64: Option<String>,
    /// The first key of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The same in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_base64: Option<String>,
    /// The first key after the range; none: to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The same in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_base64: Option<String>,
    /// What else stands beside them: nothing may.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Rights on keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantJson {
    /// Which keys.
    #[serde(flatten)]
    pub keys: KeysJson,
    /// Of `read`, `write`, `watch`.
    pub may: Vec<String>,
}

/// A role: `{"rights":[{"prefix":"app/","may":["read"]}],"admin":["members"]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleJson {
    /// Its name; only in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With keys.
    #[serde(default)]
    pub rights: Vec<GrantJson>,
    /// With the cluster: of `members`, `leader`, `backup`, `compact`, `auth`, `audit`.
    #[serde(default)]
    pub admin: Vec<String>,
}

/// A user: `{"roles":["reader"]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserJson {
    /// Its name; only in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All roles that the user has.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// What a token is to be: `{"user":"alice","ttl":"30d"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTokenJson {
    /// Whose.
    pub user: String,
    /// How long it opens something; none: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// SHA-256 of it, in hexadecimal, where whoever asks makes the token: then no answer that is lost loses it. None: the node that
    /// is asked makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A token as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenJson {
    /// Its name.
    pub name: String,
    /// Whose.
    pub user: String,
    /// When it was made, RFC 3339.
    pub made: String,
    /// From when on it opens nothing, RFC 3339; none: it has no end.
    pub expires: Option<String>,
    /// The token itself: only as it is made, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A certificate that opens nothing any more: `{"until":"2027-01-31T00:00:00Z"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedJson {
    /// Its serial number in hexadecimal; only in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// When it ends by itself, RFC 3339: from then on it need not be kept in mind. Without it, when the authority ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl RevokedJson {
    /// As it is told.
    pub fn of(serial: &Serial, until: u64) -> RevokedJson {
        RevokedJson { serial: Some(serial.to_string()), until: Some(rfc3339(until)) }
    }

    /// When it ends, in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn until(&self) -> Result<Option<u64>, String> {
        let Some(text) = &self.until else { return Ok(None) };
        let time = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| format!("until: {text:?} is no time; write it as 2027-01-31T00:00:00Z"))?;
        u64::try_from(time.unix_timestamp())
            .map(Some)
            .map_err(|_| format!("until: {text:?} is long past"))
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoamiJson {
    /// Whether not everybody may do everything.
    pub access_control: bool,
    /// `anybody`, `user` or `node`.
    pub kind: String,
    /// The name; none for `anybody`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The roles of a user.
    pub roles: Vec<String>,
}

/// What is asked for: `{"may":"read","prefix":"app/"}` or `{"admin":"members"}`; with `user` of somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanJson {
    /// Of whom it is asked; none: whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A right on keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may: Option<String>,
    /// Which keys.
    #[serde(flatten)]
    pub keys: KeysJson,
    /// Or a kind of administration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
}

/// Whether it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedJson {
    /// It is.
    pub allowed: bool,
}

/// What [`CanJson`] asks for, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A right on keys.
    Keys(Right, KeyRange),
    /// A kind of administration.
    Admin(Administration),
}

impl Question {
    /// As it is decided on.
    fn ask(&self) -> Ask<'_> {
        match self {
            Question::Keys(right, range) => match range.only_key() {
                Some(key) => Ask::Keys(*right, Keys::One(key)),
                None => Ask::Keys(*right, Keys::Range(range)),
            },
            Question::Admin(what) => Ask::Admin(*what),
        }
    }
}

/// Text or base64 of it.
fn bytes(
    what: &str,
    text: Option<&String>,
    base64: Option<&String>,
) -> Result<Option<Bytes>, String> {
    let bytes = match (text, base64) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(format!("{what} and {what}_base64 exclude each other")),
        (Some(text), None) => Bytes::from(text.clone()),
        (None, Some(encoded)) => STANDARD.decode(encoded).map(Bytes::from).map_err(|_| {
            format!("{what}_base64 must be base64 (standard alphabet, with padding)")
        })?,
    };
    match bytes.len() {
        0..=KEY_BYTES_MAX => Ok(Some(bytes)),
        long => Err(format!("{what} has {long} bytes; {KEY_BYTES_MAX} are the most")),
    }
}

/// Text where it is that, else base64 of it.
fn told(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

impl Asks for Question {
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>)) {
        ask(self.ask());
    }
}

impl KeysJson {
    /// The keys.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn range(&self) -> Result<KeyRange, String> {
        if let Some(name) = self.unknown.keys().next() {
            return Err(format!("{name:?} is not known here"));
        }
        let key = bytes("key", self.key.as_ref(), self.key_base64.as_ref())?;
        let prefix = bytes("prefix", self.prefix.as_ref(), self.prefix_base64.as_ref())?;
        let start = bytes("start", self.start.as_ref(), self.start_base64.as_ref())?;
        let end = bytes("end", self.end.as_ref(), self.end_base64.as_ref())?;
        match (key, prefix, start, end) {
            (Some(key), None, None, None) if key.is_empty() => Err("the key is empty".to_owned()),
            (Some(key), None, None, None) => Ok(KeyRange::key(&key)),
            (None, Some(prefix), None, None) => Ok(KeyRange::prefix(&prefix)),
            (None, None, None, Some(end)) if end.is_empty() => {
                Err("end is empty; leave it out for all keys from start on".to_owned())
            }
            (None, None, Some(start), Some(end)) if end <= start => {
                Err("no key is between start and end".to_owned())
            }
            (None, None, None, None) => {
                Err("name the keys by one of key, prefix, start; prefix \"\" is all of them"
                    .to_owned())
            }
            (None, None, start, end) => Ok(KeyRange { start: start.unwrap_or_default(), end }),
            _ => Err("key, prefix and start exclude each other".to_owned()),
        }
    }

    fn of(range: &KeyRange) -> KeysJson {
        let mut json = KeysJson::default();
        if let Some(key) = range.only_key() {
            (json.key, json.key_base64) = told(key);
        } else if *range == KeyRange::prefix(&range.start) {
            (json.prefix, json.prefix_base64) = told(&range.start);
        } else {
            (json.start, json.start_base64) = told(&range.start);
            let end = range.end.as_ref().map(|end| told(end)).unwrap_or_default();
            (json.end, json.end_base64) = end;
        }
        json
    }
}

fn right(word: &str) -> Result<Right, String> {
    Right::ALL
        .into_iter()
        .find(|right| right.word() == word)
        .ok_or_else(|| format!("{word:?} is no right; there are read, write and watch"))
}

fn administration(word: &str) -> Result<Administration, String> {
    Administration::ALL.into_iter().find(|what| what.word() == word).ok_or_else(|| {
        let all = Administration::ALL.map(Administration::word).join(", ");
        format!("{word:?} is nothing to administer; there are {all}")
    })
}

fn name(what: &str, text: &str) -> Result<Name, String> {
    text.parse().map_err(|error| format!("{what}: {text:?} cannot be one: {error}"))
}

impl RoleJson {
    /// The role.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn role(&self) -> Result<Role, String> {
        if self.rights.len() > GRANTS_MAX {
            return Err(format!("a role has at most {GRANTS_MAX} rights"));
        }
        let grants = self.rights.iter().enumerate().map(|(at, grant)| {
            let wrong = |why: String| format!("rights[{at}]: {why}");
            if grant.may.is_empty() {
                return Err(wrong("may is empty; there are read, write and watch".to_owned()));
            }
            let may = grant.may.iter().map(|word| right(word)).collect::<Result<_, _>>();
            Ok(Grant { range: grant.keys.range().map_err(wrong)?, may: may.map_err(wrong)? })
        });
        let grants = grants.collect::<Result<_, _>>()?;
        let admin = self.admin.iter().map(|word| administration(word)).collect::<Result<_, _>>()?;
        Ok(Role { grants, admin })
    }

    /// The JSON of a role.
    pub fn of(name: &Name, role: &Role) -> RoleJson {
        let grant = |grant: &Grant| GrantJson {
            keys: KeysJson::of(&grant.range),
            may: grant.may.iter().map(|right| right.word().to_owned()).collect(),
        };
        RoleJson {
            name: Some(name.to_string()),
            rights: role.grants.iter().map(grant).collect(),
            admin: role.admin.iter().map(|what| what.word().to_owned()).collect(),
        }
    }
}

impl UserJson {
    /// The user's roles.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn roles(&self) -> Result<BTreeSet<Name>, String> {
        self.roles.iter().map(|role| name("roles", role)).collect()
    }

    /// The JSON of a user.
    pub fn of(name: &Name, user: &User) -> UserJson {
        let roles = user.roles.iter().map(Name::to_string).collect();
        UserJson { name: Some(name.to_string()), roles }
    }
}

impl NewTokenJson {
    /// Whose it is.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn user(&self) -> Result<Name, String> {
        name("user", &self.user)
    }

    /// What is kept of a token that whoever asks has made.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn hash(&self) -> Result<Option<TokenHash>, String> {
        let Some(text) = &self.sha256 else { return Ok(None) };
        let wrong = || "sha256 must have 64 hexadecimal digits".to_owned();
        let mut hash = TokenHash::default();
        if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Some(hash))
    }
}

impl TokenJson {
    /// The JSON of a token, without itself.
    pub fn of(name: &Name, token: &Token) -> TokenJson {
        TokenJson {
            name: name.to_string(),
            user: token.user.to_string(),
            made: rfc3339(token.made),
            expires: token.expires.map(rfc3339),
            token: None,
        }
    }
}

fn rfc3339(seconds: u64) -> String {
    let time =
        i64::try_from(seconds).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    // Fails for years that no clock says.
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

impl CanJson {
    /// What is asked for, and of whom; none: of whoever asks.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn question(&self) -> Result<(Option<Name>, Question), String> {
        let user = self.user.as_deref().map(|user| name("user", user)).transpose()?;
        let question = match (&self.may, &self.admin) {
            (Some(may), None) => Question::Keys(right(may)?, self.keys.range()?),
            (None, Some(what)) if self.keys == KeysJson::default() => {
                Question::Admin(administration(what)?)
            }
            _ => {
                return Err(
                    "it asks for one right on keys (may), or for one kind of admin".to_owned()
                );
            }
        };
        Ok((user, question))
    }
}

/// 256 random bits as a token; none if the system gives none.
pub fn new_token() -> Option<String> {
    let mut bytes = [0; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is kept of a token.
pub fn token_hash(token: &[u8]) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_told_as_it_was_stated() {
        let text = r#"{"rights":[{"prefix":"app/","may":["read","write"]},{"key":"a","may":["watch"]},{"start":"x","may":["read"]},{"prefix":"","may":["read"]},{"start":"a","end":"c","may":["read"]}],"admin":["members","audit"]}"#;
        let json: RoleJson = serde_json::from_str(text).unwrap();
        let role = json.role().unwrap();
        let name: Name = "app".parse().unwrap();
        let told = RoleJson { name: None, ..RoleJson::of(&name, &role) };
        assert_eq!(serde_json::to_string(&told).unwrap(), text);
        let binary = r#"{"rights":[{"prefix_base64":"/w==","may":["read"]}]}"#;
        let role = serde_json::from_str::<RoleJson>(binary).unwrap().role().unwrap();
        let told = RoleJson::of(&name, &role);
        assert_eq!(told.rights[0].keys.prefix_base64.as_deref(), Some("/w=="));
        assert_eq!(told.role().unwrap(), role);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let why = |text: &str| serde_json::from_str::<RoleJson>(text).unwrap().role().unwrap_err();
        assert!(
            why(r#"{"rights":[{"prefix":"a","may":["reed"]}]}"#).contains("rights[0]: \"reed\"")
        );
        assert!(why(r#"{"rights":[{"may":["read"]}]}"#).contains("name the keys"));
        assert!(why(r#"{"rights":[{"prefix":"a","may":[]}]}"#).contains("may is empty"));
        assert!(why(r#"{"rights":[{"prefix":"a","key":"b","may":["read"]}]}"#).contains("exclude"));
        assert!(why(r#"{"rights":[{"start":"b","end":"a","may":["read"]}]}"#).contains("no key"));
        assert!(why(r#"{"admin":["root"]}"#).contains("members, leader"));
        let can = |text: &str| serde_json::from_str::<CanJson>(text).unwrap().question();
        assert!(can("{}").is_err() && can(r#"{"may":"read"}"#).is_err());
        assert!(can(r#"{"admin":"auth","key":"a"}"#).is_err());
        assert!(can(r#"{"may":"read","key":"a"}"#).is_ok() && can(r#"{"admin":"auth"}"#).is_ok());
    }
}
