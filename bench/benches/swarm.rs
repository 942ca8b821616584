//! What whole swarms cost: the scheduler's decisions at many sizes, driven by the lean engine.
#![allow(missing_docs, reason = "criterion's macros make public items without")]

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use df_sim::des::lean::{Lean, Tape};
use df_sim::plan::Plan;

/// Peers and pieces; each is a whole download by everybody.
const SIZES: &[(u32, u32)] = &[
    (100, 64),
    (100, 256),
    (100, 4096),
    (1000, 64),
    (1000, 256),
    (1000, 1024),
    (10_000, 64),
    (10_000, 256),
    (100_000, 64),
];

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("grants");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (peers, pieces) in SIZES.iter().copied() {
        group.throughput(Throughput::Elements(u64::from(peers) * u64::from(pieces)));
        group.bench_function(BenchmarkId::new(format!("{peers} peers"), pieces), |b| {
            b.iter_batched(|| Lean::new(Plan::new(peers, pieces)), |lean| lean.run(|_, _| {}), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// The same decisions without the driver's part: the calls of a run, made once more.
fn core_alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (peers, pieces) in [(100, 256), (1000, 256), (10_000, 64), (10_000, 256)] {
        let tape = Tape::of(Plan::new(peers, pieces), |_, _| {});
        group.throughput(Throughput::Elements(u64::from(peers) * u64::from(pieces)));
        group.bench_function(BenchmarkId::new(format!("{peers} peers"), pieces), |b| b.iter(|| tape.play()));
    }
    group.finish();
}

criterion_group!(benches, decisions, core_alone);
criterion_main!(benches);
