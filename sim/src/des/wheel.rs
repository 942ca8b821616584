//! The queue of what is going to happen: a wheel of time buckets, in exact order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Buckets of the wheel.
const BUCKETS: usize = 1024;

/// Events by time; those of the same microsecond in the order they were added.
///
/// A wheel of buckets costs constant time for each event where a heap over all of them would cost
/// the logarithm of their number and a cache miss for each level. A bucket is sorted when its time
/// comes; only what is added to it after that goes into a heap.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// Microseconds a bucket covers, as a power of two.
    shift: u32,
    buckets: Vec<Vec<Timed<T>>>,
    /// The bucket number (since time 0) that is open.
    open: u64,
    /// What is left of it, the first last.
    current: Vec<Timed<T>>,
    /// What came into it since it was opened.
    fresh: BinaryHeap<Timed<T>>,
    /// What lies further ahead than one turn of the wheel.
    far: Vec<Timed<T>>,
    /// The earliest bucket number in `far`.
    far_from: u64,
    added: u64,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Timed<T> {
    at: u64,
    order: u64,
    what: T,
}

impl<T> PartialEq for Timed<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<T> Eq for Timed<T> {}
impl<T> PartialOrd for Timed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Timed<T> {
    /// The earliest is the greatest: what a heap gives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> Wheel<T> {
    /// An empty queue whose wheel turns once in about `turn_us` microseconds: choose it so that most
    /// events lie no further ahead.
    pub(crate) fn new(turn_us: u64) -> Self {
        let bucket_us = (turn_us / BUCKETS as u64).max(1);
        Self {
            shift: bucket_us.next_power_of_two().trailing_zeros(),
            buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
            open: 0,
            current: Vec::new(),
            fresh: BinaryHeap::new(),
            far: Vec::new(),
            far_from: u64::MAX,
            added: 0,
            len: 0,
        }
    }

    /// `what` happens at `at` microseconds; at once if that is past.
    pub(crate) fn add(&mut self, at: u64, what: T) {
        let timed = Timed { at, order: self.added, what };
        self.added += 1;
        self.len += 1;
        self.place(timed);
    }

    fn place(&mut self, timed: Timed<T>) {
        let bucket = timed.at >> self.shift;
        if bucket <= self.open {
            self.fresh.push(timed);
        } else if bucket - self.open < BUCKETS as u64 {
            self.buckets[bucket as usize % BUCKETS].push(timed);
        } else {
            self.far_from = self.far_from.min(bucket);
            self.far.push(timed);
        }
    }

    /// Takes the next event with its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        self.open_next();
        let is_fresh = self.fresh.peek() > self.current.last();
        let first = if is_fresh { self.fresh.pop() } else { self.current.pop() };
        self.len -= usize::from(first.is_some());
        first.map(|timed| (timed.at, timed.what))
    }

    /// When the next event happens.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        self.open_next();
        self.fresh.peek().max(self.current.last()).map(|timed| timed.at)
    }

    /// Opens the first bucket with something in it, unless what is open has something left.
    fn open_next(&mut self) {
        while self.current.is_empty() && self.fresh.is_empty() {
            if self.len == 0 {
                return;
            }
            if self.len == self.far.len() {
                self.open = self.far_from; // Nothing nearer: no need to turn through the void.
            } else {
                self.open += 1;
            }
            if self.open + BUCKETS as u64 > self.far_from {
                self.bring_near();
            }
            std::mem::swap(&mut self.current, &mut self.buckets[self.open as usize % BUCKETS]);
            self.current.sort_unstable();
        }
    }

    /// The event that comes after `nth` others, if these are in order already; others may come between.
    pub(crate) fn upcoming(&self, nth: usize) -> Option<&T> {
        let at = self.current.len().checked_sub(nth + 1)?;
        Some(&self.current[at].what)
    }

    fn bring_near(&mut self) {
        self.far_from = u64::MAX;
        for timed in std::mem::take(&mut self.far) {
            self.place(timed);
        }
    }
}

#[cfg(test)]
mod tests {
    use df_core::rng::Rng;

    use super::Wheel;

    #[test]
    fn events_come_in_order_of_time_then_of_adding() {
        let mut wheel = Wheel::new(100_000);
        let mut rng = Rng::new(7);
        let mut model: Vec<(u64, u32)> = Vec::new();
        let (mut now, mut number) = (0, 0);
        for round in 0..3_000 {
            for _ in 0..3 {
                let ahead = if rng.chance(1, 50) { rng.below(2_000_000) } else { rng.below(3_000) / 7 * 7 };
                wheel.add(now + ahead, number);
                model.push((now + ahead, number));
                number += 1;
            }
            for _ in 0..if round % 2 == 0 { 1 } else { 5 } {
                let Some((at, what)) = wheel.pop() else { break };
                let first = *model.iter().min().unwrap();
                assert_eq!((at, what), first);
                model.retain(|event| *event != first);
                now = at;
            }
            assert_eq!(wheel.len, model.len());
        }
    }
}
