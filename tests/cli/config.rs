//! `konsen config` and `konsen version`.

use tempfile::TempDir;

use crate::{konsen, write_cluster};

#[test]
fn checked_and_shown() {
    let dir = TempDir::new().unwrap();
    write_cluster(dir.path());
    let run = |arguments: &[&str]| konsen(dir.path(), arguments);
    run(&["config", "check", "--config", "cluster.yml"]).failed(1, "node1, node2, node3");
    run(&["config", "check", "--config", "cluster.yml", "--name", "node9"]).failed(1, "node9");
    run(&["config", "check", "--config", "none.yml"]).failed(1, "none.yml");
    let said = run(&["config", "check", "--config", "cluster.yml", "--name", "node2"]).ok();
    assert!(said.contains("ok"), "{said}");
    let shown = run(&["config", "show", "--config", "cluster.yml", "--name", "node2"]).ok();
    assert!(shown.contains("electionTimeout: 500ms") && shown.contains("stateCache: 64MiB"));
    assert!(shown.contains("history:\n  keep: 5m\n  revisions: 1000000\n"), "{shown}");
    std::fs::write(dir.path().join("shown.yml"), &shown).unwrap();
    assert_eq!(run(&["config", "show", "--config", "shown.yml"]).ok(), shown);
}

#[test]
fn the_version() {
    let dir = TempDir::new().unwrap();
    let said = konsen(dir.path(), &["version"]).ok();
    assert_eq!(said, format!("konsen {}\n", env!("CARGO_PKG_VERSION")));
}
