//! What an operator does next.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::operator::{At, By, Order};

use super::judge::Host;
use super::world::Fate;

/// One thing that an operator does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Give(By, Order),
    /// Another operator gives another order at the same moment.
    GiveTwo(By, [Order; 2]),
    /// The last order once more.
    Repeat,
    Stop(usize),
    Kill(usize),
    Restart(usize),
    Move(usize),
    /// A host that is there already.
    Start(usize),
    /// The host that is expected under a name.
    Come(String),
}

/// What there is to choose from.
pub(super) struct Choice<'a> {
    /// What a leader has told last.
    pub(super) members: &'a [Value],
    pub(super) hosts: &'a [Host],
    pub(super) fates: &'a [Fate],
    /// How many founded the cluster.
    pub(super) founders: usize,
    /// How often a name was given to a host that had not been there before.
    pub(super) given: usize,
    /// Whether an order was given before.
    pub(super) may_repeat: bool,
}

type Drawn = fn(&Choice<'_>, &mut StdRng) -> Option<Step>;

/// The kinds of steps, each as often as it is to come.
const KINDS: &[(usize, Drawn)] = &[
    (2, |choice, random| give(choice, random, add)),
    (2, |choice, random| give(choice, random, remove)),
    (4, |choice, random| give(choice, random, replace)),
    (1, |choice, random| give(choice, random, promote)),
    (1, |choice, random| give(choice, random, transfer)),
    (1, |choice, random| give(choice, random, undo)),
    (2, two),
    (2, |choice, _| choice.may_repeat.then_some(Step::Repeat)),
    (1, |choice, random| choice.victim(random).map(Step::Stop)),
    (2, |choice, random| choice.victim(random).map(Step::Kill)),
    (1, |choice, random| choice.victim(random).map(Step::Restart)),
    (1, |choice, random| choice.victim(random).map(Step::Move)),
    (3, |choice, random| choice.down().choose(random).copied().map(Step::Start)),
    (4, |choice, random| choice.awaited().choose(random).cloned().map(Step::Come)),
];

pub(super) fn draw(choice: &Choice<'_>, random: &mut StdRng) -> Step {
    // With nobody there no order can be given.
    if !choice.hosts.iter().any(|host| host.up) {
        let down = choice.down();
        return Step::Start(*down.choose(random).expect("somebody is down if nobody is up"));
    }
    let all: usize = KINDS.iter().map(|(often, _)| often).sum();
    loop {
        let mut at = random.random_range(0..all);
        let kind = KINDS.iter().find(|(often, _)| match at.checked_sub(*often) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        if let Some(step) = kind.and_then(|(_, kind)| kind(choice, random)) {
            return step;
        }
    }
}

type Ordered = fn(&Choice<'_>, &mut StdRng) -> Option<Order>;

fn by(random: &mut StdRng) -> By {
    // It takes longer.
    if random.random_ratio(1, 4) { By::CommandLine } else { By::Http }
}

fn give(choice: &Choice<'_>, random: &mut StdRng, order: Ordered) -> Option<Step> {
    order(choice, random).map(|order| Step::Give(by(random), order))
}

fn two(choice: &Choice<'_>, random: &mut StdRng) -> Option<Step> {
    let orders: [Ordered; 5] = [add, remove, replace, transfer, undo];
    let mut one = || {
        let order = orders.choose(random)?;
        order(choice, random)
    };
    let pair = [one()?, one()?];
    Some(Step::GiveTwo(by(random), pair))
}

fn add(choice: &Choice<'_>, random: &mut StdRng) -> Option<Order> {
    if choice.members.len() >= choice.founders + 2 {
        return None;
    }
    // Of those that were given before some are members no more.
    let known = choice.names(|_| true);
    let free: Vec<String> = (1..=choice.given + 1)
        .map(|number| format!("node{number}"))
        .filter(|name| !known.contains(name))
        .collect();
    let name = free.choose(random)?.clone();
    Some(Order::Add { name, at: At::free(), learner: random.random_ratio(1, 5) })
}

fn remove(choice: &Choice<'_>, random: &mut StdRng) -> Option<Order> {
    let name = choice.names(|_| true).choose(random)?.clone();
    Some(Order::Remove { name, force: random.random_ratio(1, 3) })
}

fn replace(choice: &Choice<'_>, random: &mut StdRng) -> Option<Order> {
    let name = choice.names(|_| true).choose(random)?.clone();
    let at = random.random_ratio(1, 4).then(At::free);
    Some(Order::Replace { name, at, force: random.random_ratio(2, 3) })
}

fn promote(choice: &Choice<'_>, random: &mut StdRng) -> Option<Order> {
    let name = choice.names(|one| one["voter"] != true).choose(random)?.clone();
    Some(Order::Promote { name })
}

fn transfer(choice: &Choice<'_>, random: &mut StdRng) -> Option<Order> {
    let to = choice.names(|one| one["voter"] == true).choose(random)?.clone();
    Some(Order::Transfer { to: random.random_ratio(3, 4).then_some(to) })
}

fn undo(_: &Choice<'_>, random: &mut StdRng) -> Option<Order> {
    Some(Order::Undo { force: random.random_ratio(1, 3) })
}

impl Choice<'_> {
    fn names(&self, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let members = self.members.iter().filter(|one| wanted(one));
        members.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect()
    }

    /// A host that runs. Mostly one that the others can do without.
    fn victim(&self, random: &mut StdRng) -> Option<usize> {
        let runs = |at: &usize| self.hosts[*at].up && self.fates[*at] == Fate::In;
        let running: Vec<usize> = (0..self.hosts.len()).filter(runs).collect();
        let victim = *running.choose(random)?;
        let voters = self.names(|one| one["voter"] == true);
        let up = |name: &&String| running.iter().any(|&at| self.hosts[at].name == **name);
        let spared = voters.contains(&self.hosts[victim].name)
            && (voters.iter().filter(up).count().saturating_sub(1)) * 2 <= voters.len();
        (!spared || random.random_ratio(1, 6)).then_some(victim)
    }

    fn down(&self) -> Vec<usize> {
        let is_down = |at: &usize| !self.hosts[*at].up && self.fates[*at] == Fate::In;
        (0..self.hosts.len()).filter(is_down).collect()
    }

    /// The names whose hosts were never seen.
    fn awaited(&self) -> Vec<String> {
        self.names(|one| one["id"].is_null())
    }
}
