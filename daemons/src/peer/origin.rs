//! Back to source: one run of pieces read from the source into the store, over as many connections
//! as are worth having.

mod climb;
mod lane;
mod stretch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_core::downloader::{FetchId, Input, SourceFailure};
use df_core::piece::{PieceNumber, PiecePlan};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Peer;
use super::job::Job;
use super::source::{SourceError, SourceErrorKind};
use super::store::{Incoming, StoredTask};
use super::throttle::Throttle;
use crate::sync::lock;
use climb::{Climb, Step};
use lane::Lane;
use stretch::{Stretch, Stretches};

/// How long the rate is watched before another connection is tried or given up.
const WINDOW: Duration = Duration::from_millis(250);

/// How often it is told that bytes still arrive, however slowly. A scheduler waits several times as long.
const NEWS_INTERVAL: Duration = Duration::from_secs(10);

/// One run from the source.
pub(super) struct OriginRun {
    peer: Peer,
    job: Arc<Job>,
    fetch: FetchId,
    throttle: Throttle,
    stretches: Stretches,
    bytes: AtomicU64,
    /// Whether anything has come since that was last told.
    has_news: AtomicBool,
    /// Connections open, and how many there should be.
    lanes: AtomicU32,
    lane_target: AtomicU32,
    /// Whether a connection is being tried, so that nobody should take on much.
    is_trying: AtomicBool,
    claims: Claims,
}

/// Pieces that a run has claimed in the store and of which nobody has said that they are kept. Cheap to
/// clone: who holds a clone may still claim.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<BTreeMap<PieceNumber, Arc<Incoming>>>>);

impl Claims {
    fn note(&self, piece: PieceNumber, incoming: Arc<Incoming>) {
        lock(&self.0).insert(piece, incoming);
    }

    /// The piece is going to be kept.
    pub(super) fn settle(&self, piece: PieceNumber) {
        lock(&self.0).remove(&piece);
    }

    /// Whether the run and all its connections are gone.
    pub(super) fn is_final(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Gives back what is left: whoever had to say what becomes of it does not want it any more, and the
    /// piece could never be fetched again.
    pub(super) fn give_back(&self, stored: &StoredTask) {
        let left = std::mem::take(&mut *lock(&self.0));
        for (piece, incoming) in left {
            stored.drop_incoming(piece, &incoming);
        }
    }
}

/// Why a run ended early.
struct Broken {
    failure: Failure,
    is_final: bool,
    is_changed: bool,
    is_resumable: bool,
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Self {
        let is_changed = error.kind == SourceErrorKind::Changed;
        let is_retryable = error.is_retryable();
        Self { is_changed, is_resumable: is_retryable, is_final: !is_retryable, failure: error.into() }
    }
}

/// A failure of this host, not of the source: somebody else may fare better.
impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        let is_changed = failure.code == Code::Protocol;
        Self { failure, is_final: is_changed, is_changed, is_resumable: false }
    }
}

impl OriginRun {
    /// A run of `job` from piece `from` on that ends before the piece `to` says (`u32::MAX` for the
    /// end), which may move while it runs.
    pub(super) fn new(
        peer: Peer,
        job: Arc<Job>,
        fetch: FetchId,
        (from, to): (u32, Arc<AtomicU32>),
        throttle: Throttle,
        claims: Claims,
    ) -> Self {
        Self {
            peer,
            job,
            fetch,
            throttle,
            stretches: Stretches::new(from, to),
            bytes: AtomicU64::new(0),
            has_news: AtomicBool::new(false),
            lanes: AtomicU32::new(1),
            lane_target: AtomicU32::new(1),
            is_trying: AtomicBool::new(false),
            claims,
        }
    }

    /// Reads the pieces of the run that the store lacks, and tells the downloader how it went.
    pub(super) async fn run(self) {
        let run = Arc::new(self);
        let result = match run.clone().read().await {
            Ok(()) => Ok(()),
            Err(broken) => {
                tracing::info!(task = %run.job.task, failure = %broken.failure, "back to source failed");
                run.job.note_failure(broken.failure);
                Err(SourceFailure { is_final: broken.is_final, is_changed: broken.is_changed })
            }
        };
        run.tell(Input::SourceEnded { fetch: run.fetch, result }).await;
    }

    async fn tell(&self, input: Input) {
        self.peer.downloader().tell(input).await;
    }

    fn note_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.job.note_source_bytes(bytes);
    }

    /// What a connection reads next; none if all is taken, or it is one too many.
    fn next_stretch(&self) -> Option<Stretch> {
        let target = self.lane_target.load(Ordering::Relaxed);
        let one_less = |lanes: u32| (lanes > target).then(|| lanes - 1);
        // Of several that see there are too many, only as many go.
        let lanes = match self.lanes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => return None,
            Err(lanes) => lanes,
        };
        let plan = self.job.stored.plan();
        let take = |plan: PiecePlan| match self.is_trying.load(Ordering::Relaxed) {
            true => self.stretches.take_trial(&plan),
            false => self.stretches.take(&plan, lanes),
        };
        let stretch = plan.and_then(take);
        if stretch.is_none() {
            self.lanes.fetch_sub(1, Ordering::Relaxed);
        }
        stretch
    }

    /// Reads over one connection, and over more while that pays. The first failure ends them all.
    async fn read(self: Arc<Self>) -> Result<(), Broken> {
        let first = match self.job.stored.plan().filter(|plan| plan.count().is_some()) {
            Some(plan) => self.stretches.take(&plan, 1),
            None => Some(self.stretches.take_all()),
        };
        let Some(first) = first else { return Ok(()) };
        let mut lanes = JoinSet::new();
        lanes.spawn(Lane::new(self.clone(), first).run());
        let mut climb = Climb::new(self.peer.config().source.connection_limit);
        let mut seen = 0;
        let mut news = tokio::time::interval(NEWS_INTERVAL);
        let mut windows = tokio::time::interval(WINDOW);
        windows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! { biased;
                ended = lanes.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(result)) => result?,
                    Some(Err(error)) => {
                        return Err(Failure::new(Code::Internal, "a connection to the source ended").because(error).into());
                    }
                },
                _ = news.tick() => if self.has_news.swap(false, Ordering::Relaxed) {
                    self.tell(Input::SourceProgressed { fetch: self.fetch }).await;
                },
                _ = windows.tick(), if !climb.is_settled() => {
                    let bytes = self.bytes.load(Ordering::Relaxed);
                    if seen > 0 {
                        self.adjust(&mut climb, bytes - seen, &mut lanes);
                    }
                    seen = bytes;
                }
            }
        }
    }

    /// Opens or closes a connection, as the bytes of a window suggest.
    fn adjust(self: &Arc<Self>, climb: &mut Climb, bytes: u64, lanes: &mut JoinSet<Result<(), Broken>>) {
        let step = climb.window_passed(bytes);
        self.lane_target.store(climb.lanes(), Ordering::Relaxed);
        self.is_trying.store(!climb.is_settled() && climb.lanes() > 1, Ordering::Relaxed);
        if step == Step::Add {
            let plan = self.job.stored.plan();
            match plan.and_then(|plan| self.stretches.take_trial(&plan)) {
                Some(trial) => {
                    self.lanes.fetch_add(1, Ordering::Relaxed);
                    lanes.spawn(Lane::new(self.clone(), trial).run());
                }
                None => climb.ran_out(),
            }
        }
        if step != Step::Stay {
            tracing::debug!(task = %self.job.task, lanes = climb.lanes(), "connections to the source");
        }
    }
}
