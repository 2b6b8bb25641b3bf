//! Standard output and standard error that nobody reads, or that are full.

use std::fs::{self, File};
use std::io::{Write, pipe};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{bootstrap, write_cluster};

fn konsen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_konsen"));
    command.env_clear().args(arguments);
    command
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn gone() -> Stdio {
    pipe().unwrap().1.into()
}

#[test]
fn a_command_whose_reader_has_gone_ends_quietly_as_shells_expect() {
    let dir = tempfile::tempdir().unwrap();
    write_cluster(dir.path());
    let show = ["config", "show", "--config", "cluster.yml", "--name", "node1"];
    for arguments in [&["version"][..], &["--help"], &["--version"], &show] {
        let output = konsen(arguments).current_dir(dir.path()).stdout(gone()).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    for arguments in [&["version"][..], &["--help"], &["put", "--help"]] {
        let output = konsen(arguments).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("error: cannot write to standard output: No space"), "{error}");
    }
}

/// Rust's runtime opens /dev/null in its place.
#[test]
fn output_that_is_closed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write_cluster(dir.path());
    let show = "config show --config cluster.yml --name node1";
    for words in ["version", "--help", "--version", "put --help", show] {
        let line = format!("{} {words} >&-", env!("CARGO_BIN_EXE_konsen"));
        let output =
            Command::new("sh").args(["-c", &line]).current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("error: cannot write to standard output: Bad file"), "{error}");
    }
}

#[test]
fn an_error_that_cannot_be_told_leaves_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let missing = ["config", "check", "--config", "nowhere.yml"];
    for (arguments, code) in [(&["put"][..], 2), (&missing, 1)] {
        for to in [full(), gone()] {
            let status = konsen(arguments).current_dir(dir.path()).stderr(to).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}

#[test]
fn bootstrap_outlives_its_reader_and_one_that_takes_nothing() {
    for stalls in [false, true] {
        let home = bootstrap::home("echo run >>runs; exit 3");
        let script = home.path().join("bootstrap.sh");
        let text = fs::read_to_string(&script).unwrap();
        assert!(text.contains("SAY_MAX=2 "));
        let text =
            text.replace("sleep \"$backoff\"", "sleep 0").replace("SAY_MAX=2 ", "SAY_MAX=0 ");
        fs::write(&script, text).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        let reader = if stalls {
            // As full as a pipe can be.
            rustix::io::ioctl_fionbio(&writer, true).unwrap();
            while writer.write(&[b'\n'; 4096]).is_ok() {}
            while writer.write(b"\n").is_ok() {}
            rustix::io::ioctl_fionbio(&writer, false).unwrap();
            Some(reader)
        } else {
            drop(reader);
            None
        };
        let began = Instant::now();
        let status = Command::new("sh").arg(&script).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(1));
        assert_eq!(fs::read_to_string(home.path().join("runs")).unwrap().lines().count(), 6);
        assert!(began.elapsed() < Duration::from_secs(60), "it waited for its reader");
        drop(reader);
    }
}
