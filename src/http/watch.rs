//! One connection's clock: what it waits for, since when, and whether that is long enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::api::Limits;

/// How much longer than it says a connection stays open, so that a client that keeps to what it was told never sends into
/// a connection that is closing.
const IDLE_GRACE: Duration = Duration::from_secs(2);
/// How long a client that has shut down its sending side is taken to wait for the answer. A client that has gone looks
/// the same.
pub const HALF_CLOSED_MAX: Duration = Duration::from_secs(2);

/// A point in time that is there or not: milliseconds after the connection began, plus one.
#[derive(Debug, Default)]
struct Since(AtomicU64);

impl Since {
    fn begin(&self, now: u64) {
        // Whoever began it first counts.
        let _ = self.0.compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn set(&self, now: u64) {
        self.0.store(now + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// How long it has been.
    fn elapsed(&self, now: u64) -> Option<Duration> {
        let since = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(now.saturating_sub(since)))
    }
}

/// An answer that a client takes.
pub(super) trait Taken: std::fmt::Debug + Send + Sync {
    /// Whether nobody asks for more of it.
    fn is_over(&self) -> bool;

    /// Whether the client took nothing for so long, or longer than that less than `rate_min` bytes a second on average. If
    /// so, all that is left of the answer is dropped.
    fn stalls(&self, stall_max: Duration, rate_min: u64) -> bool;
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    /// The first byte of a head that is not whole.
    head: Since,
    /// The first write that the client had no room for.
    write: Since,
    /// The client sends no more.
    half_closed: Since,
    /// The last time that a request ended, or the connection began.
    quiet: Since,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    is_http2: AtomicBool,
    aborted: AtomicBool,
    answers: Mutex<Vec<Arc<dyn Taken>>>,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is of no use any more, and nothing is under way: gently.
    Idle,
    /// What is under way is not worth waiting for.
    Now(&'static str),
    /// What was answered is not whole, which nobody may take it for.
    Reset(&'static str),
}

impl Clock {
    pub(super) fn new() -> Arc<Clock> {
        let clock = Clock {
            began: Instant::now(),
            head: Since::default(),
            write: Since::default(),
            half_closed: Since::default(),
            quiet: Since::default(),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            answers: Mutex::default(),
        };
        clock.quiet.set(0);
        Arc::new(clock)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// A head has begun to arrive.
    pub(super) fn head_begins(&self) {
        self.head.begin(self.now());
    }

    /// It is whole, or refused.
    pub(super) fn head_ends(&self) {
        self.head.end();
    }

    /// The client has no room for what is written.
    pub(super) fn write_waits(&self) {
        self.write.begin(self.now());
    }

    /// It took something.
    pub(super) fn write_goes_on(&self) {
        self.write.end();
    }

    /// It is HTTP/2.
    pub(super) fn set_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    /// An answer broke off.
    fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }

    /// Whether one did.
    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    /// The same, where the end of a stream is told by the end of the connection: over HTTP/2 each has its own.
    pub(super) fn abort_http1(&self) {
        if !self.is_http2.load(Ordering::Relaxed) {
            self.abort();
        }
    }

    /// Whether there was a request.
    pub(super) fn was_used(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Whether requests are under way that end with their answer only, for all that HTTP can tell.
    pub(super) fn is_http1_at_work(&self) -> bool {
        !self.is_http2.load(Ordering::Relaxed) && self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether the client sends any more.
    pub(super) fn note_half_closed(&self, closed: bool) {
        match closed {
            true => self.half_closed.begin(self.now()),
            false => self.half_closed.end(),
        }
    }

    /// A request begins; it ends when what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// An answer begins to be given.
    pub(super) fn answer(&self, answer: Arc<dyn Taken>) {
        let mut answers = self.answers.lock();
        // No more than twice as many as are under way.
        if answers.len() == answers.capacity() {
            answers.retain(|answer| !answer.is_over());
        }
        answers.push(answer);
    }

    /// What the connection has come to, looked at now and then.
    pub(super) fn look(&self, limits: &Limits) -> Option<End> {
        if self.is_aborted() {
            return Some(End::Reset("an answer broke off"));
        }
        let now = self.now();
        let longer = |since: &Since, most: Duration| since.elapsed(now).is_some_and(|it| it > most);
        // The next head may have begun while the answer before it is waited for.
        if self.head.is_set() && self.in_flight.load(Ordering::Relaxed) > 0 {
            self.head.set(now);
        }
        if longer(&self.head, limits.head_time_max) {
            return Some(End::Now("a head did not arrive in time"));
        }
        if longer(&self.write, limits.stall_max) {
            return Some(End::Reset("the client took nothing for too long"));
        }
        let is_http2 = self.is_http2.load(Ordering::Relaxed);
        let mut answers = self.answers.lock();
        answers.retain(|answer| !answer.is_over());
        for answer in &*answers {
            // Over HTTP/2 the others go on; what the library holds of this one goes with the connection.
            let most = if is_http2 { 2 * limits.stall_max } else { limits.stall_max };
            if answer.stalls(limits.stall_max, limits.rate_min)
                && (!is_http2 || answer.stalls(most, 0))
            {
                return Some(End::Reset("the client took an answer too slowly"));
            }
        }
        drop(answers);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            let gone = longer(&self.half_closed, HALF_CLOSED_MAX);
            return gone.then_some(End::Now("the client has gone"));
        }
        let quiet =
            if self.was_used() { limits.idle_time + IDLE_GRACE } else { limits.head_time_max };
        longer(&self.quiet, quiet).then_some(if self.was_used() {
            End::Idle
        } else {
            End::Now("it brought no request in time")
        })
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Clock>);

impl InFlight {
    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.quiet.set(self.0.now());
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let second = Duration::from_secs(1);
        Limits {
            value_bytes_max: 0,
            connections_max: 0,
            connections_per_address_max: 0,
            requests_max: 0,
            user_rate_max: None,
            body_bytes_max: 0,
            answer_bytes_max: 0,
            waiters_max: 0,
            delete_keys_max: 0,
            txn_operations_max: 0,
            list_rows_max: 0,
            reads_max: 0,
            read_threads: 0,
            backups_max: 0,
            backup_growth_max: 0,
            idle_time: 7 * second,
            head_time_max: 5 * second,
            body_time_max: second,
            stall_max: 6 * second,
            rate_min: 0,
            backup_rate_min: 0,
            hosts: None,
        }
    }

    /// A connection that began so long ago.
    fn clock(seconds: u64) -> Arc<Clock> {
        let mut clock = Arc::into_inner(Clock::new()).unwrap();
        clock.began -= Duration::from_secs(seconds);
        Arc::new(clock)
    }

    #[test]
    fn a_connection_without_requests_ends() {
        assert_eq!(clock(4).look(&limits()), None);
        assert!(matches!(clock(6).look(&limits()), Some(End::Now(_))));
        for (seconds, end) in [(8, None), (10, Some(End::Idle))] {
            let clock = clock(seconds);
            clock.request();
            // As if it had ended long ago.
            clock.quiet.set(0);
            assert_eq!(clock.look(&limits()), end, "{seconds}");
            let under_way = clock.request();
            assert_eq!(clock.look(&limits()), None, "{seconds}");
            drop(under_way);
        }
    }

    #[test]
    fn heads_that_do_not_end_count_while_nothing_is_under_way() {
        let clock = clock(6);
        clock.head.set(0);
        let under_way = clock.request();
        assert_eq!(clock.look(&limits()), None);
        drop(under_way);
        assert_eq!(clock.look(&limits()), None, "its time begins with the end of the one before");
        clock.head.set(0);
        assert!(matches!(clock.look(&limits()), Some(End::Now(_))));
        clock.head_ends();
        assert_eq!(clock.look(&limits()), None);
    }

    #[test]
    fn a_client_that_takes_nothing_or_has_gone_ends_its_connection() {
        let clock = clock(7);
        clock.quiet.set(6_500);
        clock.request();
        clock.write.set(0);
        assert!(matches!(clock.look(&limits()), Some(End::Reset(_))));
        clock.write_goes_on();
        assert_eq!(clock.look(&limits()), None);
        let _under_way = clock.request();
        clock.half_closed.set(0);
        assert!(clock.is_http1_at_work());
        assert!(matches!(clock.look(&limits()), Some(End::Now(_))));
        clock.note_half_closed(false);
        assert_eq!(clock.look(&limits()), None);
        clock.set_http2();
        clock.abort_http1();
        assert_eq!(clock.look(&limits()), None, "a stream of HTTP/2 has an end of its own");
        clock.abort();
        assert!(matches!(clock.look(&limits()), Some(End::Reset(_))));
    }
}
