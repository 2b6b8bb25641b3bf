//! The threads and their connections: they set the keys, wait for the beginning, and ask until the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::keys::{Draws, Op};
use super::plan::Plan;
use super::requests::Requests;
use super::schedule::{self, Queue, Schedule};
use super::tally::{self, End, Judged, Lost, Reason, Tally};
use super::target::Target;
use super::wire::{Answer, Wire};
use crate::cli::{CliError, Exit};

/// How many connections of a thread are made at once.
const CONNECTING_MAX: usize = 64;
/// How much longer than the timeout an answer is waited for, so that a node can say itself that the time is over.
const GRACE: Duration = Duration::from_millis(250);
/// The pause of a connection after an operation that did not succeed: who asks again at once only takes the nodes' time.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause before a key is set again, and for how long that is tried.
const FILL_PAUSE: Duration = Duration::from_millis(100);
const FILL_TIME_MAX: Duration = Duration::from_secs(15);

/// When operations are begun, and from when on they count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) began: Instant,
    pub(super) counts_from: Instant,
    pub(super) until: Instant,
}

/// What all threads share.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) targets: Vec<Target>,
    /// The next key to set before the beginning.
    pub(super) filled: AtomicU64,
    /// Ends the run early.
    pub(super) stop: CancellationToken,
}

/// One thread: makes its connections, sets keys with the others, says that it is ready, and asks within the window.
pub(super) fn run_thread(
    shared: &Arc<Shared>,
    number: usize,
    tally: &Arc<Mutex<Tally>>,
    ready: &mpsc::Sender<()>,
    mut window: watch::Receiver<Option<Window>>,
) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| CliError::failed(format!("cannot start a thread: {error}")))?;
    runtime.block_on(async {
        let mut workers = connected(shared, number, tally).await?;
        if shared.plan.fills {
            workers = filled(workers).await?;
        }
        // Nobody waits for it any more where the run is over already.
        let _ = ready.send(()).await;
        let Ok(window) = window.wait_for(Option::is_some).await.map(|window| *window) else {
            return Ok(());
        };
        if let Some(window) = window {
            ask(workers, shared, number, tally, window).await;
        }
        Ok(())
    })
}

async fn connected(
    shared: &Arc<Shared>,
    thread: usize,
    tally: &Arc<Mutex<Tally>>,
) -> Result<Vec<Worker>, CliError> {
    let numbers = (thread..shared.plan.connections).step_by(shared.plan.threads);
    let connecting = numbers.map(|number| Worker::connect(shared.clone(), number, tally.clone()));
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING_MAX);
    let mut workers = Vec::new();
    while let Some(worker) = connecting.next().await {
        workers.push(worker?);
    }
    Ok(workers)
}

/// Sets all keys, together with the other threads.
async fn filled(workers: Vec<Worker>) -> Result<Vec<Worker>, CliError> {
    let mut filling = JoinSet::new();
    for mut worker in workers {
        filling.spawn(async move { worker.fill().await.map(|()| worker) });
    }
    let mut workers = Vec::new();
    while let Some(worker) = filling.join_next().await {
        workers.push(worker.map_err(|error| CliError::failed(error.to_string()))??);
    }
    Ok(workers)
}

async fn ask(
    workers: Vec<Worker>,
    shared: &Arc<Shared>,
    thread: usize,
    tally: &Arc<Mutex<Tally>>,
    window: Window,
) {
    let plan = &shared.plan;
    let mut asking = JoinSet::new();
    let Some(rate) = plan.rate else {
        for worker in workers {
            asking.spawn(worker.ask_again_and_again(window));
        }
        asking.join_all().await;
        return;
    };
    let queue = Arc::new(Queue::new(plan.waiting.div_ceil(plan.threads)));
    for worker in workers {
        asking.spawn(worker.ask_when_due(queue.clone(), window));
    }
    let unsent = |due: Instant| {
        if due >= window.counts_from {
            tally.lock().unsent += 1;
        }
    };
    let schedule = Schedule::new(rate, thread, plan.threads);
    let stopped = shared.stop.cancelled();
    schedule::pace(schedule, &queue, window.began, window.until, stopped, unsent).await;
    asking.join_all().await;
}

/// One connection and what is asked on it.
struct Worker {
    shared: Arc<Shared>,
    target: Target,
    /// None after it broke.
    wire: Option<Wire>,
    requests: Requests,
    draws: Draws,
    /// The thread's.
    tally: Arc<Mutex<Tally>>,
}

impl Worker {
    async fn connect(
        shared: Arc<Shared>,
        number: usize,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<Worker, CliError> {
        let target = shared.targets[number % shared.targets.len()].clone();
        let wire = target.connect().await.map_err(|error| {
            let text = format!("{}: no connection for client {number}: {error}", target.url);
            CliError::new(Exit::Unavailable, text)
                .hint("a node takes `limits.connections` in all, and half as many of one address")
        })?;
        let requests = Requests::new(&shared.plan, &target.fields(), &target.path, number);
        let draws = Draws::new(&shared.plan, number);
        Ok(Worker { shared, target, wire: Some(wire), requests, draws, tally })
    }

    /// Asks once, on a new connection where there is none.
    async fn answer(&mut self, op: Op) -> Result<Answer, Lost> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.target.connect().await.map_err(Lost::Connect)?,
        };
        let asking = wire.ask(self.requests.of(op));
        let answer = match tokio::time::timeout(self.shared.plan.timeout + GRACE, asking).await {
            Ok(answer) => answer.map_err(Lost::Transport)?,
            Err(_) => return Err(Lost::Timeout),
        };
        self.wire = Some(wire).filter(|wire| !wire.ends());
        Ok(answer)
    }

    async fn judged(&mut self, op: Op) -> Judged {
        let answer = self.answer(op).await;
        let judged = tally::judge(op, answer);
        self.tally.lock().note(op, &judged);
        judged
    }

    /// Sets the keys that no other has taken, until there are no more.
    async fn fill(&mut self) -> Result<(), CliError> {
        loop {
            let key = self.shared.filled.fetch_add(1, Ordering::Relaxed);
            if key >= self.shared.plan.keys || self.shared.stop.is_cancelled() {
                return Ok(());
            }
            let began = Instant::now();
            loop {
                let judged = self.judged(Op::Put(key)).await;
                if judged.end == End::Done {
                    break;
                }
                if !judged.reason.is_some_and(Reason::may_pass) || began.elapsed() > FILL_TIME_MAX {
                    return Err(unfilled(&self.target.url, &judged));
                }
                tokio::time::sleep(FILL_PAUSE).await;
            }
        }
    }

    /// The closed loop.
    async fn ask_again_and_again(mut self, window: Window) {
        loop {
            let now = Instant::now();
            if now >= window.until || self.shared.stop.is_cancelled() {
                return;
            }
            self.measure(now, window).await;
        }
    }

    /// The open loop.
    async fn ask_when_due(mut self, queue: Arc<Queue>, window: Window) {
        while let Some(due) = queue.next().await {
            self.measure(due, window).await;
        }
    }

    async fn measure(&mut self, due: Instant, window: Window) {
        let op = self.draws.next();
        let judged = self.judged(op).await;
        let is_bad = judged.reason.is_some();
        if due >= window.counts_from {
            let now = Instant::now();
            self.tally.lock().count(op, judged, now, now.saturating_duration_since(due));
        }
        if is_bad {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn unfilled(url: &str, judged: &Judged) -> CliError {
    let exit = match judged.reason {
        Some(Reason::Status(401 | 403 | 421)) => Exit::NotAllowed,
        Some(Reason::Status(429 | 503)) | Some(Reason::Connect) => Exit::Unavailable,
        _ if judged.end == End::Unknown => Exit::OutcomeUnknown,
        _ => Exit::Failed,
    };
    CliError::new(exit, format!("{url}: a key could not be set before the run: {}", judged.text))
}
