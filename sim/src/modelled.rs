//! What of a plan each driver models. What one does not is refused and never ignored: its figures would be
//! those of another run.

use df_core::scheduler::SchedulerConfig;

use crate::plan::{Driver, Plan, Policy};

/// What carries a plan out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// Granted uploads, [`Driver::Full`].
    Full,
    /// Granted uploads, [`Driver::Lean`].
    Lean,
    /// Children that pull: the policies v1 and random.
    Pull,
}

impl Carrier {
    /// Who carries this plan out.
    pub const fn of(plan: &Plan) -> Self {
        match (plan.policy, plan.driver) {
            (Policy::Granted, Driver::Full) => Self::Full,
            (Policy::Granted, Driver::Lean) => Self::Lean,
            (Policy::V1 | Policy::Random, _) => Self::Pull,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lean => "lean",
            Self::Pull => "pull",
        }
    }
}

/// Something a plan may ask for that not everybody models; the full driver models all of it.
#[derive(Debug)]
pub struct Part {
    /// What it is, with the flag that asks for it if there is one.
    pub what: &'static str,
    /// Who models it beside the full driver.
    pub also_by: &'static [Carrier],
    is_asked: fn(&Plan) -> bool,
}

const fn part(what: &'static str, also_by: &'static [Carrier], is_asked: fn(&Plan) -> bool) -> Part {
    Part { what, also_by, is_asked }
}

const LEAN: &[Carrier] = &[Carrier::Lean];

/// All of it. What is not here everybody models.
pub const PARTS: &[Part] = &[
    part("several tasks at once", &[], |plan| plan.tasks > 1),
    part("readers in order", LEAN, |plan| plan.is_in_order),
    part("zones (--zones)", LEAN, |plan| plan.zones > 1),
    part("several seeds", LEAN, |plan| plan.seeds != 1),
    part("the death of seeds", LEAN, |plan| plan.seeds_die_after.is_some()),
    part("hosts that report failures that were none", &[], |plan| plan.flaws.slandering_percent > 0),
    part("hosts that receive only garbage", &[], |plan| plan.flaws.broken_percent > 0),
    part("several connections to the source (--connections)", &[], |plan| plan.links.connections != 1),
    part("asking for the next piece only at the end of one", &[], |plan| !plan.asks_early),
    part("all slots in use (--fixed-slots)", &[], |plan| plan.config.fills_slots),
    part("a number of uploads at once (--uploads)", &[], |plan| {
        ![1, usual().upload_limit].contains(&plan.upload_limit)
    }),
    part("limits of transfers at once (--uploads, --downloads)", LEAN, |plan| {
        (plan.upload_limit, plan.download_limit) != (usual().upload_limit, usual().download_limit)
    }),
    part("the scheduler's knobs (--relay)", LEAN, |plan| {
        let fills_slots = plan.config.fills_slots;
        plan.config != SchedulerConfig { fills_slots, ..SchedulerConfig::default() }
    }),
];

fn usual() -> Plan {
    Plan::new(1, 1)
}

/// What of a plan whoever would carry it out does not model; nothing if all is well.
pub fn unmodelled(plan: &Plan) -> Vec<&'static str> {
    let carrier = Carrier::of(plan);
    let is_missing = |part: &&Part| carrier != Carrier::Full && !part.also_by.contains(&carrier);
    PARTS.iter().filter(is_missing).filter(|part| (part.is_asked)(plan)).map(|part| part.what).collect()
}

#[cfg(test)]
mod tests {
    use super::unmodelled;
    use crate::plan::{Arrivals, Driver, Flaws, Plan, Policy};
    use crate::scenario::{SCENARIOS, drawn};

    /// The scenarios that a driver or policy does not model.
    fn refused(change: fn(&mut Plan)) -> Vec<&'static str> {
        let is_refused = |plan: Plan| {
            let mut plan = plan;
            change(&mut plan);
            !unmodelled(&plan).is_empty()
        };
        SCENARIOS.iter().filter(|scenario| is_refused(scenario.plan())).map(|scenario| scenario.name).collect()
    }

    #[test]
    fn every_scenario_is_modelled_by_its_own_driver_and_the_full_one_models_all_that_is_drawn() {
        assert_eq!(refused(|_| {}), [""; 0]);
        assert!((0..200).all(|seed| unmodelled(&drawn(seed)).is_empty()));
    }

    #[test]
    fn scenarios_are_refused_where_their_figures_would_be_those_of_another() {
        assert_eq!(refused(|plan| plan.driver = Driver::Lean), ["slander", "tasks", "connections"]);
        let pulled = ["in-order", "zones", "slander", "tasks", "connections", "orphans"];
        assert_eq!(refused(|plan| plan.policy = Policy::V1), pulled);
        assert_eq!(refused(|plan| plan.policy = Policy::Random), pulled);
    }

    /// Whatever changes nothing in a run that is not refused has been forgotten in the table.
    #[test]
    fn what_is_not_refused_makes_another_run() {
        let changes: [fn(&mut Plan); 14] = [
            |plan| plan.seeds = 2,
            |plan| plan.tasks = 2,
            |plan| plan.zones = 2,
            |plan| plan.is_in_order = true,
            |plan| plan.asks_early = false,
            |plan| plan.arrivals = Arrivals::Late(50),
            |plan| plan.arrivals = Arrivals::Staggered(10.0),
            |plan| plan.flaws = Flaws { leaving_percent: 30, ..Flaws::default() },
            |plan| plan.flaws = Flaws { lying_percent: 10, ..Flaws::default() },
            |plan| plan.flaws = Flaws { stalling_percent: 10, ..Flaws::default() },
            |plan| plan.flaws = Flaws { slandering_percent: 10, ..Flaws::default() },
            |plan| plan.flaws = Flaws { broken_percent: 10, ..Flaws::default() },
            |plan| plan.seeds_die_after = Some(4.0),
            |plan| plan.config.relay_depth_limit = 0,
        ];
        for (policy, driver) in [
            (Policy::Granted, Driver::Full),
            (Policy::Granted, Driver::Lean),
            (Policy::V1, Driver::Full),
            (Policy::Random, Driver::Full),
        ] {
            let plain = Plan { policy, driver, ..Plan::new(30, 16) };
            let hash = |plan: &Plan| crate::des::run(plan.clone(), |_, _| {}).trace_hash;
            for (at, change) in changes.iter().enumerate() {
                let mut plan = plain.clone();
                change(&mut plan);
                let is_another = hash(&plan) != hash(&plain);
                assert!(is_another || !unmodelled(&plan).is_empty(), "{policy:?}, {driver:?}: change {at}");
            }
        }
    }
}
