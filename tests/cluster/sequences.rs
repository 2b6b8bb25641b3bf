//! Random sequences of what operators do, on real processes: a cluster of which a majority is up serves all the
//! time, nothing that was acknowledged is lost, and afterwards everybody who belongs to it is ready.
//!
//! `KONSEN_SEQUENCES=100` asks for so many, `KONSEN_SEQUENCES_SEED=n` chooses the first; the next ones have the
//! next numbers. A sequence that failed is repeated by its seed, as far as the machine does the same again.

mod drawn;
mod judge;
mod settle;
mod world;

use world::World;

/// How many there are unless asked otherwise.
const FEW: u64 = 3;
/// What an operator does in one.
const STEPS: usize = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_commands_loses_a_cluster() {
    let first = number("KONSEN_SEQUENCES_SEED").unwrap_or(1);
    let count = number("KONSEN_SEQUENCES").unwrap_or(FEW);
    for seed in first..first + count {
        let mut world = World::start(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.settle().await;
        eprintln!("{}", world.end().await);
    }
}
