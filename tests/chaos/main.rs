//! Chaos on real processes: the built binary on hosts of its own, under the load of `konsen check`, which
//! judges what its clients saw, while a nemesis draws one fault after the other from a seed.
//!
//! `KONSEN_CHAOS_SEED=n` chooses the faults, `KONSEN_CHAOS_SECONDS=n` how long they go on,
//! `KONSEN_CHAOS_NODES=n` how many nodes there are, `KONSEN_CHAOS_FAULTS=words` takes only those with these words in
//! their names. Needs root, `ip` and `iptables`; says so and does nothing
//! where they are missing.
#![allow(clippy::unwrap_used)]
// Modules are shared between binaries by path, so that their items are `pub`.
#![allow(unreachable_pub)]

mod anew;
mod backups;
mod certificates;
mod clock;
mod disk;
mod faults;
#[allow(dead_code)]
#[path = "../cluster/harness.rs"]
mod harness;
mod hosts;
mod load;
mod membership;
mod nemesis;
#[path = "../cluster/netns.rs"]
mod netns;
mod network;
mod operators;
mod process;
mod proxy;

#[test]
fn faults_one_after_the_other_break_no_promise() {
    nemesis::run();
}
