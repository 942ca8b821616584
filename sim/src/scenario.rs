//! The named runs: what each shows, and what its figures must be.

use df_core::scheduler::SchedulerConfig;
use df_core::time::Duration;

use crate::plan::{Arrivals, Driver, Flaws, Mix, Plan};

/// A named run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// The most its ratio to the bound may be, at the median of its seeds.
    pub ratio_limit: f64,
    /// The largest share of transfers that may cross zones, in per cent.
    pub cross_zone_limit_percent: f64,
    plan: fn() -> Plan,
}

impl Scenario {
    /// Its plan, to be changed or run.
    pub fn plan(&self) -> Plan {
        (self.plan)()
    }
}

const fn scenario(name: &'static str, about: &'static str, ratio_limit: f64, plan: fn() -> Plan) -> Scenario {
    Scenario { name, about, ratio_limit, cross_zone_limit_percent: 100.0, plan }
}

/// All of them, the figures of `docs/swarm.md` first.
pub const SCENARIOS: &[Scenario] = &[
    scenario("herd", "1000 peers want 256 pieces at once; downlinks twice as wide as uplinks", 1.05, herd),
    scenario("symmetric", "the same, downlinks as wide as uplinks", 1.12, symmetric),
    scenario("in-order", "the same as herd, every reader wants the pieces in order", 1.10, || Plan {
        is_in_order: true,
        ..herd()
    }),
    scenario("churn", "30 % of the peers leave in mid-download", 1.10, || Plan {
        flaws: Flaws { leaving_percent: 30, ..Flaws::default() },
        ..herd()
    }),
    Scenario {
        cross_zone_limit_percent: 1.0,
        ..scenario("zones", "the peers are in four zones, the seed in the first", 1.10, || Plan { zones: 4, ..herd() })
    },
    scenario("team", "16 peers, 64 pieces", 1.12, || Plan { driver: Driver::Full, ..Plan::new(16, 64) }),
    scenario("large", "100,000 peers, 256 pieces, on the lean driver", 1.08, || Plan::new(100_000, 256)),
    scenario("liars", "5 % of the peers send wrong bytes, 5 % take requests and send nothing", 1.30, || Plan {
        flaws: Flaws { lying_percent: 5, stalling_percent: 5, ..Flaws::default() },
        ..herd()
    }),
    scenario("slander", "5 % of the peers report failures that were none, 2 % receive only garbage", 1.30, || Plan {
        flaws: Flaws { slandering_percent: 5, broken_percent: 2, ..Flaws::default() },
        ..small()
    }),
    scenario("staggered", "the peers come over 64 piece times", 1.15, || Plan {
        arrivals: Arrivals::Staggered(64.0),
        ..small()
    }),
    scenario("late", "half of the peers come when the others are half done", 1.15, || Plan {
        arrivals: Arrivals::Late(50),
        ..small()
    }),
    scenario("mixed", "20 % of the peers have a quarter of the rate, 10 % four times", 2.0, || {
        let plan = small();
        Plan { links: crate::plan::Links { mix: Mix::Both, down: 4.0, ..plan.links }, ..plan }
    }),
    scenario("drip", "10 % of the peers have a tenth of the uplink", 1.15, || {
        let plan = small();
        Plan { links: crate::plan::Links { mix: Mix::Uplinks, ..plan.links }, ..plan }
    }),
    scenario("tasks", "60 hosts want four tasks of 64 pieces at once", 1.15, || Plan {
        tasks: 4,
        driver: Driver::Full,
        ..Plan::new(60, 64)
    }),
    scenario(
        "connections",
        "16 peers, 32 pieces from a source no faster than they, over three connections",
        1.0,
        || connections(3),
    ),
    scenario("abreast", "16 peers, 32 pieces from a source no faster than they, jitter 30 %", 1.10, || Plan {
        jitter_percent: 30,
        ..connections(1)
    }),
    scenario("orphans", "the only seed dies after 30 piece times; the swarm fetches the rest itself", 1.40, || Plan {
        seeds_die_after: Some(30.0),
        ..small()
    }),
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

fn herd() -> Plan {
    Plan { driver: Driver::Full, ..Plan::new(1000, 256) }
}

fn symmetric() -> Plan {
    let plan = herd();
    Plan { links: crate::plan::Links { down: 1.0, ..plan.links }, ..plan }
}

/// A source no faster than a host, asked over so many connections at once: pieces come from it more slowly
/// than hosts can pass them on.
pub fn connections(connections: usize) -> Plan {
    let plan = Plan::new(16, 32);
    let links = crate::plan::Links { down: 1.0, seed_down: 1.0, source_up: 1.0, connections, ..plan.links };
    Plan { driver: Driver::Full, links, jitter_percent: 0, rtt: 0.02, ..plan }
}

fn small() -> Plan {
    Plan { driver: Driver::Full, ..Plan::new(200, 128) }
}

/// A small swarm with everything drawn from `seed`: sizes, links, flaws, arrivals, knobs. What must
/// hold of each is in [`oracle`](crate::oracle).
pub fn drawn(seed: u64) -> Plan {
    let mut rng = df_core::rng::Rng::new(seed).fork("scenario");
    let mut plan = Plan::new(rng.between(2, 24) as u32, rng.between(1, 48) as u32);
    plan.seed = seed;
    plan.driver = Driver::Full;
    plan.seeds = rng.between(1, 3) as u32;
    plan.tasks = if rng.chance(1, 4) { rng.between(2, 4) as u32 } else { 1 };
    plan.zones = if rng.chance(1, 3) { rng.between(2, 4) as u32 } else { 1 };
    plan.rtt = [0.01, 0.1, 0.5, 2.0][rng.index(4)];
    plan.jitter_percent = [0, 30, 80][rng.index(3)];
    plan.links.down = [0.5, 1.0, 2.0, 8.0][rng.index(4)];
    plan.links.mix = if rng.chance(1, 4) { Mix::Both } else { Mix::Equal };
    plan.is_in_order = rng.chance(1, 4);
    plan.upload_limit = rng.between(1, 4) as u32;
    plan.download_limit = rng.between(1, 4) as u32;
    plan.piece_us = [20_000, 400_000][rng.index(2)];
    plan.arrivals = match rng.below(3) {
        0 => Arrivals::Staggered(rng.between(1, 40) as f64),
        1 => Arrivals::Late(rng.between(10, 60) as u32),
        _ => Arrivals::Herd,
    };
    let mut flaw = |chance: u64, limit: u64| if rng.chance(1, chance) { rng.between(1, limit) as u32 } else { 0 };
    plan.flaws = Flaws {
        leaving_percent: flaw(3, 40),
        lying_percent: flaw(3, 15),
        stalling_percent: flaw(3, 15),
        slandering_percent: flaw(4, 10),
        broken_percent: flaw(4, 10),
    };
    let bound = plan.bound();
    plan.seeds_die_after = rng.chance(1, 5).then(|| bound * rng.below(100) as f64 / 100.0);
    plan.config = SchedulerConfig {
        relay_depth_limit: [0, 2, 24][rng.index(3)],
        fills_slots: rng.chance(1, 2),
        zone_escape: Duration::from_millis(rng.between(500, 5_000)),
        sweep_interval: Duration::from_millis(rng.between(50, 500)),
        ..SchedulerConfig::default()
    };
    plan
}

#[cfg(test)]
mod tests {
    use super::{SCENARIOS, named};

    #[test]
    fn every_name_leads_to_one_scenario() {
        for scenario in SCENARIOS {
            assert_eq!(named(scenario.name).map(|found| found.about), Some(scenario.about));
        }
        assert!(named("nothing").is_none());
    }
}
