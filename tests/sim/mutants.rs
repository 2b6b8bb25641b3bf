//! Plants one mistake after the other and counts the seeds until it is found. A mistake that nobody
//! finds is a hole in the checks. Only in the tree that has them, which `ci/planted` makes of what `mutants/` states.
//!
//! `ci/planted --profile sim mutants -- --nocapture`;
//! `KONSEN_MUTANT=VoteTwice,JoinRound` for some of them, `KONSEN_MUTANT_ONCE=1` is content when a
//! mistake was found once, in place of three times. `KONSEN_MUTANT_BY_RUNS=1` shows what runs alone find, without
//! the checks that ask a node or a decision by hand.

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

/// Whether it is enough to find a mistake once.
fn once() -> bool {
    std::env::var_os("KONSEN_MUTANT_ONCE").is_some()
}

/// Whether runs alone are to find the mistakes.
fn by_runs() -> bool {
    std::env::var_os("KONSEN_MUTANT_BY_RUNS").is_some()
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
        .filter(|one| match once() {
            true => one.seeds.iter().all(Option::is_none),
            false => one.seeds.iter().any(Option::is_none),
        })
        .map(|one| format!("{:?}: {}", one.mutant, one.mutant.mistake()))
        .collect();
    println!("{} of {} found", found.len() - missed.len(), found.len());
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

fn line(one: &Found) -> String {
    let mut seeds = one.seeds.clone();
    seeds.sort_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    let median = seeds.get((seeds.len() - 1) / 2).copied().flatten();
    let median = median.map_or("-".to_owned(), |seeds| seeds.to_string());
    format!("{:<24}{median:>8}  {}", format!("{:?}", one.mutant), one.by)
}

fn search(mutant: Mutant) -> Found {
    plant(Some(mutant));
    let mut one = Found { mutant, seeds: Vec::new(), by: String::new() };
    if let Some(check) = check_of(mutant).filter(|_| !by_runs()) {
        let seeds = check().err().map(|Broken(why)| {
            let why: String = why.chars().take(90).collect();
            one.by = format!("asked by hand: {why}");
            0
        });
        one.seeds.push(seeds);
    } else {
        for start in STARTS {
            let seeds = (1..=SEEDS_MAX).find(|seed| {
                match super::run(start + seed, &Cut::default(), false) {
                    Ok(_) => false,
                    // A seed that fails without the mistake, too, is a find of another kind.
                    Err(_) if !is_sound(start + seed, mutant) => false,
                    Err(Broken(why)) => {
                        one.by = why.lines().next().unwrap_or_default().chars().take(110).collect();
                        true
                    }
                }
            });
            one.seeds.push(seeds);
            if seeds.is_some() == once() {
                break;
            }
        }
    }
    plant(None);
    one
}

/// The check by hand that finds the mistake, if there is one.
fn check_of(mutant: Mutant) -> Option<direct::Check> {
    direct::all().find(|(name, _)| *name == format!("{mutant:?}")).map(|(_, check)| check)
}

/// Whether the seed is well without the mistake.
fn is_sound(seed: u64, mutant: Mutant) -> bool {
    plant(None);
    let sound = super::run(seed, &Cut::default(), false);
    plant(Some(mutant));
    if let Err(Broken(why)) = &sound {
        eprintln!("seed {seed} fails without a mistake: {why}");
    }
    sound.is_ok()
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
fn checks_by_hand_find_mistakes_that_there_are() {
    for (name, _) in direct::all() {
        let known = Mutant::ALL.iter().any(|mutant| format!("{mutant:?}") == name);
        assert!(known, "there is no mistake of the name {name}");
    }
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
