//! `cargo xtask sim`: builds the simulator optimised and runs it with the flags given.

use anyhow::{Result, bail};
use clap::Parser;

use crate::Task;
use crate::repo;

/// Run a swarm in simulated time, or thousands of small faulty ones
///
/// Everything after `sim` goes to the simulator: `cargo xtask sim --help` shows its flags,
/// `cargo xtask sim --scenario list` its scenarios. `--checked` builds it with every invariant
/// checked after every step, as CI does for the faulty swarms.
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
        // Debug assertions on, yet optimised: see the profile in the workspace's Cargo.toml.
        let profile = if checked.is_empty() { "release" } else { "sim" };
        let mut command = repo::cargo()?;
        command.args(["run", "--quiet", "--profile", profile, "--package", "df-sim", "--"]).args(flags);
        // Large tables on large pages: a fifth less time at 100,000 peers, where glibc knows the word.
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        match command.status()?.success() {
            true => Ok(()),
            false => bail!("the simulator says no"),
        }
    }
}
