//! A terminal is told once a second how things are.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::tally::Tally;
use super::workers::{Shared, Window};
use crate::cli::output::say;

const INTERVAL: Duration = Duration::from_secs(1);

/// Erases the line when it is dropped, however that comes about.
struct Line;

impl Drop for Line {
    fn drop(&mut self) {
        say("\r\x1b[K");
    }
}

/// Tells how things are, where anybody reads it; never ends.
pub(super) async fn show(
    shared: &Shared,
    tallies: &[Arc<Mutex<Tally>>],
    window: watch::Receiver<Option<Window>>,
) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let _line = Line;
    let mut before = (0, Instant::now());
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = Instant::now();
        let text = match *window.borrow() {
            None => {
                let (filled, keys) = (shared.filled.load(Ordering::Relaxed), shared.plan.keys);
                format!("setting keys: {} of {keys}", filled.min(keys))
            }
            Some(window) if now < window.counts_from => "warming up".to_owned(),
            Some(window) => {
                let counts = tallies.iter().map(|tally| tally.lock().counts());
                let sum = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                let since = now - before.1.max(window.counts_from);
                let rate = (sum.0 - before.0) as f64 / since.as_secs_f64().max(f64::EPSILON);
                before = (sum.0, now);
                let passed = (now - window.counts_from).as_secs();
                let errors = if sum.1 > 0 { format!(", {} errors", sum.1) } else { String::new() };
                format!(
                    "{passed} of {} s, {rate:.0} a second{errors}",
                    shared.plan.duration.as_secs_f64()
                )
            }
        };
        say(&format!("\r\x1b[K{text}"));
    }
}
