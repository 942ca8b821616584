//! A dfdaemon: one for each node. Child (downloads), parent (uploads), and what local callers ask.
//!
//! The decisions are the core's [`Downloader`] and [`Uploader`]; this module is what they drive:
//! the store, piece transfer, the source, the streams to the schedulers, and two gRPC servers.

mod admission;
mod announcement;
mod cached;
mod effects;
pub mod fetch;
pub mod job;
mod joining;
pub mod local;
mod member;
pub mod membership;
mod origin;
pub mod source;
pub mod store;
pub mod sums;
pub mod throttle;
pub mod upload;
mod whole;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::scheduler as wire;
use df_api::task::TaskRequest;
use df_core::downloader::{DownloadFailure, Downloader, Input};
use df_core::id::{PeerId, TaskId};
use df_core::piece::PiecePlan;
use df_core::planted::{Bug, is_planted};
use df_core::uploader::Uploader;
use tokio_util::sync::CancellationToken;

use crate::config::PeerConfig;
use crate::env::Env;
use crate::env::net::Listener;
use crate::member::Rules;
use crate::pump::{self, Inbox};
use crate::sync::lock;
use admission::Admissions;
use fetch::PieceClient;
use job::{Job, JobOptions};
pub use joining::Waiting;
use membership::Links;
use source::SourceClient;
use store::{Room, Store, StoredTask};
use sums::Sums;
use throttle::{Limit, Throttle};
use upload::{Desk, PieceServer};

/// Names of this host remembered.
const NAME_LIMIT: usize = 1 << 17;

/// Tasks open at once.
const JOB_LIMIT: usize = 4096;

/// How long uploads may go on after the daemon was told to stop.
const DRAIN_TERM: Duration = Duration::from_secs(30);

/// An upload whose child takes nothing for this long is over.
const UPLOAD_LEASE_TERM: Duration = Duration::from_secs(30);

/// How long what was fetched for a scheduler stays at least, however little room there is.
const DUTY_HOLD: Duration = Duration::from_secs(10);

/// How often an idle daemon looks whether its time has come.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Pieces a reader in order gets ahead of all others.
const READER_WINDOW: u32 = 16;

/// The sockets a dfdaemon serves.
pub struct PeerIncoming {
    /// Other peers' metadata calls.
    pub rpc: Listener,
    /// Other peers' piece requests.
    pub pieces: Listener,
    /// Callers on this host.
    pub local: Listener,
}

/// One running dfdaemon. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    env: Env,
    config: PeerConfig,
    store: Store,
    pieces: PieceClient,
    source: SourceClient,
    links: Links,
    downloader: Inbox<Input>,
    jobs: Mutex<Jobs>,
    /// Tasks by the names this host has in them, as far as anybody was told.
    names: Mutex<BTreeMap<PeerId, TaskId>>,
    sums: Sums,
    upload_limit: Limit,
    download_limit: Limit,
    source_limit: Limit,
    /// Of a download that asks for no limit itself, in bytes per second.
    task_rate: Mutex<Option<u64>>,
    admissions: Admissions,
    /// What the operator does not want transferred.
    rules: Mutex<Arc<Rules>>,
    incarnation: u64,
}

/// Open tasks.
type Jobs = BTreeMap<TaskId, Arc<Job>>;

impl Peer {
    /// The world.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// The configuration.
    pub fn config(&self) -> &PeerConfig {
        &self.0.config
    }

    /// What is stored.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Piece transfer.
    pub fn pieces(&self) -> &PieceClient {
        &self.0.pieces
    }

    /// The source client.
    pub fn source(&self) -> &SourceClient {
        &self.0.source
    }

    /// The streams to the schedulers.
    pub fn links(&self) -> &Links {
        &self.0.links
    }

    /// The downloader's inbox.
    pub fn downloader(&self) -> &Inbox<Input> {
        &self.0.downloader
    }

    /// Limits all downloads are under.
    pub fn download_throttle(&self) -> Throttle {
        Throttle::new(self.0.env.clone(), vec![self.0.download_limit.clone()])
    }

    /// Limits all fetches from a source are under.
    pub fn source_throttle(&self) -> Throttle {
        self.download_throttle().and(self.0.source_limit.clone())
    }

    /// This host's name in a task: different for each task and each life of the daemon.
    pub fn peer_id(&self, task: &TaskId) -> PeerId {
        let mut hash = blake3::Hasher::new();
        hash.update(self.0.store.host_id().as_bytes());
        hash.update(&self.0.incarnation.to_le_bytes());
        hash.update(task.as_bytes());
        let mut id = [0; PeerId::LEN];
        id.copy_from_slice(&hash.finalize().as_bytes()[..PeerId::LEN]);
        let id = PeerId::from_bytes(id);
        let mut names = lock(&self.0.names);
        if names.len() >= NAME_LIMIT && !names.contains_key(&id) {
            names.pop_first();
        }
        names.insert(id, *task);
        id
    }

    /// The task in which this host has a name: how Dragonfly v1 peers, whose task ids are other than
    /// ours, say what they want.
    pub fn task_named(&self, name: &PeerId) -> Option<TaskId> {
        lock(&self.0.names).get(name).copied()
    }

    /// MD5 of stored pieces, for Dragonfly v1 peers.
    pub fn sums(&self) -> &Sums {
        &self.0.sums
    }

    /// An open task.
    pub fn job(&self, task: &TaskId) -> Option<Arc<Job>> {
        lock(&self.0.jobs).get(task).cloned()
    }

    /// All open tasks.
    pub fn open_tasks(&self) -> Vec<TaskId> {
        lock(&self.0.jobs).keys().copied().collect()
    }

    /// Tasks of which something is stored and which nobody here is downloading.
    pub fn idle_tasks(&self) -> Vec<TaskId> {
        let records = self.0.store.records();
        let jobs = lock(&self.0.jobs);
        records.into_keys().filter(|task| !jobs.contains_key(task)).collect()
    }

    /// Takes a job out of the open ones.
    fn close_job(&self, task: &TaskId) -> Option<Arc<Job>> {
        let job = lock(&self.0.jobs).remove(task)?;
        job.stored.end_download();
        Some(job)
    }

    /// The scheduler asked this host to fetch a task: a seed peer from its source, or anybody a copy of a
    /// cached content, or of what an operator wants here.
    fn take_duty(&self, request: TaskRequest, is_preheat: bool) {
        let is_cached = request.cid.is_some();
        if !is_cached && !is_preheat && !self.0.config.seed_peer.enable {
            tracing::warn!(task = %request.id(), "asked to fetch a task without being a seed peer");
            return;
        }
        let peer = self.clone();
        tokio::spawn(async move {
            let options = JobOptions { may_fetch_source: !is_cached, ..JobOptions::DUTY };
            let task = request.id();
            match peer.join(request, options, None).await {
                Ok(waiting) if waiting.job().outcome().borrow().is_none() => {
                    waiting.job().make_duty();
                    let (mut outcome, stored) = (waiting.job().outcome(), waiting.job().stored.clone());
                    drop(waiting);
                    // Those it was fetched for have it not yet: dropped now for what is fetched next, it would be
                    // fetched again, and so on.
                    if outcome.wait_for(Option::is_some).await.is_ok_and(|ended| matches!(*ended, Some(Ok(_)))) {
                        tokio::time::sleep(DUTY_HOLD).await;
                    }
                    drop(stored);
                }
                // It is here already. If its scheduler knows, telling it once more would make it take the
                // grants back that others have of this host, and wake it anew, for ever.
                Ok(_) if peer.0.links.has_told(&task) => {}
                Ok(_) => peer.0.links.register(&peer, &task),
                Err(failure) => tracing::warn!(%task, %failure, "cannot fetch for the scheduler"),
            }
        });
    }

    /// Takes over how a content is cut, its room, and which version it is of. False if the task has
    /// ended by it.
    async fn adopt_plan(&self, task: &TaskId, plan: PiecePlan, version: u64) -> bool {
        let Some(job) = self.job(task) else { return false };
        let stored = job.stored.clone();
        let adopted = match self.0.store.set_plan_soon(&stored, plan).await {
            Ok(()) => self.0.env.blocking(move || stored.adopt_version_hash(version)).await,
            full => full,
        };
        let Err(failure) = adopted else { return true };
        // Its callers may have gone meanwhile, and others come.
        if self.job(task).is_some_and(|open| Arc::ptr_eq(&open, &job)) && self.close_job(task).is_some() {
            if failure.code == Code::Protocol {
                self.forget_task(task);
            }
            self.0.downloader.tell(Input::TaskClosed { task: *task }).await;
            job.finish(Err(failure));
        }
        false
    }

    fn note_failure(&self, task: &TaskId, failure: Failure) {
        if let Some(job) = self.job(task) {
            job.note_failure(failure);
        }
    }

    /// What is stored of a task, unless somebody changed it behind the store's back: then it is
    /// dropped.
    pub fn intact(&self, task: &TaskId) -> Option<Arc<StoredTask>> {
        let stored = self.0.store.task(task)?;
        if stored.is_intact() {
            return Some(stored);
        }
        tracing::warn!(%task, "the content file was written to by somebody else: the task is dropped");
        self.forget_task(task);
        None
    }

    /// Drops what is stored of a task that has changed at its source. A download of it that was opened
    /// meanwhile ends with that: it would go on with a content that is not there.
    fn forget_changed(&self, task: &TaskId) {
        let closed = self.close_job(task).inspect(|_| self.0.downloader.tell_soon(Input::TaskClosed { task: *task }));
        // Before anybody hears of it: who tries again at once would open what is about to go.
        self.forget_task(task);
        if let Some(job) = closed {
            job.finish(Err(job.failure(DownloadFailure::SourceChanged)));
        }
    }

    /// Drops what is stored of a task: it is not, or no longer, what it should be.
    pub fn forget_task(&self, task: &TaskId) {
        self.0.links.leave(task);
        self.0.store.remove(task);
    }
}

/// Runs a dfdaemon until `shutdown`; then uploads get [`DRAIN_TERM`] to end.
///
/// # Errors
/// When the data directory or the configuration cannot be used.
pub async fn run(
    env: Env,
    config: PeerConfig,
    incoming: PeerIncoming,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let room = Room {
        quota: config.store.quota.map(|q| q.bytes()),
        free_floor: config.store.free_floor.bytes(),
        high_percent: config.store.high_watermark,
        low_percent: config.store.low_watermark.min(config.store.high_watermark),
        task_ttl_secs: config.store.task_ttl.map(|span| span.duration().as_secs()),
    };
    let (opening, root, open_index) = (env.clone(), config.data_dir.clone(), env.index_opener());
    let store = env.blocking(move || Store::open(opening, &root, room, open_index)).await?;
    let now = env.clock.now();
    let source = SourceClient::new(env.clone(), announcement::source_config(&config)).map_err(Failure::from)?;
    let schedulers: Vec<String> = config.scheduler.addresses.iter().map(ToString::to_string).collect();
    let (downloads, mail) = pump::inbox();
    let peer = Peer(Arc::new(Inner {
        pieces: PieceClient::new(env.clone(), store.host_id()),
        source,
        links: Links::new(&schedulers),
        downloader: downloads,
        jobs: Mutex::default(),
        names: Mutex::default(),
        sums: Sums::default(),
        upload_limit: Limit::new(now, config.upload.rate_limit.map(|rate| rate.bytes_per_sec())),
        task_rate: Mutex::new(config.download.task_rate_limit.map(|rate| rate.bytes_per_sec())),
        admissions: Admissions::default(),
        rules: Mutex::default(),
        download_limit: Limit::new(now, config.download.rate_limit.map(|rate| rate.bytes_per_sec())),
        source_limit: Limit::new(now, config.download.source_rate_limit.map(|rate| rate.bytes_per_sec())),
        incarnation: env.seed_for("incarnation"),
        store,
        env: env.clone(),
        config,
    }));
    let host = announcement::of(&peer, &incoming)?;
    let stop = shutdown.child_token();
    let (uploads, upload_mail) = pump::inbox();
    let desk = Desk::new(uploads.clone());
    let uploader = Uploader::new(announcement::slot_limits(&peer));
    tokio::spawn(pump::run(env.clone(), uploader, desk.clone(), upload_mail, stop.clone()));
    let downloader = Downloader::new(env.seed_for("downloader"));
    let effects = effects::Effects::new(peer.clone(), uploads);
    tokio::spawn(pump::run(env.clone(), downloader, effects, mail, stop.clone()));
    peer.links().start(&peer, &host, &stop);
    peer.join_cluster(&host, &stop)?;
    tokio::spawn(stop.clone().run_until_cancelled_owned(peer.clone().tidy()));
    serve(&peer, desk, incoming, &host, &shutdown, &stop).await
}

async fn serve(
    peer: &Peer,
    desk: Desk,
    incoming: PeerIncoming,
    host: &wire::Host,
    shutdown: &CancellationToken,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let throttle = Throttle::new(peer.env().clone(), vec![peer.0.upload_limit.clone()]);
    let pieces = PieceServer::new(peer.clone(), desk, throttle);
    let drain = if is_planted(Bug::EndNotHeard) { Duration::MAX } else { DRAIN_TERM };
    let uploading = peer.env().spawn_data(pieces.clone().run(incoming.pieces, shutdown.clone(), drain));
    let local = local::Local::new(peer.clone(), host.clone(), pieces);
    let mut remote_server = tokio::spawn(local.clone().serve_peers(incoming.rpc, shutdown.clone()));
    let mut local_server = tokio::spawn(local.clone().serve_callers(incoming.local, shutdown.clone()));
    let ended = tokio::select! { biased;
        () = shutdown.cancelled() => Ok(()),
        () = local.idle_for(peer.config().alive_time.map(|span| span.duration())) => {
            tracing::info!("idle for long enough");
            Ok(())
        }
        ended = &mut remote_server => ended.unwrap_or_else(|error| Err(error.to_string())),
        ended = &mut local_server => ended.unwrap_or_else(|error| Err(error.to_string())),
    };
    shutdown.cancel();
    let _ = uploading.await;
    stop.cancel();
    let store = peer.store().clone();
    peer.env().blocking(move || store.flush()).await?;
    ended.map_err(|error| Failure::new(Code::Network, "the daemon no longer serves its ports").because(error))
}
