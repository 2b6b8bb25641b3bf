//! What a request asks to be allowed.

use std::borrow::Cow;
use std::fmt;

use super::super::range::KeyRange;
use super::super::txn::Over;
use super::access::Access;
use super::name::Name;
use super::right::{Administration, Right};

/// The keys that an [`Ask`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys<'a> {
    /// One key.
    One(&'a [u8]),
    /// All of a range, whether they exist or not.
    Range(&'a KeyRange),
}

/// Something that a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// This, with these keys.
    Keys(Right, Keys<'a>),
    /// This, with the cluster.
    Admin(Administration),
    /// To be somebody whom the cluster knows.
    BeKnown,
    /// What nobody may who is not a node at its own work.
    Nobody,
}

/// A kind of request. What cannot say what it needs cannot be carried out for anybody: whatever serves clients takes
/// requests of this kind only once they are allowed.
pub trait Asks {
    /// Shows everything that has to be allowed; all of it, or nothing is done.
    fn asks(&self, ask: &mut dyn FnMut(Ask<'_>));
}

impl<'a> From<&'a Over> for Keys<'a> {
    fn from(over: &'a Over) -> Keys<'a> {
        match over {
            Over::Key(key) => Keys::One(key),
            Over::Range(range) => Keys::Range(range),
        }
    }
}

impl Access {
    /// The first thing that a request asks for and this user may not; none if it may all of it.
    pub fn refuses(&self, user: &Name, request: &dyn Asks) -> Option<String> {
        let mut refused = None;
        request.asks(&mut |ask| {
            if refused.is_none() && !self.allows(user, ask) {
                refused = Some(ask.to_string());
            }
        });
        refused
    }
}

/// How many bytes of a key are shown.
const SHOWN_BYTES: usize = 100;

fn shown(key: &[u8]) -> Cow<'_, str> {
    match key.get(..SHOWN_BYTES) {
        None => String::from_utf8_lossy(key),
        Some(first) => format!("{}…", String::from_utf8_lossy(first)).into(),
    }
}

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::One(key) => write!(f, "the key {:?}", shown(key)),
            Keys::Range(KeyRange { start, end: None }) if start.is_empty() => {
                f.write_str("all keys")
            }
            Keys::Range(KeyRange { start, end: None }) => {
                write!(f, "the keys from {:?} on", shown(start))
            }
            Keys::Range(KeyRange { start, end: Some(end) }) => {
                write!(f, "the keys from {:?} to before {:?}", shown(start), shown(end))
            }
        }
    }
}

impl fmt::Display for Ask<'_> {
    /// What somebody may not: "read the key …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Keys(right, keys) => write!(f, "{} {keys}", right.word()),
            Ask::Admin(what) => write!(f, "administer {:?}", what.word()),
            Ask::BeKnown => f.write_str("ask this"),
            Ask::Nobody => f.write_str("do this, nor may anybody"),
        }
    }
}
