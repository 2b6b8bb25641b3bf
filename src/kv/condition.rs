//! Conditional requests (RFC 9110, section 13), as the compares of a transaction.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::revision::Revision;
use super::txn::{Compare, Over, Test};

/// Preconditions of RFC 9110, both of which must hold; the default always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `If-Match`: the key's mod revision is one of these, or it exists.
    pub if_match: Option<Matcher>,
    /// `If-None-Match`: the key's mod revision is none of these, or it does not exist.
    pub if_none_match: Option<Matcher>,
}

/// The right side of `If-Match` and `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Matcher {
    /// `*`: anything that exists.
    Any,
    /// One of these mod revisions. An entity tag that is no revision of ours matches nothing and is
    /// left out.
    Revisions(Vec<Revision>),
}

impl Condition {
    /// Whether it holds for a key with that mod revision, or for one that does not exist.
    pub fn holds(&self, current: Option<Revision>) -> bool {
        let matched = self.if_match.as_ref().is_none_or(|matcher| matcher.matches(current));
        let none_matched =
            !self.if_none_match.as_ref().is_some_and(|matcher| matcher.matches(current));
        matched && none_matched
    }

    /// The same as compares of a key.
    pub fn compares(self, key: &Bytes) -> Vec<Compare> {
        let if_match = self.if_match.map(|matcher| match matcher {
            Matcher::Any => Test::Exists(true),
            Matcher::Revisions(named) => Test::OneOf(named),
        });
        let if_none_match = self.if_none_match.map(|matcher| match matcher {
            Matcher::Any => Test::Exists(false),
            Matcher::Revisions(named) => Test::NoneOf(named),
        });
        let tests = if_match.into_iter().chain(if_none_match);
        tests.map(|test| Compare { over: Over::Key(key.clone()), test }).collect()
    }
}

impl Matcher {
    /// Whether a key with that mod revision is meant; one that does not exist never is.
    pub fn matches(&self, current: Option<Revision>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Matcher::Any, Some(_)) => true,
            (Matcher::Revisions(named), Some(current)) => named.contains(&current),
        }
    }
}
