//! A task somebody on this host waits for, or that the scheduler asked this host to fetch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use df_api::dfdaemon as wire;
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::downloader::DownloadFailure;
use df_core::id::TaskId;
use tokio::sync::watch;

use super::store::StoredTask;
use super::throttle::Limit;
use super::whole::Hashed;
use crate::sync::lock;

/// Parents told apart in a tally.
const PARENT_LIMIT: usize = 1024;

/// What a caller allows and wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobOptions {
    /// Whether this host may ask the source.
    pub may_fetch_source: bool,
    /// Whether seed peers may be woken to ask it.
    pub wakes_seeds: bool,
    /// Whether the source's certificate is not to be verified.
    pub is_insecure: bool,
    /// Whether somebody on this host asked, not the network.
    pub is_local: bool,
    /// Whether pieces are wanted in order.
    pub is_in_order: bool,
}

impl JobOptions {
    /// All that the network may ask for.
    pub const DUTY: Self =
        Self { may_fetch_source: true, wakes_seeds: true, is_insecure: false, is_local: false, is_in_order: false };

    /// All that a caller on this host has without asking for it.
    pub const CALLER: Self = Self { is_local: true, ..Self::DUTY };

    /// What a request's priority leaves of it.
    ///
    /// # Errors
    /// Those of [`TaskRequest::leave`].
    pub fn under(self, request: &TaskRequest) -> Result<Self, Failure> {
        let leave = request.leave()?;
        let may_fetch_source = self.may_fetch_source && leave.may_fetch_source;
        Ok(Self { may_fetch_source, wakes_seeds: self.wakes_seeds && leave.wakes_seeds, ..self })
    }
}

/// One open task. Callers share it; it ends when the last one goes.
pub struct Job {
    /// The task.
    pub task: TaskId,
    /// What was asked for.
    pub request: TaskRequest,
    /// Where it goes.
    pub stored: Arc<StoredTask>,
    options: Mutex<JobOptions>,
    /// The task's own rate limit.
    pub limit: Limit,
    outcome: watch::Sender<Option<Result<(), Failure>>>,
    callers: AtomicUsize,
    is_duty: AtomicBool,
    source_bytes: AtomicU64,
    source_requests: AtomicU64,
    retried_pieces: AtomicU64,
    reused_bytes: u64,
    reused_pieces: u32,
    parents: Mutex<BTreeMap<SocketAddr, ParentTally>>,
    failure: Mutex<Option<Failure>>,
    /// How far the whole is hashed.
    pub(super) hashed: Arc<tokio::sync::Mutex<Hashed>>,
}

#[derive(Clone, Copy, Default)]
struct ParentTally {
    pieces: u32,
    bytes: u64,
    is_seed: bool,
}

impl Job {
    /// A job that has just been opened.
    pub fn new(request: TaskRequest, stored: Arc<StoredTask>, options: JobOptions, limit: Limit) -> Self {
        let reused_pieces = stored.held().len();
        let (reused_bytes, _) = stored.held_bytes();
        Self {
            task: stored.id(),
            request,
            stored,
            options: Mutex::new(options),
            limit,
            outcome: watch::Sender::new(None),
            callers: AtomicUsize::new(0),
            is_duty: AtomicBool::new(false),
            source_bytes: AtomicU64::new(0),
            source_requests: AtomicU64::new(0),
            retried_pieces: AtomicU64::new(0),
            reused_bytes,
            reused_pieces,
            parents: Mutex::default(),
            failure: Mutex::default(),
            hashed: Arc::default(),
        }
    }

    /// Follows the outcome: `None` while it is open.
    pub fn outcome(&self) -> watch::Receiver<Option<Result<(), Failure>>> {
        self.outcome.subscribe()
    }

    /// The job is over. The first word counts.
    pub fn finish(&self, outcome: Result<(), Failure>) {
        self.outcome.send_if_modified(|known| {
            let is_first = known.is_none();
            if is_first {
                *known = Some(outcome);
            }
            is_first
        });
    }

    /// What is allowed.
    pub fn options(&self) -> JobOptions {
        *lock(&self.options)
    }

    /// One more waits for it; true if more is allowed now than by those before. Who is the first to let the source
    /// be asked says how.
    pub fn join(&self, allowed: JobOptions) -> bool {
        self.callers.fetch_add(1, Ordering::AcqRel);
        let mut options = lock(&self.options);
        let before = *options;
        if allowed.may_fetch_source && !before.may_fetch_source {
            *options = JobOptions { is_in_order: before.is_in_order, ..allowed };
        }
        options.wakes_seeds = before.wakes_seeds | allowed.wakes_seeds;
        *options != before
    }

    /// One less; true if nobody is left and the scheduler did not ask for it either.
    pub fn leave(&self) -> bool {
        self.callers.fetch_sub(1, Ordering::AcqRel) == 1 && !self.is_duty.load(Ordering::Acquire)
    }

    /// The scheduler asked for it: it goes on without callers.
    pub fn make_duty(&self) {
        self.is_duty.store(true, Ordering::Release);
    }

    /// Remembers what the source or the scheduler said, for those who have to be told.
    pub fn note_failure(&self, failure: Failure) {
        *lock(&self.failure) = Some(failure);
    }

    /// What the source or the scheduler said last.
    pub fn last_failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// How callers are told of a failed download.
    pub fn failure(&self, why: DownloadFailure) -> Failure {
        let said = lock(&self.failure).clone();
        let shown = self.request.shown();
        match why {
            DownloadFailure::Source | DownloadFailure::Store => {
                said.unwrap_or_else(|| Failure::new(Code::Network, format!("cannot fetch {shown}")))
            }
            DownloadFailure::SourceChanged => {
                let changed = Failure::new(Code::Protocol, format!("{shown} changed during the download"))
                    .hint("run the same command again: it starts anew");
                match said.filter(|said| said.code == Code::Protocol) {
                    Some(said) => changed.because(said),
                    None => changed,
                }
            }
            DownloadFailure::NoSource => Failure::new(Code::NotFound, format!("nobody has {shown}"))
                .because("no reachable peer has it, and going back to the source is not allowed"),
            DownloadFailure::NoScheduler => Failure::new(Code::NoScheduler, format!("cannot fetch {shown}"))
                .because("no scheduler can be reached, and going back to the source is not allowed")
                .hint("check --scheduler, or let the source be asked: no --disable-back-source, no priority of 2"),
        }
    }

    /// Bytes arrived from the source.
    pub fn note_source_bytes(&self, bytes: u64) {
        self.source_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The source was asked.
    pub fn note_source_request(&self) {
        self.source_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A piece came from a parent.
    pub fn note_piece(&self, parent: SocketAddr, bytes: u64, is_seed: bool) {
        let mut parents = lock(&self.parents);
        if parents.len() < PARENT_LIMIT || parents.contains_key(&parent) {
            let tally = parents.entry(parent).or_default();
            tally.pieces += 1;
            tally.bytes += bytes;
            tally.is_seed = is_seed;
        }
    }

    /// A piece did not come and is tried again.
    pub fn note_retry(&self) {
        self.retried_pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// Where the bytes came from so far.
    pub fn tally(&self) -> wire::Tally {
        let parents = lock(&self.parents);
        let sum = |is_seed: bool| parents.values().filter(|p| p.is_seed == is_seed).map(|p| p.bytes).sum();
        wire::Tally {
            local_bytes: self.reused_bytes,
            peer_bytes: sum(false),
            seed_bytes: sum(true),
            origin_bytes: self.source_bytes.load(Ordering::Relaxed),
            total_pieces: self.stored.plan().and_then(|plan| plan.count()).unwrap_or(0),
            reused_pieces: self.reused_pieces,
            retried_pieces: u32::try_from(self.retried_pieces.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            parents: parents
                .iter()
                .map(|(address, tally)| wire::ParentTally {
                    address: address.to_string(),
                    pieces: tally.pieces,
                    bytes: tally.bytes,
                    is_seed: tally.is_seed,
                })
                .collect(),
        }
    }
}
