//! A run from the source cut into stretches, one request each, for the connections that share it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use df_core::piece::PiecePlan;

use crate::sync::lock;

/// The first request asks for so many bytes, before the length of the content is known.
pub(super) const FIRST_LEN: u64 = 32 << 20;

/// No stretch is shorter, if so much is left: each costs a round trip.
const LEAST_LEN: u64 = 16 << 20;

/// What a connection that is only tried asks for: where it brings nothing, pieces come at half the
/// speed meanwhile, and those who wait for them wait longer.
const TRIAL_LEN: u64 = 4 << 20;

/// Consecutive pieces for one connection: `from..to`, and `u32::MAX` for the end of the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) from: u32,
    pub(super) to: u32,
}

/// What is left of a run. Its end can be moved while it is being read.
#[derive(Debug)]
pub(super) struct Stretches {
    /// First piece that no connection has taken.
    next: Mutex<u32>,
    /// Piece after the last of the run; `u32::MAX` for the end of the content.
    end: std::sync::Arc<AtomicU32>,
}

impl Stretches {
    /// A run from piece `from` on, of which nothing has been taken.
    pub(super) const fn new(from: u32, end: std::sync::Arc<AtomicU32>) -> Self {
        Self { next: Mutex::new(from), end }
    }

    /// Piece after the last of the run, as it is now.
    pub(super) fn end(&self) -> u32 {
        self.end.load(Ordering::Relaxed)
    }

    /// Takes all there is: before the content's length is known, or from a source without ranges.
    pub(super) fn take_all(&self) -> Stretch {
        let from = std::mem::replace(&mut *lock(&self.next), u32::MAX);
        Stretch { from, to: u32::MAX }
    }

    /// Gives back what `taken` has beyond its first `bytes`, now that the pieces are known; what is
    /// left is `taken`.
    pub(super) fn give_back(&self, taken: Stretch, plan: &PiecePlan, bytes: u64) -> Stretch {
        let to = taken.from.saturating_add(pieces(plan, bytes)).min(taken.to);
        let mut next = lock(&self.next);
        *next = (*next).min(to);
        Stretch { from: taken.from, to }
    }

    /// Takes the next stretch: a part of what is left such that `lanes` connections end at about the
    /// same time (guided self-scheduling, Polychronopoulos and Kuck 1987). None when all is taken.
    pub(super) fn take(&self, plan: &PiecePlan, lanes: u32) -> Option<Stretch> {
        self.take_part(plan, LEAST_LEN, |left| left / (2 * lanes.max(1)))
    }

    /// Takes a short stretch, for a connection that is only tried.
    pub(super) fn take_trial(&self, plan: &PiecePlan) -> Option<Stretch> {
        self.take_part(plan, TRIAL_LEN, |_| 0)
    }

    fn take_part(&self, plan: &PiecePlan, least_len: u64, part: impl FnOnce(u32) -> u32) -> Option<Stretch> {
        let mut next = lock(&self.next);
        let end = self.end().min(plan.count().unwrap_or(u32::MAX));
        let left = end.checked_sub(*next).filter(|left| *left > 0)?;
        let share = part(left).max(pieces(plan, least_len)).min(left);
        let stretch = Stretch { from: *next, to: *next + share };
        *next = stretch.to;
        Some(stretch)
    }
}

/// How many pieces hold `bytes` bytes, at least one.
fn pieces(plan: &PiecePlan, bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(plan.piece_len().max(1))).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(end: u32) -> Stretches {
        Stretches::new(0, std::sync::Arc::new(AtomicU32::new(end)))
    }

    /// 64 pieces of 4 MiB.
    fn plan() -> PiecePlan {
        PiecePlan::with_piece_len(256 << 20, 4 << 20).unwrap()
    }

    #[test]
    fn stretches_cover_the_run_once_and_get_shorter() {
        let run = stretches(u32::MAX);
        let first = run.give_back(run.take_all(), &plan(), FIRST_LEN);
        assert_eq!(first, Stretch { from: 0, to: 8 });
        let mut at = 8;
        let mut last = u32::MAX;
        while let Some(next) = run.take(&plan(), 2) {
            assert_eq!(next.from, at);
            assert!(next.to - next.from <= last);
            (at, last) = (next.to, next.to - next.from);
        }
        assert_eq!(at, 64);
    }

    #[test]
    fn nothing_is_left_of_a_run_taken_whole() {
        let run = stretches(u32::MAX);
        assert_eq!(run.take_all(), Stretch { from: 0, to: u32::MAX });
        assert_eq!(run.take(&plan(), 1), None);
    }

    #[test]
    fn an_end_moved_forward_is_kept() {
        let run = stretches(u32::MAX);
        run.give_back(run.take_all(), &plan(), FIRST_LEN);
        run.end.store(12, Ordering::Relaxed);
        assert_eq!(run.take(&plan(), 1), Some(Stretch { from: 8, to: 12 }));
        assert_eq!(run.take(&plan(), 1), None);
        run.end.store(4, Ordering::Relaxed);
        assert_eq!(run.take(&plan(), 1), None);
    }
}
