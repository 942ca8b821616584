//! `cargo xtask bench`: runs the benches.

use anyhow::{Result, bail};
use clap::Parser;

use crate::Task;
use crate::repo;

/// Measure the parts of the core and whole swarms
///
/// Runs the criterion benches of the package df-bench; what they found last time is in
/// target/criterion, so that a second run says what changed. Words after `bench` choose among them:
/// `cargo xtask bench grants`, `cargo xtask bench TokenBucket`.
#[derive(Parser)]
#[command(name = "bench")]
pub(crate) struct Bench {
    /// Run only benches whose name contains this
    #[arg(value_name = "WORD")]
    word: Option<String>,
}

impl Task for Bench {
    fn run(self) -> Result<()> {
        let mut command = repo::cargo()?;
        command.args(["bench", "--package", "df-bench", "--benches", "--"]).args(self.word);
        match command.status()?.success() {
            true => Ok(()),
            false => bail!("a bench failed"),
        }
    }
}
