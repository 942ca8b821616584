//! The network as daemons see it: turmoil's, with links of a width, connections that break, and a count of
//! what passes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use df_daemons::env::net::{Accept, BoxFuture, Conn, Listener, Net, Remote, Stream};
use df_daemons::sync::lock;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use turmoil::net::{TcpListener, TcpStream};

use super::gate::{Gate, Gated};

/// The most that is sent as one segment, in bytes.
pub const SEGMENT_BYTES: usize = 1400;

/// What may leave a host ahead of its rate.
const BURST: Duration = Duration::from_millis(20);

/// Bytes that a local caller's connection holds.
const LOCAL_BYTES: usize = 64 * 1024;

/// What is known of all hosts' connections.
#[derive(Default)]
pub struct Wires {
    hosts: BTreeMap<IpAddr, Wire>,
    names: BTreeMap<String, IpAddr>,
    /// Ways on which nothing passes, from and to.
    cut: std::collections::BTreeSet<(IpAddr, IpAddr)>,
}

/// One host's.
struct Wire {
    bytes_per_sec: u64,
    /// When what was sent has left, in microseconds of the run.
    free_at_us: u64,
    /// Connections of an older age are broken.
    age: u64,
    refuses: bool,
    /// Whether its process hangs.
    gate: Gate,
    /// What went out at its piece port: when (in microseconds) and how much.
    served: Vec<(u64, u64)>,
}

impl Wires {
    /// A host with a name and a width.
    pub fn add(&mut self, name: &str, ip: IpAddr, bytes_per_sec: u64) {
        self.names.insert(name.to_owned(), ip);
        let (gate, served) = (Gate::default(), Vec::new());
        self.hosts.insert(ip, Wire { bytes_per_sec, free_at_us: 0, age: 0, refuses: false, gate, served });
    }

    /// From now on a host sends so much.
    pub fn set_rate(&mut self, ip: IpAddr, bytes_per_sec: u64) {
        if let Some(wire) = self.hosts.get_mut(&ip) {
            (wire.bytes_per_sec, wire.free_at_us) = (bytes_per_sec, 0);
        }
    }

    /// Breaks a host's connections.
    pub fn reset(&mut self, ip: IpAddr) {
        if let Some(wire) = self.hosts.get_mut(&ip) {
            wire.age += 1;
        }
    }

    /// Whether a host accepts nothing.
    pub fn set_refuses(&mut self, ip: IpAddr, refuses: bool) {
        if let Some(wire) = self.hosts.get_mut(&ip) {
            wire.refuses = refuses;
        }
    }

    /// What stops a host's process.
    pub fn gate(&self, ip: IpAddr) -> Gate {
        self.hosts.get(&ip).map(|wire| wire.gate.clone()).unwrap_or_default()
    }

    /// Ways on which nothing passes.
    pub fn set_cut(&mut self, cut: std::collections::BTreeSet<(IpAddr, IpAddr)>) {
        self.cut = cut;
    }

    /// What went out at a host's piece port.
    pub fn served(&self, ip: IpAddr) -> &[(u64, u64)] {
        self.hosts.get(&ip).map_or(&[], |wire| &wire.served)
    }
}

/// The time of the run, in microseconds.
pub(super) fn now_us() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

/// The network of one host.
pub struct SimNet {
    ip: IpAddr,
    piece_port: u16,
    wires: Arc<Mutex<Wires>>,
}

impl SimNet {
    /// That of the host with this address, which serves pieces at this port.
    pub const fn new(ip: IpAddr, piece_port: u16, wires: Arc<Mutex<Wires>>) -> Self {
        Self { ip, piece_port, wires }
    }

    fn wrap(&self, inner: TcpStream, other: IpAddr, is_piece_port: bool) -> SimStream {
        let (ages, gate) = {
            let wires = lock(&self.wires);
            let age = |ip| wires.hosts.get(&ip).map_or(0, |wire| wire.age);
            ((age(self.ip), age(other)), wires.gate(self.ip))
        };
        let inner = Gated::new(inner, gate);
        let ends = (self.ip, other);
        SimStream { inner, wires: self.wires.clone(), ends, ages, is_piece_port, booked: 0, pause: None }
    }
}

impl Net for SimNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        let port = address.port();
        Box::pin(async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            let net = Self { ip: self.ip, piece_port: self.piece_port, wires: self.wires.clone() };
            let is_piece_port = port == self.piece_port;
            Ok(Listener::Other(Box::new(Door { listener, net, is_piece_port, accepted: None })))
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Conn>> {
        Box::pin(async move {
            let gate = lock(&self.wires).gate(self.ip);
            gate.pass().await;
            let is_refused = lock(&self.wires).hosts.get(&address.ip()).is_none_or(|wire| wire.refuses);
            if is_refused {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            match TcpStream::connect(address).await {
                Ok(inner) => Ok(Conn::Other(Box::new(self.wrap(inner, address.ip(), false)))),
                Err(error) => {
                    // A request that is lost is not answered, and not refused either.
                    let (there, back) = ((self.ip, address.ip()), (address.ip(), self.ip));
                    let is_lost = {
                        let wires = lock(&self.wires);
                        wires.cut.contains(&there) || wires.cut.contains(&back)
                    };
                    if is_lost {
                        std::future::pending::<()>().await;
                    }
                    Err(error)
                }
            }
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let known = || lock(&self.wires).names.get(host).copied();
            let ip = host.parse().ok().or_else(known).ok_or(io::ErrorKind::NotFound)?;
            Ok(vec![SocketAddr::new(ip, port)])
        })
    }
}

/// A listening port.
struct Door {
    listener: TcpListener,
    net: SimNet,
    is_piece_port: bool,
    /// A connection that the machine has accepted and the process has not heard of.
    accepted: Option<(TcpStream, SocketAddr)>,
}

impl Accept for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, Remote)>> {
        Box::pin(async {
            if self.accepted.is_none() {
                self.accepted = Some(self.listener.accept().await?);
            }
            let gate = lock(&self.net.wires).gate(self.net.ip);
            gate.pass().await;
            let (inner, from) = self.accepted.take().ok_or(io::ErrorKind::NotConnected)?;
            let stream = self.net.wrap(inner, from.ip(), self.is_piece_port);
            Ok((Box::new(stream) as Box<dyn Stream>, Remote::Tcp(from)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection between two hosts.
struct SimStream {
    inner: Gated<TcpStream>,
    wires: Arc<Mutex<Wires>>,
    ends: (IpAddr, IpAddr),
    ages: (u64, u64),
    is_piece_port: bool,
    /// Bytes that have their place in the queue of what leaves the host.
    booked: usize,
    /// Until it is their turn.
    pause: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    fn check(&self) -> io::Result<()> {
        let wires = lock(&self.wires);
        let age = |ip| wires.hosts.get(&ip).map_or(0, |wire| wire.age);
        if (age(self.ends.0), age(self.ends.1)) == self.ages {
            return Ok(());
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Takes the next place in the queue of what leaves the host, first come first served over all of its
    /// connections; answers how long that takes.
    fn book(&mut self, bytes: usize) -> Duration {
        self.booked = bytes;
        let mut wires = lock(&self.wires);
        let Some(wire) = wires.hosts.get_mut(&self.ends.0) else { return Duration::ZERO };
        let now_us = now_us();
        let turn_us = wire.free_at_us.max(now_us);
        wire.free_at_us = turn_us + bytes as u64 * 1_000_000 / wire.bytes_per_sec.max(1);
        Duration::from_micros(turn_us - now_us).saturating_sub(BURST)
    }

    fn note_served(&self, bytes: usize) {
        let mut wires = lock(&self.wires);
        if let Some(wire) = wires.hosts.get_mut(&self.ends.0).filter(|_| self.is_piece_port) {
            wire.served.push((now_us(), bytes as u64));
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        if this.booked == 0 {
            let wait = this.book(buf.len().min(SEGMENT_BYTES));
            this.pause = (!wait.is_zero()).then(|| Box::pin(sleep(wait.max(Duration::from_millis(1)))));
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let part = &buf[..buf.len().min(this.booked)];
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, part))?;
        this.booked = 0;
        this.note_served(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// A daemon's socket for callers on its own host.
pub struct LocalDoor {
    callers: mpsc::UnboundedReceiver<DuplexStream>,
    gate: Gate,
}

/// The way to it.
pub type LocalDial = mpsc::UnboundedSender<DuplexStream>;

impl LocalDoor {
    /// A socket of the process behind `gate`, and the way to it.
    pub fn open(gate: Gate) -> (Self, LocalDial) {
        let (dial, callers) = mpsc::unbounded_channel();
        (Self { callers, gate }, dial)
    }
}

/// Connects to a daemon on the same host.
///
/// # Errors
/// When it is gone.
pub fn dial_local(dial: &LocalDial) -> io::Result<DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(LOCAL_BYTES);
    dial.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
    Ok(ours)
}

impl Accept for LocalDoor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, Remote)>> {
        Box::pin(async {
            let uid = rustix::process::geteuid().as_raw();
            let gid = rustix::process::getegid().as_raw();
            match self.callers.recv().await {
                Some(stream) => {
                    Ok((Box::new(Gated::new(stream, self.gate.clone())) as Box<dyn Stream>, Remote::Local { uid, gid }))
                }
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
