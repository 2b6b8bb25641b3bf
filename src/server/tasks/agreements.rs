//! What a leader has its cluster agree on, once all members can follow it: the feature level, and the settings that they
//! share.

use std::time::Duration;

use super::{access, features, settings};
use crate::kv::FeatureLevel;
use crate::raft::RoleName;
use crate::server::handle::Handle;

/// How often a leader looks when neither who leads nor who belongs has changed: a member that comes back with a newer
/// release, or another configuration, changes neither.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looks while this node leads, until it stops; the feature level is raised no higher than `hold` says.
pub(crate) async fn run(handle: Handle, hold: Option<FeatureLevel>) {
    let mut standing = handle.watch_standing();
    let mut membership = handle.watch_membership();
    #[cfg(feature = "next-level")]
    let mut proved = false;
    loop {
        if standing.borrow_and_update().role == RoleName::Leader {
            membership.borrow_and_update();
            features::raise(&handle, hold).await;
            settings::agree(&handle).await;
            access::turn_on(&handle).await;
            #[cfg(feature = "next-level")]
            features::prove(&handle, &mut proved).await;
        } else if standing.wait_for(|now| now.role == RoleName::Leader).await.is_err() {
            return;
        } else {
            continue;
        }
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            changed = membership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
