//! Draws the faults, one after the other, and looks at everybody's health in between.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::anew::{self, Everything, Way};
use crate::backups::{Backups, Tally};
use crate::faults::{FAULTS, Fault};
use crate::harness::client;
use crate::hosts::Hosts;
use crate::load::Load;
use crate::{netns, process};

/// How long the faults of one history go on at most: the judge's work grows faster than the history.
const ROUND: Duration = Duration::from_secs(60);
/// How much longer its load may go on: for the last fault, and for the loss of power after it.
const REST: Duration = Duration::from_secs(120);
/// What a run of the ordinary length must have had.
const FAULTS_MIN: u32 = 10;

/// Everything that a fault may need.
pub(crate) struct Chaos {
    pub(crate) hosts: Hosts,
    pub(crate) random: StdRng,
    runtime: tokio::runtime::Runtime,
    began: Instant,
    schedule: Vec<String>,
    table: BTreeMap<&'static str, Row>,
    /// What became of the backups.
    pub(crate) backups: Tally,
    /// How often the cluster began anew.
    pub(crate) anew: BTreeMap<Way, u32>,
    /// A node that keeps its data directory of the cluster before.
    pub(crate) former: Option<usize>,
    /// What the histories left so far.
    pub(crate) left: Everything,
}

/// What became of one kind of fault.
#[derive(Default)]
struct Row {
    times: u32,
    /// The longest time from the end of the fault until all were ready.
    recovery: Duration,
    skipped: Option<String>,
}

/// Why a fault could not be had here; it is shown in the table.
pub(crate) struct Skipped(pub(crate) String);

impl Chaos {
    /// A line of the schedule.
    pub(crate) fn say(&mut self, what: &str) {
        let line = format!("{:7.2} s  {what}", self.began.elapsed().as_secs_f64());
        eprintln!("{line}");
        self.schedule.push(line);
    }

    pub(crate) fn any(&mut self) -> usize {
        self.random.random_range(0..self.hosts.count())
    }

    /// All nodes, in any order.
    pub(crate) fn shuffled(&mut self) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.hosts.count()).collect();
        nodes.shuffle(&mut self.random);
        nodes
    }

    pub(crate) fn minority(&self) -> usize {
        (self.hosts.count() - 1) / 2
    }

    pub(crate) fn leader(&self) -> usize {
        self.runtime.block_on(self.hosts.cluster.wait_leader())
    }

    /// Waits for a time between `least` and `most` milliseconds.
    pub(crate) fn hold(&mut self, least: u64, most: u64) {
        let time = Duration::from_millis(self.random.random_range(least..most));
        std::thread::sleep(time);
    }

    /// Whether the node says that it can serve now.
    pub(crate) fn is_ready(&self, node: usize) -> bool {
        let url = self.hosts.cluster.url(node, "/readyz");
        let asked = self.hosts.cluster.http.get(url).timeout(Duration::from_secs(1));
        let asked = self.runtime.block_on(async { asked.send().await });
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// The status and the body of an answer; status 0 if there is none.
    pub(crate) fn ask(
        &self,
        node: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, serde_json::Value) {
        let method = method.parse().unwrap();
        let asked = self.hosts.cluster.http.request(method, self.hosts.cluster.url(node, path));
        let asked = asked.body(body.to_owned());
        self.runtime.block_on(async {
            match asked.send().await {
                Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or_default()),
                Err(error) => (0, error.to_string().into()),
            }
        })
    }

    /// The wall clock of a node, to the hour, as its answers show it.
    pub(crate) fn hour_at(&self, node: usize) -> String {
        let asked = self.hosts.cluster.http.get(self.hosts.cluster.url(node, "/healthz"));
        let answer = self.runtime.block_on(async { asked.send().await }).unwrap();
        let date = answer.headers()["date"].to_str().unwrap();
        date[.."Wed, 25 Nov 2026 22".len()].to_owned()
    }

    pub(crate) fn wait_ready(&self, node: usize) {
        self.runtime.block_on(self.hosts.cluster.wait_ready(node));
    }

    /// Nobody has ended, and all can serve, at the latest after the harness's patience. Readiness is asked
    /// for again and again: a node tells nobody that it has become ready.
    pub(crate) fn healthy(&mut self) {
        for node in 0..self.hosts.count() {
            let node = &mut self.hosts.cluster.nodes[node];
            let ended = node.ended();
            assert!(ended.is_none() && node.runs(), "{} ended: {ended:?}", node.name);
        }
        self.runtime.block_on(self.hosts.cluster.wait_ready_all());
    }

    fn draw(&mut self, fault: &'static Fault) {
        self.healthy();
        let outcome = (fault.run)(self);
        let healed = Instant::now();
        self.healthy();
        let row = self.table.entry(fault.name).or_default();
        match outcome {
            Ok(()) => {
                row.times += 1;
                row.recovery = row.recovery.max(healed.elapsed());
            }
            Err(Skipped(why)) => row.skipped = Some(why),
        }
    }

    fn fired(&self) -> u32 {
        self.table.values().map(|row| row.times).sum()
    }

    fn print_table(&self) {
        eprintln!("\n{:<58} times  ready again after at most", "fault");
        for (name, row) in &self.table {
            match &row.skipped {
                Some(why) if row.times == 0 => eprintln!("{name:<58}     -  skipped: {why}"),
                _ => {
                    eprintln!("{name:<58} {:>5}  {:>6.2} s", row.times, row.recovery.as_secs_f64());
                }
            }
        }
        let kinds = self.table.values().filter(|row| row.times > 0).count();
        eprintln!("{} faults of {kinds} kinds", self.fired());
        eprintln!("{}", self.backups);
        let anew = |way| self.anew.get(&way).copied().unwrap_or_default();
        let ways = [Way::Backup, Way::Survivor].map(|way| format!("{} {way}", anew(way)));
        eprintln!("the cluster began anew: {}", ways.join(", "));
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// Runs as long as the environment says; panics with all that helps if a promise was broken.
pub(crate) fn run() {
    let seconds = number("KONSEN_CHAOS_SECONDS");
    let seed = number("KONSEN_CHAOS_SEED").unwrap_or(1);
    let budget = Duration::from_secs(seconds.unwrap_or(ROUND.as_secs()));
    // Five nodes have more ways to fail; three leave an ordinary machine some rest.
    let nodes = number("KONSEN_CHAOS_NODES").unwrap_or(if seconds.is_some() { 5 } else { 3 });
    let Some(hosts) = Hosts::new(usize::try_from(nodes).unwrap()) else {
        eprintln!("skipped: chaos on real processes needs root, `ip` and `iptables`");
        return;
    };
    // This thread, and whatever it starts, is a client from here on.
    netns::enter(&hosts.net, hosts.client());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut chaos = Chaos {
        hosts,
        random: StdRng::seed_from_u64(seed),
        runtime,
        began: Instant::now(),
        schedule: Vec::new(),
        table: BTreeMap::new(),
        backups: Tally::default(),
        anew: BTreeMap::new(),
        former: None,
        left: Everything::default(),
    };
    chaos.hosts.cluster.http = client();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    std::fs::create_dir_all(&kept).unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| rounds(&mut chaos, seed, budget, &kept)));
    chaos.print_table();
    match outcome {
        Ok(()) => {
            // What it would explain has not happened.
            let _ = std::fs::remove_dir_all(&kept);
        }
        Err(panic) => {
            explain(&chaos, seed, budget, &kept);
            resume_unwind(panic);
        }
    }
}

fn explain(chaos: &Chaos, seed: u64, budget: Duration, kept: &Path) {
    for node in &chaos.hosts.cluster.nodes {
        let _ = std::fs::write(kept.join(format!("{}.log", node.name)), node.log());
    }
    let _ = std::fs::write(kept.join("schedule.txt"), chaos.schedule.join("\n"));
    eprintln!("\nthe schedule so far:\n{}", chaos.schedule.join("\n"));
    eprintln!("\n{}", chaos.hosts.cluster.logs());
    eprintln!("histories and whole logs are kept in {}", kept.display());
    eprintln!(
        "again: KONSEN_CHAOS_SEED={seed} KONSEN_CHAOS_SECONDS={} KONSEN_CHAOS_NODES={} \
         cargo test --test chaos -- --nocapture",
        budget.as_secs(),
        chaos.hosts.count()
    );
}

fn rounds(chaos: &mut Chaos, seed: u64, budget: Duration, kept: &Path) {
    eprintln!("seed {seed}, {} nodes, {budget:?} of faults", chaos.hosts.count());
    for node in &mut chaos.hosts.cluster.nodes {
        node.start();
    }
    chaos.healthy();
    let mut deck: Vec<&'static Fault> = Vec::new();
    let times = lengths(budget);
    // The cluster that begins anew is one for the next history.
    let plan = anew::plan(chaos, times.len().saturating_sub(1).max(1));
    for (round, time) in times.into_iter().enumerate() {
        let file = kept.join(format!("history-{round}.jsonl"));
        history(chaos, &mut deck, time, seed.wrapping_add(round as u64), file);
        match plan.get(round).copied().flatten() {
            Some(way) if chaos.minority() > 0 => anew::begin(chaos, way),
            _ => {
                let node = chaos.any();
                anew::read_back(chaos, node);
            }
        }
    }
    assert!(chaos.backups.saved() > 0, "no backup was saved");
    let expected = FAULTS_MIN.min(u32::try_from(budget.as_secs() / 6).unwrap());
    assert!(chaos.fired() >= expected, "only {} faults", chaos.fired());
}

/// The histories of a run.
fn lengths(budget: Duration) -> Vec<Duration> {
    // Two at least, with a cluster that begins anew in between, if there is time for faults in both.
    let round = if budget < ROUND { budget } else { ROUND.min(budget / 2) };
    let mut times = Vec::new();
    let mut left = budget;
    while !left.is_zero() {
        let time = left.min(round);
        left -= time;
        // A short rest makes no round of its own.
        times.push(if left < round / 4 { time + std::mem::take(&mut left) } else { time });
    }
    times
}

/// The faults of one history, the backups that are saved meanwhile, the loss of power at their end, and the verdict.
fn history(
    chaos: &mut Chaos,
    deck: &mut Vec<&'static Fault>,
    time: Duration,
    seed: u64,
    file: PathBuf,
) {
    let mut load = Load::start(&chaos.hosts, time + REST, seed, file);
    let backups = Backups::start(&chaos.hosts, seed);
    let began = Instant::now();
    while began.elapsed() < time {
        let fault = match deck.pop() {
            Some(fault) => fault,
            None => {
                // Every kind comes once before any comes again.
                let wanted = std::env::var("KONSEN_CHAOS_FAULTS").unwrap_or_default();
                let possible = FAULTS.iter().filter(|fault| fault.harms <= chaos.minority());
                deck.extend(possible.filter(|fault| fault.name.contains(&wanted)));
                assert!(!deck.is_empty(), "no fault has {wanted:?} in its name");
                deck.shuffle(&mut chaos.random);
                continue;
            }
        };
        chaos.draw(fault);
        load.must_run();
        backups.must_run();
    }
    chaos.draw(&process::LAST);
    load.must_run();
    chaos.backups.add(backups.end());
    let verdict = load.verdict();
    chaos.say(&format!("verdict: {verdict}"));
}
