//! Backups that are saved while faults go on: each is whole, or is no file at all.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::harness::{PATIENCE, client, konsen};
use crate::hosts::{Hosts, MORTAL};
use crate::nemesis::{Chaos, Skipped};

/// How long a save may take: a backup that pauses is waited for as long as `--timeout` says, which is 70 s.
const SAVE: Duration = Duration::from_secs(70).saturating_add(PATIENCE);

/// What became of the backups.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    saved: u32,
    broken_off: u32,
    refused: u32,
}

impl Tally {
    fn count(&mut self, saved: &Saved) {
        match saved {
            Saved::Whole(_) => self.saved += 1,
            Saved::BrokenOff => self.broken_off += 1,
            Saved::Refused => self.refused += 1,
        }
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.saved += other.saved;
        self.broken_off += other.broken_off;
        self.refused += other.refused;
    }

    pub(crate) fn saved(&self) -> u32 {
        self.saved
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { saved, broken_off, refused } = self;
        write!(f, "backups: {saved} saved, {broken_off} broke off, {refused} not begun")
    }
}

/// What became of one.
pub(crate) enum Saved {
    /// What the file holds.
    Whole(Value),
    BrokenOff,
    /// The node did not give any.
    Refused,
}

/// A save that is under way.
struct Saving {
    child: Child,
    file: PathBuf,
    deadline: Instant,
}

impl Saving {
    fn start(url: &str, file: PathBuf) -> Saving {
        let child = Command::new(MORTAL[0])
            .args(&MORTAL[1..])
            .arg(konsen().get_program())
            .args(["snapshot", "save", "--endpoints", url, "-o", "json"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Saving { child, file, deadline: Instant::now() + SAVE }
    }

    fn ended(&mut self) -> bool {
        assert!(Instant::now() < self.deadline, "a save does not end");
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the first bytes have come; false if it has ended before.
    fn wait_begun(&mut self) -> bool {
        // `setpriv` becomes the command.
        let part = format!("{}.{}.part", self.file.display(), self.child.id());
        while !self.ended() {
            if fs::metadata(&part).is_ok_and(|part| part.len() > 0) {
                return true;
            }
            // A file tells nobody that it has grown.
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end and looks at what is there then. `least` is a revision that was there before it began.
    fn end(mut self, least: u64) -> Saved {
        while !self.ended() {
            // The standard library waits for ever or not at all.
            std::thread::sleep(Duration::from_millis(10));
        }
        let Output { status, stdout, stderr } = self.child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&stderr);
        if status.success() {
            let said: Value = serde_json::from_slice(&stdout).unwrap();
            assert_eq!(said, inspect(&self.file), "{}", self.file.display());
            assert!(said["revision"].as_u64() >= Some(least), "older than {least}: {said}");
            return Saved::Whole(said);
        }
        let left: Vec<_> = names(self.file.parent().unwrap());
        let own = self.file.file_name().unwrap().to_str().unwrap();
        assert!(!left.iter().any(|name| name.starts_with(own)), "{told} left {left:?}");
        // Nobody could give it, or a disk is full. A backup that is not sound is neither.
        let full = told.contains("too little room on the disk");
        assert!(status.code() == Some(5) || full, "{status}: {told}");
        if told.contains("the backup broke off") { Saved::BrokenOff } else { Saved::Refused }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// What a file holds that must be a sound backup.
fn inspect(file: &Path) -> Value {
    let output = konsen().args(["snapshot", "inspect", "-o", "json"]).arg(file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", file.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where they go.
fn dir(hosts: &Hosts) -> PathBuf {
    let dir = hosts.cluster.dir.path().join("backups");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Saves one backup after the other, each from a random node, whatever happens to it, on a thread.
pub(crate) struct Backups {
    stop: Sender<()>,
    saver: JoinHandle<Tally>,
}

impl Backups {
    pub(crate) fn start(hosts: &Hosts, seed: u64) -> Backups {
        let (stop, stopped) = mpsc::channel();
        let urls = hosts.cluster.nodes.iter().map(|node| node.url("")).collect();
        let file = dir(hosts).join("online.backup");
        let random = StdRng::seed_from_u64(seed);
        let saver = Saver { urls, file, random, stopped };
        Backups { stop, saver: std::thread::spawn(move || saver.run()) }
    }

    /// It has found nothing wrong yet.
    pub(crate) fn must_run(&self) {
        assert!(!self.saver.is_finished(), "the backups have ended: see above");
    }

    /// Waits for the one that is under way, and says what became of all.
    pub(crate) fn end(self) -> Tally {
        drop(self.stop);
        self.saver.join().unwrap()
    }
}

struct Saver {
    urls: Vec<String>,
    file: PathBuf,
    random: StdRng,
    stopped: Receiver<()>,
}

impl Saver {
    fn run(mut self) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = client();
        let mut tally = Tally::default();
        while self.pause(2000) {
            // Whatever one node has applied, a backup that another is asked for then has to hold.
            let least = runtime.block_on(revision(&http, self.any()));
            let file = self.file.clone();
            let mut saving = Saving::start(self.any(), file);
            // Half of them are taken slowly, so that more happens meanwhile.
            if self.random.random() && saving.wait_begun() {
                saving.signal("STOP");
                self.pause(4000);
                saving.signal("CONT");
            }
            let saved = saving.end(least);
            tally.count(&saved);
            if let Saved::Whole(_) = saved {
                fs::remove_file(&self.file).unwrap();
            }
        }
        tally
    }

    fn any(&mut self) -> &str {
        &self.urls[self.random.random_range(0..self.urls.len())]
    }

    /// Waits for so many milliseconds at most; false once it is to end.
    fn pause(&mut self, most: u64) -> bool {
        let time = Duration::from_millis(self.random.random_range(0..most));
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

/// The revision that a node has come to; 0 if it does not say.
async fn revision(http: &reqwest::Client, url: &str) -> u64 {
    let asked = http.get(format!("{url}/v1/status")).timeout(Duration::from_secs(1));
    let Ok(answer) = asked.send().await else { return 0 };
    let status: Value = answer.json().await.unwrap_or_default();
    status["revision"].as_u64().unwrap_or_default()
}

/// Saves one of a cluster that nobody disturbs: its file, and what it holds.
pub(crate) fn save(chaos: &mut Chaos, least: u64) -> (PathBuf, Value) {
    let deadline = Instant::now() + PATIENCE;
    let file = dir(&chaos.hosts).join("last.backup");
    loop {
        let node = chaos.any();
        let url = chaos.hosts.cluster.url(node, "");
        let saved = Saving::start(&url, file.clone()).end(least);
        chaos.backups.count(&saved);
        match saved {
            Saved::Whole(holds) => return (file, holds),
            _ => assert!(Instant::now() < deadline, "no backup of a healthy cluster"),
        }
    }
}

pub(crate) fn kill_giver(chaos: &mut Chaos) -> Result<(), Skipped> {
    let node = chaos.any();
    chaos.say(&format!("kill -9 node{}, which gives a backup", node + 1));
    let (_, status) = chaos.ask(node, "GET", "/v1/status", "");
    let file = dir(&chaos.hosts).join("killed.backup");
    let mut saving = Saving::start(&chaos.hosts.cluster.url(node, ""), file.clone());
    let begun = saving.wait_begun();
    // So that more is to come when it dies.
    if begun {
        saving.signal("STOP");
    }
    chaos.hosts.cluster.nodes[node].kill();
    if begun {
        saving.signal("CONT");
    }
    let saved = saving.end(status["revision"].as_u64().unwrap_or_default());
    chaos.backups.count(&saved);
    if let Saved::Whole(_) = saved {
        fs::remove_file(&file).unwrap();
        chaos.say("it had given all of it");
    }
    chaos.hold(0, 2000);
    chaos.hosts.cluster.nodes[node].start();
    Ok(())
}
