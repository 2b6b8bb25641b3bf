//! Which cluster a command speaks to, and as whom: flags, variables, profiles and defaults, and files with tokens.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use crate::{Outcome, mode, write_cluster};

/// The binary under test, in `dir`, with these variables alone.
fn run(dir: &Path, env: &[(&str, &str)], words: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_konsen"));
    command.env_clear().envs(env.iter().copied()).current_dir(dir).args(words);
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Somebody who writes down what is asked, and answers that there is no such key.
struct Endpoint {
    url: String,
    heads: Receiver<String>,
}

impl Endpoint {
    fn start() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, heads) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut head) = (stream.unwrap(), [0; 4096]);
                let read = stream.read(&mut head).unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
                let body = r#"{"type":"urn:konsen:problem:no-such-key","outcome":"not_applied"}"#;
                let answer = format!(
                    "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nKonsen-Revision: 1\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                // The client may have gone, and so may the test.
                let _ = stream.write_all(answer.as_bytes());
                let _ = sender.send(head);
            }
        });
        Endpoint { url, heads }
    }

    /// What it was asked since it was looked at last.
    fn asked(&self) -> Vec<String> {
        self.heads.try_iter().collect()
    }
}

fn write_profile(dir: &Path, name: &str, endpoint: &Endpoint) {
    fs::create_dir_all(dir.join("profiles")).unwrap();
    let text = format!("endpoints: [\"{}\"]\n", endpoint.url);
    fs::write(dir.join("profiles").join(format!("{name}.yml")), text).unwrap();
}

/// `get` of a key that nobody has.
#[track_caller]
fn get(dir: &Path, env: &[(&str, &str)], words: &[&str]) {
    let outcome = run(dir, env, &[&["get", "a"], words].concat());
    assert_eq!(outcome.code, 3, "{}", outcome.err);
}

#[test]
fn flags_count_more_than_variables_these_more_than_profiles_and_those_more_than_defaults() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let [flag, variable, first, second] = [(); 4].map(|()| Endpoint::start());
    let all = [&flag, &variable, &first, &second];
    let profiles = ("KONSEN_PROFILES", "profiles");
    let endpoints = ("KONSEN_ENDPOINTS", variable.url.as_str());
    let asked = |wanted: &Endpoint| {
        for one in all {
            assert_eq!(one.asked().len(), usize::from(std::ptr::eq(one, wanted)), "{}", one.url);
        }
    };
    write_profile(dir, "first", &first);
    get(dir, &[profiles], &[]);
    asked(&first);
    // In the other places, too; a relative one of these is to be ignored.
    let home = dir.join("home");
    fs::create_dir_all(home.join(".config")).unwrap();
    fs::rename(dir.join("profiles"), home.join(".config/konsen")).unwrap();
    let home_variable = ("HOME", home.to_str().unwrap());
    get(dir, &[home_variable, ("XDG_CONFIG_HOME", "relative")], &[]);
    asked(&first);
    let config = home.join(".config");
    get(dir, &[("XDG_CONFIG_HOME", config.to_str().unwrap())], &[]);
    asked(&first);
    fs::rename(home.join(".config/konsen"), dir.join("profiles")).unwrap();

    get(dir, &[profiles, endpoints], &[]);
    asked(&variable);
    get(dir, &[profiles, endpoints], &["--endpoints", &flag.url]);
    asked(&flag);
    get(dir, &[profiles, endpoints], &["--profile", "first", "--endpoints", &flag.url]);
    asked(&flag);

    // Of several the default one.
    write_profile(dir, "second", &second);
    run(dir, &[profiles], &["get", "a"]).failed(2, "none of them is the default: first, second");
    for text in ["second\n", "gone\n", ""] {
        fs::write(dir.join("profiles/default"), text).unwrap();
        match text {
            "second\n" => get(dir, &[profiles], &[]),
            _ => run(dir, &[profiles], &["get", "a"]).failed(2, "first, second"),
        }
    }
    asked(&second);
    get(dir, &[profiles, ("KONSEN_PROFILE", "second")], &["--profile", "first"]);
    asked(&first);
    get(dir, &[profiles, ("KONSEN_PROFILE", "second")], &[]);
    asked(&second);
    get(dir, &[], &["--profile", "profiles/first.yml"]);
    asked(&first);
    run(dir, &[profiles], &["get", "a", "--profile", "third"]).failed(2, "has first, second");
    run(dir, &[], &["get", "a", "--profile", "third"])
        .failed(2, "neither KONSEN_PROFILES nor HOME");
    run(dir, &[], &["get", "a", "--profile", "./third"]).failed(2, "./third: No such file");
    fs::write(dir.join("profiles/first.yml"), "endpoint: x\n").unwrap();
    run(dir, &[profiles], &["get", "a", "--profile", "first"]).failed(2, "profiles/first.yml: ");
}

#[test]
fn a_token_comes_from_a_file_of_its_owner_and_stays_out_of_plain_text() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let endpoint = Endpoint::start();
    const SECRET: &str = "planted-5ecret";
    fs::write(dir.join("token"), format!("{SECRET}\n")).unwrap();
    let may =
        |mode| fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(mode)).unwrap();
    let at = ["--endpoints", &endpoint.url];
    may(0o600);
    get(dir, &[("KONSEN_TOKEN", "token")], &at);
    get(dir, &[("KONSEN_TOKEN", "nowhere")], &[&at[..], &["--token", "token"]].concat());
    let heads = endpoint.asked();
    assert_eq!(heads.len(), 2);
    for head in heads {
        assert!(head.contains(&format!("\r\nauthorization: bearer {SECRET}\r\n")), "{head}");
    }
    get(dir, &[], &at);
    assert!(!endpoint.asked()[0].contains("authorization"));

    let refused = |words: &[&str], part: &str| {
        for command in [&["get", "a"][..], &["bench", "put", "--duration", "1s"]] {
            let words = [command, &["--token", "token"], words].concat();
            let outcome = run(dir, &[], &words);
            assert!(!outcome.err.contains(SECRET), "{}", outcome.err);
            outcome.failed(7, part);
        }
    };
    refused(&["--endpoints", "http://192.0.2.1:20001"], "write https://192.0.2.1:20001");
    may(0o644);
    refused(&at, "token: holds a secret, and others can read it (mode 644)\nhint: chmod 600 token");
    // The token itself in the place of its file.
    let outcome = run(dir, &[("KONSEN_TOKEN", SECRET)], &[&["get", "a"], &at[..]].concat());
    assert!(!outcome.err.contains(SECRET), "{}", outcome.err);
    outcome.failed(2, "--token (KONSEN_TOKEN) names a file");
    assert!(endpoint.asked().is_empty());
}

#[test]
fn a_cluster_that_is_built_is_remembered_where_that_can_be() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    write_cluster(dir);
    let profiles = ("KONSEN_PROFILES", "profiles");
    let build = |env: &[(&str, &str)], words: &[&str]| {
        let build = ["cluster", "build", "--config", "cluster.yml"];
        run(dir, env, &[&build, words].concat()).ok()
    };
    let said = build(&[], &[]);
    assert!(
        said.contains("is not remembered here: ") && !said.contains("\n  konsen status"),
        "{said}"
    );
    for file in ["ca.crt", "admin.crt"] {
        assert_eq!(mode(&dir.join("output/admin").join(file)), 0o644);
    }
    let said = build(&[profiles], &["--no-profile"]);
    assert!(!said.contains("remembered") && !dir.join("profiles").exists(), "{said}");
    fs::write(dir.join("file"), "").unwrap();
    let said = build(&[("KONSEN_PROFILES", "file/x")], &[]);
    assert!(said.contains("is not remembered here: cannot write file/x"), "{said}");

    let said = build(&[profiles], &[]);
    assert!(
        said.contains("made profiles/konsen.yml") && said.contains("\n  konsen status"),
        "{said}"
    );
    let text = fs::read_to_string(dir.join("profiles/konsen.yml")).unwrap();
    // Where every address of a machine is listened on, it is reached where its peers reach it.
    for endpoint in ["https://127.0.0.1:1", "https://host2:1", "https://[::1]:1"] {
        assert!(text.contains(endpoint), "{text}");
    }
    assert!(!text.contains("PRIVATE") && text.contains("/output/admin/admin.key"), "{text}");
    let key = fs::read(dir.join("output/admin/admin.key")).unwrap();
    build(&[profiles], &["--profile", "other"]);
    assert_eq!(fs::read(dir.join("output/admin/admin.key")).unwrap(), key, "good ones are kept");
    assert_eq!(fs::read_to_string(dir.join("profiles/default")).unwrap(), "other\n");
    build(&[profiles], &["--force"]);
    assert_ne!(fs::read(dir.join("output/admin/admin.key")).unwrap(), key);

    // Another cluster of the same name is told of.
    let yml = fs::read_to_string(dir.join("cluster.yml")).unwrap();
    fs::write(dir.join("cluster.yml"), yml.replace(":1'", ":2'")).unwrap();
    let said = build(&[profiles], &[]);
    assert!(
        said.contains("anew") && said.contains("before, it was of https://127.0.0.1:1"),
        "{said}"
    );

    // One with another authority leaves it as it is.
    fs::rename(dir.join("certs"), dir.join("certs.first")).unwrap();
    fs::remove_dir_all(dir.join("output")).unwrap();
    let text = fs::read_to_string(dir.join("profiles/konsen.yml")).unwrap();
    let said = build(&[profiles], &[]);
    assert!(said.contains("is the profile of another cluster"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("profiles/konsen.yml")).unwrap(), text);

    // Plain HTTP asks nobody who he is.
    fs::write(dir.join("cluster.yml"), yml + "http: {tls: false}\n").unwrap();
    fs::remove_dir_all(dir.join("output")).unwrap();
    let said = build(&[profiles], &[]);
    assert!(
        !dir.join("output/admin").exists() && said.contains("curl http://127.0.0.1:1/"),
        "{said}"
    );
    assert!(!said.contains("fingerprint"), "{said}");
    // A node that has the administrator's name.
    let node = "servers: {admin: '127.0.0.1:1'}\nhttpServers: {admin: '127.0.0.1:1'}\n";
    fs::write(dir.join("cluster.yml"), node).unwrap();
    let words = ["cluster", "build", "--config", "cluster.yml"];
    run(dir, &[profiles], &words).failed(1, "a node is called admin");
}
