//! A run in a process of its own: what one run leaves behind cannot touch the next.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::ledger::Violation;
use super::world::Report;

/// A run that takes longer than this has hung, in real time.
const LIMIT: Duration = Duration::from_secs(60);

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

/// Runs it in a process of its own.
///
/// # Errors
/// When no process can be started. One that dies or hangs is a run with a violation.
pub fn run(subject: &Subject<'_>, planted: Option<&str>) -> Result<Report> {
    let mut command = command(subject, planted)?;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start a run")?;
    let mut pipe = child.stdout.take().context("a run without output")?;
    let mut waited = Duration::ZERO;
    // A report is shorter than a pipe is deep, or the child would wait here for ever.
    let why = loop {
        match child.try_wait()? {
            Some(status) => break format!("it ended with {status}"),
            None if waited >= LIMIT => {
                child.kill()?;
                child.wait()?;
                break format!("it did not end within {LIMIT:?}");
            }
            None => std::thread::sleep(LOOK_INTERVAL),
        }
        waited += LOOK_INTERVAL;
    };
    let mut text = String::new();
    pipe.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|_| died(subject, why)))
}

fn died(subject: &Subject<'_>, why: String) -> Report {
    let seed = if let Subject::Seed(seed) = subject { *seed } else { 0 };
    let violation = Violation { at_us: 0, check: "runs-end".to_owned(), what: why };
    Report { seed, violations: vec![violation], ..Report::default() }
}

/// Every event of a run as a line.
///
/// # Errors
/// When no process can be started.
pub fn trace(subject: &Subject<'_>, planted: Option<&str>) -> Result<Vec<String>> {
    let output = command(subject, planted)?.arg("--trace").output().context("cannot start a run")?;
    Ok(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect())
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
