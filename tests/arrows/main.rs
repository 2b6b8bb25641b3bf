//! Who may use whom, and how large anything may become. The modules share one crate, so this test is their walls.
#![allow(clippy::unwrap_used)]

mod sources;

use std::collections::{BTreeMap, BTreeSet};

use sources::Source;

/// What each module may use of the crate.
const ALLOWED: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("kv", &[]),
    ("api", &["kv"]),
    ("audit", &[]),
    ("store", &["raft", "kv"]),
    ("cluster", &["raft", "kv"]),
    ("replica", &["raft", "kv", "store", "cluster"]),
    ("config", &["kv", "pki"]),
    ("pki", &[]),
    ("net", &["raft", "kv", "cluster", "config", "pki"]),
    (
        "server",
        &["api", "audit", "raft", "kv", "store", "cluster", "replica", "net", "config", "pki"],
    ),
    ("http", &["api", "audit", "kv", "server", "config"]),
    ("client", &["api", "kv"]),
    ("check", &["kv"]),
    (
        "cli",
        &[
            "api", "audit", "raft", "kv", "store", "cluster", "replica", "config", "pki", "net",
            "server", "http", "client", "check",
        ],
    ),
];

/// What each part of the store may use of the others.
const STORE: &[(&str, &[&str])] = &[
    ("tally", &[]),
    ("life", &["tally"]),
    ("paths", &[]),
    ("sealed", &[]),
    ("error", &["paths"]),
    ("meta", &["error", "sealed"]),
    ("disk", &["error", "life", "paths"]),
    ("log", &["disk", "error", "meta", "sealed"]),
    ("state", &["disk", "error", "life", "meta", "sealed"]),
    ("snapshot", &["state", "disk", "error", "sealed"]),
    ("dir", &["log", "state", "snapshot", "disk", "error", "meta", "paths"]),
];

/// The modules, and the directories in them, inside of which the modules are looked at, too.
const PARTED: &[&str] = &[
    "raft",
    "kv",
    "api",
    "api/txn",
    "audit",
    "store",
    "store/dir",
    "store/disk",
    "store/log",
    "store/snapshot",
    "store/state",
    "cluster",
    "replica",
    "net",
    "server",
    "server/admin",
    "server/peer",
    "server/run",
    "server/service",
    "server/tasks",
    "server/watch",
    "http",
];

/// The most lines of a file, without its tests.
const FILE_LINES_MAX: usize = 500;
/// The most lines of a function's body.
const FUNCTION_LINES_MAX: usize = 80;

/// The modules below `of`, or of the crate itself, and which others of them each uses.
fn edges(all: &[Source], of: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let below = |path: &[String]| {
        let inside = path.len() > of.len() && path.iter().zip(of).all(|(a, b)| a == b);
        inside.then(|| path[of.len()].clone())
    };
    let names: BTreeSet<String> = all.iter().filter_map(|source| below(&source.module)).collect();
    let mut edges: BTreeMap<_, _> =
        names.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for source in all {
        let Some(from) = below(&source.module) else { continue };
        let used = source.paths().iter().filter_map(|path| below(path)).collect::<BTreeSet<_>>();
        let used = used.into_iter().filter(|to| names.contains(to) && *to != from);
        edges.entry(from.clone()).or_default().extend(used);
    }
    edges
}

/// Everybody who is reached from `from`.
fn reached<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(one) = next.pop() {
        for to in &edges[one] {
            if reached.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    reached
}

fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let mut circles = BTreeSet::new();
    for one in edges.keys() {
        let ahead = reached(edges, one);
        let circle: Vec<String> = edges
            .keys()
            .filter(|other| {
                ahead.contains(other.as_str()) && reached(edges, other).contains(one.as_str())
            })
            .cloned()
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles
}

/// Nobody uses more than the table says, and all but `ends` are in it.
fn check(
    edges: &BTreeMap<String, BTreeSet<String>>,
    allowed: &[(&'static str, &'static [&'static str])],
    ends: &[&str],
) {
    let allowed: BTreeMap<_, _> = allowed.iter().copied().collect();
    for (module, used) in edges.iter().filter(|(module, _)| !ends.contains(&module.as_str())) {
        let may = allowed.get(module.as_str()).unwrap_or_else(|| {
            panic!("module {module} is not in the table of this test; see ARCHITECTURE.md")
        });
        for other in used {
            assert!(
                may.contains(&other.as_str()),
                "{module} uses {other}, which the architecture does not allow"
            );
        }
    }
    assert!(allowed.keys().all(|module| edges.contains_key(*module)), "{:?}", edges.keys());
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    // The binary, and the door of the fuzzers.
    check(&edges(&sources::all(), &[]), ALLOWED, &["main", "fuzz"]);
}

#[test]
fn the_parts_of_the_store_use_only_what_the_architecture_allows() {
    let all = sources::all();
    let parts = edges(&all, &["store"]);
    // The fuzzers, and what they and tests use.
    check(&parts, STORE, &["fuzz", "sample", "test_disk"]);
    // A name of the whole store would hide whose it is.
    for source in all.iter().filter(|source| source.module.starts_with(&["store".to_owned()])) {
        for path in source.paths().iter().filter(|path| path.len() > 1 && path[0] == "store") {
            assert!(parts.contains_key(&path[1]), "{} uses {}", source.file, path.join("::"));
        }
    }
}

#[test]
fn inside_of_a_module_nothing_goes_in_circles() {
    let all = sources::all();
    let mut wrong = Vec::new();
    for module in PARTED {
        let of: Vec<&str> = module.split('/').collect();
        let edges = edges(&all, &of);
        assert!(!edges.is_empty(), "there is no module {module}");
        wrong.extend(circles(&edges).into_iter().map(|circle| format!("in {module}: {circle:?}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_and_functions_stay_small() {
    let mut large = Vec::new();
    for source in sources::all() {
        if source.lines() > FILE_LINES_MAX {
            large.push(source.file.clone());
        }
        for function in source.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                large.push(format!("{}: {}", source.file, function.name));
            }
        }
    }
    assert!(large.is_empty(), "these are to be parted: {large:#?}");
}

/// The lint is one that an `allow` can turn off; nobody does, in no kind of file.
#[test]
fn nobody_writes_unsafe_code() {
    let found: Vec<_> =
        sources::all().into_iter().filter(|source| source.has_unsafe_code()).collect();
    let files: Vec<_> = found.iter().map(|source| &source.file).collect();
    assert!(files.is_empty(), "{files:?}");
    assert!(["unsafe { f() }", "{ unsafe {} }"].map(sources::is_unsafe).iter().all(|found| *found));
    assert!(sources::is_unsafe("#![allow(unsafe_code)]"));
    assert!(!sources::is_unsafe("#[ctor::ctor(unsafe)] fn f() {} // unsafe"));
}

/// A path is seen however it is written.
#[test]
fn paths_are_found_in_every_form() {
    let found = |text: &str| sources::paths_of(&["server", "handle"], text);
    let paths = |expected: &[&[&str]]| -> BTreeSet<Vec<String>> {
        expected.iter().map(|path| path.iter().map(|part| (*part).to_owned()).collect()).collect()
    };
    assert_eq!(found("use crate::kv::Item;"), paths(&[&["kv", "Item"]]));
    assert_eq!(
        found("use crate::{kv::{self, Item}, raft};"),
        paths(&[&["kv"], &["kv", "Item"], &["raft"]])
    );
    assert_eq!(found("use super::super::net::Net;"), paths(&[&["net", "Net"]]));
    assert_eq!(
        found("use super::{mailbox as m, net::*};"),
        paths(&[&["server", "mailbox"], &["server", "net"]])
    );
    assert_eq!(found("fn f() { crate::store::open::<u8>() }"), paths(&[&["store", "open"]]));
    assert_eq!(
        found("fn f(x: &super::start::Opened) {}"),
        paths(&[&["server", "start", "Opened"]])
    );
    assert_eq!(found("fn f() { println!(\"{}\", crate::kv::name()); }"), paths(&[&["kv", "name"]]));
    assert_eq!(found("mod inner { use super::super::net; }"), paths(&[&["server", "net"]]));
    assert_eq!(found("#[cfg(test)] mod tests { use crate::store::State; }"), paths(&[]));
    assert_eq!(found("use std::fmt; use tokio::net::UdpSocket;"), paths(&[]));
}
