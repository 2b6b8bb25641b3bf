//! What is recorded of a request: who asked, from where, for what, of which keys, and what came of it. Never a value, and
//! never what somebody proved by who they are.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

/// How many keys, ranges and names a record has; of others it says how many there were.
pub(super) const TARGETS_MAX: usize = 16;
/// How many bytes these have together: a range of two of the longest keys.
pub const TARGET_BYTES_MAX: usize = 8192;

/// A request, once it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was answered, by this host's clock.
    pub time: SystemTime,
    /// What it was.
    pub action: Action,
    /// Its method; empty where a peer passed it on.
    pub method: &'static str,
    /// Who asked.
    pub who: Who,
    /// The address that it came from; none where that is not known.
    pub from: Option<IpAddr>,
    /// The node that passed it on to this one, if one did.
    pub via: Option<Arc<str>>,
    /// Of what.
    pub targets: Targets,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether another node carried it out.
    pub passed_on: bool,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Somebody who said nothing of who they are.
    Anonymous,
    /// Somebody who proved it.
    Known {
        /// The name.
        name: Arc<str>,
        /// How: `certificate`, `token`, `basic`.
        how: &'static str,
    },
    /// Somebody who tried to, in vain.
    Unknown {
        /// Why not, as the names of problems are written.
        why: &'static str,
    },
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the answer; none where the client left before there was one, or a peer gives it.
    pub status: Option<u16>,
    /// What came of what a peer passed on: `carried-out`, `not-applied`, `unknown` or `forbidden`.
    pub fate: Option<&'static str>,
    /// The name of the problem, if it is one.
    pub problem: Option<&'static str>,
    /// The store's revision that the answer tells.
    pub revision: Option<u64>,
}

/// What kind of request it is: what is refused when it cannot be recorded, and what is durable before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reads data; recorded where `audit.reads` says so.
    Read,
    /// Tells how the node or the cluster is; recorded likewise, and never refused for want of a record.
    Status,
    /// Changes data.
    Write,
    /// Changes the cluster or who may do what, or takes all data at once. Durable before it is answered.
    Administration,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal, $class:ident;)*) => {
        /// What a request does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action { $($(#[$doc])* $action,)* }

        impl Action {
            /// All of them.
            pub const ALL: &[Action] = &[$(Action::$action,)*];

            /// Its name in records.
            pub fn name(self) -> &'static str {
                match self { $(Action::$action => $name,)* }
            }

            /// What kind of request it is.
            pub fn class(self) -> Class {
                match self { $(Action::$action => Class::$class,)* }
            }
        }
    };
}

actions! {
    /// Reads a key.
    Get = "get", Read;
    /// Waits for a change of a key.
    Watch = "watch", Read;
    /// Lists keys.
    Range = "range", Read;
    /// Sets keys.
    Put = "put", Write;
    /// Deletes a key.
    Delete = "delete", Write;
    /// Deletes a range.
    DeleteRange = "delete-range", Write;
    /// A transaction, be it one that only reads.
    Txn = "txn", Write;
    /// Asks how the node or the cluster is.
    Status = "status", Status;
    /// Asks for the anchors of audits.
    AuditRead = "audit-read", Status;
    /// Asks who may do what.
    AuthRead = "auth-read", Status;
    /// Anything at a path that there is not.
    Unknown = "unknown", Read;
    /// Gives up the past.
    Compact = "compact", Administration;
    /// Takes a backup.
    Backup = "backup", Administration;
    /// Hands leadership over.
    Leader = "leader", Administration;
    /// Takes a host in.
    MemberAdd = "member-add", Administration;
    /// Puts a member out.
    MemberRemove = "member-remove", Administration;
    /// Gives a learner a vote.
    MemberPromote = "member-promote", Administration;
    /// Puts another host in a member's place.
    MemberReplace = "member-replace", Administration;
    /// Has a member renew its certificate.
    MemberRenew = "member-renew", Administration;
    /// Undoes a change of the members.
    MemberUndo = "member-undo", Administration;
    /// Changes who may do what.
    AuthChange = "auth-change", Administration;
}

/// Something that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A key.
    Key(Bytes),
    /// The keys from one on and before another.
    Range {
        /// The first; empty: from the beginning.
        start: Bytes,
        /// The first one after it; none: to the end.
        end: Option<Bytes>,
    },
    /// A member, a user, a role, a revision.
    Name(String),
}

impl Target {
    /// The same with no more than so many bytes of each of its keys.
    pub fn shortened(self, bytes_max: usize) -> Target {
        let short = |bytes: Bytes| bytes.slice(..bytes.len().min(bytes_max));
        match self {
            Target::Key(key) => Target::Key(short(key)),
            Target::Range { start, end } => {
                Target::Range { start: short(start), end: end.map(short) }
            }
            Target::Name(name) => Target::Name(name.chars().take(bytes_max).collect()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Target::Key(key) => key.len(),
            Target::Range { start, end } => start.len() + end.as_ref().map_or(0, Bytes::len),
            Target::Name(name) => name.len(),
        }
    }
}

/// The first things that a request is about, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    first: Vec<Target>,
    more: u64,
    bytes: usize,
}

impl Targets {
    /// One.
    pub fn one(target: Target) -> Targets {
        let mut targets = Targets::default();
        targets.add(target);
        targets
    }

    /// One more. The first has room whatever else there is, unless it is longer than anything that exists.
    pub fn add(&mut self, target: Target) {
        let bytes = target.bytes();
        let fits = match self.first.len() {
            0 => bytes <= TARGET_BYTES_MAX,
            TARGETS_MAX.. => false,
            _ => self.bytes + bytes <= TARGET_BYTES_MAX,
        };
        if fits && self.more == 0 {
            self.bytes += bytes;
            self.first.push(target);
        } else {
            self.more += 1;
        }
    }

    /// What they take in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those that a record has.
    pub fn first(&self) -> &[Target] {
        &self.first
    }

    /// How many others there were.
    pub fn more(&self) -> u64 {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_record_has_a_bounded_number_of_targets_and_says_how_many_more_there_were() {
        let mut targets = Targets::default();
        (0..100).for_each(|number| targets.add(Target::Name(format!("{number}"))));
        assert_eq!((targets.first().len(), targets.more()), (TARGETS_MAX, 84));
        let long = || Target::Key(Bytes::from(vec![b'x'; TARGET_BYTES_MAX]));
        let mut targets = Targets::one(long());
        targets.add(Target::Key(Bytes::from_static(b"y")));
        assert_eq!((targets.first().len(), targets.more()), (1, 1), "no more bytes than that");
    }

    #[test]
    fn each_action_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Action::ALL.iter().map(|action| action.name()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
