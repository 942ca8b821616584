//! `cargo xtask sim`: builds the simulator optimised and runs it with the flags given.

use anyhow::{Result, bail};
use clap::Parser;

use crate::Task;
use crate::repo;

/// Run a swarm in simulated time, thousands of small faulty ones, or the real daemons under faults
///
/// Everything after `sim` goes to the simulator: `cargo xtask sim --help` shows its flags,
/// `cargo xtask sim --scenario list` its scenarios, `cargo xtask sim --engine turmoil --help` how the
/// daemons are run. `--checked` builds it with every invariant checked after every step, as CI does
/// for the faulty swarms and as the daemons always are; `--planted` and `--plant` build it with bugs.
#[derive(Parser)]
#[command(name = "sim", disable_help_flag = true)]
pub(crate) struct Sim {
    /// The simulator's flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

impl Task for Sim {
    fn run(self) -> Result<()> {
        let (checked, flags): (Vec<_>, Vec<_>) = self.flags.into_iter().partition(|flag| flag == "--checked");
        let has = |name: &str| flags.iter().any(|flag| flag == name || flag.starts_with(&format!("{name}=")));
        let is_turmoil = flags.iter().any(|flag| flag.ends_with("turmoil"));
        // Debug assertions on, yet optimised: see the profile in the workspace's Cargo.toml.
        let profile = if checked.is_empty() && !is_turmoil { "release" } else { "sim" };
        let mut command = repo::cargo()?;
        command.args(["run", "--quiet", "--profile", profile, "--package", "df-sim"]);
        if has("--planted") || has("--plant") {
            command.args(["--features", "planted"]);
        }
        if profile == "sim" {
            // tokio wakes those who wait for the same thing in a random order, whose seed can be set with this
            // alone. All builds of the profile have it, or each would undo the other's.
            let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
            command.env("RUSTFLAGS", format!("{flags} --cfg tokio_unstable"));
        }
        command.arg("--").args(flags);
        // Large tables on large pages: a fifth less time at 100,000 peers, where glibc knows the word.
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        match command.status()?.success() {
            true => Ok(()),
            false => bail!("the simulator says no"),
        }
    }
}
