//! Which operation comes next, and for which key: drawn at random, the same for the same seed.

use rand::distr::Distribution;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;

use super::plan::{Load, Plan};

/// A prime larger than any number of keys, so that to multiply by it modulo their number puts them in another order:
/// else the keys that are asked for most would lie side by side.
const SCATTER: u64 = 2_654_435_761;

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Sets the key of that number.
    Put(u64),
    /// Reads the key of that number, or the keys from it on.
    Read(u64),
}

impl Op {
    pub(super) fn writes(self) -> bool {
        matches!(self, Op::Put(_))
    }
}

/// The operations of one connection.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    random: SmallRng,
    /// How many keys an operation may begin at.
    keys: u64,
    zipf: Option<Zipf<f64>>,
    read_percent: u32,
}

impl Draws {
    /// Those of the connection of that number.
    pub(super) fn new(plan: &Plan, connection: usize) -> Draws {
        let read_percent = match plan.load {
            Load::Put => 0,
            Load::Mixed { read_percent } => read_percent,
            Load::Get | Load::List { .. } => 100,
        };
        // A listing begins where as many keys follow as it asks for.
        let keys = match plan.load {
            Load::List { items } => plan.keys.saturating_sub(items).saturating_add(1),
            _ => plan.keys,
        };
        // The plan has checked both numbers, so there is a distribution.
        let zipf = plan.exponent.and_then(|exponent| Zipf::new(keys as f64, exponent).ok());
        // Any other seed than its neighbours' makes another sequence.
        let random = SmallRng::seed_from_u64(plan.seed.wrapping_add(connection as u64));
        Draws { random, keys, zipf, read_percent }
    }

    /// The next operation.
    pub(super) fn next(&mut self) -> Op {
        let reads = match self.read_percent {
            0 => false,
            100 => true,
            percent => self.random.random_range(0..100) < percent,
        };
        let key = self.key();
        if reads { Op::Read(key) } else { Op::Put(key) }
    }

    fn key(&mut self) -> u64 {
        match &self.zipf {
            None => self.random.random_range(0..self.keys),
            Some(zipf) => {
                // From 1 on, in whole numbers.
                let rank = zipf.sample(&mut self.random) as u64;
                scattered(rank.clamp(1, self.keys) - 1, self.keys)
            }
        }
    }
}

/// The key that has that place among those that are asked for most.
fn scattered(rank: u64, keys: u64) -> u64 {
    // No overflow: there are fewer keys than 2^32.
    rank * SCATTER % keys
}

#[cfg(test)]
mod tests {
    use super::super::plan::KEYS_MAX;
    use super::*;

    fn plan(load: Load, keys: u64, exponent: Option<f64>) -> Plan {
        Plan { load, keys, exponent, ..Plan::sample() }
    }

    #[test]
    fn all_keys_are_drawn_and_none_beyond() {
        for (load, exponent) in [(Load::Put, None), (Load::Get, Some(0.99)), (Load::Get, Some(3.0))]
        {
            let mut draws = Draws::new(&plan(load, 5, exponent), 0);
            let mut seen = [0; 5];
            for _ in 0..20_000 {
                match draws.next() {
                    Op::Put(key) | Op::Read(key) => seen[key as usize] += 1,
                }
            }
            assert!(seen.iter().all(|count| *count > 0), "{load:?}: {seen:?}");
        }
        let mut draws = Draws::new(&plan(Load::List { items: 4 }, 5, None), 0);
        assert!((0..100).all(|_| matches!(draws.next(), Op::Read(0..=1))));
    }

    #[test]
    fn zipf_prefers_few_keys_that_do_not_lie_side_by_side() {
        let mut draws = Draws::new(&plan(Load::Get, 1000, Some(0.99)), 3);
        let mut seen = vec![0_u32; 1000];
        for _ in 0..100_000 {
            if let Op::Read(key) = draws.next() {
                seen[key as usize] += 1;
            }
        }
        let first = seen.iter().position(|count| count == seen.iter().max().unwrap()).unwrap();
        assert_eq!(first, 0);
        // 1 / (the sum of 1 / k^0.99 up to 1000), which is 7.8.
        assert!((11_500..14_500).contains(&seen[0]), "{}", seen[0]);
        let second = scattered(1, 1000) as usize;
        assert!(second > 10 && (5_500..7_500).contains(&seen[second]), "{}", seen[second]);
    }

    #[test]
    fn to_scatter_loses_no_key() {
        for keys in [1, 2, 10, 1000, 4096] {
            let mut all: Vec<u64> = (0..keys).map(|rank| scattered(rank, keys)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..keys).collect::<Vec<_>>());
        }
        assert!(KEYS_MAX < SCATTER && KEYS_MAX.checked_mul(SCATTER).is_some());
    }

    #[test]
    fn a_share_is_a_share_and_a_seed_a_seed() {
        let plan = plan(Load::Mixed { read_percent: 95 }, 100, None);
        let (mut one, mut same) = (Draws::new(&plan, 1), Draws::new(&plan, 1));
        let mut other = Draws::new(&plan, 2);
        let drawn: Vec<Op> = (0..10_000).map(|_| one.next()).collect();
        assert!(drawn.iter().all(|op| *op == same.next()));
        assert!(drawn.iter().any(|op| *op != other.next()));
        let writes = drawn.iter().filter(|op| op.writes()).count();
        assert!((400..600).contains(&writes), "{writes}");
    }
}
