//! What the registry is told and what it wants done.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::preheat::{JobSpec, PartSpec, PartUpdate};
use super::settings::{BlockRule, ClusterSpec, Limits};
use crate::id::HostId;
pub use crate::scheduler::RequestId;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A cluster.
    ClusterId
);
number_id!(
    /// A member, for as long as it is remembered.
    MemberId
);
number_id!(
    /// A stream of a member; the driver numbers them.
    SessionId
);
number_id!(
    /// A preheat job.
    JobId
);

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemberKind {
    /// A scheduler.
    Scheduler,
    /// A seed peer.
    SeedPeer,
    /// Any other daemon.
    Peer,
}

/// What a member says of itself, its address checked by the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// Scheduler, seed peer or peer.
    pub kind: MemberKind,
    /// Its name.
    pub hostname: String,
    /// Where it is reached.
    pub ip: IpAddr,
    /// Its port for calls.
    pub rpc_port: u16,
    /// Its port for pieces; 0 for schedulers.
    pub piece_port: u16,
    /// Its data centre.
    pub idc: String,
    /// Its place.
    pub location: String,
    /// The cluster it asks for; empty for the one that fits best.
    pub cluster: String,
    /// Its stable name, if it has one.
    pub host_id: Option<HostId>,
    /// Different at every start.
    pub incarnation: u64,
    /// Version of its program.
    pub release: String,
}

/// A sign of life.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Beat {
    /// Version of the configuration in force there.
    pub version: u64,
    /// Why a later one is not; empty if it is.
    pub refused: String,
    /// Bytes stored, and the most it may store.
    pub disk_used_bytes: u64,
    /// See `disk_used_bytes`.
    pub disk_limit_bytes: u64,
}

/// A change of limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsChange {
    /// Where.
    pub cluster: ClusterId,
    /// For one host alone, with its name for people; what counts then is `limits.peer`.
    pub host: Option<(HostId, String)>,
    /// What is set.
    pub limits: Limits,
    /// Names of what is left to the members again.
    pub clear: Vec<String>,
    /// The version that was looked at; 0 for any.
    pub expected_version: u64,
}

/// What the registry is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A member introduced itself on a stream, or by a call of v1 (session 0). Answered.
    MemberJoined {
        /// Named in the answer.
        request: RequestId,
        /// Its stream.
        session: SessionId,
        /// Who it is.
        introduction: Box<Introduction>,
    },
    /// A sign of life.
    MemberBeat {
        /// Whose.
        member: MemberId,
        /// What it says.
        beat: Beat,
    },
    /// A member's stream ended; it is lost if it does not come back in time.
    SessionEnded {
        /// Whose.
        member: MemberId,
        /// The stream.
        session: SessionId,
    },
    /// An operator wants a lost member forgotten. Answered.
    MemberDismissed {
        /// Named in the answer.
        request: RequestId,
        /// Which.
        member: MemberId,
    },
    /// An operator made a cluster (`None`) or changed one. Answered.
    ClusterPut {
        /// Named in the answer.
        request: RequestId,
        /// Which, unless it is new.
        cluster: Option<ClusterId>,
        /// What it is to be.
        spec: ClusterSpec,
        /// When, in milliseconds of wall time.
        at_ms: u64,
    },
    /// An operator wants a cluster gone. Answered.
    ClusterRemoved {
        /// Named in the answer.
        request: RequestId,
        /// Which.
        cluster: ClusterId,
    },
    /// An operator changed limits. Answered.
    LimitsSet {
        /// Named in the answer.
        request: RequestId,
        /// How.
        change: Box<LimitsChange>,
        /// Who, and when in milliseconds of wall time.
        by: (String, u64),
    },
    /// An operator made a block rule. Answered.
    RuleAdded {
        /// Named in the answer.
        request: RequestId,
        /// Where.
        cluster: ClusterId,
        /// What.
        rule: Box<BlockRule>,
    },
    /// An operator dropped a block rule. Answered.
    RuleRemoved {
        /// Named in the answer.
        request: RequestId,
        /// Where.
        cluster: ClusterId,
        /// Which.
        rule: u64,
        /// Who, and when in milliseconds of wall time.
        by: (String, u64),
    },
    /// Somebody wants contents preheated. Answered.
    JobCreated {
        /// Named in the answer.
        request: RequestId,
        /// What.
        spec: Box<JobSpec>,
    },
    /// The contents of a job are known, or why they cannot be.
    JobResolved {
        /// Which.
        job: JobId,
        /// The contents.
        parts: Result<Vec<PartSpec>, String>,
    },
    /// A scheduler told how a part goes.
    PartReported {
        /// The scheduler.
        member: MemberId,
        /// Which job.
        job: JobId,
        /// Which part.
        part: u32,
        /// How it goes.
        update: Box<PartUpdate>,
    },
    /// The driver wants to look at the registry as it is after all it was told so far. Answered.
    StateAsked {
        /// Named in the answer.
        request: RequestId,
    },
    /// Somebody no longer wants a job. Answered.
    JobCancelled {
        /// Named in the answer.
        request: RequestId,
        /// Which.
        job: JobId,
    },
}

/// Why the registry says no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such cluster.
    UnknownCluster,
    /// No such member.
    UnknownMember,
    /// No such job.
    UnknownJob,
    /// No such rule.
    UnknownRule,
    /// No limit has that name.
    UnknownLimit,
    /// Another cluster has the name.
    NameTaken,
    /// Members are in the cluster.
    ClusterInUse,
    /// The default cluster stays.
    DefaultCluster,
    /// A member is there: it would come back at once.
    MemberActive,
    /// A member of the same name lives at another address.
    NameHeld,
    /// So many are there already.
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// A value out of its range.
    BadValue {
        /// Which.
        what: &'static str,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A rule without a value, without effect, or too long.
    BadRule,
    /// A name of other characters than letters, digits, `-`, `_` and `.`, or too long.
    BadName,
    /// A text or list is too long.
    TooLong,
    /// Somebody else changed it meanwhile.
    VersionChanged {
        /// What it is now.
        version: u64,
    },
    /// More jobs at once than the limit says.
    TooFast,
    /// The job is over.
    JobOver,
}

/// What an answer names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Nothing more to say.
    Done,
    /// The member that joined.
    Member(MemberId),
    /// The cluster that was made or changed.
    Cluster(ClusterId),
    /// The job that was created or cancelled.
    Job(JobId),
}

/// Something that is kept in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Record {
    /// The numbers given out last.
    Counters,
    /// A cluster.
    Cluster(ClusterId),
    /// A scheduler or seed peer.
    Member(MemberId),
    /// A job.
    Job(JobId),
}

/// Something people may want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A member came (back).
    MemberJoined(MemberId),
    /// A member missed its signs of life.
    MemberLost(MemberId),
    /// A job is over.
    JobOver(JobId),
    /// What holds in a cluster changed, lists of members included.
    ConfigurationChanged(ClusterId),
}

/// What the registry wants done. Saves come before the answers and pushes that depend on them, and
/// are to be durable before those go out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Answers a request.
    Answer {
        /// Which.
        request: RequestId,
        /// How it went.
        result: Result<Reply, Refusal>,
    },
    /// Keep this as it is now.
    Save(Record),
    /// Drop this.
    Erase(Record),
    /// Send its configuration to one member.
    Configure(MemberId),
    /// Send its configuration to everybody in a cluster.
    Push(ClusterId),
    /// End a member's stream: it has another one now.
    Close(SessionId),
    /// Find out what contents a job is about; ends in [`Input::JobResolved`].
    Resolve(JobId),
    /// Have a scheduler see to a part.
    SendPart {
        /// Of which job.
        job: JobId,
        /// Which part.
        part: u32,
        /// The scheduler.
        to: MemberId,
    },
    /// Have a scheduler give up a part.
    CancelPart {
        /// Of which job.
        job: JobId,
        /// Which part.
        part: u32,
        /// The scheduler.
        to: MemberId,
    },
    /// For the log of events.
    Note(Notice),
}
