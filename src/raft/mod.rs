//! The protocol: Raft, after "In Search of an Understandable Consensus Algorithm" (Ongaro and
//! Ousterhout 2014, "the paper") and Ongaro's dissertation ("the thesis").
//!
//! Pure: no clock, disk, network, async or randomness of its own. A [`Node`] takes one [`Input`] by
//! [`Node::step`] and leaves what it wants done to be collected by [`Node::take_output`]. Time is
//! [`Input::Tick`], chance comes from [`Config::seed`]. The same inputs give the same outputs, so a
//! simulator can replay any run.
//!
//! # The protocol in short
//!
//! A cluster agrees on one log of entries. Time is divided into terms (section 5.1); each term has at
//! most one leader, and only it appends. An entry is *committed* once a quorum holds it durably; then
//! no later leader can lack it, and the state machines may apply it, all in the same order.
//!
//! **Election** (5.2). A [follower](RoleName::Follower) that hears no leader for a random time-out
//! asks the other voters whether they would elect it ([`Body::PreVote`], thesis 9.6). They say yes
//! only if they hear no leader either and its log is no older than theirs (5.4.1: compared by the term
//! of the last entry, then by length, as [`LogId`] orders). Given a quorum, it enters a new term,
//! votes for itself and asks for votes. A voter votes once a term. A quorum of votes makes it leader.
//! The pre-vote keeps a node that returns from isolation from deposing a leader that works; and for
//! the same reason a voter that heard its leader within the shortest time-out ignores candidates
//! (thesis 4.2.3), unless the leader itself asked for the election. Time-outs are random so that a
//! split vote ends (5.2). Answers are waited for half as long as a leader, which is long for whoever answers at all, and who has
//! not answered a pre-vote is asked once more soon after, since a voter may have heard the leader a moment later; the
//! time for votes begins once the own one is durable, and doubles when votes come too late, so that disks and ways that
//! are slower than the time-outs end in an election all the same.
//!
//! **Replication** (5.3). The leader sends entries with the [`LogId`] right before them. A follower
//! that holds that one cuts off what contradicts, appends the rest, and acknowledges once it is
//! durable. Otherwise it refuses with a hint, by which both skip a term at a time. The leader keeps a
//! progress for each peer: it *probes* with one append until it knows where the logs meet, and sends that again, with one
//! entry, for each heartbeat that is answered where the append is not; then it *replicates* ahead of the answers within a
//! window bounded in appends and bytes; a peer whose next entry is gone is offered a *snapshot* (section 7). Losses are found out when heartbeats are
//! answered.
//!
//! **Commit** (5.4.2). The leader commits what a quorum holds durably, itself included only as far as
//! its own disk says, and only by counting an entry of its own term: an older one on a majority can
//! still be overwritten (figure 8). So a new leader begins its term with a no-op.
//!
//! **Reads** (section 8, thesis 6.4). A read needs no entry: the leader notes its commit index, makes
//! sure by a round of heartbeats that began after the read arrived that it still leads, and releases
//! the read at that index. Reads share rounds. A follower asks the leader for the index and reads its
//! own state; it asks again every two heartbeats, by the same name, until it is answered or gives up after an election
//! time-out. A new leader waits until it has committed in its own term. A read that trusts clocks is
//! released without a round while the leader's lease holds; the file `lease` says why it may.
//!
//! **A leader that is cut off** steps down when no quorum answered for an election time-out (thesis
//! 6.2), so its clients do not wait for ever.
//!
//! **Membership** (section 6, joint consensus). A membership is an entry, in force as soon as it is in
//! the log and undone if it is cut off. When the voters change, a joint one comes first, which needs a
//! quorum of both sets; when that commits the leader appends the final one; when that commits, a
//! leader that is not in it hands over. Changes come one at a time, and none before the leader has
//! committed in its own term. An outgoing voter leaves the members; it does not become a learner.
//! Learners get the log and have no say. A cluster is founded by [`Input::Found`]; until a node has a
//! membership it never stands, takes the log from any leader, and votes when asked by its own id.
//!
//! **Strangers.** What a non-member says is dropped before it can change anything, its term included,
//! with two exceptions, since a node may lag behind the membership. While it hears no leader, a node
//! listens to a leader that it does not know; and then it answers a candidate that it does not know,
//! if the candidate's log is no older than its own, or if it has no vote itself. Without the second
//! one, voters that lag could never elect the one that knows the newest membership.
//!
//! **Transfer** (thesis 3.10). The leader stops taking proposals, completes the receiver's log, and
//! tells it to stand at once. After an election time-out without success it goes on leading.
//!
//! # What is durable when
//!
//! Disks are slow, so the core never waits for one; it waits for the *end* of a write. Each
//! [`LogWrite`] has a number; [`Input::Persisted`] tells that it, and all before it, are durable.
//! Whoever runs the core has this one duty. Messages may leave at once, in any order, because the core
//! holds back whatever is not yet true:
//!
//! - No message leaves in a term that is not durable; no vote before the vote is; no request for votes
//!   before the log that it advertises is.
//! - A follower acknowledges an entry only once it is durable, and only in the term that sent it.
//! - A candidate counts its own vote, and a leader its own log, only once they are durable. Meanwhile
//!   its appends are on their way: the disks of all nodes work at the same time.
//! - A write that ends late vouches only for what still stands: a truncation lowers the mark of each
//!   write under way, so an old one never acknowledges a newer entry at the same index.
//! - [`Output::commit`] says what is committed *and* durable here, so a checkpoint of the state machine
//!   never runs ahead of the log beside it.
//!
//! All that waits for the disk between two outputs is one write, all that is proposed is one append a
//! peer: batches form by themselves under load.
//!
//! # What cannot be
//!
//! What the protocol rules out and is seen all the same is [`Broken`]: [`Output::fatal`] says what was seen, and from then
//! on the node takes no input and says nothing else.
//!
//! # The files
//!
//! `node` routes and moves between roles, `view` shows it to the outside; `follower`, `candidate`,
//! `leader` are the roles, each with only its own fields; `replication` and `change` are what a leader
//! does for its log and its membership, `reads` and `lease` how it reads; `core` is what all roles share;
//! `log`, `progress`, `timer` are parts that know nothing of roles; `founding` is how a cluster comes to its first
//! entry; the rest are the types of the interface.

mod broken;
mod candidate;
mod change;
mod core;
mod entry;
mod follower;
pub mod founding;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod id;
mod io;
mod leader;
mod lease;
mod log;
mod membership;
mod message;
mod node;
mod progress;
mod publish;
mod reads;
mod replication;
mod sound;
mod timer;
mod transition;
mod view;

pub use broken::{Broken, Doubt};
pub use entry::{Entry, HardState, Payload};
pub use id::{Index, LogId, Moment, NodeId, ProposalId, ReadId, Seq, Term};
pub use io::{
    Config, Fetch, Input, LogWrite, Output, ReadRounds, Recovered, Refused, RoleName, SoftState,
};
pub use membership::{ClusterId, Member, Membership};
pub use message::{Body, Message};
pub use node::Node;
pub use progress::PeerProgress;
pub use view::Load;
