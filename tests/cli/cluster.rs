//! `konsen cluster build`.

use std::fs;

use tempfile::TempDir;

use crate::{konsen, mode, write_cluster};

#[test]
fn folders_are_whole_and_can_be_built_again() {
    let dir = TempDir::new().unwrap();
    write_cluster(dir.path());
    let build = ["cluster", "build", "--config", "cluster.yml"];
    let said = konsen(dir.path(), &build).ok();
    assert!(said.contains("Next:") && said.contains("output/node3"), "{said}");
    assert_eq!(mode(&dir.path().join("certs/ca.key")), 0o600);
    for node in ["node1", "node2", "node3"] {
        let home = dir.path().join("output").join(node);
        for (file, wanted) in [
            ("konsen", 0o755),
            ("bootstrap.sh", 0o755),
            ("cluster.yml", 0o644),
            ("konsen.service", 0o644),
            ("certs/ca.crt", 0o644),
            ("certs/node.crt", 0o644),
            ("certs/node.key", 0o600),
        ] {
            assert_eq!(mode(&home.join(file)), wanted, "{node}/{file}");
        }
        assert!(!home.join("certs/ca.key").exists());
        let yml = fs::read_to_string(home.join("cluster.yml")).unwrap();
        for line in [&format!("localServerName: {node}"), "data: data", "  heartbeat: 40ms"] {
            assert!(yml.lines().any(|have| have == line), "{line:?} is not in {yml}");
        }
        konsen(&home, &["config", "check", "--config", "cluster.yml"]).ok();
        let shown = konsen(&home, &["cert", "show", "certs/node.crt"]).ok();
        assert!(shown.contains(&format!("node {node} in cluster konsen")), "{shown}");
    }
    let read = |file: &str| fs::read(dir.path().join("output").join(file)).unwrap();
    let names = ["node1/certs/node.crt", "node2/certs/node.key", "node3/certs/ca.crt"];
    let before = names.map(read);
    konsen(dir.path(), &build).ok();
    assert_eq!(names.map(read), before);

    // What is no good any more is made again, the rest stays.
    fs::copy(
        dir.path().join("output/node2/certs/node.key"),
        dir.path().join("output/node1/certs/node.key"),
    )
    .unwrap();
    konsen(dir.path(), &build).ok();
    let mended = names.map(read);
    assert_ne!(mended[0], before[0]);
    assert_eq!(mended[1..], before[1..]);

    konsen(dir.path(), &[&build[..], &["--force"]].concat()).ok();
    let forced = names.map(read);
    assert!(forced[0] != mended[0] && forced[1] != mended[1] && forced[2] == mended[2]);
}

#[test]
fn a_file_that_is_wrong_makes_nothing() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("c.yml"), "servers: {a: x}\n").unwrap();
    konsen(dir.path(), &["cluster", "build", "--config", "c.yml"]).failed(1, "servers.a");
    konsen(dir.path(), &["cluster", "build"]).failed(1, "conf/cluster.yml");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
