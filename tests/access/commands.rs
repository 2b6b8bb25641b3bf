//! `konsen auth`, as an operator types it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Cluster, konsen};

fn run(cluster: &Cluster, arguments: &[&str]) -> (i32, String, String) {
    let endpoints = cluster.url(1, "");
    let output = konsen()
        .current_dir(cluster.dir.path())
        .env("KONSEN_ENDPOINTS", endpoints)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn done(cluster: &Cluster, arguments: &[&str]) -> String {
    let (code, out, error) = run(cluster, arguments);
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_rights_and_takes_them() {
    let cluster = Cluster::start(3).await;
    assert!(done(&cluster, &["auth", "whoami"]).starts_with("anybody"));
    let allow = ["--allow", "read,write=app/", "--allow-key", "read=config", "--admin", "backup"];
    done(&cluster, &[&["auth", "role", "set", "app"][..], &allow].concat());
    // Twice is as good as once.
    done(&cluster, &[&["auth", "role", "set", "app"][..], &allow].concat());
    done(&cluster, &["auth", "user", "set", "alice", "--role", "app"]);
    let listed = done(&cluster, &["auth", "role", "list"]);
    assert!(
        listed.contains("read,write \"app/\"*; read \"config\"") && listed.contains("backup"),
        "{listed}"
    );
    assert!(done(&cluster, &["auth", "user", "list"]).contains("alice"));
    assert_eq!(done(&cluster, &["auth", "can", "write", "app/x", "--user", "alice"]), "yes\n");
    let (code, out, _) = run(&cluster, &["auth", "can", "write", "config", "--user", "alice"]);
    assert_eq!((code, &out[..]), (7, "no\n"));
    let (code, _, error) =
        run(&cluster, &["auth", "token", "create", "t", "--user", "alice", "--out", "t.token"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("administrator"), "{error}");
    assert!(!cluster.dir.path().join("t.token").exists(), "no token, no file");
    let made = done(
        &cluster,
        &["auth", "token", "create", "root", "--user", "admin", "--out", "root.token"],
    );
    assert!(made.contains("root.token"), "{made}");
    let file = cluster.dir.path().join("root.token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().starts_with("konsen_"));
    let (code, _, error) = run(&cluster, &["auth", "whoami"]);
    assert_eq!(code, 7, "{error}");
    assert!(error.contains("who you are"), "{error}");
    // By the file, which the administrator shows from now on.
    let shown = ["auth", "whoami", "--token", "root.token"];
    assert!(done(&cluster, &shown).starts_with("the user admin"));
    let (code, out, error) = run(
        &cluster,
        &["auth", "token", "create", "three", "--user", "alice", "--token", "root.token"],
    );
    assert!(code == 0 && out.starts_with("konsen_") && error.is_empty(), "{out} {error}");
    // A file that is there is nobody's to overwrite, and nothing is made for it.
    let (code, _, error) = run(
        &cluster,
        &[
            "auth",
            "token",
            "create",
            "two",
            "--user",
            "admin",
            "--out",
            "root.token",
            "--token",
            "root.token",
        ],
    );
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_wrong_is_named() {
    let cluster = Cluster::start(1).await;
    let run = |arguments: &[&str]| {
        let output = konsen()
            .current_dir(cluster.dir.path())
            .env("KONSEN_ENDPOINTS", cluster.url(0, ""))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, code, what) in [
        (&["auth", "role", "set", "app", "--allow", "read"][..], 2, "read,write=app/"),
        (&["auth", "role", "set", "app", "--allow", "own=app/"], 2, "no right"),
        (&["auth", "role", "set", "app", "--admin", "all"], 2, "members"),
        (&["auth", "role", "set", "app"], 2, "allow nothing"),
        (&["auth", "role", "set", "app", "--allow", "read="], 2, "--allow-all"),
        (&["auth", "token", "create", "t", "--user", "admin"], 2, "--out"),
        (&["get", "a", "--endpoints", "http://u:s3cret@127.0.0.1:1"], 2, "--token"),
        (&["auth", "role", "set", "app", "--file", "none.json"], 1, "none.json"),
        (&["auth", "role", "set", "App", "--allow", "read=a"], 1, "a-z"),
        (&["auth", "user", "set", "bob", "--role", "none"], 1, "no role"),
        (&["auth", "user", "delete", "bob"], 1, "no user"),
        (&["auth", "user", "delete", "admin"], 1, "nobody could change"),
        (
            &["auth", "token", "create", "t", "--user", "admin", "--ttl", "soon", "--out", "t"],
            1,
            "30d",
        ),
        (
            &["auth", "token", "create", "t", "--user", "admin", "--ttl", "3h", "--out", "t"],
            1,
            "without an end",
        ),
        (&["auth", "can", "own", "a"], 2, "possible values"),
        (&["auth", "can", "admin", "a", "--prefix"], 2, "--prefix"),
    ] {
        let (got, error) = run(arguments);
        assert_eq!(got, code, "{arguments:?}: {error}");
        assert!(error.contains(what), "{arguments:?}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert!(!cluster.dir.path().join("t").exists(), "no token, no file");
}
