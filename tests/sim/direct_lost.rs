//! Mistakes in how the core goes on after a loss which others make up for, only later: one node, driven by hand.

use konsen::raft::{Body, Config, Index, Input, NodeId, ReadId};

use super::direct::{Check, hear, node_of, settle};
use super::oracle::{Broken, ensure};

/// The checks that find a mistake, by its name.
pub(crate) const CHECKS: &[(&str, Check)] =
    &[("LostQuestionWaits", a_question_that_is_lost_is_asked_again)];

fn a_question_that_is_lost_is_asked_again() -> Result<(), Broken> {
    let config = Config::new(NodeId(1), 7);
    let (heartbeat, election) = (config.heartbeat_ticks, config.election_ticks);
    let mut node = node_of(config, &[1, 1], false);
    hear(&mut node, 2, 1, Body::Heartbeat { commit: Index(0), round: 1 });
    node.step(Input::Read { id: ReadId(1), lease: false });
    let mut asked = Vec::new();
    for tick in 0..election {
        let sent = settle(&mut node).send;
        let names = sent.iter().filter_map(|message| match message.body {
            Body::ReadIndex { id, .. } => Some((tick, id)),
            _ => None,
        });
        asked.extend(names);
        node.step(Input::Tick);
    }
    ensure!(
        matches!(asked[..], [(0, first), (again, second), ..]
            if first == second && again <= 3 * heartbeat),
        "a question that nobody answers is asked at the ticks {asked:?} of {election}"
    );
    Ok(())
}
