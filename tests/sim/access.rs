//! Who may do what, changed all the time: what clients write is admitted by one state of it, and may come to be applied at
//! another. Then it must not be carried out, whoever took it in; the reference and the naive machine look at each command.

use konsen::kv::{
    AccessChange, AccessRevision, FeatureLevel, Grant, KeyRange, Name, Right, Role, Serial, Write,
};
use konsen::raft::RoleName;
use konsen::replica::{Event, Origin, RequestId};

use super::oracle::Broken;
use super::random::Random;
use super::world::{CHANGES, World};

/// A change of some role or user; half of them change something.
fn change(random: &mut Random) -> Option<AccessChange> {
    let name = |random: &mut Random| format!("r{}", random.below(3)).parse::<Name>().ok();
    let grant = Grant {
        range: KeyRange::prefix(format!("k{}", random.below(2)).as_bytes()),
        may: [Right::Read].into(),
    };
    let role = Role { grants: vec![grant], ..Role::default() };
    // Half of them have ended by some moment.
    let serial = Serial::new(&[1 + random.below(4) as u8]).ok()?;
    let (until, now) = (random.below(8), random.below(8));
    Some(match random.below(7) {
        0 => AccessChange::DeleteRole { name: name(random)? },
        1 => AccessChange::PutUser { name: name(random)?, roles: [name(random)?].into() },
        2 => AccessChange::DeleteUser { name: name(random)? },
        3 => AccessChange::TurnOn,
        4 => AccessChange::Revoke { serial, until, now },
        5 => AccessChange::Restore { serial },
        _ => AccessChange::PutRole { name: name(random)?, role },
    })
}

impl World {
    /// By which state of who may do what a host finds a client's write to be allowed.
    pub(super) fn admitted_by(&self, host: usize) -> Option<AccessRevision> {
        self.hosts[host].running.as_ref().map(|running| running.replica.access_revision())
    }

    /// What somebody asks a leader for from time to time.
    pub(super) fn change_access(&mut self, host: usize) -> Result<(), Broken> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let leads = running.replica.summary().role == RoleName::Leader;
        let known = running.replica.level() >= FeatureLevel::ACCESS;
        if self.calm || !self.plan.rights || !leads || !known || !self.chance.rights.chance(300) {
            return Ok(());
        }
        let Some(change) = change(&mut self.chance.rights) else { return Ok(()) };
        self.count("changes of who may do what");
        self.changes += 1;
        let id = RequestId(CHANGES + self.changes);
        let origin = Origin { admitted: self.admitted_by(host), ..Origin::default() };
        self.step(host, Event::Write { id, write: Write::Access(change), origin })
    }
}
