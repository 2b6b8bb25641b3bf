//! In which order `konsen snapshot restore` writes a data directory: a marker keeps nodes out of it before anything
//! is done that needs one, and goes only once all else is on the disk. Seen in the system calls of the binary.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Cluster, konsen};
use crate::strace::{Call, parse};
use crate::syscalls::{can_trace, tracing, whole};

const CALLS: &str = "openat,rename,renameat,renameat2,unlink,unlinkat,write,writev,pwrite64,pwritev2,ftruncate,fallocate,\
                     fsync,fdatasync";
const MARKER: &str = "unfinished";
/// Stands for the directory itself: what names there are in it.
const NAMES: &str = ".";

/// What a call does to a data directory. Files go by their names in it.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    /// Opens a file, which is made if it is not there.
    Make(&'a str),
    Write(&'a str),
    Sync(&'a str),
    Rename(&'a str, &'a str),
    Remove(&'a str),
}

/// The name of a path in the data directory.
fn name(path: &str) -> Option<&str> {
    match path.rsplit_once("data/") {
        Some((_, name)) => Some(name),
        None => path.ends_with("/data").then_some(NAMES),
    }
}

fn step(call: &Call) -> Option<Step<'_>> {
    let open = || {
        let (_, descriptor) = call.text.split_once('<')?;
        name(descriptor.split_once('>')?.0)
    };
    let mut quoted = call.text.split('"').skip(1).step_by(2);
    let mut named = || quoted.next().and_then(name);
    Some(match &*call.name {
        "openat" if call.text.contains("O_CREAT") => Step::Make(named()?),
        // What is its own sync leaves nothing that a power loss may take back.
        "pwritev2" if call.text.contains("RWF_DSYNC") => return None,
        "write" | "writev" | "pwrite64" | "pwritev2" | "ftruncate" | "fallocate" => {
            Step::Write(open()?)
        }
        "fsync" | "fdatasync" => Step::Sync(open()?),
        "rename" | "renameat" | "renameat2" => Step::Rename(named()?, named()?),
        "unlink" | "unlinkat" => Step::Remove(named()?),
        _ => return None,
    })
}

/// A data directory, and what of it a power loss may take back.
struct Directory {
    names: BTreeSet<String>,
    unsynced: BTreeSet<String>,
}

impl Directory {
    fn follow(&mut self, step: &Step<'_>) {
        match *step {
            Step::Make(name) => {
                if self.names.insert(name.to_owned()) {
                    self.unsynced.insert(NAMES.to_owned());
                }
            }
            Step::Write(name) => drop(self.unsynced.insert(name.to_owned())),
            Step::Sync(name) => drop(self.unsynced.remove(name)),
            Step::Rename(from, to) => {
                self.names.remove(from);
                self.names.insert(to.to_owned());
                if self.unsynced.remove(from) {
                    self.unsynced.insert(to.to_owned());
                }
                self.unsynced.insert(NAMES.to_owned());
            }
            Step::Remove(name) => {
                self.names.remove(name);
                self.unsynced.remove(name);
                self.unsynced.insert(NAMES.to_owned());
            }
        }
    }

    /// Whether the marker is there after a power loss now.
    fn is_marked(&self) -> bool {
        let synced = |name| !self.unsynced.contains(name);
        self.names.contains(MARKER) && synced(MARKER) && synced(NAMES)
    }
}

/// Follows the calls of one process in a directory with these names. What `needs_marker` comes after the marker is
/// on the disk, all is on the disk before it is removed, and nothing is done after that.
fn judge(
    calls: &[Call],
    names: &[String],
    needs_marker: impl Fn(&Call, &Step<'_>) -> bool,
) -> Result<(), String> {
    let names = names.iter().cloned().collect();
    let mut directory = Directory { names, unsynced: BTreeSet::new() };
    let (mut marked, mut needed, mut removed, mut end) = (false, false, false, 0);
    for call in calls.iter().filter(|call| !call.failed) {
        let Some(step) = step(call) else { continue };
        if call.start < end {
            return Err(format!("{step:?} beside another call: which comes first?"));
        }
        end = call.end;
        if needs_marker(call, &step) {
            if !marked {
                return Err(format!("{step:?} while the marker is not on the disk"));
            }
            needed = true;
        }
        if step == Step::Remove(MARKER) {
            if !directory.unsynced.is_empty() {
                return Err(format!(
                    "the marker goes before {:?} is on the disk",
                    directory.unsynced
                ));
            }
            removed = true;
        } else if removed && !matches!(step, Step::Sync(_)) {
            return Err(format!("{step:?} after the marker is gone"));
        }
        directory.follow(&step);
        marked = marked || directory.is_marked();
    }
    match directory.unsynced.is_empty() {
        true if needed && removed => Ok(()),
        true => Err(format!("not all of it was seen: needed {needed}, removed {removed}")),
        false => Err(format!("{:?} is not on the disk in the end", directory.unsynced)),
    }
}

/// Everything but what comes before or is the marker itself.
fn of_restore(_: &Call, step: &Step<'_>) -> bool {
    match step {
        Step::Make(name) | Step::Write(name) | Step::Rename(name, _) => {
            !matches!(*name, "lock" | "unfinished.new")
        }
        Step::Sync(_) | Step::Remove(_) => false,
    }
}

/// A write to the state that is not known to be decided.
fn of_rescue<'a>(value: &'a str) -> impl Fn(&Call, &Step<'_>) -> bool + 'a {
    move |call, step| *step == Step::Write("state.redb") && call.text.contains(value)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs `konsen snapshot restore` for the only node of a cluster: what it asked of the kernel.
fn restore(cluster: &Cluster, arguments: &[&str]) -> Vec<Call> {
    let trace = cluster.dir.path().join("trace.txt");
    let words = tracing(trace.to_str().unwrap(), CALLS);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .arg(konsen().get_program())
        .args(["snapshot", "restore", "--config", "cluster.yml"])
        .args(arguments)
        .current_dir(&cluster.nodes[0].home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = parse(&whole(&trace));
    fs::remove_file(trace).unwrap();
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_directory_is_marked_from_the_first_file_until_the_last_is_on_the_disk() {
    if !can_trace() {
        return;
    }
    let mut cluster = Cluster::start(1).await;
    cluster.put(0, "key", "value").await.unwrap();
    let home = cluster.nodes[0].home.clone();
    let file = home.join("b.backup");
    let saved = konsen()
        .args(["snapshot", "save", "--endpoints", &cluster.nodes[0].url("")])
        .arg(&file)
        .output()
        .unwrap();
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    cluster.nodes[0].kill();
    fs::rename(home.join("data"), home.join("old")).unwrap();
    let calls = restore(&cluster, &["b.backup"]);
    judge(&calls, &[], of_restore).unwrap_or_else(|why| panic!("{why}"));
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    assert_eq!(cluster.get(0, "key").await, Ok(Some("value".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescued_directory_is_marked_from_the_first_undecided_entry_until_all_is_on_the_disk() {
    if !can_trace() {
        return;
    }
    let mut cluster = Cluster::start(1).await;
    let data = cluster.nodes[0].home.join("data");
    // A checkpoint may come between the write and the end of the process.
    let mut number = 0;
    let value = loop {
        number += 1;
        let value = format!("a-value-that-is-nowhere-else-{number:04}");
        cluster.put(0, "key", &value).await.unwrap();
        cluster.nodes[0].kill();
        let state = fs::read(data.join("state.redb")).unwrap();
        if !state.windows(value.len()).any(|bytes| bytes == value.as_bytes()) {
            break value;
        }
        cluster.nodes[0].start();
        cluster.wait_ready(0).await;
    };
    let before = names(&data);
    let calls =
        restore(&cluster, &["--force-new-cluster", "--i-understand-that-writes-may-be-lost"]);
    judge(&calls, &before, of_rescue(&value)).unwrap_or_else(|why| panic!("{why}"));
    cluster.nodes[0].start();
    cluster.wait_ready(0).await;
    assert_eq!(cluster.get(0, "key").await, Ok(Some(value)));
}

const GOOD: &str = "\
7 10.000100 openat(AT_FDCWD</h>, \"data/lock\", O_WRONLY|O_CREAT|O_CLOEXEC, 0600) = 3</h/data/lock> <0.000010>
7 10.000200 openat(AT_FDCWD</h>, \"data/unfinished.new\", O_WRONLY|O_CREAT, 0600) = 4</h/data/unfinished.new> <0.000010>
7 10.000300 write(4</h/data/unfinished.new>, \"restore\", 7) = 7 <0.000010>
7 10.000400 fsync(4</h/data/unfinished.new>) = 0 <0.000010>
7 10.000500 rename(\"data/unfinished.new\", \"data/unfinished\") = 0 <0.000010>
7 10.000600 fsync(5</h/data>) = 0 <0.000010>
7 10.000700 openat(AT_FDCWD</h>, \"data/state.redb\", O_RDWR|O_CREAT, 0666) = 6</h/data/state.redb> <0.000010>
7 10.000800 pwrite64(6</h/data/state.redb>, \"a value = (1) <x>\", 17, 0) = 17 <0.000010>
7 10.000900 fdatasync(6</h/data/state.redb>) = 0 <0.000010>
7 10.001000 fsync(5</h/data>) = 0 <0.000010>
7 10.001100 unlink(\"data/unfinished\")   = 0 <0.000010>
7 10.001200 fsync(5</h/data>) = 0 <0.000010>
7 10.001300 +++ exited with 0 +++
";

/// The trace without the calls that begin at these times.
fn without(times: &[&str]) -> String {
    let kept = |line: &&str| !times.iter().any(|time| line.contains(&format!(" 10.00{time}00 ")));
    GOOD.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_right_order_is_good_and_every_call_in_it_matters() {
    let all = |text: &str| judge(&parse(text), &[], of_restore);
    assert_eq!(all(GOOD), Ok(()));
    assert_eq!(judge(&parse(GOOD), &[], of_rescue("a value")), Ok(()));
    assert!(judge(&parse(GOOD), &[], of_rescue("another value")).is_err(), "it was never written");
    for (what, bad) in [
        ("a marker that is not synced", without(&["04"])),
        ("a marker whose name is not synced", without(&["06"])),
        ("a write that is not synced", without(&["09"])),
        ("a name that is not synced", without(&["10"])),
        ("a marker that stays", without(&["11"])),
        ("a marker that a power loss brings back", without(&["12"])),
        ("a sync that failed", GOOD.replacen(") = 0 <", ") = -1 EIO (Input/output error) <", 1)),
        ("a sync beside the write", GOOD.replace("10.000900 f", "10.000805 f")),
        ("a write after the marker", GOOD.replace("10.000800 p", "10.001150 p")),
        ("a write before the marker", GOOD.replace("10.000700 o", "10.000350 o")),
    ] {
        assert!(all(&bad).is_err(), "{what}");
    }
    let early = GOOD.replace("10.000800 p", "10.000550 p");
    assert!(judge(&parse(&early), &[], of_rescue("a value")).is_err());
}
