//! Fetching a piece from a parent: HTTP/1.1 over kept connections, straight into the store.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::v1::V1Name;
use df_core::downloader::PieceFailure;
use df_core::id::{HostId, PieceDigest, TaskId};
use df_core::piece::ByteRange;
use df_core::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::store::PieceWriter;
use super::throttle::{CHUNK_BYTES, Throttle};
use crate::env::net::Conn;
use crate::env::{Clock, Env};
use crate::sync::lock;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Longest time without a byte from a parent.
pub const STALL_LIMIT: Duration = Duration::from_secs(5);

/// Longest answer head.
const HEAD_LIMIT: usize = 8 * 1024;

/// Headers looked at in an answer.
const HEADER_LIMIT: usize = 32;

/// Bytes gathered before they are hashed and written: less costs more calls, more delays those who
/// get them passed on.
const GATHER_BYTES: usize = 64 * 1024;

/// Connections to one parent kept for the next piece.
const IDLE_PER_PARENT_LIMIT: usize = 4;

/// Connections kept in all.
const IDLE_LIMIT: usize = 256;

/// How long a connection is kept. Parents close theirs after a minute.
const IDLE_TERM: Duration = Duration::from_secs(45);

/// How often it is told that a transfer which takes long still moves.
const NEWS_INTERVAL: Duration = Duration::from_secs(2);

/// A transfer moves if at least this part of the piece has come since there was news last.
const NEWS_SHARE: u64 = 128;

/// What there is to tell of a transfer before it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// No more is left than was asked for in [`PieceRequest::nearly_at_bytes`].
    NearlyFinished,
    /// It takes long, and no few bytes have come since this was last told.
    Progressed,
}

/// Fetches pieces. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct PieceClient {
    env: Env,
    host: HostId,
    idle: Arc<Mutex<Idle>>,
    buffers: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Kept connections by parent, with the time of their last use.
type Idle = BTreeMap<SocketAddr, Vec<(Conn, Instant)>>;

/// What to fetch from whom.
#[derive(Clone, Debug)]
pub struct PieceRequest {
    /// The parent's piece port.
    pub address: SocketAddr,
    /// The task.
    pub task: TaskId,
    /// What the parent calls the task and itself, if it is a Dragonfly v1 daemon.
    pub v1: Option<Arc<V1Name>>,
    /// Bytes of the content, all of one piece.
    pub range: ByteRange,
    /// When this many bytes are left, it is nearly finished.
    pub nearly_at_bytes: u64,
}

/// Why a piece did not come.
#[derive(Debug)]
pub enum FetchError {
    /// It may come another time, or from another parent.
    Piece(PieceFailure),
    /// It came, and cannot be stored: no parent is at fault, and none can help.
    Store(io::Error),
}

impl From<PieceFailure> for FetchError {
    fn from(failure: PieceFailure) -> Self {
        Self::Piece(failure)
    }
}

/// An answer's head, and the bytes of the body that came with it.
struct Head {
    status: u16,
    len: Option<u64>,
    body: Vec<u8>,
    is_kept: bool,
}

impl PieceClient {
    /// A client that calls itself `host`.
    pub fn new(env: Env, host: HostId) -> Self {
        Self { env, host, idle: Arc::default(), buffers: Arc::default() }
    }

    /// Fetches one piece into the store and answers the digest of its bytes, which nobody has
    /// compared with anything yet.
    ///
    /// # Errors
    /// Why it did not come.
    pub async fn fetch(
        &self,
        request: &PieceRequest,
        mut writer: PieceWriter,
        throttle: &Throttle,
        tell: impl Fn(News),
    ) -> Result<PieceDigest, FetchError> {
        let (mut conn, head) = self.ask(request).await?;
        match head.status {
            206 | 200 if head.len == Some(request.range.len) => {}
            404 | 410 | 416 => return Err(PieceFailure::NotFound.into()),
            429 | 503 => {
                self.keep(request.address, conn, head.is_kept && head.len == Some(0));
                return Err(PieceFailure::Refused.into());
            }
            _ => return Err(PieceFailure::Disconnected.into()),
        }
        let mut buffer = lock(&self.buffers).pop().unwrap_or_else(|| vec![0; CHUNK_BYTES]);
        let watch = Watch::new(&self.env.clock, request, tell);
        let moved = receive(&mut conn, &head.body, &mut buffer, &mut writer, throttle, watch).await;
        lock(&self.buffers).push(buffer);
        moved?;
        self.keep(request.address, conn, head.is_kept);
        writer.finish().ok_or(PieceFailure::Aborted.into())
    }

    /// Sends the request and reads the answer's head, over a kept connection if there is one; one
    /// that turns out to be closed costs a new one, not the piece.
    async fn ask(&self, request: &PieceRequest) -> Result<(Conn, Head), PieceFailure> {
        while let Some(mut conn) = self.idle(request.address) {
            match timeout(STALL_LIMIT, exchange(&mut conn, request, self.host)).await {
                Ok(Ok(head)) => return Ok((conn, head)),
                Ok(Err(_)) => {}
                Err(_) => return Err(PieceFailure::Stalled),
            }
        }
        let connected = timeout(CONNECT_LIMIT, self.env.net.connect(request.address)).await;
        let mut conn = connected.ok().and_then(Result::ok).ok_or(PieceFailure::Disconnected)?;
        match timeout(STALL_LIMIT, exchange(&mut conn, request, self.host)).await {
            Ok(Ok(head)) => Ok((conn, head)),
            Ok(Err(_)) => Err(PieceFailure::Disconnected),
            Err(_) => Err(PieceFailure::Stalled),
        }
    }

    fn idle(&self, address: SocketAddr) -> Option<Conn> {
        let now = self.env.clock.now();
        let mut idle = lock(&self.idle);
        let kept = idle.get_mut(&address)?;
        kept.retain(|(_, since)| now - *since < IDLE_TERM);
        let conn = kept.pop();
        if kept.is_empty() {
            idle.remove(&address);
        }
        conn.map(|(conn, _)| conn)
    }

    fn keep(&self, address: SocketAddr, conn: Conn, is_kept: bool) {
        let mut idle = lock(&self.idle);
        let total: usize = idle.values().map(Vec::len).sum();
        let kept = idle.entry(address).or_default();
        if is_kept && total < IDLE_LIMIT && kept.len() < IDLE_PER_PARENT_LIMIT {
            kept.push((conn, self.env.clock.now()));
        }
    }
}

async fn exchange(conn: &mut Conn, request: &PieceRequest, host: HostId) -> io::Result<Head> {
    let PieceRequest { address, task, range, .. } = request;
    let (id, peer) = match &request.v1 {
        Some(name) => (name.task().to_owned(), name.peer().to_owned()),
        None => (task.to_string(), host.to_string()),
    };
    let text = format!(
        "GET /download/{}/{id}?peerId={peer} HTTP/1.1\r\nHost: {address}\r\nRange: bytes={}-{}\r\n\r\n",
        id.get(..3).unwrap_or_default(),
        range.start,
        range.end().saturating_sub(1)
    );
    conn.write_all(text.as_bytes()).await?;
    conn.flush().await?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if conn.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(head) = parse(&bytes)? {
            return Ok(head);
        }
        if bytes.len() > HEAD_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer's head is too long"));
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).map_err(|e| invalid(&e.to_string()))? else {
        return Ok(None);
    };
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let len = match value("content-length") {
        Some(text) => Some(text.parse().map_err(|_| invalid("a content-length that is no number"))?),
        None => None,
    };
    let status = response.code.ok_or_else(|| invalid("no status"))?;
    let is_kept = value("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    Ok(Some(Head { status, len, body: bytes[end..].to_vec(), is_kept }))
}

/// Sees what there is to tell of a transfer under way.
struct Watch<'a, T> {
    clock: &'a Clock,
    request: &'a PieceRequest,
    is_nearly_finished: bool,
    /// When there was news last, and how much was left then.
    since: Instant,
    left: u64,
    tell: T,
}

impl<'a, T: Fn(News)> Watch<'a, T> {
    fn new(clock: &'a Clock, request: &'a PieceRequest, tell: T) -> Self {
        Self { clock, request, is_nearly_finished: false, since: clock.now(), left: request.range.len, tell }
    }

    /// So many bytes are still to be written, and so many of them to come.
    fn look(&mut self, unwritten: u64, left: u64) {
        if unwritten <= self.request.nearly_at_bytes && !std::mem::replace(&mut self.is_nearly_finished, true) {
            (self.tell)(News::NearlyFinished);
        }
        let now = self.clock.now();
        if now - self.since >= NEWS_INTERVAL {
            if self.left - left >= self.request.range.len / NEWS_SHARE {
                (self.tell)(News::Progressed);
            }
            (self.since, self.left) = (now, left);
        }
    }
}

/// Moves a body into the store.
async fn receive(
    conn: &mut Conn,
    first: &[u8],
    buffer: &mut [u8],
    writer: &mut PieceWriter,
    throttle: &Throttle,
    mut watch: Watch<'_, impl Fn(News)>,
) -> Result<(), FetchError> {
    store(writer, first)?;
    let mut gathered = 0;
    while writer.remaining() > 0 {
        let left = usize::try_from(writer.remaining()).unwrap_or(usize::MAX) - gathered;
        let room = buffer.len().saturating_sub(gathered).min(left);
        let wanted = throttle.take(room).await;
        let read = match timeout(STALL_LIMIT, conn.read(&mut buffer[gathered..gathered + wanted])).await {
            Ok(Ok(0)) => return Err(PieceFailure::Aborted.into()),
            Ok(Ok(read)) => read,
            Ok(Err(_)) => return Err(PieceFailure::Disconnected.into()),
            Err(_) => return Err(PieceFailure::Stalled.into()),
        };
        if read < wanted {
            throttle.refund(wanted - read);
        }
        gathered += read;
        if gathered >= GATHER_BYTES || gathered as u64 == writer.remaining() {
            store(writer, &buffer[..gathered])?;
            gathered = 0;
        }
        watch.look(writer.remaining(), writer.remaining() - gathered as u64);
    }
    Ok(())
}

fn store(writer: &mut PieceWriter, bytes: &[u8]) -> Result<(), FetchError> {
    writer.write(bytes).map_err(|error| match error.kind() {
        // More than the piece has: the parent does not keep to its own head.
        io::ErrorKind::InvalidInput => PieceFailure::Corrupt.into(),
        _ => FetchError::Store(error),
    })
}
