//! The piece port's patience, on a clock that the test moves: a head that does not come to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use df_daemons::config::PeerConfig;
use df_daemons::env::disk::RealDisk;
use df_daemons::env::net::{Accept, BoxFuture, Listener, RealNet, Remote, Stream};
use df_daemons::env::{Clock, Env};
use df_daemons::peer::{self, PeerIncoming};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far more than a head may take.
const FOREVER: Duration = Duration::from_secs(3600);

/// Connections that are handed over inside this process.
struct Door(mpsc::UnboundedReceiver<DuplexStream>);

impl Accept for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, Remote)>> {
        Box::pin(async {
            match self.0.recv().await {
                Some(stream) => Ok((Box::new(stream) as Box<dyn Stream>, Remote::Tcp(([127, 0, 0, 1], 9).into()))),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 9).into())
    }
}

/// A daemon whose time is the test's, and the way to its piece port.
struct Still {
    pieces: mpsc::UnboundedSender<DuplexStream>,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Still {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = PeerConfig { data_dir: folder.path().join("data"), ..PeerConfig::default() };
        let env = Env::simulated(Arc::new(RealNet), Arc::new(RealDisk), Clock::start(), 1);
        let (pieces, door) = mpsc::unbounded_channel();
        let nobody = || Listener::Other(Box::new(Door(mpsc::unbounded_channel().1)));
        let incoming = PeerIncoming { rpc: nobody(), local: nobody(), pieces: Listener::Other(Box::new(Door(door))) };
        let shutdown = CancellationToken::new();
        tokio::spawn(peer::run(env, config, incoming, shutdown.clone()));
        Self { pieces, shutdown, _folder: folder }
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(1 << 16);
        self.pieces.send(far).unwrap();
        near
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn rest(stream: &mut DuplexStream) -> String {
    let mut answer = String::new();
    timeout(FOREVER, stream.read_to_string(&mut answer)).await.expect("it waits for ever").unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn half_a_request_and_then_nothing_ends_the_connection() {
    let still = Still::start();
    for head in ["G", "GET /healthy HTTP/1.1\r\n", "GET /healthy HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = still.connect();
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408 "), "{head:?}");
    }
    // Nothing at all is nothing to be answered.
    assert_eq!(rest(&mut still.connect()).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_does_not_buy_time() {
    let still = Still::start();
    let mut stream = still.connect();
    let mut drops = 0;
    let answer = loop {
        stream.write_all(b"G").await.unwrap();
        drops += 1;
        let mut first = [0; 8];
        match timeout(Duration::from_secs(3), stream.read_exact(&mut first)).await {
            Ok(read) => break read.map(|_| first),
            Err(_) => assert!(drops < 100, "it waits for ever"),
        }
    };
    assert_eq!(&answer.unwrap(), b"HTTP/1.1");
    assert!(drops < 10, "{drops} drops");
}

#[tokio::test(start_paused = true)]
async fn who_was_silent_between_two_requests_is_served() {
    let still = Still::start();
    let mut stream = still.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /healthy HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        // Longer than a head may take, shorter than a connection may idle.
        assert!(timeout(Duration::from_secs(40), stream.read_u8()).await.is_err(), "it says something by itself");
    }
}
