//! What nodes say of their audits: the leader has it kept, for each host and now and then for one that is gone. The reference
//! keeps it once more, by the text of the rules, and holds the records against that after each command.

use std::collections::BTreeMap;

use bytes::Bytes;
use konsen::kv::{
    Anchor, Anchored, Command, FeatureLevel, Header, RecordKey, Write, decode_anchors,
};
use konsen::raft::{Entry, Index, LogId, Payload, RoleName, Term};
use konsen::replica::{Event, Origin, RequestId};

use super::direct::Check;
use super::oracle::{Broken, ensure};
use super::reference::Reference;
use super::world::{CHANGES, World};

/// For how long a place is used, in milliseconds, and how many of them there are: minutes, hours, days.
const PLACES: [(u64, u64); 3] = [(60_000, 60), (3_600_000, 48), (86_400_000, 60)];

/// The anchors that there have to be: by node, kind of place and place.
#[derive(Debug, Default)]
pub(super) struct NaiveAnchors(BTreeMap<(u64, usize, u64), Anchored>);

impl NaiveAnchors {
    /// Follows a write that came at that time, and looks at the records after it.
    pub(super) fn follow(
        &mut self,
        write: &Write,
        clock_ms: u64,
        records: &BTreeMap<RecordKey, Bytes>,
    ) -> Result<(), Broken> {
        match *write {
            Write::Anchor(anchor) => {
                for (kind, (ms, count)) in PLACES.into_iter().enumerate() {
                    let place = (anchor.node, kind, clock_ms / ms % count);
                    self.0.insert(place, Anchored { anchor, clock_ms });
                }
            }
            Write::ForgetAnchors { node } => self.0.retain(|(of, _, _), _| *of != node),
            _ => return Ok(()),
        }
        let (from, to) = RecordKey::anchors();
        let all: Vec<&Bytes> = records.range(from..to).map(|(_, record)| record).collect();
        ensure!(all.len() == self.0.len(), "{} anchors are kept, not {}", all.len(), self.0.len());
        let kept = decode_anchors(all.into_iter()).map_err(|why| Broken(why.to_string()))?;
        for expected in self.0.values() {
            ensure!(kept.contains(expected), "{expected:?} is not kept after {write:?}");
        }
        Ok(())
    }
}

impl World {
    /// What a leader has kept from time to time.
    pub(super) fn anchor_audits(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let leads = running.replica.summary().role == RoleName::Leader;
        let known = running.replica.level() >= FeatureLevel::ACCESS;
        if !leads || !known || !self.chance.anchors.chance(100) {
            return Ok(());
        }
        let of = self.chance.anchors.below(self.hosts.len() as u64) as usize;
        let node = self.hosts[of].id.0;
        let sequence = self.chance.anchors.below(1_000_000);
        let write = match self.chance.anchors.chance(100) {
            true => Write::ForgetAnchors { node },
            false => Write::Anchor(Anchor { node, sequence, hash: [of as u8; 32], at_s: sequence }),
        };
        self.count("anchors of audits");
        self.changes += 1;
        let id = RequestId(CHANGES + self.changes);
        self.step(host, Event::Write { id, write, origin: Origin::default() })
    }
}

/// The checks that find a mistake, by its name: no run lasts for days.
pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("AnchorAtAnOldClock", anchors_are_kept_by_the_clusters_clock),
    ("AnchorPlacesShared", anchors_are_kept_by_the_clusters_clock),
    ("AnchorsOutliveTheirNode", anchors_are_kept_by_the_clusters_clock),
];

/// Months of anchors, of two nodes, with commands that bring an older clock, and of which one goes.
fn anchors_are_kept_by_the_clusters_clock() -> Result<(), Broken> {
    let mut reference = Reference::default();
    let (mut index, mut now) = (0, 0);
    let mut apply = |write: Write, clock_ms: u64| {
        let header = Header { level: FeatureLevel::ACCESS, clock_ms, ..Header::default() };
        let payload = Payload::Command(Command { header, write }.encode());
        index += 1;
        reference.apply(&Entry { id: LogId::new(Term(1), Index(index)), payload })
    };
    for (ms, count) in PLACES {
        for number in 0..2 * count + 3 {
            now += ms;
            for node in [1, 2] {
                let anchor = Anchor { node, sequence: now, hash: [number as u8; 32], at_s: number };
                apply(Write::Anchor(anchor), now)?;
                // A leader that was behind.
                apply(Write::Anchor(Anchor { sequence: now + 1, ..anchor }), now - ms)?;
            }
        }
    }
    apply(Write::ForgetAnchors { node: 1 }, now)
}
