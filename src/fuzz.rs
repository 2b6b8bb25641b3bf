//! What meets bytes from outside, fed with any bytes. Part of tests and of fuzzing builds only.
//!
//! Each target panics if a promise of its decoder does not hold. `tests/fuzz` runs them under libFuzzer;
//! the test here runs them over the corpora that came of it, and over what is near them.

use crate::{check, client, config, http, kv, net, pki, raft, server, store};

/// One target.
pub type Target = fn(&[u8]);

/// All targets by name, which is the name of the corpus too.
pub const TARGETS: &[(&str, Target)] = &[
    ("answers", client::fuzz::answers),
    ("backup", store::fuzz::backup),
    ("blocks", http::fuzz::blocks),
    ("certificate", pki::fuzz::certificate),
    ("cluster_yml", config::fuzz::cluster_yml),
    ("commands", kv::fuzz::commands),
    ("conditions", http::fuzz::conditions),
    ("cursor", http::fuzz::cursor),
    ("form", http::fuzz::form),
    ("frames", net::fuzz::frames),
    ("heads", http::fuzz::heads),
    ("history", check::fuzz::history),
    ("identity", store::fuzz::identity),
    ("item_json", http::fuzz::item_json),
    ("messages", net::fuzz::messages),
    ("node", raft::fuzz::node),
    ("peer_requests", server::fuzz::peer_requests),
    ("query", http::fuzz::query),
    ("rows", kv::fuzz::rows),
    ("snapshot", store::fuzz::snapshot),
    ("store_files", store::fuzz::files),
    ("txn", http::fuzz::txn),
];

/// Runs a target.
///
/// # Panics
/// If there is no such target, or if the target fails.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("there is no target {name}"));
    target(data);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn inputs(name: &str) -> Vec<PathBuf> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn every_target_passes_its_corpus_and_what_is_near_it() {
        for (name, target) in TARGETS {
            let paths = inputs(name);
            assert!(paths.len() >= 5, "the corpus of {name} is nearly empty");
            for path in paths {
                let bytes = fs::read(&path).unwrap();
                println!("{}", path.display());
                target(&bytes);
                // Whatever was cut off or turned over: some places of long inputs, all of short ones.
                let step = bytes.len() / 16 + 1;
                for at in (0..bytes.len()).step_by(step) {
                    target(&bytes[..at]);
                    let mut turned = bytes.clone();
                    turned[at] ^= 1 << (at % 8);
                    target(&turned);
                }
            }
        }
    }

    #[test]
    fn every_target_has_a_binary() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        for (name, _) in TARGETS {
            let path = format!("targets/{name}.rs");
            assert!(manifest.contains(&path), "{name} is not in tests/fuzz/Cargo.toml");
            let text = fs::read_to_string(dir.join(&path)).unwrap();
            assert!(text.contains(&format!("\"{name}\"")), "{path} runs another target");
        }
    }
}
