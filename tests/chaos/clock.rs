//! One node's wall clock, by libfaketime: it jumps by hours, and into a time when all certificates have
//! expired. Its monotonic clock, by which konsen keeps its times, goes on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::harness::{Node, PATIENCE};
use crate::nemesis::{Chaos, Skipped};

const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];
const FILE: &str = "clock";

/// Has the node read its clock through the library, where there is one.
pub(crate) fn give(node: &mut Node) {
    let Some(library) = LIBRARIES.into_iter().find(|library| Path::new(library).exists()) else {
        return;
    };
    let file = node.home.join(FILE);
    fs::write(&file, "+0\n").unwrap();
    for (name, value) in [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ] {
        node.env.push((name.to_owned(), value.to_owned()));
    }
}

pub(crate) fn jump(chaos: &mut Chaos) -> Result<(), Skipped> {
    let file = chaos.hosts.cluster.nodes[0].home.join(FILE);
    if !file.exists() {
        return Err(Skipped("libfaketime is not installed".into()));
    }
    let by = ["+3600", "-7200", "+34560000"][chaos.random.random_range(0..3)];
    chaos.say(&format!("the wall clock of node1 jumps by {by} s"));
    fs::write(&file, format!("{by}\n")).unwrap();
    // What tells the time is the header `Date`, which the HTTP library makes anew once a second has passed: after a
    // jump back, not before the old time has come again.
    if by.starts_with('+') {
        wait_jumped(chaos);
    }
    chaos.hold(1500, 4000);
    fs::write(&file, "+0\n").unwrap();
    Ok(())
}

/// The library looks at the file when whole seconds have passed, and tells nobody.
fn wait_jumped(chaos: &Chaos) {
    let deadline = Instant::now() + PATIENCE;
    while chaos.hour_at(0) == chaos.hour_at(1) {
        assert!(Instant::now() < deadline, "the clock of node1 does not jump");
        std::thread::sleep(Duration::from_millis(50));
    }
}
