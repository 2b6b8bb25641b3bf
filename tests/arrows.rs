//! Who may use whom. The modules share one crate, so this test is their walls.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What each module may use of the crate.
const ALLOWED: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("kv", &[]),
    ("store", &["raft", "kv"]),
    ("cluster", &["raft"]),
    ("replica", &["raft", "kv", "store", "cluster"]),
    ("config", &["pki"]),
    ("pki", &[]),
    ("net", &["raft", "cluster", "config", "pki"]),
    ("server", &["raft", "kv", "store", "cluster", "replica", "net", "config", "pki"]),
    ("http", &["raft", "kv", "store", "cluster", "replica", "server", "config"]),
    ("client", &["kv", "server", "http"]),
    ("check", &["kv"]),
    (
        "cli",
        &[
            "raft", "kv", "store", "cluster", "replica", "config", "pki", "net", "server", "http",
            "client", "check",
        ],
    ),
];

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let module = path.file_name().unwrap().to_str().unwrap().to_owned();
        let may = allowed.get(module.as_str()).unwrap_or_else(|| {
            panic!("module {module} is not in the table of this test; see ARCHITECTURE.md")
        });
        let used = used_by(&path);
        for other in &used {
            assert!(
                *other == module || may.contains(&other.as_str()),
                "{module} uses {other}, which the architecture does not allow"
            );
        }
        seen.insert(module);
    }
    assert_eq!(seen, allowed.keys().map(|name| (*name).to_owned()).collect());
}

/// The first path segment after every `crate::` in the module's files.
fn used_by(dir: &Path) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            used.extend(used_by(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("crate::") {
                let rest = &text[at + "crate::".len()..];
                let name: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !name.is_empty() && name.chars().next().is_some_and(char::is_lowercase) {
                    used.insert(name);
                }
            }
        }
    }
    used
}
