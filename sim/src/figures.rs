//! The table and the plots of `docs/swarm.md`, measured anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::outcome::{Outcome, median};
use crate::plan::{Driver, Plan, Policy};
use crate::scenario::{self, Scenario};
use crate::svg::{bars, lines};
use crate::{des, oracle};

/// The rows of the table.
const ROWS: &[&str] = &["herd", "symmetric", "in-order", "churn", "zones", "team", "liars"];

/// What ours is compared with gets one seed where ours gets this many.
const SEEDS_A_COMPARED: u64 = 4;

/// Sizes of the plot over the number of peers.
const SIZES: &[u32] = &[16, 64, 256, 1024];

/// Between these lines of the document the table is written.
const MARKS: (&str, &str) = ("<!-- figures -->\n", "<!-- end of figures -->\n");

/// Runs everything that stands in `folder`/swarm.md and writes its table, and its plots into
/// `folder`/swarm. `seeds` is the number of seeds of each figure of ours.
///
/// # Errors
/// When the document cannot be read or something cannot be written.
pub fn write(folder: &Path, seeds: u64) -> Result<()> {
    let document = folder.join("swarm.md");
    let text = fs::read_to_string(&document).with_context(|| format!("cannot read {}", document.display()))?;
    let plots = folder.join("swarm");
    fs::create_dir_all(&plots)?;
    let mut table = String::from(
        "| scenario | limit | granted | stored first | v1 | random | source copies | messages a piece | duplicates | across zones |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut groups = Vec::new();
    for name in ROWS {
        let scenario = scenario::named(name).context("a row without a scenario")?;
        let row = Row::measure(scenario, seeds);
        row.write(scenario, &mut table);
        groups.push(((*name).to_owned(), row.ratios()));
        eprintln!("{name}: {:?}", row.ratios());
    }
    let series = ["granted", "stored first", "v1", "random"];
    fs::write(plots.join("policies.svg"), bars("makespan over the bound", &series, &groups))?;
    fs::write(plots.join("sizes.svg"), sizes())?;
    let (head, rest) = text.split_once(MARKS.0).context("the document has no place for the figures")?;
    let (_, tail) = rest.split_once(MARKS.1).context("the place for the figures has no end")?;
    fs::write(&document, format!("{head}{}{table}{}{tail}", MARKS.0, MARKS.1))?;
    Ok(())
}

/// One scenario under all policies.
struct Row {
    granted: Vec<Outcome>,
    stored: Vec<Outcome>,
    v1: Vec<Outcome>,
    random: Vec<Outcome>,
}

impl Row {
    fn measure(scenario: &Scenario, seeds: u64) -> Self {
        let with = |count: u64, change: &(dyn Fn(&mut Plan) + Sync)| {
            let run = |seed| {
                let mut plan = Plan { seed, ..scenario.plan() };
                change(&mut plan);
                let outcome = des::run(plan.clone(), |_, _| {});
                oracle::verdict(&plan, &outcome)
                    .iter()
                    .for_each(|wrong| eprintln!("{} {seed}: {wrong}", scenario.name));
                outcome
            };
            // Two at once: runs share nothing, and their processor time is no figure here.
            std::thread::scope(|scope| {
                let odd = scope.spawn(|| (1..=count).step_by(2).map(run).collect::<Vec<Outcome>>());
                let mut outcomes: Vec<Outcome> = (2..=count).step_by(2).map(run).collect();
                outcomes.extend(odd.join().unwrap_or_default());
                outcomes
            })
        };
        let is_modelled = !matches!(scenario.name, "liars");
        let compared = seeds.div_ceil(SEEDS_A_COMPARED);
        let pulled = if is_modelled { compared } else { 0 };
        Self {
            granted: with(seeds, &|_| {}),
            stored: with(compared, &|plan| plan.config.relay_depth_limit = 0),
            v1: with(pulled, &|plan| plan.policy = Policy::V1),
            random: with(pulled, &|plan| plan.policy = Policy::Random),
        }
    }

    fn ratios(&self) -> Vec<f64> {
        [&self.granted, &self.stored, &self.v1, &self.random].map(|runs| median(runs.iter().map(|o| o.ratio))).to_vec()
    }

    fn write(&self, scenario: &Scenario, table: &mut String) {
        let of = |figure: fn(&Outcome) -> f64| median(self.granted.iter().map(figure));
        let ratio = |ratio: &f64| if ratio.is_nan() { "–".to_owned() } else { format!("{ratio:.3}") };
        let ratios: Vec<String> = self.ratios().iter().map(ratio).collect();
        _ = writeln!(
            table,
            "| {} | {:.2} | {} | {:.2} | {:.2} | {:.2} % | {:.2} % |",
            scenario.name,
            scenario.ratio_limit,
            ratios.join(" | "),
            of(|o| o.source_copies),
            of(|o| o.messages_per_piece),
            of(|o| o.duplicate_percent),
            of(|o| o.cross_zone_percent),
        );
    }
}

/// The ratio over the number of peers, with and without relaying, on the lean driver.
fn sizes() -> String {
    let measure = |relay: u32| -> Vec<(f64, f64)> {
        let of = |peers: &u32| {
            let mut plan = Plan { driver: Driver::Lean, ..Plan::new(*peers, 256) };
            plan.config.relay_depth_limit = relay;
            (f64::from(*peers), des::run(plan, |_, _| {}).ratio)
        };
        SIZES.iter().map(of).collect()
    };
    let series = [("relaying".to_owned(), measure(24)), ("stored first".to_owned(), measure(0))];
    lines("makespan over the bound, 256 pieces, by peers", &series)
}
