//! The simulator's command line: `cargo xtask sim` runs it.

use clap::Parser;
use df_sim::des::lean::Lean;
use df_sim::plan::Plan;

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
    let out = Lean::new(plan).run(|_, _| {});
    println!("{}", serde_json::to_string_pretty(&out).unwrap());
}
