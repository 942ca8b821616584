//! `cargo xtask ci`: every check in order, cheap ones first, stopping at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::Task;
use crate::repo;

/// One check: a command line of cargo that anyone can also type.
struct Step {
    name: &'static str,
    /// The arguments of `cargo`.
    arguments: &'static [&'static str],
}

impl Step {
    fn command_line(&self) -> String {
        format!("cargo {}", self.arguments.join(" "))
    }
}

/// The short simulation; this is the one place that says how CI calls the simulator.
const SIMULATION: &[&str] = &["xtask", "sim", "--checked", "--faults", "1000"];

/// The real daemons under faults: each seed once, and some twice, to see that the same happens again.
const DAEMONS: &[&str] = &["xtask", "sim", "--engine", "turmoil", "--seeds", "200", "--meta", "10"];

const STEPS: &[Step] = &[
    Step { name: "fmt", arguments: &["fmt", "--all", "--check"] },
    Step { name: "tidy", arguments: &["xtask", "tidy"] },
    Step { name: "codegen", arguments: &["xtask", "codegen", "--check"] },
    Step { name: "clippy", arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"] },
    Step { name: "test", arguments: &["test", "--workspace"] },
    Step { name: "sim", arguments: SIMULATION },
    Step { name: "daemons", arguments: DAEMONS },
];

/// Run every check that must pass before a change is merged
///
/// Runs the steps of `cargo xtask ci --list` in order and stops at the first that fails. Each
/// step is a cargo command that you can run by itself. At the end stands what each step took.
///
/// After a failure, `--from STEP` goes on where it stopped. The number of parallel jobs is cargo's:
/// set CARGO_BUILD_JOBS to use fewer.
#[derive(Parser)]
#[command(name = "ci")]
pub(crate) struct Ci {
    /// Run this step alone
    #[arg(long, value_name = "STEP", value_parser = step_names(), conflicts_with = "from")]
    only: Option<String>,
    /// Run this step and those after it
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    from: Option<String>,
    /// Print the steps and their commands, and run none
    #[arg(long)]
    list: bool,
}

fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

impl Task for Ci {
    fn run(self) -> Result<()> {
        let steps = chosen(STEPS, self.only.as_deref(), self.from.as_deref());
        if self.list {
            for step in steps {
                println!("{:<8} {}", step.name, step.command_line());
            }
            return Ok(());
        }
        let outcomes = run_until_failure(steps, |step| {
            println!("\n=== {}: {}", step.name, step.command_line());
            let (passed, took) = timed(|| execute(step));
            println!("=== {}: {}, {}", step.name, if passed { "passed" } else { "FAILED" }, seconds(took));
            (passed, took)
        });
        print!("\n{}", table(&outcomes));
        match outcomes.iter().find(|outcome| outcome.passed == Some(false)) {
            Some(failed) => bail!("{0} failed; when it is mended: cargo xtask ci --from {0}", failed.name),
            None => Ok(()),
        }
    }
}

fn chosen<'a>(steps: &'a [Step], only: Option<&str>, from: Option<&str>) -> &'a [Step] {
    let first = only.or(from).and_then(|name| steps.iter().position(|step| step.name == name)).unwrap_or(0);
    let end = if only.is_some() { first + 1 } else { steps.len() };
    &steps[first..end]
}

/// What came of a step: `passed` is `None` where an earlier failure kept it from running.
struct Outcome {
    name: &'static str,
    passed: Option<bool>,
    took: Duration,
}

fn run_until_failure(steps: &[Step], mut run: impl FnMut(&Step) -> (bool, Duration)) -> Vec<Outcome> {
    let mut failed = false;
    let mut outcome = |step: &Step| {
        if failed {
            return Outcome { name: step.name, passed: None, took: Duration::ZERO };
        }
        let (passed, took) = run(step);
        failed = !passed;
        Outcome { name: step.name, passed: Some(passed), took }
    };
    steps.iter().map(&mut outcome).collect()
}

fn execute(step: &Step) -> bool {
    let start = || Ok(repo::cargo()?.args(step.arguments).status()?);
    start().map(|status| status.success()).unwrap_or_else(|error: anyhow::Error| {
        eprintln!("cargo does not start: {error:#}");
        false
    })
}

#[expect(clippy::disallowed_methods, reason = "how long a build took is no part of any simulation")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let (result, time) = match outcome.passed {
            Some(true) => ("passed", seconds(outcome.took)),
            Some(false) => ("FAILED", seconds(outcome.took)),
            None => ("not run", String::new()),
        };
        text += format!("{:<8} {result:<8} {time:>10}", outcome.name).trim_end();
        text.push('\n');
    }
    let total = outcomes.iter().map(|outcome| outcome.took).sum();
    text + &format!("{:<8} {:<8} {:>10}\n", "total", "", seconds(total))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::{Ci, STEPS, chosen, run_until_failure, table};

    fn names(only: Option<&str>, from: Option<&str>) -> Vec<&'static str> {
        chosen(STEPS, only, from).iter().map(|step| step.name).collect()
    }

    #[test]
    fn without_flags_every_step_runs_in_order_of_cost() {
        assert_eq!(names(None, None), ["fmt", "tidy", "codegen", "clippy", "test", "sim", "daemons"]);
    }

    #[test]
    fn only_takes_one_step_and_from_takes_the_rest() {
        assert_eq!(names(Some("clippy"), None), ["clippy"]);
        assert_eq!(names(None, Some("clippy")), ["clippy", "test", "sim", "daemons"]);
        assert_eq!(names(Some("fmt"), None), ["fmt"]);
        assert_eq!(names(None, Some("daemons")), ["daemons"]);
    }

    #[test]
    fn an_unknown_step_and_two_choices_at_once_are_refused() {
        assert!(Ci::try_parse_from(["ci", "--only", "clippy"]).is_ok());
        assert!(Ci::try_parse_from(["ci", "--only", "lint"]).is_err());
        assert!(Ci::try_parse_from(["ci", "--only", "fmt", "--from", "test"]).is_err());
    }

    #[test]
    fn the_first_failure_keeps_later_steps_from_running_and_the_table_says_so() {
        let mut ran = Vec::new();
        let outcomes = run_until_failure(&STEPS[..4], |step| {
            ran.push(step.name);
            (step.name != "tidy", Duration::from_millis(1_500))
        });
        assert_eq!(ran, ["fmt", "tidy"]);
        let wanted = "fmt      passed        1.5 s\n\
                      tidy     FAILED        1.5 s\n\
                      codegen  not run\n\
                      clippy   not run\n\
                      total                  3.0 s\n";
        assert_eq!(table(&outcomes), wanted);
    }
}
