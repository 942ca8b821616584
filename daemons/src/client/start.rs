//! Finding a daemon on this host, or starting one that stays for a while.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use tokio::time::{sleep, timeout};

use super::daemon::Daemon;
use super::output::local;
use crate::config::{HostPort, Surroundings};

/// How long a daemon may take from its start until it listens.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before trying the socket again.
const TRY_INTERVAL: Duration = Duration::from_millis(20);

/// How long a daemon that was started here stays without work.
const ALIVE_TIME: &str = "--alive-time=5m";

/// Most of a log that is read to find out why a daemon ended, in bytes.
const LOG_LIMIT: u64 = 64 << 10;

/// Where daemons of this host listen: what is tried, in order, when no socket is named. The last is
/// where one that is started here will listen.
pub(super) fn usual_sockets(around: &Surroundings) -> Vec<PathBuf> {
    let mut sockets = vec![Surroundings::system_socket()];
    let own = around.socket(&around.data_dir());
    if !sockets.contains(&own) {
        sockets.push(own);
    }
    sockets
}

/// Connects to the first socket where a daemon listens; `None` if there is none.
///
/// # Errors
/// When the only socket to try is there but cannot be used.
pub(super) async fn find(sockets: &[PathBuf]) -> Result<Option<Daemon>, Failure> {
    for socket in sockets {
        match Daemon::connect(socket, false).await {
            Ok(daemon) => return Ok(Some(daemon)),
            Err(error) if is_absent(&error) || sockets.len() > 1 => {}
            Err(error) => {
                let failure = Failure::new(Code::DaemonDown, format!("cannot connect to {}", socket.display()));
                return Err(failure.because(error).hint("check the socket's permissions and its path"));
            }
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Creates the folder of a socket, for this user alone.
pub(super) fn create_folder(socket: &Path) -> io::Result<()> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A daemon to be started in the background.
pub(super) struct Background {
    program: PathBuf,
    arguments: Vec<OsString>,
    socket: PathBuf,
}

impl Background {
    /// This program as a daemon at `socket`.
    pub(super) fn this_program(socket: &Path, schedulers: &[HostPort]) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| local("find this program", &error))?;
        let mut arguments: Vec<OsString> = vec!["daemon".into(), ALIVE_TIME.into()];
        arguments.extend(super::embedded::arguments(socket, schedulers));
        Ok(Self::new(program, arguments, socket.to_owned()))
    }

    /// Any program that will listen at `socket`.
    fn new(program: PathBuf, arguments: Vec<OsString>, socket: PathBuf) -> Self {
        Self { program, arguments, socket }
    }

    /// Connects to the daemon, after having started it unless somebody else did in the meantime.
    /// Those who come at the same time wait for the one who starts it. `starting` is called by
    /// that one.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time.
    pub(super) async fn ensure(&self, starting: impl FnOnce()) -> Result<Daemon, Failure> {
        let cannot = |error: io::Error| local("start a daemon", &error);
        create_folder(&self.socket).map_err(cannot)?;
        let turn = private_file(&self.beside("lock")).map_err(cannot)?;
        let started = timeout(START_LIMIT, async {
            loop {
                match turn.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::WouldBlock) => sleep(TRY_INTERVAL).await,
                    Err(TryLockError::Error(error)) => return Err(cannot(error)),
                }
            }
            if let Ok(daemon) = Daemon::connect(&self.socket, false).await {
                return Ok(daemon);
            }
            starting();
            let mut child = self.spawn().map_err(cannot)?;
            loop {
                if let Ok(daemon) = Daemon::connect(&self.socket, false).await {
                    return Ok(daemon);
                }
                if child.try_wait().map_err(cannot)?.is_some() {
                    return Err(self.post_mortem());
                }
                sleep(TRY_INTERVAL).await;
            }
        });
        started.await.unwrap_or_else(|_| {
            let failure = Failure::new(Code::DaemonDown, "the daemon that was started does not listen");
            Err(failure.hint(format!("see {}", self.beside("log").display())))
        })
    }

    /// Starts the program. It has no terminal and no pipe of ours, and no working directory that
    /// somebody might want to unmount.
    fn spawn(&self) -> io::Result<Child> {
        let log = private_file(&self.beside("log"))?;
        log.set_len(0)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Why it ended at once: the last line of its log.
    fn post_mortem(&self) -> Failure {
        use std::io::Read;
        let path = self.beside("log");
        let mut text = String::new();
        // Without a log there is no reason to be told, and that is all.
        let _ = File::open(&path).and_then(|log| log.take(LOG_LIMIT).read_to_string(&mut text));
        let failure = Failure::new(Code::DaemonDown, "the daemon that was started ended at once");
        match text.lines().next() {
            Some(line) => failure.because(line),
            None => failure,
        }
    }

    /// A file beside the socket, of the same name with a suffix.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.socket.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use futures_util::future::join_all;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use tempfile::TempDir;
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe;

    use super::*;

    /// A shell script in the place of a daemon, that can use the folder as `$0`.
    fn background(folder: &TempDir, script: &str) -> Background {
        let arguments = ["-c".into(), script.into(), folder.path().as_os_str().to_owned()];
        Background::new("/bin/sh".into(), arguments.into(), folder.path().join("run/sock"))
    }

    fn fifo(folder: &TempDir, name: &str) -> PathBuf {
        let path = folder.path().join(name);
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        path
    }

    #[tokio::test]
    async fn many_at_once_start_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let (up, hold) = (fifo(&folder, "up"), fifo(&folder, "hold"));
        let mut up = pipe::OpenOptions::new().read_write(true).open_receiver(up).unwrap();
        let hold = OpenOptions::new().read(true).write(true).open(hold).unwrap();
        // Says that it was started and stays until the test is over.
        let daemon = background(&folder, "exec 3< $0/hold; echo x >> $0/starts; echo up > $0/up; read x <&3");
        let all = async { join_all((0..10).map(|_| daemon.ensure(|| ()))).await };
        let listen = async {
            up.read_exact(&mut [0; 3]).await.unwrap();
            UnixListener::bind(folder.path().join("run/sock")).unwrap()
        };
        let (daemons, _listener) = tokio::join!(all, listen);
        assert!(daemons.iter().all(Result::is_ok));
        assert_eq!(fs::read_to_string(folder.path().join("starts")).unwrap(), "x\n");
        // One who comes later starts none.
        daemon.ensure(|| panic!("it is there")).await.unwrap();
        drop(hold);
    }

    #[tokio::test]
    async fn why_a_daemon_ended_at_once_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let failure = background(&folder, "echo 'dfdaemon: no room' >&2; exit 9").ensure(|| ()).await.unwrap_err();
        assert_eq!(failure.code, Code::DaemonDown);
        assert_eq!(failure.to_string(), "the daemon that was started ended at once: dfdaemon: no room");
        let silent = background(&folder, "exit 1").ensure(|| ()).await.unwrap_err();
        assert_eq!(silent.cause, None);
        let missing = Background { program: "/nonexistent/dfget".into(), ..background(&folder, "") };
        assert_eq!(missing.ensure(|| ()).await.unwrap_err().code, Code::LocalIo);
    }

    #[tokio::test]
    async fn the_first_that_answers_is_taken_and_a_forbidden_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let [none, there, odd] = ["none", "there", "odd/sock"].map(|name| folder.path().join(name));
        let _listener = UnixListener::bind(&there).unwrap();
        fs::write(folder.path().join("odd"), "a file").unwrap();
        assert!(find(&[none.clone(), odd.clone(), there]).await.unwrap().is_some());
        assert!(find(std::slice::from_ref(&none)).await.unwrap().is_none());
        let failure = find(&[odd]).await.err().unwrap();
        assert_eq!(failure.code, Code::DaemonDown);
        assert!(failure.to_string().ends_with("Not a directory (os error 20)"), "{failure}");
    }

    #[test]
    fn the_systems_daemon_comes_before_the_users_own() {
        let own = PathBuf::from("/run/user/7");
        let user = Surroundings { runtime_dir: Some(own.clone()), ..Surroundings::default() };
        let system = Surroundings::system_socket();
        assert_eq!(usual_sockets(&user), [system.clone(), own.join("damselfly/dfdaemon.sock")]);
        assert_eq!(usual_sockets(&Surroundings { is_root: true, ..user }), [system]);
    }
}
