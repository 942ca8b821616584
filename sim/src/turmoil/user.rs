//! A user of a daemon: asks over the local socket as dfget and dfcache do, and looks at what comes.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{
    DeleteTaskRequest, DownRequest, DownResult, ExportTaskRequest, ImportTaskRequest, StatTaskRequest,
};
use df_api::dial;
use df_api::failure::{Code, Failure};
use df_api::status::failure_of;
use df_api::task::TaskRequest;
use df_core::id::TaskId;
use df_daemons::sync::lock;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::book::{Book, IMPORT_PIECE_LEN};
use super::disk::{Inode, SimDisk};
use super::net::{LocalDial, dial_local};
use super::scenario::{Act, Content};

/// What came of something a user asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Done {
        /// Bytes that were there before.
        local_bytes: u64,
        /// Bytes that came from other hosts.
        peer_bytes: u64,
        /// Bytes that came from the origin.
        origin_bytes: u64,
    },
    /// It was done, and is wrong.
    Wrong(String),
    /// It failed, as it said.
    Failed {
        /// The failure's code.
        code: String,
        /// What a user reads.
        text: String,
    },
    /// The user lost patience.
    Cancelled,
    /// The host died under it.
    Killed,
}

/// Somebody's request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// On which node.
    pub node: u32,
    /// What was asked.
    pub act: Act,
    /// When, in microseconds.
    pub begun_us: u64,
    /// What came of it, and when.
    pub ended: Option<(u64, Outcome)>,
}

/// What a user needs.
#[derive(Clone)]
pub struct User {
    /// The way to the daemon.
    pub dial: LocalDial,
    /// What is on its disk: a descriptor would show the same.
    pub disk: SimDisk,
    /// What is true.
    pub book: Arc<Book>,
    /// What there is.
    pub contents: Arc<Vec<Content>>,
}

impl User {
    fn client(&self) -> Result<DaemonClient<Channel>, Failure> {
        let dial = self.dial.clone();
        let connector = tower::service_fn(move |_| {
            let stream = dial_local(&dial);
            async move { stream.map(TokioIo::new) }
        });
        let channel = dial::channel("localhost", connector);
        let channel = channel.map_err(|error| Failure::new(Code::DaemonDown, error.to_string()))?;
        Ok(DaemonClient::new(channel).max_decoding_message_size(dial::MESSAGE_LIMIT))
    }

    /// Asks, and waits for the end.
    pub async fn ask(&self, act: &Act) -> Outcome {
        let patience = match act {
            Act::Download { cancel_after_ms: Some(millis), .. } => Some(Duration::from_millis(*millis)),
            _ => None,
        };
        let asking = self.asked(act);
        let answer = match patience {
            Some(patience) => match tokio::time::timeout(patience, asking).await {
                Ok(answer) => answer,
                Err(_) => return Outcome::Cancelled,
            },
            None => asking.await,
        };
        answer.unwrap_or_else(|failure| Outcome::Failed {
            code: failure.code.name().to_owned(),
            text: format!("{failure}{}", failure.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()),
        })
    }

    async fn asked(&self, act: &Act) -> Result<Outcome, Failure> {
        let mut client = self.client()?;
        let refused = |status: Status| failure_of(&status);
        let done = Outcome::Done { local_bytes: 0, peer_bytes: 0, origin_bytes: 0 };
        match *act {
            Act::Download { content, may_fetch_source, priority, has_digest, is_in_order, .. } => {
                let Some(request) = self.book.request(content, has_digest) else { return Ok(Outcome::Cancelled) };
                let task = request.id();
                let ask = DownRequest {
                    url: request.url.to_string(),
                    url_meta: Some(UrlMeta { priority, ..request.meta }),
                    piece_length: request.piece_len,
                    disable_back_source: !may_fetch_source,
                    in_order: is_in_order,
                    deliver_descriptor: true,
                    ..DownRequest::default()
                };
                let results = client.download(ask).await.map_err(refused)?.into_inner();
                self.follow(task, results).await
            }
            Act::Export { name } => {
                let (cid, task) = (self.book.cid(name), self.task(name)?);
                let ask = ExportTaskRequest { cid, url_meta: Some(UrlMeta::default()), ..ExportTaskRequest::default() };
                let results = client.export(ask).await.map_err(refused)?.into_inner();
                self.follow(task, results).await
            }
            Act::Import { name, variant, replicas } => {
                let path = format!("/user/{name}-{variant}");
                self.disk.put_foreign(Path::new(&path), self.book.import(name, variant));
                let ask = ImportTaskRequest {
                    cid: self.book.cid(name),
                    url_meta: Some(UrlMeta::default()),
                    path,
                    piece_length: IMPORT_PIECE_LEN,
                    replicas,
                    ..ImportTaskRequest::default()
                };
                client.import_task(ask).await.map(|_| done).map_err(refused)
            }
            Act::Delete { name } => {
                let ask = DeleteTaskRequest { cid: self.book.cid(name), ..DeleteTaskRequest::default() };
                client.delete_task(ask).await.map(|_| done).map_err(refused)
            }
            Act::Stat { name } => {
                let ask = StatTaskRequest { cid: self.book.cid(name), ..StatTaskRequest::default() };
                client.stat_task(ask).await.map(|_| done).map_err(refused)
            }
            Act::SetLimits { .. } | Act::Preheat { .. } => Err(Failure::new(Code::Usage, "that is an operator's")),
        }
    }

    fn task(&self, name: u32) -> Result<TaskId, Failure> {
        TaskRequest::cached(&self.book.cid(name), "").map(|request| request.id())
    }

    /// Takes the descriptor as soon as there is one, and reads it when all is there.
    async fn follow(&self, task: TaskId, mut results: Streaming<DownResult>) -> Result<Outcome, Failure> {
        let mut file: Option<Arc<Mutex<Inode>>> = None;
        while let Some(result) = results.message().await.map_err(|status| failure_of(&status))? {
            if file.is_none() && !result.ticket.is_empty() {
                self.redeem(&result.ticket).await;
                file = self.disk.inode(Path::new(&result.content_path));
            }
            if result.done {
                return Ok(self.judge(&task, file.as_deref(), &result));
            }
        }
        Err(Failure::new(Code::DaemonDown, "the daemon ended its answer without a word"))
    }

    /// Hands the ticket in. Here no descriptor can come; the disk shows what it would.
    async fn redeem(&self, ticket: &[u8]) {
        let Ok(mut stream) = dial_local(&self.dial) else { return };
        let mut answer = Vec::new();
        if stream.write_all(&[b"DFFD", ticket].concat()).await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
    }

    fn judge(&self, task: &TaskId, file: Option<&Mutex<Inode>>, result: &DownResult) -> Outcome {
        let Some(file) = file else { return Outcome::Wrong("no descriptor came".to_owned()) };
        let inode = lock(file);
        let bytes = inode.bytes();
        if result.content_length != Some(bytes.len() as u64) {
            return Outcome::Wrong(format!("{} bytes, said to be {:?}", bytes.len(), result.content_length));
        }
        if !self.disk.is_tainted() && self.book.version_of(task, bytes).is_none() {
            return Outcome::Wrong(format!("the {} bytes of {task} are those of no version", bytes.len()));
        }
        let tally = result.tally.clone().unwrap_or_default();
        Outcome::Done {
            local_bytes: tally.local_bytes,
            peer_bytes: tally.peer_bytes + tally.seed_bytes,
            origin_bytes: tally.origin_bytes,
        }
    }
}
