//! What a peer as child is told and what it wants done.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::id::{HostId, PieceDigest, TaskId};
use crate::piece::{Order, PieceNumber, PiecePlan, PieceSet};
pub use crate::scheduler::{PieceFailure, SourceFailure, TaskFailure};
use crate::time::Duration;

/// Names a transfer this peer began; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchId(pub u64);

/// Names a grant as the scheduler does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GrantId(pub u64);

/// A task somebody on this host wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The task.
    pub task: TaskId,
    /// How the content is cut, if the store knows.
    pub plan: Option<PiecePlan>,
    /// What the store has of it, verified.
    pub held: PieceSet,
    /// Digests the store knows.
    pub digests: Vec<(u32, PieceDigest)>,
    /// Which pieces first.
    pub order: Order,
    /// Whether this host may ask the source.
    pub may_fetch_source: bool,
    /// How the task's scheduler can be reached.
    pub link: LinkState,
}

/// How a task's scheduler can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// It is connected.
    Linked,
    /// It is not, but may be in a moment: this host has just started, or the link was just lost.
    Expected,
    /// There is none, or it has been away for long.
    Absent,
}

/// Why a piece that arrived could not be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreFailed;

/// What the downloader is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Somebody wants a task. If it is open already: allows more for it than those before.
    TaskOpened(Box<Opening>),
    /// Nobody wants it any more.
    TaskClosed {
        /// The task.
        task: TaskId,
    },
    /// The scheduler of a task is connected (again).
    SchedulerLinked {
        /// The task.
        task: TaskId,
    },
    /// The scheduler of a task is out of reach.
    SchedulerLost {
        /// The task.
        task: TaskId,
    },
    /// The scheduler told how the content is cut.
    PlanTold {
        /// The task.
        task: TaskId,
        /// The plan.
        plan: PiecePlan,
    },
    /// The scheduler has nothing for this peer now, and has not forgotten it.
    Reassured {
        /// The task.
        task: TaskId,
    },
    /// The scheduler told digests.
    DigestsTold {
        /// The task.
        task: TaskId,
        /// Piece numbers with their digests.
        digests: Vec<(u32, PieceDigest)>,
    },
    /// The scheduler granted a piece.
    Granted {
        /// The task.
        task: TaskId,
        /// The grant.
        grant: GrantId,
        /// The piece.
        piece: u32,
        /// From whom.
        parent: HostId,
    },
    /// The scheduler took a grant back.
    Revoked {
        /// The task: another task's scheduler may have given the same number.
        task: TaskId,
        /// The grant.
        grant: GrantId,
    },
    /// The scheduler sent this peer to the source for pieces `from..to`.
    SourceGranted {
        /// The task.
        task: TaskId,
        /// First piece.
        from: u32,
        /// Piece after the last; `None` for the end.
        to: Option<u32>,
    },
    /// The end of that run moved.
    SourceTrimmed {
        /// The task.
        task: TaskId,
        /// Piece after the last.
        to: u32,
    },
    /// The scheduler says that the task cannot go on.
    TaskRefused {
        /// The task.
        task: TaskId,
        /// Why.
        why: TaskFailure,
    },
    /// A parent said what it has (asked while the scheduler is away).
    ParentTold {
        /// The task.
        task: TaskId,
        /// The parent.
        parent: HostId,
        /// What it has.
        held: PieceSet,
    },
    /// A transfer has few bytes left: what [`Output::FetchPiece`] asked to be told.
    FetchNearlyFinished {
        /// The transfer.
        fetch: FetchId,
    },
    /// A transfer that takes long has brought no few bytes since this was last told, or since it began.
    FetchProgressed {
        /// The transfer.
        fetch: FetchId,
    },
    /// A transfer ended: with the digest of the bytes now in the store, not yet part of the content;
    /// or without.
    FetchEnded {
        /// The transfer.
        fetch: FetchId,
        /// The computed digest, or what went wrong.
        result: Result<PieceDigest, PieceFailure>,
        /// From request to end.
        elapsed: Duration,
    },
    /// The store has made a piece part of the content, or failed to.
    PieceKept {
        /// The task.
        task: TaskId,
        /// The piece.
        piece: PieceNumber,
        /// How it went.
        result: Result<(), StoreFailed>,
    },
    /// The source answered.
    SourceOpened {
        /// The fetch.
        fetch: FetchId,
        /// How the content is cut; open while its length is unknown.
        plan: PiecePlan,
        /// Whether it serves ranges.
        is_ranged: bool,
        /// A hash of its validators; 0 without.
        version: u64,
    },
    /// Bytes of a piece begin to arrive from the source, and the store lets this fetch alone write them.
    SourceStarted {
        /// The fetch.
        fetch: FetchId,
        /// The piece.
        piece: PieceNumber,
    },
    /// Bytes still arrive from the source, though no piece may have begun or ended for a while.
    SourceProgressed {
        /// The fetch.
        fetch: FetchId,
    },
    /// A piece from the source is in the store, not yet part of the content.
    SourceArrived {
        /// The fetch.
        fetch: FetchId,
        /// The piece.
        piece: PieceNumber,
        /// Its digest.
        digest: PieceDigest,
    },
    /// The source has sent all it was asked for; or failed.
    SourceEnded {
        /// The fetch.
        fetch: FetchId,
        /// How it went.
        result: Result<(), SourceFailure>,
    },
    /// A control round trip to the scheduler took this long.
    RoundTripMeasured {
        /// How long.
        rtt: Duration,
    },
}

/// What the scheduler is to be told about a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// See [`scheduler::Input::NearlyFinished`](crate::scheduler::Input::NearlyFinished).
    NearlyFinished {
        /// The grant.
        grant: GrantId,
    },
    /// See [`scheduler::Input::Progressed`](crate::scheduler::Input::Progressed).
    Progressed {
        /// The grant.
        grant: GrantId,
    },
    /// A granted piece is stored.
    Finished {
        /// The grant.
        grant: GrantId,
    },
    /// A granted piece did not come.
    Failed {
        /// The grant.
        grant: GrantId,
        /// Why.
        failure: PieceFailure,
    },
    /// A piece came by other ways.
    Held {
        /// The piece.
        piece: PieceNumber,
    },
    /// How the content is cut, from the source.
    PlanLearned {
        /// The plan.
        plan: PiecePlan,
        /// Whether the source serves ranges.
        is_ranged: bool,
        /// A hash of its validators; 0 without.
        version: u64,
    },
    /// A piece begins to arrive from the source.
    SourceStarted {
        /// The piece.
        piece: PieceNumber,
    },
    /// Bytes still arrive from the source.
    SourceProgressed,
    /// A piece from the source is stored.
    SourceStored {
        /// The piece.
        piece: PieceNumber,
        /// Its digest.
        digest: PieceDigest,
    },
    /// All of a run from the source is stored.
    SourceEnded,
    /// The source failed.
    SourceFailed {
        /// How.
        failure: SourceFailure,
    },
    /// This peer has everything.
    Done,
    /// This peer wants no more pieces.
    Stopped,
}

/// Why a download failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownloadFailure {
    /// The source failed; the driver knows its answer.
    Source,
    /// The content at the source changed under the download.
    SourceChanged,
    /// Nobody has the missing pieces and there is nobody to ask.
    NoSource,
    /// No scheduler can be reached, and this host may not ask the source.
    NoScheduler,
    /// The store failed; the driver knows how.
    Store,
}

/// What the downloader wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Tell the scheduler that this host is in the task, with what the store has of it.
    Register {
        /// The task.
        task: TaskId,
    },
    /// Tell the scheduler something about a task.
    Report {
        /// The task.
        task: TaskId,
        /// What.
        report: Report,
    },
    /// Fetch a piece from a parent into the store, computing its digest.
    FetchPiece {
        /// Names the transfer.
        fetch: FetchId,
        /// The task.
        task: TaskId,
        /// The piece.
        piece: PieceNumber,
        /// From whom.
        parent: HostId,
        /// Tell when this many bytes are left.
        nearly_at_bytes: u64,
    },
    /// Give a transfer up. Its end need not be told.
    AbortFetch {
        /// The transfer.
        fetch: FetchId,
    },
    /// The bytes of a piece are what they should be: make them part of the content. Answered by
    /// [`Input::PieceKept`].
    KeepPiece {
        /// The task.
        task: TaskId,
        /// The piece.
        piece: PieceNumber,
        /// Its digest.
        digest: PieceDigest,
    },
    /// The bytes of a piece are of no use; whoever is receiving them from here is to be cut off.
    DropPiece {
        /// The task.
        task: TaskId,
        /// The piece.
        piece: PieceNumber,
    },
    /// Fetch pieces `from..to` from the source, those the store lacks.
    FetchSource {
        /// Names the fetch.
        fetch: FetchId,
        /// The task.
        task: TaskId,
        /// First piece.
        from: u32,
        /// Piece after the last; `None` for the end.
        to: Option<u32>,
    },
    /// The run ends earlier.
    TrimSource {
        /// The fetch.
        fetch: FetchId,
        /// Piece after the last.
        to: u32,
    },
    /// Give the source up.
    AbortSource {
        /// The fetch.
        fetch: FetchId,
    },
    /// Ask a parent what it has. Answered by [`Input::ParentTold`], or not.
    AskParent {
        /// The task.
        task: TaskId,
        /// The parent.
        parent: HostId,
    },
    /// The content is there, every piece verified.
    Complete {
        /// The task.
        task: TaskId,
    },
    /// The download failed; what is stored stays for the next attempt.
    Fail {
        /// The task.
        task: TaskId,
        /// Why.
        why: DownloadFailure,
    },
}
