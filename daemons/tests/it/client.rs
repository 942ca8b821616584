//! dfget, the real program, against a daemon that plays what it is told.

mod alone;
mod commands;
mod fake;
mod failures;
mod outputs;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use df_api::dfdaemon::{ParentTally, Tally};
use fake::{FakeDaemon, Step, bytes};

/// Length of the content of most tests: several copies in the kernel, several writes to a pipe.
const LEN: usize = 3 << 20;

/// A download that grows in two steps after a message that says little.
fn success() -> Vec<Step> {
    vec![
        Step::TellLittle,
        Step::Tell,
        Step::Store(1 << 20),
        Step::Tell,
        Step::Store(LEN - (1 << 20)),
        Step::Done(tally()),
    ]
}

fn tally() -> Tally {
    let parents = vec![ParentTally { address: "10.0.0.9:65002".into(), pieces: 2, bytes: 2 << 20, is_seed: false }];
    Tally { peer_bytes: 2 << 20, origin_bytes: 1 << 20, total_pieces: 3, reused_pieces: 1, parents, ..Tally::default() }
}

/// A fake with `http://origin/f`, that is downloaded by these steps.
fn fake(steps: &[Step]) -> FakeDaemon {
    let fake = FakeDaemon::start(&bytes(LEN));
    fake.script("/f", steps);
    fake
}

/// dfget without anything from the environment of whoever runs the test.
fn dfget(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfget"));
    command.env_clear().env("HOME", "/nonexistent").env("XDG_CONFIG_HOME", "/nonexistent").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command that asks the fake.
fn ask(fake: &FakeDaemon, arguments: &[&str]) -> Command {
    let mut command = dfget(arguments);
    command.env("DFGET_ENDPOINT", fake.socket()).current_dir(fake.path(""));
    command
}

fn run(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Names in a folder, without those of the fake.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != "sock" && name != "content").collect();
    names.sort_unstable();
    names
}
