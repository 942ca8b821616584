//! What the parts of the core cost, one operation each.
#![allow(missing_docs, reason = "criterion's macros make public items without")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use df_bench::{content, piece};
use df_core::blacklist::{Blacklist, BlacklistPolicy, HARD_FAILURE, SOFT_FAILURE};
use df_core::hash_ring::HashRing;
use df_core::id::TaskId;
use df_core::piece::{Availability, Order, PieceSet, Selector};
use df_core::rng::Rng;
use df_core::time::{Duration, Instant};
use df_core::token_bucket::TokenBucket;

const PIECES: [u32; 4] = [64, 256, 1024, 4096];

fn piece_set(c: &mut Criterion) {
    let mut group = c.benchmark_group("PieceSet");
    for pieces in PIECES {
        let content = content(pieces);
        let mut rng = Rng::new(1);
        let set: PieceSet = content.pieces().filter(|_| rng.chance(1, 2)).collect();
        group.bench_function(BenchmarkId::new("insert and remove", pieces), |b| {
            let mut set = set.clone();
            b.iter(|| {
                let piece = piece(&content, rng.below(u64::from(pieces)) as u32);
                set.insert(piece) || set.remove(piece)
            });
        });
        group.bench_function(BenchmarkId::new("iterate", pieces), |b| b.iter(|| black_box(&set).iter().count()));
    }
    group.finish();
}

fn availability(c: &mut Criterion) {
    let mut group = c.benchmark_group("Availability");
    for pieces in PIECES {
        let content = content(pieces);
        let mut rng = Rng::new(1);
        let mut availability = Availability::new(pieces);
        for _ in 0..u64::from(pieces) * 100 {
            availability.add(piece(&content, rng.below(u64::from(pieces)) as u32));
        }
        group.bench_function(BenchmarkId::new("add and remove", pieces), |b| {
            b.iter(|| {
                let piece = piece(&content, rng.below(u64::from(pieces)) as u32);
                availability.add(piece);
                availability.remove(piece);
            });
        });
        let candidates: PieceSet = content.pieces().filter(|_| rng.chance(1, 2)).collect();
        group.bench_function(BenchmarkId::new("choose the rarest of half", pieces), |b| {
            let selector = Selector { near: pieces / 2, coin: true, order: Order::RarestFirst, common: 0 };
            b.iter(|| selector.choose(&availability, black_box(candidates.words())));
        });
    }
    group.finish();
}

fn ring(c: &mut Criterion) {
    for nodes in [3, 30] {
        let ring = HashRing::new((0..nodes).map(|node| format!("10.0.0.{node}:8002")));
        let mut rng = Rng::new(1);
        c.bench_function(&format!("HashRing/owner among {nodes}"), |b| {
            b.iter(|| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
                ring.owner(&TaskId::from_bytes(id)).map(str::len)
            });
        });
    }
}

fn bucket(c: &mut Criterion) {
    let mut bucket = TokenBucket::new(Instant::ZERO, Some(1 << 30), 1 << 20);
    let mut now = Instant::ZERO;
    c.bench_function("TokenBucket/try_take", |b| {
        b.iter(|| {
            now += Duration::from_micros(10);
            bucket.try_take(now, black_box(16_384))
        });
    });
}

fn blacklist(c: &mut Criterion) {
    let mut rng = Rng::new(1);
    let mut list: Blacklist<u32, u32> = Blacklist::new(BlacklistPolicy::LOCAL);
    for whom in 0..1000 {
        list.accuse(Instant::ZERO, 0, whom, if whom % 10 == 0 { HARD_FAILURE } else { SOFT_FAILURE });
    }
    c.bench_function("Blacklist/is_listed among 1000", |b| {
        b.iter(|| list.is_listed(Instant::from_micros(1), rng.below(1000) as u32));
    });
    c.bench_function("Blacklist/accuse and vouch among 1000", |b| {
        b.iter(|| {
            let whom = rng.below(1000) as u32;
            list.accuse(Instant::from_micros(1), 1, whom, SOFT_FAILURE);
            list.vouch(Instant::from_micros(1), 1, whom);
        });
    });
}

criterion_group!(benches, piece_set, availability, ring, bucket, blacklist);
criterion_main!(benches);
