//! All faults that there are.

use crate::nemesis::{Chaos, Skipped};
use crate::{
    anew, backups, certificates, clock, disk, membership, network, operators, process, proxy,
};

/// A kind of fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// How many nodes it takes out at once, those aside that it takes out for a moment only.
    pub(crate) harms: usize,
    /// Does it, holds it for a while, and takes it back.
    pub(crate) run: fn(&mut Chaos) -> Result<(), Skipped>,
}

const fn fault(
    name: &'static str,
    harms: usize,
    run: fn(&mut Chaos) -> Result<(), Skipped>,
) -> Fault {
    Fault { name, harms, run }
}

pub(crate) const FAULTS: &[Fault] = &[
    fault("kill -9: a node", 1, process::kill_one),
    fault("kill -9: the leader", 1, process::kill_leader),
    fault("kill -9: all nodes at once", 0, process::kill_all),
    fault("kill -9: a node that starts, again and again", 1, process::storm),
    fault("kill -9: a node that gives a backup", 1, backups::kill_giver),
    fault("SIGTERM and a restart: a node", 1, process::stop_one),
    fault("SIGTERM and a restart: all nodes, one after the other", 1, process::stop_in_turn),
    fault("pause longer than an election: a node", 1, process::pause_one),
    fault("pause longer than an election: the leader", 1, process::pause_leader),
    fault("partition: a node hears nobody and is heard by nobody", 1, network::isolate),
    fault("partition: the leader hears nobody", 1, network::deaf_leader),
    fault("partition: a node hears nobody", 1, network::deaf),
    fault("partition: nobody hears the leader", 1, network::mute_leader),
    fault("partition: nobody hears a node", 1, network::mute),
    fault("partition: the leader and a minority here, the rest there", 1, network::split),
    fault("partition: the leader reaches one node only", 1, network::bridge),
    fault("partition: a chain", 1, network::chain),
    fault("a node unplugged, for its clients too", 1, network::unplug),
    fault("a node unplugged, again and again", 1, network::flap),
    fault("packets lost by chance, everywhere", 0, network::loss),
    fault("large packets lost (an MTU hole)", 1, network::hole),
    fault("a slow network at a node", 1, network::slow),
    fault("proxy: packets delayed, reordered, doubled, damaged", 1, proxy::disturb),
    fault("a full disk", 1, disk::full),
    fault("a wiped data directory under the old name", 1, disk::wiped),
    fault("two data directories swapped", 2, disk::swapped),
    fault("a data directory of a cluster that was given up", 1, anew::come_back),
    fault("leadership handed over", 0, membership::transfer),
    fault("a node lost and replaced by an empty one", 1, membership::replace),
    fault("a node put out and taken in again", 1, membership::remove_and_add),
    fault("a node replaced that answers, and returns late", 1, operators::replace_live),
    fault("a node away while another is replaced, which leads", 2, operators::away),
    fault("a change of the voters that cannot be completed, undone", 1, operators::undo),
    fault("all certificates renewed", 0, certificates::renew),
    fault("a node with another's certificate", 1, certificates::swap),
    fault("the wall clock jumps", 1, clock::jump),
];
