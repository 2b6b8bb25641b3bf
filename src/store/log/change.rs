//! What writes change in the log, one change after the other, as the body of a group of the write-ahead log. Pure.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows;
use crate::raft::{HardState, Index, LogId, LogWrite, Membership, Payload, Term};
use crate::store::error::{self, StoreError};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Term, vote and commit index from here on; with the index 0 that is as it was.
    HardState(HardState),
    /// The log begins anew after that entry, with this membership in force.
    Reset(LogId, Membership),
    /// The entries from that one on are gone.
    Truncate(Index),
    /// The next entry. Where its row is in the body, and the membership that it states, if it does.
    Entry { id: LogId, at: u32, bytes: u32, membership: Option<Membership> },
}

/// The changes of a group, and their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) body: Vec<u8>,
    pub(super) changes: Vec<Change>,
}

const HARD_STATE: u8 = 1;
const RESET: u8 = 2;
const TRUNCATE: u8 = 3;
const ENTRY: u8 = 4;
/// An entry that states a membership.
const MEMBERSHIP: u8 = 5;

/// How many bytes a group has before another one begins; more if its last entry is large.
const GROUP_BYTES: usize = 1 << 20;

/// Makes groups, and uses their memory again: fresh pages cost more than what is put in them.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    row: Vec<u8>,
    /// Bodies of groups that were written.
    spare: Vec<Vec<u8>>,
}

/// How many bodies are kept, and how large.
const SPARE_MAX: usize = 6;
const SPARE_BYTES_MAX: usize = 2 * GROUP_BYTES;

impl Encoder {
    /// The groups that make these writes durable, in order: cut to a size at which the disk is not idle while the next one is
    /// made, and no larger than `bytes_max` unless one entry is. The newest term and vote come first, so that no entry is in the
    /// log before its term, and the commit index last: it may be that of entries which take the place of others.
    pub(super) fn groups(
        &mut self,
        writes: &[LogWrite],
        bytes_max: usize,
    ) -> Result<Vec<Group>, StoreError> {
        let bytes_max = GROUP_BYTES.min(bytes_max.saturating_sub(HARD_STATE_BYTES));
        let mut all = vec![self.group()];
        let newest = writes.iter().rev().find_map(|write| write.hard_state);
        if let Some(newest) = newest {
            let term = HardState { commit: Index(0), ..newest };
            last_of(&mut all).push(HARD_STATE, &term, Change::HardState(term))?;
        }
        for write in writes {
            if let Some((last, membership)) = &write.reset {
                let change = Change::Reset(*last, membership.clone());
                last_of(&mut all).push(RESET, &(*last, membership), change)?;
            }
            if let Some(from) = write.truncate_from {
                last_of(&mut all).push(TRUNCATE, &from, Change::Truncate(from))?;
            }
            for entry in &write.entries {
                rows::encode_entry(entry, &mut self.row)?;
                let group = last_of(&mut all);
                let bytes = group.body.len() + ENTRY_HEAD_BYTES + self.row.len();
                if !group.body.is_empty() && bytes > bytes_max {
                    all.push(self.group());
                }
                let membership = match &entry.payload {
                    Payload::Membership(membership) => Some(membership.clone()),
                    _ => None,
                };
                last_of(&mut all).push_entry(entry.id, &self.row, membership);
            }
        }
        if let Some(newest) = newest {
            last_of(&mut all).push(HARD_STATE, &newest, Change::HardState(newest))?;
        }
        all.retain(|group| !group.changes.is_empty());
        Ok(all)
    }

    fn group(&mut self) -> Group {
        Group { body: self.spare.pop().unwrap_or_default(), changes: Vec::new() }
    }

    /// The body of a group is not needed any more.
    pub(super) fn take_back(&mut self, mut body: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && body.capacity() <= SPARE_BYTES_MAX {
            body.clear();
            self.spare.push(body);
        }
    }
}

fn last_of(groups: &mut Vec<Group>) -> &mut Group {
    if groups.is_empty() {
        groups.push(Group::default());
    }
    let last = groups.len() - 1;
    &mut groups[last]
}

/// What a hard state takes at most.
const HARD_STATE_BYTES: usize = 64;
const LENGTH_BYTES: usize = 4;
const ENTRY_HEAD_BYTES: usize = 1 + 8 + 8 + LENGTH_BYTES;

impl Group {
    fn push(&mut self, kind: u8, value: &impl Serialize, change: Change) -> Result<(), StoreError> {
        self.body.push(kind);
        let at = self.body.len();
        self.body.extend_from_slice(&[0; LENGTH_BYTES]);
        self.body = postcard::to_extend(value, std::mem::take(&mut self.body))
            .map_err(|error| unreadable(&error.to_string()))?;
        let bytes = length_of(&self.body[at + LENGTH_BYTES..])?;
        self.body[at..at + LENGTH_BYTES].copy_from_slice(&bytes.to_le_bytes());
        self.changes.push(change);
        Ok(())
    }

    fn push_entry(&mut self, id: LogId, row: &[u8], membership: Option<Membership>) {
        self.body.push(if membership.is_some() { MEMBERSHIP } else { ENTRY });
        self.body.extend_from_slice(&id.term.0.to_le_bytes());
        self.body.extend_from_slice(&id.index.0.to_le_bytes());
        // A row of 4 GiB is none that a group could hold.
        let bytes = u32::try_from(row.len()).unwrap_or(u32::MAX);
        self.body.extend_from_slice(&bytes.to_le_bytes());
        let at = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        self.body.extend_from_slice(row);
        self.changes.push(Change::Entry { id, at, bytes, membership });
    }
}

fn length_of(bytes: &[u8]) -> Result<u32, StoreError> {
    u32::try_from(bytes.len()).map_err(|_| unreadable("a change of more than 4 GiB"))
}

/// The changes of a group whose bytes were found whole.
pub(super) fn changes_in(body: &[u8]) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::new();
    let mut left = body;
    while let Some((kind, rest)) = left.split_first() {
        left = rest;
        changes.push(match *kind {
            HARD_STATE => Change::HardState(value(&mut left)?),
            RESET => {
                let (last, membership) = value(&mut left)?;
                Change::Reset(last, membership)
            }
            TRUNCATE => Change::Truncate(value(&mut left)?),
            ENTRY | MEMBERSHIP => {
                let id = LogId::new(Term(number(&mut left)?), Index(number(&mut left)?));
                let row = bytes(&mut left)?;
                let at = length_of(&body[..body.len() - left.len() - row.len()])?;
                let bytes = length_of(row)?;
                let membership = match *kind {
                    MEMBERSHIP => match rows::decode(id.index, row)?.payload {
                        Payload::Membership(membership) => Some(membership),
                        _ => return Err(unreadable("an entry is no membership")),
                    },
                    _ => None,
                };
                Change::Entry { id, at, bytes, membership }
            }
            _ => return Err(unreadable("a change of no known kind")),
        });
    }
    Ok(changes)
}

fn take<'a>(left: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], StoreError> {
    let (taken, rest) =
        left.split_at_checked(bytes).ok_or_else(|| unreadable("it is cut short"))?;
    *left = rest;
    Ok(taken)
}

fn number(left: &mut &[u8]) -> Result<u64, StoreError> {
    Ok(take(left, 8)?.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

fn bytes<'a>(left: &mut &'a [u8]) -> Result<&'a [u8], StoreError> {
    let length = take(left, LENGTH_BYTES)?;
    let length = length.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    take(left, length as usize)
}

fn value<T: DeserializeOwned>(left: &mut &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes(left)?).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(why: &str) -> StoreError {
    StoreError::damaged(error::WAL, format!("a group cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::raft::{ClusterId, Entry, NodeId, Seq};

    fn membership(number: u64) -> Membership {
        let voters = [NodeId(number)].into();
        Membership { cluster: ClusterId(number), members: [].into(), voters, outgoing: None }
    }

    fn entry(index: u64, bytes: usize) -> Entry {
        let payload = match index % 3 {
            0 => Payload::Membership(membership(index)),
            _ => Payload::Command("x".repeat(bytes).into()),
        };
        Entry { id: LogId::new(Term(7), Index(index)), payload }
    }

    fn writes(sizes: &[usize]) -> Vec<LogWrite> {
        let hard_state = |commit| HardState { term: Term(7), vote: None, commit: Index(commit) };
        let reset = LogWrite {
            seq: Seq(1),
            hard_state: Some(hard_state(3)),
            reset: Some((LogId::new(Term(6), Index(9)), membership(1))),
            ..LogWrite::default()
        };
        let entries = (10..).zip(sizes).map(|(index, bytes)| entry(index, *bytes)).collect();
        let more = LogWrite {
            seq: Seq(2),
            hard_state: Some(hard_state(9)),
            truncate_from: Some(Index(10)),
            entries,
            ..LogWrite::default()
        };
        vec![reset, more]
    }

    #[test]
    fn changes_come_back_as_they_were() {
        let mut encoder = Encoder::default();
        let groups = encoder.groups(&writes(&[1, 100, 5000, 0]), usize::MAX).unwrap();
        let [group] = &groups[..] else { panic!("{} groups", groups.len()) };
        assert_eq!(changes_in(&group.body).unwrap(), group.changes);
        let [first, .., last] = &group.changes[..] else { panic!("{:?}", group.changes) };
        let hard_state = HardState { term: Term(7), vote: None, commit: Index(9) };
        assert_eq!(*last, Change::HardState(hard_state), "of two the later one");
        assert_eq!(*first, Change::HardState(HardState { commit: Index(0), ..hard_state }));
        for change in &group.changes {
            if let Change::Entry { id, at, bytes, .. } = change {
                assert_eq!(
                    rows::decode(id.index, &group.body[*at as usize..][..*bytes as usize])
                        .unwrap()
                        .id,
                    *id
                );
            }
        }
        for cut in 0..group.body.len() {
            // What ends between two changes is whole.
            if let Ok(changes) = changes_in(&group.body[..cut]) {
                assert_eq!(changes, group.changes[..changes.len()]);
            }
        }
        assert!(changes_in(&[9, 0, 0, 0, 0]).is_err());
        assert!(encoder.groups(&[LogWrite::default()], 100).unwrap().is_empty());
    }

    #[test]
    fn groups_have_a_size_unless_one_entry_is_larger() {
        let writes = writes(&[300, 300, 900, 10, 10, 10, 5000, 10]);
        let mut encoder = Encoder::default();
        let groups = encoder.groups(&writes, 1000).unwrap();
        let sizes: BTreeSet<usize> = groups.iter().map(|group| group.body.len()).collect();
        assert_eq!(sizes.iter().filter(|size| **size > 1000).count(), 1, "{sizes:?}");
        let all: Vec<Change> =
            groups.iter().flat_map(|group| changes_in(&group.body).unwrap()).collect();
        let indexes: Vec<u64> = all
            .iter()
            .filter_map(|change| match change {
                Change::Entry { id, .. } => Some(id.index.0),
                _ => None,
            })
            .collect();
        assert_eq!(indexes, (10..18).collect::<Vec<_>>());
        assert!(
            matches!(groups[0].changes[0], Change::HardState(first) if first.commit == Index(0))
        );
    }
}
