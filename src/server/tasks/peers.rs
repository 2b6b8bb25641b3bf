//! Keeps what the network knows of who belongs in step with the log.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::cluster::Memberships;
use crate::config::Config;
use crate::net::Net;
use crate::raft::Membership;

/// Follows the memberships of the log until the node stops.
pub(crate) async fn follow_memberships(
    net: Net,
    config: Arc<Config>,
    mut memberships: watch::Receiver<Memberships>,
) {
    let mut said = Vec::new();
    loop {
        let now_known = memberships.borrow_and_update().clone();
        let now = now_known.0.as_ref().map(|(_, membership)| membership);
        let differences = now.map(|now| differences(&config, now)).unwrap_or_default();
        net.change_roster(|roster| roster.follow(now_known));
        for difference in differences.iter().filter(|one| !said.contains(*one)) {
            tracing::warn!("{}: {difference}", config.file.display());
        }
        said = differences;
        if memberships.changed().await.is_err() {
            return;
        }
    }
}

/// Notes since when a change of the voters has been under way.
pub(crate) async fn note_joint(
    mut membership: watch::Receiver<Option<Membership>>,
    since: watch::Sender<Option<Instant>>,
) {
    loop {
        let joint = {
            let now = membership.borrow_and_update();
            now.as_ref().is_some_and(|now| now.outgoing.is_some())
        };
        since.send_if_modified(|since| {
            let changed = since.is_some() != joint;
            if changed {
                *since = joint.then(Instant::now);
            }
            changed
        });
        if membership.changed().await.is_err() {
            return;
        }
    }
}

/// Where the file says otherwise than the membership, which rules.
fn differences(config: &Config, membership: &Membership) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, address) in &config.servers {
        match membership.by_name(name.as_str()) {
            None => differences.push(format!(
                "servers lists {name}, which is no member; the cluster's own list of members rules: \
                 remove it here, or add it with `konsen member add`"
            )),
            Some((_, member)) if member.raft_address != address.to_string() => {
                differences.push(format!(
                    "servers gives {address} for {name}, the cluster knows it at {}; what {name} itself \
                     says rules",
                    member.raft_address
                ));
            }
            Some(_) => {}
        }
    }
    for member in membership.members.values() {
        if !config.servers.contains_key(member.name.as_str()) {
            differences.push(format!(
                "servers does not list the member {} at {}; it takes part all the same",
                member.name, member.raft_address
            ));
        }
    }
    differences
}
