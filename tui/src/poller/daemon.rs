//! The daemon of this node: the contents cached here.

use std::path::PathBuf;
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{DeleteTaskRequest, ListEntry, ListRequest};
use df_api::failure::{Code, Failure};
use df_api::status::failure_of;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use crate::model::{Content, Mark, State};

/// How long a daemon may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Contents that are kept; a node with more shows the first.
const CONTENT_LIMIT: usize = 100_000;

/// The daemon that listens at one unix socket.
#[derive(Clone)]
pub struct Daemon {
    client: DaemonClient<Channel>,
}

fn answered<T>(answer: Result<Result<T, Status>, tokio::time::error::Elapsed>) -> Result<T, Failure> {
    let down = || Failure::new(Code::DaemonDown, "the daemon of this node does not answer").hint("is it running?");
    answer.map_err(|_| down())?.map_err(|status| match status.code() {
        tonic::Code::Unavailable => down().because(status.message()),
        _ => failure_of(&status),
    })
}

impl Daemon {
    /// The daemon at `socket`. Connects when it is first asked.
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
    pub async fn contents(&mut self) -> Result<Vec<Content>, Failure> {
        let entries = answered(timeout(ANSWER_LIMIT, self.list()).await)?;
        Ok(entries.into_iter().map(content).collect())
    }

    async fn list(&mut self) -> Result<Vec<ListEntry>, Status> {
        let mut parts = self.client.list(ListRequest::default()).await?.into_inner();
        let mut entries = Vec::new();
        while let Some(part) = parts.message().await? {
            let room = CONTENT_LIMIT - entries.len();
            entries.extend(part.entries.into_iter().take(room));
        }
        Ok(entries)
    }

    /// Drops a content from this node; other nodes keep theirs.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn drop_content(&mut self, cid: &str, tag: &str) -> Result<(), Failure> {
        let request = DeleteTaskRequest {
            cid: cid.to_owned(),
            url_meta: Some(UrlMeta { tag: tag.to_owned(), ..UrlMeta::default() }),
            local_only: true,
        };
        answered(timeout(ANSWER_LIMIT, self.client.delete_task(request)).await).map(|_| ())
    }
}

fn content(entry: ListEntry) -> Content {
    let state = match entry.content_length {
        _ if entry.is_complete => State::new(Mark::Good, "whole"),
        Some(len) if len > 0 => {
            let share = u128::from(entry.stored_length) * 100 / u128::from(len);
            State::new(Mark::Busy, format!("{share} %"))
        }
        _ => State::new(Mark::Busy, "begun"),
    };
    Content {
        cid: entry.cid,
        tag: entry.tag,
        task_id: entry.task_id,
        content_length: entry.content_length,
        stored_bytes: entry.stored_length,
        state,
        is_pinned: entry.is_pinned,
        created_at: entry.created,
        used_at: entry.used,
        expires_at: Some(entry.expires).filter(|at| *at > 0),
    }
}
