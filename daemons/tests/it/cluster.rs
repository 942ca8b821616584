//! A cluster on loopback: the real scheduler and daemons as processes, each with its own data
//! directory, ports and unix socket.

pub(crate) mod inside;

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{DownRequest, DownResult};
use df_api::failure::Failure;
use df_api::status::failure_of;
use df_daemons::config::{PeerConfig, Settings, Surroundings};
use df_daemons::units::Size;
use hyper_util::rt::TokioIo;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// No test waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A scheduler and its daemons.
pub(crate) struct Cluster {
    scheduler: Option<Process>,
    pub(crate) scheduler_address: SocketAddr,
    pub(crate) daemons: Vec<Daemon>,
    dir: TempDir,
}

/// A process of ours; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// What it said when it was ready, by name.
    ready: Vec<(String, String)>,
}

impl Process {
    /// Starts a program and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends before.
    pub(crate) async fn start(program: &str, arguments: &[&str]) -> Self {
        let level = std::env::var("DF_TEST_LOG").unwrap_or_else(|_| "error".to_owned());
        let mut command = Command::new(program);
        command.args(arguments).args(["--log-level", &level]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(LIMIT, lines.next_line()).await.expect("not ready in time").unwrap().expect("it ended");
        let words = line.strip_prefix("ready ").expect("says ready").split(' ');
        let ready = words.filter_map(|word| word.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Self { child, ready }
    }

    pub(crate) fn said<T: std::str::FromStr>(&self, name: &str) -> T {
        let value = self.ready.iter().find(|(known, _)| known == name).map(|(_, value)| value.parse().ok());
        value.flatten().expect("it says where it listens")
    }

    /// Stops it with SIGTERM and waits for its end.
    pub(crate) async fn stop(self) -> ExitStatus {
        self.terminate();
        self.wait().await
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32)).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn wait(mut self) -> ExitStatus {
        timeout(LIMIT, self.child.wait()).await.expect("it goes on").unwrap()
    }

    /// Ends it as it stands (SIGKILL).
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// One dfdaemon.
pub(crate) struct Daemon {
    process: Option<Process>,
    pub(crate) config: PeerConfig,
    pub(crate) pieces: SocketAddr,
    pub(crate) rpc: SocketAddr,
}

/// A finished download.
#[derive(Debug)]
pub(crate) struct Downloaded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) last: DownResult,
}

/// What to ask for besides the URL.
#[derive(Clone, Default)]
pub(crate) struct Wish {
    pub(crate) meta: UrlMeta,
    pub(crate) piece_length: u64,
    pub(crate) disable_back_source: bool,
    pub(crate) limit: f64,
    pub(crate) timeout_ms: u64,
}

impl Wish {
    pub(crate) fn request(self, url: &str) -> DownRequest {
        DownRequest {
            url: url.to_owned(),
            url_meta: Some(self.meta),
            deliver_descriptor: true,
            piece_length: self.piece_length,
            disable_back_source: self.disable_back_source,
            limit: self.limit,
            timeout: self.timeout_ms,
            ..DownRequest::default()
        }
    }
}

impl Cluster {
    /// A scheduler, seed peers and ordinary peers.
    pub(crate) async fn start(seeds: usize, peers: usize) -> Self {
        Self::start_with(seeds, peers, |_| {}).await
    }

    /// The same, with daemons configured by `change`.
    pub(crate) async fn start_with(seeds: usize, peers: usize, change: impl Fn(&mut PeerConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut cluster =
            Self { scheduler: None, scheduler_address: SocketAddr::new(LOOPBACK, 0), daemons: Vec::new(), dir };
        cluster.start_scheduler().await;
        let configs: Vec<PeerConfig> = (0..seeds + peers)
            .map(|number| {
                let mut config = cluster.config(&format!("d{number}"));
                config.seed_peer.enable = number < seeds;
                change(&mut config);
                config
            })
            .collect();
        cluster.daemons = futures_util::future::join_all(configs.into_iter().map(Daemon::start)).await;
        for daemon in cluster.daemons.iter().filter(|daemon| !daemon.config.scheduler.addresses.is_empty()) {
            daemon.linked().await;
        }
        cluster
    }

    /// A daemon's configuration that belongs to this cluster.
    pub(crate) fn config(&self, name: &str) -> PeerConfig {
        let mut config = PeerConfig::defaults(&Surroundings::look(), &Default::default());
        config.data_dir = self.dir.path().join(name);
        config.socket = self.dir.path().join(format!("{name}.sock"));
        config.host.ip = LOOPBACK;
        config.host.hostname = name.to_owned();
        config.scheduler.addresses = vec![self.scheduler_address.to_string().parse().unwrap()];
        (config.rpc.port, config.pieces.port) = (0, 0);
        config.store.free_floor = Size::new(0);
        config
    }

    /// Starts a scheduler that knows nothing, on the port the first one had.
    pub(crate) async fn start_scheduler(&mut self) {
        let address = self.scheduler_address.to_string();
        let process = Process::start(env!("CARGO_BIN_EXE_dfscheduler"), &["--listen", &address]).await;
        self.scheduler_address = process.said("listen");
        self.scheduler = Some(process);
    }

    /// One more scheduler, on a free port or on the one an earlier one had, and where it listens.
    pub(crate) async fn another_scheduler(at: Option<SocketAddr>) -> (Process, SocketAddr) {
        let address = at.unwrap_or(SocketAddr::new(LOOPBACK, 0)).to_string();
        let process = Process::start(env!("CARGO_BIN_EXE_dfscheduler"), &["--listen", &address]).await;
        let address = process.said("listen");
        (process, address)
    }

    /// The folder of this cluster.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Takes the scheduler out, for whoever will kill it later.
    pub(crate) fn take_scheduler(&mut self) -> Process {
        self.scheduler.take().expect("it runs")
    }

    /// Downloads on one daemon.
    pub(crate) async fn download(&self, who: usize, url: &str) -> Result<Downloaded, Failure> {
        self.daemons[who].download(url, Wish::default()).await
    }

    /// Downloads on all ordinary peers at once.
    pub(crate) async fn download_all(&self, url: &str, wish: &Wish) -> Vec<Result<Downloaded, Failure>> {
        let ordinary = self.daemons.iter().filter(|daemon| !daemon.config.seed_peer.enable);
        futures_util::future::join_all(ordinary.map(|daemon| daemon.download(url, wish.clone()))).await
    }
}

impl Daemon {
    /// Starts a daemon.
    pub(crate) async fn start(config: PeerConfig) -> Self {
        Self::start_under(&[], config).await
    }

    /// Starts a daemon by a program that is given the daemon's command line behind its own.
    pub(crate) async fn start_under(prefix: &[String], config: PeerConfig) -> Self {
        let file = config.socket.with_extension("yaml");
        std::fs::write(&file, yaml_serde::to_string(&config).unwrap()).unwrap();
        let line = [env!("CARGO_BIN_EXE_dfdaemon"), "--config", file.to_str().unwrap()];
        let line: Vec<&str> = prefix.iter().map(String::as_str).chain(line).collect();
        let process = Process::start(line[0], &line[1..]).await;
        Self { rpc: process.said("rpc"), pieces: process.said("pieces"), process: Some(process), config }
    }

    /// Waits until a scheduler knows it.
    pub(crate) async fn linked(&self) {
        let request = HealthCheckRequest { service: "scheduler.Scheduler".to_owned() };
        let mut health = HealthClient::new(channel(&self.config.socket)).watch(request).await.unwrap().into_inner();
        let serving = async { while health.message().await.unwrap().unwrap().status() != ServingStatus::Serving {} };
        timeout(LIMIT, serving).await.expect("no scheduler takes it");
    }

    /// Its process, for whoever will stop or kill it.
    pub(crate) fn take_process(&mut self) -> Process {
        self.process.take().expect("it runs")
    }

    /// Kills it and starts it again on what it had.
    pub(crate) async fn restart(&mut self) {
        self.take_process().kill().await;
        *self = Self::start(self.config.clone()).await;
    }

    pub(crate) fn client(&self) -> DaemonClient<Channel> {
        DaemonClient::new(channel(&self.config.socket))
    }

    /// Downloads through the unix socket, as dfget does.
    pub(crate) async fn download(&self, url: &str, wish: Wish) -> Result<Downloaded, Failure> {
        tokio::time::timeout(LIMIT, self.download_unbounded(url, wish)).await.expect("the download hangs")
    }

    /// Asks for a download and sees it to its end, without fetching the bytes.
    pub(crate) async fn download_by(
        mut client: DaemonClient<Channel>,
        url: String,
        wish: Wish,
    ) -> Result<Option<DownResult>, Failure> {
        let mut results = client.download(wish.request(&url)).await.map_err(|s| failure_of(&s))?.into_inner();
        let mut last = None;
        while let Some(result) = results.message().await.map_err(|s| failure_of(&s))? {
            last = Some(result);
        }
        Ok(last)
    }

    async fn download_unbounded(&self, url: &str, wish: Wish) -> Result<Downloaded, Failure> {
        let request = wish.request(url);
        let mut results = self.client().download(request).await.map_err(|s| failure_of(&s))?.into_inner();
        let (mut content, mut last) = (None, None);
        while let Some(result) = results.message().await.map_err(|s| failure_of(&s))? {
            if !result.ticket.is_empty() {
                let (socket, ticket) = (self.config.socket.clone(), result.ticket.clone());
                content = Some(tokio::task::block_in_place(|| descriptor(&socket, &ticket)).unwrap());
            }
            last = Some(result);
        }
        let last = last.expect("at least one message");
        assert!(last.done, "the stream ended without an outcome");
        let mut bytes = Vec::new();
        content.expect("a ticket").read_to_end(&mut bytes).unwrap();
        assert_eq!(Some(bytes.len() as u64), last.content_length);
        Ok(Downloaded { bytes, last })
    }

    /// Its data directory as it sees it, whatever is mounted there.
    pub(crate) fn root(&self) -> PathBuf {
        let id = self.process.as_ref().and_then(|process| process.child.id()).expect("it runs");
        let mut root = std::ffi::OsString::from(format!("/proc/{id}/root"));
        root.push(&self.config.data_dir);
        root.into()
    }

    /// Verified bytes of all tasks, by the daemon's own journals.
    pub(crate) fn stored_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for group in std::fs::read_dir(self.config.data_dir.join("content")).into_iter().flatten().flatten() {
            found.extend(std::fs::read_dir(group.path()).into_iter().flatten().flatten().map(|file| file.path()));
        }
        found
    }
}

pub(crate) fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    df_api::dial::channel("daemon", connector).unwrap()
}

/// Fetches a content's descriptor for a ticket.
pub(crate) fn descriptor(socket: &Path, ticket: &[u8]) -> io::Result<File> {
    let mut stream = StdUnixStream::connect(socket)?;
    stream.write_all(b"DFFD")?;
    stream.write_all(ticket)?;
    let mut first = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut first)], &mut ancillary, RecvFlags::empty())?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(File::from(descriptor));
        }
    }
    let mut message = String::new();
    stream.read_to_string(&mut message)?;
    Err(io::Error::other(message))
}
