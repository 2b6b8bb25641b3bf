//! What everybody who asks shares with the task that renews a node's certificate: a way to ask it to, and what it waits for.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::api::{ChangeError, Error};

/// How many may ask at a time.
const ASKED_MAX: usize = 16;

/// Until when the new certificate is good, RFC 3339; or why there is none.
pub(super) type Renewed = Result<String, String>;

/// A question, to be answered once the renewal has come to something.
pub(super) type Ask = oneshot::Sender<Renewed>;

/// The way to the task.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    asks: Mutex<Vec<Ask>>,
    /// Somebody asks.
    asked: Notify,
    waits_for: ArcSwapOption<String>,
    /// Tells whoever reads the files that they are others.
    pub(super) installed: Notify,
}

impl Renewal {
    /// Has the certificate renewed now. Who asks meanwhile hears the same.
    pub(super) async fn now(&self, deadline: Instant) -> Result<String, ChangeError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut asks = self.asks.lock();
            if asks.len() >= ASKED_MAX {
                return Err(Error::Busy.into());
            }
            asks.push(reply);
        }
        self.asked.notify_one();
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(renewed)) => renewed.map_err(ChangeError::Refused),
            Ok(Err(_)) => Err(Error::ShuttingDown.into()),
            Err(_) => Err(Error::Unknown.into()),
        }
    }

    /// Who asks now, once somebody does.
    pub(super) async fn asked(&self) -> Vec<Ask> {
        self.asked.notified().await;
        std::mem::take(&mut *self.asks.lock())
    }

    /// Says what the renewal waits for, as a sentence for the operator; none: for nothing.
    pub(super) fn set_waits_for(&self, what: Option<String>) {
        self.waits_for.store(what.map(Arc::new));
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> Option<Arc<String>> {
        self.waits_for.load_full()
    }
}
