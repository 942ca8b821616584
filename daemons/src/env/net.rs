//! Sockets and names, behind one trait: real ones here, simulated ones in the simulator.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tonic::transport::server::Connected;

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The network as one host sees it.
pub trait Net: Send + Sync + 'static {
    /// Listens on a TCP address; port 0 takes any free port.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>>;

    /// Connects to a TCP address. Has no timeout of its own.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Conn>>;

    /// The addresses of a host name (or of a literal address), never an empty list.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// A byte stream of some other world than the kernel's.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A source of incoming connections of some other world than the kernel's.
pub trait Accept: Send {
    /// The next connection and who is at its other end.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, Remote)>>;
    /// The address it listens on.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// One connection.
pub enum Conn {
    /// A kernel TCP socket: files can be sent over it without copying.
    Tcp(TcpStream),
    /// A local caller.
    Unix(UnixStream),
    /// A simulated or wrapped (TLS) stream.
    Other(Box<dyn Stream>),
}

/// A listening socket.
pub enum Listener {
    /// A kernel TCP socket.
    Tcp(TcpListener),
    /// A unix socket: whoever connects is local and has credentials.
    Unix(UnixListener),
    /// A simulated one.
    Other(Box<dyn Accept>),
}

/// Who is at the other end of an accepted connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remote {
    /// Another host.
    Tcp(SocketAddr),
    /// A process of this host, with the credentials the kernel vouches for.
    Local {
        /// Its effective user id.
        uid: u32,
        /// Its effective group id.
        gid: u32,
    },
}

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// What the system says; running out of descriptors is temporary.
    pub async fn accept(&mut self) -> io::Result<(Conn, Remote)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Conn::Tcp(stream), Remote::Tcp(from)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let who = stream.peer_cred()?;
                Ok((Conn::Unix(stream), Remote::Local { uid: who.uid(), gid: who.gid() }))
            }
            Self::Other(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Conn::Other(stream), from))
            }
        }
    }

    /// The TCP address it listens on.
    ///
    /// # Errors
    /// For a unix socket, which has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "a unix socket has no TCP address")),
            Self::Other(listener) => listener.local_addr(),
        }
    }

    /// Connections as a stream, for a server that wants one; ends with the first lasting error.
    pub fn into_stream(mut self) -> impl futures_util::Stream<Item = io::Result<Accepted>> {
        async_stream::stream! {
            loop {
                match self.accept().await {
                    Ok((conn, remote)) => yield Ok(Accepted { conn, remote }),
                    Err(error) if is_temporary(&error) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    Err(error) => {
                        yield Err(error);
                        break;
                    }
                }
            }
        }
    }
}

/// How long to wait after running out of descriptors before accepting again.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Whether an error of `accept` concerns one connection or the moment, not the listener.
pub fn is_temporary(error: &io::Error) -> bool {
    const TOO_MANY_FILES: [i32; 2] = [23, 24]; // ENFILE, EMFILE
    error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        )
}

/// A connection together with who opened it.
pub struct Accepted {
    /// The bytes.
    pub conn: Conn,
    /// The other end.
    pub remote: Remote,
}

impl Connected for Accepted {
    type ConnectInfo = Remote;
    fn connect_info(&self) -> Remote {
        self.remote
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Conn::Tcp($stream) => $call,
            Conn::Unix($stream) => $call,
            Conn::Other($stream) => $call,
        }
    };
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
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

/// The kernel's network.
pub struct RealNet;

impl Net for RealNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move { Ok(Listener::Tcp(TcpListener::bind(address).await?)) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Conn>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Conn::Tcp(stream))
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, port)).await?.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
            }
            Ok(found)
        })
    }
}
