//! How the relations of compares are written.

use crate::kv::Relation;

/// Each relation as it is written.
pub const RELATIONS: [(&str, Relation); 6] = [
    ("==", Relation::Eq),
    ("!=", Relation::Ne),
    ("<", Relation::Lt),
    ("<=", Relation::Le),
    (">", Relation::Gt),
    (">=", Relation::Ge),
];

/// The relation that is written so.
pub fn relation_of(text: &str) -> Option<Relation> {
    RELATIONS.iter().find(|(written, _)| *written == text).map(|(_, relation)| *relation)
}

/// How a relation is written.
pub(super) fn written(relation: Relation) -> &'static str {
    let found = RELATIONS.iter().find(|(_, one)| *one == relation);
    found.map_or("==", |(text, _)| text)
}
