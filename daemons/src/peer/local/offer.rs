//! Taking over what a local caller wants to import: an open descriptor, or a stream of bytes; so that the
//! daemon needs none of the caller's rights and none of its paths.
//!
//! The caller draws a ticket, opens a second connection to the socket and sends `DFFO`, the ticket and
//! one byte: 0 comes with a descriptor, after 1 the content follows in frames as soon as its import has
//! begun. The daemon answers a byte 0; then the caller asks for the import and names the ticket.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_core::time::Instant;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::descriptor::Ticket;
use crate::env::Env;
use crate::env::net::Remote;
use crate::peer::cached::import::Source;
use crate::sync::lock;

/// What a connection that offers something begins with.
pub(super) const MAGIC: [u8; 4] = *b"DFFO";

/// How long an offer waits for its import.
const OFFER_TERM: Duration = Duration::from_secs(60);

/// Offers that may wait.
const OFFER_LIMIT: usize = 256;

/// Imports at once.
const IMPORT_LIMIT: usize = 16;

/// What local callers have offered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Offers {
    env: Env,
    made: Arc<Mutex<BTreeMap<Ticket, Offer>>>,
    room: Arc<Semaphore>,
}

struct Offer {
    source: Source,
    by: Remote,
    until: Instant,
}

impl Offers {
    pub(super) fn new(env: Env) -> Self {
        Self { env, made: Arc::default(), room: Arc::new(Semaphore::new(IMPORT_LIMIT)) }
    }

    /// A place among the imports that run at once.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let busy = |_| Failure::new(Code::Busy, format!("{IMPORT_LIMIT} imports are running already"));
        self.room.clone().try_acquire_owned().map_err(busy)
    }

    /// What was offered under a ticket, by the same user.
    pub(super) fn redeem(&self, ticket: &[u8], by: Remote) -> Result<Source, Failure> {
        let unknown = || {
            Failure::new(Code::Usage, "nothing was offered for this import")
                .hint("offer a descriptor or a stream first, as our dfcache does")
        };
        let ticket: &Ticket = ticket.try_into().map_err(|_| unknown())?;
        let offer = lock(&self.made).remove(ticket).ok_or_else(unknown)?;
        let is_good = self.env.clock.now() < offer.until && offer.by == by;
        if is_good { Ok(offer.source) } else { Err(unknown()) }
    }

    /// Takes in the offer that a connection makes after its magic.
    pub(super) async fn take_in(&self, mut stream: UnixStream, by: Remote) -> io::Result<()> {
        let mut ticket = Ticket::default();
        stream.read_exact(&mut ticket).await?;
        let (kind, file) = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
        let source = match (kind, file) {
            (0, Some(file)) => {
                stream.write_all(&[0]).await?;
                Source::File(file)
            }
            (1, None) => {
                stream.write_all(&[0]).await?;
                let stream = stream.into_std()?;
                stream.set_nonblocking(false)?;
                Source::Stream(stream)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let now = self.env.clock.now();
        let mut made = lock(&self.made);
        made.retain(|_, offer| now < offer.until);
        if made.len() < OFFER_LIMIT {
            made.insert(ticket, Offer { source, by, until: now + OFFER_TERM });
        }
        Ok(())
    }
}

/// One byte, and a descriptor that may come with it.
fn receive(stream: &UnixStream) -> io::Result<(u8, Option<File>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next().map(File::from),
        _ => None,
    });
    Ok((byte[0], file))
}
