//! Plants one mistake after the other and counts the seeds until it is found. A mistake that nobody
//! finds is a hole in the checks.
//!
//! `cargo test --profile sim --features mutants --test sim mutants -- --nocapture`;
//! `KONSEN_MUTANT=VoteTwice,JoinRound` for some of them, `KONSEN_MUTANT_STARTS=1` for one search each in place
//! of three.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use konsen::mutant::{Mutant, on, plant};

use super::cut::{Cut, cut_down};
use super::direct;
use super::oracle::Broken;

/// Where the search begins, each time.
const STARTS: [u64; 3] = [0, 100_000, 200_000];
/// The most seeds from each start.
const SEEDS_MAX: u64 = 1_000;

/// The searches that `KONSEN_MUTANT_STARTS` asks for.
fn starts() -> &'static [u64] {
    let count = std::env::var("KONSEN_MUTANT_STARTS").ok();
    let count = count.map_or(STARTS.len(), |count| count.parse().expect("KONSEN_MUTANT_STARTS"));
    &STARTS[..count.clamp(1, STARTS.len())]
}

/// What `KONSEN_MUTANT` names.
fn named() -> Vec<Mutant> {
    let names = std::env::var("KONSEN_MUTANT").unwrap_or_default();
    let is_named = |mutant: &Mutant| names.split(',').any(|name| name == format!("{mutant:?}"));
    Mutant::ALL.iter().copied().filter(is_named).collect()
}

/// Plants the first of what `KONSEN_MUTANT` names.
pub(crate) fn plant_named() {
    plant(named().first().copied());
}

/// How a mistake was found.
struct Found {
    mutant: Mutant,
    /// Seeds until then, from each start; none: not found.
    seeds: Vec<Option<u64>>,
    by: String,
}

#[test]
fn mutants_are_all_found() {
    let mutants = match named() {
        some if some.is_empty() => Mutant::ALL.to_vec(),
        some => some,
    };
    quieten();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = search(mutant);
                    println!("{}", line(&one));
                    found.lock().expect("no thread panics with it").push(one);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no thread panics with it");
    found.sort_by_key(|one| one.mutant as usize);
    println!("\n{:<24}{:>8}  found by", "mistake", "seeds");
    for one in &found {
        println!("{}", line(one));
    }
    let missed: Vec<String> = found
        .iter()
        .filter(|one| one.seeds.iter().any(Option::is_none))
        .map(|one| format!("{:?}: {}", one.mutant, one.mutant.mistake()))
        .collect();
    println!("{} of {} found", found.len() - missed.len(), found.len());
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

fn line(one: &Found) -> String {
    let mut seeds = one.seeds.clone();
    seeds.sort_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    let median = seeds.get(seeds.len() / 2).copied().flatten();
    let median = median.map_or("-".to_owned(), |seeds| seeds.to_string());
    format!("{:<24}{median:>8}  {}", format!("{:?}", one.mutant), one.by)
}

fn search(mutant: Mutant) -> Found {
    plant(Some(mutant));
    let mut one = Found { mutant, seeds: Vec::new(), by: String::new() };
    if let Some(check) = direct::check_of(mutant) {
        let seeds = check().err().map(|Broken(why)| {
            one.by = format!("hand-driven node: {why}");
            0
        });
        one.seeds.push(seeds);
    } else {
        for start in starts() {
            let seeds = (1..=SEEDS_MAX).find(|seed| {
                match super::run(start + seed, &Cut::default(), false) {
                    Ok(_) => false,
                    Err(Broken(why)) => {
                        one.by = why.lines().next().unwrap_or_default().chars().take(110).collect();
                        true
                    }
                }
            });
            one.seeds.push(seeds);
            if seeds.is_none() {
                break;
            }
        }
    }
    plant(None);
    one
}

/// A planted mistake may well panic: that is one way to be found, and need not be shown.
fn quieten() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !Mutant::ALL.iter().any(|&mutant| on(mutant)) {
            before(panic);
        }
    }));
}

#[test]
fn a_failing_seed_is_cut_down() {
    plant(Some(Mutant::AckBeforeDurable));
    quieten();
    let none = Cut::default();
    let failing = (0..100).find_map(|seed| Some((seed, super::run(seed, &none, false).err()?)));
    let (seed, why) = failing.expect("this one is found soon");
    let (cut, _) = cut_down(seed, why);
    let again = super::run(seed, &cut, false);
    plant(None);
    assert_ne!(cut, none, "there is something to leave out");
    assert!(again.is_err(), "{cut} does not fail any more");
}
