//! The command line of the daemons' engine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::campaign::{self, Extent};
use super::scenario::Scenario;
use super::world::Report;
use super::{minimise, panics, planted, world};
use crate::outcome::Meter;

/// Run the real daemons over a simulated network, disk and origin, under faults drawn from a seed
///
/// A seed determines everything: hosts, contents, users, faults. First anything of it may go wrong, then a
/// random core of the hosts is healed and has to finish, then all has to come to rest. Each seed runs
/// in a process of its own. Exits with 1 if a checker says no, and says how to see that again.
///
///   cargo xtask sim --engine turmoil --seed 7
///   cargo xtask sim --engine turmoil --seed 7 --show
///   cargo xtask sim --engine turmoil --seed 7 --trace 2> trace
///   cargo xtask sim --engine turmoil --seeds 200
///   cargo xtask sim --engine turmoil --minutes 30
///   cargo xtask sim --engine turmoil --meta 50
///   cargo xtask sim --engine turmoil --planted
///   cargo xtask sim --engine turmoil --seed 7 --minimise small.json
#[derive(Parser)]
#[command(name = "sim --engine turmoil", verbatim_doc_comment)]
struct Flags {
    /// The engine
    #[arg(long, value_parser = ["turmoil"])]
    engine: String,
    /// The seed, or the first of several
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Run this many seeds
    #[arg(long, value_name = "COUNT", conflicts_with = "scenario")]
    seeds: Option<u64>,
    /// Run seeds for this many minutes, and tell how it goes
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["scenario", "seeds"])]
    minutes: Option<u64>,
    /// Run this many seeds twice each and compare every event
    #[arg(long, value_name = "COUNT", conflicts_with = "scenario")]
    meta: Option<u64>,
    /// Plant every known bug, one at a time, and look whether it is found
    #[arg(long, conflicts_with = "scenario")]
    planted: bool,
    /// Seeds within which a planted bug has to be found
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    within: u64,
    /// Plant one bug, or `list` for their names
    #[arg(long, value_name = "BUG")]
    plant: Option<String>,
    /// A scenario in a file, instead of one drawn from the seed
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Make a failing scenario smaller and write it to this file
    #[arg(long, value_name = "FILE")]
    minimise: Option<PathBuf>,
    /// Nothing goes wrong
    #[arg(long, conflicts_with = "scenario")]
    calm: bool,
    /// Print every event to the standard error
    #[arg(long)]
    trace: bool,
    /// Print the scenario and do not run it
    #[arg(long)]
    show: bool,
    /// Processes at once; all cores by default
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether the command line is meant for this engine.
pub fn is_meant() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().any(|argument| argument == "--engine=turmoil")
        || arguments.windows(2).any(|pair| pair[0] == "--engine" && pair[1] == "turmoil")
}

/// Runs it; false if something did not hold.
///
/// # Errors
/// For what cannot be read, written or started.
pub fn main() -> Result<bool> {
    run(&Flags::parse())
}

fn run(flags: &Flags) -> Result<bool> {
    let jobs = flags.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut is_sound = true;
    let mut is_campaign = false;
    if let Some(count) = flags.seeds {
        is_sound &= campaign::seeds(flags.seed, Extent::Seeds(count), jobs, flags.plant.as_deref(), flags.json)?;
        is_campaign = true;
    }
    if let Some(minutes) = flags.minutes {
        let term = Duration::from_secs(minutes * 60);
        is_sound &= campaign::seeds(flags.seed, Extent::For(term), jobs, flags.plant.as_deref(), flags.json)?;
        is_campaign = true;
    }
    if let Some(count) = flags.meta {
        is_sound &= campaign::meta(flags.seed, count)?;
        is_campaign = true;
    }
    if flags.planted {
        is_sound &= campaign::planted(&planted::names()?, flags.within, jobs)?;
        is_campaign = true;
    }
    if is_campaign {
        return Ok(is_sound);
    }
    single(flags)
}

fn single(flags: &Flags) -> Result<bool> {
    match flags.plant.as_deref() {
        Some("list") => {
            planted::names()?.iter().for_each(|name| println!("{name}"));
            return Ok(true);
        }
        Some(name) => planted::plant(name)?,
        None => {}
    }
    let scenario = scenario(flags)?;
    if flags.show {
        println!("{}", serde_json::to_string_pretty(&scenario)?);
        return Ok(true);
    }
    if let Some(file) = &flags.minimise {
        minimise::minimise(&scenario, flags.plant.as_deref(), file)?;
        return Ok(false);
    }
    if !flags.json {
        println!("{}", serde_json::to_string(&scenario)?);
    }
    panics::keep();
    let meter = Meter::read();
    let report = world::run(&scenario, flags.trace);
    let report = Report { cpu_secs: meter.cpu_secs(), ..report };
    let is_sound = report.violations.is_empty();
    match (flags.json, is_sound) {
        (true, _) => println!("{}", serde_json::to_string(&report)?),
        (false, false) if flags.scenario.is_none() && !flags.trace => {
            campaign::explain(&report, flags.plant.as_deref())?;
        }
        (false, _) => {
            report.violations.iter().for_each(|violation| println!("{violation}"));
            println!(
                "{:.1} simulated seconds, {} events, {} faults, {:?}, hash {}",
                report.simulated_ms as f64 / 1e3,
                report.events,
                report.plan.len(),
                report.outcomes,
                report.trace_hash
            );
        }
    }
    Ok(is_sound)
}

fn scenario(flags: &Flags) -> Result<Scenario> {
    match &flags.scenario {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let scenario: Scenario =
                serde_json::from_str(&text).with_context(|| format!("{} is no scenario", path.display()))?;
            if scenario.daemons() == 0 || scenario.work.iter().any(|work| work.host >= scenario.daemons()) {
                bail!("{}: somebody works on a host that is not there", path.display());
            }
            Ok(scenario)
        }
        None if flags.calm => Ok(Scenario::calm(flags.seed)),
        None => Ok(Scenario::drawn(flags.seed)),
    }
}
