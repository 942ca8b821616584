//! The simulator's command line: `cargo xtask sim` runs it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use df_sim::des::lean::Tape;
use df_sim::modelled::{Carrier, unmodelled};
use df_sim::outcome::Outcome;
use df_sim::plan::{Driver, Plan, Policy};
use df_sim::{des, figures, oracle, report, scenario, turmoil};

/// Run a swarm in simulated time and compare it with what no policy can beat
///
/// Whatever is drawn in a run is drawn from its seed: the same flags print the same trace hash. Times
/// are in piece times: what one piece takes on an uplink of rate 1. The bound is k + floor(log2 N) for
/// equal links, the fluid bound for others; passing pieces on while they arrive (--relay) can beat
/// the former.
///
///   cargo xtask sim --scenario list
///   cargo xtask sim --scenario herd --seeds 20
///   cargo xtask sim --scenario herd --policy v1
///   cargo xtask sim --peers 300 --pieces 64 --down 1 --zones 3 --seed 7 --json
///   cargo xtask sim --faults 1000
#[derive(Parser)]
#[command(name = "sim", verbatim_doc_comment)]
struct Flags {
    /// The engine; the discrete-event engine is the only one so far
    #[arg(long, default_value = "des", value_parser = ["des"])]
    engine: String,
    /// A named run, or `list` for their names; the flags below change it
    #[arg(long, default_value = "herd", value_name = "NAME")]
    scenario: String,
    /// Ordinary peers
    #[arg(long, value_name = "N")]
    peers: Option<u32>,
    /// Pieces of the content
    #[arg(long, value_name = "K")]
    pieces: Option<u32>,
    /// Uplink of a peer, in pieces a piece time
    #[arg(long, value_name = "RATE")]
    up: Option<f64>,
    /// Downlink of a peer, in pieces a piece time
    #[arg(long, value_name = "RATE")]
    down: Option<f64>,
    /// Connections at once by which the source is asked
    #[arg(long, value_name = "COUNT")]
    connections: Option<usize>,
    /// How much transfers vary, in per cent up and down
    #[arg(long, value_name = "PERCENT")]
    jitter: Option<u32>,
    /// Round trip between any two hosts, in piece times
    #[arg(long, value_name = "TIME")]
    rtt: Option<f64>,
    /// Zones the peers are spread over
    #[arg(long, value_name = "Z")]
    zones: Option<u32>,
    /// Peers that leave in mid-download, in per cent
    #[arg(long, value_name = "PERCENT")]
    churn: Option<u32>,
    /// Hops a piece may be passed on while it arrives; 0 turns that off
    #[arg(long, value_name = "HOPS")]
    relay: Option<u32>,
    /// Whose decisions
    #[arg(long)]
    policy: Option<Policy>,
    /// Who drives the core
    #[arg(long)]
    driver: Option<Driver>,
    /// Use all of --uploads and --downloads at once, even where fewer fill the link
    #[arg(long)]
    fixed_slots: bool,
    /// Uploads at once at most
    #[arg(long, value_name = "COUNT")]
    uploads: Option<u32>,
    /// Downloads at once at most
    #[arg(long, value_name = "COUNT")]
    downloads: Option<u32>,
    /// The seed of a single run
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Run this many seeds, from --seed on
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Run this many small swarms with everything drawn, and check what must always hold
    #[arg(long, value_name = "COUNT", conflicts_with_all = SWARM)]
    faults: Option<u64>,
    /// Measure the figures of swarm.md in this folder anew, with --seeds seeds, and write them there
    ///
    /// Exits with 1 if a limit is exceeded or a run is unsound, after all is written.
    #[arg(long, value_name = "FOLDER", conflicts_with = "faults", conflicts_with_all = SWARM)]
    report: Option<PathBuf>,
    /// Run it with the lean driver, tell all that its scheduler was told to another one, and print how
    /// many grants a second that makes: the core alone. Takes some 50 bytes a grant
    #[arg(long, conflicts_with_all = ["faults", "report", "policy", "driver"])]
    core_alone: bool,
    /// Print one JSON object a run
    #[arg(long)]
    json: bool,
    /// Exit with 1 unless the scenario's figures are reached
    #[arg(long)]
    check: bool,
}

/// The flags that change a named run.
const SWARM: [&str; 16] = [
    "scenario",
    "peers",
    "pieces",
    "up",
    "down",
    "connections",
    "jitter",
    "rtt",
    "zones",
    "churn",
    "relay",
    "policy",
    "driver",
    "fixed_slots",
    "uploads",
    "downloads",
];

impl Flags {
    fn plan(&self, scenario: &scenario::Scenario, seed: u64) -> Plan {
        let mut plan = Plan { seed, ..scenario.plan() };
        fn set<T>(slot: &mut T, flag: Option<T>) {
            if let Some(value) = flag {
                *slot = value;
            }
        }
        set(&mut plan.peers, self.peers);
        set(&mut plan.pieces, self.pieces);
        set(&mut plan.links.up, self.up);
        set(&mut plan.links.down, self.down);
        set(&mut plan.links.connections, self.connections);
        set(&mut plan.jitter_percent, self.jitter);
        set(&mut plan.rtt, self.rtt);
        set(&mut plan.zones, self.zones);
        set(&mut plan.flaws.leaving_percent, self.churn);
        set(&mut plan.config.relay_depth_limit, self.relay);
        set(&mut plan.policy, self.policy);
        set(&mut plan.driver, self.driver);
        set(&mut plan.upload_limit, self.uploads);
        set(&mut plan.download_limit, self.downloads);
        plan.config.fills_slots |= self.fixed_slots;
        if self.core_alone {
            plan.driver = Driver::Lean;
        }
        plan
    }

    /// Whatever is not modelled is refused: its figures would be those of another run.
    fn check_modelled(&self, plan: &Plan) -> Result<()> {
        if self.driver.is_some() && plan.policy != Policy::Granted {
            bail!("--driver says who carries out granted uploads, and this policy grants none; hint: leave it out");
        }
        let missing = unmodelled(plan);
        if !missing.is_empty() {
            bail!(
                "the {} driver does not model {}: it would run another swarm than was asked for; \
                 hint: --policy granted --driver full does",
                Carrier::of(plan).name(),
                missing.join(", ")
            );
        }
        Ok(())
    }

    fn check_ranges(&self, plan: &Plan) -> Result<()> {
        let is_sane = (1..=1_000_000).contains(&plan.peers)
            && (1..=65_536).contains(&plan.pieces)
            && plan.jitter_percent < 100
            && plan.zones >= 1
            && plan.flaws.leaving_percent < 100
            && [plan.links.up, plan.links.down].iter().all(|rate| (0.001..=10_000.0).contains(rate))
            && (1..=16).contains(&plan.links.connections)
            && (0.0..=1000.0).contains(&plan.rtt)
            && plan.upload_limit >= 1
            && plan.download_limit >= 1;
        if !is_sane {
            bail!(
                "a flag is out of range: 1 to 1000000 peers, 1 to 65536 pieces, per cents below 100, rates and limits above 0"
            );
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let result = if turmoil::cli::is_meant() { turmoil::cli::main() } else { run(&Flags::parse()) };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(flags: &Flags) -> Result<bool> {
    if flags.scenario == "list" {
        print!("{}", report::list());
        return Ok(true);
    }
    if let Some(folder) = &flags.report {
        let failed = figures::write(folder, flags.seeds)?;
        failed.iter().for_each(|what| eprintln!("sim: {what}"));
        return Ok(failed.is_empty());
    }
    if let Some(count) = flags.faults {
        return Ok(run_faults(flags.seed, count));
    }
    let scenario = scenario::named(&flags.scenario)
        .with_context(|| format!("no scenario is called {}; --scenario list names them", flags.scenario))?;
    let plan = flags.plan(scenario, flags.seed);
    flags.check_ranges(&plan)?;
    flags.check_modelled(&plan)?;
    if flags.core_alone {
        run_core_alone(flags, scenario);
        return Ok(true);
    }
    let mut outcomes = Vec::new();
    let mut is_sound = true;
    for seed in flags.seed..flags.seed + flags.seeds {
        let plan = flags.plan(scenario, seed);
        let outcome = des::run(plan.clone(), progress);
        for wrong in oracle::verdict(&plan, &outcome) {
            eprintln!("seed {seed}: {wrong}");
            is_sound = false;
        }
        if flags.json {
            println!("{}", report::json(scenario, &plan, &outcome)?);
        } else if flags.seeds > 1 {
            println!("{}", report::line(&outcome));
        }
        outcomes.push(outcome);
    }
    if !flags.json {
        print!("{}", report::table(&plan, &outcomes));
    }
    if flags.check {
        let exceeded = report::exceeded(scenario, &plan, &outcomes);
        exceeded.iter().for_each(|what| eprintln!("{what}"));
        is_sound &= exceeded.is_empty();
    }
    Ok(is_sound)
}

fn run_core_alone(flags: &Flags, scenario: &scenario::Scenario) {
    for seed in flags.seed..flags.seed + flags.seeds {
        let (grants, secs) = Tape::of(flags.plan(scenario, seed), progress).play();
        let rate = grants as f64 / secs;
        if flags.json {
            println!("{}", serde_json::json!({ "seed": seed, "grants": grants, "core_secs": secs }));
        } else {
            println!("seed {seed}: {grants} grants in {secs:.2} s of the core alone, {rate:.0} a second");
        }
    }
}

fn progress(done: u64, all: u64) {
    if std::io::stderr().is_terminal() {
        eprint!("\r  {:3} % of {all} pieces ", done * 100 / all.max(1));
    }
}

/// Runs small swarms with everything drawn; false if one of them broke what must always hold.
fn run_faults(first: u64, count: u64) -> bool {
    let mut failed = 0_u64;
    let (mut simulated_secs, mut hash) = (0.0, 0_u64);
    for seed in first..first + count {
        let plan = scenario::drawn(seed);
        let outcome: Outcome = des::run(plan.clone(), |_, _| {});
        simulated_secs += outcome.simulated_secs;
        hash = hash.rotate_left(1) ^ u64::from_str_radix(&outcome.trace_hash, 16).unwrap_or(0);
        let wrong = oracle::verdict(&plan, &outcome);
        if !wrong.is_empty() {
            failed += 1;
            eprintln!("seed {seed}: {}; again: cargo xtask sim --faults 1 --seed {seed}", wrong.join(", "));
            eprintln!("  {}", serde_json::to_string(&plan).unwrap_or_default());
        }
    }
    println!("{count} swarms, {:.1} simulated hours, {failed} failed, hash {hash:016x}", simulated_secs / 3600.0);
    failed == 0
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Flags, scenario};

    /// Why a run is refused.
    fn refusal(flags: &str) -> Option<String> {
        let flags = Flags::try_parse_from(["sim"].into_iter().chain(flags.split_whitespace()));
        let flags = match flags {
            Ok(flags) => flags,
            Err(error) => return Some(error.to_string()),
        };
        let scenario = scenario::named(&flags.scenario).unwrap();
        flags.check_modelled(&flags.plan(scenario, 1)).err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_not_modelled_is_refused_by_name_and_with_a_hint() {
        for (flags, what) in [
            ("--scenario tasks --policy v1", "several tasks"),
            ("--scenario orphans --policy random", "the death of seeds"),
            ("--zones 3 --policy v1", "--zones"),
            ("--scenario slander --driver lean", "failures that were none"),
            ("--scenario connections --core-alone", "--connections"),
            ("--driver lean --uploads 2", "--uploads"),
            ("--policy v1 --driver full", "--driver"),
            ("--faults 3 --peers 10", "--peers"),
            ("--report docs --zones 2", "--zones"),
            ("--seeds 0", "--seeds"),
        ] {
            let refusal = refusal(flags).unwrap_or_default();
            assert!(refusal.contains(what), "{flags}: {refusal}");
        }
    }

    #[test]
    fn what_is_modelled_is_run() {
        for flags in [
            "",
            "--scenario late --policy v1",
            "--scenario liars --policy random",
            "--scenario zones --driver lean",
            "--scenario orphans --driver lean --downloads 1",
            "--relay 0 --fixed-slots",
            "--scenario large --policy v1",
            "--core-alone",
        ] {
            assert_eq!(refusal(flags), None, "{flags}");
        }
    }
}
