//! A timer that is finer than the runtime's, whose ticks are milliseconds.

use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct FineTimer {
    /// None where the system has no such timer, or no descriptor left for one.
    #[cfg(target_os = "linux")]
    file: Option<tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>>,
    /// When it expires, where there is no better one.
    until: tokio::time::Instant,
}

impl FineTimer {
    /// One that is not set. Within the context of the runtime that waits for it.
    pub(crate) fn new() -> FineTimer {
        FineTimer {
            #[cfg(target_os = "linux")]
            file: linux::open(),
            until: tokio::time::Instant::now(),
        }
    }

    /// Lets it expire after that time, once, whatever it was set to.
    pub(crate) fn set(&mut self, after: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(file) = &self.file
            && linux::set(file, after)
        {
            return;
        }
        #[cfg(target_os = "linux")]
        {
            self.file = None;
        }
        self.until = tokio::time::Instant::now() + after;
    }

    /// Waits until it expires.
    pub(crate) async fn expired(&self) {
        #[cfg(target_os = "linux")]
        if let Some(file) = &self.file {
            // The runtime is told once of each time that it expires.
            if let Ok(mut ready) = file.readable().await {
                ready.clear_ready();
            }
            return;
        }
        tokio::time::sleep_until(self.until).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    use rustix::fd::OwnedFd;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    #[expect(
        deprecated,
        reason = "sound for a descriptor that is owned, and its successor is unsafe to call"
    )]
    pub(super) fn open() -> Option<AsyncFd<OwnedFd>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let file = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        AsyncFd::with_interest(file, tokio::io::Interest::READABLE).ok()
    }

    /// Whether that was possible.
    pub(super) fn set(file: &AsyncFd<OwnedFd>, after: Duration) -> bool {
        let Ok(value) = Timespec::try_from(after) else { return false };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(file.get_ref(), TimerfdTimerFlags::empty(), &once).is_ok()
    }
}
