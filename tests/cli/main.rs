//! The built binary's commands for certificates, folders and configuration, and its endpoints where none is a node.
#![allow(clippy::unwrap_used)]

mod bench;
mod bootstrap;
mod cert;
mod check;
mod cluster;
mod config;
mod endpoints;
mod output;
mod profiles;
mod txn;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The binary under test, in `dir`, without this environment's settings.
fn konsen(dir: &Path, arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_konsen"))
        .env_clear()
        .current_dir(dir)
        .args(arguments)
        .output()
        .unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a command did.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Outcome {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// It failed with that code and one line `error: …` that holds `part`.
    #[track_caller]
    fn failed(self, code: i32, part: &str) {
        assert_eq!(self.code, code, "{}", self.err);
        assert!(self.err.starts_with("error: ") && self.err.contains(part), "{}", self.err);
        assert!(self.out.is_empty(), "{}", self.out);
    }
}

fn mode(file: &Path) -> u32 {
    file.metadata().unwrap().permissions().mode() & 0o777
}

/// A configuration of three nodes on one machine, as `cluster.yml`.
fn write_cluster(dir: &Path) {
    let text = "servers: {node1: '127.0.0.1:1', node2: 'host2:1', node3: '127.0.0.3:1'}\n\
                httpServers: {node1: '127.0.0.1:1', node2: '0.0.0.0:1', node3: '[::1]:1'}\n\
                raft: {heartbeat: 40ms}\n";
    std::fs::write(dir.join("cluster.yml"), text).unwrap();
}
