//! Makes the crate with all mistakes. What is as it was before is not written again, so that cargo builds only what
//! changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::mistakes::Mistake;
use super::weave;

/// What the crate needs beside `src`, and no mistake is made in.
const LINKED: [&str; 4] = ["benches", "conf", "docs", "tests"];

/// What is another in the manifest of the tree. Its feature tells the simulator that there are mistakes, and cargo
/// that this is not the crate itself, whose builds it shares a folder with.
const MANIFEST: [(&str, &str); 2] = [
    ("[features]\ndefault = [", "[features]\nplanted = []\ndefault = [\"planted\", "),
    ("[lints.rust]\n", "[lints.rust]\nwarnings = { level = \"allow\", priority = 1 }\n"),
];

pub(crate) fn make(root: &Path, tree: &Path, mistakes: &[Mistake]) -> Result<(), String> {
    let mut texts = BTreeMap::new();
    for path in files(&root.join("src"))? {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        texts.insert(name, read(&path)?);
    }
    texts.extend(weave::sources(root, mistakes).map_err(|misfits| misfits.join("\n"))?);
    texts.entry("src/lib.rs".to_owned()).or_default().push_str("pub mod mutant;\n");
    texts.insert("src/mutant.rs".to_owned(), module(mistakes));
    texts.insert("Cargo.toml".to_owned(), manifest(root)?);
    texts.insert("Cargo.lock".to_owned(), read(&root.join("Cargo.lock"))?);
    for (name, text) in &texts {
        write(&tree.join(name), text)?;
    }
    let wanted: BTreeSet<PathBuf> = texts.keys().map(|name| tree.join(name)).collect();
    for path in files(&tree.join("src"))?.into_iter().filter(|path| !wanted.contains(path)) {
        fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
    }
    LINKED.iter().try_for_each(|name| link(&tree.join(name), &root.join(name)))
}

fn manifest(root: &Path) -> Result<String, String> {
    let mut manifest = read(&root.join("Cargo.toml"))?;
    for (here, there) in MANIFEST {
        if manifest.matches(here).count() != 1 {
            return Err(format!("Cargo.toml does not have exactly once:\n{here}"));
        }
        manifest = manifest.replace(here, there);
    }
    Ok(manifest)
}

/// The module that answers whether a mistake is planted.
fn module(mistakes: &[Mistake]) -> String {
    let listed = |line: fn(&Mistake) -> String| mistakes.iter().map(line).collect::<String>();
    let variants = listed(|one| format!("    /// {}\n    {},\n", one.meaning, one.name));
    let all = listed(|one| format!("        Mutant::{},\n", one.name));
    let meanings =
        listed(|one| format!("            Mutant::{} => {:?},\n", one.name, one.meaning));
    format!(
        "//! Which of the mistakes is planted.

use std::cell::Cell;

thread_local! {{
    static PLANTED: Cell<Option<Mutant>> = const {{ Cell::new(None) }};
}}

/// Whether the mistake is planted in this thread.
pub fn on(mutant: Mutant) -> bool {{
    PLANTED.get() == Some(mutant)
}}

/// Plants a mistake in this thread, or takes the last one out.
pub fn plant(mutant: Option<Mutant>) {{
    PLANTED.set(mutant);
}}

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {{
{variants}}}

impl Mutant {{
    /// All of them.
    pub const ALL: &[Mutant] = &[
{all}    ];

    /// What is done wrong.
    pub fn mistake(self) -> &'static str {{
        match self {{
{meanings}        }}
    }}
}}
"
    )
}

/// All files of a folder and those within it.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| failed(path, &error))
}

/// Writes a file, unless that is what it holds.
fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap();
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    fs::write(path, text).map_err(|error| failed(path, &error))
}

/// Lets `path` be a link to `to`, which it may be already.
fn link(path: &Path, to: &Path) -> Result<(), String> {
    match fs::read_link(path) {
        Ok(before) if before == to => return Ok(()),
        Ok(_) => fs::remove_file(path).map_err(|error| failed(path, &error))?,
        Err(_) => {}
    }
    symlink(to, path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
