//! An interval tree: which of many key ranges a key lies in.
//!
//! It is an AVL tree ordered by the ranges' beginnings, each node of which also knows where the last range below it ends
//! (Cormen et al., "Introduction to Algorithms", 14.3). So whole subtrees are passed over that end before a key, or begin
//! after it: of n ranges a look takes O(log n) steps where none has the key, and no more than O(log n) for each that has
//! it, fewer the closer they lie together. Adding and removing take O(log n).

use std::cmp::Ordering;

use bytes::Bytes;

use crate::kv::KeyRange;

/// See the module's documentation. A range is in it once, with a value.
#[derive(Debug)]
pub(crate) struct IntervalIndex<T> {
    root: Link<T>,
}

type Link<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    range: KeyRange,
    value: T,
    /// The end of the range that ends last, from here down; none if one has no end.
    last_end: Option<Bytes>,
    height: u8,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Default for IntervalIndex<T> {
    fn default() -> Self {
        IntervalIndex { root: None }
    }
}

impl<T> IntervalIndex<T> {
    /// Whether it holds no range.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The ranges that have the key, with their values, in order.
    pub(crate) fn containing(&self, key: &[u8]) -> Vec<(&KeyRange, &T)> {
        let mut found = Vec::new();
        visit(&self.root, key, &mut found);
        found
    }

    /// Removes the ranges that have the key; their values.
    pub(crate) fn take_containing(&mut self, key: &[u8]) -> Vec<T> {
        let ranges: Vec<KeyRange> =
            self.containing(key).into_iter().map(|(range, _)| range.clone()).collect();
        ranges.iter().filter_map(|range| remove(&mut self.root, range)).collect()
    }

    /// Removes a range; its value.
    pub(crate) fn remove(&mut self, range: &KeyRange) -> Option<T> {
        remove(&mut self.root, range)
    }

    /// The value of a range.
    pub(crate) fn get_mut(&mut self, range: &KeyRange) -> Option<&mut T> {
        let mut next = self.root.as_mut();
        while let Some(node) = next {
            next = match order(range, &node.range) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => node.left.as_mut(),
                Ordering::Greater => node.right.as_mut(),
            };
        }
        None
    }

    /// Removes everything; the values.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let mut values = Vec::new();
        let mut left: Vec<Box<Node<T>>> = self.root.take().into_iter().collect();
        while let Some(node) = left.pop() {
            let Node { value, left: before, right: after, .. } = *node;
            values.push(value);
            left.extend([before, after].into_iter().flatten());
        }
        values
    }
}

impl<T: Default> IntervalIndex<T> {
    /// Changes the value of a range, which it has from now on.
    pub(crate) fn change(&mut self, range: &KeyRange, change: impl FnOnce(&mut T)) {
        change_at(&mut self.root, range, change);
    }
}

fn order(a: &KeyRange, b: &KeyRange) -> Ordering {
    let ends = || match ends_later(&a.end, &b.end) {
        true => Ordering::Greater,
        false if a.end == b.end => Ordering::Equal,
        false => Ordering::Less,
    };
    a.start.cmp(&b.start).then_with(ends)
}

/// Whether a range with the first end goes on where one with the other has ended.
fn ends_later(a: &Option<Bytes>, b: &Option<Bytes>) -> bool {
    match (a, b) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

/// Collects what has the key from here down; how many nodes were looked at.
fn visit<'a, T>(link: &'a Link<T>, key: &[u8], found: &mut Vec<(&'a KeyRange, &'a T)>) -> usize {
    let Some(node) = link else { return 0 };
    if node.last_end.as_ref().is_some_and(|end| &end[..] <= key) {
        return 1;
    }
    let before = visit(&node.left, key, found);
    // All to the right begin later still.
    if key < &node.range.start[..] {
        return 1 + before;
    }
    if node.range.contains(key) {
        found.push((&node.range, &node.value));
    }
    1 + before + visit(&node.right, key, found)
}

/// Changes the value of a range, with a new node if there is none; whether there was none.
fn change_at<T: Default>(
    link: &mut Link<T>,
    range: &KeyRange,
    change: impl FnOnce(&mut T),
) -> bool {
    let Some(node) = link else {
        let mut value = T::default();
        change(&mut value);
        let (range, last_end) = (range.clone(), range.end.clone());
        let node = Node { range, value, last_end, height: 1, left: None, right: None };
        *link = Some(Box::new(node));
        return true;
    };
    let added = match order(range, &node.range) {
        Ordering::Equal => {
            change(&mut node.value);
            return false;
        }
        Ordering::Less => change_at(&mut node.left, range, change),
        Ordering::Greater => change_at(&mut node.right, range, change),
    };
    if added {
        rebalance(link);
    }
    added
}

fn remove<T>(link: &mut Link<T>, range: &KeyRange) -> Option<T> {
    let node = link.as_mut()?;
    let value = match order(range, &node.range) {
        Ordering::Less => remove(&mut node.left, range)?,
        Ordering::Greater => remove(&mut node.right, range)?,
        Ordering::Equal => {
            let Node { value, left, right, .. } = *link.take()?;
            *link = joined(left, right);
            value
        }
    };
    rebalance(link);
    Some(value)
}

/// One tree of two whose heights differ by one at most; it may need to be balanced.
fn joined<T>(left: Link<T>, mut right: Link<T>) -> Link<T> {
    let Some(mut first) = take_first(&mut right) else { return left };
    first.left = left;
    first.right = right;
    Some(first)
}

/// Takes the first node out.
fn take_first<T>(link: &mut Link<T>) -> Link<T> {
    let node = link.as_mut()?;
    if node.left.is_none() {
        let mut first = link.take()?;
        *link = first.right.take();
        return Some(first);
    }
    let first = take_first(&mut node.left);
    rebalance(link);
    first
}

impl<T> Node<T> {
    /// Brings what it knows of those below up to date.
    fn update(&mut self) {
        let below = || [&self.left, &self.right].into_iter().flatten();
        let mut last_end = &self.range.end;
        for node in below() {
            if ends_later(&node.last_end, last_end) {
                last_end = &node.last_end;
            }
        }
        let last_end = last_end.clone();
        self.height = 1 + below().map(|node| node.height).max().unwrap_or_default();
        self.last_end = last_end;
    }
}

fn height<T>(link: &Link<T>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

/// Updates the node here, and turns it where one side has become higher by two.
fn rebalance<T>(link: &mut Link<T>) {
    let Some(node) = link else { return };
    if height(&node.left) > height(&node.right) + 1 {
        if let Some(left) = &node.left
            && height(&left.right) > height(&left.left)
        {
            turn_left(&mut node.left);
        }
        turn_right(link);
    } else if height(&node.right) > height(&node.left) + 1 {
        if let Some(right) = &node.right
            && height(&right.left) > height(&right.right)
        {
            turn_right(&mut node.right);
        }
        turn_left(link);
    } else {
        node.update();
    }
}

/// Puts the left node in the place of the one here.
fn turn_right<T>(link: &mut Link<T>) {
    let Some(mut down) = link.take() else { return };
    let Some(mut up) = down.left.take() else {
        *link = Some(down);
        return;
    };
    down.left = up.right.take();
    down.update();
    up.right = Some(down);
    up.update();
    *link = Some(up);
}

/// Puts the right node in the place of the one here.
fn turn_left<T>(link: &mut Link<T>) {
    let Some(mut down) = link.take() else { return };
    let Some(mut up) = down.right.take() else {
        *link = Some(down);
        return;
    };
    down.right = up.left.take();
    down.update();
    up.left = Some(down);
    up.update();
    *link = Some(up);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks what every node knows of those below it; the height.
    fn sound(link: &Link<u32>) -> u8 {
        let Some(node) = link else { return 0 };
        let (left, right) = (sound(&node.left), sound(&node.right));
        assert!(left.abs_diff(right) <= 1 && node.height == 1 + left.max(right));
        for (side, wanted) in [(&node.left, Ordering::Less), (&node.right, Ordering::Greater)] {
            if let Some(side) = side {
                assert_eq!(order(&side.range, &node.range), wanted);
                assert!(!ends_later(&side.last_end, &node.last_end));
            }
        }
        let below = [&node.left, &node.right].into_iter().flatten().map(|node| &node.last_end);
        assert!(below.chain([&node.range.end]).any(|end| *end == node.last_end));
        node.height
    }

    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0_u8..4, 0..4).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            (key(), proptest::option::of(key())).prop_map(|(start, end)| KeyRange { start, end }),
            key().prop_map(|key| KeyRange::prefix(&key)),
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(KeyRange),
        Remove(KeyRange),
        Take(Bytes),
        Look(Bytes),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => range().prop_map(Step::Add),
            2 => range().prop_map(Step::Remove),
            1 => key().prop_map(Step::Take),
            2 => key().prop_map(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_range_finds(
            steps in proptest::collection::vec(step(), 0..300)
        ) {
            let mut index = IntervalIndex::<u32>::default();
            let mut naive: Vec<(KeyRange, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(range) => {
                        index.change(&range, |count| *count += 1);
                        match naive.iter_mut().find(|(known, _)| *known == range) {
                            Some((_, count)) => *count += 1,
                            None => naive.push((range.clone(), 1)),
                        }
                        let count = naive.iter().find(|(known, _)| *known == range);
                        prop_assert_eq!(index.get_mut(&range).copied(), count.map(|(_, count)| *count));
                    }
                    Step::Remove(range) => {
                        let place = naive.iter().position(|(known, _)| *known == range);
                        let expected = place.map(|place| naive.swap_remove(place).1);
                        prop_assert_eq!(index.get_mut(&range).copied(), expected);
                        prop_assert_eq!(index.remove(&range), expected);
                    }
                    Step::Take(key) => {
                        let (hit, missed): (Vec<_>, Vec<_>) =
                            naive.into_iter().partition(|(range, _)| range.contains(&key));
                        naive = missed;
                        let mut taken = index.take_containing(&key);
                        let mut expected: Vec<u32> =
                            hit.into_iter().map(|(_, count)| count).collect();
                        taken.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(taken, expected);
                    }
                    Step::Look(key) => {
                        let found = index.containing(&key);
                        let mut expected: Vec<(&KeyRange, &u32)> = naive
                            .iter()
                            .filter(|(range, _)| range.contains(&key))
                            .map(|(range, count)| (range, count))
                            .collect();
                        expected.sort_by(|a, b| order(a.0, b.0));
                        prop_assert_eq!(found, expected);
                    }
                }
                sound(&index.root);
                prop_assert_eq!(index.is_empty(), naive.is_empty());
            }
            let count = naive.len();
            prop_assert_eq!(index.take_all().len(), count);
            prop_assert!(index.is_empty());
        }
    }

    #[test]
    fn a_look_among_many_takes_few_steps() {
        let mut index = IntervalIndex::<u32>::default();
        let name = |number: u32| Bytes::from(format!("k{number:06}"));
        // Prefixes, and ranges across a hundred of them.
        for number in 0..10_000 {
            index.change(&KeyRange::prefix(&name(number)), |_| ());
            let end = Some(name(number + 100));
            index.change(&KeyRange { start: name(number), end }, |_| ());
        }
        let depth = usize::from(sound(&index.root));
        // 1.44 times the logarithm of 20,000.
        assert!(depth <= 21, "{depth}");
        for (key, matches) in [(name(5_000), 101), (name(0), 2), ("a".into(), 0), ("z".into(), 0)] {
            let mut found = Vec::new();
            let steps = visit(&index.root, &key, &mut found);
            assert_eq!(found.len(), matches, "{key:?}");
            assert!(steps <= 2 * depth + 3 * matches, "{steps} steps for {matches}");
        }
        for number in 0..10_000 {
            assert!(index.remove(&KeyRange::prefix(&name(number))).is_some());
        }
        assert!(sound(&index.root) <= 20);
    }
}
