//! The streams of hosts: who is connected, under which numbers they know their tasks, and where
//! what the machine wants has to go.

mod address;
mod cached;
mod input;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::convert::{self, Malformed};
use df_api::failure::{Code, Failure};
use df_api::scheduler::host_event::Event as Up;
use df_api::scheduler::scheduler_event::Event as Down;
use df_api::scheduler::{self as wire, AnnounceResponse, SchedulerEvent};
use df_api::task::TaskRequest;
use df_api::v1;
use df_core::id::{HostId, TaskId};
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::planted::{Bug, is_planted};
use df_core::scheduler::{
    Cached, GrantKey, HostKey, Input, Mode, PeerKey, Registration, RequestId, TaskView, Transfer,
};
use df_core::time::{Instant, micros};
use slotmap::KeyData;
use tokio::sync::{mpsc, oneshot};

use crate::env::net::Remote;
use crate::env::{Clock, Env};
use crate::peer::source::Cidr;
use crate::pump::Inbox;
use crate::sync::lock;
use input::{peer_input, session_of};
use watched::{About, Looker};
pub(super) use watched::{Held, Slots};

use super::meter::Meter;

/// Messages that may wait for a slow host; with more its stream is cut, and it begins anew.
const OUTBOX_LIMIT: usize = 4096;

/// Tasks one host may be in.
const SESSION_LIMIT: usize = 100_000;

/// Tasks of which the URL is remembered beyond those the machine knows.
const TASK_LIMIT: usize = 200_000;

/// Names a stream as long as the scheduler runs.
pub(super) type StreamId = u64;

/// What is known about streams. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk(Arc<Inner>);

struct Inner {
    env: Env,
    inbox: Inbox<Input>,
    trusted: Vec<Cidr>,
    last: AtomicU64,
    books: Mutex<Books>,
}

#[derive(Default)]
pub(super) struct Books {
    streams: BTreeMap<StreamId, Stream>,
    hosts: BTreeMap<HostKey, StreamId>,
    peers: BTreeMap<PeerKey, Seat>,
    /// Grants under way, by number, and whose they are.
    grants: BTreeMap<u64, (StreamId, Option<Transfer>)>,
    /// Streams for which events were gathered.
    dirty: BTreeSet<StreamId>,
    requests: BTreeMap<RequestId, Asked>,
    tasks: BTreeMap<TaskId, Wish>,
    /// What goes over the wires.
    pub(super) meter: Meter,
    /// Hosts that an operator took out.
    held: BTreeMap<HostId, Held>,
    /// Slots that the manager allows.
    slots: Slots,
    /// What hosts could not fetch, for preheats.
    failures: BTreeMap<(TaskId, HostId), String>,
    /// Tasks by the ids Dragonfly v1 clients know them by.
    foreign: BTreeMap<TaskId, TaskId>,
}

/// One host's stream.
struct Stream {
    sender: mpsc::Sender<AnnounceResponse>,
    gathered: Vec<SchedulerEvent>,
    parent: wire::Parent,
    about: About,
    peers: BTreeMap<u64, PeerKey>,
    /// Events of sessions whose registration has not been answered yet, by session.
    waiting: BTreeMap<u64, VecDeque<Up>>,
    seen: Option<(u64, Instant)>,
}

/// Where a peer is known by which number.
#[derive(Clone, Copy)]
struct Seat {
    stream: StreamId,
    session: u64,
    task: TaskId,
}

/// What an answer of the machine is for.
enum Asked {
    Host(StreamId, oneshot::Sender<Result<HostKey, Failure>>),
    Peer(Seat),
    Task(oneshot::Sender<Option<TaskView>>),
    Look(Looker),
}

/// What a task is, for waking seeds; and what its source last said.
#[derive(Clone, Default)]
pub(super) struct Wish {
    pub(super) url: String,
    pub(super) meta: UrlMeta,
    pub(super) piece_len: u64,
    /// The name of a cached content; empty for any other.
    pub(super) cid: String,
    /// How it is cut, on the word of whoever fetched it.
    plan: Option<PiecePlan>,
    pub(super) failure: Option<Failure>,
}

/// An open stream; when dropped, its host is gone.
pub(super) struct Session {
    desk: Desk,
    id: StreamId,
    host: HostKey,
}

impl Desk {
    pub(super) fn new(env: Env, inbox: Inbox<Input>, trusted: Vec<Cidr>) -> Self {
        Self(Arc::new(Inner { env, inbox, trusted, last: AtomicU64::new(0), books: Mutex::default() }))
    }

    /// A number nobody else has: of a stream, of a request.
    pub(super) fn next(&self) -> u64 {
        self.0.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Begins the stream of a host that has said who it is.
    pub(super) async fn open(
        &self,
        host: wire::Host,
        remote: Option<Remote>,
        sender: mpsc::Sender<AnnounceResponse>,
    ) -> Result<Session, Failure> {
        self.check_address(&host, remote)?;
        let info = convert::host(&host).map_err(|malformed| Failure::new(Code::Usage, malformed.to_string()))?;
        let now = self.now();
        let info = {
            let mut books = lock(&self.0.books);
            books.check_held(now, &info.id)?;
            books.limited(info)
        };
        let about = About::of(&host, now);
        let (id, request) = (self.next(), RequestId(self.next()));
        let (answer, answered) = oneshot::channel();
        let parent = wire::Parent {
            host_id: host.id,
            ip: host.ip,
            rpc_port: host.rpc_port,
            piece_port: host.piece_port,
            kind: convert::host_kind_message(info.kind).into(),
            ..wire::Parent::default()
        };
        {
            let mut books = lock(&self.0.books);
            let stream = Stream {
                sender,
                gathered: Vec::new(),
                parent,
                about,
                peers: BTreeMap::new(),
                waiting: BTreeMap::new(),
                seen: None,
            };
            books.streams.insert(id, stream);
            books.requests.insert(request, Asked::Host(id, answer));
        }
        self.0.inbox.tell(Input::HostAnnounced { request, info }).await;
        let accepted = answered.await.unwrap_or_else(|_| Err(Failure::new(Code::Busy, "the scheduler is stopping")));
        match accepted {
            Ok(host) => Ok(Session { desk: self.clone(), id, host }),
            Err(failure) => {
                lock(&self.0.books).streams.remove(&id);
                Err(failure)
            }
        }
    }
}

impl Session {
    /// A message of the host arrived.
    pub(super) async fn hear(&self, message: wire::AnnounceRequest) -> Result<(), Malformed> {
        let now = self.desk.0.env.clock.now();
        if let Some(stream) = lock(&self.desk.0.books).streams.get_mut(&self.id) {
            stream.seen = Some((message.sequence, now));
        }
        for event in message.events.into_iter().filter_map(|event| event.event) {
            if let Up::Deletions(deletions) = event {
                self.desk.hear_deletions(&deletions).await?;
            } else if let Some(input) = self.understand(event)? {
                self.desk.0.inbox.tell(input).await;
            }
        }
        Ok(())
    }

    /// What an event means to the machine; `None` if it has to wait for its session's registration,
    /// or concerns nothing any more.
    fn understand(&self, event: Up) -> Result<Option<Input>, Malformed> {
        if let Up::Register(register) = event {
            return self.register(register).map(Some);
        }
        let Some(session) = session_of(&event) else { return self.grant_input(event) };
        let mut books = lock(&self.desk.0.books);
        let Some(stream) = books.streams.get_mut(&self.id) else { return Ok(None) };
        let Some(peer) = stream.peers.get(&session).copied() else {
            if let Some(waiting) = stream.waiting.get_mut(&session) {
                waiting.push_back(event);
            }
            return Ok(None);
        };
        if let Up::SourceFailed(failed) = &event
            && let Some(failure) = failed.failure.clone()
        {
            books.note_source_failure(peer, failure.into());
        }
        books.note_source(self.desk.now(), self.host, peer, &event);
        peer_input(peer, event).map(Some)
    }

    /// An event about a grant, if the grant is this host's.
    fn grant_input(&self, event: Up) -> Result<Option<Input>, Malformed> {
        let (grant, is_end) = match &event {
            Up::NearlyFinished(nearly) => (nearly.grant, false),
            Up::Progressed(progressed) => (progressed.grant, false),
            Up::PieceFinished(finished) => (finished.grant, true),
            Up::PieceFailed(failed) => (failed.grant, true),
            _ => return Err(Malformed("a second introduction".to_owned())),
        };
        let mut books = lock(&self.desk.0.books);
        let Some((_, transfer)) = books.grants.get(&grant).copied().filter(|(stream, _)| *stream == self.id) else {
            return Ok(None);
        };
        if is_end {
            books.grants.remove(&grant);
            if let Some(transfer) = transfer {
                let is_finished = matches!(event, Up::PieceFinished(_));
                books.meter.ended(self.desk.now(), &transfer, is_finished);
            }
        }
        let key = GrantKey::from(KeyData::from_ffi(grant));
        Ok(Some(match event {
            Up::Progressed(_) => Input::Progressed { grant: key },
            Up::PieceFinished(_) => Input::PieceFinished { grant: key },
            Up::PieceFailed(failed) => {
                Input::PieceFailed { grant: key, failure: convert::piece_failure(failed.failure()) }
            }
            _ => Input::NearlyFinished { grant: key },
        }))
    }

    fn register(&self, register: wire::Register) -> Result<Input, Malformed> {
        let task = convert::task_id(&register.task_id)?;
        let plan = register.plan.map(convert::plan).transpose()?;
        let held = plan.map_or(Ok(PieceSet::new()), |plan| convert::piece_set(&register.held, &plan))?;
        let digests = convert::digests(&register.digests.unwrap_or_default())?;
        let has_source = !register.url.is_empty();
        let is_cached = !has_source && !register.cid.is_empty();
        let mut books = lock(&self.desk.0.books);
        if has_source || is_cached {
            let meta = register.url_meta.unwrap_or_default();
            let wish = match is_cached {
                true => TaskRequest::cached(&register.cid, &meta.tag),
                false => TaskRequest::new(&register.url, meta, register.piece_length),
            };
            let wish = wish.map_err(|failure| Malformed(failure.to_string()))?;
            if wish.id() != task {
                return Err(Malformed("a task id that is not the request's".to_owned()));
            }
            books.remember(task, wish);
            if let Some(wish) = books.tasks.get_mut(&task).filter(|_| plan.is_some()) {
                wish.plan = plan;
            }
        }
        let (is_imported, replicas) = (register.is_imported, register.replicas);
        let stamp = if is_imported { self.desk.stamp() } else { self.desk.plausible(register.stamp) };
        let cached = is_cached.then_some(Cached { is_imported, replicas, stamp });
        let request = RequestId(self.desk.next());
        let stream = books.streams.get_mut(&self.id).ok_or_else(|| Malformed("the stream is closed".to_owned()))?;
        if stream.peers.len() + stream.waiting.len() >= SESSION_LIMIT {
            return Err(Malformed(format!("more than {SESSION_LIMIT} tasks of one host")));
        }
        stream.peers.remove(&register.session);
        stream.waiting.insert(register.session, VecDeque::new());
        let seat = Seat { stream: self.id, session: register.session, task };
        books.requests.insert(request, Asked::Peer(seat));
        Ok(Input::PeerRegistered(Box::new(Registration {
            request,
            host: self.host,
            peer: convert::peer_id(&register.peer_id)?,
            task,
            plan,
            held,
            digests,
            version: register.version,
            is_wanting: register.is_wanting,
            has_source,
            cached,
            can_fetch_source: register.can_fetch_source,
            wakes_seeds: !register.spares_seeds,
            order: Order::RarestFirst,
            mode: Mode::Granted,
        })))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut books = lock(&self.desk.0.books);
        books.streams.remove(&self.id);
        books.hosts.remove(&self.host);
        books.meter.forget_host(self.host);
        let id = self.id;
        books.peers.retain(|_, seat| seat.stream != id);
        books.grants.retain(|_, (stream, _)| *stream != id);
        let (inbox, host) = (self.desk.0.inbox.clone(), self.host);
        if !is_planted(Bug::HostNeverLeaves) {
            tokio::spawn(async move { inbox.tell(Input::HostLeft { host }).await });
        }
    }
}

impl Books {
    /// Remembers what a task is.
    pub(super) fn remember(&mut self, task: TaskId, mut wish: TaskRequest) {
        // That is one caller's; who is woken has none.
        wish.meta.priority = 0;
        if self.tasks.len() >= TASK_LIMIT && !self.tasks.contains_key(&task) {
            self.tasks.pop_first();
        }
        if let Some(cid) = &wish.cid
            && let Ok(foreign) = v1::cache_task_id(cid, &wish.meta.tag).parse()
        {
            self.remember_as(foreign, task);
        }
        let known = self.tasks.entry(task).or_default();
        known.cid = wish.cid.unwrap_or_default();
        (known.url, known.meta, known.piece_len) = (wish.url.to_string(), wish.meta, wish.piece_len);
    }

    fn note_source_failure(&mut self, peer: PeerKey, failure: Failure) {
        let task = self.peers.get(&peer).map(|seat| seat.task);
        if let Some(wish) = task.and_then(|task| self.tasks.get_mut(&task)) {
            wish.failure = Some(failure);
        }
    }
}

impl Desk {
    pub(super) fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        lock(&self.0.books)
    }

    pub(super) fn now(&self) -> Instant {
        self.0.env.clock.now()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.env.clock
    }

    pub(super) fn inbox(&self) -> &Inbox<Input> {
        &self.0.inbox
    }
}

impl Books {
    /// The machine has accepted a host.
    pub(super) fn host_accepted(&mut self, request: RequestId, host: HostKey) {
        if let Some(Asked::Host(stream, answer)) = self.requests.remove(&request) {
            if self.streams.get(&stream).is_some_and(|open| open.parent.kind() == wire::HostKind::Seed) {
                self.meter.note_seed(host);
            }
            self.hosts.insert(host, stream);
            let _ = answer.send(Ok(host));
        }
    }

    /// The machine has accepted a peer: it is told what its host said of it meanwhile, before
    /// anything the host says now.
    pub(super) fn registered(&mut self, request: RequestId, peer: PeerKey, stamp: u64, inbox: &Inbox<Input>) {
        let Some(Asked::Peer(seat)) = self.requests.remove(&request) else { return };
        let Some(stream) = self.streams.get_mut(&seat.stream) else { return };
        stream.peers.insert(seat.session, peer);
        let waiting = stream.waiting.remove(&seat.session).unwrap_or_default();
        self.peers.insert(peer, seat);
        self.tell_stream(seat.stream, Down::Registered(wire::Registered { session: seat.session, stamp }));
        let mut inputs = waiting.into_iter().filter_map(|event| peer_input(peer, event).ok());
        if !inputs.all(|input| inbox.try_tell(input)) {
            self.cut(seat.stream);
        }
    }

    /// Ends a stream that cannot be kept up with; its host begins anew.
    fn cut(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// The machine has refused a host or a peer.
    pub(super) fn refused(&mut self, request: RequestId, failure: Failure) {
        match self.requests.remove(&request) {
            Some(Asked::Host(_, answer)) => drop(answer.send(Err(failure))),
            Some(Asked::Peer(Seat { stream: id, session, .. })) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.waiting.remove(&session);
                }
                self.tell_stream(id, Down::Refused(wire::Refused { session, failure: Some(failure.into()) }));
            }
            Some(Asked::Task(_) | Asked::Look(_)) | None => {}
        }
    }

    /// Gathers an event for the host of a peer.
    pub(super) fn tell(&mut self, peer: PeerKey, event: impl FnOnce(u64) -> Down) {
        if let Some(seat) = self.peers.get(&peer).copied() {
            self.tell_stream(seat.stream, event(seat.session));
        }
    }

    /// Gathers an event for a host.
    pub(super) fn tell_host(&mut self, host: HostKey, event: Down) {
        if let Some(stream) = self.hosts.get(&host).copied() {
            self.tell_stream(stream, event);
        }
    }

    fn tell_stream(&mut self, stream: StreamId, event: Down) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.gathered.push(SchedulerEvent { event: Some(event) });
            self.dirty.insert(stream);
        }
    }

    /// Where pieces of a host are to be had.
    pub(super) fn parent(&self, host: HostKey) -> Option<wire::Parent> {
        let stream = self.hosts.get(&host)?;
        self.streams.get(stream).map(|stream| stream.parent.clone())
    }

    /// What a task is.
    pub(super) fn wish(&self, task: &TaskId) -> Option<Wish> {
        self.tasks.get(task).cloned()
    }

    /// A peer is gone on the scheduler's own decision: what it has was deleted, up to the stamp, or is
    /// not what the source has any more.
    pub(super) fn forget(&mut self, peer: PeerKey, deleted: Option<u64>) {
        let Some(Seat { stream: id, session, .. }) = self.peers.remove(&peer) else { return };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.peers.remove(&session);
        }
        self.tell_stream(id, Down::Forget(wire::Forget { session, deleted: deleted.unwrap_or(0) }));
    }

    /// The task of a peer.
    pub(super) fn task(&self, peer: PeerKey) -> Option<TaskId> {
        self.peers.get(&peer).map(|seat| seat.task)
    }

    /// Sends what was gathered. A host that does not take its messages is cut off.
    pub(super) fn flush(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let (seen_sequence, seen_ago) = stream.seen.take().map_or((0, Duration::ZERO), |(n, at)| (n, now - at));
            let message = AnnounceResponse {
                seen_sequence,
                seen_ago_us: micros(seen_ago),
                events: std::mem::take(&mut stream.gathered),
            };
            if stream.sender.try_send(message).is_err() {
                self.cut(id);
            }
        }
    }
}

/// A channel for a stream's messages.
pub(super) fn outbox() -> (mpsc::Sender<AnnounceResponse>, mpsc::Receiver<AnnounceResponse>) {
    mpsc::channel(OUTBOX_LIMIT)
}
