//! Serving pieces: HTTP/1.1 with ranges on the piece port, sent from the page cache without copying,
//! and passed on while they are still arriving.
//!
//! Anyone can look with curl: `curl -r 0-99 http://IP:PORT/download/{first 3 of id}/{id}?peerId=x`.

mod request;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_core::piece::ByteRange;
use df_core::planted::{Bug, is_planted};
use df_core::uploader::{Child, Input, Output, SlotLease, UploadRequest, Uploader};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::request::{Refusal, Request, Target, Wanted};
use super::Peer;
use super::store::{PieceState, Progress, StoredTask};
use super::throttle::{CHUNK_BYTES, Throttle};
use crate::env::disk::DiskFile;
use crate::env::net::{Conn, Listener, Remote, is_temporary};
use crate::pump::{Driver, Inbox};
use crate::sync::lock;

/// Connections at once; more wait to be accepted.
const CONNECTION_LIMIT: usize = 1024;

/// How long a head may take to arrive once it has begun.
const HEAD_TERM: Duration = Duration::from_secs(10);

/// How long a connection may wait for its next request.
const IDLE_TERM: Duration = Duration::from_secs(60);

/// How long to wait for a piece that was promised and is not even arriving yet: the grant to this
/// host may be under way.
const PROMISE_TERM: Duration = Duration::from_secs(2);

/// How long a piece may stand still while it is passed on.
const RELAY_TERM: Duration = Duration::from_secs(10);

/// Bytes given to sendfile at once.
const SENDFILE_BYTES: u64 = 1 << 20;

/// Bytes copied to a connection at once where sendfile cannot: few enough to go out within a lease.
const COPIED_BYTES: usize = 16 * 1024;

/// How often a lease is renewed while bytes go out, however slowly.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// Serves pieces. Cheap to clone.
#[derive(Clone)]
pub struct PieceServer {
    peer: Peer,
    desk: Desk,
    throttle: Throttle,
    sent_bytes: Arc<AtomicU64>,
}

/// Where requests wait for the uploader's word. It is the uploader's driver too.
#[derive(Clone)]
pub struct Desk {
    inbox: Inbox<Input>,
    next: Arc<AtomicU64>,
    asked: Arc<Mutex<BTreeMap<UploadRequest, Answer>>>,
    admitted: Arc<Mutex<BTreeMap<SlotLease, CancellationToken>>>,
}

/// Takes the uploader's word: a lease, or when to come back.
type Answer = oneshot::Sender<Result<SlotLease, Duration>>;

/// An admitted upload; ends its lease when dropped.
struct Ticket {
    desk: Desk,
    lease: SlotLease,
    cut: CancellationToken,
}

impl Desk {
    /// A desk in front of the machine with this inbox.
    pub fn new(inbox: Inbox<Input>) -> Self {
        Self { inbox, next: Arc::default(), asked: Arc::default(), admitted: Arc::default() }
    }

    async fn ask(&self, child: Child) -> Result<Ticket, Duration> {
        let (answer, answered) = oneshot::channel();
        let request = UploadRequest(self.next.fetch_add(1, Ordering::Relaxed));
        lock(&self.asked).insert(request, answer);
        self.inbox.tell(Input::UploadRequested { request, child }).await;
        // No answer: the machine has stopped.
        let lease = answered.await.unwrap_or(Err(Duration::ZERO))?;
        let cut = CancellationToken::new();
        lock(&self.admitted).insert(lease, cut.clone());
        Ok(Ticket { desk: self.clone(), lease, cut })
    }
}

impl Driver<Uploader> for Desk {
    fn act(&mut self, _: &Uploader, output: Output) {
        match output {
            Output::Admit { request, lease } => {
                let asked = lock(&self.asked).remove(&request);
                if asked.is_none_or(|answer| answer.send(Ok(lease)).is_err()) {
                    self.inbox.try_tell(Input::UploadEnded { lease });
                }
            }
            Output::Refuse { request, retry_after } => {
                if let Some(answer) = lock(&self.asked).remove(&request) {
                    let _ = answer.send(Err(retry_after));
                }
            }
            Output::Abort { lease } => {
                if let Some(cut) = lock(&self.admitted).get(&lease) {
                    cut.cancel();
                }
            }
        }
    }

    fn settled(&mut self, _: &Uploader) {}
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.desk.admitted).remove(&self.lease);
        // If the inbox is full the lease runs out by itself.
        self.desk.inbox.try_tell(Input::UploadEnded { lease: self.lease });
    }
}

impl PieceServer {
    /// Serves what `peer` has, as `desk` admits, under `throttle`.
    pub fn new(peer: Peer, desk: Desk, throttle: Throttle) -> Self {
        Self { peer, desk, throttle, sent_bytes: Arc::default() }
    }

    /// Bytes of pieces sent since the start.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Accepts connections until `shutdown`; those that are being served then get `drain` to end.
    pub async fn run(self, mut listener: Listener, shutdown: CancellationToken, drain: Duration) {
        let room = Arc::new(Semaphore::new(CONNECTION_LIMIT));
        loop {
            // With all its connections in use it has to hear that it is to end, too.
            let accepted = tokio::select! { biased;
                () = shutdown.cancelled() => break,
                accepted = accept_one(&mut listener, &room) => accepted,
            };
            match accepted {
                Ok((conn, remote, permit)) => {
                    let (server, shutdown) = (self.clone(), shutdown.clone());
                    self.peer.env().spawn_data(async move {
                        server.serve(conn, remote, shutdown).await;
                        drop(permit);
                    });
                }
                Err(error) if is_temporary(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => {
                    tracing::error!(%error, "the piece port no longer accepts connections");
                    break;
                }
            }
        }
        // Who comes now is refused at once, in place of waiting for the end.
        drop(listener);
        let all = u32::try_from(CONNECTION_LIMIT).unwrap_or(u32::MAX);
        let _ = timeout(drain, room.acquire_many(all)).await;
    }

    async fn serve(&self, mut conn: Conn, remote: Remote, shutdown: CancellationToken) {
        let child = child_of(remote);
        let mut bytes = Vec::new();
        loop {
            let read = tokio::select! { biased;
                () = shutdown.cancelled(), if !is_planted(Bug::EndNotHeard) => return,
                read = read_request(&mut conn, &mut bytes) => read,
            };
            let outcome = match read {
                Ok(Some(request)) => {
                    let is_kept = request.is_kept;
                    self.answer(&mut conn, &request, child).await.map(|()| is_kept)
                }
                Ok(None) => return,
                Err(Some(refusal)) => refuse(&mut conn, refusal, None, false).await.map(|()| false),
                Err(None) => return,
            };
            if !outcome.unwrap_or(false) {
                let _ = conn.shutdown().await;
                return;
            }
        }
    }

    async fn answer(&self, conn: &mut Conn, request: &Request, child: Child) -> io::Result<()> {
        let (task, name, asked) = match &request.target {
            Target::Health => return send_text(conn, 200, "OK", "ok\n", request).await,
            Target::Content { task, name, range } => (task, *name, *range),
        };
        let called = || name.and_then(|name| self.peer.task_named(&name)).and_then(|task| self.peer.intact(&task));
        let Some(stored) = self.peer.intact(task).or_else(called) else {
            return refuse(conn, Refusal(404, "no such task here"), None, request.is_kept).await;
        };
        if self.peer.check_upload(&stored).is_err() {
            // As if it were not here: others may have it, and nobody need know why.
            return refuse(conn, Refusal(404, "not for uploads"), None, request.is_kept).await;
        }
        let (range, total) = match self.locate(&stored, asked).await {
            Ok(found) => found,
            Err(refusal) => return refuse(conn, refusal, None, request.is_kept).await,
        };
        let ticket = match self.desk.ask(child).await {
            Ok(ticket) => ticket,
            Err(retry) => return refuse(conn, Refusal(503, "busy"), Some(retry), request.is_kept).await,
        };
        conn.write_all(head(range, total, asked.is_some()).as_bytes()).await?;
        if request.is_head {
            return conn.flush().await;
        }
        self.send(conn, &stored, range, &ticket).await
    }

    /// The bytes asked for and the content's length; all of them here or arriving.
    async fn locate(&self, stored: &StoredTask, wanted: Option<Wanted>) -> Result<(ByteRange, Option<u64>), Refusal> {
        let mut changes = stored.watch();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = find(stored, wanted)? {
                    return Ok(found);
                }
                if changes.changed().await.is_err() {
                    return Err(Refusal(404, "not here"));
                }
            }
        };
        timeout(PROMISE_TERM, wait).await.unwrap_or(Err(Refusal(404, "not here")))
    }

    /// Sends bytes of the content piece by piece: those that are here at once, those that are
    /// arriving as they come. A piece that fails cuts the connection: padding would be a lie.
    async fn send(&self, conn: &mut Conn, stored: &StoredTask, range: ByteRange, ticket: &Ticket) -> io::Result<()> {
        let clock = &self.peer.env().clock;
        let (mut at, mut renewed) = (range.start, clock.now());
        while at < range.end() {
            let plan = stored.plan().ok_or(io::ErrorKind::NotFound)?;
            let piece = plan.piece_at(at).ok_or(io::ErrorKind::NotFound)?;
            let whole = plan.range(piece);
            let end = match stored.piece(piece) {
                PieceState::Held => whole.end(),
                PieceState::Missing => return Err(io::ErrorKind::NotFound.into()),
                PieceState::Incoming(incoming) => match timeout(RELAY_TERM, incoming.advance(at - whole.start)).await {
                    Ok(Progress::Bytes(bytes)) => whole.start + bytes,
                    Ok(Progress::Kept) => continue,
                    Ok(Progress::Failed) | Err(_) => return Err(io::ErrorKind::NotFound.into()),
                },
            };
            let until = end.min(range.end());
            while at < until {
                at += self.send_some(conn, &**stored.file(), at, until - at, ticket).await?;
                if clock.now() - renewed >= RENEW_INTERVAL {
                    renewed = clock.now();
                    ticket.desk.inbox.try_tell(Input::UploadProgressed { lease: ticket.lease });
                }
            }
        }
        conn.flush().await
    }

    /// Sends some bytes of the file; answers how many.
    async fn send_some(
        &self,
        conn: &mut Conn,
        file: &dyn DiskFile,
        offset: u64,
        len: u64,
        ticket: &Ticket,
    ) -> io::Result<u64> {
        let most = usize::try_from(len.min(SENDFILE_BYTES)).unwrap_or(CHUNK_BYTES);
        let allowed = self.throttle.take(most).await;
        let sending = async {
            match (&*conn, file.as_fd()) {
                (Conn::Tcp(stream), Some(fd)) => {
                    let send = || {
                        let mut offset = offset;
                        Ok(rustix::fs::sendfile(stream, fd, Some(&mut offset), allowed)?)
                    };
                    stream.async_io(Interest::WRITABLE, send).await
                }
                _ => {
                    let mut chunk = vec![0; allowed.min(COPIED_BYTES)];
                    file.read_exact_at(&mut chunk, offset)?;
                    conn.write_all(&chunk).await.map(|()| chunk.len())
                }
            }
        };
        let sent = tokio::select! { biased;
            () = ticket.cut.cancelled() => return Err(io::ErrorKind::TimedOut.into()),
            sent = sending => sent?,
        };
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.throttle.refund(allowed - sent);
        self.sent_bytes.fetch_add(sent as u64, Ordering::Relaxed);
        Ok(sent as u64)
    }
}

/// The next connection, as soon as there is room for one.
async fn accept_one(
    listener: &mut Listener,
    room: &Arc<Semaphore>,
) -> io::Result<(Conn, Remote, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (conn, remote) = listener.accept().await?;
    Ok((conn, remote, permit))
}

/// What is asked for, if all of it is here or arriving by now.
fn find(stored: &StoredTask, wanted: Option<Wanted>) -> Result<Option<(ByteRange, Option<u64>)>, Refusal> {
    let Some(plan) = stored.plan() else { return Ok(None) };
    let total = plan.content_len();
    let range = match (wanted, total) {
        (Some(wanted), _) => wanted.within(total).ok_or(Refusal(416, "no such bytes"))?,
        (None, Some(len)) => ByteRange { start: 0, len },
        (None, None) => return Err(Refusal(416, "name a range: the length is not known yet")),
    };
    let mut at = range.start;
    while at < range.end() {
        let piece = plan.piece_at(at).ok_or(Refusal(416, "no such bytes"))?;
        if matches!(stored.piece(piece), PieceState::Missing) {
            return Ok(None);
        }
        at = plan.range(piece).end();
    }
    Ok(Some((range, total)))
}

/// The next request; `None` at the end of the connection.
async fn read_request(conn: &mut Conn, bytes: &mut Vec<u8>) -> Result<Option<Request>, Option<Refusal>> {
    if bytes.is_empty() {
        match timeout(IDLE_TERM, conn.read_buf(bytes)).await {
            Ok(Ok(0)) | Err(_) => return Ok(None),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(None),
        }
    }
    // One term for all of it: a head that drips in byte by byte does not buy time.
    let slow = Err(Some(Refusal(408, "head too slow")));
    timeout(HEAD_TERM, read_head(conn, bytes)).await.unwrap_or(slow)
}

/// The rest of a head that has begun.
async fn read_head(conn: &mut Conn, bytes: &mut Vec<u8>) -> Result<Option<Request>, Option<Refusal>> {
    loop {
        if let Some((request, end)) = request::parse(bytes).map_err(Some)? {
            bytes.drain(..end);
            return Ok(Some(request));
        }
        match conn.read_buf(bytes).await {
            Ok(0) => return Ok(None),
            Ok(_) if bytes.len() > request::HEAD_LIMIT * 2 => return Err(Some(Refusal(431, "head too long"))),
            Ok(_) => {}
            Err(_) => return Err(None),
        }
    }
}

fn head(range: ByteRange, total: Option<u64>, is_ranged: bool) -> String {
    let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let common =
        format!("Content-Length: {}\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes", range.len);
    if !is_ranged {
        return format!("HTTP/1.1 200 OK\r\n{common}\r\n\r\n");
    }
    let last = range.end().saturating_sub(1);
    format!("HTTP/1.1 206 Partial Content\r\n{common}\r\nContent-Range: bytes {}-{last}/{total}\r\n\r\n", range.start)
}

async fn send_text(conn: &mut Conn, status: u16, reason: &str, text: &str, request: &Request) -> io::Result<()> {
    let body = if request.is_head { "" } else { text };
    let head =
        format!("HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
    conn.write_all(format!("{head}{body}").as_bytes()).await?;
    conn.flush().await
}

/// Refusals have no body, so that the connection can serve the next request.
async fn refuse(conn: &mut Conn, refusal: Refusal, retry: Option<Duration>, is_kept: bool) -> io::Result<()> {
    let Refusal(status, why) = refusal;
    let retry = retry.map(|after| format!("Retry-After: {}\r\n", after.as_secs().max(1))).unwrap_or_default();
    let close = if is_kept { "" } else { "Connection: close\r\n" };
    let head = format!("HTTP/1.1 {status} {why}\r\nContent-Length: 0\r\n{retry}{close}\r\n");
    conn.write_all(head.as_bytes()).await?;
    conn.flush().await?;
    if is_kept { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Who is at the other end, as far as fairness is concerned: an address.
fn child_of(remote: Remote) -> Child {
    match remote {
        Remote::Tcp(address) => match address.ip() {
            IpAddr::V4(ip) => Child(ip.to_bits().into()),
            IpAddr::V6(ip) => Child(ip.to_bits()),
        },
        Remote::Local { uid, .. } => Child(u128::MAX - u128::from(uid)),
    }
}
