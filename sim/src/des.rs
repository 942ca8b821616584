//! The discrete-event engine: the core's machines over modelled links, on a clock that jumps.

mod wheel;
mod names;
mod net;
mod tally;

pub mod lean;
pub mod full;
pub mod pull;

use crate::modelled::Carrier;
use crate::outcome::Outcome;
use crate::plan::Plan;

/// How long a child waits for the next byte.
const STALL_LIMIT_US: u64 = 5_000_000;

/// Carries out a run. `progress` is told now and then how many pieces have been delivered of how
/// many.
pub fn run(plan: Plan, progress: impl FnMut(u64, u64)) -> Outcome {
    match Carrier::of(&plan) {
        Carrier::Lean => lean::Lean::new(plan).run(progress),
        Carrier::Full => full::Full::new(plan).run(progress),
        Carrier::Pull => pull::Pull::new(plan).run(progress),
    }
}
