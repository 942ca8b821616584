//! The gRPC servers of a dfdaemon: one for callers on this host, one for other peers.
//!
//! Both speak `dfdaemon.Daemon`; what names URLs or files is for local callers only.

mod cached;
mod caller;
mod deliver;
mod descriptor;
mod download;
mod metadata;
mod offer;
mod target;
mod v1;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use df_api::base::{PiecePacket, PieceTaskRequest};
use df_api::dfdaemon::daemon_server::{Daemon, DaemonServer};
use df_api::dfdaemon::{
    DeleteTaskRequest, DownRequest, DownResult, ExportTaskRequest, ImportTaskRequest, ImportTaskResult, ListRequest,
    ListResult, StatTaskRequest, StatTaskResult,
};
use df_api::failure::{Code, Failure};
use df_api::scheduler::Host;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::Peer;
use super::upload::PieceServer;
use crate::env::net::{Listener, Remote};
use crate::serving;
use descriptor::Tickets;
use offer::Offers;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Local {
    peer: Peer,
    host: Arc<Host>,
    pieces: PieceServer,
    tickets: Tickets,
    offers: Offers,
    /// Calls being served, and calls served in all: for whoever wants to know whether it is idle.
    busy: Arc<AtomicU64>,
    served: Arc<AtomicU64>,
}

/// A call being served.
struct Busy(Arc<AtomicU64>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Local {
    /// The service of `peer`, which calls itself `host`.
    pub fn new(peer: Peer, host: Host, pieces: PieceServer) -> Self {
        let (tickets, offers) = (Tickets::default(), Offers::new(peer.env().clone()));
        Self { peer, host: Arc::new(host), pieces, tickets, offers, busy: Arc::default(), served: Arc::default() }
    }

    /// Serves other peers until `shutdown`.
    ///
    /// # Errors
    /// When the port fails.
    pub async fn serve_peers(self, listener: Listener, shutdown: CancellationToken) -> Result<(), String> {
        let incoming = listener.into_stream();
        serving::serve(self.router(&shutdown).await, incoming, shutdown).await
    }

    /// Serves callers on this host until `shutdown`.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve_callers(self, listener: Listener, shutdown: CancellationToken) -> Result<(), String> {
        let incoming = descriptor::incoming(listener, self.tickets.clone(), self.offers.clone(), shutdown.clone());
        serving::serve(self.router(&shutdown).await, incoming, shutdown).await
    }

    async fn router(&self, shutdown: &CancellationToken) -> tonic::transport::server::Router {
        let service = DaemonServer::new(self.clone()).max_decoding_message_size(serving::REQUEST_LIMIT);
        let (router, health) = serving::builder(Server::builder(), service).await;
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(self.peer.links().clone().report_health(health)));
        router
    }

    /// Ends when nobody has called and nothing was uploaded for `term`; never without a term.
    pub async fn idle_for(&self, term: Option<Duration>) {
        let Some(term) = term else { return std::future::pending().await };
        let clock = &self.peer.env().clock;
        let (mut seen, mut since) = (self.activity(), clock.now());
        loop {
            tokio::time::sleep(super::IDLE_LOOK_INTERVAL).await;
            let activity = self.activity();
            if activity != seen || self.busy.load(Ordering::Acquire) > 0 {
                (seen, since) = (activity, clock.now());
            } else if clock.now() - since >= term {
                return;
            }
        }
    }

    fn activity(&self) -> (u64, u64) {
        (self.served.load(Ordering::Relaxed), self.pieces.sent_bytes())
    }

    fn begin(&self) -> Busy {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(self.busy.clone())
    }
}

/// Refuses callers that are not on this host.
fn require_local<T>(request: &Request<T>) -> Result<Remote, Status> {
    match request.extensions().get::<Remote>() {
        Some(caller @ Remote::Local { .. }) => Ok(*caller),
        _ => Err(Failure::new(Code::Blocked, "only callers on this host may ask for that")
            .hint("use the daemon's unix socket")
            .into()),
    }
}

#[tonic::async_trait]
impl Daemon for Local {
    type DownloadStream = BoxStream<'static, Result<DownResult, Status>>;
    type ExportStream = BoxStream<'static, Result<DownResult, Status>>;
    type ListStream = BoxStream<'static, Result<ListResult, Status>>;
    type SyncPieceTasksStream = BoxStream<'static, Result<PiecePacket, Status>>;

    async fn download(&self, request: Request<DownRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        require_local(&request)?;
        let busy = self.begin();
        let remote = request.extensions().get::<Remote>().copied();
        if !request.get_ref().output.is_empty() && !request.get_ref().deliver_descriptor {
            let results = deliver::start(&self.peer, request.into_inner(), remote, busy).await?;
            return Ok(Response::new(results));
        }
        let results = download::start(&self.peer, self.tickets.clone(), request.into_inner(), busy).await?;
        Ok(Response::new(results))
    }

    async fn get_piece_tasks(&self, request: Request<PieceTaskRequest>) -> Result<Response<PiecePacket>, Status> {
        let request = request.into_inner();
        if v1::is_foreign(&request) {
            return v1::packet(&self.peer, &self.host, &request).await.map(Response::new);
        }
        Ok(Response::new(metadata::packet(&self.peer, &self.host, &request)?))
    }

    async fn sync_piece_tasks(
        &self,
        request: Request<Streaming<PieceTaskRequest>>,
    ) -> Result<Response<Self::SyncPieceTasksStream>, Status> {
        let packets = metadata::follow(self.peer.clone(), self.host.clone(), request.into_inner());
        Ok(Response::new(packets))
    }

    async fn check_health(&self, _: Request<()>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn stat_task(&self, request: Request<StatTaskRequest>) -> Result<Response<StatTaskResult>, Status> {
        require_local(&request)?;
        let _busy = self.begin();
        let request = request.into_inner();
        let name = cached::named(&request.cid, request.url_meta.as_ref())?;
        Ok(Response::new(self.peer.stat(&name, request.local_only).await?))
    }

    async fn import_task(&self, request: Request<ImportTaskRequest>) -> Result<Response<ImportTaskResult>, Status> {
        let caller = require_local(&request)?;
        let _busy = self.begin();
        let imported = cached::import(&self.peer, &self.offers, caller, request.into_inner()).await;
        Ok(Response::new(imported?))
    }

    async fn export_task(&self, request: Request<ExportTaskRequest>) -> Result<Response<()>, Status> {
        let caller = require_local(&request)?;
        let _busy = self.begin();
        cached::export_to(&self.peer, caller, request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn delete_task(&self, request: Request<DeleteTaskRequest>) -> Result<Response<()>, Status> {
        require_local(&request)?;
        let _busy = self.begin();
        let request = request.into_inner();
        let name = cached::named(&request.cid, request.url_meta.as_ref())?;
        self.peer.delete(&name, request.local_only).await?;
        Ok(Response::new(()))
    }

    async fn export(&self, request: Request<ExportTaskRequest>) -> Result<Response<Self::ExportStream>, Status> {
        require_local(&request)?;
        let busy = self.begin();
        let results = download::export(&self.peer, self.tickets.clone(), request.into_inner(), busy).await?;
        Ok(Response::new(results))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        require_local(&request)?;
        let _busy = self.begin();
        Ok(Response::new(cached::list(&self.peer, &request.into_inner().tag)))
    }
}
