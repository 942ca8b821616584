//! dfcache, the real program, on real daemons and schedulers.

mod faults;
mod forms;
mod room;
mod rights;
mod schedulers;
mod steps;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use df_core::rng::Rng;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cluster::{Cluster, Daemon, LIMIT};

const MIB: usize = 1 << 20;

/// How a command ended.
#[derive(Debug)]
struct Ran {
    exit: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.exit, Some(code), "{self:?}");
        self
    }
}

fn command(daemon: &Daemon, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfcache"));
    command.env_clear().env("HOME", "/nonexistent").env("XDG_CONFIG_HOME", "/nonexistent");
    command.env("DFCACHE_ENDPOINT", &daemon.config.socket).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn finish(child: Child) -> Ran {
    let output = timeout(LIMIT, child.wait_with_output()).await.expect("it hangs").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { exit: output.status.code(), stdout: output.stdout, stderr }
}

async fn run(daemon: &Daemon, arguments: &[impl AsRef<OsStr>]) -> Ran {
    finish(command(daemon, arguments).spawn().unwrap()).await
}

/// Runs a command, the words of which are divided by spaces.
async fn ask(daemon: &Daemon, line: &str) -> Ran {
    run(daemon, &line.split(' ').collect::<Vec<_>>()).await
}

/// Asks again and again until the answer has this exit code.
async fn ask_until(daemon: &Daemon, line: &str, exit: i32) {
    let again = async {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        while ask(daemon, line).await.exit != Some(exit) {
            pause.tick().await;
        }
    };
    timeout(LIMIT, again).await.unwrap_or_else(|_| panic!("`{line}` does not end with {exit}"));
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let look = async {
        let mut pause = tokio::time::interval(Duration::from_millis(5));
        while !is_so() {
            pause.tick().await;
        }
    };
    timeout(LIMIT, look).await.expect("it does not come to be");
}

pub(crate) fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes: Vec<u8> =
        std::iter::from_fn(|| Some(rng.next_u64().to_le_bytes())).take(len / 8 + 1).flatten().collect();
    bytes.truncate(len);
    bytes
}

impl Cluster {
    /// A file in the cluster's folder.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.dir().join(name);
        path.to_str().unwrap().to_owned()
    }
}
