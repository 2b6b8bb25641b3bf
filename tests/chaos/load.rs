//! The load and the judge: `konsen check`.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::konsen;
use crate::hosts::{Hosts, MORTAL};

const CLIENTS: &str = "16";
/// Shorter than an election takes, so that unknown outcomes are common.
const TIMEOUT: &str = "400ms";
/// How long the judge may think.
const JUDGEMENT: Duration = Duration::from_secs(300);

pub(crate) struct Load {
    child: Child,
    deadline: Instant,
    history: PathBuf,
    said: PathBuf,
}

impl Load {
    pub(crate) fn start(hosts: &Hosts, time: Duration, seed: u64, history: PathBuf) -> Load {
        let nodes = &hosts.cluster.nodes;
        let endpoints: Vec<String> = nodes.iter().map(|node| node.url("")).collect();
        let said = history.with_extension("verdict");
        // What is there at the end stays, to be looked for again in later histories and clusters.
        let child = Command::new(MORTAL[0])
            .args(&MORTAL[1..])
            .arg(konsen().get_program())
            .args(["check", "--endpoints", &endpoints.join(",")])
            .args(["--seconds", &time.as_secs().to_string(), "--clients", CLIENTS])
            .args([
                "--timeout",
                TIMEOUT,
                "--seed",
                &seed.to_string(),
                "-o",
                "json",
                "--keep",
                "--history",
            ])
            .arg(&history)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Load { child, deadline: Instant::now() + time + JUDGEMENT, history, said }
    }

    /// A fault without a load shows nothing.
    pub(crate) fn must_run(&mut self) {
        let ended = self.child.try_wait().unwrap();
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        assert!(ended.is_none(), "the load ended before the faults: {ended:?}\n{said}");
    }

    /// Ends the load; what its reads at the end and the judge found.
    pub(crate) fn verdict(mut self) -> Value {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < self.deadline, "the judge does not end");
            // The standard library waits for a process for ever or not at all.
            std::thread::sleep(Duration::from_millis(50));
        };
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        let verdict: Value = serde_json::from_str(&said).unwrap_or_default();
        let history = self.history.display();
        assert!(status.success(), "{history}: {status}: {said}");
        assert_eq!(verdict["linearizable"], true, "{history}: {said}");
        assert_eq!(verdict["read_back"], true, "{history}: {said}");
        // Otherwise the faults hit nobody, and the check checked nothing.
        assert!(verdict["writes"].as_u64() > Some(100), "{said}");
        assert!(verdict["unknown"].as_u64() > Some(20), "{said}");
        assert!(verdict["transactions"].as_u64() > Some(50), "{said}");
        assert!(verdict["otherwise"].as_u64() > Some(5), "{said}");
        verdict
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
