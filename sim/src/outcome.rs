//! What came of a run, in the units of the plan.

use serde::Serialize;

/// The figures of one run. Times are in piece times, counted from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The seed of the run.
    pub seed: u64,
    /// What no policy can beat.
    pub bound: f64,
    /// When the last peer was done.
    pub makespan: f64,
    /// `makespan / bound`.
    pub ratio: f64,
    /// When the median peer was done.
    pub median: f64,
    /// When nine tenths of the peers were done.
    pub ninth_decile: f64,
    /// Bytes from the source over bytes of the content.
    pub source_copies: f64,
    /// Messages to and from the scheduler for each piece delivered.
    pub messages_per_piece: f64,
    /// Pieces transferred in vain (a second time, wrong, given up) over pieces delivered, in per cent.
    pub wasted_percent: f64,
    /// Pieces delivered twice or begun a second time while the first was on its way, in per cent.
    pub duplicate_percent: f64,
    /// Transfers between zones over all, in per cent.
    pub cross_zone_percent: f64,
    /// How long a reader in order has to wait before it can read at rate 1 without a pause: the
    /// median peer's, in piece times.
    pub reader_delay: f64,
    /// Peers that should have finished and did not.
    pub unfinished: u32,
    /// Hosts on the global blacklist that did nothing wrong, and those that did.
    pub honest_listed: u32,
    /// Faulty hosts on the global blacklist.
    pub faulty_listed: u32,
    /// Most transfers any one lying parent got to spoil.
    pub lies_of_worst: u32,
    /// Grants the scheduler made.
    pub grants: u64,
    /// Events the engine handled.
    pub events: u64,
    /// Seconds of simulated time.
    pub simulated_secs: f64,
    /// Seconds of processor time.
    pub cpu_secs: f64,
    /// Bytes of memory for each peer, all of it: scheduler, driver, events.
    pub bytes_per_peer: u64,
    /// The trace's hash.
    pub trace_hash: String,
}

impl Outcome {
    /// Events handled in a second of processor time.
    pub fn events_per_cpu_sec(&self) -> f64 {
        self.events as f64 / self.cpu_secs
    }

    /// Grants made in a second of processor time.
    pub fn grants_per_cpu_sec(&self) -> f64 {
        self.grants as f64 / self.cpu_secs
    }

    /// Hours of simulated time.
    pub fn simulated_hours(&self) -> f64 {
        self.simulated_secs / 3600.0
    }
}

/// The median of some figure over runs: the lower one of the two in the middle.
pub fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = of.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Processor time of this process and the memory it holds, for the cost columns.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    cpu_secs: f64,
    resident_bytes: u64,
}

impl Meter {
    /// Reads the meters.
    pub fn read() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self { cpu_secs: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9, resident_bytes: resident_bytes() }
    }

    /// Processor seconds since this was read.
    pub fn cpu_secs(&self) -> f64 {
        Self::read().cpu_secs - self.cpu_secs
    }

    /// Bytes held now that were not when this was read.
    pub fn grown_bytes(&self) -> u64 {
        resident_bytes().saturating_sub(self.resident_bytes)
    }
}

/// Resident memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.0);
        assert!(median(std::iter::empty()).is_nan());
    }
}
