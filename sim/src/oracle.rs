//! What must be true at the end of every run, whatever happened in it.

use crate::outcome::Outcome;
use crate::plan::{Mix, Plan, Policy};

/// What is wrong with a run; nothing if all is well.
pub fn verdict(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    check(outcome.unfinished == 0, format!("{} peers did not finish", outcome.unfinished));
    // A slow uplink of a mix may look hung, and who receives garbage accuses until it doubts itself:
    // there the list may err for a term.
    let may_err = plan.links.mix != Mix::Equal || plan.flaws.broken_percent > 0;
    check(
        may_err || outcome.honest_listed == 0,
        format!("{} honest hosts on the global blacklist", outcome.honest_listed),
    );
    let is_calm = plan.flaws == crate::plan::Flaws::default() && plan.seeds_die_after.is_none();
    // Two seeds that share a run may both have a piece on its way when the run is cut in two.
    if is_calm && plan.seeds == 1 && plan.policy == Policy::Granted {
        check(outcome.source_copies == 1.0, format!("{} copies from the source", outcome.source_copies));
    }
    wrong
}
