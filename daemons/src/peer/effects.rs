//! Carrying out what the downloader decides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use df_api::base::PieceTaskRequest;
use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::failure::{Code, Failure};
use df_core::downloader::{
    DownloadFailure, Downloader, FetchId, Input, Output, PieceFailure, Report, SourceFailure, StoreFailed,
};
use df_core::id::{HostId, PieceDigest, TaskId};
use df_core::piece::PieceNumber;
use df_core::uploader;
use tokio::task::AbortHandle;

use super::Peer;
use super::fetch::{FetchError, News, PieceRequest};
use super::job::Job;
use super::origin::{Claims, OriginRun};
use super::store::Incoming;
use super::whole;
use crate::pump::{Driver, Inbox};

/// How long a parent may take to say what it has.
const ASK_TERM: Duration = Duration::from_secs(3);

/// The downloader's driver.
pub(super) struct Effects {
    peer: Peer,
    uploader: Inbox<uploader::Input>,
    running: BTreeMap<FetchId, Running>,
    was_sound: bool,
}

enum Running {
    Piece(PieceFetch),
    Source(SourceRun),
}

/// A run from the source.
struct SourceRun {
    handle: AbortHandle,
    job: Arc<Job>,
    /// Piece after its last.
    to: Arc<AtomicU32>,
    claims: Claims,
}

impl SourceRun {
    /// Whether it is over and done with, like that of a piece.
    fn is_settled(&self, machine: &Downloader, fetch: FetchId) -> bool {
        if !self.handle.is_finished() || machine.is_fetching(fetch) || !self.claims.is_final() {
            return false;
        }
        self.claims.give_back(&self.job.stored);
        true
    }
}

/// A piece on its way from a parent.
struct PieceFetch {
    handle: AbortHandle,
    job: Arc<Job>,
    piece: PieceNumber,
    /// What it has claimed in the store, once it has.
    claim: Arc<OnceLock<Arc<Incoming>>>,
    is_aborted: bool,
}

impl PieceFetch {
    /// Whether it is over and done with. One that was given up when all its bytes had just arrived
    /// leaves a claim that nobody else would ever end.
    fn is_settled(&self, machine: &Downloader, fetch: FetchId) -> bool {
        if !self.handle.is_finished() || machine.is_fetching(fetch) {
            return false;
        }
        if let Some(claim) = self.claim.get().filter(|_| self.is_aborted) {
            self.job.stored.drop_incoming(self.piece, claim);
        }
        true
    }
}

impl Effects {
    /// A driver that has begun nothing.
    pub(super) const fn new(peer: Peer, uploader: Inbox<uploader::Input>) -> Self {
        Self { peer, uploader, running: BTreeMap::new(), was_sound: true }
    }

    fn fetch_piece(&mut self, fetch: FetchId, task: TaskId, piece: PieceNumber, parent: HostId, nearly_at_bytes: u64) {
        let peer = self.peer.clone();
        let Some(job) = peer.job(&task) else {
            let (result, elapsed) = (Err(PieceFailure::Local), Duration::ZERO);
            let tell = async move { peer.downloader().tell(Input::FetchEnded { fetch, result, elapsed }).await };
            drop(self.peer.env().spawn_data(tell));
            return;
        };
        let (begun, claim) = (peer.env().clock.now(), Arc::new(OnceLock::new()));
        let (fetched, claimed) = (job.clone(), claim.clone());
        let work = async move {
            let result = fetch_piece(&peer, &fetched, fetch, piece, parent, nearly_at_bytes, &claimed).await;
            let elapsed = peer.env().clock.now() - begun;
            peer.downloader().tell(Input::FetchEnded { fetch, result, elapsed }).await;
        };
        let handle = self.peer.env().spawn_data(work).abort_handle();
        self.running.insert(fetch, Running::Piece(PieceFetch { handle, job, piece, claim, is_aborted: false }));
    }

    fn fetch_source(&mut self, fetch: FetchId, task: TaskId, from: u32, to: Option<u32>) {
        let Some(job) = self.peer.job(&task) else { return };
        let to = Arc::new(AtomicU32::new(to.unwrap_or(u32::MAX)));
        let throttle = self.peer.source_throttle().and(job.limit.clone());
        let claims = Claims::default();
        let run = OriginRun::new(self.peer.clone(), job.clone(), fetch, (from, to.clone()), throttle, claims.clone());
        let handle = self.peer.env().spawn_data(run.run()).abort_handle();
        self.running.insert(fetch, Running::Source(SourceRun { handle, job, to, claims }));
    }

    fn abort(&mut self, fetch: FetchId) {
        match self.running.get_mut(&fetch) {
            Some(Running::Piece(piece)) => {
                piece.handle.abort();
                piece.is_aborted = true;
            }
            Some(Running::Source(source)) => source.handle.abort(),
            None => {}
        }
    }

    fn keep(&self, task: TaskId, piece: PieceNumber, digest: PieceDigest) {
        let (peer, Some(job)) = (self.peer.clone(), self.peer.job(&task)) else { return };
        for running in self.running.values() {
            if let Running::Source(source) = running
                && source.job.task == task
            {
                source.claims.settle(piece);
            }
        }
        self.peer.env().spawn_data(async move {
            let result = job.stored.keep(piece, digest).map_err(|failure| {
                // That a piece was dropped on the way follows from what was said before, if anything was.
                if failure.code != Code::Internal || job.last_failure().is_none() {
                    job.note_failure(failure);
                }
                StoreFailed
            });
            // The next download of the task has nothing to do with this one's pieces.
            if peer.job(&task).is_some_and(|open| Arc::ptr_eq(&open, &job)) {
                peer.downloader().tell(Input::PieceKept { task, piece, result }).await;
            }
        });
    }

    fn report(&self, task: TaskId, report: Report) {
        match self.peer.job(&task) {
            Some(job) => self.peer.links().report(&job, report),
            None => self.peer.links().report_closed(&task, report),
        }
    }

    fn complete(&self, task: TaskId) {
        let Some(job) = self.peer.close_job(&task) else { return };
        let peer = self.peer.clone();
        self.peer.env().spawn_data(async move {
            match whole::verify(peer.env(), &job).await {
                Ok(()) => {
                    let settling = peer.store().settling(job.stored.clone());
                    job.finish(Ok(()));
                    drop(job);
                    if let Err(failure) = peer.env().blocking(move || settling.settle()).await {
                        tracing::warn!(%task, %failure, "a complete task is not durable");
                    }
                }
                Err(failure) => {
                    job.note_failure(failure.clone());
                    // If it came from the source through this host, nobody else need try.
                    let failed = SourceFailure { is_final: true, is_changed: false };
                    peer.links().report(&job, Report::SourceFailed { failure: failed });
                    peer.forget_task(&job.task);
                    job.finish(Err(failure));
                }
            }
        });
    }

    fn fail(&self, task: TaskId, why: DownloadFailure) {
        if let Some(job) = self.peer.close_job(&task) {
            if why == DownloadFailure::SourceChanged {
                self.peer.forget_task(&task);
            }
            job.finish(Err(job.failure(why)));
        }
    }
}

impl Driver<Downloader> for Effects {
    fn act(&mut self, _: &Downloader, output: Output) {
        match output {
            Output::Register { task } => self.peer.links().register(&self.peer, &task),
            Output::Report { task, report } => self.report(task, report),
            Output::FetchPiece { fetch, task, piece, parent, nearly_at_bytes } => {
                self.fetch_piece(fetch, task, piece, parent, nearly_at_bytes);
            }
            Output::AbortFetch { fetch } | Output::AbortSource { fetch } => self.abort(fetch),
            Output::KeepPiece { task, piece, digest } => self.keep(task, piece, digest),
            Output::DropPiece { task, piece } => {
                if let Some(job) = self.peer.job(&task) {
                    job.stored.drop_piece(piece);
                    job.note_retry();
                }
            }
            Output::FetchSource { fetch, task, from, to } => self.fetch_source(fetch, task, from, to),
            Output::TrimSource { fetch, to } => {
                if let Some(Running::Source(source)) = self.running.get(&fetch) {
                    source.to.store(to, Ordering::Relaxed);
                }
            }
            Output::AskParent { task, parent } => ask_parent(&self.peer, task, parent),
            Output::Complete { task } => self.complete(task),
            Output::Fail { task, why } => self.fail(task, why),
        }
    }

    fn settled(&mut self, machine: &Downloader) {
        self.running.retain(|fetch, running| match running {
            Running::Piece(piece) => !piece.is_settled(machine, *fetch),
            Running::Source(source) => !source.is_settled(machine, *fetch),
        });
        let is_sound = machine.is_sound(self.peer.env().clock.now());
        if is_sound != self.was_sound && self.uploader.try_tell(uploader::Input::StandingChanged { is_sound }) {
            self.was_sound = is_sound;
            tracing::warn!(is_sound, "this host's opinion of itself changed");
        }
    }
}

async fn fetch_piece(
    peer: &Peer,
    job: &Job,
    fetch: FetchId,
    piece: PieceNumber,
    parent: HostId,
    nearly_at_bytes: u64,
    claim: &OnceLock<Arc<Incoming>>,
) -> Result<PieceDigest, PieceFailure> {
    let task = job.task;
    let parent = peer.links().parent(&parent).ok_or(PieceFailure::Disconnected)?;
    let range = job.stored.plan().ok_or(PieceFailure::Local)?.range(piece);
    let Some(writer) = job.stored.begin(piece) else {
        give_up_if_gone(peer, job, piece).await;
        return Err(PieceFailure::Local);
    };
    let _ = claim.set(writer.incoming());
    let throttle = peer.download_throttle().and(job.limit.clone());
    let request = PieceRequest { address: parent.pieces, task, v1: parent.v1, range, nearly_at_bytes };
    let inbox = peer.downloader();
    let tell = |news| {
        inbox.try_tell(match news {
            News::NearlyFinished => Input::FetchNearlyFinished { fetch },
            News::Progressed => Input::FetchProgressed { fetch },
        });
    };
    let result = match peer.pieces().fetch(&request, writer, &throttle, tell).await {
        Ok(digest) => Ok(digest),
        Err(FetchError::Piece(failure)) => Err(failure),
        Err(FetchError::Store(error)) => {
            give_up(peer, job, piece, job.stored.data_failure(&error)).await;
            Err(PieceFailure::Local)
        }
    };
    match result {
        Ok(_) => job.note_piece(parent.pieces, range.len, parent.is_seed),
        Err(failure) => {
            job.note_retry();
            tracing::debug!(%task, %piece, parent = %parent.pieces, ?failure, "piece");
        }
    }
    result
}

/// Ends a download that cannot store a piece: tried again it would fail again, for ever.
async fn give_up(peer: &Peer, job: &Job, piece: PieceNumber, failure: Failure) {
    job.note_failure(failure);
    peer.downloader().tell(Input::PieceKept { task: job.task, piece, result: Err(StoreFailed) }).await;
}

/// Ends a download of which the stored task was dropped meanwhile.
pub(super) async fn give_up_if_gone(peer: &Peer, job: &Job, piece: PieceNumber) {
    if job.stored.is_gone() {
        let gone = Failure::new(Code::Busy, format!("what was stored of {} was dropped", job.request.shown()));
        give_up(peer, job, piece, gone.hint("run the same command again: it starts anew")).await;
    }
}

/// Asks a parent what it has; an answer that cannot be had is no answer.
fn ask_parent(peer: &Peer, task: TaskId, parent: HostId) {
    // (A v1 daemon would have to be asked in its own way; the scheduler knows what it has.)
    let known = peer.links().parent(&parent).filter(|parent| parent.v1.is_none());
    let Some(address) = known.map(|parent| parent.rpc) else { return };
    let (peer, plan) = (peer.clone(), peer.job(&task).and_then(|job| job.stored.plan()));
    let Some(plan) = plan else { return };
    tokio::spawn(async move {
        let Ok(packet) = tokio::time::timeout(ASK_TERM, piece_packet(&peer, address, task)).await else { return };
        if let Some(held) = packet.and_then(|packet| df_api::convert::piece_set(&packet.held, &plan).ok()) {
            peer.downloader().tell(Input::ParentTold { task, parent, held }).await;
        }
    });
}

async fn piece_packet(peer: &Peer, address: SocketAddr, task: TaskId) -> Option<df_api::base::PiecePacket> {
    let channel = super::membership::channel(peer.env(), address).ok()?;
    let request = PieceTaskRequest { task_id: task.to_string(), ..PieceTaskRequest::default() };
    let answer = DaemonClient::new(channel).get_piece_tasks(request).await;
    answer.ok().map(tonic::Response::into_inner)
}
