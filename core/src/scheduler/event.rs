//! What the scheduler is told and what it wants done.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::cached::TaskView;
use crate::id::{HostId, PeerId, PieceDigest, TaskId};
use crate::piece::{Order, PieceNumber, PiecePlan, PieceSet};
use crate::time::{Duration, Instant};

slotmap::new_key_type! {
    /// A host the scheduler knows, for as long as it is connected.
    pub struct HostKey;
    /// A peer the scheduler knows.
    pub struct PeerKey;
    /// A grant that has not ended.
    pub struct GrantKey;
}

/// Names a request of the driver in the answer to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// What a host is in a swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostKind {
    /// Downloads for its own users and serves others meanwhile.
    #[default]
    Normal,
    /// A seed peer: fetches from the source on the scheduler's word and serves many.
    Seed,
}

/// A group of hosts that are near to each other (IDC, location); traffic between zones is dear.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Zone(pub u32);

/// What a host says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostInfo {
    /// Its stable name.
    pub id: HostId,
    /// Different at every start of the daemon: a new one begins with a clean record.
    pub incarnation: u64,
    /// Normal or seed.
    pub kind: HostKind,
    /// Where it stands.
    pub zone: Zone,
    /// Most uploads at once; the scheduler may use fewer.
    pub upload_limit: u32,
    /// Most downloads at once; the scheduler may use fewer.
    pub download_limit: u32,
}

/// How a peer learns where to fetch pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Piece by piece, granted by the scheduler.
    #[default]
    Granted,
    /// It is offered candidate parents and pulls from them as it likes (Dragonfly v1 peers).
    Candidates,
}

/// A host joins a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Answered in [`Output::Registered`] or [`Output::Refuse`].
    pub request: RequestId,
    /// The host.
    pub host: HostKey,
    /// The new peer's name.
    pub peer: PeerId,
    /// The task.
    pub task: TaskId,
    /// How the content is cut, if the host knows.
    pub plan: Option<PiecePlan>,
    /// Pieces it has, verified and stored.
    pub held: PieceSet,
    /// Digests of pieces it has, for a scheduler that has lost them.
    pub digests: Vec<(u32, PieceDigest)>,
    /// A hash of the source's validators when they were taken from it; 0 if there are none, or nothing is held.
    pub version: u64,
    /// Whether it wants the rest, or only offers what it has.
    pub is_wanting: bool,
    /// Whether the content has a source at all: cached data has none.
    pub has_source: bool,
    /// Whether it may be sent to the source.
    pub can_fetch_source: bool,
    /// Whether a seed may be woken for it.
    pub wakes_seeds: bool,
    /// For a cached content: what is special about it.
    pub cached: Option<Cached>,
    /// Which pieces first.
    pub order: Order,
    /// How it is to be told.
    pub mode: Mode,
}

/// What is special about a content that was put into the cache under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cached {
    /// Whether the host imported it and no scheduler has confirmed that yet: newer than any deletion.
    pub is_imported: bool,
    /// Hosts that are to have it.
    pub replicas: u32,
    /// The stamp the host was told when its copy was confirmed; 0 if it was told none. Of an import
    /// that is not confirmed: wall time, in milliseconds.
    pub stamp: u64,
}

/// Why a piece did not come from a parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceFailure {
    /// The bytes did not match the digest.
    Corrupt,
    /// The parent does not have the piece.
    NotFound,
    /// The parent is busy; nobody's fault.
    Refused,
    /// The parent stopped sending because its own copy did not arrive; nobody's fault.
    Aborted,
    /// No bytes for too long, or too few.
    Stalled,
    /// Refused or broken connection.
    Disconnected,
    /// The child could not store it, or no longer wants it; the child's own affair.
    Local,
}

/// Why a fetch from the source ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceFailure {
    /// Whether another host would hear the same (404, changed content), so that trying elsewhere is
    /// pointless.
    pub is_final: bool,
    /// Whether the content at the source is no longer the one pieces were taken from.
    pub is_changed: bool,
}

/// What the scheduler is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Peers that pull are offered so many parents from now on, chosen among so many.
    CandidatesLimited {
        /// At least 1.
        parents: u32,
        /// At least 1.
        looked_at: u32,
    },
    /// A host connected (again). Answered by [`Output::HostAccepted`] or [`Output::Refuse`].
    HostAnnounced {
        /// Named in the answer.
        request: RequestId,
        /// What it says of itself.
        info: HostInfo,
    },
    /// A host's connection ended; everything it held is gone until it announces it again.
    HostLeft {
        /// The host.
        host: HostKey,
    },
    /// A host joined a task.
    PeerRegistered(Box<Registration>),
    /// A peer that fetches from the source learned how the content is cut; once more when an open
    /// plan has closed.
    PlanLearned {
        /// The peer.
        peer: PeerKey,
        /// The plan.
        plan: PiecePlan,
        /// Whether the source serves ranges.
        is_ranged: bool,
        /// A hash of the source's validators (ETag, Last-Modified); 0 if it gave none.
        version: u64,
    },
    /// Bytes of a piece have begun to arrive from the source.
    SourceStarted {
        /// The peer that fetches.
        peer: PeerKey,
        /// The piece.
        piece: u32,
    },
    /// Bytes still arrive from the source, though no piece has begun or ended for a while.
    SourceProgressed {
        /// The peer that fetches.
        peer: PeerKey,
    },
    /// A piece from the source is stored.
    SourceStored {
        /// The peer that fetched it.
        peer: PeerKey,
        /// The piece.
        piece: u32,
        /// Its digest, which all others have to match if the peer was sent to the source; otherwise
        /// no more than a claim.
        digest: PieceDigest,
    },
    /// All of a run from the source is stored.
    SourceEnded {
        /// The peer that fetched it.
        peer: PeerKey,
    },
    /// A fetch from the source failed, or what it brought is not what was asked for.
    SourceFailed {
        /// The peer that tried.
        peer: PeerKey,
        /// How.
        failure: SourceFailure,
    },
    /// A granted transfer has about one control round trip left: time to grant the next.
    NearlyFinished {
        /// The grant.
        grant: GrantKey,
    },
    /// Bytes of a transfer that takes long still come, and not just a few: its time is not up.
    Progressed {
        /// The grant.
        grant: GrantKey,
    },
    /// A granted piece is verified and stored.
    PieceFinished {
        /// The grant.
        grant: GrantKey,
    },
    /// A granted piece did not come.
    PieceFailed {
        /// The grant.
        grant: GrantKey,
        /// Why.
        failure: PieceFailure,
    },
    /// A piece came by other ways than a grant (a late duplicate, a peer that pulls). A peer that
    /// pulls may say so of a piece whose digest nobody vouches for: then it is worth something to
    /// others that pull, and to nobody else.
    PieceHeld {
        /// The peer that has it now.
        peer: PeerKey,
        /// The piece.
        piece: u32,
    },
    /// A peer that pulls had no luck with a parent it was offered. Its word strikes for itself alone:
    /// it is offered others, and nobody else hears of it.
    ParentFailed {
        /// The peer.
        peer: PeerKey,
        /// The parent.
        parent: PeerKey,
        /// What happened.
        failure: PieceFailure,
    },
    /// A peer lost a piece it had (damaged, evicted).
    PieceLost {
        /// The peer.
        peer: PeerKey,
        /// The piece.
        piece: u32,
    },
    /// A peer has all it wanted.
    PeerDone {
        /// The peer.
        peer: PeerKey,
    },
    /// A peer no longer wants pieces but serves what it has.
    PeerStopped {
        /// The peer.
        peer: PeerKey,
    },
    /// A peer is gone with all it had.
    PeerLeft {
        /// The peer.
        peer: PeerKey,
    },
    /// A cached content was deleted. Answered by [`Output::TaskTold`], with what was known of it.
    TaskDeleted {
        /// Named in the answer.
        request: RequestId,
        /// The task.
        task: TaskId,
        /// Wall time, in milliseconds: the stamp of the deletion, unless a later one is known.
        stamp: u64,
    },
    /// A host has heard that a cached content was deleted.
    DeletionTold {
        /// The task.
        task: TaskId,
        /// The stamp of the deletion.
        stamp: u64,
        /// How long ago that was.
        age: Duration,
    },
    /// Somebody wants to know about a task. Answered by [`Output::TaskTold`].
    TaskAsked {
        /// Named in the answer.
        request: RequestId,
        /// The task.
        task: TaskId,
    },
    /// An operator frees a host of its record.
    HostPardoned {
        /// The host.
        host: HostId,
    },
}

/// Why the scheduler refuses a host or a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A limit on hosts, tasks or peers is reached.
    Full,
    /// The plan contradicts the one the swarm has.
    PlanMismatch,
    /// The host's connection is gone.
    UnknownHost,
    /// The content was deleted while the host was away.
    Deleted,
    /// Others have other bytes under the same name.
    ContentMismatch,
}

/// Why a task cannot go on for a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskFailure {
    /// The source failed, for good or too often; the driver knows the last answer.
    Source,
    /// The content at the source changed under the download.
    SourceChanged,
    /// Nobody who has the missing pieces is left, and nobody may ask the source.
    NoSource,
}

/// What the scheduler wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Answers [`Input::HostAnnounced`].
    HostAccepted {
        /// The announcement.
        request: RequestId,
        /// Its name from now on.
        host: HostKey,
    },
    /// Answers [`Input::PeerRegistered`].
    Registered {
        /// The registration.
        request: RequestId,
        /// Its name from now on.
        peer: PeerKey,
    },
    /// Answers either with no.
    Refuse {
        /// The announcement or registration.
        request: RequestId,
        /// Why.
        why: Refusal,
    },
    /// Tell a peer how the content is cut.
    TellPlan {
        /// The peer.
        peer: PeerKey,
        /// The plan.
        plan: PiecePlan,
    },
    /// Tell a peer for which nothing is on its way that it is not forgotten.
    Reassure {
        /// The peer.
        peer: PeerKey,
    },
    /// Tell a peer digests: entries `from..to` of [`Scheduler::digests`](super::Scheduler::digests).
    TellDigests {
        /// The peer.
        peer: PeerKey,
        /// First entry.
        from: u32,
        /// Entry after the last.
        to: u32,
    },
    /// A peer may fetch a piece from a parent now.
    Grant {
        /// The child.
        peer: PeerKey,
        /// Names the transfer.
        grant: GrantKey,
        /// The piece.
        piece: PieceNumber,
        /// Who has it, or is receiving it and will pass it on as it arrives.
        parent: PeerKey,
    },
    /// A granted transfer is to be given up.
    Revoke {
        /// The child.
        peer: PeerKey,
        /// The grant.
        grant: GrantKey,
    },
    /// A peer may fetch pieces `from..to` from the source (to the end, if `None`), those it lacks.
    FetchSource {
        /// The peer.
        peer: PeerKey,
        /// First piece.
        from: u32,
        /// Piece after the last.
        to: Option<u32>,
    },
    /// The end of a peer's run from the source moved to `to`: another peer fetches the rest.
    TrimSource {
        /// The peer.
        peer: PeerKey,
        /// Piece after the last.
        to: u32,
    },
    /// Answers [`Input::TaskAsked`].
    TaskTold {
        /// The question.
        request: RequestId,
        /// What is known; `None` for an unknown task.
        view: Option<TaskView>,
    },
    /// A host is to register for a task (the driver knows its URL or its name): a seed, to fetch it from
    /// its source; or anybody, to hold a copy of a cached content.
    WakeSeed {
        /// The host.
        host: HostKey,
        /// The task.
        task: TaskId,
    },
    /// A peer that pulls is to be told its parents anew: [`Scheduler::offered`](super::Scheduler::offered).
    OfferParents {
        /// The peer.
        peer: PeerKey,
    },
    /// A peer is to give up.
    FailTask {
        /// The peer.
        peer: PeerKey,
        /// Why.
        why: TaskFailure,
    },
    /// A peer is to drop what it has of the task: it is no longer what the source has.
    Forget {
        /// The peer; its name is not valid any more.
        peer: PeerKey,
    },
    /// For those who watch: a host is on the global blacklist until the given instant.
    ListHost {
        /// The host.
        host: HostKey,
        /// When it is free again.
        until: Instant,
    },
}
