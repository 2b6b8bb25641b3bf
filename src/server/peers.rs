//! Keeps the network's list of peers in step with the membership.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::net::{Net, Peer};
use crate::raft::Membership;

/// Who the peers are: those of the configuration until there is a membership, which rules from then on.
pub(super) fn of(config: &Config, membership: Option<&Membership>) -> BTreeMap<String, Peer> {
    let configured = |name: &str| config.servers.get(name).map(ToString::to_string);
    let mut peers = BTreeMap::new();
    match membership {
        None => {
            for (name, address) in &config.servers {
                let addresses = vec![address.to_string()];
                let peer = Peer { addresses, expected: None, replaces: None };
                peers.insert(name.to_string(), peer);
            }
        }
        Some(membership) => {
            for (&id, member) in &membership.members {
                let mut addresses = vec![member.raft_address.clone()];
                // The way to the others if the whole cluster has moved.
                addresses
                    .extend(configured(&member.name).filter(|one| *one != member.raft_address));
                let expected = member.seen.then_some(id);
                let peer = Peer { addresses, expected, replaces: member.replaces };
                peers.insert(member.name.clone(), peer);
            }
        }
    }
    peers.remove(config.name.as_str());
    peers
}

/// Tells the network who its peers are.
pub(super) fn tell_net(net: &Net, config: &Config, membership: Option<&Membership>) {
    net.set_peers(of(config, membership));
    net.set_born(membership.map(|membership| membership.cluster));
}

/// Follows the membership until the node stops.
pub(super) async fn follow_membership(
    net: Net,
    config: Arc<Config>,
    mut membership: watch::Receiver<Option<Membership>>,
) {
    let mut said = Vec::new();
    loop {
        let now = membership.borrow_and_update().clone();
        tell_net(&net, &config, now.as_ref());
        let differences = now.as_ref().map(|now| differences(&config, now)).unwrap_or_default();
        for difference in differences.iter().filter(|one| !said.contains(*one)) {
            tracing::warn!("{}: {difference}", config.file.display());
        }
        said = differences;
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
