//! The table and the plots of `docs/swarm.md`, measured anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

use crate::modelled::unmodelled;
use crate::outcome::{Outcome, median};
use crate::plan::{Driver, Plan, Policy};
use crate::report::{BYTES_PER_PEER_LIMIT, COSTLY, CPU_SECS_LIMIT, bytes_per_peer, exceeded};
use crate::scenario::{self, Scenario};
use crate::svg::{bars, lines};
use crate::{des, oracle};

/// The rows of the table; the one whose cost counts is measured before them and stands after them.
const ROWS: &[&str] = &["herd", "symmetric", "in-order", "churn", "zones", "team", "liars"];

/// What makes a scenario's plan one of a series.
type Change = fn(&mut Plan);

/// What each row is measured with.
const SERIES: [(&str, Change); 4] = [
    ("granted", |_| {}),
    ("stored first", |plan| plan.config.relay_depth_limit = 0),
    ("v1", |plan| plan.policy = Policy::V1),
    ("random", |plan| plan.policy = Policy::Random),
];

/// The most seeds the costly row gets in each series. One run of children that pull would take more than six
/// minutes and 1.4 GB.
const COSTLY_SEEDS: [u64; 4] = [3, 3, 0, 0];

/// The most seeds one size of the plot over sizes gets.
const SIZE_SEEDS: u64 = 3;

/// Sizes of the plot over the number of peers, on the lean driver; the costly row is the last.
const SIZES: &[u32] = &[16, 64, 256, 1024, 10_000];

/// Between these lines of the document the table is written.
const MARKS: (&str, &str) = ("<!-- figures -->\n", "<!-- end of figures -->\n");

/// Runs everything that stands in `folder`/swarm.md and writes its table, and its plots into
/// `folder`/swarm. `seeds` is the number of seeds of each figure. Answers which limits were exceeded and
/// which runs were unsound.
///
/// # Errors
/// When the document cannot be read or something cannot be written.
pub fn write(folder: &Path, seeds: u64) -> Result<Vec<String>> {
    let document = folder.join("swarm.md");
    let text = fs::read_to_string(&document).with_context(|| format!("cannot read {}", document.display()))?;
    let (head, rest) = text.split_once(MARKS.0).context("the document has no place for the figures")?;
    let (_, tail) = rest.split_once(MARKS.1).context("the place for the figures has no end")?;
    let plots = folder.join("swarm");
    fs::create_dir_all(&plots)?;
    // First and one run at a time: what others leave behind or do meanwhile would be in its cost.
    let costly = Row::measure(named(COSTLY)?, COSTLY_SEEDS.map(|limit| limit.min(seeds)), 1);
    let mut rows = Vec::new();
    for name in ROWS {
        rows.push(Row::measure(named(name)?, [seeds; 4], processors()));
    }
    fs::write(plots.join("sizes.svg"), sizes(&costly, SIZE_SEEDS.min(seeds)))?;
    rows.push(costly);
    let groups: Vec<_> = rows.iter().map(|row| (row.scenario.name.to_owned(), row.ratios())).collect();
    let series = SERIES.map(|(name, _)| name);
    fs::write(plots.join("policies.svg"), bars("makespan over the bound", &series, &groups))?;
    fs::write(&document, format!("{head}{}{}{}{tail}", MARKS.0, table(&rows), MARKS.1))?;
    Ok(rows.iter().flat_map(Row::failures).collect())
}

fn named(name: &str) -> Result<&'static Scenario> {
    scenario::named(name).with_context(|| format!("a row without a scenario: {name}"))
}

fn changed(mut plan: Plan, change: Change) -> Plan {
    change(&mut plan);
    plan
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Carries out all plans in this order, so many at once: they share nothing.
fn run_all(plans: Vec<Plan>, at_once: usize) -> Vec<(Plan, Outcome)> {
    let run = |plan: &Plan| des::run(plan.clone(), |_, _| {});
    if at_once == 1 {
        return plans.into_iter().map(|plan| (plan.clone(), run(&plan))).collect();
    }
    let outcomes: Vec<OnceLock<Outcome>> = plans.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some((plan, outcome)) = plans.get(at).zip(outcomes.get(at))
        {
            _ = outcome.set(run(plan));
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| _ = scope.spawn(work)));
    let outcomes: Vec<Outcome> = outcomes.into_iter().filter_map(OnceLock::into_inner).collect();
    plans.into_iter().zip(outcomes).collect()
}

/// One scenario in all series; what is not modelled has no runs.
struct Row {
    scenario: &'static Scenario,
    runs: [Vec<(Plan, Outcome)>; 4],
}

impl Row {
    fn measure(scenario: &'static Scenario, seeds: [u64; 4], at_once: usize) -> Self {
        let mut series = SERIES.iter().zip(seeds);
        let plans: [Vec<Plan>; 4] = std::array::from_fn(|_| {
            let Some(((_, change), count)) = series.next() else { return Vec::new() };
            let plans = (1..=count).map(|seed| changed(Plan { seed, ..scenario.plan() }, *change));
            plans.filter(|plan| unmodelled(plan).is_empty()).collect()
        });
        let counts = plans.each_ref().map(Vec::len);
        let mut done = run_all(plans.concat(), at_once).into_iter();
        let row = Self { scenario, runs: counts.map(|count| done.by_ref().take(count).collect()) };
        eprintln!("{}: {:.3?}", scenario.name, row.ratios());
        row
    }

    fn ratios(&self) -> Vec<f64> {
        self.runs.each_ref().map(|runs| median(runs.iter().map(|(_, outcome)| outcome.ratio))).to_vec()
    }

    fn granted(&self) -> Vec<Outcome> {
        self.runs[0].iter().map(|(_, outcome)| outcome.clone()).collect()
    }

    /// What its figures are short of, and what is wrong with its runs.
    fn failures(&self) -> Vec<String> {
        let mut failures = exceeded(self.scenario, &self.scenario.plan(), &self.granted());
        for ((series, _), (plan, outcome)) in
            SERIES.iter().zip(&self.runs).flat_map(|(series, runs)| runs.iter().map(move |run| (series, run)))
        {
            let tell = |wrong| format!("{}, {series}, seed {}: {wrong}", self.scenario.name, plan.seed);
            failures.extend(oracle::verdict(plan, outcome).into_iter().map(tell));
        }
        failures
    }

    fn write(&self, table: &mut String) {
        let of = |figure: fn(&Outcome) -> f64| median(self.runs[0].iter().map(|(_, outcome)| figure(outcome)));
        let ratio = |ratio: &f64| if ratio.is_nan() { "–".to_owned() } else { format!("{ratio:.3}") };
        let ratios: Vec<String> = self.ratios().iter().map(ratio).collect();
        _ = writeln!(
            table,
            "| {} | {:.2} | {} | {} | {:.2} | {:.2} | {:.2} % | {:.2} % |",
            self.scenario.name,
            self.scenario.ratio_limit,
            self.runs[0].len(),
            ratios.join(" | "),
            of(|o| o.source_copies),
            of(|o| o.messages_per_piece),
            of(|o| o.duplicate_percent),
            of(|o| o.cross_zone_percent),
        );
    }

    /// What a run costs, in a sentence.
    fn cost(&self) -> String {
        let outcomes = self.granted();
        format!(
            "A run of *{}*, on the lean driver, takes {:.1} s of processor time (limit {CPU_SECS_LIMIT:.0}) \
             and {} bytes a peer (limit {BYTES_PER_PEER_LIMIT}): the median time and the most memory of {} seeds.\n",
            self.scenario.name,
            median(outcomes.iter().map(|outcome| outcome.cpu_secs)),
            bytes_per_peer(&outcomes),
            outcomes.len(),
        )
    }
}

/// All rows, and below them the cost of the one where it counts.
fn table(rows: &[Row]) -> String {
    let names = SERIES.map(|(name, _)| name).join(" | ");
    let mut table = format!(
        "| scenario | limit | seeds | {names} | source copies | messages a piece | duplicates | across zones |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    rows.iter().for_each(|row| row.write(&mut table));
    for row in rows.iter().filter(|row| row.scenario.name == COSTLY) {
        _ = write!(table, "\n{}", row.cost());
    }
    table
}

/// The ratio over the number of peers, with and without relaying, on the lean driver.
fn sizes(costly: &Row, seeds: u64) -> String {
    let measure = |at: usize, name: &str| -> (String, Vec<(f64, f64)>) {
        let of = |peers: &u32| {
            let plan = |seed| Plan { driver: Driver::Lean, seed, ..Plan::new(*peers, 256) };
            let plans = (1..=seeds).map(|seed| changed(plan(seed), SERIES[at].1));
            let done = run_all(plans.collect(), processors());
            (f64::from(*peers), median(done.iter().map(|(_, outcome)| outcome.ratio)))
        };
        let largest = (f64::from(costly.scenario.plan().peers), costly.ratios()[at]);
        (name.to_owned(), SIZES.iter().map(of).chain([largest]).collect())
    };
    let series = [measure(0, "relaying"), measure(1, "stored first")];
    lines("makespan over the bound, 256 pieces, by peers", &series)
}

#[cfg(test)]
mod tests {
    use super::{Row, SERIES, changed, named, table};
    use crate::modelled::unmodelled;
    use crate::outcome::Outcome;
    use crate::plan::Plan;

    /// A row as it would be measured, with runs that were not carried out.
    fn row(name: &str, ratio: f64, unfinished: u32) -> Row {
        let scenario = named(name).unwrap();
        let runs = SERIES.map(|(_, change)| {
            let plan = changed(scenario.plan(), change);
            let outcome = Outcome { ratio, unfinished, source_copies: 1.0, ..Outcome::default() };
            if unmodelled(&plan).is_empty() { vec![(plan, outcome)] } else { vec![] }
        });
        Row { scenario, runs }
    }

    #[test]
    fn a_limit_that_is_exceeded_and_a_run_that_is_unsound_fail_the_report() {
        assert_eq!(row("herd", 1.05, 0).failures(), [""; 0]);
        assert_eq!(row("herd", 1.06, 0).failures(), ["herd: makespan over the bound 1.060, limit 1.05"]);
        assert_eq!(row("zones", 1.0, 2).failures().len(), 2, "granted and stored first");
        assert_eq!(row("herd", 1.0, 2).failures()[2], "herd, v1, seed 1: 2 peers did not finish");
    }

    #[test]
    fn what_is_not_modelled_is_a_dash_and_the_cost_of_the_largest_is_told() {
        let text = table(&[row("herd", 1.02, 0), row("zones", 1.02, 0), row("large", 1.04, 0)]);
        assert!(text.contains("| herd | 1.05 | 1 | 1.020 | 1.020 | 1.020 | 1.020 | 1.00 |"), "{text}");
        assert!(text.contains("| zones | 1.10 | 1 | 1.020 | 1.020 | – | – | 1.00 |"), "{text}");
        assert!(
            text.ends_with(
                "(limit 60) and 0 bytes a peer (limit 2048): the median time and the most memory of 1 seeds.\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_row_has_as_many_runs_as_seeds_in_each_series_that_is_modelled() {
        let row = Row::measure(named("team").unwrap(), [3, 2, 2, 1], 2);
        assert_eq!(row.runs.each_ref().map(Vec::len), [3, 2, 2, 1]);
        let seeds: Vec<u64> = row.runs[0].iter().map(|(plan, outcome)| plan.seed.max(outcome.seed)).collect();
        assert_eq!(seeds, [1, 2, 3]);
        let alone = |seed| crate::des::run(Plan { seed, ..row.scenario.plan() }, |_, _| {}).trace_hash;
        assert_eq!(row.runs[0][1].1.trace_hash, alone(2));
    }
}
