//! Offering what is to be imported: the open file itself, or its bytes.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use df_api::failure::{Code, Failure};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::super::output::local;
use crate::env::Env;

/// What a connection that offers something begins with.
const MAGIC: &[u8; 4] = b"DFFO";

/// Bytes of one frame of a stream.
const FRAME_BYTES: usize = 1 << 20;

/// What is to be imported.
pub(super) enum Input {
    /// A file, to be handed over open.
    File(File),
    /// Anything else: its bytes.
    Stream(File),
}

impl Input {
    /// Opens what was named; '-' is stdin. Blocks.
    ///
    /// # Errors
    /// [`Code::LocalIo`] for what cannot be read, or has no end.
    pub(super) fn open(path: &Path, streams: bool) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|error| local("read stdin", &error))?;
            return Ok(Self::Stream(stdin.into()));
        }
        let cannot = |error: &io::Error| local(&format!("read {}", path.display()), error);
        let kind = std::fs::metadata(path).map_err(|error| cannot(&error))?.file_type();
        let refused = |why: &str| Failure::new(Code::LocalIo, format!("cannot import {}", path.display())).because(why);
        if kind.is_dir() {
            return Err(refused("it is a directory").hint("import an archive: tar c DIR | dfcache import … -"));
        }
        if !kind.is_file() && !kind.is_fifo() {
            return Err(refused("it is neither a file nor a pipe").hint("give its bytes on stdin: dfcache import … -"));
        }
        let file = File::open(path).map_err(|error| cannot(&error))?;
        Ok(if kind.is_file() && !streams { Self::File(file) } else { Self::Stream(file) })
    }
}

/// An offer the daemon has taken; the ticket names it.
pub(super) struct Offer {
    pub(super) ticket: [u8; 16],
    stream: Option<(UnixStream, File)>,
}

impl Offer {
    /// Makes an offer at a daemon's socket.
    ///
    /// # Errors
    /// [`Code::Network`] if the daemon goes away.
    pub(super) async fn make(socket: &Path, input: Input) -> Result<Self, Failure> {
        let mut ticket = [0; 16];
        getrandom::fill(&mut ticket).map_err(|error| Failure::new(Code::Internal, "no entropy").because(error))?;
        let made = async {
            let mut stream = UnixStream::connect(socket).await?;
            stream.write_all(&[&MAGIC[..], &ticket[..]].concat()).await?;
            let kept = match input {
                Input::File(file) => {
                    stream.async_io(Interest::WRITABLE, || send(&stream, &file)).await?;
                    None
                }
                Input::Stream(file) => {
                    stream.write_all(&[1]).await?;
                    Some(file)
                }
            };
            match stream.read_u8().await? {
                0 => Ok(kept.map(|file| (stream, file))),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        let failure =
            |error: io::Error| Failure::new(Code::Network, "the daemon does not take the content").because(error);
        Ok(Self { ticket, stream: made.await.map_err(failure)? })
    }

    /// Sends the bytes of a stream; never ends if there are none to send, or all are sent.
    pub(super) async fn feed(self, env: &Env) -> Failure {
        match self.stream {
            Some((stream, file)) => match pump(env, stream, file).await {
                Ok(()) => std::future::pending().await,
                Err(failure) => failure,
            },
            None => std::future::pending().await,
        }
    }
}

async fn pump(env: &Env, mut stream: UnixStream, file: File) -> Result<(), Failure> {
    let mut file = file;
    let mut buffer = vec![0; FRAME_BYTES];
    loop {
        let read = move || {
            let filled = fill(&mut file, &mut buffer);
            (file, buffer, filled)
        };
        let filled;
        (file, buffer, filled) = env.blocking(read).await;
        let filled = filled.map_err(|error| local("read what is to be imported", &error))?;
        let frame = u32::try_from(filled).unwrap_or(0).to_le_bytes();
        let sent = async {
            stream.write_all(&frame).await?;
            stream.write_all(buffer.get(..filled).unwrap_or_default()).await
        };
        if sent.await.is_err() {
            // The daemon has had enough, and says why in its answer.
            return Ok(());
        }
        if filled == 0 {
            return Ok(());
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// One byte with the file's descriptor.
fn send(stream: &UnixStream, file: &File) -> io::Result<()> {
    let descriptors = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
