//! Whether a cluster that must serve does. The voters are those that the leader knows of.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::AbortHandle;

use crate::operator::At;
use crate::prober::GAP_MAX;

/// How often everybody is asked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long anybody is given to answer.
const TIMEOUT: Duration = Duration::from_millis(700);
/// So often at least it must have been looked within the time that nothing was acknowledged: a machine that does
/// not run the test may not run the cluster.
const LOOKS_MIN: u32 = 10;

/// A host as the operator has left it.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) url: String,
    /// Whether he wants it to run.
    pub(super) up: bool,
    /// Whether it has answered since it was started.
    pub(super) answered: bool,
    /// Its identity, once it has told.
    pub(super) id: Option<String>,
    /// Whether it has ended by itself since. If it was needed it counts as one that is up.
    pub(super) ended: bool,
    /// Whether it belongs to a cluster, or did; one that does not waits to be taken in.
    pub(super) belongs: bool,
    /// Whether it was a member, as far as somebody has told.
    pub(super) seated: bool,
}

/// What a leader says of the members.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    term: u64,
    pub(super) members: Vec<Value>,
    /// The names of the voters from before a change that is under way.
    before: Option<BTreeSet<String>>,
    /// When it was asked.
    pub(super) at: Option<Instant>,
}

impl View {
    /// Where everybody is.
    pub(super) fn places(&self) -> Vec<(String, At)> {
        let place = |one: &Value| {
            let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            (text("name"), At { raft: text("raft_address"), http: text("http_address") })
        };
        self.members.iter().map(place).collect()
    }
}

#[derive(Default)]
struct Known {
    hosts: Vec<Host>,
    /// The newest of a leader.
    view: View,
    /// Since when the voters' hosts are a majority.
    since: Option<Instant>,
    looks: u32,
    /// What must not have happened.
    stalled: Option<String>,
}

/// Looks at everybody until it is dropped.
pub(super) struct Judge {
    known: Arc<Mutex<Known>>,
    task: AbortHandle,
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Judge {
    /// `last` tells when a write was last acknowledged.
    pub(super) fn start(
        http: reqwest::Client,
        last: impl Fn() -> Instant + Send + 'static,
    ) -> Judge {
        let known = Arc::new(Mutex::new(Known::default()));
        let task = tokio::spawn(watch(known.clone(), http, last)).abort_handle();
        Judge { known, task }
    }

    pub(super) fn hosts<T>(&self, look: impl FnOnce(&mut Vec<Host>) -> T) -> T {
        look(&mut lock(&self.known).hosts)
    }

    pub(super) fn view(&self) -> View {
        lock(&self.known).view.clone()
    }

    /// Whether the hosts of the voters that are up are a majority.
    pub(super) fn majority_is_up(&self) -> bool {
        let known = lock(&self.known);
        majority(&known.hosts, &known.view)
    }

    /// What a leader says that is asked from now on; none if nobody leads for a while.
    pub(super) async fn fresh_view(&self, patience: Duration) -> Option<View> {
        let began = Instant::now();
        while began.elapsed() < patience {
            let view = self.view();
            if view.at.is_some_and(|at| at >= began) {
                return Some(view);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    pub(super) fn stalled(&self) -> Option<String> {
        lock(&self.known).stalled.clone()
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // Whoever panicked with it has failed the test.
    known.lock().unwrap()
}

async fn watch(
    known: Arc<Mutex<Known>>,
    http: reqwest::Client,
    last: impl Fn() -> Instant + Send + 'static,
) {
    loop {
        look(&known, &http).await;
        {
            let mut known = lock(&known);
            let up = majority(&known.hosts, &known.view);
            let (now, last) = (Instant::now(), last());
            let since = *known.since.get_or_insert(now);
            if !up {
                (known.since, known.looks) = (None, 0);
            } else if last > since {
                (known.since, known.looks) = (Some(last), 0);
            } else {
                known.looks += 1;
                let silent = now.duration_since(since);
                if silent > GAP_MAX && known.looks > LOOKS_MIN && known.stalled.is_none() {
                    let what = format!(
                        "nothing is acknowledged for {silent:.1?} with the hosts of a majority up: {:?}, {:?}",
                        known.view, known.hosts
                    );
                    known.stalled = Some(what);
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Asks everybody that is up who he is, and whoever leads who the members are.
async fn look(known: &Mutex<Known>, http: &reqwest::Client) {
    let hosts = lock(known).hosts.clone();
    let asked = Instant::now();
    let there = hosts.iter().enumerate().filter(|(_, host)| host.up && !host.ended);
    let asks = there.map(|(at, host)| async move {
        let status = get(http, &format!("{}/v1/status", host.url)).await?;
        let leads = status["role"] == "leader";
        let cluster = match leads {
            true => get(http, &format!("{}/v1/cluster", host.url)).await,
            false => None,
        };
        Some((at, status, cluster))
    });
    let answers = futures_util::future::join_all(asks).await;
    let mut known = lock(known);
    for (at, status, cluster) in answers.into_iter().flatten() {
        // It may have been moved, or have stopped, and another one may have its place.
        let now = &known.hosts[at];
        let same = now.url == hosts[at].url && now.up && !now.ended;
        if !same || status["name"] != known.hosts[at].name.as_str() {
            continue;
        }
        known.hosts[at].answered = true;
        known.hosts[at].belongs = status["cluster_id"].is_string();
        known.hosts[at].id = status["id"].as_str().map(str::to_owned);
        let (Some(term), Some(mut cluster)) = (status["term"].as_u64(), cluster) else { continue };
        if term < known.view.term {
            continue;
        }
        let Value::Array(members) = cluster["members"].take() else { continue };
        for host in &mut known.hosts {
            let own = host.id.as_deref();
            host.seated |= members.iter().any(|one| own.is_some() && one["id"].as_str() == own);
        }
        let before = cluster["change"]["before"].as_array();
        let before =
            before.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        known.view = View { term, members, before, at: Some(asked) };
    }
}

async fn get(http: &reqwest::Client, url: &str) -> Option<Value> {
    let answer = http.get(url).timeout(TIMEOUT).send().await.ok()?;
    answer.json().await.ok()
}

/// Of a change that is under way both sides count.
fn majority(hosts: &[Host], view: &View) -> bool {
    let here = |host: &&Host| host.up && host.answered;
    let voters: Vec<&Value> = view.members.iter().filter(|one| one["voter"] == true).collect();
    let is_up = |id: Option<&str>| {
        id.is_some() && hosts.iter().filter(here).any(|host| host.id.as_deref() == id)
    };
    let up = voters.iter().filter(|one| is_up(one["id"].as_str())).count();
    let before = view.before.as_ref().is_none_or(|names| {
        let named = |name: &&String| hosts.iter().filter(here).any(|host| host.name == **name);
        names.iter().filter(named).count() * 2 > names.len()
    });
    !voters.is_empty() && up * 2 > voters.len() && before
}
