//! The connection to a dfdaemon on this host.

use std::error::Error as _;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{
    DeleteTaskRequest, DownRequest, DownResult, ExportTaskRequest, ImportTaskRequest, ImportTaskResult, ListEntry,
    ListRequest, StatTaskRequest, StatTaskResult,
};
use df_api::failure::{Code, Failure};
use df_api::{dial, status};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::ticket;

/// A daemon that answers at its socket. Cheap to clone; clones share one connection.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    client: DaemonClient<Channel>,
    socket: Arc<Path>,
    /// Whether it lives for this command alone.
    pub(super) is_private: bool,
}

impl Daemon {
    /// Connects to a socket.
    pub(super) async fn connect(socket: &Path, is_private: bool) -> io::Result<Self> {
        // At once and not when the first call is made: whether somebody listens is known here.
        let first = Mutex::new(Some(UnixStream::connect(socket).await?));
        let path: Arc<Path> = socket.into();
        let again = path.clone();
        let connector = tower::service_fn(move |_| {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let path = again.clone();
            async move {
                match ready {
                    Some(stream) => Ok(stream),
                    None => UnixStream::connect(path).await,
                }
                .map(TokioIo::new)
            }
        });
        let channel = dial::channel("localhost", connector).map_err(io::Error::other)?;
        let client = DaemonClient::new(channel).max_decoding_message_size(dial::MESSAGE_LIMIT);
        Ok(Self { client, socket: path, is_private })
    }

    /// Starts a download and gives its progress. Dropping the progress cancels the download.
    pub(super) async fn download(&self, request: DownRequest) -> Result<Progress, Failure> {
        let answer = self.client.clone().download(request).await.map_err(|status| failure_of(&status))?;
        Ok(Progress(answer.into_inner()))
    }

    /// Starts an export and gives its progress.
    pub(super) async fn export(&self, request: ExportTaskRequest) -> Result<Progress, Failure> {
        let answer = self.client.clone().export(request).await.map_err(|status| failure_of(&status))?;
        Ok(Progress(answer.into_inner()))
    }

    /// Imports what was offered.
    pub(super) async fn import(&self, request: ImportTaskRequest) -> Result<ImportTaskResult, Failure> {
        let answer = self.client.clone().import_task(request).await.map_err(|status| failure_of(&status))?;
        Ok(answer.into_inner())
    }

    /// Where a cached content is.
    pub(super) async fn stat(&self, request: StatTaskRequest) -> Result<StatTaskResult, Failure> {
        let answer = self.client.clone().stat_task(request).await.map_err(|status| failure_of(&status))?;
        Ok(answer.into_inner())
    }

    /// Deletes a cached content.
    pub(super) async fn delete(&self, request: DeleteTaskRequest) -> Result<(), Failure> {
        self.client.clone().delete_task(request).await.map(drop).map_err(|status| failure_of(&status))
    }

    /// Cached contents that are on this host.
    pub(super) async fn list(&self, tag: String) -> Result<Vec<ListEntry>, Failure> {
        let answer = self.client.clone().list(ListRequest { tag }).await.map_err(|status| failure_of(&status))?;
        let (mut batches, mut entries) = (answer.into_inner(), Vec::new());
        while let Some(batch) = batches.message().await.map_err(|status| failure_of(&status))? {
            entries.extend(batch.entries);
        }
        Ok(entries)
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it answers, whatever it says.
    pub(super) async fn is_answering(&self) -> bool {
        self.client.clone().check_health(()).await.err().is_none_or(|status| is_sent(&status))
    }

    /// The content that a ticket stands for.
    pub(super) async fn redeem(&self, ticket: &[u8]) -> Result<File, Failure> {
        ticket::redeem(&self.socket, ticket).await
    }
}

/// The progress of a download.
pub(super) struct Progress(Streaming<DownResult>);

impl Progress {
    /// The next that is known of it.
    pub(super) async fn next(&mut self) -> Result<DownResult, Failure> {
        match self.0.message().await {
            Ok(Some(result)) => Ok(result),
            Ok(None) => Err(Failure::new(Code::Protocol, "the daemon ended the download without finishing it")),
            Err(status) => Err(failure_of(&status)),
        }
    }
}

/// Whether a status came from the daemon. One that was made up here for a broken connection has a
/// source.
fn is_sent(status: &Status) -> bool {
    status.source().is_none()
}

/// What a status says, or that there is nobody any more to say anything.
fn failure_of(status: &Status) -> Failure {
    if is_sent(status) {
        return status::failure_of(status);
    }
    let failure = Failure::new(Code::Network, "the daemon went away").because(root(status));
    failure.hint("resume with the same command")
}

/// The innermost reason.
fn root(status: &Status) -> String {
    let mut reason: &dyn std::error::Error = status;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    reason.to_string()
}
