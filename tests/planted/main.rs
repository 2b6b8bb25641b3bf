//! Mistakes that somebody could make, and a tree of the sources with all of them, for the simulator to find.
//!
//! `tests/sim/mutants/` states each: what is right in which line of which file, and what stands there when it is
//! planted. The sources themselves know nothing of them. Here it is checked that every one still fits, and the tree
//! is made: the crate with each mistake behind a question, asked while it runs, so that one build serves for all.
//! `ci/planted` makes the tree and runs the simulator in it.
#![allow(clippy::unwrap_used)]

mod mistakes;
mod tree;
mod weave;

use std::collections::BTreeSet;
use std::path::Path;

use mistakes::Mistake;

/// Where the crate is.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the tree is made, beside what cargo builds.
fn place() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("planted")
}

fn all() -> Vec<Mistake> {
    mistakes::read(&root().join("tests/sim/mutants")).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn every_mistake_fits_the_sources() {
    let all = all();
    let misfits = weave::sources(root(), &all).err().unwrap_or_default();
    assert!(
        misfits.is_empty(),
        "mistakes of tests/sim/mutants do not fit:\n{}",
        misfits.join("\n")
    );
}

#[test]
fn every_mistake_has_a_name_of_its_own_and_a_meaning() {
    let mut names = BTreeSet::new();
    for Mistake { name, meaning, .. } in all() {
        let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric());
        assert!(is_name, "'{name}' is no name of a variant");
        assert!(meaning.ends_with('.'), "{name}: '{meaning}' is no sentence");
        assert!(names.insert(name.clone()), "there are two mistakes of the name {name}");
    }
}

#[test]
fn the_tree_is_made() {
    tree::make(root(), &place(), &all()).unwrap_or_else(|why| panic!("{why}"));
}
