//! The open loop: requests are due at fixed times, whatever became of those before them.
//!
//! What is due waits in a queue with a bound until a connection is free, and its latency is counted from when it was
//! due. So a server that stops for a while is seen as every client would see it, and not only by those few requests
//! that were under way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::server::FineTimer;

/// When the requests of one thread are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Requests a second over all threads.
    rate: u32,
    /// The threads take turns.
    thread: u64,
    threads: u64,
}

impl Schedule {
    /// That of the thread of that number.
    pub(super) fn new(rate: u32, thread: usize, threads: usize) -> Schedule {
        Schedule { rate, thread: thread as u64, threads: threads as u64 }
    }

    /// How long after the beginning the thread's request of that number is due, from 0 on.
    pub(super) fn due(&self, number: u64) -> Duration {
        let number = u128::from(number) * u128::from(self.threads) + u128::from(self.thread);
        let nanos = number * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The requests of a thread that are due.
#[derive(Debug)]
pub(super) struct Queue {
    due: Mutex<VecDeque<Instant>>,
    /// One permit a request.
    ready: Semaphore,
    most: usize,
}

impl Queue {
    /// One for so many requests at most.
    pub(super) fn new(most: usize) -> Queue {
        Queue { due: Mutex::default(), ready: Semaphore::new(0), most }
    }

    /// Whether there was room.
    fn push(&self, due: Instant) -> bool {
        let mut queue = self.due.lock();
        if queue.len() >= self.most {
            return false;
        }
        queue.push_back(due);
        drop(queue);
        self.ready.add_permits(1);
        true
    }

    /// Waits for a request that is due: when that was. None once the run is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.ready.acquire().await.ok()?.forget();
        self.due.lock().pop_front()
    }

    /// No request is begun any more. The times of those that waited.
    fn close(&self) -> VecDeque<Instant> {
        self.ready.close();
        std::mem::take(&mut *self.due.lock())
    }
}

/// Queues the requests as they become due, until `until` or `stopped` ends. `unsent` is told of each that found no
/// room, or waited at the end, when it was due.
pub(super) async fn pace(
    schedule: Schedule,
    queue: &Queue,
    began: Instant,
    until: Instant,
    stopped: impl Future<Output = ()>,
    mut unsent: impl FnMut(Instant),
) {
    let mut timer = FineTimer::new();
    let mut number = 0;
    tokio::pin!(stopped);
    loop {
        let due = began + schedule.due(number);
        if due >= until {
            break;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            if !queue.push(due) {
                unsent(due);
            }
            number += 1;
            // The connections get their turn, however late this is.
            if number % 64 == 0 {
                tokio::task::yield_now().await;
            }
            continue;
        }
        timer.set(left);
        tokio::select! {
            () = timer.expired() => {}
            () = &mut stopped => break,
        }
    }
    // Those that are due last have until the end.
    let left = until.saturating_duration_since(Instant::now());
    tokio::select! {
        () = tokio::time::sleep(left) => {}
        () = &mut stopped => {}
    }
    queue.close().into_iter().for_each(unsent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_fixed_times_whatever_the_threads() {
        let one = Schedule::new(1000, 0, 1);
        assert_eq!([0, 1, 5000].map(|n| one.due(n).as_micros()), [0, 1000, 5_000_000]);
        let mut shared: Vec<Duration> = (0..3)
            .flat_map(|thread| (0..100).map(move |n| Schedule::new(7, thread, 3).due(n)))
            .collect();
        shared.sort_unstable();
        let alone: Vec<Duration> = (0..300).map(|n| Schedule::new(7, 0, 1).due(n)).collect();
        assert_eq!(shared, alone);
        // A whole day at a high rate is exact.
        let day = Schedule::new(3_000_000, 0, 1).due(3_000_000 * 86_400);
        assert_eq!(day, Duration::from_secs(86_400));
    }

    #[tokio::test]
    async fn what_finds_no_room_or_waits_at_the_end_is_unsent() {
        let (queue, began) = (Queue::new(3), Instant::now());
        let mut unsent = Vec::new();
        let until = began + Duration::from_millis(100);
        let schedule = Schedule::new(100, 0, 1);
        pace(schedule, &queue, began, until, std::future::pending(), |due| unsent.push(due)).await;
        // Ten were due; three waited, which are told of last.
        assert_eq!(unsent.len(), 10);
        assert_eq!(unsent[9] - began, Duration::from_millis(20));
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test]
    async fn who_is_late_hears_when_it_was_due() {
        let (queue, began) = (Queue::new(100), Instant::now());
        let until = began + Duration::from_millis(200);
        let (mut unsent, mut taken) = (0, Vec::new());
        let schedule = Schedule::new(100, 0, 1);
        let pacing = pace(schedule, &queue, began, until, std::future::pending(), |_| unsent += 1);
        let slow = async {
            while let Some(due) = queue.next().await {
                taken.push(due - began);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        };
        tokio::join!(pacing, slow);
        assert!(taken.len() >= 2 && taken.len() + unsent == 20, "{taken:?} {unsent}");
        let expected: Vec<Duration> = (0..taken.len() as u64).map(|n| schedule.due(n)).collect();
        assert_eq!(taken, expected);
    }
}
