//! The clients of a run: whom they ask, and how fast.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::draws::Draws;
use super::recorder::{Came, RUN_CALLS_MAX, Recorder};

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
    draws: Draws,
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
            draws: Draws::new(seed, at, clients, recorder.names.count()),
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
            let ask = self.draws.ask();
            let endpoints = self.recorder.endpoints.len();
            let roams = self.draws.below(endpoints);
            let endpoint = self.home.unwrap_or(u32::try_from(roams).unwrap_or_default());
            match self.recorder.ask(self.number, endpoint, ask.clone()).await {
                Came::Answer(answer) => {
                    pause = PAUSE_MIN;
                    self.draws.learn(&ask, &answer);
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
}
