//! bootstrap.sh, with a script in the program's place.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/bootstrap.sh");

/// A node's folder whose program is `program`.
pub(crate) fn home(program: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    for file in ["cluster.yml", "certs/ca.crt", "certs/node.crt", "certs/node.key"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    fs::copy(SCRIPT, dir.path().join("bootstrap.sh")).unwrap();
    fs::write(dir.path().join("konsen"), format!("#!/bin/sh\n{program}\n")).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.path().join("konsen"), executable).unwrap();
    dir
}

fn run(home: &Path) -> Output {
    Command::new("sh").arg(home.join("bootstrap.sh")).output().unwrap()
}

#[test]
fn is_posix_shell() {
    assert!(Command::new("sh").arg("-n").arg(SCRIPT).status().unwrap().success());
}

#[test]
fn says_what_is_missing() {
    let home = home("exit 0");
    let program = home.path().join("konsen");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    let output = run(home.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("chmod +x"));
    fs::remove_file(home.path().join("certs/node.key")).unwrap();
    let output = run(home.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("certs/node.key is missing"));
}

#[test]
fn gives_up_on_a_node_that_cannot_start() {
    // Pauses take no time here, everything else is as it is.
    let home = home("echo run >>runs; exit 3");
    let script = home.path().join("bootstrap.sh");
    let text = fs::read_to_string(&script).unwrap();
    assert!(text.contains("BACKOFF_MAX=30") && text.contains("sleep \"$backoff\""));
    fs::write(&script, text.replace("sleep \"$backoff\"", "sleep 0")).unwrap();
    let output = run(home.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("6 times") && said.contains("status 3"), "{said}");
    for pause in ["in 1 s", "in 2 s", "in 4 s", "in 8 s", "in 16 s"] {
        assert!(said.contains(pause), "{pause} is not in {said}");
    }
    assert_eq!(fs::read_to_string(home.path().join("runs")).unwrap().lines().count(), 6);
}

#[test]
fn passes_signals_on_and_exits_as_the_node_did() {
    for (signal, status) in [("TERM", 0), ("INT", 0), ("TERM", 9)] {
        // A shell misses no signal in `wait`; one that comes right before it opens a fifo would be.
        let home = home(&format!(
            "trap 'kill -KILL $sleeps; echo stopped >stopped; exit {status}' TERM\nsleep 600 >/dev/null &\nsleeps=$!\n\
             echo \"up $*\"\nwhile :; do wait $sleeps; done"
        ));
        // What was ignored when a shell began, as in the background of another, it can never hear.
        let mut child = Command::new("env")
            .args(["--default-signal=INT,TERM", "sh"])
            .arg(home.path().join("bootstrap.sh"))
            .args(["--log", "debug"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up serve --config cluster.yml --log debug\n");
        let pid = child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert!(home.path().join("stopped").exists());
    }
}

#[test]
fn a_folder_that_was_copied_into_another_is_told_of() {
    let home = home("exit 0");
    let nested = home.path().join("node2");
    fs::create_dir(&nested).unwrap();
    fs::copy(SCRIPT, nested.join("bootstrap.sh")).unwrap();
    let output = run(home.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("/node2 is a node's folder, too"), "{said}");
}
