//! What may be done, by a model that knows no ranges: it looks at one key of each gap between all borders that there are.

use std::collections::BTreeSet;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// The rights, as roles name them.
pub(crate) const RIGHTS: [&str; 3] = ["read", "write", "watch"];

/// Some keys, by where they begin and end.
#[derive(Clone, Debug)]
pub(crate) enum Span {
    Key(String),
    Prefix(String),
    Between(String, Option<String>),
}

impl Span {
    pub(crate) fn draw(chance: &mut StdRng) -> Span {
        match chance.random_range(0..4) {
            0 => Span::Key(word(chance, 1)),
            1 => Span::Prefix(word(chance, 0)),
            2 => Span::Between(word(chance, 1), None),
            _ => {
                let (one, other) = (word(chance, 1), word(chance, 1));
                match one.cmp(&other) {
                    std::cmp::Ordering::Less => Span::Between(one, Some(other)),
                    std::cmp::Ordering::Greater => Span::Between(other, Some(one)),
                    std::cmp::Ordering::Equal => Span::Key(one),
                }
            }
        }
    }

    fn contains(&self, key: &str) -> bool {
        match self {
            Span::Key(own) => own == key,
            Span::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Span::Between(start, end) => {
                key >= start.as_str() && end.as_ref().is_none_or(|end| key < end.as_str())
            }
        }
    }

    /// As a role or a transaction names them.
    pub(crate) fn json(&self) -> Value {
        match self {
            Span::Key(key) => json!({"key": key}),
            Span::Prefix(prefix) => json!({"prefix": prefix}),
            Span::Between(start, None) => json!({"start": start}),
            Span::Between(start, Some(end)) => json!({"start": start, "end": end}),
        }
    }

    /// As a listing names them.
    pub(crate) fn query(&self) -> String {
        match self {
            Span::Key(key) => format!("start={key}&end={key}%00"),
            Span::Prefix(prefix) => format!("prefix={prefix}"),
            Span::Between(start, None) => format!("start={start}"),
            Span::Between(start, Some(end)) => format!("start={start}&end={end}"),
        }
    }
}

/// A short word of three letters.
pub(crate) fn word(chance: &mut StdRng, least: usize) -> String {
    let length = chance.random_range(least..3);
    (0..length).map(|_| char::from(b"abc"[chance.random_range(0..3)])).collect()
}

/// Every word, and right behind each: so there is one key in every gap that two borders leave.
fn samples() -> Vec<String> {
    let mut words = vec![String::new()];
    for _ in 0..2 {
        let longer = words.clone().into_iter();
        words.extend(longer.flat_map(|word| ["a", "b", "c"].map(|letter| word.clone() + letter)));
    }
    let words: BTreeSet<String> = words.into_iter().collect();
    let mut all = BTreeSet::new();
    for word in words {
        // After the last one that begins so comes what begins with the next letter.
        for end in ["", "\0", "\0\0", "a\0", "b\0", "c\0", "d", "d\0", "cz"] {
            all.insert(word.clone() + end);
        }
    }
    all.remove("");
    all.into_iter().collect()
}

/// What a user may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) grants: Vec<(Span, BTreeSet<&'static str>)>,
    pub(crate) admin: BTreeSet<&'static str>,
}

impl Model {
    /// Whether all keys of a span may be done that with.
    pub(crate) fn may(&self, right: &str, span: &Span) -> bool {
        let keys = samples();
        let mut asked = keys.iter().filter(|key| span.contains(key));
        let held = |key: &String| {
            self.grants.iter().any(|(held, rights)| rights.contains(right) && held.contains(key))
        };
        asked.all(held)
    }
}
