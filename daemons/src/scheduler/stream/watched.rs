//! What the streams know that those who watch want: who hosts are, which are held, what failed.

use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager::HostLimits;
use df_api::scheduler as wire;
use df_api::scheduler::host_event::Event as Up;
use df_api::scheduler::scheduler_event::Event as Down;
use df_api::task::TaskRequest;
use df_core::id::{HostId, TaskId};
use df_core::scheduler::{
    HostInfo, HostKey, HostKind, Input, PeerKey, RequestId, Scheduler, SchedulerConfig, Transfer,
};
use df_core::time::Instant;
use tokio::sync::oneshot;

use super::{Asked, Books, Desk, StreamId, Wish};
use crate::sync::lock;

/// Hosts that can be held at once.
const HELD_LIMIT: usize = 10_000;

/// Failures remembered.
const FAILURE_LIMIT: usize = 10_000;

/// Reads the machine and the books.
pub(super) type Looker = Box<dyn FnOnce(&Scheduler, &mut Books) + Send>;

/// What people want to know of a host.
#[derive(Clone, Debug)]
pub(in crate::scheduler) struct About {
    pub(in crate::scheduler) hostname: String,
    pub(in crate::scheduler) idc: String,
    pub(in crate::scheduler) location: String,
    pub(in crate::scheduler) connected: Instant,
    pub(in crate::scheduler) listed: Option<Instant>,
}

impl About {
    pub(super) fn of(host: &wire::Host, now: Instant) -> Self {
        Self {
            hostname: host.hostname.clone(),
            idc: host.idc.clone(),
            location: host.location.clone(),
            connected: now,
            listed: None,
        }
    }
}

/// A host that an operator took out.
#[derive(Clone, Debug)]
pub(in crate::scheduler) struct Held {
    pub(in crate::scheduler) since: Instant,
    /// `None`: until it is released.
    pub(in crate::scheduler) until: Option<Instant>,
    pub(in crate::scheduler) reason: String,
    pub(in crate::scheduler) hostname: String,
}

/// Slots that the manager allows hosts.
#[derive(Clone, Default, Debug)]
pub(in crate::scheduler) struct Slots {
    pub(in crate::scheduler) peer: HostLimits,
    pub(in crate::scheduler) seed_peer: HostLimits,
}

impl Desk {
    /// Reads the machine and the books together.
    pub(in crate::scheduler) async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Scheduler, &mut Books) -> T + Send + 'static,
    ) -> Option<T> {
        let request = RequestId(self.next());
        let (answer, answered) = oneshot::channel();
        let look: Looker = Box::new(move |machine, books| drop(answer.send(read(machine, books))));
        lock(&self.0.books).requests.insert(request, Asked::Look(look));
        // A question that the machine answers in its turn; of what task does not matter.
        let task = TaskId::from_bytes([0; TaskId::LEN]);
        self.0.inbox.tell(Input::TaskAsked { request, task }).await;
        answered.await.ok()
    }

    /// How many parents peers that pull are offered, and among how many these are chosen; what is not said is as
    /// it would be without a manager.
    pub(in crate::scheduler) fn limit_candidates(&self, parents: Option<u32>, looked_at: Option<u32>) {
        let usual = SchedulerConfig::default();
        self.0.inbox.tell_soon(Input::CandidatesLimited {
            parents: parents.unwrap_or(usual.candidate_parent_limit),
            looked_at: looked_at.unwrap_or(usual.filter_parent_limit),
        });
    }

    /// Takes a host out: its stream ends, and it is not let in again for a while.
    pub(in crate::scheduler) fn hold(&self, host: HostId, term: Option<Duration>, reason: String) -> bool {
        let now = self.now();
        let mut books = lock(&self.0.books);
        let stream = books.stream_of(&host);
        let hostname = stream.and_then(|id| books.streams.get(&id)).map(|stream| stream.about.hostname.clone());
        if books.held.len() >= HELD_LIMIT && !books.held.contains_key(&host) {
            books.held.retain(|_, held| held.until.is_none_or(|until| now < until));
        }
        let held =
            Held { since: now, until: term.map(|term| now + term), reason, hostname: hostname.unwrap_or_default() };
        books.held.insert(host, held);
        if let Some(stream) = stream {
            books.cut(stream);
        }
        stream.is_some()
    }

    /// Frees a host of everything against it.
    pub(in crate::scheduler) async fn release(&self, host: HostId) -> bool {
        let was_held = lock(&self.0.books).held.remove(&host).is_some();
        self.0.inbox.tell(Input::HostPardoned { host }).await;
        was_held
    }

    /// Limits on slots have changed: they hold for hosts that come from now on.
    pub(in crate::scheduler) fn set_slots(&self, slots: Slots) {
        lock(&self.0.books).slots = slots;
    }
}

impl Books {
    /// Gathers a grant, and remembers whose it is.
    pub(in crate::scheduler) fn tell_grant(
        &mut self,
        peer: PeerKey,
        (grant, transfer): (u64, Option<Transfer>),
        event: impl FnOnce(u64) -> Down,
    ) {
        if let Some(seat) = self.peers.get(&peer).copied() {
            self.grants.insert(grant, (seat.stream, transfer));
            self.tell_stream(seat.stream, event(seat.session));
        }
    }

    /// A grant is over on the scheduler's own decision.
    pub(in crate::scheduler) fn forget_grant(&mut self, grant: u64) {
        self.grants.remove(&grant);
    }

    pub(super) fn stream_of(&self, host: &HostId) -> Option<StreamId> {
        let is_it = |id: &StreamId| self.streams.get(id).is_some_and(|stream| stream.parent.host_id == host.as_bytes());
        self.hosts.values().copied().find(is_it)
    }

    pub(in crate::scheduler) fn looker(&mut self, request: RequestId) -> Option<Looker> {
        match self.requests.remove(&request) {
            Some(Asked::Look(look)) => Some(look),
            Some(other) => {
                self.requests.insert(request, other);
                None
            }
            None => None,
        }
    }

    /// Says no to a host that is held.
    pub(super) fn check_held(&mut self, now: Instant, host: &HostId) -> Result<(), Failure> {
        let Some(held) = self.held.get(host) else { return Ok(()) };
        if held.until.is_some_and(|until| until <= now) {
            self.held.remove(host);
            return Ok(());
        }
        Err(Failure::new(Code::Blocked, "this host is held by an operator").because(&held.reason))
    }

    /// A host with the slots that the manager allows it.
    pub(super) fn limited(&self, info: HostInfo) -> HostInfo {
        let limits = match info.kind {
            HostKind::Seed => &self.slots.seed_peer,
            HostKind::Normal => &self.slots.peer,
        };
        HostInfo {
            upload_limit: limits.upload_slot_limit.unwrap_or(info.upload_limit),
            download_limit: limits.download_slot_limit.unwrap_or(info.download_limit),
            ..info
        }
    }

    /// Who a host is, and where.
    pub(in crate::scheduler) fn about(&self, host: HostKey) -> Option<(&About, &wire::Parent)> {
        let stream = self.streams.get(self.hosts.get(&host)?)?;
        Some((&stream.about, &stream.parent))
    }

    /// Hosts that are held now.
    pub(in crate::scheduler) fn held(&self, now: Instant) -> impl Iterator<Item = (&HostId, &Held)> {
        self.held.iter().filter(move |(_, held)| held.until.is_none_or(|until| now < until))
    }

    /// A host was listed.
    pub(in crate::scheduler) fn note_listed(&mut self, host: HostKey, now: Instant) {
        if let Some(stream) = self.hosts.get(&host).and_then(|id| self.streams.get_mut(id)) {
            stream.about.listed = Some(now);
        }
    }

    /// Remembers what a task is, on the manager's word.
    pub(in crate::scheduler) fn wish_for(&mut self, task: TaskId, wish: TaskRequest) {
        self.remember(task, wish);
    }

    /// What a task is called where people see it: its URL without secrets, and its other labels.
    pub(in crate::scheduler) fn shown(&self, task: &TaskId) -> Option<(String, &Wish)> {
        let wish = self.tasks.get(task)?;
        let url = url::Url::parse(&wish.url).map(|url| df_api::task::redacted(&url)).unwrap_or_default();
        Some((if wish.cid.is_empty() { url } else { String::new() }, wish))
    }

    /// Counts what comes from sources.
    pub(super) fn note_source(&mut self, now: Instant, host: HostKey, peer: PeerKey, event: &Up) {
        let Some(task) = self.peers.get(&peer).map(|seat| seat.task) else { return };
        match event {
            Up::PlanLearned(learned) => {
                let plan = learned.plan.and_then(|plan| df_api::convert::plan(plan).ok());
                if let Some(wish) = self.tasks.get_mut(&task) {
                    wish.plan = plan.or(wish.plan);
                    wish.failure = None;
                }
            }
            Up::SourceStored(stored) => {
                let plan = self.tasks.get(&task).and_then(|wish| wish.plan);
                let bytes = plan.and_then(|plan| Some(plan.range(plan.number(stored.piece)?).len));
                self.meter.fetched(now, task, host, bytes.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// A host could not fetch a task.
    pub(in crate::scheduler) fn note_failure(&mut self, task: TaskId, host: HostId, failure: &Failure) {
        if self.failures.len() >= FAILURE_LIMIT {
            self.failures.pop_first();
        }
        self.failures.insert((task, host), failure.to_string());
    }

    /// Why a host could not fetch a task, once.
    pub(in crate::scheduler) fn take_failure(&mut self, task: &TaskId, host: &HostId) -> Option<String> {
        self.failures.remove(&(*task, *host))
    }
}
