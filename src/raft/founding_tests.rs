#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn ballot(round: u64, founder: u64) -> Ballot {
    Ballot { round, founder: NodeId(founder) }
}

fn promised(attempt: &mut Attempt, by: u64, granted: Option<Ballot>) -> Verdict {
    attempt.answered(NodeId(by), Answer::Promised(granted));
    attempt.verdict()
}

#[test]
fn a_node_answers_no_lower_ballot_than_it_has_promised() {
    let (grant, answer) = Grant::default().answer(Ask::Promise(ballot(2, 1)));
    assert_eq!(answer, Answer::Promised(None));
    for ask in [Ask::Promise(ballot(1, 2)), Ask::Grant(ballot(1, 2))] {
        assert_eq!(grant.answer(ask), (grant, Answer::Outbid(ballot(2, 1))));
    }
    let (grant, answer) = grant.answer(Ask::Grant(ballot(2, 1)));
    assert_eq!((answer, grant.granted), (Answer::Granted, Some(ballot(2, 1))));
    // One that is overtaken can ask again, and is told what was granted.
    let (grant, answer) = grant.answer(Ask::Promise(ballot(3, 2)));
    assert_eq!(answer, Answer::Promised(Some(ballot(2, 1))));
    assert_eq!(grant.answer(Ask::Grant(ballot(2, 1))).1, Answer::Outbid(ballot(3, 2)));
}

#[test]
fn a_founder_needs_the_promises_and_the_grants_of_a_majority() {
    let mut attempt = Attempt::new(NodeId(1), 4, Ballot::default());
    assert_eq!(promised(&mut attempt, 1, None), Verdict::Open);
    assert_eq!(promised(&mut attempt, 2, None), Verdict::Open, "half of four");
    assert_eq!(promised(&mut attempt, 3, None), Verdict::Free);
    for by in [1, 2] {
        attempt.answered(NodeId(by), Answer::Granted);
        assert_eq!(attempt.verdict(), Verdict::Free);
    }
    attempt.answered(NodeId(2), Answer::Granted);
    assert_eq!(attempt.verdict(), Verdict::Free, "one that answers twice is one");
    attempt.answered(NodeId(4), Answer::Granted);
    assert_eq!(attempt.verdict(), Verdict::Chosen);
}

#[test]
fn who_was_asked_and_belongs_to_a_cluster_ends_the_attempt() {
    let mut attempt = Attempt::new(NodeId(1), 1, Ballot::default());
    attempt.answered(NodeId(1), Answer::Granted);
    attempt.answered(NodeId(2), Answer::Joins);
    assert_eq!(attempt.verdict(), Verdict::Chosen);
    attempt.answered(NodeId(3), Answer::Founded);
    assert_eq!(attempt.verdict(), Verdict::Founded);
}

#[test]
fn what_may_have_been_chosen_is_left_to_its_founder_and_what_cannot_have_been_binds_nobody() {
    let begin = || Attempt::new(NodeId(1), 4, ballot(1, 3));
    // Two and two: neither can have been chosen once all four, or three of them, have promised.
    let mut attempt = begin();
    promised(&mut attempt, 1, Some(ballot(1, 1)));
    promised(&mut attempt, 2, Some(ballot(1, 1)));
    assert_eq!(promised(&mut attempt, 4, Some(ballot(1, 3))), Verdict::Free);
    // With two grants that are known, a third may have been given by who is not there.
    let mut attempt = begin();
    promised(&mut attempt, 1, None);
    promised(&mut attempt, 2, Some(ballot(1, 3)));
    assert_eq!(promised(&mut attempt, 4, Some(ballot(1, 3))), Verdict::Held(NodeId(3)));
    // Node 3 itself goes on.
    let mut attempt = Attempt::new(NodeId(3), 4, ballot(1, 3));
    promised(&mut attempt, 2, Some(ballot(1, 3)));
    promised(&mut attempt, 3, Some(ballot(1, 3)));
    assert_eq!(promised(&mut attempt, 4, Some(ballot(1, 3))), Verdict::Free);
}

/// Nodes that ask and are asked, with every question and answer lost or late.
#[derive(Debug, Default)]
struct World {
    grants: Vec<Grant>,
    attempts: Vec<Option<Attempt>>,
    questions: Vec<(usize, usize, Ask)>,
    answers: Vec<(usize, usize, Ballot, Answer)>,
    founders: BTreeSet<NodeId>,
}

impl World {
    fn new(size: usize) -> World {
        World {
            grants: vec![Grant::default(); size],
            attempts: vec![None; size],
            ..World::default()
        }
    }

    fn begin(&mut self, node: usize) {
        let size = self.grants.len();
        let heard = self.grants[node].promised;
        let heard = self.attempts[node].as_ref().map_or(heard, |old| old.heard().max(heard));
        let attempt = Attempt::new(NodeId(node as u64), size, heard);
        let ask = Ask::Promise(attempt.ballot());
        self.attempts[node] = Some(attempt);
        self.questions.extend((0..size).map(|other| (node, other, ask)));
        // Its own promise is on its disk before anybody else hears of the ballot.
        let own = self.questions.len() - size + node;
        self.ask(own);
    }

    fn ask(&mut self, at: usize) {
        let (from, to, ask) = self.questions[at];
        let (Ask::Promise(ballot) | Ask::Grant(ballot)) = ask;
        let (grant, answer) = self.grants[to].answer(ask);
        self.grants[to] = grant;
        self.answers.push((from, to, ballot, answer));
    }

    fn answer(&mut self, at: usize) {
        let (to, by, ballot, answer) = self.answers[at];
        let Some(attempt) = self.attempts[to].as_mut().filter(|one| one.ballot() == ballot) else {
            return;
        };
        let before = attempt.verdict();
        attempt.answered(NodeId(by as u64), answer);
        match attempt.verdict() {
            Verdict::Free if before != Verdict::Free => {
                let all = 0..self.grants.len();
                self.questions.extend(all.map(|other| (to, other, Ask::Grant(ballot))));
            }
            Verdict::Chosen => {
                self.founders.insert(NodeId(to as u64));
            }
            _ => {}
        }
    }

    /// One asks, everybody among `there` hears and answers.
    fn try_alone(&mut self, node: usize, there: &[usize]) {
        self.begin(node);
        let (mut asked, mut answered) =
            (self.questions.len() - self.grants.len(), self.answers.len());
        answered -= 1;
        while asked < self.questions.len() || answered < self.answers.len() {
            if asked < self.questions.len() {
                if there.contains(&self.questions[asked].1) {
                    self.ask(asked);
                }
                asked += 1;
            } else {
                self.answer(answered);
                answered += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn there_is_one_founder_whatever_is_lost_late_or_repeated_and_in_the_end_there_is_one(
        size in 1_usize..6,
        steps in proptest::collection::vec((0_u8..12, any::<prop::sample::Index>()), 0..80),
    ) {
        let mut world = World::new(size);
        for (what, which) in steps {
            match what {
                0 => world.begin(which.index(size)),
                // It starts anew, and knows what is on its disk.
                1 => world.attempts[which.index(size)] = None,
                2..=6 if !world.questions.is_empty() => {
                    let recent = world.questions.len().min(12);
                    world.ask(world.questions.len() - 1 - which.index(recent));
                }
                _ if !world.answers.is_empty() => {
                    let recent = world.answers.len().min(12);
                    world.answer(world.answers.len() - 1 - which.index(recent));
                }
                _ => {}
            }
            prop_assert!(world.founders.len() <= 1, "{:?}", world.founders);
        }
        let all: Vec<usize> = (0..size).collect();
        // An attempt that is outbid learns what the next has to overtake.
        for node in (0..size).chain(0..size) {
            world.try_alone(node, &all);
            prop_assert!(world.founders.len() <= 1, "{:?}", world.founders);
        }
        prop_assert!(world.founders.len() == 1, "nobody founds it, though all are there");
    }
}
