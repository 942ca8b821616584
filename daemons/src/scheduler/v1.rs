//! Dragonfly v1 peers: registered one by one, offered parents, believed only by each other.
//!
//! Each is a host of its own to the machine, for as long as its stream is open, and for a while after
//! it has finished, as a parent. It is known by the address its connection comes from: nobody else may
//! speak for it, and nobody is sent anywhere else. The scheduler dials nobody, so contents are never
//! put into its answers, but for the empty one.

mod ledger;
mod wanted;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::base::{Code as V1Code, SizeScope};
use df_api::failure::{Code, Failure};
use df_api::scheduler::register_result::DirectPiece;
use df_api::scheduler::{
    AnnounceTaskRequest, PeerPacket, PeerResult, PeerTarget, PeerTaskRequest, PieceResult, RegisterResult,
};
use df_api::status::with_v1_code;
use df_api::v1::{self, V1Name};
use df_core::scheduler::{HostKey, Input, Output, PeerKey, RequestId, Scheduler, SourceFailure};
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::stream::{Books, Desk};
use crate::env::net::Remote;
use crate::sync::lock;
use ledger::{Asked, Ledger};
use wanted::Wanted;

/// How long a new stream may take to say whose it is.
const HELLO_TERM: Duration = Duration::from_secs(5);

/// Packets that may wait for a slow peer; with more its stream is cut.
const OUTBOX_LIMIT: usize = 64;

/// The v1 side of the service. Cheap to clone.
#[derive(Clone)]
pub(super) struct V1 {
    desk: Desk,
    ledger: Arc<Mutex<Ledger>>,
}

/// The address a call comes from.
fn caller(remote: Option<Remote>) -> Result<SocketAddr, Failure> {
    match remote {
        Some(Remote::Tcp(from)) => Ok(SocketAddr::new(from.ip().to_canonical(), from.port())),
        _ => Err(Failure::new(Code::Usage, "a peer without an address")),
    }
}

/// How a v1 client hears that the scheduler does not know it.
fn unknown_peer() -> Status {
    let failure = Failure::new(Code::NotFound, "no such peer here").hint("register it first");
    with_v1_code(failure, V1Code::SchedPeerNotFound)
}

impl V1 {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk, ledger: Arc::default() }
    }

    /// `RegisterPeerTask`.
    pub(super) async fn register(
        &self,
        request: PeerTaskRequest,
        remote: Option<Remote>,
    ) -> Result<RegisterResult, Status> {
        let from = caller(remote)?.ip();
        let wanted = Wanted::new(request, from, |claimed| self.desk.may_advertise(claimed, from))?;
        let empty = self.take_in(&wanted).await?;
        let name = wanted.name;
        // v2.0.3 has no word for an empty content, but knows tiny ones that come with the answer.
        Ok(RegisterResult {
            task_id: name.task().to_owned(),
            size_scope: if empty { SizeScope::Tiny } else { SizeScope::Normal }.into(),
            direct_piece: empty.then(|| DirectPiece::PieceContent(Vec::new())),
            ..RegisterResult::default()
        })
    }

    /// `AnnounceTask`: a peer has all of a cached content, having imported it.
    pub(super) async fn announce(&self, request: AnnounceTaskRequest, remote: Option<Remote>) -> Result<(), Status> {
        let from = caller(remote)?.ip();
        let (wanted, pieces) = Wanted::announced(request, from, |claimed| self.desk.may_advertise(claimed, from))?;
        self.take_in(&wanted).await?;
        let gone = || Failure::new(Code::Busy, "the peer has left meanwhile");
        let ended = lock(&self.ledger).finish(&wanted.name, from, true, self.desk.now()).ok_or_else(gone)?;
        for piece in pieces {
            self.desk.inbox().tell(Input::PieceHeld { peer: ended.peer, piece }).await;
        }
        self.desk.inbox().tell(Input::PeerDone { peer: ended.peer }).await;
        Ok(())
    }

    /// Takes a peer in, in the place of an earlier one of its name; true if the content is empty.
    async fn take_in(&self, wanted: &Wanted) -> Result<bool, Failure> {
        {
            let mut books = self.desk.books();
            if wanted.can_be_seeded || wanted.request.cid.is_some() {
                books.remember(wanted.task, wanted.request.clone());
            }
            if let Ok(foreign) = wanted.name.task().parse() {
                books.remember_as(foreign, wanted.task);
            }
        }
        let replaced = lock(&self.ledger).admit(wanted, self.desk.now())?;
        self.leave(replaced).await;
        let entered = self.enter(wanted).await;
        if entered.is_err() {
            let left = lock(&self.ledger).remove(&wanted.name);
            self.leave(left).await;
        }
        entered
    }

    /// Makes the machine know a peer and its host; true if the content is empty.
    async fn enter(&self, wanted: &Wanted) -> Result<bool, Failure> {
        let stopping = |_| Failure::new(Code::Busy, "the scheduler is stopping");
        let (answer, answered) = oneshot::channel();
        let request = self.next_request(Asked::Host(wanted.name.clone(), answer));
        self.desk.inbox().tell(Input::HostAnnounced { request, info: wanted.host }).await;
        let host = answered.await.map_err(stopping)??;
        let (answer, answered) = oneshot::channel();
        let request = self.next_request(Asked::Peer(wanted.name.clone(), answer));
        let registration = wanted.registration(request, host, self.desk.stamp());
        self.desk.inbox().tell(Input::PeerRegistered(Box::new(registration))).await;
        let plan = answered.await.map_err(stopping)??;
        Ok(plan.and_then(|plan| plan.content_len()) == Some(0))
    }

    fn next_request(&self, asked: Asked) -> RequestId {
        let request = RequestId(self.desk.next());
        lock(&self.ledger).ask(request, asked);
        request
    }

    /// `ReportPieceResult`: the peer's reports in, its parents out.
    pub(super) async fn report(
        &self,
        mut requests: Streaming<PieceResult>,
        remote: Option<Remote>,
    ) -> Result<BoxStream<'static, Result<PeerPacket, Status>>, Status> {
        let from = caller(remote)?.ip();
        let missing = || Failure::new(Code::Usage, "a stream begins with whose it is");
        let first = tokio::time::timeout(HELLO_TERM, requests.next()).await.map_err(|_| missing())?;
        let first = first.ok_or_else(missing)??;
        let name = V1Name::new(&first.task_id, &first.src_pid)?;
        let (sender, receiver) = mpsc::channel(OUTBOX_LIMIT);
        let stream = self.desk.next();
        let peer = lock(&self.ledger).attach(&name, from, stream, sender).ok_or_else(unknown_peer)?;
        let reader = self.clone();
        tokio::spawn(async move { reader.listen(&name, peer, stream, first, requests).await });
        Ok(Box::pin(ReceiverStream::new(receiver).map(Ok)))
    }

    async fn listen(
        &self,
        name: &V1Name,
        peer: PeerKey,
        stream: u64,
        first: PieceResult,
        rest: Streaming<PieceResult>,
    ) {
        let mut has_ended = false;
        let mut reports = pin!(tokio_stream::once(Ok(first)).chain(rest));
        while let Some(Ok(report)) = reports.next().await {
            if (report.task_id.as_str(), report.src_pid.as_str()) != (name.task(), name.peer()) {
                break;
            }
            has_ended |= report.piece_info.as_ref().is_some_and(|piece| piece.piece_num == v1::END_OF_PIECE);
            if let Some(input) = self.understand(name, peer, &report) {
                self.desk.inbox().tell(input).await;
            }
        }
        lock(&self.ledger).detach(name, stream, has_ended, self.desk.now());
    }

    /// What a report means to the machine.
    fn understand(&self, name: &V1Name, peer: PeerKey, report: &PieceResult) -> Option<Input> {
        let number = report.piece_info.as_ref().map_or(v1::BEGIN_OF_PIECE, |piece| piece.piece_num);
        if report.success {
            let piece = u32::try_from(number).ok().filter(|_| number < v1::END_OF_PIECE)?;
            return Some(Input::PieceHeld { peer, piece });
        }
        let parent = lock(&self.ledger).parent_called(name, &report.dst_pid)?;
        Some(Input::ParentFailed { peer, parent, failure: v1::piece_failure(report.code()) })
    }

    /// `ReportPeerResult`.
    pub(super) async fn finish(&self, result: PeerResult, remote: Option<Remote>) -> Result<(), Status> {
        let from = caller(remote)?.ip();
        let name = V1Name::new(&result.task_id, &result.peer_id)?;
        let ended = lock(&self.ledger).finish(&name, from, result.success, self.desk.now()).ok_or_else(unknown_peer)?;
        if result.success {
            self.desk.inbox().tell(Input::PeerDone { peer: ended.peer }).await;
            return Ok(());
        }
        if ended.was_at_source {
            // What it found there may be its own trouble: the next one hears for itself.
            let failure = SourceFailure { is_final: false, is_changed: false };
            self.desk.inbox().tell(Input::SourceFailed { peer: ended.peer, failure }).await;
        }
        self.leave(ended.host).await;
        Ok(())
    }

    /// `LeaveTask`. Leaving twice is as good as once.
    pub(super) async fn leave_task(&self, target: PeerTarget, remote: Option<Remote>) -> Result<(), Status> {
        let from = caller(remote)?.ip();
        let name = V1Name::new(&target.task_id, &target.peer_id)?;
        let host = lock(&self.ledger).remove_own(&name, from);
        self.leave(host).await;
        Ok(())
    }

    async fn leave(&self, host: Option<HostKey>) {
        if let Some(host) = host {
            self.desk.inbox().tell(Input::HostLeft { host }).await;
        }
    }

    /// Carries out what concerns v1 peers; false if it is for somebody else.
    pub(super) fn act(&self, machine: &Scheduler, output: &Output, books: &Books) -> bool {
        let mut ledger = lock(&self.ledger);
        match output {
            Output::HostAccepted { request, host } => ledger.host_accepted(*request, *host),
            Output::Registered { request, peer } => {
                ledger.registered(*request, *peer, machine.peer(*peer).and_then(|view| view.plan))
            }
            Output::Refuse { request, why } => ledger.refused(*request, *why),
            Output::OfferParents { peer } => ledger.offer(machine, *peer, books),
            Output::FetchSource { peer, .. } => ledger.send_to_source(*peer),
            Output::FailTask { peer, why } => ledger.tell_code(*peer, v1::failure_code(*why)),
            Output::Forget { peer } => match ledger.forget(*peer) {
                Some(host) => self.desk.inbox().try_tell(Input::HostLeft { host }),
                None => false,
            },
            Output::TellPlan { peer, .. }
            | Output::Reassure { peer }
            | Output::TellDigests { peer, .. }
            | Output::TrimSource { peer, .. }
            | Output::Revoke { peer, .. }
            | Output::Grant { peer, .. } => ledger.knows(*peer),
            Output::WakeSeed { .. } | Output::TaskTold { .. } | Output::ListHost { .. } => false,
        }
    }

    /// Where pieces of a v1 peer's host are to be had.
    pub(super) fn parent(&self, host: HostKey) -> Option<df_api::scheduler::Parent> {
        lock(&self.ledger).parent(host)
    }

    /// Lets those go whose time is over.
    pub(super) fn expire(&self) {
        let now = self.desk.now();
        for host in lock(&self.ledger).expire(now) {
            self.desk.inbox().try_tell(Input::HostLeft { host });
        }
    }
}

/// Whether an address is the one a seat belongs to.
fn is_same(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_loopback() && b.is_loopback())
}
