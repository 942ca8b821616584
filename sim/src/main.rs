//! The simulator's command line: `cargo xtask sim` runs it.

use clap::Parser;
use df_sim::des;
use df_sim::plan::{Driver, Plan, Policy};

#[derive(Parser)]
struct Flags {
    #[arg(long, default_value_t = 1000)]
    peers: u32,
    #[arg(long, default_value_t = 256)]
    pieces: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 0)]
    relay: u32,
    #[arg(long, default_value_t = 2.0)]
    down: f64,
    #[arg(long, default_value_t = 1)]
    zones: u32,
    #[arg(long, default_value = "lean")]
    driver: Driver,
    #[arg(long, default_value = "granted")]
    policy: Policy,
    #[arg(long)]
    adapts: bool,
    #[arg(long, default_value_t = 1)]
    tasks: u32,
    #[arg(long, default_value_t = 0)]
    broken: u32,
    #[arg(long, default_value_t = 0)]
    slander: u32,
    #[arg(long)]
    mixed: bool,
    #[arg(long)]
    in_order: bool,
    #[arg(long, default_value_t = 0)]
    churn: u32,
    #[arg(long, default_value_t = 0)]
    lying: u32,
    #[arg(long, default_value_t = 0)]
    stalling: u32,
}

fn main() {
    let flags = Flags::parse();
    let mut plan = Plan::new(flags.peers, flags.pieces);
    plan.seed = flags.seed;
    plan.config.relay_depth_limit = flags.relay;
    plan.links.down = flags.down;
    plan.zones = flags.zones;
    plan.is_in_order = flags.in_order;
    plan.flaws.leaving_percent = flags.churn;
    plan.flaws.lying_percent = flags.lying;
    plan.flaws.stalling_percent = flags.stalling;
    plan.driver = flags.driver;
    plan.policy = flags.policy;
    plan.tasks = flags.tasks;
    plan.flaws.broken_percent = flags.broken;
    plan.flaws.slandering_percent = flags.slander;
    plan.links.is_mixed = flags.mixed;
    if flags.adapts || flags.driver == Driver::Full {
        plan.config.adapts_slots = true;
    }
    let out = des::run(plan, |_, _| {});
    println!("{}", serde_json::to_string_pretty(&out).unwrap());
}
