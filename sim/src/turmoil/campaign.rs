//! Many runs: seeds, soaks, runs compared with themselves, bugs planted and found again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::child::{self, Subject};
use super::ledger::Mark;
use super::world::Report;

/// Lines of a failed run that are shown of each host.
const SHOWN_LINES: usize = 12;

/// What many runs came to.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Tally {
    /// Runs.
    pub seeds: u64,
    /// How much time they simulated, in hours.
    pub simulated_hours: f64,
    /// How long they took, in seconds of the wall.
    pub wall_secs: f64,
    /// How long processors were busy with them, in seconds.
    pub cpu_secs: f64,
    /// Seeds a core runs in an hour in which it does nothing else.
    pub seeds_per_core_hour: f64,
    /// Events in their traces.
    pub events: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Requests of users, by what came of them.
    pub outcomes: BTreeMap<String, u64>,
    /// Runs in which each mark was seen.
    pub marks: BTreeMap<Mark, u64>,
    /// Marks that were never seen.
    pub unseen: Vec<Mark>,
    /// Seeds that failed, and the checkers that said so.
    pub failed: BTreeMap<u64, String>,
}

impl Tally {
    fn hear(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated_hours += report.simulated_ms as f64 / 3_600_000.0;
        self.cpu_secs += report.cpu_secs;
        self.events += report.events;
        self.faults += report.plan.len() as u64;
        for (outcome, count) in &report.outcomes {
            *self.outcomes.entry(outcome.clone()).or_default() += count;
        }
        for mark in report.marks.keys() {
            *self.marks.entry(*mark).or_default() += 1;
        }
        if let Some(violation) = report.violations.first() {
            self.failed.insert(report.seed, violation.check.clone());
        }
    }

    fn close(&mut self, took: Duration) {
        self.wall_secs = took.as_secs_f64();
        self.seeds_per_core_hour = self.seeds as f64 * 3600.0 / self.cpu_secs.max(0.001);
        self.unseen = Mark::ALL.into_iter().filter(|mark| !self.marks.contains_key(mark)).collect();
    }

    fn line(&self) -> String {
        format!(
            "{} seeds, {:.1} simulated hours, {} faults, {} failed, {} of {} marks, {:.0} s, {:.0} seeds a core hour",
            self.seeds,
            self.simulated_hours,
            self.faults,
            self.failed.len(),
            self.marks.len(),
            Mark::ALL.len(),
            self.wall_secs,
            self.seeds_per_core_hour
        )
    }
}

/// How many seeds, or for how long.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// So many.
    Seeds(u64),
    /// So long.
    For(Duration),
}

#[allow(clippy::disallowed_methods, reason = "how long the simulator takes is the real clock's to say")]
fn now() -> Instant {
    Instant::now()
}

/// Runs seeds from `first` on; true if none failed. A soak says how it goes, and wants every mark seen.
///
/// # Errors
/// When runs cannot be started.
pub fn seeds(first: u64, extent: Extent, jobs: usize, planted: Option<&str>, is_json: bool) -> Result<bool> {
    let (begun, mut tally) = (now(), Tally::default());
    let mut said = begun;
    let next = |number| match extent {
        Extent::Seeds(count) => (number < count).then_some(first + number),
        Extent::For(term) => (now() - begun < term).then_some(first + number),
    };
    child::each(next, planted, jobs, |report| {
        tally.hear(&report);
        if !report.violations.is_empty() {
            let _ = explain(&report, planted);
        }
        if matches!(extent, Extent::For(_)) && now() - said > Duration::from_secs(10) {
            said = now();
            tally.close(said - begun);
            eprintln!("{}", tally.line());
        }
        true
    })?;
    tally.close(now() - begun);
    match is_json {
        true => println!("{}", serde_json::to_string(&tally)?),
        false => println!("{}", tally.line()),
    }
    if matches!(extent, Extent::For(_)) && !tally.unseen.is_empty() {
        println!("never seen: {:?}", tally.unseen);
    }
    Ok(tally.failed.is_empty())
}

/// Says what is wrong with a run, what happened last, and how to see it again.
///
/// # Errors
/// When it cannot be run again.
pub fn explain(report: &Report, planted: Option<&str>) -> Result<()> {
    let seed = report.seed;
    for violation in &report.violations {
        eprintln!("seed {seed}: {violation}");
    }
    let mut last: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in child::trace(&Subject::Seed(seed), planted)? {
        let host = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        last.entry(host).or_default().push(line);
    }
    for (host, lines) in last {
        eprintln!("--- {host}");
        lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)).for_each(|line| eprintln!("{line}"));
    }
    eprintln!("reproduce: cargo xtask sim --engine turmoil --seed {seed}");
    Ok(())
}

/// Runs each seed twice, in two processes, and compares every event; true if they agree.
///
/// # Errors
/// When runs cannot be started.
pub fn meta(first: u64, count: u64) -> Result<bool> {
    let mut differing = 0;
    for seed in first..first + count {
        let subject = Subject::Seed(seed);
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(|| child::trace(&subject, None));
            (child::trace(&subject, None), other.join())
        });
        let (one, two) = (one?, two.map_err(|_| anyhow::anyhow!("a worker panicked"))??);
        if one.is_empty() {
            bail!("seed {seed} has no trace");
        }
        let at = one.iter().zip(&two).position(|(a, b)| a != b);
        let at = at.or_else(|| (one.len() != two.len()).then(|| one.len().min(two.len())));
        if let Some(at) = at {
            differing += 1;
            let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "(the end)".to_owned());
            eprintln!("seed {seed} differs in event {at}:\n  {}\n  {}", line(&one), line(&two));
        }
    }
    println!("{count} seeds run twice, {differing} differ");
    Ok(differing == 0)
}

/// Plants each bug and looks for it; true if every one is found within so many seeds.
///
/// # Errors
/// When runs cannot be started.
pub fn planted(bugs: &[&str], limit: u64, jobs: usize) -> Result<bool> {
    let mut missed = 0;
    println!("{:<28} {:>6}  found by", "bug", "seeds");
    for bug in bugs {
        let (mut ran, mut found) = (0, None);
        child::each(
            |number| (number < limit).then_some(1 + number),
            Some(bug),
            jobs,
            |report| {
                ran += 1;
                found = found.take().or_else(|| report.violations.first().cloned().map(|found| (report.seed, found)));
                found.is_none()
            },
        )?;
        match found {
            Some((seed, violation)) => println!("{bug:<28} {ran:>6}  {} (seed {seed})", violation.check),
            None => {
                missed += 1;
                println!("{bug:<28} {ran:>6}  NOT FOUND");
            }
        }
    }
    Ok(missed == 0)
}
