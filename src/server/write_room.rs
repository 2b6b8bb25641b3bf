//! Room for the writes that a leader has under way: each takes as many bytes as it costs until it is answered, and waits its
//! turn for them. So a leader's queue is as long as its disks need, clients come in the order in which they asked, and
//! nobody has to try again in a loop to be served.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

/// How long a write waits for room before it is refused.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// What an entry takes besides its keys and values, rounded up.
const ENTRY_BYTES: usize = 128;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct WriteRoom {
    bytes: Semaphore,
    bytes_max: usize,
}

impl WriteRoom {
    /// Room for so many bytes.
    pub(super) fn new(bytes_max: usize) -> WriteRoom {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        WriteRoom { bytes: Semaphore::new(bytes_max), bytes_max }
    }

    /// Waits for room for a write of so many bytes, which it has until the guard is dropped; none if there is none for
    /// half a second, or until the deadline. One that is larger than all the room there is takes all of it.
    pub(super) async fn wait(
        &self,
        bytes: usize,
        deadline: Instant,
    ) -> Option<SemaphorePermit<'_>> {
        let bytes = bytes.saturating_add(ENTRY_BYTES).min(self.bytes_max);
        let until = deadline.min(Instant::now() + WAIT_MAX);
        let permits = self.bytes.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
        timeout_at(until.into(), permits).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn writes_wait_for_room_in_the_order_in_which_they_came_and_not_for_long() {
        let room = WriteRoom::new(10_000);
        let first = room.wait(8_000, soon()).await.unwrap();
        let second = room.wait(5_000, soon());
        let third = room.wait(100, soon());
        tokio::pin!(second, third);
        // The third is small enough, and comes after the second all the same.
        let early = tokio::time::timeout(Duration::from_millis(100), async {
            tokio::select! {
                biased;
                _ = &mut second => {}
                _ = &mut third => {}
            }
        });
        assert!(early.await.is_err());
        drop(first);
        let second = second.await;
        assert!(second.is_some() && third.await.is_some());
        assert!(room.wait(9_000, soon()).await.is_none(), "half a second is over");
        drop(second);
        // One that is larger than all of it takes all of it.
        let all = room.wait(1 << 30, soon()).await;
        assert!(all.is_some() && room.wait(1, soon()).await.is_none());
    }
}
