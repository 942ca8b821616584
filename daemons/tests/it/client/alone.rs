//! dfget without a daemon to ask: in its own process, or with one that it starts and leaves behind;
//! and with a real source.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use super::names;
use crate::cluster::{Cluster, LIMIT};
use crate::origin::{Content, Fault, Origin};

const LEN: usize = 1 << 20;

/// A folder to download to, with all that dfget might keep elsewhere.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.out()).unwrap();
        place
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("run/sock")
    }

    /// Runs dfget in the folder: exit code, JSON result and standard error.
    async fn dfget(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfget"));
        command.env_clear().env("HOME", self.0.path()).env("TMPDIR", self.0.path());
        command.env("DFDAEMON_DATA_DIR", self.0.path().join("data")).env("DFDAEMON_IP", "127.0.0.1");
        command.args(arguments).arg("--json").current_dir(self.out()).kill_on_drop(true);
        let output = timeout(LIMIT, command.output()).await.expect("it hangs").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let result = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), result, text(&output.stderr))
    }
}

/// A daemon that some dfget left behind; ended with the test.
struct Left(OwnedFd);

impl Left {
    fn at(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let pid = socket_peercred(&stream).unwrap().pid;
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    fn has_ended(&self, within: Duration) -> bool {
        let limit = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)).unwrap() > 0
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if pidfd_send_signal(&self.0, Signal::TERM).is_ok() && !self.has_ended(LIMIT) {
            let _ = pidfd_send_signal(&self.0, Signal::KILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_it_fetches_from_the_source_and_leaves_nothing_behind() {
    let (place, origin) = (Place::new(), Origin::start(Content::random(1, LEN)).await);
    let (exit, result, stderr) = place.dfget(&["--no-daemon", "-O", "f", &origin.url()]).await;
    assert_eq!(exit, Some(0), "{stderr}");
    assert!(fs::read(place.out().join("f")).unwrap() == origin.bytes());
    assert_eq!((&result["bytes"], &result["from"]["origin"]), (&LEN.into(), &LEN.into()));
    assert_eq!(names(&place.out()), ["f"]);
    assert_eq!(names(place.0.path()), ["out"], "no socket, no store");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_it_is_a_peer_of_the_swarm() {
    let (place, cluster) = (Place::new(), Cluster::start(1, 1).await);
    let origin = Origin::start(Content::random(2, LEN)).await;
    cluster.download(1, &origin.url()).await.unwrap();
    let scheduler = cluster.scheduler_address.to_string();
    let arguments = ["--no-daemon", "--scheduler", &scheduler, "--disable-back-source", "-O", "f", &origin.url()];
    let (exit, result, stderr) = place.dfget(&arguments).await;
    assert_eq!(exit, Some(0), "{stderr}");
    assert!(fs::read(place.out().join("f")).unwrap() == origin.bytes());
    let parents = result["parents"].as_array().unwrap();
    let bytes: u64 = parents.iter().filter_map(|parent| parent["bytes"].as_u64()).sum();
    assert_eq!((bytes, &result["from"]["origin"]), (LEN as u64, &0.into()), "{result}");
    assert_eq!(origin.stats().body_bytes, LEN as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_has_its_exit_code_and_spares_the_old_file() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let table = [
        (Some(Fault::Status(404)), &[][..], 8, "ORIGIN_STATUS"),
        (Some(Fault::Status(403)), &[], 6, "AUTH"),
        (Some(Fault::Status(500)), &[], 8, "ORIGIN_STATUS"),
        (Some(Fault::StallHead), &["--timeout", "500ms"], 28, "TIMEOUT"),
        (Some(Fault::StallAt(1000)), &["--timeout", "500ms"], 28, "TIMEOUT"),
        (None, &["--digest", &digest], 32, "DIGEST"),
        (None, &["--disable-back-source"], 12, "NO_SCHEDULER"),
    ];
    for (fault, arguments, code, name) in table {
        let (place, origin) = (Place::new(), Origin::start(Content::random(3, LEN)).await);
        fs::write(place.out().join("f"), "old").unwrap();
        if let Some(fault) = fault.clone() {
            origin.inject(fault);
        }
        let url = origin.url();
        let (exit, result, stderr) = place.dfget(&[&["--no-daemon", "-O", "f"], arguments, &[&url]].concat()).await;
        assert_eq!((exit, &result["error"]["code"]), (Some(code), &name.into()), "{fault:?} {stderr}");
        assert_eq!(fs::read(place.out().join("f")).unwrap(), b"old", "{fault:?}");
    }
    let place = Place::new();
    let (exit, result, _) = place.dfget(&["--no-daemon", "-O", "f", "http://127.0.0.1:1/f"]).await;
    assert_eq!((exit, &result["error"]["code"]), (Some(4), &"NETWORK".into()));
    assert!(names(&place.out()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_it_starts_stays_and_serves_the_next_one() {
    let (place, origin) = (Place::new(), Origin::start(Content::random(4, LEN)).await);
    let (socket, url) = (place.socket(), origin.url());
    let socket = socket.to_str().unwrap();
    let names = ["a", "b", "c"];
    let lines = names.map(|name| ["--endpoint", socket, "-O", name, &url]);
    let all = futures_util::future::join_all(lines.iter().map(|line| place.dfget(line))).await;
    let daemon = Left::at(&place.socket());
    let mut starts = 0;
    for ((exit, _, stderr), name) in all.into_iter().zip(names) {
        assert_eq!(exit, Some(0), "{stderr}");
        starts += usize::from(stderr.contains("starting one in the background"));
        assert!(fs::read(place.out().join(name)).unwrap() == origin.bytes());
    }
    assert_eq!(starts, 1);
    // The next one finds the daemon, and in it the content.
    let (exit, result, stderr) = place.dfget(&["--endpoint", socket, "--require-daemon", "-O", "d", &url]).await;
    assert_eq!((exit, &result["from"]["local"]), (Some(0), &LEN.into()), "{stderr}");
    assert_eq!(origin.stats().body_bytes, LEN as u64, "one daemon read the source once");
    pidfd_send_signal(&daemon.0, Signal::TERM).unwrap();
    assert!(daemon.has_ended(LIMIT) && !place.socket().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_was_ended_goes_on_in_the_next_one() {
    let (place, origin) = (Place::new(), Origin::start(Content::random(5, 4 * LEN)).await);
    let url = origin.url();
    let line = ["--no-daemon", "--piece-size", "64KiB", "-O", "f", &url];
    origin.inject_once(Fault::StallAt(3 * LEN));
    let (exit, _, stderr) = place.dfget(&[&line[..], &["--timeout", "1s"]].concat()).await;
    assert_eq!(exit, Some(28), "{stderr}");
    let (exit, result, stderr) = place.dfget(&line).await;
    assert_eq!((exit, &result["resumed"]), (Some(0), &true.into()), "{stderr}");
    assert!(fs::read(place.out().join("f")).unwrap() == origin.bytes());
    let sent = origin.stats().body_bytes;
    assert!(sent < 5 * LEN as u64, "{sent} bytes for {}", 4 * LEN);
    assert_eq!(names(&place.out()), ["f"]);
}
