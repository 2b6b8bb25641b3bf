//! What a node does with a command that its release does not know: no run shows it, where nobody ever meets one.

use konsen::kv::{Command, FeatureLevel, Header, Write};
use konsen::raft::{Entry, Index, LogId, Payload, Term};
use konsen::store::{State, StateOptions, StoreError};

use super::direct::Check;
use super::disk::Disk;
use super::features::{NEW, OLD};
use super::oracle::{Broken, ensure};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] =
    &[("UnreadableSkipped", a_node_stops_before_what_it_cannot_read)];

/// What is left of a node of the older release that meets these after a first entry.
fn meets(level: FeatureLevel, write: Write) -> (Result<(), StoreError>, Index) {
    let options = StateOptions { cache_bytes: 1 << 20, highest: OLD, ..StateOptions::default() };
    let state = State::open_backend(Disk::default(), &options).expect("an empty disk");
    let header = Header { level, ..Header::default() };
    let command = Payload::Command(Command { header, write }.encode());
    let entries = [Payload::Noop, command, Payload::Noop];
    let entries = (1..).zip(entries);
    let entries: Vec<Entry> = entries
        .map(|(index, payload)| Entry { id: LogId::new(Term(1), Index(index)), payload })
        .collect();
    let applied = state.apply(&entries[..1]).and_then(|_| state.apply(&entries[1..]));
    (applied.map(drop), state.applied().index)
}

fn a_node_stops_before_what_it_cannot_read() -> Result<(), Broken> {
    let write = || Write::delete(b"a"[..].into());
    let raise = || Write::Raise { level: NEW, release: "0.2.0".to_owned() };
    for (level, write) in [(NEW, write()), (OLD, raise())] {
        let (applied, index) = meets(level, write);
        let stopped = matches!(applied, Err(StoreError::Command { index: Index(2), .. }));
        ensure!(
            stopped && index == Index(1),
            "a node that met what it cannot read is at {index}: {applied:?}"
        );
    }
    let (applied, index) = meets(OLD, write());
    ensure!(applied.is_ok() && index == Index(3), "a node is at {index}: {applied:?}");
    Ok(())
}
