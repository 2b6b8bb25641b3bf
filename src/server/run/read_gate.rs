//! When reads go on to the core. Each round that confirms a leader costs every node a datagram or two and the CPU to send and
//! take it, whether it is for one read or for a thousand: rounds that follow each other as fast as they can take, on a busy
//! machine, the CPU that would have brought more reads into each. So after reads were handed over, the next ones wait until
//! as many as there are clients could have been served in the meantime. Of a few clients nobody waits.

use std::time::{Duration, Instant};

use super::fine_timer::FineTimer;

/// The pause for each client that has read lately: as if 80,000 reads a second were the most that a node serves, which is
/// about what two cores do. A longer one holds clients up, a shorter one makes more rounds than they are worth.
const A_CLIENT: Duration = Duration::from_nanos(12_500);
/// Shorter ones cost more than they save.
const PAUSE_MIN: Duration = Duration::from_micros(75);
/// Whatever the number of clients.
const PAUSE_MAX: Duration = Duration::from_millis(2);

/// How long reads wait after others were handed over, while so many clients read.
fn pause(clients: usize) -> Duration {
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    let pause = A_CLIENT.saturating_mul(clients).min(PAUSE_MAX);
    if pause < PAUSE_MIN { Duration::ZERO } else { pause }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct ReadGate {
    /// When it opens; none: it is open.
    opens: Option<Instant>,
    timer: FineTimer,
}

impl ReadGate {
    /// An open one. Within the context of the runtime that waits for it.
    pub(super) fn new() -> ReadGate {
        ReadGate { opens: None, timer: FineTimer::new() }
    }

    /// Whether reads may go on.
    pub(super) fn is_open(&mut self, now: Instant) -> bool {
        self.opens.take_if(|at| *at <= now);
        self.opens.is_none()
    }

    /// Reads were handed over, while so many clients read: the next ones wait for a while.
    pub(super) fn passed(&mut self, now: Instant, clients: usize) {
        let pause = pause(clients);
        if !pause.is_zero() {
            self.opens = Some(now + pause);
            self.timer.set(pause);
        }
    }

    /// Waits until it opens; for ever while it is open.
    pub(super) async fn opened(&mut self) {
        match self.opens {
            Some(_) => self.timer.expired().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_clients_read_the_longer_the_pause_within_bounds() {
        let micros = |clients| pause(clients).as_micros();
        assert_eq!([0, 1, 5].map(micros), [0; 3]);
        assert_eq!([6, 16, 64, 128].map(micros), [75, 200, 800, 1600]);
        assert_eq!([160, 1024, usize::MAX].map(micros), [2000; 3]);
    }

    #[tokio::test]
    async fn it_opens_when_the_pause_is_over() {
        let mut gate = ReadGate::new();
        let began = Instant::now();
        gate.passed(began, 1);
        assert!(gate.is_open(began), "nobody waits for one client");
        gate.passed(began, 64);
        assert!(!gate.is_open(began + Duration::from_micros(799)));
        gate.opened().await;
        assert!(began.elapsed() >= Duration::from_micros(800));
        assert!(gate.is_open(Instant::now()));
        let ever = tokio::time::timeout(Duration::from_millis(20), gate.opened()).await;
        assert!(ever.is_err(), "an open one never opens");
    }
}
