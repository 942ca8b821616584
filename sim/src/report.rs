//! Figures for people: a line for a seed, a table for a scenario.

use std::fmt::Write;

use crate::outcome::{Outcome, median};
use crate::plan::Plan;
use crate::scenario::{SCENARIOS, Scenario};

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

/// Whether a scenario's figures are reached at the median of the runs.
pub fn is_reached(scenario: &Scenario, outcomes: &[Outcome]) -> bool {
    let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure));
    of(|o| o.ratio) <= scenario.ratio_limit && of(|o| o.cross_zone_percent) <= scenario.cross_zone_limit_percent
}

/// All figures at the median of the runs.
pub fn table(plan: &Plan, outcomes: &[Outcome]) -> String {
    let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure));
    let relay = match plan.config.relay_depth_limit {
        0 => "store and forward".to_owned(),
        hops => format!("relaying over at most {hops} hops"),
    };
    let cpu = of(|o| o.cpu_secs);
    let rows = [
        ("peers × pieces", format!("{} × {}, {:?} policy, {relay}", plan.peers, plan.pieces * plan.tasks, plan.policy)),
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
        ("simulated", format!("{:.3} hours", of(|o| o.simulated_secs) / 3600.0)),
        (
            "processor time",
            format!(
                "{cpu:.2} s, {:.0} events and {:.0} grants a second",
                of(|o| o.events as f64) / cpu,
                of(|o| o.grants as f64) / cpu
            ),
        ),
        ("memory", format!("{:.0} bytes a peer", of(|o| o.bytes_per_peer as f64))),
        ("trace hash", outcomes.first().map_or(String::new(), |o| o.trace_hash.clone())),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        _ = writeln!(text, "{name:<25} {value}");
    }
    text
}
