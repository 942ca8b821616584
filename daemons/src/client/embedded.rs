//! A dfdaemon inside dfget: for one download in its own process, and as the daemon it leaves behind.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::daemon::Daemon;
use super::output::local;
use crate::config::{self, HostPort, Loaded, PeerCommand, PeerConfig, Surroundings};
use crate::env::Env;
use crate::env::net::BoxFuture;
use crate::launch;
use crate::peer::{self, PeerIncoming};

/// How long a daemon may take to begin or to end its work.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// A daemon's life: [`crate::peer`]'s, or a stand-in for tests.
pub(super) type Run = fn(Env, PeerConfig, PeerIncoming, CancellationToken) -> BoxFuture<'static, Result<(), Failure>>;

/// The life of a real daemon.
pub(super) const PEER: Run = |env, config, incoming, shutdown| Box::pin(peer::run(env, config, incoming, shutdown));

/// What a daemon that is started here is told on its command line: all ports are free ones, for the
/// usual ones may be taken by a daemon that is merely not ours.
pub(super) fn arguments(socket: &Path, schedulers: &[HostPort]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--socket".into(), socket.into()];
    arguments.extend(["--rpc-port=0", "--piece-port=0"].map(OsString::from));
    if !schedulers.is_empty() {
        let list: Vec<String> = schedulers.iter().map(ToString::to_string).collect();
        arguments.push(format!("--scheduler={}", list.join(",")).into());
    }
    arguments
}

/// A daemon in this process, on threads of its own.
pub(super) struct InProcess {
    runtime: Runtime,
    task: JoinHandle<Result<(), Failure>>,
    shutdown: CancellationToken,
    /// Private to this user; holds the socket.
    folder: TempDir,
    store: PathBuf,
}

impl InProcess {
    /// Starts a daemon that keeps its contents in `store`, or in a temporary folder, and connects
    /// to it.
    ///
    /// # Errors
    /// Why it did not begin.
    pub(super) async fn start(
        run: Run,
        around: &Surroundings,
        schedulers: &[HostPort],
        store: Option<PathBuf>,
    ) -> Result<(Self, Daemon), Failure> {
        let cannot = |error: io::Error| local("set up a daemon in this process", &error);
        let private = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("dfget-").permissions(private).tempdir().map_err(cannot)?;
        let socket = folder.path().join("dfdaemon.sock");
        let store = store.unwrap_or_else(|| folder.path().join("store"));
        let mut line = vec!["dfget".into(), "--data-dir".into(), store.clone().into_os_string()];
        line.extend(arguments(&socket, schedulers));
        let (_, Loaded { settings: mut config, .. }) = config::load::<PeerCommand>(line, around)?;

        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(cannot)?;
        let env = Env::real(Some(runtime.handle().clone())).map_err(cannot)?;
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let (bound, is_bound) = tokio::sync::oneshot::channel();
        let task = runtime.spawn(async move {
            let incoming = launch::open_peer(&env, &mut config).await?;
            // Whoever waits for it is gone if this fails.
            let _ = bound.send(());
            run(env, config, incoming, stop).await
        });
        let own = Self { runtime, task, shutdown, folder, store };
        let answers = async {
            is_bound.await.ok()?;
            let daemon = Daemon::connect(&socket, true).await.ok()?;
            daemon.is_answering().await.then_some(daemon)
        };
        match timeout(TURN_LIMIT, answers).await {
            Ok(Some(daemon)) => Ok((own, daemon)),
            _ => Err(own
                .end(false)
                .await
                .unwrap_or_else(|| Failure::new(Code::DaemonDown, "the daemon in this process does not answer"))),
        }
    }

    /// Ends the daemon, and removes its contents unless they are to be kept for another try. Gives
    /// its failure, if it had one.
    pub(super) async fn end(self, keeps_store: bool) -> Option<Failure> {
        self.shutdown.cancel();
        let ended = timeout(TURN_LIMIT, self.task).await;
        self.runtime.shutdown_background();
        if !keeps_store {
            // Best effort: what is left over is found and used by the same command.
            let _ = std::fs::remove_dir_all(&self.store);
        }
        drop(self.folder);
        ended.ok().and_then(Result::ok).and_then(Result::err)
    }
}

/// What `dfget daemon ...` does: a dfdaemon with all its flags, detached from the terminal.
pub fn daemon_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A session of its own, so that a ^C meant for whoever started it does not end it. It has one
    // already when it was not started by another program.
    let _ = rustix::process::setsid();
    launch::daemon::<PeerCommand, _>("dfdaemon", arguments, |config| config.log, launch::run_peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(folder: &TempDir) -> Surroundings {
        Surroundings { data_home: Some(folder.path().to_owned()), ..Surroundings::default() }
    }

    #[tokio::test]
    async fn why_a_daemon_in_this_process_did_not_begin_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let refuse: Run = |_, config, _, _| {
            Box::pin(async move {
                std::fs::create_dir_all(&config.data_dir).map_err(|error| local("create", &error))?;
                Err(Failure::new(Code::NoSpace, "no room"))
            })
        };
        let store = folder.path().join("store");
        let failure = InProcess::start(refuse, &around(&folder), &[], Some(store.clone())).await.err().unwrap();
        assert_eq!(failure, Failure::new(Code::NoSpace, "no room"));
        assert!(!store.exists());
        // One that ends without a reason, as a program may that was told to.
        let leave: Run = |_, _, _, _| Box::pin(async { Ok(()) });
        let failure = InProcess::start(leave, &around(&folder), &[], Some(store)).await.err().unwrap();
        assert_eq!(failure.code, Code::DaemonDown);
    }

    #[tokio::test]
    async fn it_lives_until_it_is_ended_and_its_store_as_long_as_it_is_of_use() {
        let folder = tempfile::tempdir().unwrap();
        // Answers that it knows no call, and leaves a trace in the store when it is told to end.
        let answer: Run = |_, config, incoming, shutdown| {
            Box::pin(async move {
                let server = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
                let told = shutdown.clone().cancelled_owned();
                server.serve_with_incoming_shutdown(incoming.local.into_stream(), told).await.unwrap();
                std::fs::create_dir_all(config.data_dir.join("ended")).map_err(|error| local("create", &error))
            })
        };
        let store = folder.path().join("store");
        for keeps_store in [true, false] {
            let (own, daemon) = InProcess::start(answer, &around(&folder), &[], Some(store.clone())).await.unwrap();
            let private = own.folder.path().to_owned();
            assert!(daemon.is_private && daemon.is_answering().await);
            assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
            drop(daemon);
            assert_eq!(own.end(keeps_store).await, None);
            assert_eq!((store.join("ended").exists(), private.exists()), (keeps_store, false));
        }
    }

    #[tokio::test]
    async fn it_is_told_its_schedulers_and_the_ports_it_got() {
        let folder = tempfile::tempdir().unwrap();
        let tell: Run = |_, config, incoming, _| {
            Box::pin(async move {
                let ports = [&incoming.rpc, &incoming.pieces].map(|listener| listener.local_addr().unwrap().port());
                let told = [config.rpc.port, config.pieces.port];
                let folder = config.socket.parent().unwrap();
                let mode = std::fs::metadata(folder).unwrap().permissions().mode() & 0o777;
                let addresses = config.scheduler.addresses;
                Err(Failure::new(Code::Busy, format!("{} {mode:o} {addresses:?}", ports == told && ports[0] != 0)))
            })
        };
        let scheduler: HostPort = "s:1".parse().unwrap();
        let failure =
            InProcess::start(tell, &around(&folder), std::slice::from_ref(&scheduler), None).await.err().unwrap();
        assert_eq!(failure.message, format!("true 700 {:?}", [scheduler]));
    }
}
