//! Planted mistakes, for the tests to find. Without the feature `mutants`, which no build for use has,
//! none can be switched on and the questions below cost nothing.
#![cfg_attr(not(feature = "mutants"), allow(unreachable_pub))]

/// Whether the mistake is planted in this thread.
#[cfg(feature = "mutants")]
pub fn on(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether the mistake is planted: it is not.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake in this thread, or takes the last one out.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

macro_rules! mutants {
    ($($(#[doc = $mistake:literal])+ $name:ident,)*) => {
        /// A mistake that somebody could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(feature = "mutants"), allow(unreachable_pub))]
        pub enum Mutant {
            $($(#[doc = $mistake])+ $name,)*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)*];

            /// What is done wrong.
            pub fn mistake(self) -> &'static str {
                match self {
                    $(Mutant::$name => concat!($($mistake),+).trim_ascii(),)*
                }
            }
        }
    };
}

mutants! {
    // Terms and votes.
    /// A message leaves before the term and vote that it rests on are durable.
    SpeakBeforeDurable,
    /// The vote is left out of what is written.
    ForgetVote,
    /// A vote is given without being written.
    VoteUnwritten,
    /// A newer term is entered without being written.
    TermUnwritten,
    /// A candidate counts its own vote before it is durable.
    OwnVoteEarly,
    /// A candidate gives up before its own vote is durable, and anybody was asked.
    BallotOverUnasked,
    /// A candidate waits no longer though votes come too late again and again.
    LateVotesIgnored,
    /// A refused vote counts as a grant.
    RefusalCounts,
    /// A vote is given whatever the candidate's log is.
    VoteAnyLog,
    /// Logs are compared by their length only.
    VoteByLength,
    /// Logs are compared by their last term only.
    VoteByTerm,
    /// A second vote is given in a term.
    VoteTwice,
    /// What was said in an older term is taken as if said in this one.
    OldTermHeard,
    /// A leader that hears of a newer term goes on leading.
    LeaderStays,
    /// A leader that reaches no quorum goes on leading.
    NoQuorumCheck,
    /// A question for a pre-vote changes the term.
    PreVoteEntersTerm,
    /// A pre-vote is given although the leader lives.
    PreVoteAgainstLeader,
    /// A stranger's message is taken as a member's.
    StrangerHeard,
    // The log.
    /// A commit index is taken beyond what the append made sure of.
    CommitBeyondAppend,
    /// A late append that ends before the log does cuts off the rest.
    CutOnLateAppend,
    /// An append is acknowledged before it is durable.
    AckBeforeDurable,
    /// A follower acknowledges what its leader never compared.
    AckUnverified,
    /// An append is taken although the entry before it differs.
    PrevUnchecked,
    /// A heartbeat tells a follower to commit what it may not have.
    HeartbeatCommitsAll,
    /// A leader never steps back after a rejection.
    HintIgnored,
    /// A leader lets an old acknowledgement move its mark back.
    MatchGoesBack,
    /// A leader believes that what it sent has arrived.
    MatchOnSend,
    /// A leader counts its own log before it is durable.
    OwnLogEarly,
    /// A leader commits an older term's entry by counting.
    OldTermCounted,
    /// Half of the voters is taken for a majority in a commit.
    HalfCommits,
    /// Half of the voters is taken for a majority in an election.
    HalfElects,
    /// The end of an old write vouches for a newer entry at the same index.
    OldWriteVouches,
    /// A checkpoint is written before the log under it is durable.
    CheckpointBeforeLog,
    /// A truncation in memory is not carried to the disk.
    CutForgotten,
    /// Writes are taken in without a bound.
    NoUncommittedBound,
    /// Appends are sent without a bound.
    NoWindow,
    // Reads.
    /// A read is answered without a round.
    ReadWithoutRound,
    /// An acknowledgement of an older round counts for a newer one.
    OldRoundCounts,
    /// A read joins the round that is already out.
    JoinRound,
    /// A new leader answers reads before it has committed in its term.
    ReadBeforeOwnCommit,
    /// A follower takes any answer of its leader for the one to its question.
    AnyReadAnswer,
    /// A follower answers reads by itself.
    FollowerReadsAlone,
    /// A read is released before its index is applied.
    ReadBeforeApplied,
    // Leases.
    /// A lease counts from the newest heartbeat, answered or not.
    LeaseFromNewestRound,
    /// A lease lasts for several election time-outs.
    LeaseTooLong,
    /// A lease goes on after leadership was offered to another.
    LeaseOutlivesTransfer,
    /// A voter that was restarted does not guard the leader it may have heard.
    RestartedVoterForgets,
    /// A voter gives its vote away although it hears its leader.
    VoteAgainstLeader,
    // Membership.
    /// A change begins before the leader has committed in its term.
    ChangeBeforeOwnCommit,
    /// A change begins while another is under way.
    TwoChanges,
    /// Voters change without a joint phase.
    NoJointPhase,
    /// The joint phase ends before it is committed.
    JointEndsEarly,
    /// In the joint phase a majority of the new voters commits.
    JointCommitsByHalf,
    /// In the joint phase a majority of the new voters elects.
    JointElectsByHalf,
    /// A membership is in force only once it is committed.
    MembershipAtCommit,
    /// A membership stays in force although its entry was cut off.
    MembershipNotUndone,
    /// A leader that was removed goes on leading.
    RemovedLeaderStays,
    /// Voters that are put out are not listened to before that is decided.
    OutgoingUnheard,
    /// A change is undone by a leader that does not know yet whether it was decided.
    UndoneUnestablished,
    /// A member that answers is replaced without being forced.
    LiveReplaced,
    /// Voters that answer are put out although another is awaited.
    AwaitedForgotten,
    /// A change is made although the voters of one side cannot be reached.
    QuorumUnchecked,
    /// A node that lags learns nothing of a newer membership.
    NothingLearnt,
    /// A membership that is not decided outweighs a newer one that is, since it stands further on in the log.
    UndecidedOutweighs,
    /// A leader whose change does not come through leaves its place rather than undoing it.
    ChangeNotUndone,
    /// A host is taken in with its two addresses swapped.
    AddressesSwapped,
    /// A host that is to stay a learner is given a vote.
    LearnerPromoted,
    /// Addresses that members have swapped are not learnt.
    SwapNotLearnt,
    /// Voters that are put out are cut off before that is decided.
    OutgoingCutOff,
    /// Where a peer says that it listens is not tried.
    SaidAddressIgnored,
    /// Where a peer was heard from is not tried.
    HeardAddressIgnored,
    /// A node of another cluster is let in.
    OtherClusterLetIn,
    /// Two hosts are let in in the place that is kept for one.
    SeatShared,
    /// A node takes itself for removed while the change is under way.
    RemovedWhileJoint,
    /// A node takes itself for removed when a single voter says so.
    OneDisownerSuffices,
    /// Who was put out is taken back when another is to come under its name.
    PutOutForgotten,
    /// A node that was put out goes by what an older term has left in its log.
    LeftoversCount,
    /// What is said about another cluster's members puts a node out.
    OtherClusterDisowns,
    /// Who was put out is let in again in the place of its successor.
    ReplacedAdmitted,
    /// Who is said to differ from the majority stops without looking.
    AccusationBelieved,
    /// Who is to join a cluster founds one.
    JoinerFounds,
    /// A node that belongs to a cluster lets another found one.
    GrantedThoughBorn,
    /// A node lets one found the cluster whom another has overtaken.
    PromiseForgotten,
    /// A founder does not mind that another may have been chosen.
    GrantsForgotten,
    /// The promises and grants of half of the nodes suffice to found a cluster.
    HalfFounds,
    /// The log after a snapshot that is on its way is cut off.
    HoldsForgotten,
    /// A write that a snapshot came over is taken for one that went nowhere.
    SupersededAgain,
    /// A write that was passed on and not answered is passed on again.
    UnansweredAgain,
    /// The past is given up long before its time.
    PastGivenUpEarly,
    /// A leader whose disk does not answer goes on leading.
    SlowDiskIgnored,
    /// What is said in another cluster is taken as if said in this one.
    ClustersMix,
    // Requests.
    /// A write is refused and taken into the log.
    RefusedAndTaken,
    /// A write is answered with what another entry at its index did.
    AnswerOfAnother,
    // The state machine.
    /// A command is applied twice.
    ApplyTwice,
    /// A write's condition is ignored.
    ConditionIgnored,
    /// `If-Match: *` holds for a key that does not exist.
    MatchesAbsent,
    /// A write is answered with the revision before it.
    RevisionBefore,
    /// A deleted key goes on existing.
    DeleteKeepsKey,
    /// A key that was deleted is not created anew by the next put.
    CreatedNotTold,
    // The log's file.
    /// The log is not synced.
    LogUnsynced,
    /// Of several hard states in one commit the first is kept.
    FirstHardState,
    /// What was cut off stays in the log's file.
    CutKeptOnDisk,
    /// A membership that was cut off stays in the log's file.
    MembershipKeptOnDisk,
    /// A start takes the whole log for committed.
    StartCommitsAll,
    // The state's file.
    /// A checkpoint is not synced.
    CheckpointUnsynced,
    /// The applied index is written in a transaction before the data's.
    PositionApart,
    /// A checkpoint claims what was applied while it was written.
    PositionTooNew,
    /// What a checkpoint is writing cannot be read meanwhile.
    FrozenUnread,
    /// After a checkpoint the file is read as it was before.
    OldGeneration,
    /// A listing prefers what is being written to what is newer.
    FrozenFirst,
    /// A listing leaves out what is not yet in the file.
    ListingOfFileOnly,
    /// A deletion of a range misses what the same batch changed.
    BatchUnlisted,
    /// Damaged values are served.
    ChecksumIgnored,
    // The past.
    /// What a deletion left behind depends on whether its row is gone yet.
    SweptDeletionCounts,
    /// What the revision after the compacted one superseded goes, too.
    SweepTooFar,
    /// A change goes as soon as it is compacted, superseded or not.
    SweepNewest,
    /// A checkpoint removes what was compacted while it was written.
    SweepAhead,
    /// The past before the compacted revision is read, as far as it is still there.
    CompactedReadable,
    /// A snapshot does not say how far its past can be read.
    SnapshotUncompacted,
    // Compaction and snapshots.
    /// The log loses entries that no checkpoint covers.
    CompactBeyondCheckpoint,
    /// The membership is lost with the part of the log that states it.
    MembershipCompacted,
    /// After a snapshot took the state's place, older changes in memory still hide it.
    OverlayKept,
    /// A checkpoint that was under way ends after a snapshot took the state's place.
    CheckpointOverSnapshot,
    /// The state goes on applying while a snapshot takes its place.
    ApplyWhileInstalling,
    /// A start does not begin the log anew after the snapshot that it finds in the state's place.
    LogStaysAsItWas,
    /// Memberships of the log that a snapshot replaced stay in force.
    PhantomMembership,
    /// A snapshot that is older than the state is put in its place.
    OlderSnapshot,
    /// Of a snapshot whose end never came, what came is taken.
    HalfSnapshot,
    /// A sync leaves out the pages that wait for those around them.
    GatheredUnsynced,
    // Clusters that begin anew.
    /// A restored host takes the members of the backup for its own.
    RestoredMembersKept,
    /// A survivor keeps only what it knows to be decided.
    SurvivorForgets,
    /// A survivor's log still states the old members.
    SurvivorLogKept,
    /// A survivor's state still states the old members.
    SurvivorStateKept,
}
