//! What the manager's services share: the machine's ear, members' streams, answers that are awaited,
//! and what schedulers last showed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::manager::member_order::Order as Down;
use df_core::registry::{ClusterId, Input, MemberId, MemberKind, Refusal, Registry, Reply, RequestId, SessionId};
use df_core::time::Instant;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::convert::{self, Times};
use super::events::Events;
use super::preheat::Order;
use crate::env::Env;
use crate::env::net::Remote;
use crate::peer::source::Cidr;
use crate::pump::Inbox;
use crate::sync::lock;

/// Orders that may wait for a slow member; with more its stream is cut, and it begins anew.
const OUTBOX_LIMIT: usize = 256;

/// How often schedulers show what they know while somebody looks.
const VIEW_INTERVAL: Duration = Duration::from_secs(1);

/// How long after the last look they go on.
pub(super) const VIEW_LEASE: Duration = Duration::from_secs(15);

/// How long whoever looks first waits for the schedulers.
const FIRST_VIEW_TERM: Duration = Duration::from_millis(1500);

/// How long an operation may take on schedulers.
const OPERATION_TERM: Duration = Duration::from_secs(5);

/// Tasks that are looked at closely at once.
const CLOSE_LIMIT: usize = 64;

/// Carries an answer out; told whether what it rests on is durable.
pub(super) type Delivery = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// Reads the machine for an answer.
pub(super) type Reader = Box<dyn FnOnce(&Registry, Result<Reply, Refusal>) -> Delivery + Send>;

/// What the services share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk(Arc<Inner>);

struct Inner {
    env: Env,
    inbox: Inbox<Input>,
    trusted: Vec<Cidr>,
    events: Events,
    last: AtomicU64,
    books: Mutex<Books>,
    /// Told whenever a view came.
    shown: Notify,
    pub(super) epoch: u64,
    started_at_ms: u64,
}

#[derive(Default)]
struct Books {
    requests: BTreeMap<RequestId, Reader>,
    sessions: BTreeMap<SessionId, Session>,
    /// What schedulers last showed, and when.
    views: BTreeMap<MemberId, (Instant, Arc<wire::SchedulerView>)>,
    /// Until when schedulers are to show themselves.
    watched_until: Instant,
    is_watching: bool,
    close: BTreeMap<CloseKey, Close>,
    operations: BTreeMap<u64, mpsc::Sender<wire::OrderDone>>,
    /// What is kept of jobs, by ticket.
    orders: BTreeMap<u64, Order>,
    store_failure: Option<String>,
}

/// A task and the host whose pieces are wanted.
type CloseKey = (Vec<u8>, Vec<u8>);

/// A task that is looked at closely.
struct Close {
    until: Instant,
    view: Option<(Instant, Arc<wire::TaskView>)>,
}

struct Session {
    member: MemberId,
    kind: MemberKind,
    cluster: ClusterId,
    sender: mpsc::Sender<wire::MemberOrder>,
    closed: CancellationToken,
}

/// The sending end of a new stream.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) session: SessionId,
    pub(super) closed: CancellationToken,
    sender: mpsc::Sender<wire::MemberOrder>,
}

fn order(order: Down) -> wire::MemberOrder {
    wire::MemberOrder { order: Some(order) }
}

impl Desk {
    pub(super) fn new(env: Env, inbox: Inbox<Input>, trusted: Vec<Cidr>, epoch: u64) -> Self {
        let started_at_ms = Times::of(&env).now_ms();
        Self(Arc::new(Inner {
            events: Events::new(env.clone()),
            env,
            inbox,
            trusted,
            last: AtomicU64::new(0),
            books: Mutex::default(),
            shown: Notify::new(),
            epoch,
            started_at_ms,
        }))
    }

    pub(super) fn env(&self) -> &Env {
        &self.0.env
    }

    pub(super) fn events(&self) -> &Events {
        &self.0.events
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.epoch
    }

    pub(super) fn started_at_ms(&self) -> u64 {
        self.0.started_at_ms
    }

    pub(super) fn times(&self) -> Times {
        Times::of(&self.0.env)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.0.books)
    }

    fn now(&self) -> Instant {
        self.0.env.clock.now()
    }

    /// A number nobody else has.
    pub(super) fn next(&self) -> u64 {
        self.0.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells the machine something that it does not answer.
    pub(super) async fn tell(&self, input: Input) {
        self.0.inbox.tell(input).await;
    }

    /// Tells the machine something and reads it once it has answered, and what it changed is durable.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        input: impl FnOnce(RequestId) -> Input,
        read: impl FnOnce(&Registry, Reply) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, durable) = self.ask_now(input, read).await?;
        durable.and(answer)
    }

    /// The same, with whether all that was changed so far is durable beside the answer.
    async fn ask_now<T: Send + 'static>(
        &self,
        input: impl FnOnce(RequestId) -> Input,
        read: impl FnOnce(&Registry, Reply) -> T + Send + 'static,
    ) -> Result<(Result<T, Failure>, Result<(), Failure>), Failure> {
        let (answer, answered) = oneshot::channel();
        let reader: Reader = Box::new(move |registry, result| {
            let value = result.map(|reply| read(registry, reply)).map_err(convert::failure);
            Box::new(move |durable| drop(answer.send((value, durable))))
        });
        let request = RequestId(self.next());
        self.books().requests.insert(request, reader);
        self.tell(input(request)).await;
        answered.await.map_err(|_| Failure::new(Code::Busy, "the manager is stopping"))
    }

    /// Reads the machine as it is, stored or not: for people, who are told of a store that fails.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Registry) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let asked = self.ask_now(|request| Input::StateAsked { request }, |registry, _| read(registry));
        asked.await?.0
    }

    /// Reads the machine once all of it is durable: for members, who act on it.
    pub(super) async fn look_stored<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Registry) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.ask(|request| Input::StateAsked { request }, |registry, _| read(registry)).await
    }

    pub(super) fn reader(&self, request: RequestId) -> Option<Reader> {
        self.books().requests.remove(&request)
    }

    /// The address of whoever asks: nobody is sent to one that is not its connection's own, or the
    /// manager would make others attack whoever a member names.
    pub(super) fn address(&self, claimed: &str, remote: Option<Remote>) -> Result<IpAddr, Failure> {
        let from = match remote {
            Some(Remote::Tcp(from)) => Some(from.ip().to_canonical()),
            _ => None,
        };
        let usage = || Failure::new(Code::Usage, format!("{claimed:?} is not an IP address"));
        let claimed: IpAddr = match (claimed, from) {
            ("", Some(from)) => from,
            (text, _) => text.parse::<IpAddr>().map_err(|_| usage())?.to_canonical(),
        };
        let Some(from) = from else { return Ok(claimed) };
        let is_own = claimed == from || (claimed.is_loopback() && from.is_loopback());
        if is_own || self.0.trusted.iter().any(|network| network.contains(from)) {
            return Ok(claimed);
        }
        Err(Failure::new(Code::Blocked, format!("{claimed} is advertised over a connection from {from}"))
            .hint("start the member with --ip of the address it connects from, or trust its network"))
    }

    /// A stream that has no member yet, and its orders.
    pub(super) fn open(&self) -> (Seat, mpsc::Receiver<wire::MemberOrder>) {
        let (sender, orders) = mpsc::channel(OUTBOX_LIMIT);
        (Seat { session: SessionId(self.next()), closed: CancellationToken::new(), sender }, orders)
    }

    /// A stream's member is known: orders may come.
    pub(super) fn seat(&self, seat: Seat, member: MemberId, kind: MemberKind, cluster: ClusterId) {
        let Seat { session, closed, sender } = seat;
        let mut books = self.books();
        if kind == MemberKind::Scheduler && books.is_watching {
            let _ = sender.try_send(order(watch(VIEW_INTERVAL)));
        }
        books.sessions.insert(session, Session { member, kind, cluster, sender, closed });
    }

    /// A stream is over.
    pub(super) fn unseat(&self, session: SessionId) {
        let mut books = self.books();
        if let Some(gone) = books.sessions.remove(&session)
            && !books.sessions.values().any(|other| other.member == gone.member)
        {
            books.views.remove(&gone.member);
        }
    }

    /// Ends all streams: members come again, and are told what holds.
    pub(super) fn close_all(&self) {
        for session in std::mem::take(&mut self.books().sessions).into_values() {
            session.closed.cancel();
        }
    }

    /// Ends a stream.
    pub(super) fn close(&self, session: SessionId) {
        if let Some(session) = self.books().sessions.remove(&session) {
            session.closed.cancel();
        }
    }

    /// Sends an order to a member; one that does not take its orders is cut off.
    pub(super) fn send(&self, member: MemberId, down: Down) -> bool {
        let mut books = self.books();
        let Some((id, session)) = books.sessions.iter().find(|(_, session)| session.member == member) else {
            return false;
        };
        let (id, is_sent) = (*id, session.sender.try_send(order(down)).is_ok());
        if !is_sent && let Some(session) = books.sessions.remove(&id) {
            session.closed.cancel();
        }
        is_sent
    }

    /// Sends an order to everybody in a cluster.
    pub(super) fn broadcast(&self, cluster: ClusterId, down: &Down) {
        self.each(|session| session.cluster == cluster, down);
    }

    /// Sends an order to some streams; answers to how many.
    fn each(&self, is_meant: impl Fn(&Session) -> bool, down: &Down) -> usize {
        let mut books = self.books();
        let mut sent = 0;
        books.sessions.retain(|_, session| {
            if !is_meant(session) {
                return true;
            }
            let is_sent = session.sender.try_send(order(down.clone())).is_ok();
            if is_sent {
                sent += 1;
            } else {
                session.closed.cancel();
            }
            is_sent
        });
        sent
    }

    /// A scheduler showed what it knows.
    pub(super) fn showed(&self, member: MemberId, view: wire::SchedulerView) {
        let now = self.now();
        self.books().views.insert(member, (now, Arc::new(view)));
        self.0.shown.notify_waiters();
    }

    /// A scheduler showed a task.
    pub(super) fn showed_task(&self, host: Vec<u8>, task: Vec<u8>, view: wire::TaskView) {
        let now = self.now();
        if let Some(close) = self.books().close.get_mut(&(task, host))
            && (view.row.is_some() || close.view.is_none())
        {
            close.view = Some((now, Arc::new(view)));
        }
        self.0.shown.notify_waiters();
    }

    /// What the schedulers last showed. Whoever looks first waits until they all have, but not long.
    pub(super) async fn views(&self) -> BTreeMap<MemberId, Arc<wire::SchedulerView>> {
        let asked = self.now();
        let is_new = {
            let mut books = self.books();
            books.watched_until = asked + VIEW_LEASE;
            !std::mem::replace(&mut books.is_watching, true)
        };
        if is_new {
            self.each(|session| session.kind == MemberKind::Scheduler, &watch(VIEW_INTERVAL));
            let fresh = |books: &Books| {
                let mut schedulers = books.sessions.values().filter(|s| s.kind == MemberKind::Scheduler);
                schedulers.all(|s| books.views.get(&s.member).is_some_and(|(at, _)| *at >= asked))
            };
            self.wait(fresh).await;
        }
        self.books().views.iter().map(|(member, (_, view))| (*member, view.clone())).collect()
    }

    async fn wait(&self, is_there: impl Fn(&Books) -> bool) {
        let all = async {
            loop {
                let shown = self.0.shown.notified();
                tokio::pin!(shown);
                shown.as_mut().enable();
                if is_there(&self.books()) {
                    return;
                }
                shown.await;
            }
        };
        let _ = tokio::time::timeout(FIRST_VIEW_TERM, all).await;
    }

    /// A task as its scheduler shows it.
    pub(super) async fn task_view(&self, task: Vec<u8>, host: Vec<u8>) -> Result<Arc<wire::TaskView>, Failure> {
        let key = (task.clone(), host.clone());
        let now = self.now();
        let is_new = {
            let mut books = self.books();
            books.close.retain(|_, close| close.until > now);
            if books.close.len() >= CLOSE_LIMIT && !books.close.contains_key(&key) {
                return Err(Failure::new(Code::Busy, format!("{CLOSE_LIMIT} tasks are looked at already")));
            }
            let is_new = !books.close.contains_key(&key);
            let close = books.close.entry(key.clone()).or_insert(Close { until: now, view: None });
            close.until = now + VIEW_LEASE;
            is_new
        };
        if is_new {
            let interval_ms = u64::try_from(VIEW_INTERVAL.as_millis()).unwrap_or(u64::MAX);
            let watch = Down::WatchTask(wire::WatchTask { task_id: task, host_id: host, interval_ms });
            self.each(|session| session.kind == MemberKind::Scheduler, &watch);
            let known = key.clone();
            let is_there = move |books: &Books| {
                let view = books.close.get(&known).and_then(|close| close.view.as_ref());
                view.is_some_and(|(_, view)| view.row.is_some())
            };
            self.wait(is_there).await;
        }
        let view = self.books().close.get(&key).and_then(|close| close.view.clone());
        Ok(view.map(|(_, view)| view).unwrap_or_default())
    }

    /// Stops what nobody looks at any more. Goes on for ever.
    pub(super) async fn tidy(self) {
        loop {
            tokio::time::sleep(VIEW_LEASE / 3).await;
            let now = self.now();
            let (is_over, tasks) = {
                let mut books = self.books();
                let is_over = books.is_watching && books.watched_until <= now;
                if is_over {
                    books.is_watching = false;
                    books.views.clear();
                }
                let over: Vec<CloseKey> =
                    books.close.iter().filter(|(_, close)| close.until <= now).map(|(key, _)| key.clone()).collect();
                books.close.retain(|_, close| close.until > now);
                (is_over, over)
            };
            if is_over {
                self.each(|session| session.kind == MemberKind::Scheduler, &watch(Duration::ZERO));
            }
            for (task_id, host_id) in tasks {
                let watch = Down::WatchTask(wire::WatchTask { task_id, host_id, interval_ms: 0 });
                self.each(|session| session.kind == MemberKind::Scheduler, &watch);
            }
        }
    }

    /// Has all schedulers carry something out, and says how it went.
    pub(super) async fn operate(&self, down: impl FnOnce(u64) -> Down) -> wire::Done {
        let id = self.next();
        let (sender, mut answers) = mpsc::channel(OUTBOX_LIMIT);
        self.books().operations.insert(id, sender);
        let asked = self.each(|session| session.kind == MemberKind::Scheduler, &down(id));
        let mut done = wire::Done { asked: u32::try_from(asked).unwrap_or(u32::MAX), ..wire::Done::default() };
        let gather = async {
            for _ in 0..asked {
                let Some(answer) = answers.recv().await else { return };
                done.hosts += answer.hosts;
                match answer.failure.is_empty() {
                    true => done.done += 1,
                    false if done.failures.len() < 16 => done.failures.push(answer.failure),
                    false => {}
                }
            }
        };
        let _ = tokio::time::timeout(OPERATION_TERM, gather).await;
        self.books().operations.remove(&id);
        done
    }

    /// A scheduler says how an operation went.
    pub(super) fn operated(&self, done: wire::OrderDone) {
        if let Some(waiting) = self.books().operations.get(&done.order_id) {
            let _ = waiting.try_send(done);
        }
    }

    /// What is kept of a job.
    pub(super) fn order(&self, ticket: u64) -> Option<Order> {
        self.books().orders.get(&ticket).cloned()
    }

    pub(super) fn keep_order(&self, ticket: u64, order: Order) {
        self.books().orders.insert(ticket, order);
    }

    pub(super) fn drop_order(&self, ticket: u64) {
        self.books().orders.remove(&ticket);
    }

    /// Remembers whether the store works.
    pub(super) fn note_store(&self, failure: Option<String>) {
        self.books().store_failure = failure;
    }

    pub(super) fn store_failure(&self) -> Option<String> {
        self.books().store_failure.clone()
    }
}

fn watch(interval: Duration) -> Down {
    Down::Watch(wire::WatchView { interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX) })
}
