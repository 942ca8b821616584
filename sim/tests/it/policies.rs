//! Each policy against the same swarm without it.

use df_core::time::Duration;
use df_sim::des;
use df_sim::outcome::{Outcome, median};
use df_sim::plan::{Driver, Flaws, Links, Plan, Policy};

/// Sixty peers, 64 pieces, on the full driver.
fn swarm() -> Plan {
    Plan { driver: Driver::Full, ..Plan::new(60, 64) }
}

fn runs(plan: &Plan) -> Vec<Outcome> {
    (1..=3).map(|seed| des::run(Plan { seed, ..plan.clone() }, |_, _| {})).collect()
}

/// The median ratio to the bound of three seeds.
fn ratio(plan: &Plan) -> f64 {
    median(runs(plan).iter().map(|outcome| outcome.ratio))
}

#[test]
fn grants_end_earlier_than_pulling() {
    let granted = ratio(&swarm());
    let pulled = [Policy::V1, Policy::Random].map(|policy| ratio(&Plan { policy, ..swarm() }));
    assert!(granted < 1.12, "{granted}");
    assert!(pulled.iter().all(|other| granted + 0.05 < *other), "{granted} against {pulled:?}");
}

#[test]
fn passing_on_what_still_arrives_ends_earlier_than_storing_it_first() {
    let mut without = swarm();
    without.config.relay_depth_limit = 0;
    let (with, without) = (ratio(&swarm()), ratio(&without));
    assert!(with + 0.01 < without, "{with} against {without}");
}

#[test]
fn learning_how_many_transfers_pay_beats_using_all_slots_where_nothing_is_relayed() {
    let mut learning = Plan { links: Links { down: 1.0, ..swarm().links }, ..swarm() };
    learning.config.relay_depth_limit = 0;
    let mut all = learning.clone();
    all.config.fills_slots = true;
    let (learned, all) = (ratio(&learning), ratio(&all));
    assert!(learned + 0.02 < all, "{learned} against {all}");
}

#[test]
fn a_piece_crosses_into_a_zone_about_once_and_only_with_the_fence() {
    let zones = |zone_escape| {
        let mut plan = Plan { zones: 3, ..swarm() };
        plan.config.zone_escape = zone_escape;
        median(runs(&plan).iter().map(|outcome| outcome.cross_zone_percent))
    };
    let (fenced, open) = (zones(Duration::from_secs(4)), zones(Duration::ZERO));
    assert!(fenced < 8.0, "{fenced} %: two of sixty copies cross, and a few by escape");
    assert!(fenced < open, "{fenced} against {open}");
}

#[test]
fn liars_and_stallers_are_out_soon_and_everybody_finishes() {
    let flaws = Flaws { lying_percent: 5, stalling_percent: 5, ..Flaws::default() };
    for outcome in runs(&Plan { flaws, ..swarm() }) {
        assert_eq!((outcome.unfinished, outcome.honest_listed), (0, 0), "{outcome:?}");
        assert!(outcome.lies_of_worst <= 16, "{outcome:?}");
    }
}

#[test]
fn nobody_receives_a_piece_twice() {
    for outcome in runs(&swarm()) {
        assert!(outcome.duplicate_percent <= 1.0, "{outcome:?}");
        assert_eq!(outcome.source_copies, 1.0);
    }
}

#[test]
fn peers_with_slow_links_do_not_hold_the_others() {
    let links = Links { is_mixed: true, down: 4.0, ..swarm().links };
    for outcome in runs(&Plan { links, ..swarm() }) {
        assert_eq!(outcome.unfinished, 0, "{outcome:?}");
        assert!(outcome.median < outcome.makespan, "{outcome:?}");
    }
}
