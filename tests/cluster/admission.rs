//! Whom HTTPS lets in that asks for certificates: somebody, not just anybody with a chain to the authority.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, PATIENCE, konsen};

fn konsen_in(dir: &Path, arguments: &[&str]) -> Output {
    konsen().current_dir(dir).args(arguments).output().unwrap()
}

fn done(dir: &Path, arguments: &[&str]) {
    let output = konsen_in(dir, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a command comes to that shows this certificate.
fn with(cluster: &Cluster, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
    let endpoints = cluster.nodes[0].url("").replace("http://", "https://");
    let tls =
        ["--cacert", "certs/ca.crt", "--cert", &cert, "--key", &key, "--endpoints", &endpoints];
    let output = konsen_in(cluster.dir.path(), &[arguments, &tls].concat());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_https_only_to_clients_of_the_cluster_and_present_members() {
    let mut cluster = Cluster::build(3, "http: {tls: true, clientAuth: required}\n");
    let dir = cluster.dir.path().to_path_buf();
    done(&dir, &["cert", "client", "--name", "admin"]);
    done(&dir, &["cert", "client", "--name", "mallory", "--cluster", "elsewhere"]);
    // Never a member, though the authority signed it.
    done(&dir, &["cert", "node", "--name", "node9"]);
    cluster.nodes.iter_mut().for_each(|node| node.start());
    let deadline = Instant::now() + PATIENCE;
    while with(&cluster, "certs/admin", &["put", "a", "1"]).0 != Some(0) {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let get = ["get", "a"];
    assert_eq!(with(&cluster, "certs/admin", &get).0, Some(0));
    // A member is known, and has no rights of its own.
    let whoami = ["auth", "whoami"];
    assert_eq!(with(&cluster, "output/node3/certs/node", &whoami).0, Some(0));
    let (code, error) = with(&cluster, "output/node3/certs/node", &get);
    assert_eq!(code, Some(7), "{error}");
    assert!(error.contains("the node node3 may not read the key"), "{error}");
    for stranger in ["certs/mallory", "certs/node9"] {
        let (code, error) = with(&cluster, stranger, &get);
        assert_eq!(code, Some(7), "{stranger}: {error}");
        assert!(error.contains("AccessDenied"), "{error}");
    }
    let (code, error) = with(&cluster, "certs/admin", &["member", "remove", "node3"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(with(&cluster, "output/node3/certs/node", &whoami).0, Some(7));
    assert_eq!(with(&cluster, "output/node2/certs/node", &whoami).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_end_soon_are_told_of() {
    let mut cluster = Cluster::build(2, "");
    let dir = cluster.dir.path().to_path_buf();
    for (node, days) in [("node1", "6"), ("node2", "20")] {
        let cert = format!("output/{node}/certs/node.crt");
        done(&dir, &["cert", "renew", &cert, "--days", days]);
    }
    cluster.nodes.iter_mut().for_each(|node| node.start());
    cluster.wait_ready_all().await;
    let log = cluster.nodes[0].log();
    assert!(
        log.contains("ERROR") && log.contains("the certificate of node1 ends in 5 days"),
        "{log}"
    );
    let log = cluster.nodes[1].log();
    assert!(
        log.contains("WARN") && log.contains("the certificate of node2 ends in 19 days"),
        "{log}"
    );
    let status = cluster.status(0).await.unwrap();
    let warnings = status["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].as_str().unwrap().contains("konsen cert renew"), "{warnings:?}");
    // One node tells of the other, too.
    let output = konsen_in(&dir, &["status", "--endpoints", &cluster.url(0, "")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("warning: the certificate of node1 ends in 5 days"), "{said}");
    assert!(said.contains("warning: the certificate of node2 ends in 19 days"), "{said}");
    done(&dir, &["cert", "renew", "output/node1/certs/node.crt"]);
    cluster.nodes[0].signal("HUP");
    let deadline = Instant::now() + PATIENCE;
    while !cluster.status(0).await.unwrap()["warnings"].as_array().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
