//! From a command line to a running daemon: configuration, logs, runtimes, sockets, signals.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use df_api::failure::{Code, Failure};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::config::{self, CommandLine, Log, ManagerSettings, PeerConfig, Surroundings};
use crate::console::{Color, Console, Signals};
use crate::env::Env;
use crate::env::net::Listener;
use crate::manager::{self, ManagerIncoming};
use crate::peer::PeerIncoming;
use crate::{peer, telemetry};

/// The two runtimes of a daemon: one for decisions and calls, which must never wait for a disk, and
/// one that moves bytes.
pub struct Runtimes {
    control: Runtime,
    data: Runtime,
}

impl Runtimes {
    /// Starts both.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start() -> std::io::Result<Self> {
        let control = Builder::new_current_thread().enable_all().build()?;
        let data = Builder::new_multi_thread().enable_all().thread_name("data").build()?;
        Ok(Self { control, data })
    }

    /// Runs `work` in the real world until it ends.
    ///
    /// # Errors
    /// Those of `work`, and a system without entropy.
    pub fn run<F: Future<Output = Result<(), Failure>>>(self, work: impl FnOnce(Env) -> F) -> Result<(), Failure> {
        let data = self.data.handle().clone();
        let done = self.control.block_on(async move {
            let env = Env::real(Some(data)).map_err(|e| Failure::new(Code::Internal, "no entropy").because(e))?;
            work(env).await
        });
        self.data.shutdown_background();
        done
    }
}

/// The whole life of a daemon's process: `work` gets its settings, its world and the word to stop.
pub fn daemon<C, F>(
    name: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
    log: impl FnOnce(&C::Settings) -> Log,
    work: impl FnOnce(Env, C::Settings, CancellationToken) -> F,
) -> ExitCode
where
    C: CommandLine,
    F: Future<Output = Result<(), Failure>>,
{
    match live::<C, F>(arguments, log, work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            Console::new(name, Color::Auto, false).fail(&failure);
            ExitCode::from(failure.code.exit())
        }
    }
}

fn live<C, F>(
    arguments: impl IntoIterator<Item = OsString>,
    log: impl FnOnce(&C::Settings) -> Log,
    work: impl FnOnce(Env, C::Settings, CancellationToken) -> F,
) -> Result<(), Failure>
where
    C: CommandLine,
    F: Future<Output = Result<(), Failure>>,
{
    let (line, loaded) = config::load::<C>(arguments, &Surroundings::look())?;
    if let Some(answer) = loaded.answer(line.config())? {
        print!("{answer}");
        return Ok(());
    }
    let log = log(&loaded.settings);
    telemetry::start(log.level.into(), log.format);
    let runtimes = Runtimes::start().map_err(|e| Failure::new(Code::Internal, "no threads").because(e))?;
    runtimes.run(|env| async move {
        let shutdown = CancellationToken::new();
        on_signal(&shutdown)?;
        work(env, loaded.settings, shutdown).await
    })
}

/// The first SIGTERM or SIGINT asks the daemon to stop; the second stops it.
fn on_signal(shutdown: &CancellationToken) -> Result<(), Failure> {
    let mut signals =
        Signals::listen().map_err(|e| Failure::new(Code::Internal, "signals cannot be handled").because(e))?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping; once more to stop at once");
        shutdown.cancel();
        signals.exit_on_next().await;
    });
    Ok(())
}

/// Opens a dfmanager's store and sockets, says where they are, and runs it.
///
/// # Errors
/// When the store or a socket cannot be opened, and those of [`manager::run`].
pub async fn run_manager(env: Env, settings: ManagerSettings, shutdown: CancellationToken) -> Result<(), Failure> {
    let db = manager::open_store(&env, &settings.data_dir).await?;
    let prepared = manager::prepare(&env, db, |bootstrap| manager::hand_over(&settings, bootstrap)).await?;
    let grpc = listen(&env, settings.listen_grpc).await?;
    let rest = listen(&env, settings.listen_rest).await?;
    let at = |listener: &Listener, asked: SocketAddr| listener.local_addr().unwrap_or(asked);
    let ready = format!("ready grpc={} rest={}", at(&grpc, settings.listen_grpc), at(&rest, settings.listen_rest));
    let _ = writeln!(std::io::stdout(), "{ready}");
    manager::run(env, settings, prepared, ManagerIncoming { grpc, rest }, shutdown).await
}

/// Opens a dfdaemon's sockets, says where they are, and runs it.
///
/// # Errors
/// When a socket cannot be opened, and those of [`peer::run`].
pub async fn run_peer(env: Env, mut config: PeerConfig, shutdown: CancellationToken) -> Result<(), Failure> {
    let incoming = open_peer(&env, &mut config).await?;
    let (ip, socket) = (config.host.ip, config.socket.clone());
    let at = |port| SocketAddr::new(ip, port);
    let ready =
        format!("ready rpc={} pieces={} socket={}", at(config.rpc.port), at(config.pieces.port), socket.display());
    // Nobody need be listening: a daemon in the background has no standard output.
    let _ = writeln!(std::io::stdout(), "{ready}");
    let ended = peer::run(env, config, incoming, shutdown).await;
    let _ = std::fs::remove_file(socket);
    ended
}

/// Opens a dfdaemon's sockets; its configuration then names the ports it got.
///
/// # Errors
/// When a socket cannot be opened.
pub async fn open_peer(env: &Env, config: &mut PeerConfig) -> Result<PeerIncoming, Failure> {
    let ip = bind_ip(config.host.ip);
    let rpc = listen(env, SocketAddr::new(ip, config.rpc.port)).await?;
    // Pieces are moved on the data runtime: so are their sockets.
    let (net, pieces) = (env.clone(), SocketAddr::new(ip, config.pieces.port));
    let pieces = env.spawn_data(async move { listen(&net, pieces).await }).await;
    let pieces = pieces.map_err(|e| Failure::new(Code::Internal, "the data runtime failed").because(e))??;
    let port = |listener: &Listener| listener.local_addr().map_or(0, |address| address.port());
    (config.rpc.port, config.pieces.port) = (port(&rpc), port(&pieces));
    let local = listen_local(&config.socket).await?;
    Ok(PeerIncoming { rpc, pieces, local })
}

/// Listens where everybody who may reach the advertised address can.
const fn bind_ip(advertised: IpAddr) -> IpAddr {
    match advertised {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Listens on a TCP address.
///
/// # Errors
/// [`Code::Network`], naming the address.
pub async fn listen(env: &Env, address: SocketAddr) -> Result<Listener, Failure> {
    env.net.listen(address).await.map_err(|error| {
        let failure = Failure::new(Code::Network, format!("cannot listen on {address}")).because(&error);
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                failure.hint("stop what listens there, or choose another port (0 for any)")
            }
            _ => failure,
        }
    })
}

/// Listens on a unix socket. One that nobody listens on any more is replaced.
async fn listen_local(path: &Path) -> Result<Listener, Failure> {
    let failure = |error: std::io::Error| {
        Failure::new(Code::LocalIo, format!("cannot listen on {}", path.display())).because(error)
    };
    if UnixStream::connect(path).await.is_ok() {
        return Err(Failure::new(Code::Exists, format!("another daemon listens on {}", path.display()))
            .hint("stop it, or give this one another --socket"));
    }
    let is_system_wide = rustix::process::geteuid().is_root();
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let mode = if is_system_wide { 0o755 } else { 0o700 };
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(parent).map_err(failure)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failure(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failure)?;
    // A system's daemon serves every local user: files are handed out as read-only descriptors.
    let mode = if is_system_wide { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failure)?;
    Ok(Listener::Unix(listener))
}
