//! The clients of a run: what they ask, of whom, and how fast.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::recorder::{Came, RUN_CALLS_MAX, Recorder};
use crate::check::history::{Answer, Ask, Need};
use crate::kv::Revision;

/// The pauses after calls that came to nothing, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Timers are no finer: a call that is due sooner than this is made now.
const TICK: Duration = Duration::from_millis(1);

/// Lets so many calls a second through, over all clients.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// A pace for a run of so long: not more than `rate` calls a second, if given, and not more in all than a history holds.
    pub(super) fn new(rate: Option<u32>, seconds: u64) -> Pace {
        let most = RUN_CALLS_MAX as f64 / seconds.max(1) as f64;
        let rate = rate.map_or(most, |rate| most.min(f64::from(rate)));
        Pace { interval: Duration::from_secs_f64(1.0 / rate), next: Mutex::new(Instant::now()) }
    }

    async fn turn(&self) {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock();
            // What was not used is lost, so that a cluster that comes back is not overrun.
            let at = (*next).max(now.checked_sub(TICK).unwrap_or(now));
            *next = at + self.interval;
            at
        };
        if at > now + TICK {
            tokio::time::sleep_until(at).await;
        }
    }
}

/// One who asks.
struct Client {
    recorder: Arc<Recorder>,
    /// The number in the history.
    number: u32,
    /// The endpoint that it keeps to; none: a random one each time.
    home: Option<u32>,
    random: StdRng,
    /// The value that it writes next, and how far it is to the one after that.
    value: u64,
    step: u64,
    /// The last mod revision that it saw of each key.
    seen: Vec<Option<Revision>>,
}

/// Runs the clients until the time is over. Dropping it ends them; calls under way are then not in the history, so let
/// `stop` end it.
pub(super) async fn run(
    recorder: &Arc<Recorder>,
    clients: u32,
    seed: u64,
    pace: Pace,
    until: Instant,
    stop: tokio::sync::watch::Receiver<bool>,
) {
    let pace = Arc::new(pace);
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..clients {
        let endpoints = u32::try_from(recorder.endpoints.len()).unwrap_or(u32::MAX);
        let client = Client {
            recorder: Arc::clone(recorder),
            number: recorder.client(),
            home: (at % 2 == 0).then_some(at / 2 % endpoints),
            // Any other seed than its neighbours' makes another sequence.
            random: StdRng::seed_from_u64(seed.wrapping_add(u64::from(at))),
            value: u64::from(at) + 1,
            step: u64::from(clients),
            seen: vec![None; recorder.names.count() as usize],
        };
        tasks.spawn(client.run(Arc::clone(&pace), until, stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

impl Client {
    async fn run(
        mut self,
        pace: Arc<Pace>,
        until: Instant,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut pause = PAUSE_MIN;
        loop {
            // Between calls it can be stopped at once; a call goes on to its end, which is soon.
            tokio::select! {
                () = pace.turn() => {}
                () = tokio::time::sleep_until(until) => return,
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if Instant::now() >= until || self.recorder.count() >= RUN_CALLS_MAX {
                return;
            }
            let ask = self.draw();
            let endpoints = self.recorder.endpoints.len();
            let roams = self.random.random_range(0..endpoints);
            let endpoint = self.home.unwrap_or(u32::try_from(roams).unwrap_or_default());
            match self.recorder.ask(self.number, endpoint, ask.clone()).await {
                Came::Answer(answer) => {
                    pause = PAUSE_MIN;
                    self.learn(&ask, &answer);
                }
                Came::Unknown => self.number = self.recorder.client(),
                Came::Nothing => {
                    // A node that is down refuses at once: without a pause its refusals would fill the history.
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = stop.wait_for(|stop| *stop) => return,
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn draw(&mut self) -> Ask {
        let keys = self.recorder.names.count();
        let key = self.random.random_range(0..keys);
        let seen = self.seen.get(key as usize).copied().flatten();
        let unchanged = seen.map_or(Need::Nothing, Need::Revision);
        let need = match self.random.random_range(0..10) {
            0..2 => Need::Absent,
            2..6 => unchanged,
            _ => Need::Nothing,
        };
        let to = self.random.random_range(key + 1..=keys);
        match self.random.random_range(0..100) {
            0..40 => Ask::Get { key },
            40..48 => Ask::List { from: key, to },
            48..85 => {
                let value = self.value;
                self.value += self.step;
                Ask::Put { key, value, need }
            }
            85..95 if need == Need::Absent => Ask::Delete { key, need: Need::Nothing },
            85..95 => Ask::Delete { key, need },
            _ => Ask::Sweep { from: key, to },
        }
    }

    fn learn(&mut self, ask: &Ask, answer: &Answer) {
        let mut saw = |key: u32, revision| {
            if let Some(seen) = self.seen.get_mut(key as usize) {
                *seen = Some(revision);
            }
        };
        match (ask, answer) {
            (Ask::Put { key, .. }, Answer::Put { revision, .. })
            | (
                Ask::Put { key, .. } | Ask::Delete { key, .. },
                Answer::ConditionFailed { current: Some(revision) },
            ) => saw(*key, *revision),
            (_, Answer::Found { items, .. }) => {
                for item in items {
                    saw(item.key, item.revision);
                }
            }
            _ => {}
        }
    }
}
