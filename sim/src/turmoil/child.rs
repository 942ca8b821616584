//! A run in a process of its own: what one run leaves behind cannot touch the next.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::ledger::Violation;
use super::world::Report;

/// A run that takes longer than this has hung, in real time.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a run's output that are kept: many times those of the longest run that ends.
const OUTPUT_LIMIT: u64 = 256 << 20;

/// How often a child is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Environment that would reach into a run.
const FOREIGN: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// What to run.
#[derive(Clone, Debug)]
pub enum Subject<'a> {
    /// The scenario of a seed.
    Seed(u64),
    /// One in a file.
    File(&'a Path),
}

fn command(subject: &Subject<'_>, planted: Option<&str>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program is gone")?);
    command.args(["--engine", "turmoil", "--json"]);
    match subject {
        Subject::Seed(seed) => command.args(["--seed", &seed.to_string()]),
        Subject::File(path) => command.arg("--scenario").arg(path),
    };
    if let Some(bug) = planted {
        command.args(["--plant", bug]);
    }
    for name in FOREIGN {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// What a process left behind.
struct Left {
    stdout: String,
    stderr: String,
    /// How it ended.
    end: String,
}

/// Runs a command to its end, or kills it at [`LIMIT`].
fn bounded(mut command: Command) -> Result<Left> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start a run")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // A pipe that nobody empties would hold the child up.
        let (stdout, stderr) = (scope.spawn(|| drain(stdout)), scope.spawn(|| drain(stderr)));
        let end = wait(&mut child)?;
        let text = |pipe: ScopedJoinHandle<'_, String>| pipe.join().unwrap_or_default();
        Ok(Left { stdout: text(stdout), stderr: text(stderr), end })
    })
}

/// Reads a pipe to its end, and keeps what it begins with: a run that hangs in a circle writes for ever.
fn drain(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before it broke is all there is.
        let _ = pipe.by_ref().take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child) -> Result<String> {
    let mut waited = Duration::ZERO;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(format!("it ended with {status}")),
            None if waited >= LIMIT => {
                child.kill()?;
                child.wait()?;
                return Ok(format!("it did not end within {LIMIT:?}"));
            }
            None => std::thread::sleep(LOOK_INTERVAL),
        }
        waited += LOOK_INTERVAL;
    }
}

/// Runs it in a process of its own.
///
/// # Errors
/// When no process can be started. One that dies or hangs is a run with a violation.
pub fn run(subject: &Subject<'_>, planted: Option<&str>) -> Result<Report> {
    let left = bounded(command(subject, planted)?)?;
    Ok(serde_json::from_str(&left.stdout).unwrap_or_else(|_| died(subject, left.end)))
}

fn died(subject: &Subject<'_>, why: String) -> Report {
    let seed = if let Subject::Seed(seed) = subject { *seed } else { 0 };
    let violation = Violation { at_us: 0, check: "runs-end".to_owned(), what: why };
    Report { seed, violations: vec![violation], ..Report::default() }
}

/// Every event of a run as a line, up to where it ended or hung.
///
/// # Errors
/// When no process can be started.
pub fn trace(subject: &Subject<'_>, planted: Option<&str>) -> Result<Vec<String>> {
    let mut command = command(subject, planted)?;
    command.arg("--trace");
    Ok(bounded(command)?.stderr.lines().map(str::to_owned).collect())
}

/// Runs seeds in as many processes as there are cores, and hands each report over, in the order in which
/// they end, until it is told to stop.
///
/// # Errors
/// The first of any run.
pub fn each(
    seeds: impl Fn(u64) -> Option<u64> + Sync,
    planted: Option<&str>,
    jobs: usize,
    hear: impl FnMut(Report) -> bool + Send,
) -> Result<()> {
    let (next, hear) = (AtomicU64::new(0), std::sync::Mutex::new((hear, false)));
    let work = || -> Result<()> {
        loop {
            if hear.lock().is_ok_and(|state| state.1) {
                return Ok(());
            }
            let Some(seed) = seeds(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
            let report = run(&Subject::Seed(seed), planted)?;
            if let Ok(mut state) = hear.lock() {
                let goes_on = state.1 || (state.0)(report);
                state.1 |= !goes_on;
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })
}
