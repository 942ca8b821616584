//! The discrete-event engine: the core's machines over modelled links, on a clock that jumps.

mod wheel;
mod names;
mod net;
mod tally;

pub mod lean;
pub mod full;
pub mod pull;

use crate::outcome::Outcome;
use crate::plan::{Driver, Plan, Policy};

/// Carries out a run. `progress` is told now and then how many pieces have been delivered of how
/// many.
pub fn run(plan: Plan, progress: impl FnMut(u64, u64)) -> Outcome {
    match (plan.policy, plan.driver) {
        (Policy::Granted, Driver::Lean) => lean::Lean::new(plan).run(progress),
        (Policy::Granted, Driver::Full) => full::Full::new(plan).run(progress),
        (Policy::V1 | Policy::Random, _) => pull::Pull::new(plan).run(progress),
    }
}
