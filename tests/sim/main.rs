//! Whole clusters on one thread: the replica of the shipped binary on a virtual clock, a virtual
//! network and disks that lose power. All of it comes from one seed.
//!
//! What the server and the network decide about the cluster is decided here by the same functions: whom to dial and
//! where, whom to let in, who was put out (`links`), who founds a cluster (`bootstrap`), what becomes of a write that
//! is passed on (`passing`), what of the log stays for a snapshot (`transfer`), what of the past goes and whose
//! state is wrong (`chores`), when the feature level is raised (`features`), which settings are agreed on and whether leases count
//! (`settings`). Operators (`operator`) use the commands that there are, and what they were told has to
//! stay true (`changes`). Beside them the membership is also changed as nobody could ask for (`directory`).
//!
//! - `cargo test --test sim`: a fixed set of seeds.
//! - `KONSEN_SIM_SEED=7 cargo test --test sim one_seed -- --nocapture`: one seed with a full trace.
//! - `KONSEN_SIM_CUT='…'`, as a failing seed prints it, with that: a smaller run that still fails.
//! - `KONSEN_SIM_SEEDS=1000..2000 cargo test --profile sim --test sim seeds -- --nocapture`: other seeds;
//!   with `KONSEN_SIM_EVENTS=20000` each goes on until it had so many events, and with
//!   `KONSEN_SIM_SECONDS=60` no seed begins after that time.
//! - `KONSEN_SIM_CHURN=1` with any of these: the membership changes in every seed, again and again, also as no
//!   operator could change it.
//! - `KONSEN_SIM_OPERATOR=1` with any of these: operators add, remove, replace, move and restart hosts in every seed.
//! - `ci/planted --profile sim mutants -- --nocapture`: plants mistakes.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=1` in place of `--profile sim` is built sooner and still four times as
//! fast as a build without.

mod access;
mod anchors;
mod anew;
mod asking;
mod bootstrap;
mod capacity;
mod changes;
mod chores;
mod clients;
mod cut;
mod direct;
mod direct_cluster;
mod direct_features;
mod direct_learners;
mod direct_log;
mod direct_lost;
mod direct_reads;
mod direct_settings;
mod direct_txns;
mod directory;
mod disk;
mod due;
mod features;
mod finale;
mod host;
mod host_tasks;
mod leaders;
mod life;
mod links;
mod many;
#[cfg(feature = "planted")]
mod mutants;
mod naive;
mod nemesis;
mod operator;
mod oracle;
mod passing;
mod plan;
mod random;
mod rebirth;
mod reference;
mod rot;
mod serving;
mod settings;
mod transfer;
mod txns;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cut::Cut;
use finale::Report;
use oracle::Broken;

/// The seeds of every test run. What a seed means changes with the code; the number of them is what
/// a minute of one core can do.
const SEEDS: std::ops::Range<u64> = 0..120;

#[test]
fn seeds_keep_every_promise() {
    let seeds = match std::env::var("KONSEN_SIM_SEEDS") {
        Ok(named) => parse(&named).expect("KONSEN_SIM_SEEDS is like 100..200"),
        Err(_) => SEEDS,
    };
    let time = std::env::var("KONSEN_SIM_SECONDS").ok();
    let time = time.map(|time| time.parse().expect("KONSEN_SIM_SECONDS is a number"));
    many::run(seeds, time.map(Duration::from_secs));
}

#[test]
fn one_seed_is_one_run() {
    plant();
    let seed = std::env::var("KONSEN_SIM_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let none = Cut::default();
    let Some(seed) = seed else {
        for seed in [3, 4] {
            let digests: Vec<u64> = (0..2)
                .map(|_| match run(seed, &none, false) {
                    Ok(report) => report.digest,
                    Err(Broken(what)) => panic!("seed {seed}: {what}"),
                })
                .collect();
            assert_eq!(
                digests[0],
                digests[1],
                "seed {seed} went two ways; {}",
                replay(seed, &none)
            );
        }
        return;
    };
    let cut = std::env::var("KONSEN_SIM_CUT").unwrap_or_default();
    let cut = Cut::parse(&cut).expect("KONSEN_SIM_CUT is what a failing seed printed");
    match run(seed, &cut, true) {
        Ok(report) => println!("{report:#?}"),
        Err(Broken(what)) => panic!("seed {seed}: {what}"),
    }
}

/// Plants what `KONSEN_MUTANT` names, to look at how it goes.
fn plant() {
    #[cfg(feature = "planted")]
    mutants::plant_named();
}

fn run(seed: u64, cut: &Cut, tracing: bool) -> Result<Report, Broken> {
    catch_unwind(AssertUnwindSafe(|| finale::run(seed, cut, tracing))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken(format!("panicked: {}", text.unwrap_or_default())))
    })
}

fn replay(seed: u64, cut: &Cut) -> String {
    let cut = match cut.to_string() {
        none if none.is_empty() => none,
        some => format!("KONSEN_SIM_CUT='{some}' "),
    };
    let events = match events_min() {
        0 => String::new(),
        events => format!("KONSEN_SIM_EVENTS={events} "),
    };
    let churn = if churn() { "KONSEN_SIM_CHURN=1 " } else { "" };
    let operator = if operator() { "KONSEN_SIM_OPERATOR=1 " } else { "" };
    format!(
        "replay: {cut}{events}{churn}{operator}KONSEN_SIM_SEED={seed} cargo test --test sim one_seed -- --nocapture"
    )
}

/// What `KONSEN_SIM_CHURN` asks for.
fn churn() -> bool {
    std::env::var_os("KONSEN_SIM_CHURN").is_some()
}

/// What `KONSEN_SIM_OPERATOR` asks for.
fn operator() -> bool {
    std::env::var_os("KONSEN_SIM_OPERATOR").is_some()
}

/// What `KONSEN_SIM_EVENTS` asks for.
fn events_min() -> u64 {
    let events = std::env::var("KONSEN_SIM_EVENTS").ok();
    events.map_or(0, |events| events.parse().expect("KONSEN_SIM_EVENTS is a number"))
}

fn parse(range: &str) -> Option<std::ops::Range<u64>> {
    let (from, to) = range.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}
