//! Properties of the parts against simple models.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use df_core::hash_ring::HashRing;
use df_core::id::TaskId;
use df_core::piece::{Availability, Order, PieceNumber, PiecePlan, PieceSet, Selector};
use df_core::time::{Duration, Instant};
use df_core::token_bucket::{TokenBucket, try_take_all};
use df_core::upload_slots::{SlotLimits, UploadSlots};
use proptest::prelude::*;

const PIECES: u32 = 150;

fn plan() -> PiecePlan {
    PiecePlan::with_piece_len(u64::from(PIECES), 1).unwrap()
}

fn piece(number: u32) -> PieceNumber {
    plan().number(number).unwrap()
}

proptest! {
    #[test]
    fn a_plan_tiles_any_content(len in 0_u64..1 << 40, piece_len in (1_u64 << 18)..(1 << 30)) {
        let plan = PiecePlan::with_piece_len(len, piece_len).unwrap();
        let count = plan.count().unwrap();
        prop_assert_eq!(plan.pieces().next_back().map_or(0, |last| plan.range(last).end()), len);
        prop_assert!(plan.number(count).is_none());
        if let Some(last) = plan.pieces().next_back() {
            prop_assert!((1..=piece_len).contains(&plan.range(last).len));
            prop_assert_eq!(plan.range(last).start, u64::from(count - 1) * piece_len);
        }
    }

    #[test]
    fn a_piece_set_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..PIECES), 0..200)) {
        let (mut set, mut model) = (PieceSet::new(), BTreeSet::new());
        for (adds, number) in steps {
            if adds {
                prop_assert_eq!(set.insert(piece(number)), model.insert(number));
            } else {
                prop_assert_eq!(set.remove(piece(number)), model.remove(&number));
            }
        }
        prop_assert_eq!(set.len() as usize, model.len());
        prop_assert!(set.iter().map(PieceNumber::get).eq(model.iter().copied()));
        let missing: Vec<u32> = set.missing(&plan()).map(PieceNumber::get).collect();
        prop_assert!(missing.iter().copied().eq((0..PIECES).filter(|n| !model.contains(n))));
        prop_assert_eq!(set.contiguous(), (0..PIECES).find(|n| !model.contains(n)).unwrap_or(PIECES));
        prop_assert_eq!(PieceSet::from_bytes(&set.to_bytes(), &plan()), Some(set));
    }

    #[test]
    fn foreign_bytes_never_make_a_set_the_plan_does_not_allow(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(set) = PieceSet::from_bytes(&bytes, &plan()) {
            prop_assert!(set.iter().all(|piece| piece.get() < PIECES));
        }
    }

    #[test]
    fn availability_counts_and_sorts(
        first in 1..PIECES,
        steps in prop::collection::vec((any::<bool>(), 0..PIECES), 0..300),
    ) {
        let mut availability = Availability::new(first);
        let mut model: BTreeMap<u32, u32> = BTreeMap::new();
        for (adds, number) in steps {
            availability.grow(number + 1);
            let copies = model.entry(number).or_default();
            if adds {
                *copies += 1;
                availability.add(piece(number));
            } else if *copies > 0 {
                *copies -= 1;
                availability.remove(piece(number));
            }
            availability.check_invariants();
        }
        for number in 0..availability.count() {
            prop_assert_eq!(availability.copies(piece(number)), model.get(&number).copied().unwrap_or(0));
        }
        let fewest = (0..availability.count()).map(|n| availability.copies(piece(n))).min();
        prop_assert_eq!(Some(availability.fewest()), fewest);
    }

    #[test]
    fn nothing_rarer_or_nearer_than_the_chosen_piece_is_left(
        copies in prop::collection::vec(1_u32..5, PIECES as usize),
        offered in prop::collection::btree_set(0..PIECES, 1..40),
        near in 0..PIECES,
        coin in any::<bool>(),
    ) {
        let mut availability = Availability::new(PIECES);
        for (number, copies) in copies.iter().enumerate() {
            (0..*copies).for_each(|_| availability.add(piece(number as u32)));
        }
        let set: PieceSet = offered.iter().map(|n| piece(*n)).collect();
        let selector = Selector { near, coin, order: Order::RarestFirst, common: 0 };
        let chosen = selector.choose(&availability, set.words()).unwrap();
        let key = |n: u32| (copies[n as usize], n.abs_diff(near));
        prop_assert!(offered.iter().all(|n| key(*n) >= key(chosen.get())));
        prop_assert!(offered.contains(&chosen.get()));
    }

    #[test]
    fn a_hierarchy_keeps_every_rate_over_every_window_though_rates_change(
        host in limit(), tasks in prop::collection::vec(limit(), 1..6),
        requests in prop::collection::vec((0_usize..6, 0_u64..200_000, 1_u64..20_000), 1..60),
        changes in prop::collection::vec((0_usize..7, 0_u64..4_000_000, 500_u64..200_000), 0..6),
    ) {
        let mut hierarchy = Hierarchy::new(host, &tasks);
        hierarchy.run(&requests, changes);
        hierarchy.buckets.iter().for_each(Bucket::check);
        let passed: usize = hierarchy.buckets[0].passed.len();
        prop_assert_eq!(passed, requests.len(), "everything passes in the end");
    }

    #[test]
    fn a_bucket_wastes_nothing(rate in 1_000_u64..1_000_000, sizes in prop::collection::vec(1_u64..10_000, 1..50)) {
        let mut bucket = TokenBucket::new(Instant::ZERO, Some(rate), 0);
        let mut now = Instant::ZERO;
        for bytes in &sizes {
            now = bucket.ready_at(now);
            prop_assert_eq!(bucket.try_take(now, *bytes), Ok(()));
        }
        let total: u64 = sizes.iter().sum();
        // Instants are whole microseconds, rounded up.
        let (paid, least) = (u128::from(bucket.ready_at(now).as_micros()), u128::from(total) * 1_000_000);
        let least = least.div_ceil(rate.into());
        prop_assert!((least..=least + sizes.len() as u128).contains(&paid), "{paid} µs for {total} bytes");
    }

    #[test]
    fn slots_are_never_exceeded_and_never_lost(
        steps in prop::collection::vec((0_u8..4, 0_u8..5), 0..200),
        slot_limit in 1_u32..6,
        per_child_limit in 1_u32..4,
    ) {
        let limits = SlotLimits { slot_limit, per_child_limit, lease_term: Duration::from_secs(10) };
        let mut slots = UploadSlots::new(limits);
        let mut now = Instant::ZERO;
        let mut held: Vec<(u8, df_core::upload_slots::SlotLease, Instant)> = Vec::new();
        for (step, child) in steps {
            now += Duration::from_secs(1);
            match step {
                0 | 1 => {
                    if let Some(lease) = slots.try_acquire(now, child) {
                        held.push((child, lease, now + limits.lease_term));
                    }
                }
                2 if !held.is_empty() => {
                    let (_, lease, _) = held.remove(usize::from(child) % held.len());
                    prop_assert!(slots.release(lease));
                }
                _ => {
                    let expired: Vec<_> = held.iter().filter(|h| h.2 <= now).map(|h| h.1).collect();
                    prop_assert_eq!(slots.expire(now), expired);
                    held.retain(|h| h.2 > now);
                }
            }
            prop_assert_eq!(slots.in_use() as usize, held.len());
            prop_assert!(slots.in_use() <= slot_limit);
            for child in 0..5 {
                let uses = held.iter().filter(|h| h.0 == child).count();
                prop_assert!(uses <= per_child_limit as usize);
            }
        }
    }

    #[test]
    fn a_ring_moves_only_the_tasks_of_the_node_it_loses(
        names in prop::collection::btree_set("[a-z]{1,8}:[0-9]{2,4}", 2..8),
        ids in prop::collection::vec(any::<[u8; 32]>(), 1..50),
        lost in 0_usize..8,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let lost = &names[lost % names.len()];
        let all = HashRing::new(names.iter().cloned());
        let rest = HashRing::new(names.iter().filter(|name| *name != lost).cloned());
        for id in ids {
            let task = TaskId::from_bytes(id);
            let before = all.owner(&task).unwrap();
            prop_assert!(before == lost || rest.owner(&task) == Some(before));
            prop_assert_eq!(all.owners(&task).count(), names.len());
        }
    }
}

/// A rate in bytes per second, and a burst in bytes.
fn limit() -> impl Strategy<Value = (u64, u64)> {
    (500_u64..200_000, 0_u64..50_000)
}

/// A bucket, and what its limit promises: all that passed, and since when each rate held.
struct Bucket {
    bucket: TokenBucket,
    burst: u64,
    rates: Vec<(u64, u64)>,
    passed: Vec<(u64, u64)>,
}

impl Bucket {
    fn new((rate, burst): (u64, u64)) -> Self {
        let bucket = TokenBucket::new(Instant::ZERO, Some(rate), burst);
        Self { bucket, burst, rates: vec![(0, rate)], passed: Vec::new() }
    }

    /// Millionths of bytes that the rates allow in a window, without burst and request.
    fn allowed(&self, from: u64, to: u64) -> u128 {
        let ends = self.rates.iter().skip(1).map(|(since, _)| *since).chain([u64::MAX]);
        let parts = self.rates.iter().zip(ends).map(|((since, rate), end)| {
            let inside = end.min(to).saturating_sub(from.max(*since));
            u128::from(inside) * u128::from(*rate)
        });
        parts.sum()
    }

    /// Over every window: bytes ≤ rate × window + burst + one request.
    fn check(&self) {
        for (at, (from, _)) in self.passed.iter().enumerate() {
            let (mut sum, mut largest) = (0, 0);
            for (to, bytes) in &self.passed[at..] {
                sum += bytes;
                largest = largest.max(*bytes);
                let allowed = self.allowed(*from, *to) + u128::from(self.burst + largest) * 1_000_000;
                assert!(u128::from(sum) * 1_000_000 <= allowed, "{sum} bytes from {from} to {to} µs");
            }
        }
    }
}

/// A host's bucket and those of its tasks, and those whose turn it is.
struct Hierarchy {
    buckets: Vec<Bucket>,
    now: u64,
}

impl Hierarchy {
    fn new(host: (u64, u64), tasks: &[(u64, u64)]) -> Self {
        Self { buckets: [host].iter().chain(tasks).copied().map(Bucket::new).collect(), now: 0 }
    }

    /// Each request (task, after a pause, bytes) waits at most for those of its own task and for its turn at the
    /// host; each change (bucket, at, rate) happens on time.
    fn run(&mut self, requests: &[(usize, u64, u64)], mut changes: Vec<(usize, u64, u64)>) {
        changes.sort_by_key(|(_, at, _)| *at);
        let mut queues = vec![VecDeque::new(); self.buckets.len()];
        let mut arrival = 0;
        for (task, pause, bytes) in requests {
            arrival += pause;
            queues[1 + task % (self.buckets.len() - 1)].push_back((arrival, *bytes));
        }
        let mut changes = changes.into_iter().peekable();
        while queues.iter().any(|queue| !queue.is_empty()) {
            while let Some((which, _, rate)) = changes.next_if(|(_, at, _)| *at <= self.now) {
                let bucket = which % self.buckets.len();
                self.buckets[bucket].rates.push((self.now, rate));
                self.buckets[bucket].bucket.set_rate(Instant::from_micros(self.now), Some(rate));
            }
            let tries = (1..queues.len()).filter_map(|task| self.try_first(task, &mut queues[task]));
            let next = tries.min().unwrap_or(u64::MAX);
            self.now = changes.peek().map_or(next, |(_, at, _)| next.min(*at)).max(self.now);
        }
    }

    /// Lets what it can of a task's queue pass; answers when to try again.
    fn try_first(&mut self, task: usize, queue: &mut VecDeque<(u64, u64)>) -> Option<u64> {
        while let Some((arrival, bytes)) = queue.front().copied() {
            if self.now < arrival {
                return Some(arrival);
            }
            let [host, task] = self.buckets.get_disjoint_mut([0, task]).unwrap();
            let now = Instant::from_micros(self.now);
            if let Err(at) = try_take_all(&mut [&mut task.bucket, &mut host.bucket], now, bytes) {
                return Some(at.as_micros());
            }
            [host, task].into_iter().for_each(|bucket| bucket.passed.push((self.now, bytes)));
            queue.pop_front();
        }
        None
    }
}
