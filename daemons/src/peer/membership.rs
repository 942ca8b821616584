//! This host and its schedulers: one stream to each, over which everything goes.

mod asking;
mod hearing;
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::dial;
use df_api::failure::Failure;
use df_api::scheduler::host_event::Event as Up;
use df_api::scheduler::scheduler_client::SchedulerClient;
use df_api::scheduler::scheduler_event::Event as Down;
use df_api::scheduler::{self as wire, AnnounceResponse, HostEvent};
use df_api::v1::V1Name;
use df_core::downloader::{Input, LinkState, Report};
use df_core::hash_ring::HashRing;
use df_core::id::{HostId, TaskId};
use df_core::planted::{Bug, is_planted};
use df_core::rng::Rng;
use df_core::time::{Instant, micros};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use asking::Announcement;
use messages::{RoundTrips, deletions, outgoing, registration, report_event};

use super::Peer;
use super::job::Job;
use crate::env::Env;
use crate::sync::lock;

/// Events that may wait for a slow scheduler; with more the stream is given up and begun anew.
const OUTBOX_LIMIT: usize = 65_536;

/// Events sent in one message.
const BATCH_LIMIT: usize = 512;

/// Messages whose round trip is being measured.
const PENDING_LIMIT: usize = 64;

/// How long a scheduler may take to accept the stream.
const ACCEPT_TERM: Duration = Duration::from_secs(5);

/// Pause before the stream is tried again; doubles up to the limit.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);

/// A scheduler that was there this recently is waited for.
const EXPECTED_TERM: Duration = Duration::from_secs(10);

/// Hosts whose addresses are remembered.
const PARENT_LIMIT: usize = 4096;

/// Idle tasks announced at once, between two looks at anything else.
const ANNOUNCE_LIMIT: usize = 64;

/// Digests named in one registration.
const DIGEST_LIMIT: usize = 100_000;

/// Under this name a daemon's health says whether it has a scheduler.
const SCHEDULER_SERVICE: &str = "scheduler.Scheduler";

/// Where another host can be reached, on its scheduler's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentAddress {
    /// Its piece port.
    pub pieces: SocketAddr,
    /// Its gRPC port.
    pub rpc: SocketAddr,
    /// Whether it is a seed peer.
    pub is_seed: bool,
    /// What a Dragonfly v1 daemon calls the task and itself.
    pub v1: Option<Arc<V1Name>>,
}

/// The streams to all schedulers. Cheap to clone.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    /// The schedulers there are now.
    roster: Mutex<Arc<Roster>>,
    parents: Mutex<BTreeMap<HostId, ParentAddress>>,
    /// Who waits for the answer to a registration.
    waiting: Mutex<BTreeMap<TaskId, oneshot::Sender<Announcement>>>,
    /// Counts streams that were opened or lost.
    changes: watch::Sender<u64>,
}

/// The schedulers of one time.
#[derive(Default)]
struct Roster {
    ring: HashRing,
    links: BTreeMap<String, Arc<Mutex<Link>>>,
}

impl Roster {
    /// The links to a task's schedulers, its own first.
    fn of(&self, task: &TaskId) -> impl Iterator<Item = &Arc<Mutex<Link>>> {
        self.ring.owners(task).filter_map(|name| self.links.get(name))
    }
}

/// One scheduler, as long as the daemon has to do with it.
#[derive(Default)]
struct Link {
    /// The open stream.
    stream: Option<mpsc::Sender<HostEvent>>,
    /// What carries it, for questions.
    channel: Option<Channel>,
    sessions: BTreeMap<u64, TaskId>,
    tasks: BTreeMap<TaskId, u64>,
    last_session: u64,
    /// When its stream was lost; at first, when the daemon started.
    lost: Instant,
    /// Ends what keeps the stream open.
    end: CancellationToken,
}

impl Link {
    fn send(&mut self, event: Up) {
        let is_sent = self.stream.as_ref().is_some_and(|s| s.try_send(HostEvent { event: Some(event) }).is_ok());
        if !is_sent {
            self.stream = None;
        }
    }

    fn session(&mut self, task: TaskId) -> u64 {
        if let Some(session) = self.tasks.get(&task) {
            return *session;
        }
        self.last_session += 1;
        self.tasks.insert(task, self.last_session);
        self.sessions.insert(self.last_session, task);
        self.last_session
    }

    fn forget(&mut self, task: &TaskId) -> Option<u64> {
        let session = self.tasks.remove(task)?;
        self.sessions.remove(&session);
        Some(session)
    }
}

/// A channel to an address, over the environment's network.
///
/// # Errors
/// An address that makes no URI, which none does.
pub fn channel(env: &Env, address: SocketAddr) -> Result<Channel, http::uri::InvalidUri> {
    let net = env.net.clone();
    let connector = tower::service_fn(move |_| {
        let net = net.clone();
        async move { net.connect(address).await.map(TokioIo::new) }
    });
    dial::channel(&address.to_string(), connector)
}

impl Links {
    /// Reports the health of "scheduler.Scheduler": whether a scheduler is there for this host. Goes on
    /// for ever.
    pub async fn report_health(self, health: HealthReporter) {
        let mut changes = self.0.changes.subscribe();
        loop {
            let is_linked = self.roster().links.values().any(|link| lock(link).stream.is_some());
            let status = if is_linked { ServingStatus::Serving } else { ServingStatus::NotServing };
            health.set_service_status(SCHEDULER_SERVICE, status).await;
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Links to these schedulers ("host:port"), none of them open yet.
    pub fn new(schedulers: &[String]) -> Self {
        let ring = HashRing::new(schedulers.iter().cloned());
        let links = ring.nodes().iter().map(|name| (name.clone(), Arc::default())).collect();
        Self(Arc::new(Inner {
            roster: Mutex::new(Arc::new(Roster { ring, links })),
            parents: Mutex::default(),
            waiting: Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// The schedulers there are now.
    fn roster(&self) -> Arc<Roster> {
        lock(&self.0.roster).clone()
    }

    /// The scheduler a task belongs to now: the first on the ring whose stream is open.
    fn owner(&self, task: &TaskId) -> Option<Arc<Mutex<Link>>> {
        self.roster().of(task).find(|link| lock(link).stream.is_some()).cloned()
    }

    /// Whether a task has a scheduler now.
    pub fn is_linked(&self, task: &TaskId) -> bool {
        self.owner(task).is_some()
    }

    /// Whether a task's scheduler was told, over the stream it has now, that this host is in the task.
    pub fn has_told(&self, task: &TaskId) -> bool {
        self.owner(task).is_some_and(|link| lock(&link).tasks.contains_key(task))
    }

    /// How a task's scheduler can be reached.
    pub fn state(&self, task: &TaskId, now: Instant) -> LinkState {
        let is_expected = |link: &Arc<Mutex<Link>>| now - lock(link).lost < EXPECTED_TERM;
        if self.is_linked(task) {
            LinkState::Linked
        } else if self.roster().links.values().any(is_expected) {
            LinkState::Expected
        } else {
            LinkState::Absent
        }
    }

    /// Where a host can be reached.
    pub fn parent(&self, host: &HostId) -> Option<ParentAddress> {
        lock(&self.0.parents).get(host).cloned()
    }

    /// Tells a task's scheduler that this host is in it, with what it has; and whoever was its scheduler
    /// before, that it is not any more. Blocks if the task's files are not open.
    pub fn register(&self, peer: &Peer, task: &TaskId) {
        let Some(name) = self.owner_name(task) else { return };
        let Some(mut register) = registration(peer, task) else { return };
        self.leave_all_but(task, Some(&name));
        let roster = self.roster();
        let Some(link) = roster.links.get(&name) else { return };
        let mut link = lock(link);
        if !register.is_wanting && peer.job(task).is_some() {
            // A download was opened meanwhile. Its own registration has come, or will: this one would
            // say that nobody wants the task.
            return;
        }
        register.session = link.session(*task);
        link.send(Up::Register(register));
    }

    /// Tells a task's scheduler something about an open task.
    pub fn report(&self, job: &Job, report: Report) {
        let failure = matches!(report, Report::SourceFailed { .. }).then(|| job.last_failure()).flatten();
        self.send(&job.task, report, failure);
    }

    /// The same about a task that is not open any more.
    pub fn report_closed(&self, task: &TaskId, report: Report) {
        self.send(task, report, None);
    }

    fn send(&self, task: &TaskId, report: Report, failure: Option<Failure>) {
        let Some(link) = self.owner(task) else { return };
        let mut link = lock(&link);
        let Some(session) = link.tasks.get(task).copied() else { return };
        let mut event = report_event(session, report);
        if let Up::SourceFailed(failed) = &mut event {
            failed.failure = failure.map(Into::into);
        }
        link.send(event);
    }

    /// Tells a task's scheduler that this host no longer has anything of it.
    pub fn leave(&self, task: &TaskId) {
        self.leave_all_but(task, None);
    }

    fn leave_all_but(&self, task: &TaskId, but: Option<&str>) {
        for (_, link) in self.roster().links.iter().filter(|(name, _)| Some(name.as_str()) != but) {
            let mut link = lock(link);
            if let Some(session) = link.forget(task)
                && !is_planted(Bug::LeaveNotTold)
            {
                link.send(Up::PeerLeft(wire::PeerLeft { session }));
            }
        }
    }

    /// Starts a task for each scheduler that keeps its stream open.
    pub fn start(&self, peer: &Peer, host: &wire::Host, shutdown: &CancellationToken) {
        let roster = self.roster();
        for (name, link) in &roster.links {
            self.keep(peer, host, shutdown, name, link);
        }
    }

    /// There are other schedulers now: streams to those that are gone end, new ones are opened, and
    /// tasks move to whom they belong to.
    pub fn change(&self, peer: &Peer, host: &wire::Host, shutdown: &CancellationToken, schedulers: &[String]) {
        let ring = HashRing::new(schedulers.iter().cloned());
        let before = self.roster();
        if ring == before.ring {
            return;
        }
        let link = |name: &String| {
            let known = before.links.get(name).cloned();
            let lost = peer.env().clock.now();
            let new = || Arc::new(Mutex::new(Link { lost, ..Link::default() }));
            (name.clone(), known.unwrap_or_else(new))
        };
        let after = Arc::new(Roster { links: ring.nodes().iter().map(link).collect(), ring });
        let owners = |tasks: Vec<TaskId>| tasks.into_iter().map(|task| (task, self.owner_name(&task))).collect();
        let open: Vec<(TaskId, Option<String>)> = owners(peer.open_tasks());
        *lock(&self.0.roster) = after.clone();
        for (name, link) in after.links.iter().filter(|(name, _)| !before.links.contains_key(*name)) {
            self.keep(peer, host, shutdown, name, link);
        }
        let moved: Vec<TaskId> =
            open.into_iter().filter(|(task, owner)| self.owner_name(task) != *owner).map(|(task, _)| task).collect();
        let gone: Vec<_> = before.links.iter().filter(|(name, _)| !after.links.contains_key(*name)).collect();
        for (_, link) in gone {
            lock(link).end.cancel();
        }
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
        let (links, peer) = (self.clone(), peer.clone());
        tokio::spawn(async move {
            for task in moved {
                peer.downloader().tell(Input::SchedulerLost { task }).await;
                if links.is_linked(&task) {
                    peer.downloader().tell(Input::SchedulerLinked { task }).await;
                }
            }
            links.announce_all(&peer, peer.idle_tasks());
        });
    }

    fn keep(&self, peer: &Peer, host: &wire::Host, shutdown: &CancellationToken, name: &str, link: &Arc<Mutex<Link>>) {
        let keeper = Keeper {
            links: self.clone(),
            peer: peer.clone(),
            name: name.to_owned(),
            link: link.clone(),
            host: host.clone(),
            rng: Rng::new(peer.env().seed_for(name)),
        };
        let (shutdown, end) = (shutdown.clone(), lock(link).end.clone());
        tokio::spawn(async move {
            tokio::select! { biased;
                () = shutdown.cancelled() => {}
                () = end.cancelled() => {}
                () = keeper.keep() => {}
            }
        });
    }
}

/// Keeps the stream to one scheduler open.
struct Keeper {
    links: Links,
    peer: Peer,
    name: String,
    link: Arc<Mutex<Link>>,
    host: wire::Host,
    rng: Rng,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = BACKOFF;
        loop {
            match self.stream().await {
                Ok(()) => pause = BACKOFF,
                Err(error) => tracing::info!(scheduler = %self.name, %error, "no stream to the scheduler"),
            }
            let jitter = self.rng.below(micros(pause) / 2);
            tokio::time::sleep(pause / 2 + Duration::from_micros(jitter)).await;
            pause = (pause * 2).min(BACKOFF_LIMIT);
        }
    }

    /// One stream, from its opening to its end.
    async fn stream(&mut self) -> Result<(), tonic::Status> {
        let unavailable = |error: &dyn std::fmt::Display| tonic::Status::unavailable(error.to_string());
        let (host, port) = self.name.rsplit_once(':').ok_or_else(|| unavailable(&"not host:port"))?;
        let port = port.parse().map_err(|error| unavailable(&error))?;
        let addresses = self.peer.env().net.resolve(host, port).await.map_err(|error| unavailable(&error))?;
        let address = addresses.first().copied().ok_or_else(|| unavailable(&"no address"))?;
        let channel = channel(self.peer.env(), address).map_err(|error| unavailable(&error))?;
        let mut client = SchedulerClient::new(channel.clone())
            .max_decoding_message_size(dial::MESSAGE_LIMIT)
            .max_encoding_message_size(dial::MESSAGE_LIMIT);
        let (sender, receiver) = mpsc::channel(OUTBOX_LIMIT);
        let clock = RoundTrips::new(self.peer.env().clone());
        let first = HostEvent { event: Some(Up::Host(self.host.clone())) };
        // First who this is, then what is no more: before anybody says that he still has it.
        for event in std::iter::once(first).chain(deletions(&self.peer.store().deletions())) {
            let _ = sender.try_send(event);
        }
        let requests = outgoing(receiver, clock.clone());
        let opening = async {
            let mut answers = client.announce(requests).await?.into_inner();
            let accepted = answers.message().await?;
            Ok::<_, tonic::Status>((answers, accepted))
        };
        let opened = tokio::time::timeout(ACCEPT_TERM, opening).await;
        let (mut answers, accepted) = opened.map_err(|_| unavailable(&"no answer"))??;
        if let Some(refused) = accepted.as_ref().and_then(refusal) {
            return Err(refused.into());
        }
        tracing::info!(scheduler = %self.name, %address, "scheduler linked");
        self.opened(sender, channel).await;
        let ended = loop {
            match answers.message().await {
                Ok(Some(message)) => self.hear(message, &clock).await,
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
            if lock(&self.link).stream.is_none() {
                break Err(unavailable(&"too many events wait"));
            }
        };
        self.closed().await;
        ended
    }

    /// The stream is open: tasks that belong to this scheduler come (back) to it.
    async fn opened(&self, sender: mpsc::Sender<HostEvent>, channel: Channel) {
        let moved = self.with_owners(|link| (link.stream, link.channel) = (Some(sender), Some(channel)));
        for task in moved {
            self.peer.downloader().tell(Input::SchedulerLinked { task }).await;
        }
        self.links.announce_all(&self.peer, self.owned_idle());
    }

    /// Tasks that nobody here downloads and that belong to this scheduler now.
    fn owned_idle(&self) -> Vec<TaskId> {
        let is_owned = |task: &TaskId| self.links.owner_name(task).as_deref() == Some(self.name.as_str());
        self.peer.idle_tasks().into_iter().filter(is_owned).collect()
    }

    /// The stream ended: its tasks have no scheduler, or the next on the ring. Those are its tasks that
    /// were told to it: it may have been noticed earlier that nothing can be sent to it.
    async fn closed(&self) {
        let lost = self.peer.env().clock.now();
        let told: Vec<TaskId> = lock(&self.link).tasks.keys().copied().collect();
        let mut idle: BTreeSet<TaskId> = self.owned_idle().into_iter().collect();
        let renew = |link: &mut Link| {
            *link = Link { last_session: link.last_session, lost, end: link.end.clone(), ..Link::default() };
        };
        let mut open: BTreeSet<TaskId> = self.with_owners(renew).into_iter().collect();
        for task in told {
            let is_open = self.peer.job(&task).is_some();
            if is_open { &mut open } else { &mut idle }.insert(task);
        }
        for task in open {
            self.peer.downloader().tell(Input::SchedulerLost { task }).await;
            if self.links.is_linked(&task) {
                self.peer.downloader().tell(Input::SchedulerLinked { task }).await;
            }
        }
        self.links.announce_all(&self.peer, idle.into_iter().collect());
    }

    /// Changes this link; answers the open tasks whose owner changed by it.
    fn with_owners(&self, change: impl FnOnce(&mut Link)) -> Vec<TaskId> {
        let owners = || self.peer.open_tasks().into_iter().map(|task| (task, self.links.owner_name(&task)));
        let before: Vec<(TaskId, Option<String>)> = owners().collect();
        change(&mut lock(&self.link));
        self.links.0.changes.send_modify(|count| *count = count.wrapping_add(1));
        let is_moved = |(task, owner): &(TaskId, Option<String>)| self.links.owner_name(task) != *owner;
        before.into_iter().filter(is_moved).map(|(task, _)| task).collect()
    }
}

impl Links {
    fn owner_name(&self, task: &TaskId) -> Option<String> {
        let roster = self.roster();
        let is_open = |name: &&str| roster.links.get(*name).is_some_and(|link| lock(link).stream.is_some());
        roster.ring.owners(task).find(is_open).map(str::to_owned)
    }

    /// Tells their schedulers that these tasks are here, some at a time; goes on in the background, for
    /// the scheduler's answers want to be read meanwhile.
    fn announce_all(&self, peer: &Peer, tasks: Vec<TaskId>) {
        let (links, peer) = (self.clone(), peer.clone());
        tokio::spawn(async move {
            for some in tasks.chunks(ANNOUNCE_LIMIT) {
                let (links, of, some) = (links.clone(), peer.clone(), some.to_vec());
                let register = move || some.iter().for_each(|task| links.register(&of, task));
                peer.env().blocking(register).await;
            }
        });
    }
}

fn refusal(message: &AnnounceResponse) -> Option<Failure> {
    message.events.iter().find_map(|event| match &event.event {
        Some(Down::Refused(refused)) if refused.session == 0 => {
            Some(refused.failure.clone().unwrap_or_default().into())
        }
        _ => None,
    })
}
