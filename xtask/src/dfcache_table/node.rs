//! The schedulers and daemons that are measured, as processes, and commands run on them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::now;

/// Bytes written at once to a file that is made up.
const BLOCK_BYTES: usize = 1 << 20;

/// A process; killed when dropped.
struct Process {
    child: Child,
    ready: String,
}

/// Where a process runs.
#[derive(Clone)]
pub(super) struct Place {
    namespace: Option<String>,
    ip: String,
}

impl Place {
    /// This machine, by its loopback address.
    pub(super) fn here() -> Self {
        Self { namespace: None, ip: "127.0.0.1".to_owned() }
    }

    /// A network namespace, by an address it has there.
    pub(super) fn within(namespace: &str, ip: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ip: ip.to_owned() }
    }

    fn command(&self, program: &Path) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

impl Process {
    fn start(place: &Place, program: &Path, log: &Path, arguments: &[String]) -> Result<Self> {
        let shown = program.display();
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = place.command(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("{shown} does not start"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        let process = Self { child, ready };
        anyhow::ensure!(process.ready.starts_with("ready "), "{shown} did not become ready");
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to be done about one that does not end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended, what it printed, how long it took.
pub(super) struct Ran {
    pub(super) exit: Option<i32>,
    pub(super) text: String,
    pub(super) took: Duration,
}

/// Schedulers and daemons.
pub(super) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    schedulers: Vec<Process>,
    daemons: Vec<(Place, Option<Process>)>,
}

impl Cluster {
    /// Starts so many of each.
    ///
    /// # Errors
    /// When one does not become ready.
    pub(super) fn start(programs: &Path, folder: &Path, schedulers: usize, daemons: usize) -> Result<Self> {
        let places = |count| vec![Place::here(); count];
        Self::start_at(programs, folder, &places(schedulers), &places(daemons))
    }

    /// Starts a scheduler and a daemon at each of these places.
    ///
    /// # Errors
    /// When one does not become ready.
    pub(super) fn start_at(programs: &Path, folder: &Path, schedulers: &[Place], daemons: &[Place]) -> Result<Self> {
        let (programs, folder) = (programs.to_owned(), folder.to_owned());
        let mut cluster = Self { programs, folder, schedulers: Vec::new(), daemons: Vec::new() };
        for (number, place) in (1..).zip(schedulers) {
            let log = cluster.path(&format!("scheduler{number}.log"));
            let arguments = ["--listen", &format!("{}:0", place.ip), "--log-level", "warn"].map(str::to_owned);
            let scheduler = Process::start(place, &cluster.programs.join("dfscheduler"), &log, &arguments)?;
            cluster.schedulers.push(scheduler);
        }
        for (number, place) in (1..).zip(daemons) {
            cluster.daemons.push((place.clone(), None));
            cluster.restart(number)?;
        }
        Ok(cluster)
    }

    /// Starts a daemon; again, if it runs.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(super) fn restart(&mut self, number: usize) -> Result<()> {
        let said = |scheduler: &Process| scheduler.ready.trim().rsplit('=').next().unwrap_or_default().to_owned();
        let schedulers: Vec<String> = self.schedulers.iter().map(said).collect();
        let (place, running) = self.daemons.get_mut(number - 1).context("no such daemon")?;
        drop(running.take());
        let place = place.clone();
        let arguments = [
            format!("--ip={}", place.ip),
            "--rpc-port=0".to_owned(),
            "--piece-port=0".to_owned(),
            format!("--data-dir={}", self.path(&format!("node{number}")).display()),
            format!("--socket={}", self.socket(number).display()),
            format!("--scheduler={}", schedulers.join(",")),
            "--log-level=warn".to_owned(),
        ];
        let log = self.path(&format!("node{number}.log"));
        let process = Process::start(&place, &self.programs.join("dfdaemon"), &log, &arguments)?;
        if let Some((_, running)) = self.daemons.get_mut(number - 1) {
            *running = Some(process);
        }
        Ok(())
    }

    /// A path in the folder all work in.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.path(&format!("node{number}.sock"))
    }

    /// A file of so many bytes that do not repeat.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn file(&self, name: &str, len: u64) -> Result<PathBuf> {
        let path = self.path(name);
        let mut file = File::create(&path)?;
        let (mut state, mut left) = (len | 1, len);
        let mut block = vec![0; BLOCK_BYTES];
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                // xorshift64: no two blocks are alike, which is all that matters here.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let part = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            file.write_all(&block[..part])?;
            left -= part as u64;
        }
        Ok(path)
    }

    /// Runs a command line of dfcache, words divided by spaces, on a node.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn run(&self, node: usize, line: &str) -> Result<Ran> {
        let mut command = Command::new(self.programs.join("dfcache"));
        command.args(line.split(' '));
        self.finish(node, &mut command)
    }

    /// The same through a shell, for pipes.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn shell(&self, node: usize, line: &str) -> Result<Ran> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec 2>&1; {}/dfcache {line}", self.programs.display()));
        self.finish(node, &mut command)
    }

    fn finish(&self, node: usize, command: &mut Command) -> Result<Ran> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", "/nonexistent").env("DFCACHE_ENDPOINT", self.socket(node));
        command.current_dir(&self.folder).stdin(Stdio::null());
        let since = now();
        let output = command.output().context("dfcache does not start")?;
        let took = since.elapsed();
        let text = [output.stdout, output.stderr].concat();
        Ok(Ran { exit: output.status.code(), text: String::from_utf8_lossy(&text).into_owned(), took })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.daemons.clear();
        // Large files first: whoever keeps the folder keeps the logs.
        let _ = fs::remove_file(self.path("content"));
    }
}
