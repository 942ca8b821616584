//! What must be true at the end of every run, whatever happened in it.

use crate::outcome::Outcome;
use crate::plan::{Plan, Policy};

/// What is wrong with a run; nothing if all is well.
pub fn verdict(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    check(outcome.unfinished == 0, format!("{} peers did not finish", outcome.unfinished));
    check(outcome.honest_listed == 0, format!("{} honest hosts on the global blacklist", outcome.honest_listed));
    let is_calm = plan.flaws == crate::plan::Flaws::default() && plan.seeds_die_after.is_none();
    if is_calm && plan.policy == Policy::Granted {
        check(outcome.source_copies == 1.0, format!("{} copies from the source", outcome.source_copies));
    }
    wrong
}
