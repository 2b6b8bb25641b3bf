//! Room for the writes that a node has under way, as the leader or on their way to it: each takes as many bytes as it costs
//! until it is answered, and waits its turn for them. So a leader's queue is as long as its disks need, clients come in the order in which they asked, and
//! nobody has to try again in a loop to be served.
//!
//! The log is one queue, and a small write in it waits for the large ones before it. So large writes have a lane of their own,
//! as narrow as keeps disks busy: behind it they wait for one another, and small ones for nobody but themselves.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

/// How long a write waits for room before it is refused.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// What an entry takes besides its keys and values, rounded up.
const ENTRY_BYTES: usize = 128;
/// A write of more bytes is a large one.
const SMALL_BYTES_MAX: usize = 32 << 10;
/// Which part of all room large writes may have at a time.
const LARGE_PART: usize = 4;

/// Both rooms of a node, of one size.
#[derive(Debug)]
pub(crate) struct WriteRooms {
    /// For writes that it leads.
    pub(crate) here: WriteRoom,
    /// For writes that it passes on.
    pub(crate) passed_on: WriteRoom,
}

impl WriteRooms {
    /// Rooms for so many bytes each.
    pub(crate) fn new(bytes_max: usize) -> WriteRooms {
        WriteRooms { here: WriteRoom::new(bytes_max), passed_on: WriteRoom::new(bytes_max) }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WriteRoom {
    all: Lane,
    large: Lane,
}

/// The room that a write has until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    _all: SemaphorePermit<'a>,
    _large: Option<SemaphorePermit<'a>>,
}

#[derive(Debug)]
struct Lane {
    bytes: Semaphore,
    bytes_max: usize,
}

impl Lane {
    fn new(bytes_max: usize) -> Lane {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Lane { bytes: Semaphore::new(bytes_max), bytes_max }
    }

    /// One that is larger than all the room there is takes all of it.
    async fn wait(&self, bytes: usize, until: Instant) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        timeout_at(until.into(), self.bytes.acquire_many(bytes)).await.ok()?.ok()
    }
}

impl WriteRoom {
    /// Room for so many bytes.
    pub(crate) fn new(bytes_max: usize) -> WriteRoom {
        WriteRoom { all: Lane::new(bytes_max), large: Lane::new(bytes_max / LARGE_PART) }
    }

    /// Waits for room for a write of so many bytes; none if there is none for half a second, or until the deadline.
    pub(crate) async fn wait(&self, bytes: usize, deadline: Instant) -> Option<Taken<'_>> {
        let until = deadline.min(Instant::now() + WAIT_MAX);
        let large = match bytes > SMALL_BYTES_MAX {
            true => Some(self.large.wait(bytes, until).await?),
            false => None,
        };
        let all = self.all.wait(bytes.saturating_add(ENTRY_BYTES), until).await?;
        Some(Taken { _all: all, _large: large })
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

    #[tokio::test]
    async fn small_writes_do_not_wait_behind_large_ones() {
        const MIB: usize = 1 << 20;
        let room = WriteRoom::new(8 * MIB);
        let first = room.wait(MIB, soon()).await;
        let second = room.wait(MIB, soon()).await;
        assert!(first.is_some() && second.is_some());
        let third = room.wait(MIB, soon());
        tokio::pin!(third);
        let small = tokio::select! {
            biased;
            _ = &mut third => panic!("there is a quarter for large ones"),
            small = room.wait(SMALL_BYTES_MAX, soon()) => small,
        };
        assert!(small.is_some());
        drop(first);
        assert!(third.await.is_some());
        // A value as large as all room goes alone among large ones.
        drop(second);
        let huge = room.wait(4 * MIB, soon()).await;
        assert!(huge.is_some() && room.wait(MIB, soon()).await.is_none());
    }
}
