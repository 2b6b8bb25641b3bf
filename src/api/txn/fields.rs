//! The flat objects of a request: names with plain values. Reading one never holds more than the bytes that it is written in.

use std::cell::{Cell, RefCell};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::super::kind::Kind;

/// Where in a request something is read. What goes wrong ends the reading, and leaves this where it was.
#[derive(Debug)]
pub(super) struct Place {
    steps: RefCell<Vec<Step>>,
    kind: Cell<Kind>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Name(&'static str),
    Index(usize),
}

impl Place {
    pub(super) fn new() -> Place {
        Place { steps: RefCell::default(), kind: Cell::new(Kind::Malformed) }
    }

    /// Reads something at a name.
    pub(super) fn at<T, E>(
        &self,
        name: &'static str,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.inside(Step::Name(name), read)
    }

    /// Reads something at a position.
    pub(super) fn at_index<T, E>(
        &self,
        index: usize,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.inside(Step::Index(index), read)
    }

    fn inside<T, E>(&self, step: Step, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.steps.borrow_mut().push(step);
        let value = read()?;
        self.steps.borrow_mut().pop();
        Ok(value)
    }

    /// An error of another kind than that the request cannot be understood.
    pub(super) fn wrong<E: de::Error>(&self, kind: Kind, what: impl fmt::Display) -> E {
        self.kind.set(kind);
        E::custom(what)
    }

    /// The kind of what went wrong.
    pub(super) fn kind(&self) -> Kind {
        self.kind.get()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.borrow().iter().enumerate() {
            match step {
                Step::Name(name) if position == 0 => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A plain value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Plain, D::Error> {
        struct PlainVisitor;

        impl Visitor<'_> for PlainVisitor {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number of 0 or more, true, false or null")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Plain, E> {
                Ok(Plain::Null)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Plain, E> {
                Ok(Plain::Bool(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Plain, E> {
                Ok(Plain::Number(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Plain, E> {
                Ok(Plain::Text(value.to_owned()))
            }

            fn visit_string<E: de::Error>(self, value: String) -> Result<Plain, E> {
                Ok(Plain::Text(value))
            }
        }

        deserializer.deserialize_any(PlainVisitor)
    }
}

/// The fields of an object that are not null.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    place: &'a Place,
    found: Vec<(&'static str, Plain)>,
}

/// Reads an object that may have these names, each once.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldsSeed<'a> {
    pub(super) place: &'a Place,
    pub(super) known: &'static [&'static str],
}

impl<'a, 'de> DeserializeSeed<'de> for FieldsSeed<'a> {
    type Value = Fields<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, 'de> Visitor<'de> for FieldsSeed<'a> {
    type Value = Fields<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with some of {}", self.known.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'a>, A::Error> {
        let mut fields = Fields { place: self.place, found: Vec::new() };
        let mut seen = Vec::new();
        while let Some(name) = next_name(&mut map, self.known)? {
            self.place.at(name, || {
                if seen.contains(&name) {
                    return Err(de::Error::custom("it is there twice"));
                }
                seen.push(name);
                match map.next_value()? {
                    Plain::Null => {}
                    value => fields.found.push((name, value)),
                }
                Ok(())
            })?;
        }
        Ok(fields)
    }
}

/// The next name of an object, which is one of those known.
pub(super) fn next_name<'de, A: MapAccess<'de>>(
    map: &mut A,
    known: &'static [&'static str],
) -> Result<Option<&'static str>, A::Error> {
    let Some(given) = map.next_key::<String>()? else { return Ok(None) };
    match known.iter().find(|name| **name == given) {
        Some(name) => Ok(Some(name)),
        None => Err(de::Error::unknown_field(&given, known)),
    }
}

impl<'a> Fields<'a> {
    /// Where they were read.
    pub(super) fn place(&self) -> &'a Place {
        self.place
    }

    /// Whether there is a value at the name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.found.iter().any(|(given, _)| *given == name)
    }

    /// Whether there is an empty text at the name.
    pub(super) fn is_empty(&self, name: &str) -> bool {
        let mut found = self.found.iter();
        found.any(|(given, value)| {
            *given == name && matches!(value, Plain::Text(text) if text.is_empty())
        })
    }

    fn take(&mut self, name: &str) -> Option<Plain> {
        let at = self.found.iter().position(|(given, _)| *given == name)?;
        Some(self.found.swap_remove(at).1)
    }

    fn must_be<T, E: de::Error>(&self, name: &'static str, what: &str) -> Result<T, E> {
        self.place.at(name, || Err(E::custom(format_args!("it must be {what}"))))
    }

    /// The text at the name.
    pub(super) fn text<E: de::Error>(&mut self, name: &'static str) -> Result<Option<String>, E> {
        match self.take(name) {
            None => Ok(None),
            Some(Plain::Text(text)) => Ok(Some(text)),
            Some(_) => self.must_be(name, "a text"),
        }
    }

    /// The number at the name.
    pub(super) fn number<E: de::Error>(&mut self, name: &'static str) -> Result<Option<u64>, E> {
        match self.take(name) {
            None => Ok(None),
            Some(Plain::Number(number)) => Ok(Some(number)),
            Some(_) => self.must_be(name, "a whole number"),
        }
    }

    /// The number at the name, also as a text, as leases are written.
    pub(super) fn decimal<E: de::Error>(&mut self, name: &'static str) -> Result<Option<u64>, E> {
        match self.take(name) {
            None => Ok(None),
            Some(Plain::Number(number)) => Ok(Some(number)),
            Some(Plain::Text(text)) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => self.must_be(name, "a whole number, in decimal"),
            },
            Some(_) => self.must_be(name, "a whole number"),
        }
    }

    /// Whether the name says true.
    pub(super) fn flag<E: de::Error>(&mut self, name: &'static str) -> Result<Option<bool>, E> {
        match self.take(name) {
            None => Ok(None),
            Some(Plain::Bool(flag)) => Ok(Some(flag)),
            Some(_) => self.must_be(name, "true or false"),
        }
    }

    /// The bytes at the name, as text, or at the other name in base64.
    pub(super) fn bytes<E: de::Error>(
        &mut self,
        name: &'static str,
        base64: &'static str,
    ) -> Result<Option<Bytes>, E> {
        match (self.text::<E>(name)?, self.text::<E>(base64)?) {
            (Some(_), Some(_)) => {
                Err(E::custom(format_args!("{name} and {base64} exclude each other")))
            }
            (Some(text), None) => Ok(Some(text.into())),
            (None, Some(encoded)) => match STANDARD.decode(encoded) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(_) => self.must_be(base64, "base64 (standard alphabet, with padding)"),
            },
            (None, None) => Ok(None),
        }
    }
}
