//! Figures for people: a line for a seed, a table for a scenario.

use std::fmt::Write;

use serde::Serialize;

use crate::modelled::Carrier;
use crate::outcome::{Outcome, median};
use crate::plan::{Arrivals, Flaws, Links, Plan, Policy};
use crate::scenario::{SCENARIOS, Scenario};

/// The scenario whose cost has limits, at its own size.
pub const COSTLY: &str = "large";

/// The most processor seconds one of its runs may take.
pub const CPU_SECS_LIMIT: f64 = 60.0;

/// The most memory a peer may take in it, in bytes.
pub const BYTES_PER_PEER_LIMIT: u64 = 2048;

/// The scenarios with what they show.
pub fn list() -> String {
    let mut text = String::new();
    for scenario in SCENARIOS {
        _ = writeln!(text, "{:<12} ≤ {:.2}  {}", scenario.name, scenario.ratio_limit, scenario.about);
    }
    text
}

/// One run in one line.
pub fn line(outcome: &Outcome) -> String {
    format!(
        "seed {:<4} ratio {:.4}  median {:.1}  last {:.1}  {:.1} CPU s  {}",
        outcome.seed, outcome.ratio, outcome.median, outcome.makespan, outcome.cpu_secs, outcome.trace_hash
    )
}

/// What a run was, and what came of it.
#[derive(Serialize)]
struct Run<'a> {
    scenario: &'a str,
    policy: Policy,
    driver: Carrier,
    peers: u32,
    seeds: u32,
    pieces: u32,
    tasks: u32,
    zones: u32,
    links: Links,
    jitter_percent: u32,
    rtt: f64,
    relay_hops: u32,
    arrivals: Arrivals,
    flaws: Flaws,
    #[serde(flatten)]
    outcome: &'a Outcome,
    simulated_hours: f64,
    events_per_cpu_sec: f64,
    grants_per_cpu_sec: f64,
}

/// One run as a JSON object.
///
/// # Errors
/// When serde_json refuses, which it has no reason to.
pub fn json(scenario: &Scenario, plan: &Plan, outcome: &Outcome) -> serde_json::Result<String> {
    serde_json::to_string(&Run {
        scenario: scenario.name,
        policy: plan.policy,
        driver: Carrier::of(plan),
        peers: plan.peers,
        seeds: plan.seeds,
        pieces: plan.pieces,
        tasks: plan.tasks,
        zones: plan.zones,
        links: plan.links,
        jitter_percent: plan.jitter_percent,
        rtt: plan.rtt,
        relay_hops: relay_hops(plan),
        arrivals: plan.arrivals,
        flaws: plan.flaws,
        outcome,
        simulated_hours: outcome.simulated_hours(),
        events_per_cpu_sec: outcome.events_per_cpu_sec(),
        grants_per_cpu_sec: outcome.grants_per_cpu_sec(),
    })
}

/// Hops a piece may be passed on while it arrives; who pulls passes on what it has stored.
fn relay_hops(plan: &Plan) -> u32 {
    if Carrier::of(plan) == Carrier::Pull { 0 } else { plan.config.relay_depth_limit }
}

/// Most bytes a peer of the runs: those after the first use again what it had.
pub fn bytes_per_peer(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(|outcome| outcome.bytes_per_peer).max().unwrap_or(0)
}

/// Which limits of a scenario its runs exceed, at their median; those of its cost only at its own size.
pub fn exceeded(scenario: &Scenario, plan: &Plan, outcomes: &[Outcome]) -> Vec<String> {
    let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure));
    let mut figures = vec![
        ("makespan over the bound", of(|o| o.ratio), scenario.ratio_limit),
        ("per cent across zones", of(|o| o.cross_zone_percent), scenario.cross_zone_limit_percent),
    ];
    if scenario.name == COSTLY && *plan == (Plan { seed: plan.seed, ..scenario.plan() }) {
        figures.push(("seconds of processor time", of(|o| o.cpu_secs), CPU_SECS_LIMIT));
        figures.push(("bytes a peer", bytes_per_peer(outcomes) as f64, BYTES_PER_PEER_LIMIT as f64));
    }
    // What is not a number is within no limit.
    let is_within = |(_, value, limit): &(&str, f64, f64)| value <= limit;
    let tell = |(what, value, limit)| format!("{}: {what} {value:.3}, limit {limit:.2}", scenario.name);
    figures.into_iter().filter(|figure| !is_within(figure)).map(tell).collect()
}

/// All figures at the median of the runs.
pub fn table(plan: &Plan, outcomes: &[Outcome]) -> String {
    let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure));
    let relay = match relay_hops(plan) {
        0 => "store and forward".to_owned(),
        hops => format!("relaying over at most {hops} hops"),
    };
    let bytes = bytes_per_peer(outcomes);
    let rows = [
        ("peers × pieces", format!("{} × {}", plan.peers, plan.pieces * plan.tasks)),
        ("policy", format!("{:?}, {} driver, {relay}", plan.policy, Carrier::of(plan).name())),
        (
            "makespan / bound",
            format!("{:.4}  ({:.1} / {:.1} piece times)", of(|o| o.ratio), of(|o| o.makespan), plan.bound()),
        ),
        ("median peer", format!("{:.1}", of(|o| o.median))),
        ("nine tenths", format!("{:.1}", of(|o| o.ninth_decile))),
        ("copies from the source", format!("{:.4}", of(|o| o.source_copies))),
        ("control messages / piece", format!("{:.2}", of(|o| o.messages_per_piece))),
        ("duplicates", format!("{:.3} %", of(|o| o.duplicate_percent))),
        ("wasted transfers", format!("{:.3} %", of(|o| o.wasted_percent))),
        ("across zones", format!("{:.2} %", of(|o| o.cross_zone_percent))),
        ("delay of a reader", format!("{:.1} piece times", of(|o| o.reader_delay))),
        ("unfinished peers", format!("{}", outcomes.iter().map(|o| o.unfinished).sum::<u32>())),
        ("honest hosts listed", format!("{}", outcomes.iter().map(|o| o.honest_listed).sum::<u32>())),
        ("faulty hosts listed", format!("{:.0}", of(|o| o.faulty_listed.into()))),
        ("spoiled by one liar", format!("{:.0} transfers at most", of(|o| o.lies_of_worst.into()))),
        ("simulated", format!("{:.3} hours", of(Outcome::simulated_hours))),
        ("processor time", format!("{:.2} s", of(|o| o.cpu_secs))),
        ("events / CPU second", format!("{:.0}", of(Outcome::events_per_cpu_sec))),
        ("grants / CPU second", format!("{:.0}", of(Outcome::grants_per_cpu_sec))),
        ("memory", format!("{:.1} MB, {bytes} bytes a peer", (bytes * u64::from(plan.peers)) as f64 / 1e6)),
        ("trace hash", outcomes.first().map_or(String::new(), |o| o.trace_hash.clone())),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        _ = writeln!(text, "{name:<25} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BYTES_PER_PEER_LIMIT, exceeded, json, table};
    use crate::outcome::Outcome;
    use crate::plan::{Plan, Policy};
    use crate::scenario::named;

    fn outcome(ratio: f64) -> Outcome {
        Outcome { ratio, events: 100, grants: 50, cpu_secs: 2.0, simulated_secs: 7200.0, ..Outcome::default() }
    }

    #[test]
    fn a_json_object_says_what_was_run_and_what_it_took() {
        let herd = named("herd").unwrap();
        let plan = Plan { policy: Policy::V1, ..herd.plan() };
        let object: serde_json::Value = serde_json::from_str(&json(herd, &plan, &outcome(1.02)).unwrap()).unwrap();
        let is = |key: &str, value: serde_json::Value| assert_eq!(object[key], value, "{key}");
        is("scenario", "herd".into());
        is("policy", "v1".into());
        is("driver", "pull".into());
        is("peers", 1000.into());
        is("pieces", 256.into());
        is("seeds", 1.into());
        is("relay_hops", 0.into());
        is("ratio", 1.02.into());
        is("events_per_cpu_sec", 50.0.into());
        is("simulated_hours", 2.0.into());
        assert_eq!(object["links"]["down"], 2.0);
    }

    #[test]
    fn the_table_names_events_a_second_simulated_hours_and_memory() {
        let runs = [Outcome { bytes_per_peer: 2000, ..outcome(1.0) }, outcome(1.0)];
        let text = table(&Plan::new(1000, 16), &runs);
        let has = |name: &str, value: &str| text.lines().any(|line| line.starts_with(name) && line.ends_with(value));
        assert!(has("events / CPU second", " 50") && has("simulated", " 2.000 hours"), "{text}");
        assert!(has("memory", " 2.0 MB, 2000 bytes a peer"), "{text}");
    }

    #[test]
    fn a_limit_is_exceeded_by_more_and_by_what_is_no_number() {
        let large = named("large").unwrap();
        let of = |plan: &Plan, outcome| exceeded(large, plan, &[outcome]).len();
        let dear = |ratio| Outcome { bytes_per_peer: BYTES_PER_PEER_LIMIT + 1, cpu_secs: 61.0, ..outcome(ratio) };
        assert_eq!(of(&large.plan(), outcome(large.ratio_limit)), 0);
        assert_eq!(of(&large.plan(), outcome(f64::NAN)), 1);
        assert_eq!(of(&large.plan(), dear(1.2)), 3);
        assert_eq!(of(&Plan { peers: 10, ..large.plan() }, dear(1.0)), 0, "cost is measured at full size");
    }
}
