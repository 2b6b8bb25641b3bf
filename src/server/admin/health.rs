//! Whether a node can do its work, and whether it can serve.

use std::time::Instant;

use tokio::time::timeout;

use super::life::Stillness;
use crate::api::{Consistency, Error};
use crate::server::handle::{Handle, INSPECT_TIMEOUT};
use crate::server::run::mailbox::NotTaken;

impl Handle {
    /// Whether this node can serve linearizable requests now; if not, why.
    pub async fn ready(&self) -> Result<(), String> {
        Stillness::of(&self.shared.life).judge()?;
        let deadline = Instant::now() + INSPECT_TIMEOUT;
        let barrier = self.read_barrier(Consistency::Linearizable, None, deadline);
        barrier.await.map_err(|error| match self.outgrown() {
            Some(why) => format!("{error}; {why}"),
            None => error.to_string(),
        })
    }

    /// Whether the process can do its work; if not, why. Its workers must get further, each within its own bound,
    /// also while the node replays its log.
    pub async fn healthy(&self) -> Result<(), String> {
        let asked = self.ask_how();
        if let Err(NotTaken::Closed) = asked {
            return Err(Error::ShuttingDown.to_string());
        }
        let answers = match asked {
            Ok(answer) => timeout(INSPECT_TIMEOUT, answer).await.is_ok_and(|answer| answer.is_ok()),
            // So many ask that one more learns nothing else: whether the thread turns, its signs of life say.
            Err(_) => true,
        };
        let stillness = Stillness::of(&self.shared.life);
        if !answers && !stillness.carries_out() {
            return Err("the replica thread does not answer".to_owned());
        }
        stillness.judge()
    }
}
