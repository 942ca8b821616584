//! A scriptable origin for tests: serves bytes made from a seed, and misbehaves as it is told.
//!
//! ```ignore
//! let origin = Origin::start(Content::random(1, 1 << 20)).await;
//! origin.inject_once(Fault::ResetAt(1000));
//! // ... download origin.url(), compare with origin.bytes(), look at origin.stats()
//! ```

mod answer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use df_core::rng::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use answer::{Answer, Then, answer};

/// Bytes written at once.
const WRITE_LEN: usize = 64 << 10;

/// Something to serve.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

impl Content {
    /// `len` bytes that depend on `seed`, with a strong ETag and a date.
    pub(crate) fn random(seed: u64, len: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        Self {
            bytes: bytes.into(),
            etag: Some(format!("\"{seed}-{len}\"")),
            last_modified: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
        }
    }

    /// With this ETag, or none.
    pub(crate) fn etag(mut self, etag: Option<&str>) -> Self {
        self.etag = etag.map(String::from);
        self
    }

    /// With this date of modification, or none.
    pub(crate) fn last_modified(mut self, date: Option<&str>) -> Self {
        self.last_modified = date.map(String::from);
        self
    }
}

/// A way to misbehave. Positions count bytes of the answer's body.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Knows no ranges, and says so.
    NoRanges,
    /// Claims to know ranges, yet answers 200 with everything.
    IgnoreRange,
    /// Ignores If-Match and If-Unmodified-Since.
    IgnoreConditions,
    /// Answers this status.
    Status(u16),
    /// Adds a header to every answer.
    Header(&'static str, String),
    /// Answers requests for `path` with a redirect.
    Redirect { path: &'static str, status: u16, to: String },
    /// Sends this Content-Range, whatever the bytes are.
    ContentRange(String),
    /// Promises this many bytes more (or fewer) than it sends.
    LengthOff(i64),
    /// Sends the body in chunks, without a length.
    Chunked,
    /// Sends the body without a length; the end of the connection ends it.
    UntilClose,
    /// Resets the connection.
    ResetAt(usize),
    /// Closes the connection.
    CloseAt(usize),
    /// Sends nothing more.
    StallAt(usize),
    /// Sends no answer at all.
    StallHead,
    /// Closes the connection before the answer.
    CloseHead,
    /// Sends so many bytes, then pauses, and so on.
    Slow { bytes: usize, pause: Duration },
    /// Sends these bytes in place of an answer, then closes the connection.
    Raw(Vec<u8>),
}

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// The target as it was sent: a path, or a whole URL if we are taken for a proxy.
    pub(crate) target: String,
    /// Names in lower case, in the order they came.
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What the origin has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Stats {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    /// Bytes of bodies handed to the network.
    pub(crate) body_bytes: u64,
}

#[derive(Default)]
struct State {
    content: BTreeMap<String, Content>,
    /// With the number of requests it is still for, if not for all.
    faults: Vec<(Fault, Option<usize>)>,
    /// After so many more requests the content is another.
    replacement: Option<(usize, Content)>,
    seen: Vec<Seen>,
    stats: Stats,
}

/// A running origin; stops when dropped.
pub(crate) struct Origin {
    state: Arc<Mutex<State>>,
    base: String,
    ca_pem: String,
    task: Option<JoinHandle<()>>,
}

/// The path at which [`Origin::url`] points; contents of other paths are [`Origin::put`] there.
const PATH: &str = "/dir/file.bin";

impl Origin {
    /// Serves `content` over HTTP on a free port of the loopback address.
    pub(crate) async fn start(content: Content) -> Self {
        Self::listen(content, None).await
    }

    /// Serves `content` over HTTPS with a certificate for `name`, see [`Origin::ca_pem`].
    pub(crate) async fn start_tls(content: Content, name: &str) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut origin = Self::listen(content, Some((TlsAcceptor::from(Arc::new(config)), name))).await;
        origin.ca_pem = cert.pem();
        origin
    }

    /// Serves `content` to whoever calls [`Origin::connect`], without a socket.
    pub(crate) fn detached(content: Content) -> Self {
        let content = BTreeMap::from([(PATH.to_string(), content)]);
        let state = Arc::new(Mutex::new(State { content, ..State::default() }));
        Self { state, base: "http://origin.test".into(), ca_pem: String::new(), task: None }
    }

    async fn listen(content: Content, tls: Option<(TlsAcceptor, &str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut origin = Self::detached(content);
        origin.base = match &tls {
            None => format!("http://127.0.0.1:{port}"),
            Some((_, name)) => format!("https://{name}:{port}"),
        };
        let state = origin.state.clone();
        let acceptor = tls.map(|(acceptor, _)| acceptor);
        origin.task = Some(tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (state.clone(), acceptor.clone());
                open.spawn(async move {
                    match acceptor {
                        None => serve(state, stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(state, stream).await;
                            }
                        }
                    }
                });
                while open.try_join_next().is_some() {}
            }
        }));
        origin
    }

    /// A connection to this origin that needs no socket.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(WRITE_LEN);
        tokio::spawn(serve(self.state.clone(), far));
        near
    }

    /// Where the content is.
    pub(crate) fn url(&self) -> String {
        self.at(PATH)
    }

    /// A URL of this origin with another path.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        let (_, port) = self.base.rsplit_once(':').unwrap();
        SocketAddr::new([127, 0, 0, 1].into(), port.parse().unwrap())
    }

    /// The certificate that clients have to believe.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The bytes served at [`Origin::url`] now.
    pub(crate) fn bytes(&self) -> Bytes {
        self.state().content[PATH].bytes.clone()
    }

    /// Serves another content at [`Origin::url`].
    pub(crate) fn replace(&self, content: Content) {
        self.put(PATH, content);
    }

    /// Serves another content at [`Origin::url`] after `requests` more requests.
    pub(crate) fn replace_after(&self, requests: usize, content: Content) {
        self.state().replacement = Some((requests, content));
    }

    /// Serves a content at another path.
    pub(crate) fn put(&self, path: &str, content: Content) {
        self.state().content.insert(path.to_string(), content);
    }

    /// Misbehaves from now on.
    pub(crate) fn inject(&self, fault: Fault) -> &Self {
        self.state().faults.push((fault, None));
        self
    }

    /// Misbehaves at the next request.
    pub(crate) fn inject_once(&self, fault: Fault) -> &Self {
        self.inject_times(1, fault)
    }

    /// Misbehaves at the next `times` requests.
    pub(crate) fn inject_times(&self, times: usize, fault: Fault) -> &Self {
        self.state().faults.push((fault, Some(times)));
        self
    }

    /// Behaves again.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Counts so far.
    pub(crate) fn stats(&self) -> Stats {
        self.state().stats
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A connection that can be broken off.
trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// What is behind TLS, if it is a socket.
    fn socket(&self) -> Option<&TcpStream>;
}

impl Wire for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }
}

impl Wire for DuplexStream {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

/// Answers the requests of one connection until either side has enough.
async fn serve(state: Arc<Mutex<State>>, mut wire: impl Wire) {
    state.lock().unwrap().stats.connections += 1;
    let mut unread = Vec::new();
    while let Some(seen) = read_request(&mut wire, &mut unread).await {
        let answer = answer(&mut state.lock().unwrap(), seen);
        match send(&state, &mut wire, &answer).await {
            Ok(Then::Next) => {}
            Ok(Then::Reset) => {
                if let Some(socket) = wire.socket() {
                    // Closing with a linger of zero is what makes a reset of it.
                    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
                }
                return;
            }
            Ok(Then::Close) => {
                let _ = wire.shutdown().await;
                return;
            }
            Ok(Then::Stall) => {
                // Until the client gives up.
                while wire.read_buf(&mut unread).await.is_ok_and(|read| read > 0) {}
                return;
            }
            Err(_) => return,
        }
    }
}

async fn read_request(wire: &mut impl Wire, unread: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(parsed) = request.parse(unread) else {
            let _ = wire.write_all(b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n").await;
            return None;
        };
        if let httparse::Status::Complete(len) = parsed {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let seen = Seen {
                method: request.method?.to_string(),
                target: request.path?.to_string(),
                headers: request.headers.iter().map(|h| (h.name.to_lowercase(), text(h.value))).collect(),
            };
            unread.drain(..len);
            return Some(seen);
        }
        if wire.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
}

async fn send(state: &Mutex<State>, wire: &mut impl Wire, answer: &Answer) -> std::io::Result<Then> {
    wire.write_all(answer.head.as_bytes()).await?;
    let (step, pause) = answer.slow.unwrap_or((WRITE_LEN, Duration::ZERO));
    let sent = answer.body.slice(..answer.stop.min(answer.body.len()));
    for (number, part) in sent.chunks(step).enumerate() {
        if number > 0 && !pause.is_zero() {
            // tidy: allow(sleep-in-test) a slow source is what this server plays
            tokio::time::sleep(pause).await;
        }
        if answer.is_chunked {
            wire.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
        }
        wire.write_all(part).await?;
        if answer.is_chunked {
            wire.write_all(b"\r\n").await?;
        }
        state.lock().unwrap().stats.body_bytes += part.len() as u64;
    }
    if answer.is_chunked && answer.stop >= answer.body.len() {
        wire.write_all(b"0\r\n\r\n").await?;
    }
    wire.flush().await?;
    Ok(answer.then)
}
