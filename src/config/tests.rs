//! Every complaint about a file, and what a file means.

use std::path::Path;
use std::time::Duration;

use super::{AuditConfig, Config, HostPort, NodeName, OnFailure};
use crate::kv::FeatureLevel;
use crate::pki::ClientAuth;

const TWO_KEYS: &str =
    "servers:\n  node1: 192.168.86.25:10001\nhttpServers:\n  node1: 192.168.86.25:20001\n";
const THREE: &str =
    "servers: {a: 'h1:1', b: 'h2:1', c: 'h3:1'}\nhttpServers: {a: 'h1:2', b: 'h2:2', c: 'h3:2'}\n";

fn parse(text: &str, name: Option<&str>) -> Result<Config, String> {
    Config::parse(Path::new("conf/c.yml"), text, name).map_err(|error| error.to_string())
}

/// The line that `text` is refused with holds all of `parts`, and is one line.
#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let error = parse(text, None).unwrap_err();
    assert!(!error.contains('\n'), "{error}");
    assert!(error.starts_with("conf/c.yml"), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn the_original_file_is_complete() {
    let config = parse(&format!("{TWO_KEYS}localServerName: node1\n"), None).unwrap();
    assert_eq!(config.name.as_str(), "node1");
    assert_eq!(config.cluster.as_str(), "konsen");
    assert_eq!(config.raft_address().to_string(), "192.168.86.25:10001");
    assert_eq!(config.http_address().port(), 20001);
    assert_eq!(config.servers.get("node1"), Some(config.raft_address()));
    assert_eq!(config.data, Path::new("conf/data"));
    assert_eq!(config.tls.key, Path::new("conf/certs/node.key"));
    assert_eq!(config.raft.heartbeat, Duration::from_millis(50));
    assert_eq!(config.limits.bodies, 256 << 20);
    assert_eq!(config.history.keep, Some(Duration::from_secs(300)));
    assert_eq!(config.history.revisions, Some(1_000_000));
    // Other hosts reach it.
    assert!(config.http.tls && config.http.client_auth == ClientAuth::Optional);
    assert!(config.warnings.is_empty() && !config.reads.lease);
}

#[test]
fn every_key_is_read() {
    let text = format!(
        "{TWO_KEYS}cluster: other\ndata: /var/k\ntls: {{ca: a, cert: b, key: /c}}\n\
         http: {{tls: true, clientAuth: optional, hosts: [Kv.example.org, \"*\"], idle: 3s, minRate: 2KiB}}\n\
         raft: {{heartbeat: 100ms, electionTimeout: 2s}}\nreads: {{lease: true}}\n\
         history: {{keep: 1h 30m, revisions: off}}\nfeatures: {{hold: 1}}\n\
         audit: {{on: true, reads: false, file: 1MiB, keep: 3, queue: 512KiB, anchor: 2s, onFailure: go-on}}\n\
         limits: {{value: 2MiB, connections: 7, deleteKeys: 5, txnOperations: 6, listRows: 9, requests: 11, userRate: 12, waiters: 0, bodies: 3 MiB, logCache: 4MiB, stateCache: 1GiB, overlay: 2000000}}\n"
    );
    let config = parse(&text, None).unwrap();
    assert_eq!(config.cluster.as_str(), "other");
    assert_eq!(config.data, Path::new("/var/k"));
    assert_eq!(
        (config.tls.ca.as_path(), config.tls.key.as_path()),
        (Path::new("conf/a"), Path::new("/c"))
    );
    assert!(config.http.tls && config.reads.lease);
    assert_eq!(config.http.client_auth, ClientAuth::Optional);
    assert_eq!(config.http.hosts, ["kv.example.org", "*"]);
    assert_eq!((config.http.idle, config.http.min_rate), (Duration::from_secs(3), 2048));
    assert_eq!((config.limits.delete_keys, config.limits.waiters), (5, 0));
    assert_eq!(config.limits.requests, 11);
    assert_eq!(config.limits.user_rate, Some(12));
    assert_eq!(config.limits.txn_operations, 6);
    assert_eq!(config.limits.list_rows, 9);
    assert_eq!(config.raft.election_timeout, Duration::from_secs(2));
    assert_eq!(config.history.keep, Some(Duration::from_secs(5_400)));
    assert_eq!(config.history.revisions, None);
    assert_eq!(config.features.hold, Some(FeatureLevel(1)));
    assert_eq!((config.limits.value, config.limits.connections), (2 << 20, 7));
    assert_eq!((config.limits.bodies, config.limits.overlay), (3 << 20, 2_000_000));
    // What is shown means the same.
    let again = Config::parse(Path::new("elsewhere/c.yml"), &config.to_yaml(), None).unwrap();
    assert_eq!(again.to_yaml(), config.to_yaml());
    assert_eq!((again.limits, again.history), (config.limits, config.history));
    assert_eq!(again.features, config.features);
    assert_eq!(again.http, config.http);
    let audit = AuditConfig {
        on: true,
        reads: false,
        file: 1 << 20,
        keep: 3,
        queue: 512 << 10,
        anchor: Duration::from_secs(2),
        on_failure: OnFailure::GoOn,
    };
    assert_eq!((&again.audit, &config.audit), (&audit, &audit));
    let off = parse(&format!("{TWO_KEYS}features: {{hold: off}}\n"), None).unwrap();
    assert_eq!(off.features.hold, None);
    let off = parse(&format!("{TWO_KEYS}history: {{keep: off, revisions: 7}}\n"), None).unwrap();
    assert_eq!((off.history.keep, off.history.revisions), (None, Some(7)));
}

#[test]
fn the_file_itself() {
    refused("", &["empty", "servers"]);
    refused("# only\n\n---\n", &["empty"]);
    refused("servers: {a: 'x:1'\n", &["line"]);
    refused("servres: {}\n", &["line 1", "servres", "httpServers"]);
    refused(&format!("{TWO_KEYS}raft: {{hartbeat: 1s}}\n"), &["line 5", "hartbeat", "heartbeat"]);
    refused("servers: {a: 'x:1', a: 'y:1'}\n", &["line 1", "a stands here twice"]);
    refused("servers:\n  a:\n", &["line 2", "no value"]);
    let missing = Config::load(Path::new("/nonexistent/c.yml"), None).unwrap_err();
    assert_eq!(missing.to_string(), "/nonexistent/c.yml: there is no such file");
    assert!(missing.hint().is_some());
}

#[test]
fn addresses() {
    for (address, part) in [
        ("192.168.1.1", "has no port"),
        ("10001", "has no port"),
        ("'x:'", "has no port"),
        ("'[::1]'", "has no port"),
        ("'::1:5'", "in brackets"),
        ("'x y:1'", "not an address"),
        ("'x:0'", "port 0"),
        ("'x:65536'", "65535"),
        ("'x:+1'", "65535"),
        ("'0.0.0.0:1'", "cannot dial"),
    ] {
        refused(
            &format!("servers:\n  a: {address}\nhttpServers: {{a: 'x:1'}}\n"),
            &["line 2", "servers.a", part],
        );
    }
    refused("httpServers: {a: 'x:1'}\n", &["servers: is missing"]);
    refused("servers: {a: 'x:1'}\n", &["httpServers: is missing"]);
    refused("servers: {a: 'x:1'}\nhttpServers: {b: 'x:1'}\n", &["httpServers: a is in servers"]);
    refused(
        "servers: {a: 'x:1'}\nhttpServers: {a: 'x:1', b: 'x:2'}\n",
        &["servers: b is in httpServers"],
    );
    refused(
        "servers: {a: 'x:1', b: 'X:1'}\nhttpServers: {a: 'x:1', b: 'x:2'}\n",
        &["line 1", "servers.b", "also the address of a"],
    );
    let text = "servers: {a: 'x:1', b: 'y:1', c: 'z:1'}\nhttpServers: {a: '0.0.0.0:2', b: '0.0.0.0:2', c: '[::]:2'}\n";
    assert!(parse(text, Some("a")).is_ok());
    for text in ["[::1]:5", "1.2.3.4:0", "example.org:80", "node_1:2"] {
        assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
    }
}

#[tokio::test]
async fn hosts_are_looked_up() {
    let resolve = async |text: &str| text.parse::<HostPort>().unwrap().resolve().await;
    assert_eq!(resolve("127.0.0.1:5").await.unwrap().to_string(), "127.0.0.1:5");
    assert!(resolve("localhost:5").await.unwrap().ip().is_loopback());
    let error = resolve("no-such-host.invalid:5").await.unwrap_err().to_string();
    assert!(error.starts_with("no-such-host.invalid:5: cannot look up"), "{error}");
}

#[test]
fn names() {
    for name in ["A", "a_b", "-a", "a-", "123", &"a".repeat(64)] {
        assert!(name.parse::<NodeName>().is_err(), "{name}");
        refused(
            &format!("servers: {{{name}: 'x:1'}}\nhttpServers: {{{name}: 'x:1'}}\n"),
            &["servers.", "is not a name"],
        );
    }
    assert!("a".repeat(63).parse::<NodeName>().is_ok());
    refused(&format!("{TWO_KEYS}cluster: Big\n"), &["line 5", "cluster", "is not a name"]);
    refused(THREE, &["localServerName", "a, b, c"]);
    refused(&format!("{THREE}localServerName: d\n"), &["\"d\"", "a, b, c"]);
    assert_eq!(
        parse(&format!("{THREE}localServerName: a\n"), Some("b")).unwrap().name.as_str(),
        "b"
    );
    assert!(parse(THREE, Some("z")).unwrap_err().contains("\"z\""));
}

#[test]
fn an_even_cluster_is_warned_of() {
    let text = "servers: {a: 'x:1', b: 'y:1'}\nhttpServers: {a: 'x:1', b: 'y:1'}\n";
    let warnings = parse(text, Some("a")).unwrap().warnings;
    assert!(matches!(warnings.as_slice(), [one] if one.contains("odd")), "{warnings:?}");
}

#[test]
fn https_goes_by_the_address_where_nothing_is_said() {
    let of = |address: &str, http: &str| {
        let text = format!("servers: {{a: 'h:1'}}\nhttpServers: {{a: '{address}'}}\n{http}");
        parse(&text, None).unwrap()
    };
    for address in ["127.0.0.1:2", "127.9.9.9:2", "[::1]:2", "localhost:2"] {
        let config = of(address, "");
        assert!(!config.http.tls && config.warnings.is_empty(), "{address}");
        assert_eq!(config.http.client_auth, ClientAuth::None);
        let built = config.with_https();
        assert!(built.http.tls && built.http.client_auth == ClientAuth::Optional, "{address}");
        // What is said stays.
        assert!(!of(address, "http: {tls: false}\n").with_https().http.tls);
    }
    for address in ["10.0.0.1:2", "0.0.0.0:2", "[::]:2", "h1:2", "localhost.example.org:2"] {
        let config = of(address, "");
        assert!(config.http.tls && config.warnings.is_empty(), "{address}");
        assert_eq!(config.http.client_auth, ClientAuth::Optional);
        let plain = of(address, "http: {tls: false}\n");
        assert!(!plain.http.tls && plain.http.client_auth == ClientAuth::None, "{address}");
        let [warning] = &plain.warnings[..] else { panic!("{:?}", plain.warnings) };
        assert!(warning.contains(address) && warning.contains("tls: true"), "{warning}");
        let none = of(address, "http: {clientAuth: none}\n").with_https();
        assert!(none.http.tls && none.http.client_auth == ClientAuth::None, "{address}");
    }
    // Listening elsewhere than is advertised.
    let everywhere: HostPort = "0.0.0.0:2".parse().unwrap();
    assert!(
        of("127.0.0.1:2", "").served_at(&everywhere).unwrap_err().contains("http.tls is not given")
    );
    let allowed = of("127.0.0.1:2", "http: {tls: false}\n").served_at(&everywhere);
    assert!(allowed.unwrap().unwrap().contains("0.0.0.0:2"));
    assert_eq!(of("h:2", "").served_at(&everywhere), Ok(None));
}

#[test]
fn https_may_have_files_of_its_own() {
    let text = format!("{TWO_KEYS}http:\n  tls:\n    cert: w/http.crt\n    key: /etc/http.key\n");
    let config = parse(&text, None).unwrap();
    assert!(config.http.tls && config.http.client_auth == ClientAuth::Optional);
    let [cert, key, clients] = config.https_files();
    assert_eq!((cert, key), (Path::new("conf/w/http.crt"), Path::new("/etc/http.key")));
    assert_eq!(clients, Path::new("conf/certs/ca.crt"));
    let again = Config::parse(Path::new("elsewhere/c.yml"), &config.to_yaml(), None).unwrap();
    assert_eq!(again.to_yaml(), config.to_yaml());
    // In a node's folder, what lies beside the file lies beside it there, too.
    let folder = config.to_yaml_for(&config.name);
    assert!(folder.contains("    cert: w/http.crt\n    key: /etc/http.key\n"), "{folder}");
    let authority =
        parse(&format!("{TWO_KEYS}http: {{tls: {{clientAuthority: company.crt}}}}\n"), None)
            .unwrap();
    let [cert, key, clients] = authority.https_files();
    assert_eq!((cert, key), (authority.tls.cert.as_path(), authority.tls.key.as_path()));
    assert_eq!(clients, Path::new("conf/company.crt"));
}

#[test]
fn values_out_of_range() {
    for (text, parts) in [
        ("raft: {heartbeat: 1ms}", ["raft.heartbeat", "5ms to 10s"]),
        ("raft: {heartbeat: fast}", ["raft.heartbeat", "as in 50ms"]),
        ("raft: {electionTimeout: 99ms}", ["raft.electionTimeout", "100ms or more"]),
        ("raft: {heartbeat: 300ms}", ["raft.electionTimeout", "600ms or more"]),
        ("raft: {electionTimeout: 2m}", ["raft.electionTimeout", "1m"]),
        ("reads: {lease: maybe}", ["reads.lease", "true nor false"]),
        ("http: {clientAuth: some}", ["http.clientAuth", "none, optional, required"]),
        ("http: {tls: false, clientAuth: required}", ["http.clientAuth", "tls: true"]),
        ("http: {tls: yes}", ["http.tls", "neither true nor false, nor a mapping"]),
        ("http: {tls: {cert: a}}", ["http.tls", "cert is given without key"]),
        ("http: {tls: {key: a}}", ["http.tls", "key is given without cert"]),
        ("http: {tls: {cert: '', key: a}}", ["http.tls.cert", "empty"]),
        ("http: {tls: {certs: a}}", ["certs", "clientAuthority"]),
        ("http: {hosts: [a b]}", ["http.hosts", "kv.example.org"]),
        ("http: {idle: 1ms}", ["http.idle", "1s to 1h"]),
        ("http: {stall: never}", ["http.stall", "as in 50ms"]),
        ("http: {minRate: 0}", ["http.minRate", "1 B"]),
        ("limits: {deleteKeys: 0}", ["limits.deleteKeys", "1 to 100000"]),
        ("limits: {txnOperations: 0}", ["limits.txnOperations", "1 to 1000"]),
        ("limits: {listRows: 0}", ["limits.listRows", "1 to 100000000"]),
        ("limits: {readThreads: all}", ["limits.readThreads", "as in 4"]),
        ("history: {keep: 10ms}", ["history.keep", "1s to 30days"]),
        ("history: {keep: long}", ["history.keep", "as in 5m, nor off"]),
        ("history: {keep: 0s}", ["history.keep", "1s to 30days"]),
        ("history: {revisions: 0}", ["history.revisions", "1 to 1000000000000"]),
        ("history: {revisions: many}", ["history.revisions", "as in 1000000, nor off"]),
        ("features: {hold: 0}", ["features.hold", "knows the feature levels 1 to"]),
        ("features: {hold: 99}", ["features.hold", "not 99"]),
        ("features: {hold: none}", ["features.hold", "as in 1, nor off"]),
        ("audit: {on: yes}", ["audit.on", "neither true nor false"]),
        ("audit: {file: 1KiB}", ["audit.file", "64.0 KiB"]),
        ("audit: {keep: 1}", ["audit.keep", "2 to 100000"]),
        ("audit: {queue: 1B}", ["audit.queue", "256.0 KiB"]),
        ("audit: {anchor: 10ms}", ["audit.anchor", "1s to 1h"]),
        ("audit: {onFailure: stop}", ["audit.onFailure", "neither refuse nor go-on"]),
        ("limits: {value: 1GiB}", ["limits.value", "16.0 MiB"]),
        ("limits: {value: big}", ["limits.value", "as in 1MiB"]),
        ("limits: {connections: 0}", ["limits.connections", "1 to 1000000"]),
        ("limits: {connections: x}", ["limits.connections", "4096"]),
        ("limits: {bodies: 1MiB, value: 2MiB}", ["limits.bodies", "limits.value"]),
        ("limits: {stateCache: 1B}", ["limits.stateCache", "1.0 MiB"]),
        ("limits: {freeSpace: 1MiB}", ["limits.freeSpace", "16.0 MiB"]),
        ("data: ''", ["data", "empty"]),
    ] {
        refused(&format!("{TWO_KEYS}{text}\n"), &["line 5", parts[0], parts[1]]);
    }
}

#[test]
fn the_shipped_example_is_right_and_names_every_key() {
    let text = include_str!("../../conf/cluster.yml");
    let config = parse(text, None).unwrap();
    assert_eq!(config.servers.len(), 3);
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') || key.starts_with("  ") => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(parse(&uncommented, None).unwrap().to_yaml(), config.to_yaml());
    for line in config.to_yaml().lines() {
        let key = line.split(':').next().unwrap().trim();
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}
