//! Drawn swarms and determinism.

use std::process::Command;

use df_sim::des::lean::{Lean, Tape};
use df_sim::plan::{Flaws, Plan};
use df_sim::{des, oracle, scenario};

/// The invariants of all machines are checked after each of their steps.
#[test]
fn small_swarms_with_everything_drawn_end_well() {
    for seed in 1_000..1_060 {
        let plan = scenario::drawn(seed);
        let outcome = des::run(plan.clone(), |_, _| {});
        assert_eq!(oracle::verdict(&plan, &outcome), Vec::<String>::new(), "seed {seed}: {plan:?}");
    }
}

/// What a process of its own prints.
fn printed(flags: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_df-sim")).args(flags).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn two_processes_with_the_same_seed_do_the_same() {
    let hash = |seed: &str| printed(&["--faults", "5", "--seed", seed]);
    assert_eq!(hash("1"), hash("1"));
    assert_ne!(hash("1"), hash("2"));
}

#[test]
fn they_do_the_same_whoever_drives_and_decides() {
    let swarm = ["--scenario", "staggered", "--peers", "40", "--pieces", "16", "--churn", "10", "--json"];
    for how in [["--driver", "full"], ["--driver", "lean"], ["--policy", "v1"], ["--policy", "random"]] {
        let hash = |seed: &str| {
            let line = printed(&[&swarm[..], &how[..], &["--seed", seed]].concat());
            let outcome: serde_json::Value = serde_json::from_str(&line).unwrap();
            outcome["trace_hash"].as_str().unwrap().to_owned()
        };
        assert_eq!(hash("1"), hash("1"), "{how:?}");
        assert_ne!(hash("1"), hash("2"), "{how:?}");
    }
}

/// `liars` with fewer peers and pieces.
#[test]
fn all_who_lie_or_stall_are_listed_and_nobody_else() {
    let plan = Plan { peers: 200, pieces: 128, ..scenario::named("liars").unwrap().plan() };
    let faulty = plan.peers * (plan.flaws.lying_percent + plan.flaws.stalling_percent) / 100;
    for seed in 1..=2 {
        let outcome = des::run(Plan { seed, ..plan.clone() }, |_, _| {});
        let listed = (outcome.faulty_listed, outcome.honest_listed, outcome.unfinished);
        assert_eq!(listed, (faulty, 0, 0), "{outcome:?}");
    }
}

#[test]
fn an_unknown_scenario_is_refused_with_a_hint() {
    let output = Command::new(env!("CARGO_BIN_EXE_df-sim")).args(["--scenario", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--scenario list"));
}

/// What a run told its scheduler makes the same grants a second time: the core depends on nothing else.
#[test]
fn a_scheduler_that_is_told_the_same_grants_the_same() {
    let plan = Plan { flaws: Flaws { lying_percent: 5, leaving_percent: 10, ..Flaws::default() }, ..Plan::new(80, 24) };
    let run = Lean::new(plan.clone()).run(|_, _| {});
    assert_eq!(Tape::of(plan, |_, _| {}).play().0, run.grants);
}
