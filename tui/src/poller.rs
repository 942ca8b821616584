//! Asks a daemon over its unix socket what it has.

use std::path::PathBuf;
use std::time::Duration;

use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{ListEntry, ListRequest};
use df_api::failure::{Code, Failure};
use df_api::status::failure_of;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::Channel;

/// How long a daemon may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Entries that are kept; a node with more shows the first.
const ENTRY_LIMIT: usize = 100_000;

/// One daemon.
#[derive(Clone)]
pub struct Poller {
    client: DaemonClient<Channel>,
}

impl Poller {
    /// The daemon that listens at `socket`. Connects when it is first asked.
    ///
    /// # Errors
    /// None that a path can cause.
    pub fn new(socket: PathBuf) -> Result<Self, Failure> {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = df_api::dial::channel("daemon", connector)
            .map_err(|error| Failure::new(Code::Internal, "cannot address the daemon").because(error))?;
        Ok(Self { client: DaemonClient::new(channel) })
    }

    /// The contents cached on the node.
    ///
    /// # Errors
    /// [`Code::DaemonDown`] when it does not answer, or what it answers instead.
    pub async fn list(&mut self) -> Result<Vec<ListEntry>, Failure> {
        let down = || Failure::new(Code::DaemonDown, "the daemon does not answer").hint("is it running?");
        timeout(ANSWER_LIMIT, self.ask()).await.map_err(|_| down())?.map_err(|status| match status.code() {
            tonic::Code::Unavailable => down().because(status.message()),
            _ => failure_of(&status),
        })
    }

    async fn ask(&mut self) -> Result<Vec<ListEntry>, tonic::Status> {
        let mut parts = self.client.list(ListRequest::default()).await?.into_inner();
        let mut entries = Vec::new();
        while let Some(part) = parts.message().await? {
            let room = ENTRY_LIMIT - entries.len();
            entries.extend(part.entries.into_iter().take(room));
        }
        Ok(entries)
    }
}
