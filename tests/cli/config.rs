//! `konsen config` and `konsen version`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
    assert!(shown.contains("features:\n  hold: off\n"), "{shown}");
    assert!(shown.contains("history:\n  keep: 5m\n  revisions: 1000000\n"), "{shown}");
    std::fs::write(dir.path().join("shown.yml"), &shown).unwrap();
    assert_eq!(run(&["config", "show", "--config", "shown.yml"]).ok(), shown);
}

/// A file with these servers, and one HTTP address each.
fn write(dir: &Path, name: &str, servers: &str, rest: &str) {
    let text = format!("servers:\n{servers}httpServers:\n  a: 127.0.0.1:1\n{rest}");
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn yaml_that_means_something_else_is_told_with_its_line_its_key_and_what_would_be_right() {
    let dir = TempDir::new().unwrap();
    for (servers, rest, parts) in [
        ("  a: [::1]:1\n", "", &["line 2", "a: ", "quotes"][..]),
        ("  a: *:1\n", "", &["line 2", "a: ", "quotes"]),
        ("  a: %x\n", "", &["line 2", "a: ", "quotes"]),
        ("  null: 127.0.0.1:1\n", "", &["line 2", "null: ", "quotes"]),
        ("  ~: 127.0.0.1:1\n", "", &["line 2", "quotes"]),
        ("  a: 127.0.0.1:1\n", "---\nservers:\n  b: 127.0.0.1:1\n", &["line", "a second document"]),
        ("  a: 127.0.0.1:1\n", "raft: {heartbeat: [1, 2]}\n", &["line 5", "raft: ", "one value"]),
        ("  a: 127.0.0.1:1\n", "limits: 5\n", &["line 5", "limits: ", "keys"]),
        ("\ta: 1.1.1.1:1\n", "", &["line 2", "tab"]),
    ] {
        write(dir.path(), "c.yml", servers, rest);
        let outcome = konsen(dir.path(), &["config", "check", "--config", "c.yml"]);
        for part in parts {
            assert!(
                outcome.err.contains(part),
                "{servers}{rest}: {part} is not in {}",
                outcome.err
            );
        }
        assert!(!outcome.err.contains("from_str"), "{}", outcome.err);
        outcome.failed(1, "c.yml");
    }
}

#[test]
fn what_is_no_configuration_is_not_read_for_ever() {
    let dir = TempDir::new().unwrap();
    konsen(dir.path(), &["config", "check", "--config", "/dev/zero"])
        .failed(1, "larger than 1 MiB");
    konsen(dir.path(), &["config", "check", "--config", "."]).failed(1, "cannot be read");
}

#[test]
fn nodes_that_cannot_reach_each_other_are_no_cluster() {
    let dir = TempDir::new().unwrap();
    let text = "servers: {a: '127.0.0.1:1', b: '[::1]:1', c: 'host:1'}\n\
                httpServers: {a: '127.0.0.1:2', b: '[::1]:2', c: 'host:2'}\n";
    std::fs::write(dir.path().join("c.yml"), text).unwrap();
    let check = ["config", "check", "--config", "c.yml", "--name", "a"];
    konsen(dir.path(), &check)
        .failed(1, "a has the IPv4 address 127.0.0.1:1 and b the IPv6 address");
    konsen(dir.path(), &[&check[..], &["--listen", "[::]:1"]].concat()).ok();
    std::fs::write(dir.path().join("c.yml"), text.replace("127.0.0.1", "[::2]")).unwrap();
    konsen(dir.path(), &check).ok();
}

#[test]
fn files_of_one_cluster_are_compared() {
    let dir = TempDir::new().unwrap();
    let run = |others: &[&str]| {
        konsen(dir.path(), &[&["config", "check", "--config", "a.yml"], others].concat())
    };
    write(dir.path(), "a.yml", "  a: 127.0.0.1:1\n", "");
    write(dir.path(), "b.yml", "  a: 127.0.0.1:1\n", "limits: {connections: 7}\n");
    let said = run(&["b.yml", "a.yml"]).ok();
    assert!(said.contains("says the same as 2 more"), "{said}");
    for (rest, part) in [
        ("limits: {value: 2MiB}\n", "c.yml: limits.value: 2.0 MiB, and in a.yml 1.0 MiB"),
        ("raft: {electionTimeout: 1s}\n", "c.yml: raft.electionTimeout: 1s, and in a.yml 500ms"),
        ("cluster: x\n", "c.yml: cluster: x, and in a.yml konsen"),
    ] {
        write(dir.path(), "c.yml", "  a: 127.0.0.1:1\n", rest);
        run(&["b.yml", "c.yml"]).failed(1, part);
    }
    write(dir.path(), "c.yml", "  a: 127.0.0.1:9\n", "");
    run(&["c.yml"]).failed(1, "c.yml: servers.a: 127.0.0.1:9, and in a.yml 127.0.0.1:1");
}

#[test]
fn a_key_that_others_can_read_is_told_of() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "c.yml", "  a: 127.0.0.1:1\n", "tls: {key: node.key}\n");
    let key = dir.path().join("node.key");
    for (mode, told) in [(0o666, true), (0o640, true), (0o600, false), (0o400, false)] {
        std::fs::write(&key, "").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let outcome = konsen(dir.path(), &["config", "check", "--config", "c.yml"]);
        assert_eq!(outcome.err.contains("node.key can be read by others"), told, "{}", outcome.err);
        outcome.ok();
        std::fs::remove_file(&key).unwrap();
    }
}

#[test]
fn the_version() {
    let dir = TempDir::new().unwrap();
    let said = konsen(dir.path(), &["version"]).ok();
    assert_eq!(said, format!("konsen {}\n", env!("CARGO_PKG_VERSION")));
}
