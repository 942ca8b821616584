//! What a peer costs a scheduler in memory, measured as criterion measures time.
#![allow(missing_docs, reason = "criterion's macros make public items without")]

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use df_sim::des::lean::Tape;
use df_sim::plan::Plan;

/// Peers and pieces.
const SIZES: &[(u32, u32)] = &[(100, 64), (100, 4096), (1000, 256), (10_000, 64), (10_000, 256)];

/// Bytes instead of seconds.
struct Bytes;

impl Measurement for Bytes {
    type Intermediate = ();
    /// A float: nothing runs, so criterion asks for as many iterations as it can count.
    type Value = f64;

    fn start(&self) {}

    fn end(&self, (): ()) -> f64 {
        unreachable!("every bench says itself what it used")
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, bytes: &f64) -> f64 {
        *bytes
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Bytes {
    fn scale_values(&self, _: f64, _: &mut [f64]) -> &'static str {
        "B"
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, _: &mut [f64]) -> &'static str {
        "B"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "B"
    }
}

/// The most a scheduler held at any time of a download by all, for each peer.
fn per_peer(c: &mut Criterion<Bytes>) {
    let mut group = c.benchmark_group("scheduler's bytes a peer");
    group.sample_size(10);
    for (peers, pieces) in SIZES.iter().copied() {
        let tape = Tape::of(Plan::new(peers, pieces), |_, _| {});
        let held = allocation_counter::measure(|| _ = tape.play()).bytes_max as f64 / f64::from(peers);
        group.bench_function(BenchmarkId::new(format!("{peers} peers"), pieces), |b| {
            b.iter_custom(|times| times as f64 * held);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Bytes);
    targets = per_peer
}
criterion_main!(benches);
