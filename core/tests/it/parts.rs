//! Properties of the parts against simple models.

use std::collections::{BTreeMap, BTreeSet};

use df_core::hash_ring::HashRing;
use df_core::id::TaskId;
use df_core::piece::{Availability, Order, PieceNumber, PiecePlan, PieceSet, Selector};
use df_core::time::{Duration, Instant};
use df_core::token_bucket::{TokenBucket, reserve_all};
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
        let selector = Selector { near, coin, order: Order::RarestFirst };
        let chosen = selector.choose(&availability, set.words()).unwrap();
        let key = |n: u32| (copies[n as usize], n.abs_diff(near));
        prop_assert!(offered.iter().all(|n| key(*n) >= key(chosen.get())));
        prop_assert!(offered.contains(&chosen.get()));
    }

    /// Over every window: bytes ≤ rate × window + burst + one request, to the microsecond.
    #[test]
    fn a_bucket_keeps_its_rate_over_every_window(
        rate in 1_u64..10_000_000,
        burst in 0_u64..100_000,
        requests in prop::collection::vec((0_u64..200_000, 1_u64..50_000), 1..60),
    ) {
        let mut bucket = TokenBucket::new(Instant::ZERO, Some(rate), burst);
        let mut now = Instant::ZERO;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (pause, bytes) in requests {
            now += Duration::from_micros(pause);
            passed.push((bucket.reserve(now, bytes).as_micros(), bytes));
        }
        prop_assert!(passed.windows(2).all(|w| w[0].0 <= w[1].0), "in the order of asking");
        for from in 0..passed.len() {
            let mut sum = 0_u128;
            let mut largest = 0_u128;
            for to in from..passed.len() {
                sum += u128::from(passed[to].1);
                largest = largest.max(passed[to].1.into());
                // Instants are whole microseconds, rounded up.
                let window = u128::from(passed[to].0 - passed[from].0) + 1;
                let allowed = u128::from(rate) * window + (u128::from(burst) + largest) * 1_000_000;
                prop_assert!(sum * 1_000_000 <= allowed, "{sum} bytes in {window} µs");
            }
        }
    }

    #[test]
    fn a_rate_changed_live_holds_from_then_on_and_what_waits_is_not_forgotten(
        first in 1_000_u64..1_000_000,
        second in 1_000_u64..1_000_000,
        sizes in prop::collection::vec(1_u64..10_000, 1..60),
        change in 0_usize..60,
    ) {
        let mut bucket = TokenBucket::new(Instant::ZERO, Some(first), 0);
        let change = change.min(sizes.len());
        let owed = sizes[..change].iter().fold(Instant::ZERO, |_, bytes| bucket.reserve(Instant::ZERO, *bytes));
        bucket.set_rate(Instant::ZERO, Some(second));
        let last = sizes[change..].iter().fold(owed, |_, bytes| bucket.reserve(Instant::ZERO, *bytes));
        let total: u64 = if change == sizes.len() { 0 } else { sizes.iter().sum() };
        let allowed = u128::from(second) * u128::from(last.as_micros());
        // All that was asked for, before and after, is paid for at the new rate, to the microsecond.
        prop_assert!(u128::from(total) * 1_000_000 <= allowed + u128::from(second) * 2);
    }

    #[test]
    fn a_bucket_wastes_nothing(rate in 1_000_u64..1_000_000, sizes in prop::collection::vec(1_u64..10_000, 1..50)) {
        let mut bucket = TokenBucket::new(Instant::ZERO, Some(rate), 0);
        let total: u64 = sizes.iter().sum();
        let end = sizes.iter().fold(Instant::ZERO, |_, bytes| bucket.reserve(Instant::ZERO, *bytes));
        prop_assert_eq!(u128::from(end.as_micros()), (u128::from(total) * 1_000_000).div_ceil(rate.into()));
    }

    #[test]
    fn a_hierarchy_is_as_strict_as_each_of_its_buckets(
        rates in prop::collection::vec(1_000_u64..100_000, 1..4),
        sizes in prop::collection::vec(1_u64..5_000, 1..30),
    ) {
        let mut buckets: Vec<TokenBucket> =
            rates.iter().map(|rate| TokenBucket::new(Instant::ZERO, Some(*rate), 0)).collect();
        let slowest = rates.iter().copied().min().unwrap();
        let mut alone = TokenBucket::new(Instant::ZERO, Some(slowest), 0);
        for bytes in sizes {
            prop_assert_eq!(
                reserve_all(&mut buckets, Instant::ZERO, bytes),
                alone.reserve(Instant::ZERO, bytes)
            );
        }
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
