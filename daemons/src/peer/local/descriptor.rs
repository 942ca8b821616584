//! Handing the content's descriptor to a local caller: no path is named, no right is lent.
//!
//! A caller that got a ticket over gRPC opens a second connection to the same socket and sends
//! `DFFD` and the ticket. The answer is a byte 0 with a read-only descriptor of the content file, or
//! a byte 1, a length (2 bytes, little-endian) and a message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::offer::{self, Offers};
use crate::env::net::{Accepted, Conn, Listener, Remote, is_temporary};
use crate::peer::store::StoredTask;
use crate::sync::lock;

/// What a connection that wants a descriptor begins with; gRPC begins with `PRI `.
const MAGIC: [u8; 4] = *b"DFFD";

/// How long a ticket is good: as long its content is not dropped for another's room.
const TICKET_TERM: Duration = Duration::from_secs(10);

/// Tickets good at once.
const TICKET_LIMIT: usize = 4096;

/// How long a new connection may take to say what it wants.
const HELLO_TERM: Duration = Duration::from_secs(5);

/// Connections being asked what they want, at once.
const HELLO_LIMIT: usize = 64;

/// The right to one content's descriptor, once.
pub(super) type Ticket = [u8; 16];

/// Tickets given out. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Tickets(Arc<Mutex<Given>>);

/// What each ticket is for.
type Given = BTreeMap<Ticket, Arc<StoredTask>>;

impl Tickets {
    /// A new ticket, unguessable.
    pub(super) fn give(&self, stored: Arc<StoredTask>) -> io::Result<Ticket> {
        let mut ticket = Ticket::default();
        getrandom::fill(&mut ticket).map_err(|error| io::Error::other(error.to_string()))?;
        {
            let mut given = lock(&self.0);
            if given.len() >= TICKET_LIMIT {
                return Err(io::Error::other("too many descriptors were promised and not fetched"));
            }
            given.insert(ticket, stored);
        }
        let tickets = self.clone();
        tokio::spawn(async move {
            sleep(TICKET_TERM).await;
            drop(tickets.redeem(&ticket));
        });
        Ok(ticket)
    }

    fn redeem(&self, ticket: &Ticket) -> Option<Arc<StoredTask>> {
        lock(&self.0).remove(ticket)
    }
}

/// The connections that speak gRPC; those that want a descriptor are seen to here.
pub(super) fn incoming(
    mut listener: Listener,
    tickets: Tickets,
    offers: Offers,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(HELLO_LIMIT);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! { biased;
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((conn, remote)) => {
                    let (tickets, offers, sender) = (tickets.clone(), offers.clone(), sender.clone());
                    tokio::spawn(async move {
                        if let Ok(Some(conn)) = timeout(HELLO_TERM, greet(conn, remote, &tickets, &offers)).await {
                            let _ = sender.send(Ok(Accepted { conn, remote })).await;
                        }
                    });
                }
                Err(error) if is_temporary(&error) => sleep(Duration::from_millis(50)).await,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Finds out what a connection wants; answers it if it goes on as gRPC.
async fn greet(mut conn: Conn, remote: Remote, tickets: &Tickets, offers: &Offers) -> Option<Conn> {
    let mut first = [0; 4];
    conn.read_exact(&mut first).await.ok()?;
    match (first, conn) {
        (MAGIC, conn) => drop(hand_over(conn, tickets).await),
        (offer::MAGIC, Conn::Unix(stream)) => drop(offers.take_in(stream, remote).await),
        (offer::MAGIC, _) => {}
        (_, conn) => return Some(Conn::Other(Box::new(Begun { first, taken: 0, conn }))),
    }
    None
}

async fn hand_over(mut conn: Conn, tickets: &Tickets) -> io::Result<()> {
    let mut ticket = Ticket::default();
    conn.read_exact(&mut ticket).await?;
    let opened = match tickets.redeem(&ticket) {
        Some(stored) => read_only(&stored),
        None => Err(io::Error::other("the ticket is not, or no longer, good")),
    };
    match (opened, conn) {
        (Ok(descriptor), Conn::Unix(stream)) => send_descriptor(&stream, &descriptor).await,
        // Nothing but a unix socket carries a descriptor.
        (Ok(_), mut conn) => refuse(&mut conn, &io::ErrorKind::Unsupported.into()).await,
        (Err(error), mut conn) => refuse(&mut conn, &error).await,
    }
}

async fn refuse(conn: &mut Conn, error: &io::Error) -> io::Result<()> {
    let message = error.to_string();
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
    conn.write_all(&[1]).await?;
    conn.write_all(&len.to_le_bytes()).await?;
    conn.write_all(&message.as_bytes()[..usize::from(len)]).await
}

/// Another descriptor of the same file, for reading alone.
fn read_only(stored: &StoredTask) -> io::Result<OwnedFd> {
    let descriptor = stored.file().as_fd().ok_or(io::ErrorKind::Unsupported)?;
    Ok(File::open(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?.into())
}

async fn send_descriptor(stream: &UnixStream, descriptor: &OwnedFd) -> io::Result<()> {
    let send = || {
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    };
    stream.async_io(Interest::WRITABLE, send).await
}

/// A connection of which the first bytes have been read.
struct Begun {
    first: [u8; 4],
    taken: usize,
    conn: Conn,
}

impl AsyncRead for Begun {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.first[this.taken..];
        if rest.is_empty() {
            return Pin::new(&mut this.conn).poll_read(cx, buf);
        }
        let given = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..given]);
        this.taken += given;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().conn).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_shutdown(cx)
    }
}
