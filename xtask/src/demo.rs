//! `cargo xtask demo`: one file through a real swarm on this machine, and who got what from whom.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tempfile::TempDir;

use crate::{Task, repo};
use content::Content;
use crew::{Crew, Interrupted, Member};
use origin::Origin;
use report::{Peer, Report};

mod console;
mod content;
mod crew;
mod fetch;
mod origin;
mod report;

/// Show one file reach many peers while its source is read once
///
/// Builds the programs, then starts on the loopback address, as processes of their own: a
/// scheduler, a seed peer and some peers. A small HTTP server inside this command is the source
/// and counts what it sends. Then dfget asks every peer for the same file at the same time.
///
/// At the end stand two tables: how much each peer got from the source, the seed peer and other
/// peers; and from which of them. Every byte of every copy is compared with the file.
///
/// Fails if a copy is missing or differs, or if the source sent more than 1.05 times the file.
/// The logs of all processes are then left, and named. ^C ends all that was started.
#[derive(Parser)]
#[command(name = "demo", after_help = EXAMPLES)]
pub(crate) struct Demo {
    /// Distribute this file [default: one that is made up]
    #[arg(long, value_name = "PATH", conflicts_with = "size")]
    file: Option<PathBuf>,
    /// Peers besides the seed peer
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    peers: u16,
    /// Length of the file that is made up
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    size: u32,
    /// Print one JSON object in place of the tables
    #[arg(long)]
    json: bool,
    /// Open dfconsole on the cluster while its peers download, with a manager that knows them all
    #[arg(long, conflicts_with_all = ["json", "file"])]
    console: bool,
    /// Build without optimisation for speed: sooner there, slower transfers
    #[arg(long)]
    dev: bool,
    /// Keep the folder with the copies, the peers' contents and the logs, and name it
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "Examples:
  cargo xtask demo
  cargo xtask demo --peers 16 --size 256
  cargo xtask demo --file ~/Downloads/some.iso
  cargo xtask demo --json | jq .origin_ratio
  cargo xtask demo --console --peers 8";

impl Task for Demo {
    fn run(self) -> Result<()> {
        let given = self.file.as_deref().map(Content::given).transpose()?;
        let programs = Programs::build(self.dev, self.console)?;
        let folder = tempfile::Builder::new().prefix("df-demo-").tempdir().context("no temporary folder")?;
        let mut crew = Crew::new(folder.path().join("logs"))?;
        let outcome = match self.console {
            true => console::show(self.peers, u64::from(self.size) << 20, &programs, folder.path(), &mut crew),
            false => self.show(given, &programs, folder.path(), &mut crew),
        };
        let words = crew.last_words();
        drop(crew);
        // Who interrupts it wants nothing explained.
        let is_failed = outcome.as_ref().is_err_and(|error| !error.is::<Interrupted>());
        if is_failed && !words.is_empty() {
            eprintln!("the last words in the logs:\n{words}");
        }
        leave(folder, self.keep, is_failed)?;
        outcome
    }
}

impl Demo {
    fn show(&self, given: Option<Content>, programs: &Programs, folder: &Path, crew: &mut Crew) -> Result<()> {
        let content = match given {
            Some(given) => given,
            None => Content::made_up(folder.join("file"), u64::from(self.size) << 20)?,
        };
        let origin = Origin::start(&content.path)?;
        eprintln!("the source is {}, {}", origin.url(), report::megabytes(content.len));
        let (cpu, swarm) = (cpu_of_children(), Swarm::start(crew, programs, folder, self.peers)?);

        eprintln!("dfget asks {} peers at once", self.peers);
        let copies: Vec<PathBuf> = swarm.peers.iter().map(|name| folder.join("copies").join(name)).collect();
        fs::create_dir(folder.join("copies"))?;
        let since = now();
        let mut fetching = Vec::new();
        for (name, copy) in swarm.peers.iter().zip(&copies) {
            let mut dfget = Command::new(&programs.dfget);
            dfget.arg(origin.url()).arg("-O").arg(copy).arg("--endpoint").arg(socket(folder, name));
            dfget.args(["--require-daemon", "--json", "--progress=json"]);
            fetching.push(crew.start_told(&format!("dfget-{name}"), &mut dfget)?);
        }
        let (fetched, took) = fetch::follow(crew, &fetching, content.len, &origin, since)?;
        let killed = crew.end();
        ensure!(killed.is_empty(), "{} did not end when asked to", killed.join(", "));

        let mut peers = Vec::new();
        for ((name, fetched), copy) in swarm.peers.iter().zip(fetched).zip(&copies) {
            let differs_at = if fetched.ok { content.first_difference(copy)? } else { None };
            peers.push(Peer { name: name.clone(), fetched, differs_at });
        }
        let cpu_ms = cpu_of_children().zip(cpu).map(|(after, before)| after - before);
        let wall_ms = took.as_millis() as u64;
        let report = Report { file_bytes: content.len, wall_ms, origin: origin.sent(), cpu_ms, peers };
        match self.json {
            true => println!("{}", report.json()),
            false => println!("\n{}", report.text(&swarm.names)),
        }
        let problems = report.problems();
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        eprintln!("every byte of {} copies is right", swarm.peers.len());
        Ok(())
    }
}

/// Removes the folder, or what of it is not to be left.
fn leave(folder: TempDir, keeps_all: bool, keeps_logs: bool) -> Result<()> {
    if keeps_all {
        eprintln!("all is left in {}", folder.keep().display());
    } else if keeps_logs {
        let path = folder.keep();
        for entry in fs::read_dir(&path)?.filter_map(std::result::Result::ok) {
            match entry.file_type()?.is_dir() {
                true if entry.file_name() == "logs" => {}
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        eprintln!("the logs are in {}", path.join("logs").display());
    }
    Ok(())
}

/// The programs, built.
struct Programs {
    dfscheduler: PathBuf,
    dfdaemon: PathBuf,
    dfget: PathBuf,
    /// Those that only the console's demonstration needs.
    managed: Option<console::Programs>,
}

impl Programs {
    fn build(is_dev: bool, is_managed: bool) -> Result<Self> {
        eprintln!("building the programs");
        let mut cargo = repo::cargo()?;
        cargo.args(["build", "--package", "df-daemons", "--bins", "--message-format", "json-render-diagnostics"]);
        if is_managed {
            cargo.args(["--package", "df-tui"]);
        }
        if !is_dev {
            cargo.arg("--release");
        }
        let output = cargo.stderr(Stdio::inherit()).output().context("cargo does not start")?;
        ensure!(output.status.success(), "the programs could not be built");
        let built = String::from_utf8_lossy(&output.stdout);
        let find = |name: &str| executable(&built, name).with_context(|| format!("cargo built no {name}"));
        let managed = || -> Result<console::Programs> {
            Ok(console::Programs {
                dfmanager: find("dfmanager")?,
                dfctl: find("dfctl")?,
                dfconsole: find("dfconsole")?,
            })
        };
        let managed = if is_managed { Some(managed()?) } else { None };
        let [dfscheduler, dfdaemon, dfget] = [find("dfscheduler")?, find("dfdaemon")?, find("dfget")?];
        Ok(Self { dfscheduler, dfdaemon, dfget, managed })
    }
}

/// The path of a program, from cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["name"] == name);
    built.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

/// Scheduler and daemons, ready.
struct Swarm {
    /// Ordinary peers.
    peers: Vec<String>,
    /// Who serves pieces at which address.
    names: BTreeMap<String, String>,
}

impl Swarm {
    fn start(crew: &mut Crew, programs: &Programs, folder: &Path, peers: u16) -> Result<Self> {
        let mut command = Command::new(&programs.dfscheduler);
        let scheduler = crew.start("scheduler", command.args(["--listen", "127.0.0.1:0"]))?;
        let scheduler = said(&crew.ready(&[scheduler])?[0], "listen")?;
        eprintln!("the scheduler listens on {scheduler}");

        let peers: Vec<String> = (1..=peers).map(|number| format!("peer-{number}")).collect();
        let all: Vec<&str> = ["seed"].into_iter().chain(peers.iter().map(String::as_str)).collect();
        let members: Result<Vec<Member>> = all
            .iter()
            .map(|name| {
                let mut command = Command::new(&programs.dfdaemon);
                command.args(["--scheduler", &scheduler, "--ip", "127.0.0.1", "--rpc-port", "0", "--piece-port", "0"]);
                command.arg("--data-dir").arg(folder.join(name)).arg("--socket").arg(socket(folder, name));
                command.args(["--hostname", name]).args((*name == "seed").then_some("--seed"));
                crew.start(name, &mut command)
            })
            .collect();
        let mut names = BTreeMap::new();
        for (name, words) in all.iter().zip(crew.ready(&members?)?) {
            let address = said(&words, "pieces")?;
            eprintln!("{name} serves pieces on {address}");
            names.insert(address, (*name).to_owned());
        }
        Ok(Self { peers, names })
    }
}

/// A name's value in what a process said when it was ready.
fn said(words: &BTreeMap<String, String>, name: &str) -> Result<String> {
    words.get(name).cloned().with_context(|| format!("it is ready and does not say {name}"))
}

fn socket(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.sock"))
}

/// The unit in which Linux tells processes of time, USER_HZ: part of its interface to them.
const TICKS_PER_SEC: u64 = 100;

/// CPU time in milliseconds of all children that have ended and were waited for; `None` where the
/// system does not tell.
fn cpu_of_children() -> Option<u64> {
    // Fields 16 and 17, cutime and cstime, counted from behind the name, which may hold anything
    // (proc_pid_stat(5)).
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().skip(13).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Some(ticks * 1000 / TICKS_PER_SEC)
}

/// A thread that nobody waits for.
fn background(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name.to_owned()).spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => bail!("no thread: {error}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "what a demonstration took is no part of any simulation")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use clap::Parser;

    use super::{Demo, executable, leave};

    #[test]
    fn a_file_and_a_size_exclude_each_other() {
        let parse = |arguments: &[&str]| Demo::try_parse_from([&["demo"], arguments].concat());
        let demo = parse(&[]).ok().unwrap();
        assert_eq!((demo.peers, demo.size, demo.keep), (4, 64, false));
        assert!(parse(&["--file", "f", "--peers", "16", "--json"]).is_ok());
        for wrong in [&["--file", "f", "--size", "1"][..], &["--peers", "0"], &["--peers", "101"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn programs_are_where_cargo_says() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"df_daemons"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"dfget"},"executable":"/t/release/dfget"}
"#;
        assert_eq!(executable(messages, "dfget"), Some(PathBuf::from("/t/release/dfget")));
        assert_eq!(executable(messages, "dfdaemon"), None);
    }

    #[test]
    fn a_failure_leaves_the_logs_and_nothing_else() {
        for (keeps_all, keeps_logs) in [(false, false), (false, true), (true, false)] {
            let parent = tempfile::tempdir().unwrap();
            let folder = tempfile::tempdir_in(parent.path()).unwrap();
            let path = folder.path().to_path_buf();
            for name in ["logs", "copies"] {
                fs::create_dir(path.join(name)).unwrap();
                fs::write(path.join(name).join("x"), "x").unwrap();
            }
            fs::write(path.join("file"), "x").unwrap();
            leave(folder, keeps_all, keeps_logs).unwrap();
            let left = ["logs/x", "copies/x", "file"].map(|name| path.join(name).exists());
            assert_eq!(left, [keeps_all || keeps_logs, keeps_all, keeps_all]);
        }
    }
}
