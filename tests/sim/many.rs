//! Many seeds, on all cores, and what they came to together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cut::{Cut, cut_down};
use super::oracle::Broken;
use super::plan::Time;

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    /// For each thing that happened: in how many seeds, and how often.
    tally: BTreeMap<&'static str, (u64, u64)>,
    /// Virtual milliseconds.
    lasted: Time,
    slowest_recovery: Time,
    /// What the seeds took of the cores, if nobody else was on them.
    busy: Duration,
    failed: Vec<u64>,
}

/// Runs the seeds, until all are done or none is to begin any more, and prints what they came to.
///
/// # Panics
/// If one of them fails.
pub(crate) fn run(seeds: Range<u64>, time: Option<Duration>) {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                super::plant();
                while time.is_none_or(|time| began.elapsed() < time) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    one(seed, &sum);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no thread panics with it");
    print(&sum);
    assert!(sum.failed.is_empty(), "seeds that fail: {:?}; what they broke is above", sum.failed);
}

fn one(seed: u64, sum: &Mutex<Sum>) {
    let began = Instant::now();
    let result = super::run(seed, &Cut::default(), false);
    let took = began.elapsed();
    let mut sum = sum.lock().expect("no thread panics with it");
    sum.seeds += 1;
    sum.busy += took;
    match result {
        Ok(report) => {
            for (what, times) in report.tally {
                let (seeds, all) = sum.tally.entry(what).or_default();
                *seeds += 1;
                *all += times;
            }
            sum.lasted += report.lasted;
            sum.slowest_recovery = sum.slowest_recovery.max(report.recovered);
        }
        Err(Broken(what)) => {
            eprintln!("seed {seed}: {what}\n  {}", super::replay(seed, &Cut::default()));
            sum.failed.push(seed);
            if sum.failed.len() == 1 {
                drop(sum);
                let (cut, Broken(what)) = cut_down(seed, Broken(what));
                eprintln!("  cut down: {what}\n  {}", super::replay(seed, &cut));
            }
        }
    }
}

fn print(sum: &Sum) {
    println!("{:<45}{:>10}{:>10}{:>14}", "", "seeds", "share", "times");
    for (what, (seeds, times)) in &sum.tally {
        let share = 100.0 * *seeds as f64 / sum.seeds as f64;
        println!("{what:<45}{seeds:>10}{share:>8.2} %{times:>14}");
    }
    let seconds = sum.lasted as f64 / 1000.0;
    println!(
        "{} seeds, {seconds:.0} simulated seconds in {:.1} s of one core ({:.0} a second), \
         slowest recovery {} ms",
        sum.seeds,
        sum.busy.as_secs_f64(),
        seconds / sum.busy.as_secs_f64(),
        sum.slowest_recovery
    );
}
