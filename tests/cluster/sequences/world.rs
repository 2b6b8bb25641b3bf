//! A cluster, its hosts, and what was done to them.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::harness::Cluster;
use crate::hosts::{self, readdress, said_why};
use crate::operator::{At, By, Operator, Order, Outcome};
use crate::prober::Prober;

use super::drawn::{Choice, Step, draw};
use super::judge::{Host, Judge, View};

/// What a host is told to stop with.
const SIGTERM: i32 = 15;
/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long he waits for the hosts to agree on a leader before he goes on.
const MOMENT: Duration = Duration::from_secs(1);

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It belongs to the cluster, or is to, as far as the operator knows.
    In,
    /// It was put out while it was down, and another one has its place. It may come back.
    Late,
    /// It was put out, and has ended.
    Ended,
}

pub(super) struct World {
    seed: u64,
    founders: usize,
    random: StdRng,
    pub(super) cluster: Cluster,
    prober: Option<Prober>,
    pub(super) judge: Judge,
    pub(super) fates: Vec<Fate>,
    began: Instant,
    last: Option<(By, Order)>,
    given: usize,
}

impl World {
    /// Three or five nodes that serve.
    pub(super) async fn start(seed: u64) -> World {
        let founders = if seed.is_multiple_of(2) { 5 } else { 3 };
        let cluster = hosts::start(founders, "").await;
        let prober = Prober::start(&cluster);
        let judge = Judge::start(cluster.http.clone(), prober.clock());
        let mut world = World {
            seed,
            founders,
            random: StdRng::seed_from_u64(seed),
            fates: Vec::new(),
            cluster,
            prober: Some(prober),
            judge,
            began: Instant::now(),
            last: None,
            given: founders,
        };
        for host in 0..founders {
            world.has_come(host);
        }
        world
    }

    pub(super) fn say(&self, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        // Shown where the test fails.
        eprintln!("{at:7.2} s  {what}");
    }

    /// Draws what comes next, and does it.
    pub(super) async fn step(&mut self) {
        self.reap();
        self.judge.fresh_view(MOMENT).await;
        let View { members, .. } = self.judge.view();
        let hosts = self.judge.hosts(|hosts| hosts.clone());
        let choice = Choice {
            members: &members,
            hosts: &hosts,
            fates: &self.fates,
            founders: self.founders,
            given: self.given,
            may_repeat: self.last.is_some(),
        };
        let step = draw(&choice, &mut self.random);
        self.carry_out(step).await;
        self.check();
    }

    async fn carry_out(&mut self, step: Step) {
        match step {
            Step::Give(by, order) => self.give(by, order).await,
            Step::GiveTwo(by, orders) => self.give_two(by, orders).await,
            Step::Repeat => {
                if let Some((by, order)) = self.last.clone() {
                    self.give(by, order).await;
                }
            }
            Step::Stop(host) => {
                self.say(&format!("{} is stopped", self.named(host)));
                self.stop(host);
            }
            Step::Kill(host) => {
                self.say(&format!("{} is killed", self.named(host)));
                self.judge.hosts(|hosts| hosts[host].up = false);
                self.cluster.nodes[host].kill();
            }
            Step::Restart(host) => {
                self.say(&format!("{} is restarted", self.named(host)));
                self.stop(host);
                self.start_host(host);
            }
            Step::Move(host) => {
                self.stop(host);
                let at = At::free();
                self.say(&format!("{} moves to {}", self.named(host), at.raft));
                readdress(&mut self.cluster.nodes[host], &at);
                self.start_host(host);
            }
            Step::Start(host) => {
                self.say(&format!("{} is started", self.named(host)));
                self.start_host(host);
            }
            Step::Come(name) => {
                self.come(&name).await;
            }
        }
    }

    pub(super) fn named(&self, host: usize) -> String {
        format!("{} (host {})", self.cluster.nodes[host].name, host + 1)
    }

    fn operator(&mut self, by: By) -> Operator {
        let running: Vec<usize> =
            (0..self.fates.len()).filter(|&host| self.cluster.nodes[host].runs()).collect();
        let first = *running.choose(&mut self.random).expect("a node runs");
        Operator::of(&self.cluster, by, first).without_folders().patient(PATIENCE)
    }

    async fn give(&mut self, by: By, order: Order) {
        if !self.cluster.nodes.iter().any(|node| node.runs()) {
            return;
        }
        self.note(&order);
        let told = self.operator(by).give(&order).await;
        self.say(&format!("{by:?}: {order:?}: {:?}: {}", told.outcome, short(&told.text)));
        self.last = Some((by, order));
        // Whoever is told to bring a host mostly does so.
        if told.outcome == Outcome::Done
            && let Some((_, Order::Add { name, .. } | Order::Replace { name, .. })) = &self.last
            && self.random.random_ratio(1, 2)
        {
            let name = name.clone();
            self.come(&name).await;
        }
    }

    async fn give_two(&mut self, by: By, orders: [Order; 2]) {
        if !self.cluster.nodes.iter().any(|node| node.runs()) {
            return;
        }
        let operators = [self.operator(by), self.operator(by)];
        orders.iter().for_each(|order| self.note(order));
        let (one, other) =
            tokio::join!(operators[0].give(&orders[0]), operators[1].give(&orders[1]));
        for (order, told) in orders.into_iter().zip([one, other]) {
            let what = format!("{by:?}, at once: {order:?}: {:?}: ", told.outcome);
            self.say(&(what + &short(&told.text)));
            self.last = Some((by, order));
        }
    }

    /// Names that are given are not given again as new ones.
    fn note(&mut self, order: &Order) {
        if let Order::Add { name, .. } = order
            && *name == format!("node{}", self.given + 1)
        {
            self.given += 1;
        }
    }

    /// There is one host more.
    fn has_come(&mut self, host: usize) {
        let node = &self.cluster.nodes[host];
        let up = node.runs();
        let host = Host { name: node.name.clone(), url: node.url(""), up, ..Host::default() };
        self.judge.hosts(|hosts| hosts.push(host));
        self.fates.push(Fate::In);
        if let Some(prober) = &mut self.prober {
            prober.follow(&self.cluster);
        }
    }

    pub(super) fn start_host(&mut self, host: usize) {
        self.cluster.nodes[host].start();
        let url = self.cluster.nodes[host].url("");
        self.judge.hosts(|hosts| {
            hosts[host].url = url;
            (hosts[host].up, hosts[host].answered, hosts[host].ended) = (true, false, false);
        });
        if let Some(prober) = &mut self.prober {
            prober.follow(&self.cluster);
        }
    }

    fn stop(&mut self, host: usize) {
        self.judge.hosts(|hosts| hosts[host].up = false);
        if !self.cluster.nodes[host].runs() {
            return;
        }
        let status = self.cluster.nodes[host].terminate();
        // One that was started a moment ago does not listen for signals yet, and ends by this one.
        let early = !self.cluster.nodes[host].has_served() && status.signal() == Some(SIGTERM);
        let ended = status.code() == Some(0) || early;
        assert!(ended, "{} ended with {status}", self.named(host));
    }

    /// The host that the cluster expects under a name is started; a new one, unless it was made before. False if
    /// nobody is expected.
    pub(super) async fn come(&mut self, name: &str) -> bool {
        let deadline = Instant::now() + crate::harness::PATIENCE;
        loop {
            self.reap();
            let Some(view) = self.judge.fresh_view(MOMENT).await else { return false };
            let own = view.members.iter().find(|one| one["name"] == name);
            let Some(own) = own.filter(|own| own["id"].is_null()) else { return false };
            let text = |field: &str| own[field].as_str().unwrap_or_default().to_owned();
            let at = At { raft: text("raft_address"), http: text("http_address") };
            let hosts = self.judge.hosts(|hosts| hosts.clone());
            let latest = (0..hosts.len())
                .rev()
                .find(|&at| hosts[at].name == name && self.fates[at] == Fate::In);
            let Some(latest) = latest else {
                self.bring(name, &at, &view);
                return true;
            };
            let runs = self.cluster.nodes[latest].runs();
            if !hosts[latest].seated {
                if !runs {
                    readdress(&mut self.cluster.nodes[latest], &at);
                    self.say(&format!("{} is started again", self.named(latest)));
                    self.start_host(latest);
                }
                return true;
            }
            if !runs {
                // It was put out while it was down: it may come back, but not in this place.
                self.fates[latest] = Fate::Late;
                continue;
            }
            let late = Instant::now() >= deadline;
            assert!(!late, "{} was put out and does not end", self.named(latest));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A host with an empty data directory.
    fn bring(&mut self, name: &str, at: &At, view: &View) {
        let new = hosts::newcomer(&mut self.cluster, name, at, &view.places(), "");
        self.cluster.nodes[new].start();
        self.has_come(new);
        self.say(&format!("{} comes", self.named(new)));
    }

    /// Looks who has ended by itself: only those who were put out may, and they say so.
    pub(super) fn reap(&mut self) {
        for host in 0..self.fates.len() {
            let Some(status) = self.cluster.nodes[host].ended() else { continue };
            assert_eq!(status.code(), Some(0), "{} ended with {status}", self.named(host));
            self.say(&format!("{} has ended, since it was put out", self.named(host)));
            said_why(&self.cluster.nodes[host], "");
            self.fates[host] = Fate::Ended;
            self.judge.hosts(|hosts| hosts[host].ended = true);
        }
    }

    /// Nothing has happened that must not.
    pub(super) fn check(&self) {
        let wrong = self.prober.as_ref().map(Prober::wrong).unwrap_or_default();
        assert!(wrong.is_empty(), "{wrong:?}");
        let stalled = self.judge.stalled();
        assert!(stalled.is_none(), "{}", stalled.unwrap_or_default());
    }

    /// Everything that was acknowledged is there, at all that run. What happened, in a line.
    pub(super) async fn end(mut self) -> String {
        self.check();
        let prober = self.prober.take().expect("it ends once");
        let writes = prober.count();
        let hosts = self.judge.hosts(|hosts| hosts.clone());
        let View { members, .. } = self.judge.view();
        let belongs = |host: &usize| {
            let own = hosts[*host].id.as_deref();
            let is_in = members.iter().any(|one| own.is_some() && one["id"].as_str() == own);
            is_in && self.cluster.nodes[*host].runs()
        };
        let there: Vec<usize> = (0..self.fates.len()).filter(belongs).collect();
        prober.end(&self.cluster, &there).await;
        format!(
            "seed {}: {} founders, {} hosts, {writes} writes, {:.1} s",
            self.seed,
            self.founders,
            self.fates.len(),
            self.began.elapsed().as_secs_f64()
        )
    }
}

/// The beginning of what was said.
fn short(text: &str) -> String {
    let line = text.replace('\n', " ");
    line.chars().take(300).collect()
}

/// Who looks for the reason finds it here.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "again: KONSEN_SEQUENCES_SEED={} KONSEN_SEQUENCES=1 cargo test --test cluster sequences\n{}",
                self.seed,
                self.cluster.logs()
            );
        }
    }
}
