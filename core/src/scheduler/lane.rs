//! One direction of a host's link: what it carries now, and what it has been seen to carry.

use core::num::NonZeroU32;

use crate::time::{Instant, micros};

/// A whole lane, in thousandths.
pub(super) const WHOLE: u32 = 1000;

/// A lane with at least this much unused has room for another transfer: widths are known no better.
/// With 300 links of equal width are overbooked, with 500 a host is left to two slow parents.
const SLACK: u32 = 400;

/// Transfers that take less than this overlap: one alone would leave the link idle for the control
/// round trip between two pieces.
const OVERLAP_BELOW_US: u64 = 100_000;

/// After so many transfers it is looked at how much was carried.
const WINDOW: u8 = 3;

/// One direction of a host's link.
///
/// One transfer at a time is best where it fills the link: two at half the rate each end later, on
/// average, and spread later. Where the other end is narrower, a transfer fills only a part, and more
/// of them fit. How wide a lane is nobody says; known is the most that it has carried while busy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    limit: u32,
    /// Transfers that occupy it.
    pub(super) used: u32,
    /// The parts of the lane they fill, in thousandths.
    filled: u32,
    /// The most it carried, in bytes a millisecond, forgotten slowly; 0 while unknown.
    width: u32,
    /// How many at once it takes to hide the control round trip between short transfers.
    overlap: u8,
    /// Transfers that have begun and not ended, among them those that no longer occupy it.
    active: u32,
    /// When the present window began.
    since: Instant,
    /// What ended in it.
    bytes: u64,
    ended: u8,
    /// Whether one of them was held up by what fed it: then the window says how much at least.
    is_held_up: bool,
    /// Whether a window ever passed without such a one.
    is_sure: bool,
}

impl Lane {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit,
            used: 0,
            filled: 0,
            width: 0,
            overlap: 1,
            active: 0,
            since: Instant::ZERO,
            bytes: 0,
            ended: 0,
            is_held_up: false,
            is_sure: false,
        }
    }

    /// Whether another transfer may begin: while the lane is not full, or with `is_fixed` whenever
    /// the limit allows.
    pub(super) const fn has_room(&self, is_fixed: bool) -> bool {
        self.used < self.limit && (is_fixed || self.used == 0 || self.filled + SLACK <= WHOLE * self.overlap as u32)
    }

    /// Whether a second transfer may begin whatever the first fills.
    pub(super) const fn has_room_beside_one(&self) -> bool {
        self.used < 2 && self.used < self.limit
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// The most it was seen to carry, in bytes a millisecond; `None` while nothing is known.
    pub(super) const fn width(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.width)
    }

    /// The width, unless all there is to go by is transfers that something slow fed. Whoever took these for
    /// what the lane can do would let two others in where one fills it; each would end at half the rate, the
    /// lanes at their other ends would look that narrow, and nothing would ever show that they are not. What is
    /// too narrow does harm as the rate of a transfer alone: as what that rate is a part of, it leaves less room.
    pub(super) fn sure_width(&self) -> Option<NonZeroU32> {
        self.width().filter(|_| self.is_sure)
    }

    /// A transfer begins at `rate`, in bytes a millisecond. Answers the part of the lane that it fills:
    /// all of it while the rate or the width is unknown. The lane is taken to be at least `expected`
    /// wide.
    pub(super) fn take(&mut self, now: Instant, rate: Option<NonZeroU32>, expected: u32) -> u16 {
        if self.active == 0 {
            (self.since, self.bytes, self.ended, self.is_held_up) = (now, 0, 0, false);
        }
        let share = match (self.width(), rate) {
            (Some(width), Some(rate)) => {
                let width = u64::from(width.get().max(expected));
                (u64::from(rate.get()) * u64::from(WHOLE) / width).min(WHOLE.into()) as u16
            }
            _ => WHOLE as u16,
        };
        self.active += 1;
        self.used += 1;
        self.filled += u32::from(share);
        share
    }

    /// A transfer no longer occupies its share, though it may not have ended.
    pub(super) const fn release(&mut self, share: u16) {
        self.used -= 1;
        self.filled -= share as u32;
    }

    /// A transfer that `began` then has ended and brought `bytes`. Of those only what came since the
    /// window began counts.
    pub(super) fn note(&mut self, now: Instant, began: Instant, bytes: u64, is_held_up: bool) {
        self.active -= 1;
        let (took, inside) = (micros(now - began).max(1), micros(now - began.max(self.since)));
        self.bytes += part(bytes, inside, took);
        self.ended += 1;
        self.is_held_up |= is_held_up || bytes == 0;
        // The first that tells anything is listened to at once.
        let is_news = bytes > 0 && (self.width == 0 || !(self.is_sure || self.is_held_up));
        if self.ended < WINDOW && !is_news {
            return;
        }
        let seen = self.bytes * 1000 / micros(now - self.since).max(1);
        let seen = u32::try_from(seen).unwrap_or(u32::MAX);
        if seen >= self.width {
            self.width = seen;
        } else if !self.is_held_up {
            self.width -= (self.width - seen) / 64;
        }
        self.is_sure |= !self.is_held_up;
        if let Some(alone_us) = self.alone_us(self.bytes / u64::from(self.ended)) {
            let overlap = 1 + OVERLAP_BELOW_US / alone_us.max(1);
            self.overlap = overlap.min(self.limit.clamp(1, u8::MAX.into()).into()) as u8;
        }
        (self.since, self.bytes, self.ended, self.is_held_up) = (now, 0, 0, false);
    }

    /// How long `bytes` take if they have the lane for themselves, in microseconds; `None` while
    /// nothing is known.
    pub(super) fn alone_us(&self, bytes: u64) -> Option<u64> {
        self.width().map(|width| bytes.saturating_mul(1000) / u64::from(width.get()))
    }

    /// How long `bytes` take beside the transfers there are now.
    pub(super) fn expected_us(&self, bytes: u64) -> Option<u64> {
        self.alone_us(bytes).map(|us| us.saturating_mul(u64::from(self.active.max(1))))
    }
}

/// `bytes * inside / took`; with 64 bits where they suffice, for that is many times faster.
fn part(bytes: u64, inside: u64, took: u64) -> u64 {
    match bytes.checked_mul(inside) {
        _ if inside == took => bytes,
        Some(product) => product / took,
        None => (u128::from(bytes) * u128::from(inside) / u128::from(took)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{Lane, WINDOW};
    use crate::time::{Duration, Instant};

    const MIB: u64 = 1 << 20;

    /// As many transfers of 1 MiB as get in, again and again, over a link that takes `alone_us` for
    /// one, from others that take `other_us`; answers how many were in at once in the end.
    fn settled(limit: u32, alone_us: u64, other_us: u64) -> u32 {
        let (mut lane, mut other) = (Lane::new(limit), Lane::new(limit));
        let mut now = Instant::ZERO;
        let mut at_once = 0;
        other.take(now, None, 0);
        other.note(now + Duration::from_micros(other_us), now, MIB, false);
        for round in 0..20 {
            let mut shares = Vec::new();
            while lane.has_room(false) {
                shares.push(lane.take(now, other.width(), 0));
            }
            at_once = lane.used;
            let pace = if round == 0 { alone_us } else { (alone_us * u64::from(at_once)).max(other_us) };
            let began = now;
            now += Duration::from_micros(pace);
            for share in shares {
                lane.release(share);
                lane.note(now, began, MIB, false);
            }
        }
        at_once
    }

    #[test]
    fn one_at_a_time_where_it_fills_the_link() {
        assert_eq!(settled(4, 400_000, 400_000), 1);
        assert_eq!(settled(4, 400_000, 100_000), 1);
    }

    #[test]
    fn as_many_as_the_link_is_wider_than_the_other_ends() {
        assert_eq!(settled(8, 400_000, 1_600_000), 3);
        assert_eq!(settled(2, 400_000, 1_600_000), 2);
    }

    #[test]
    fn short_transfers_overlap_and_the_limit_holds() {
        assert!(settled(8, 20_000, 20_000) >= 5);
        assert_eq!(settled(2, 1_000, 1_000), 2);
    }

    #[test]
    fn a_width_is_believed_once_it_was_seen_otherwise_than_while_something_slow_fed_the_lane() {
        let (mut lane, now) = (Lane::new(4), Instant::ZERO);
        let mut transfer = |began: Instant, is_held_up: bool| {
            let share = lane.take(began, None, 0);
            lane.release(share);
            lane.note(began + Duration::from_micros(900_000), began, MIB, is_held_up);
            (lane.width().is_some(), lane.sure_width().is_some())
        };
        assert_eq!(transfer(now, true), (true, false));
        assert_eq!(transfer(now + Duration::from_secs(1), true), (true, false));
        assert_eq!(transfer(now + Duration::from_secs(2), false), (true, true));
    }

    #[test]
    fn what_is_held_up_says_nothing_of_the_width() {
        // After one that took 0.1 s, so many windows of slow ones; something is under way all the time.
        let alone_us = |is_held_up: bool| {
            let (mut lane, mut now) = (Lane::new(4), Instant::ZERO);
            lane.take(now, None, 0);
            for pace in core::iter::once(100_000).chain([900_000; 3 * WINDOW as usize]) {
                let share = lane.take(now, None, 0);
                lane.release(share);
                let began = now;
                now += Duration::from_micros(pace);
                lane.note(now, began, MIB, is_held_up && pace > 100_000);
            }
            lane.alone_us(MIB).unwrap()
        };
        assert_eq!(alone_us(true), 100_007);
        assert!(alone_us(false) > 103_000);
    }
}
