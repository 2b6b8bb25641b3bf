//! Is a history of one key linearizable? The search of Wing and Gong with Lowe's memory of the
//! configurations that lead nowhere ("Testing for linearizability", 2017, section 4).

use std::collections::{HashMap, HashSet};

use super::operation::{Action, Cell, Moment, Operation};

/// Whether a linearizable store can have such a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Linearizable,
    /// It cannot.
    Impossible,
    /// The search took too many steps, or too much memory, and was given up.
    Undecided,
}

/// The most steps of a search; a healthy history needs a few for each operation.
const STEPS_MAX: u64 = 20_000_000;
/// The most dead ends remembered, which bounds the memory to some 300 MB.
const DEAD_MAX: usize = 3_000_000;
/// Says that there was nothing else to try.
const ONLY: usize = usize::MAX;
/// Two dead ends that differ in more unknown operations than this are not compared.
const DIFFERENCE_MAX: usize = 64;

/// Where a hint puts an operation; smaller ones are tried first.
pub type Place = (u64, bool);

/// Decides on a history of one key that starts out absent.
pub fn check(history: &[Operation]) -> Verdict {
    check_in_order(history, |_| (0, false))
}

/// Decides likewise, and tries changes in the order of `hint`, which is asked with their places in
/// the history. A good guess at the real order makes the search short, a bad one long; neither
/// changes the verdict.
pub fn check_in_order(history: &[Operation], hint: impl Fn(usize) -> Place) -> Verdict {
    Search::new(history, hint).run()
}

/// Stands for every value that no answer names: writes of such values are all alike.
const GHOST: u64 = u64::MAX;

/// An operation that was answered.
struct Known<'a> {
    called: Moment,
    returned: Moment,
    action: &'a Action,
    place: Place,
    /// Drawn at random; a set of operations is known by the sum of theirs.
    mark: u128,
}

/// Operations nobody knows the outcome of, all doing the same: the first called goes first, and so
/// has the first place.
struct Class {
    action: Action,
    called: Vec<Moment>,
    places: Vec<Place>,
}

/// A set of taken unknown operations: one more than its parent has.
struct Taken {
    class: u32,
    parent: u32,
    depth: u32,
}

/// What was taken, and the cell before it.
enum Step {
    Known { at: usize, before: Cell, first: usize },
    Unknown { class: usize, before: Cell },
}

/// What may be taken next, in the order in which it is tried: the place, whether its outcome is
/// unknown, when it ended, its number.
type Candidate = (Place, bool, Moment, usize);

struct Search<'a> {
    /// In the order of their return. They have the numbers from 0 on, the classes those after.
    known: Vec<Known<'a>>,
    /// The earliest call of this one and all after it.
    earliest: Vec<Moment>,
    /// By the call of their first.
    classes: Vec<Class>,

    taken: Vec<bool>,
    /// The first that is not taken.
    first: usize,
    marks: u128,
    used: Vec<usize>,
    /// The set of taken unknown ones, in `sets`.
    set: u32,
    sets: Vec<Taken>,
    cell: Cell,
    /// How many that are not taken need a value. A value comes once: while some do, nothing may replace it.
    needed: HashMap<u64, usize>,
    /// Where no way led to the end: the known operations taken, the cell, and the sets of unknown
    /// ones.
    dead: HashMap<(u128, Cell), Vec<u32>>,
    dead_count: usize,
}

impl<'a> Search<'a> {
    fn new(history: &'a [Operation], hint: impl Fn(usize) -> Place) -> Search<'a> {
        let named: HashSet<u64> = history.iter().flat_map(|one| one.action.names()).collect();
        let mut random = 0;
        let mut known = Vec::new();
        let mut unknown: Vec<(Moment, Place, Action)> = Vec::new();
        for (at, one) in history.iter().enumerate() {
            let (called, place) = (one.called, hint(at));
            match (one.returned, &one.action) {
                (Some(returned), action) => {
                    let mark = u128::from(mix(&mut random)) << 64 | u128::from(mix(&mut random));
                    known.push(Known { called, returned, action, place, mark });
                }
                // A read that was never answered says and does nothing.
                (None, Action::Get { .. }) => {}
                (None, Action::Put { value, expect, outcome }) if !named.contains(value) => {
                    let (expect, outcome) = (*expect, *outcome);
                    unknown.push((called, place, Action::Put { value: GHOST, expect, outcome }));
                }
                (None, action) => unknown.push((called, place, action.clone())),
            }
        }
        known.sort_by_key(|one| one.returned);
        unknown.sort_by_key(|(called, ..)| *called);
        let mut earliest: Vec<Moment> = known.iter().map(|one| one.called).collect();
        for at in (1..earliest.len()).rev() {
            earliest[at - 1] = earliest[at - 1].min(earliest[at]);
        }
        let mut classes: Vec<Class> = Vec::new();
        let mut by_action = HashMap::new();
        for (called, place, action) in unknown {
            let at = *by_action.entry(action.clone()).or_insert(classes.len());
            match classes.get_mut(at) {
                Some(class) => {
                    class.called.push(called);
                    class.places.push(place);
                }
                None => classes.push(Class { action, called: vec![called], places: vec![place] }),
            }
        }
        for class in &mut classes {
            class.places.sort_unstable();
        }
        let mut needed = HashMap::new();
        for value in known.iter().filter_map(|one| one.action.needs()) {
            *needed.entry(value).or_default() += 1;
        }
        Search {
            taken: vec![false; known.len()],
            used: vec![0; classes.len()],
            known,
            earliest,
            classes,
            first: 0,
            marks: 0,
            set: 0,
            sets: vec![Taken { class: 0, parent: 0, depth: 0 }],
            cell: None,
            needed,
            dead: HashMap::new(),
            dead_count: 0,
        }
    }

    fn run(&mut self) -> Verdict {
        // What was taken, and how many had been tried in its place by then.
        let mut path: Vec<(Step, usize)> = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut steps = 0;
        let mut tried = 0;
        loop {
            // Whatever is taken next has to be called before the first return among the rest. Once
            // only unknown ones are left, which need not happen, all is explained.
            let Some(deadline) = self.known.get(self.first).map(|one| one.returned) else {
                return Verdict::Linearizable;
            };
            candidates.clear();
            let from = match path.last() {
                Some(&(Step::Unknown { before, .. }, _)) => Some(before),
                _ => None,
            };
            // What only reads may as well go first: then there is nothing else to try.
            let idle = if tried == 0 { self.idle(deadline) } else { None };
            match idle {
                Some(at) => candidates.push(((0, false), false, 0, at)),
                None if tried == ONLY => {}
                None => self.list(deadline, from, &mut candidates),
            }
            let mut taken = None;
            while taken.is_none()
                && let Some(&(.., at)) = candidates.get(tried)
            {
                tried += 1;
                steps += 1 + self.classes.len() as u64 / 16;
                if steps > STEPS_MAX || self.dead_count > DEAD_MAX {
                    return Verdict::Undecided;
                }
                taken = self.take(at);
                if matches!(taken, Some(Step::Known { .. }))
                    && self.is_dead()
                    && let Some(step) = taken.take()
                {
                    self.put_back(&step);
                }
            }
            if let Some(step) = taken {
                path.push((step, if idle.is_some() { ONLY } else { tried }));
                tried = 0;
                continue;
            }
            // After an unknown one not everything was tried.
            if from.is_none() {
                self.bury();
            }
            let Some((step, before)) = path.pop() else { return Verdict::Impossible };
            self.put_back(&step);
            tried = before;
        }
    }

    /// Those answered that may be taken now.
    fn open(&self, deadline: Moment) -> impl Iterator<Item = usize> {
        (self.first..self.known.len())
            .take_while(move |&at| self.earliest[at] <= deadline)
            .filter(move |&at| !self.taken[at] && self.known[at].called <= deadline)
    }

    /// One that reads and can have happened now.
    fn idle(&self, deadline: Moment) -> Option<usize> {
        self.open(deadline).find(|&at| {
            let action = self.known[at].action;
            action.only_reads() && action.apply(self.cell).is_some()
        })
    }

    /// What else can have happened now, in the order in which to try it. `from` is the cell before the
    /// unknown one that was taken last. Such a one is taken only for what could not have happened
    /// without it: whatever else happens next overwrites it, or could as well have come before.
    fn list(&self, deadline: Moment, from: Option<Cell>, candidates: &mut Vec<Candidate>) {
        for at in self.open(deadline) {
            let one = &self.known[at];
            let needs_it = from.is_none_or(|from| one.action.apply(from).is_none());
            if needs_it && one.action.apply(self.cell).is_some() {
                candidates.push((one.place, false, one.returned, at));
            }
        }
        // An unknown one has its place in the hint's order even if nothing came of it: whoever is next
        // of those answered, and can be, goes before.
        let next =
            self.open(deadline).min_by_key(|&at| (self.known[at].place, self.known[at].returned));
        let fits = candidates.iter_mut().find(|(.., at)| Some(*at) == next);
        if let Some((place, ..)) = fits {
            *place = (0, false);
        }
        for (at, class) in self.classes.iter().enumerate() {
            if class.called[0] > deadline {
                break;
            }
            let used = self.used[at];
            // An unknown one without effect is one that never happened.
            if let Some(&called) = class.called.get(used)
                && called <= deadline
                && let Some(after) = class.action.apply(self.cell)
                && after != self.cell
                && from.is_none_or(|from| class.action.apply(from) == Some(from) && after != from)
            {
                candidates.push((class.places[used], true, called, self.known.len() + at));
            }
        }
        candidates.sort_unstable();
    }

    /// Carries it out, if it can have happened now.
    fn take(&mut self, at: usize) -> Option<Step> {
        let before = self.cell;
        let Some(class) = at.checked_sub(self.known.len()) else {
            let action = self.known[at].action;
            let after = action.apply(before)?;
            if self.spoils(after, action.needs()) {
                return None;
            }
            self.cell = after;
            self.taken[at] = true;
            self.need(at, usize::wrapping_sub);
            self.marks = self.marks.wrapping_add(self.known[at].mark);
            let first = self.first;
            while self.taken.get(self.first) == Some(&true) {
                self.first += 1;
            }
            return Some(Step::Known { at, before, first });
        };
        let after = self.classes[class].action.apply(before)?;
        if self.spoils(after, None) {
            return None;
        }
        self.cell = after;
        self.used[class] += 1;
        let depth = self.sets[self.set as usize].depth + 1;
        self.sets.push(Taken { class: class as u32, parent: self.set, depth });
        self.set = self.sets.len() as u32 - 1;
        Some(Step::Unknown { class, before })
    }

    /// Whether with that cell others than the one that goes, which needs a value itself or none, could not happen
    /// any more.
    fn spoils(&self, after: Cell, own: Cell) -> bool {
        self.cell != after
            && self.cell.is_some_and(|value| {
                let needed = self.needed.get(&value).copied().unwrap_or_default();
                needed > usize::from(own == Some(value))
            })
    }

    fn need(&mut self, at: usize, change: fn(usize, usize) -> usize) {
        let value = self.known[at].action.needs();
        if let Some(count) = value.and_then(|value| self.needed.get_mut(&value)) {
            *count = change(*count, 1);
        }
    }

    /// Undoes a step.
    fn put_back(&mut self, step: &Step) {
        match *step {
            Step::Known { at, before, first } => {
                self.taken[at] = false;
                self.need(at, usize::wrapping_add);
                self.marks = self.marks.wrapping_sub(self.known[at].mark);
                self.first = first;
                self.cell = before;
            }
            Step::Unknown { class, before } => {
                self.used[class] -= 1;
                self.set = self.sets[self.set as usize].parent;
                self.cell = before;
            }
        }
    }

    fn bury(&mut self) {
        self.dead.entry((self.marks, self.cell)).or_default().push(self.set);
        self.dead_count += 1;
    }

    /// Whether no way led on from here, or from here with fewer of the unknown ones taken: whatever
    /// can be done now could be done then.
    fn is_dead(&self) -> bool {
        let ends = self.dead.get(&(self.marks, self.cell));
        ends.is_some_and(|ends| ends.iter().any(|end| self.holds(*end)))
    }

    /// Whether the set of taken unknown ones has all that another has.
    fn holds(&self, other: u32) -> bool {
        let (mut mine, mut others) = (self.set, other);
        let mut extra: Vec<u32> = Vec::new();
        let mut missing: Vec<u32> = Vec::new();
        let taken = |set: u32| &self.sets[set as usize];
        if taken(mine).depth < taken(others).depth {
            return false;
        }
        // What they have in common further down cancels out.
        while mine != others {
            if taken(mine).depth >= taken(others).depth {
                extra.push(taken(mine).class);
                mine = taken(mine).parent;
            } else {
                missing.push(taken(others).class);
                others = taken(others).parent;
            }
            if extra.len() + missing.len() > DIFFERENCE_MAX {
                return false;
            }
        }
        missing.iter().all(|class| match extra.iter().position(|one| one == class) {
            Some(at) => {
                extra.swap_remove(at);
                true
            }
            None => false,
        })
    }
}

/// The next number of splitmix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
