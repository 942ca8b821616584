//! What a scheduler was told in a run, to be told to another one: what is left is the core alone.

use df_core::machine::Machine;
use df_core::scheduler::{GrantKey, Input, Output, Scheduler, SchedulerConfig};
use df_core::time::Instant;
use slotmap::Key;

use super::{FAR, Lean, NEAR, grant_key};
use crate::outcome::Meter;
use crate::plan::Plan;

/// One call of the scheduler; small, for there are two for each grant.
#[derive(Clone, Debug)]
enum Beat {
    Nearly(u64),
    Finished(u64),
    Timeout,
    Other(Box<Input>),
}

impl Beat {
    /// What it says of a grant.
    fn of_grant(&self) -> Option<Input> {
        match self {
            Self::Nearly(grant) => Some(Input::NearlyFinished { grant: grant_key(*grant) }),
            Self::Finished(grant) => Some(Input::PieceFinished { grant: grant_key(*grant) }),
            Self::Timeout | Self::Other(_) => None,
        }
    }
}

/// All calls of a scheduler in a run.
#[derive(Clone, Debug)]
pub struct Tape {
    config: SchedulerConfig,
    seed: u64,
    beats: Vec<(u64, Beat)>,
}

impl Tape {
    /// Runs a plan with the lean driver and keeps what its scheduler is told: some 50 bytes a grant.
    pub fn of(plan: Plan, progress: impl FnMut(u64, u64)) -> Self {
        let mut lean = Lean::prepare(plan, true);
        lean.run_to_end(progress);
        lean.tape.unwrap_or_else(|| unreachable!("it was recorded"))
    }

    /// Tells all of it to a new scheduler; answers how many grants that made, and in how many seconds of
    /// processor time.
    pub fn play(&self) -> (u64, f64) {
        let meter = Meter::read();
        let mut scheduler = Scheduler::new(self.config, self.seed);
        let mut grants = 0;
        for (at, (now, beat)) in self.beats.iter().enumerate() {
            let ahead = |by: usize| self.beats.get(at + by).and_then(|(_, beat)| beat.of_grant());
            ahead(FAR).iter().for_each(|input| scheduler.look_far_ahead(input));
            ahead(NEAR).iter().for_each(|input| scheduler.look_ahead(input));
            let now = Instant::from_micros(*now);
            let input = match beat {
                Beat::Other(input) => Some((**input).clone()),
                beat => beat.of_grant(),
            };
            match input {
                Some(input) => scheduler.handle_input(now, input),
                None => scheduler.handle_timeout(now),
            }
            let outputs = std::iter::from_fn(|| scheduler.poll_output());
            grants += outputs.filter(|output| matches!(output, Output::Grant { .. })).count() as u64;
        }
        (grants, meter.cpu_secs())
    }

    pub(super) const fn new(config: SchedulerConfig, seed: u64) -> Self {
        Self { config, seed, beats: Vec::new() }
    }

    pub(super) fn note_timeout(&mut self, now: u64) {
        self.beats.push((now, Beat::Timeout));
    }

    pub(super) fn note(&mut self, now: u64, input: &Input) {
        let ffi = |grant: &GrantKey| grant.data().as_ffi();
        let beat = match input {
            Input::NearlyFinished { grant } => Beat::Nearly(ffi(grant)),
            Input::PieceFinished { grant } => Beat::Finished(ffi(grant)),
            other => Beat::Other(Box::new(other.clone())),
        };
        self.beats.push((now, beat));
    }
}
