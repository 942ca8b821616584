//! Redeeming a ticket: the daemon's file as a descriptor over its unix socket.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What begins a connection that is no HTTP/2 but redeems a ticket.
pub const MAGIC: &[u8; 4] = b"DFFD";

/// Length of a ticket in bytes.
pub const TICKET_LEN: usize = 16;

/// How long a daemon may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Hands a ticket in and takes the descriptor of the content, read-only. The answer is a byte 0 with
/// the descriptor, or a byte 1, the length of a text (two bytes, little-endian) and the text.
///
/// # Errors
/// [`Code::Protocol`] when the daemon refuses or answers nonsense, [`Code::Network`] when it goes
/// away, [`Code::Timeout`] when it does not answer.
pub async fn redeem(socket: &Path, ticket: &[u8]) -> Result<File, Failure> {
    let what = "the daemon did not hand out the content";
    let ticket: &[u8; TICKET_LEN] = ticket.try_into().map_err(|_| {
        Failure::new(Code::Protocol, what).because(format!("its ticket has {} bytes, not {TICKET_LEN}", ticket.len()))
    })?;
    match timeout(ANSWER_LIMIT, exchange(socket, ticket)).await {
        Ok(Ok(Ok(file))) => Ok(file),
        Ok(Ok(Err(refusal))) => Err(Failure::new(Code::Protocol, what).because(refusal)),
        Ok(Err(error)) => Err(Failure::new(Code::Network, what).because(error)),
        Err(_) => Err(Failure::new(Code::Timeout, what).because(format!("no answer within {ANSWER_LIMIT:?}"))),
    }
}

/// The file, or why there is none.
async fn exchange(socket: &Path, ticket: &[u8; TICKET_LEN]) -> io::Result<Result<File, String>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&[&MAGIC[..], &ticket[..]].concat()).await?;
    let (status, file) = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
    match (status, file) {
        (Some(0), Some(file)) => Ok(Ok(file)),
        (Some(1), None) => {
            let mut text = vec![0; stream.read_u16_le().await?.into()];
            stream.read_exact(&mut text).await?;
            Ok(Err(String::from_utf8_lossy(&text).into_owned()))
        }
        (None, _) => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(Err("its answer is none".to_owned())),
    }
}

/// One byte, and a descriptor that may come with it.
fn receive(stream: &UnixStream) -> io::Result<(Option<u8>, Option<File>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next().map(File::from),
        _ => None,
    });
    Ok(((received.bytes == 1).then_some(byte[0]), file))
}
