//! `cargo xtask demo --console`: the console on a live cluster, whose peers download all the while.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::content::Content;
use super::crew::{Crew, Member};
use super::origin::Origin;
use super::{report, said, socket};

/// What each peer takes, so that there is something to see for a while.
const PEER_RATE: &str = "4MiB/s";

/// Downloads one after another, each of another tag and so another task.
const ROUNDS: u32 = 50;

/// Programs of a cluster with a manager.
pub(super) struct Programs {
    pub(super) dfmanager: PathBuf,
    pub(super) dfctl: PathBuf,
    pub(super) dfconsole: PathBuf,
}

/// Brings everything up, opens the console, and ends everything when it is closed.
pub(super) fn show(peers: u16, len: u64, programs: &super::Programs, folder: &Path, crew: &mut Crew) -> Result<()> {
    let managed = programs.managed.as_ref().context("the console was not built")?;
    let content = Content::made_up(folder.join("file"), len)?;
    let origin = Origin::start(&content.path)?;
    eprintln!("the source is {}, {}", origin.url(), report::megabytes(content.len));
    let manager = start_manager(managed, folder, crew)?;
    let join = ["--manager", &manager, "--join-token-file"];
    let token = folder.join("manager").join("join-token");

    let mut command = Command::new(&programs.dfscheduler);
    command.args(["--listen", "127.0.0.1:0", "--hostname", "scheduler-1"]).args(join).arg(&token);
    let scheduler = crew.start("scheduler", command.arg("--data-dir").arg(folder.join("scheduler")))?;
    crew.ready(&[scheduler])?;
    let names: Vec<String> = (1..=peers).map(|number| format!("peer-{number}")).collect();
    let daemon = |crew: &mut Crew, name: &str| -> Result<Member> {
        let mut command = Command::new(&programs.dfdaemon);
        command.args(["--ip", "127.0.0.1", "--rpc-port", "0", "--piece-port", "0", "--hostname", name]);
        command.args(join).arg(&token).args((name == "seed").then_some("--seed"));
        command.arg("--data-dir").arg(folder.join(name)).arg("--socket").arg(socket(folder, name));
        crew.start(name, &mut command)
    };
    let mut members = vec![daemon(crew, "seed")?];
    for name in &names {
        members.push(daemon(crew, name)?);
    }
    crew.ready(&members)?;
    for name in &names {
        download(crew, programs, folder, name, &origin.url())?;
    }
    eprintln!("{peers} peers download, {PEER_RATE} each; Q closes the console and ends it all");
    open(managed, &manager, folder)?;
    let killed = crew.end();
    ensure!(killed.is_empty(), "{} did not end when asked to", killed.join(", "));
    Ok(())
}

/// The manager's address.
fn start_manager(programs: &Programs, folder: &Path, crew: &mut Crew) -> Result<String> {
    let mut command = Command::new(&programs.dfmanager);
    command.args(["--listen-grpc", "127.0.0.1:0", "--listen-rest", "127.0.0.1:0", "--source-allow", "127.0.0.0/8"]);
    command.arg("--data-dir").arg(folder.join("manager"));
    command.arg("--init-admin-password-file").arg(folder.join("password"));
    let manager = crew.start("manager", &mut command)?;
    let words = crew.ready(&[manager])?;
    eprintln!("the manager listens on {} and for Harbor on {}", said(&words[0], "grpc")?, said(&words[0], "rest")?);
    said(&words[0], "grpc")
}

/// One peer downloads again and again, a shell between the rounds.
fn download(crew: &mut Crew, programs: &super::Programs, folder: &Path, name: &str, url: &str) -> Result<()> {
    let script = "for round in $(seq \"$1\"); do \"$2\" \"$3\" -O - --tag \"round-$round\" \
                  --endpoint \"$4\" --require-daemon --rate-limit \"$5\" -q >/dev/null || sleep 1; done";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh", &ROUNDS.to_string()]).arg(&programs.dfget).arg(url);
    command.arg(socket(folder, name)).arg(PEER_RATE);
    crew.start(&format!("dfget-{name}"), &mut command).map(drop)
}

/// Signs in, and gives the terminal to the console until it is closed.
fn open(programs: &Programs, manager: &str, folder: &Path) -> Result<()> {
    let config = folder.join("config");
    fs::create_dir(&config)?;
    let mut login = Command::new(&programs.dfctl);
    login.args(["--manager", manager, "login", "root", "--password-file"]).arg(folder.join("password"));
    let done = login.env("XDG_CONFIG_HOME", &config).output().context("dfctl does not start")?;
    ensure!(done.status.success(), "dfctl cannot sign in: {}", String::from_utf8_lossy(&done.stderr));
    let mut console = Command::new(&programs.dfconsole);
    let ended = console.args(["--manager", manager]).env("XDG_CONFIG_HOME", &config).status();
    ensure!(ended.context("dfconsole does not start")?.success(), "dfconsole failed");
    Ok(())
}
