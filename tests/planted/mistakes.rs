//! The mistakes as the files of `tests/sim/mutants/` state them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A mistake that somebody could make.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) name: String,
    /// What is done wrong, in a sentence.
    pub(crate) meaning: String,
    /// Where.
    pub(crate) edits: Vec<Edit>,
}

/// A place in the sources, and what stands there when the mistake is planted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// Below the crate's root.
    pub(crate) file: String,
    /// One or more whole lines, which the file has exactly once. How far they are indented does not count.
    pub(crate) line: String,
    /// The part of them that is replaced: statements, or an expression, which `line` has exactly once. All of
    /// `line` where it is left out.
    pub(crate) right: Option<String>,
    /// What stands in its place. Nothing where it is left out.
    #[serde(default)]
    pub(crate) wrong: String,
}

/// A mistake as it is written down: most are made in one place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    name: String,
    meaning: String,
    file: String,
    line: String,
    right: Option<String>,
    #[serde(default)]
    wrong: String,
    /// Further places, where it is made in several.
    #[serde(default)]
    also: Vec<Edit>,
}

impl From<Stated> for Mistake {
    fn from(stated: Stated) -> Self {
        let Stated { name, meaning, file, line, right, wrong, also } = stated;
        let first = Edit { file, line, right, wrong };
        Mistake { name, meaning, edits: std::iter::once(first).chain(also).collect() }
    }
}

/// All that the files of a folder state, in the order of their names.
pub(crate) fn read(folder: &Path) -> Result<Vec<Mistake>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "yml"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let stated: Vec<Stated> = serde_saphyr::from_str(&text).map_err(|error| failed(&error))?;
        all.extend(stated.into_iter().map(Mistake::from));
    }
    Ok(all)
}
