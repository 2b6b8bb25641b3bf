//! Gives up the past by itself, as `history` in the configuration says.

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use crate::config::HistoryConfig;
use crate::kv::Write;
use crate::raft::RoleName;
use crate::replica::Origin;
use crate::replica::history::{Keep, RevisionTimes, STEPS};
use crate::server::handle::Handle;
use crate::server::run::event::Asker;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a proposal may wait to be carried out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Proposes compactions while this node leads; for ever.
pub(crate) async fn give_up_the_past(handle: Handle, config: HistoryConfig) {
    if config == HistoryConfig::EVERYTHING {
        return;
    }
    let pause = config.keep.map_or(PAUSE_MAX, |keep| keep / STEPS).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = RevisionTimes::new(Keep { age: config.keep, revisions: config.revisions });
    loop {
        ticks.tick().await;
        let now = handle.clock();
        times.note(now, handle.revision());
        let Some(revision) = times.oldest_wanted(now) else { continue };
        if handle.standing().role != RoleName::Leader || revision <= handle.compacted() {
            continue;
        }
        // What fails is due again at the next tick.
        match handle
            .write_here(
                Write::Compact { revision },
                Origin::default(),
                Asker::Client,
                Instant::now() + PATIENCE,
            )
            .await
        {
            Ok(reply) => tracing::debug!(%revision, outcome = ?reply.outcome, "compaction"),
            Err(error) => tracing::debug!(%revision, ?error, "compaction"),
        }
    }
}
