//! Makes a failing scenario smaller, as long as the same checker says no.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::child::{self, Subject};
use super::scenario::{Knobs, Scenario};
use super::world::Report;

/// Most runs spent on it.
const RUN_LIMIT: u32 = 400;

struct Shrinking<'a> {
    planted: Option<&'a str>,
    best: Scenario,
    check: String,
    file: PathBuf,
    runs: u32,
}

impl Shrinking<'_> {
    fn run(&mut self, scenario: &Scenario) -> Result<Report> {
        self.runs += 1;
        std::fs::write(&self.file, serde_json::to_string(scenario)?)?;
        child::run(&Subject::File(&self.file), self.planted)
    }

    /// Takes a smaller scenario if it fails in the same way.
    fn offer(&mut self, smaller: Scenario) -> Result<bool> {
        if smaller == self.best || self.runs >= RUN_LIMIT {
            return Ok(false);
        }
        let report = self.run(&smaller)?;
        let is_same = report.violations.iter().any(|violation| violation.check == self.check);
        if is_same {
            self.best = smaller;
        }
        Ok(is_same)
    }

    /// Leaves out parts of a list: halves, then quarters, down to single ones.
    fn thin<T: Clone>(
        &mut self,
        list: impl Fn(&Scenario) -> Vec<T>,
        put: impl Fn(&mut Scenario, Vec<T>),
    ) -> Result<()> {
        let mut size = list(&self.best).len();
        while size > 0 {
            let mut at = 0;
            while at < list(&self.best).len() {
                let mut rest = list(&self.best);
                rest.drain(at..(at + size).min(rest.len()));
                let mut smaller = self.best.clone();
                put(&mut smaller, rest);
                if !self.offer(smaller)? {
                    at += size;
                }
            }
            size /= 2;
        }
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Scenario)) -> Result<bool> {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        self.offer(smaller)
    }

    fn shrink(&mut self) -> Result<()> {
        self.thin(|s| s.plan.clone().unwrap_or_default(), |s, plan| s.plan = Some(plan))?;
        self.thin(|s| s.work.clone(), |s, work| s.work = work)?;
        for content in 0..self.best.contents.len() {
            while self.best.contents[content].len > 1 && self.change(|s| s.contents[content].len /= 2)? {}
            self.change(|s| {
                let of = &mut s.contents[content];
                (of.is_ranged, of.has_etag, of.has_length, of.is_redirected) = (true, true, true, false);
            })?;
        }
        self.knobs()?;
        if !self.is_struck(self.best.origin() + 1)? {
            self.change(|s| {
                s.topology.managers = 0;
                s.work.retain(|work| !work.act.is_operators());
            })?;
        }
        self.change(|s| s.topology.is_shuffled = false)?;
        self.change(|s| s.topology.latency_ms = (1, 1))?;
        while self.best.work.iter().all(|work| work.host + 1 < self.best.daemons())
            && self.best.topology.peers > 1
            && self.drop_last_peer()?
        {}
        self.thin(|s| s.plan.clone().unwrap_or_default(), |s, plan| s.plan = Some(plan))
    }

    fn knobs(&mut self) -> Result<()> {
        let plain = Knobs::plain();
        if self.change(|s| s.knobs = plain.clone())? {
            return Ok(());
        }
        self.change(|s| s.knobs.upload_rate = None)?;
        self.change(|s| s.knobs.download_rate = None)?;
        self.change(|s| s.knobs.source_rate = None)?;
        self.change(|s| s.knobs.quota = None)?;
        self.change(|s| s.knobs.zones = 1)?;
        self.change(|s| s.knobs.has_slow_disks = false)?;
        self.change(|s| s.knobs.can_reserve = true)?;
        self.change(|s| s.knobs.relay_depth_limit = plain.relay_depth_limit)?;
        self.change(|s| s.knobs.request_limit = plain.request_limit)?;
        self.change(|s| s.knobs.upload_limit = plain.upload_limit)?;
        self.change(|s| s.knobs.download_limit = plain.download_limit)?;
        self.change(|s| s.knobs.task_ttl_ms = plain.task_ttl_ms)?;
        self.change(|s| s.knobs.source_escape_ms = plain.source_escape_ms)?;
        self.change(|s| s.knobs.source_stall_ms = plain.source_stall_ms).map(drop)
    }

    /// Leaves out the last peer. Origin and manager are counted behind it, so their numbers move in the plan.
    fn drop_last_peer(&mut self) -> Result<bool> {
        let last = self.best.origin() - 1;
        for host in last..=last + 2 {
            if self.is_struck(host)? {
                return Ok(false);
            }
        }
        self.change(|s| s.topology.peers -= 1)
    }

    /// Whether the plan has a fault of one host.
    fn is_struck(&self, host: u32) -> Result<bool> {
        let text = serde_json::to_string(&self.best.plan)?;
        Ok([',', '}'].iter().any(|end| text.contains(&format!("\"host\":{host}{end}"))))
    }
}

/// Writes the smallest scenario found that fails as this one does, to `file`.
///
/// # Errors
/// If it does not fail, or cannot be run.
pub fn minimise(scenario: &Scenario, planted: Option<&str>, file: &Path) -> Result<()> {
    let trying = file.with_extension("trying");
    let mut shrinking = Shrinking { planted, best: scenario.clone(), check: String::new(), file: trying, runs: 0 };
    let report = shrinking.run(scenario)?;
    let Some(violation) = report.violations.first() else { bail!("this scenario does not fail") };
    shrinking.check.clone_from(&violation.check);
    // From now on its faults are a list, from which some can be left out.
    shrinking.change(|s| s.plan = Some(report.plan.clone()))?;
    if shrinking.best.plan.is_none() {
        bail!("with its faults written down it does not fail as before: the run is not deterministic");
    }
    shrinking.shrink()?;
    std::fs::write(file, serde_json::to_string_pretty(&shrinking.best)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    let _ = std::fs::remove_file(&shrinking.file);
    let best = &shrinking.best;
    println!(
        "[{}] after {} runs: {} faults, {} requests, {} daemons; written to {}",
        shrinking.check,
        shrinking.runs,
        best.plan.as_ref().map_or(0, Vec::len),
        best.work.len(),
        best.daemons(),
        file.display()
    );
    println!("reproduce: cargo xtask sim --engine turmoil --scenario {}", file.display());
    Ok(())
}
