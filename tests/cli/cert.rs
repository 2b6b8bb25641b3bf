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

#[test]
fn a_key_stays_where_it_was_made() {
    let dir = TempDir::new().unwrap();
    let run = |arguments: &[&str]| konsen(dir.path(), arguments);
    let host = ["--dir", "host"];
    run(&["cert", "ca"]).ok();
    run(&[&["cert", "request", "--name", "node4", "--host", "10.0.0.4"][..], &host].concat()).ok();
    let key = dir.path().join("host/node4.key");
    assert_eq!(mode(&key), 0o600);
    run(&[&["cert", "request", "--name", "node4"][..], &host].concat()).failed(1, "--force");
    let said = run(&["cert", "sign", "--request", "host/node4.csr", "--days", "30"]).ok();
    assert!(said.contains("node node4 of the cluster konsen, for 10.0.0.4"), "{said}");
    let files =
        ["certs/ca.crt", "host/node4.crt", "host/node4.key"].map(|file| dir.path().join(file));
    let material = konsen::pki::Material::load(&files[0], &files[1], &files[2]).unwrap();
    assert!(material.is_for(&["10.0.0.4".parse().unwrap(), "node4".parse().unwrap()]));
    run(&["cert", "sign", "--request", "host/node4.csr"]).failed(1, "--force");
    run(&["cert", "sign", "--request", "host/node4.key"]).failed(1, "host/node4.key: ");
    run(&["cert", "sign", "--request", "host/none.csr"]).failed(1, "cannot be read");
    run(&[&["cert", "request", "--client", "--name", "alice"][..], &host].concat()).ok();
    run(&["cert", "sign", "--request", "host/alice.csr"]).ok();
    assert!(run(&["cert", "show", "host/alice.crt"]).ok().contains("client alice"));
}

#[test]
fn the_authority_is_inside_of_the_nodes_that_are_named() {
    let dir = TempDir::new().unwrap();
    let names: Vec<String> = (1..=5).map(|at| format!("node{at}: '10.0.0.{at}:1'")).collect();
    let names = names.join(", ");
    let yml = format!("servers: {{{names}}}\nhttpServers: {{{names}}}\nlocalServerName: node1\n");
    fs::write(dir.path().join("cluster.yml"), yml).unwrap();
    let build = |more: &[&str]| {
        konsen(
            dir.path(),
            &[&["cluster", "build", "--config", "cluster.yml", "--no-profile"][..], more].concat(),
        )
    };
    let signers = || -> Vec<String> {
        let names = (1..=5).map(|at| format!("node{at}"));
        let file = |name: &str, file: &str| dir.path().join("output").join(name).join(file);
        names
            .filter(|name| {
                let has = file(name, "certs/ca.key").exists();
                let yml = fs::read_to_string(file(name, "cluster.yml")).unwrap();
                assert_eq!(yml.contains("  authorityKey: certs/ca.key\n"), has, "{name}: {yml}");
                assert!(!has || mode(&file(name, "certs/ca.key")) == 0o600);
                has
            })
            .collect()
    };
    build(&[]).ok();
    assert!(signers().is_empty());
    let said = build(&["--authority", "inside"]).ok();
    assert!(said.contains("The folders of node1, node2, node3 hold it, too"), "{said}");
    assert_eq!(signers(), ["node1", "node2", "node3"]);
    build(&["--authority", "inside", "--signers", "node5"]).ok();
    assert_eq!(signers(), ["node5"], "the key goes from those that are to have none");
    build(&["--authority", "inside", "--signers", "node9"]).failed(2, "node9");
    build(&["--signers", "node1"]).failed(2, "--authority inside");
}
