//! `scheduler.Scheduler` as gRPC.

use std::sync::Arc;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::scheduler::host_event::Event as Up;
use df_api::scheduler::scheduler_server::Scheduler;
use df_api::scheduler::{
    AnnounceRequest, AnnounceResponse, AnnounceTaskRequest, DeleteTaskRequest, DeleteTaskResult, Host, PeerPacket,
    PeerResult, PeerTarget, PeerTaskRequest, PieceResult, RegisterResult, StatTaskRequest, Task,
};
use futures_util::stream::BoxStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::stream::{Desk, Session, outbox};
use super::v1::V1;
use crate::env::net::Remote;

/// How long a new stream may take to introduce its host.
const HELLO_TERM: Duration = Duration::from_secs(5);

/// The service.
pub(super) struct Service {
    desk: Arc<Desk>,
    v1: V1,
}

impl Service {
    pub(super) const fn new(desk: Arc<Desk>, v1: V1) -> Self {
        Self { desk, v1 }
    }
}

/// The introduction of a host: the first event of its stream, with what came in the same message.
async fn introduction(requests: &mut Streaming<AnnounceRequest>) -> Result<(Host, AnnounceRequest), Status> {
    let missing = || Failure::new(Code::Usage, "a stream begins with who its host is");
    let first = tokio::time::timeout(HELLO_TERM, requests.next()).await.map_err(|_| missing())?;
    let mut message = first.ok_or_else(missing)??;
    let mut events = std::mem::take(&mut message.events).into_iter();
    let Some(Up::Host(host)) = events.next().and_then(|event| event.event) else { return Err(missing().into()) };
    message.events = events.collect();
    Ok((host, message))
}

/// Reads a stream to its end; the session ends with it.
async fn listen(session: Session, mut requests: Streaming<AnnounceRequest>, rest: AnnounceRequest) {
    let mut next = Some(Ok(rest));
    while let Some(Ok(message)) = next {
        if let Err(malformed) = session.hear(message).await {
            tracing::warn!(%malformed, "a host's stream is cut");
            return;
        }
        next = requests.next().await;
    }
}

#[tonic::async_trait]
impl Scheduler for Service {
    type ReportPieceResultStream = BoxStream<'static, Result<PeerPacket, Status>>;
    type AnnounceStream = BoxStream<'static, Result<AnnounceResponse, Status>>;

    async fn announce(
        &self,
        request: Request<Streaming<AnnounceRequest>>,
    ) -> Result<Response<Self::AnnounceStream>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        let mut requests = request.into_inner();
        let (host, rest) = introduction(&mut requests).await?;
        let (sender, receiver) = outbox();
        // The empty message says that the host is accepted.
        let _ = sender.try_send(AnnounceResponse::default());
        let session = self.desk.open(host, remote, sender).await?;
        tokio::spawn(listen(session, requests, rest));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }

    async fn register_peer_task(&self, request: Request<PeerTaskRequest>) -> Result<Response<RegisterResult>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        self.v1.register(request.into_inner(), remote).await.map(Response::new)
    }

    async fn report_piece_result(
        &self,
        request: Request<Streaming<PieceResult>>,
    ) -> Result<Response<Self::ReportPieceResultStream>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        self.v1.report(request.into_inner(), remote).await.map(Response::new)
    }

    async fn report_peer_result(&self, request: Request<PeerResult>) -> Result<Response<()>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        self.v1.finish(request.into_inner(), remote).await.map(Response::new)
    }

    async fn leave_task(&self, request: Request<PeerTarget>) -> Result<Response<()>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        self.v1.leave_task(request.into_inner(), remote).await.map(Response::new)
    }

    async fn stat_task(&self, request: Request<StatTaskRequest>) -> Result<Response<Task>, Status> {
        let id = request.into_inner().task_id;
        let (task, is_foreign) = self.desk.native(df_api::convert::task_id_text(&id)?);
        let unknown = || Failure::new(Code::NotFound, "no host has anything of this task");
        let view = self.desk.view(task).await.ok_or_else(unknown)?;
        // What only v1 peers vouch for is good for v1 peers, who ask by ids of their own. They take no
        // task for available that is in another state than this.
        let holders = view.holders + if is_foreign { view.pull_holders } else { 0 };
        let state = match (holders, view.is_wanted) {
            (1.., _) => "Succeeded",
            (0, true) => "Running",
            (0, false) => "Pending",
        };
        let count = |count: Option<u32>| count.and_then(|count| i32::try_from(count).ok()).unwrap_or(-1);
        Ok(Response::new(Task {
            id,
            r#type: 0,
            content_length: view.content_len.and_then(|len| i64::try_from(len).ok()).unwrap_or(-1),
            total_piece_count: count(view.pieces),
            state: state.to_owned(),
            peer_count: count(Some(view.peers)),
            has_available_peer: holders > 0,
        }))
    }

    async fn delete_task(&self, request: Request<DeleteTaskRequest>) -> Result<Response<DeleteTaskResult>, Status> {
        let task = df_api::convert::task_id(&request.into_inner().task_id)?;
        let view = self.desk.delete(task).await;
        Ok(Response::new(DeleteTaskResult { stamp: view.deleted.unwrap_or(0), peers: view.peers }))
    }

    async fn announce_task(&self, request: Request<AnnounceTaskRequest>) -> Result<Response<()>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        self.v1.announce(request.into_inner(), remote).await.map(Response::new)
    }
}
