//! Room for answers on their way to peers: what they hold is bounded, however slowly peers take it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::Error;

/// The memory set aside for answers on their way to peers.
#[derive(Debug)]
pub(crate) struct AnswerRoom {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// An answer, and its share of the memory, which is free again when the last of its bytes is gone.
struct Held {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerRoom {
    /// So many bytes at a time; one alone may be larger.
    pub(crate) fn new(bytes_max: usize) -> AnswerRoom {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        AnswerRoom { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// The same bytes, which count until they are dropped; [`Error::Busy`] if there is no room for them.
    pub(crate) fn hold(&self, bytes: Bytes) -> Result<Bytes, Error> {
        let share = u32::try_from(bytes.len().min(self.bytes_max)).unwrap_or(u32::MAX);
        let share = self.bytes.clone().try_acquire_many_owned(share).map_err(|_| Error::Busy)?;
        Ok(Bytes::from_owner(Held { bytes, _share: share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_peers_share_a_budget_until_they_are_gone() {
        let answers = AnswerRoom::new(100);
        let first = answers.hold(Bytes::from(vec![1; 60])).unwrap();
        assert_eq!(answers.hold(Bytes::from(vec![2; 60])), Err(Error::Busy));
        let part = first.slice(1..2);
        drop(first);
        assert_eq!(answers.hold(Bytes::from(vec![2; 60])), Err(Error::Busy));
        drop(part);
        assert_eq!(answers.hold(Bytes::from(vec![2; 600])).map(|held| held.len()), Ok(600));
    }
}
