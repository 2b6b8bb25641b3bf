//! Cuts a failing seed down: what the failure does not need is left out.

use std::fmt;

use super::oracle::Broken;
use super::plan::{FAULTS, Fault, Plan, Time};

/// The most runs that the search takes.
const RUNS_MAX: u32 = 150;

/// What of a seed's plan is left out or made smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    without: Vec<Fault>,
    stormy: Option<Time>,
    voters: Option<usize>,
    clients: Option<usize>,
    keys: Option<u64>,
    /// Nothing is lost, doubled or late by chance.
    calm_net: bool,
}

impl Cut {
    pub(crate) fn apply(&self, plan: &mut Plan) {
        plan.faults.retain(|fault| !self.without.contains(fault));
        if let Some(stormy) = self.stormy {
            (plan.stormy, plan.events_min) = (stormy, 0);
        }
        plan.voters = self.voters.unwrap_or(plan.voters);
        plan.clients = self.clients.unwrap_or(plan.clients);
        plan.keys = self.keys.unwrap_or(plan.keys);
        if self.calm_net {
            (plan.loss, plan.duplication, plan.replay, plan.long_delay.1) = (0, 0, 0, 0);
        }
    }

    /// What `Display` wrote.
    pub(crate) fn parse(text: &str) -> Option<Cut> {
        let mut cut = Cut::default();
        for part in text.split_whitespace() {
            let (name, value) = part.split_once('=')?;
            match name {
                "without" => {
                    let known = |name: &str| {
                        FAULTS.iter().copied().find(|fault| format!("{fault:?}") == name)
                    };
                    cut.without = value.split(',').map(known).collect::<Option<_>>()?;
                }
                "stormy" => cut.stormy = Some(value.parse().ok()?),
                "voters" => cut.voters = Some(value.parse().ok()?),
                "clients" => cut.clients = Some(value.parse().ok()?),
                "keys" => cut.keys = Some(value.parse().ok()?),
                "net" => cut.calm_net = value == "calm",
                _ => return None,
            }
        }
        Some(cut)
    }

    /// The next smaller ones of `plan`, which is cut by this already.
    fn smaller(&self, plan: &Plan) -> Vec<Cut> {
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut Cut)| {
            let mut cut = self.clone();
            change(&mut cut);
            all.push(cut);
        };
        if plan.stormy > 200 {
            add(&|cut| cut.stormy = Some(plan.stormy / 2));
            add(&|cut| cut.stormy = Some(plan.stormy * 9 / 10));
        }
        if !self.calm_net {
            add(&|cut| cut.calm_net = true);
        }
        if plan.faults.len() > 3 {
            add(&|cut| cut.without.extend(&plan.faults[plan.faults.len() / 2..]));
            add(&|cut| cut.without.extend(&plan.faults[..plan.faults.len() / 2]));
        }
        for &fault in &plan.faults {
            add(&|cut| cut.without.push(fault));
        }
        if plan.voters > 1 {
            add(&|cut| cut.voters = Some(plan.voters - 1));
        }
        if plan.clients > 1 {
            add(&|cut| cut.clients = Some(plan.clients / 2));
        }
        if plan.keys > 1 {
            add(&|cut| cut.keys = Some(1));
        }
        all
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.without.is_empty() {
            let names: Vec<String> =
                self.without.iter().map(|fault| format!("{fault:?}")).collect();
            parts.push(format!("without={}", names.join(",")));
        }
        let mut add = |name: &str, value: Option<u64>| {
            parts.extend(value.map(|value| format!("{name}={value}")));
        };
        add("stormy", self.stormy);
        add("voters", self.voters.map(|count| count as u64));
        add("clients", self.clients.map(|count| count as u64));
        add("keys", self.keys);
        if self.calm_net {
            parts.push("net=calm".to_owned());
        }
        f.write_str(&parts.join(" "))
    }
}

/// The smallest cut found with which the seed still fails, and how it fails.
pub(crate) fn cut_down(seed: u64, mut why: Broken) -> (Cut, Broken) {
    let mut best = Cut::default();
    let mut runs = 0;
    'smaller: loop {
        let mut plan = Plan::of(seed);
        best.apply(&mut plan);
        for cut in best.smaller(&plan) {
            runs += 1;
            if runs > RUNS_MAX {
                return (best, why);
            }
            if let Err(broken) = super::run(seed, &cut, false)
                && broken.kind() == why.kind()
            {
                (best, why) = (cut, broken);
                continue 'smaller;
            }
        }
        return (best, why);
    }
}

#[test]
fn a_cut_comes_back_from_what_is_printed() {
    let cut = Cut {
        without: vec![Fault::Split, Fault::Rot],
        stormy: Some(70),
        voters: Some(2),
        clients: None,
        keys: Some(1),
        calm_net: true,
    };
    assert_eq!(Cut::parse(&cut.to_string()), Some(cut));
    assert_eq!(Cut::parse(""), Some(Cut::default()));
    assert_eq!(Cut::parse("without=Nothing"), None);
}
