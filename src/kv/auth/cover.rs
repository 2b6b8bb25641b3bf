//! Whether ranges cover another: by sorted ranges without gaps between what touches.

use bytes::Bytes;

use super::super::range::{KeyRange, successor};

/// Ranges of keys, put together: sorted, no two of them touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cover {
    ranges: Vec<KeyRange>,
}

impl Cover {
    pub(super) fn of<'a>(ranges: impl Iterator<Item = &'a KeyRange>) -> Cover {
        let mut sorted: Vec<KeyRange> = ranges.filter(|range| !range.is_empty()).cloned().collect();
        sorted.sort_by(|one, other| one.start.cmp(&other.start));
        let mut ranges: Vec<KeyRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match ranges.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| *end >= range.start) => {
                    last.end = match (last.end.take(), range.end) {
                        (Some(one), Some(other)) => Some(one.max(other)),
                        _ => None,
                    };
                }
                _ => ranges.push(range),
            }
        }
        Cover { ranges }
    }

    /// How far all keys from this one on are covered; none if it itself is not.
    fn reach(&self, key: &[u8]) -> Option<&KeyRange> {
        let after = self.ranges.partition_point(|range| range.start[..] <= *key);
        let range = &self.ranges[after.checked_sub(1)?];
        range.contains(key).then_some(range)
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.reach(key).is_some()
    }
}

/// Whether the covers together have every key of a range, be it empty or not.
pub(super) fn have_all(covers: &[&Cover], range: &KeyRange) -> bool {
    // What holds no key still tells where its ends are: it has to begin within.
    let end = match &range.end {
        Some(end) if *end <= range.start => Some(successor(&range.start)),
        Some(end) => Some(Bytes::copy_from_slice(end)),
        None => None,
    };
    let mut at = range.start.clone();
    loop {
        let reached = covers.iter().filter_map(|cover| cover.reach(&at).map(|range| &range.end));
        // No end is the furthest.
        let furthest = reached.max_by(|one, other| match (one, other) {
            (Some(one), Some(other)) => one.cmp(other),
            (one, other) => one.is_none().cmp(&other.is_none()),
        });
        match (furthest, &end) {
            (None, _) => return false,
            (Some(None), _) => return true,
            (Some(Some(reached)), Some(end)) if reached >= end => return true,
            (Some(Some(reached)), _) => at = reached.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: Option<&str>) -> KeyRange {
        KeyRange { start: start.to_owned().into(), end: end.map(|end| end.to_owned().into()) }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let all = [
            range("c", Some("d")),
            range("a", Some("b")),
            range("b", Some("c")),
            range("x", Some("x")),
            range("f", None),
            range("g", Some("h")),
        ];
        let cover = Cover::of(all.iter());
        assert_eq!(cover.ranges, [range("a", Some("d")), range("f", None)]);
        assert!(cover.has(b"a") && cover.has(b"c\xff") && cover.has(b"zzz"));
        assert!(!cover.has(b"d") && !cover.has(b"") && !cover.has(b"ez"));
    }

    #[test]
    fn an_open_range_needs_an_open_one() {
        let app = Cover::of([range("app/", Some("app0"))].iter());
        let rest = Cover::of([range("app0", None)].iter());
        // A watch from a key on would show all later keys.
        assert!(!have_all(&[&app], &range("app/1", None)));
        assert!(have_all(&[&app, &rest], &range("app/1", None)));
        assert!(have_all(&[&rest, &app], &range("app/", Some("b"))));
        assert!(!have_all(&[&rest, &app], &range("app", Some("b"))));
        assert!(!have_all(&[], &range("a", Some("a"))));
        assert!(have_all(&[&app], &range("app/x", Some("app/x"))), "nothing, but within");
        assert!(!have_all(&[&app], &range("b", Some("a"))));
    }

    #[test]
    fn what_covers_say_is_what_each_key_says() {
        // Every set of ranges over four letters, in two covers, against every range.
        let ends = [Some("a"), Some("b"), Some("c"), Some("d"), None];
        let letters = ["a", "b", "c", "d"];
        let mut every = Vec::new();
        for start in letters {
            every.extend(ends.map(|end| range(start, end)));
        }
        for one in &every {
            for other in &every {
                let (first, second) =
                    (Cover::of([one].into_iter()), Cover::of([other].into_iter()));
                for asked in every.iter().filter(|range| !range.is_empty()) {
                    let keys = ["a", "a\0", "b", "bz", "c", "c!", "d", "zz", "\u{7f}"];
                    let within =
                        |key: &&str| one.contains(key.as_bytes()) || other.contains(key.as_bytes());
                    let all = keys.iter().filter(|key| asked.contains(key.as_bytes())).all(within);
                    let said = have_all(&[&first, &second], asked);
                    // The keys are one of each gap, so they speak for all.
                    assert_eq!(said, all, "{one:?} {other:?} {asked:?}");
                }
            }
        }
    }
}
