//! `konsen cert`.

use std::fs;

use tempfile::TempDir;

use crate::{konsen, mode};

#[test]
fn made_shown_kept_and_renewed() {
    let dir = TempDir::new().unwrap();
    let run = |arguments: &[&str]| konsen(dir.path(), arguments);
    let read = |file: &str| fs::read(dir.path().join("certs").join(file)).unwrap();
    run(&["cert", "node", "--name", "node1"]).failed(1, "certs/ca.crt");
    run(&["cert", "ca"]).ok();
    run(&["cert", "ca"]).failed(1, "--force");
    run(&["cert", "node", "--name", "node1", "--host", "h1", "--host", "10.0.0.1"]).ok();
    run(&["cert", "client", "--name", "alice", "--days", "3"]).ok();
    run(&["cert", "client", "--name", "ca", "--force"]).failed(2, "ca");
    for key in ["ca.key", "node1.key", "alice.key"] {
        assert_eq!(mode(&dir.path().join("certs").join(key)), 0o600, "{key}");
    }
    let shown = run(&["cert", "show"]).ok();
    for part in [
        "authority",
        "node node1 in cluster konsen",
        "h1",
        "10.0.0.1",
        "client alice",
        "2 days left",
        "mode 0600",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let json = run(&["cert", "show", "-o", "json", "certs/node1.crt"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["kind"], &json[0]["name"]), (&"node".into(), &"node1".into()));

    let before = (read("node1.crt"), read("node1.key"));
    run(&["cert", "node", "--name", "node1"]).failed(1, "node1.crt");
    assert_eq!((read("node1.crt"), read("node1.key")), before);
    run(&["cert", "renew", "--name", "node1"]).ok();
    assert!(read("node1.crt") != before.0 && read("node1.key") != before.1);
    let renewed = run(&["cert", "show", "-o", "json", "certs/node1.crt"]).ok();
    let renewed: serde_json::Value = serde_json::from_str(&renewed).unwrap();
    assert_eq!(renewed[0]["hosts"], json[0]["hosts"]);
    run(&["cert", "renew", "certs/ca.crt"]).failed(1, "authority");
}

#[test]
fn what_is_not_understood_exits_2() {
    let dir = TempDir::new().unwrap();
    for arguments in [
        &["cert", "node", "--name", "Node_1"][..],
        &["cert", "node"],
        &["cert", "ca", "--days", "0"],
        &["cert", "renew"],
        &["cert", "renew", "--name", "a", "b.crt"],
        &["frobnicate"],
    ] {
        konsen(dir.path(), arguments).failed(2, "");
    }
}
