//! What a leader records of what peers pass on to it: so that a node which was taken over has nothing changed by the leader
//! that no audit has. Where there is no room for a record it is counted as missing, and the peer's client is not refused: it
//! is that peer which answers for its clients.

use std::time::SystemTime;

use super::handle::Handle;
use super::wire::{ChangeOutcome, Operation};
use crate::api::{self, Caller};
use crate::audit::{Action, Outcome, Record, Room, Target, Targets, Who};
use crate::cluster::Change;
use crate::kv::{Op, Over, Put, Reply, Txn, Write};
use crate::raft::NodeId;
use crate::replica::forwarding::{Cause, Fate};

/// A request that a peer passed on, to be recorded once it is known what came of it.
#[derive(Debug)]
pub(super) struct PassedIn {
    room: Room,
    record: Record,
}

impl PassedIn {
    /// A write; none if nothing is recorded.
    pub(super) fn write(
        handle: &Handle,
        from: NodeId,
        caller: &Caller,
        write: &Write,
    ) -> Option<PassedIn> {
        PassedIn::begin(handle, from, caller, || match write {
            Write::Txn { txn, .. } => of_txn(txn),
            Write::DeleteStep { range, .. } => {
                (Action::DeleteRange, Targets::one(of(&Over::Range(range.clone()))))
            }
            Write::Compact { revision } => {
                (Action::Compact, Targets::one(Target::Name(revision.to_string())))
            }
            Write::Access(_) => (Action::AuthChange, Targets::default()),
            // What nobody may ask for.
            _ => (Action::Unknown, Targets::default()),
        })
    }

    /// A change of the members.
    pub(super) fn operation(
        handle: &Handle,
        from: NodeId,
        caller: &Caller,
        operation: &Operation,
    ) -> Option<PassedIn> {
        PassedIn::begin(handle, from, caller, || {
            let (action, name) = match operation {
                Operation::Undo => return (Action::MemberUndo, Targets::default()),
                Operation::Change(Change::Add { name, .. }) => (Action::MemberAdd, name),
                Operation::Change(Change::Remove { name }) => (Action::MemberRemove, name),
                Operation::Change(Change::Promote { name }) => (Action::MemberPromote, name),
                Operation::Change(Change::Replace { name, .. }) => (Action::MemberReplace, name),
            };
            (action, Targets::one(Target::Name(name.clone())))
        })
    }

    /// That leadership be handed over.
    pub(super) fn transfer(handle: &Handle, from: NodeId, caller: &Caller) -> Option<PassedIn> {
        PassedIn::begin(handle, from, caller, || (Action::Leader, Targets::default()))
    }

    fn begin(
        handle: &Handle,
        from: NodeId,
        caller: &Caller,
        what: impl FnOnce() -> (Action, Targets),
    ) -> Option<PassedIn> {
        let audit = handle.audit()?;
        let (action, targets) = what();
        let Ok(room) = audit.take_room(action.class(), targets.bytes()) else {
            audit.lacks_one();
            return None;
        };
        let name = |id: NodeId| handle.name_of(id).unwrap_or_else(|| id.to_string());
        let who = match caller {
            Caller::Anybody => Who::Anonymous,
            Caller::User { name, .. } => Who::Known { name: name.as_str().into(), how: "peer" },
            Caller::Node { name, .. } => Who::Known { name: name.as_str().into(), how: "peer" },
        };
        let record = Record {
            time: SystemTime::now(),
            action,
            method: "",
            who,
            from: None,
            via: Some(name(from).into()),
            targets,
            outcome: Outcome::default(),
            passed_on: false,
        };
        room.map(|room| PassedIn { room, record })
    }

    /// What came of it.
    pub(super) fn end(self, fate: &'static str, revision: Option<u64>) {
        let PassedIn { room, mut record } = self;
        record.time = SystemTime::now();
        record.outcome = Outcome { fate: Some(fate), revision, ..Outcome::default() };
        room.record(record);
    }

    /// What came of a write.
    pub(super) fn written(self, written: &Result<Reply, Fate>) {
        match written {
            Ok(reply) => self.end("carried-out", Some(reply.revision.0)),
            Err(Fate::NotApplied(Cause::Forbidden)) => self.end("forbidden", None),
            Err(Fate::NotApplied(_) | Fate::Again) => self.end("not-applied", None),
            Err(Fate::Unknown) => self.end("unknown", None),
        }
    }
}

/// What came of a change of the members.
pub(super) fn fate_of(outcome: &ChangeOutcome) -> &'static str {
    match outcome {
        ChangeOutcome::Done(_) => "carried-out",
        ChangeOutcome::Not(error) if error.kind().outcome() == api::Outcome::Unknown => "unknown",
        ChangeOutcome::NotLeader | ChangeOutcome::Not(_) => "not-applied",
    }
}

fn of(over: &Over) -> Target {
    match over {
        Over::Key(key) => Target::Key(key.clone()),
        Over::Range(range) => Target::Range { start: range.start.clone(), end: range.end.clone() },
    }
}

/// A transaction, as what a client most likely asked for.
fn of_txn(txn: &Txn) -> (Action, Targets) {
    let mut targets = Targets::default();
    let action = match &txn.then[..] {
        [Op::Put(_)] => Action::Put,
        [Op::Delete(Over::Key(_))] => Action::Delete,
        [Op::Delete(Over::Range(_))] => Action::DeleteRange,
        _ => Action::Txn,
    };
    // The conditions of a single operation name its own key.
    if action == Action::Txn {
        txn.for_each_compare(&mut |compare| targets.add(of(&compare.over)));
    }
    let mut add = |op: &Op| match op {
        Op::Put(Put { key, .. }) => targets.add(Target::Key(key.clone())),
        Op::Delete(over) | Op::Get(over) => targets.add(of(over)),
        Op::Txn(_) => {}
    };
    match action {
        Action::Txn => txn.for_each_op(&mut |op| add(op)),
        _ => txn.then.iter().for_each(add),
    }
    (action, targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Condition, Matcher};

    #[test]
    fn a_write_that_was_passed_on_is_told_as_what_a_client_asked_for() {
        let key = |key: &'static str| Target::Key(key.into());
        let told = |write: &Write| match write {
            Write::Txn { txn, .. } => of_txn(txn),
            _ => unreachable!(),
        };
        let condition = Condition { if_match: Some(Matcher::Any), ..Condition::default() };
        let put = Write::put_if(Put::new("a".into(), "secret".into()), condition);
        assert_eq!(told(&put), (Action::Put, Targets::one(key("a"))));
        assert_eq!(told(&Write::delete("a".into())), (Action::Delete, Targets::one(key("a"))));
        let (action, targets) =
            told(&Write::put_many(vec![("a".into(), "1".into()), ("b".into(), "2".into())]));
        assert_eq!((action, targets.first()), (Action::Txn, &[key("a"), key("b")][..]));
    }
}
