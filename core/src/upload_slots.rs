//! How many uploads a parent serves at once, and for whom.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::planted::{Bug, is_planted};
use crate::time::{Duration, Instant};

/// The right to one upload, until released or expired. Numbers are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotLease(u64);

/// Limits of [`UploadSlots`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotLimits {
    /// Uploads at once.
    pub slot_limit: u32,
    /// Uploads at once for one child.
    pub per_child_limit: u32,
    /// A lease not renewed for this long is taken back: the child or the connection is gone.
    pub lease_term: Duration,
}

impl SlotLimits {
    /// Slots that a child can have while nobody else has any: one always stays free for somebody else.
    pub fn of_one_child(&self) -> u32 {
        self.slot_limit.saturating_sub(1).min(self.per_child_limit).max(1)
    }
}

/// Bounded concurrent uploads as leases that expire by themselves, so that no error path can leak
/// one.
///
/// Fairness: a child that already holds a slot gets another only if one stays free for somebody
/// else; nobody gets more than `per_child_limit`.
#[derive(Clone, Debug)]
pub struct UploadSlots<C> {
    limits: SlotLimits,
    leases: BTreeMap<SlotLease, Held<C>>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held<C> {
    child: C,
    expires: Instant,
}

impl<C: Copy + Eq> UploadSlots<C> {
    /// No upload yet.
    pub const fn new(limits: SlotLimits) -> Self {
        Self { limits, leases: BTreeMap::new(), next: 1 }
    }

    /// Changes the limits; uploads beyond a lower limit run to their end.
    pub const fn set_limits(&mut self, limits: SlotLimits) {
        self.limits = limits;
    }

    /// Uploads now.
    pub fn in_use(&self) -> u32 {
        self.leases.len() as u32
    }

    /// Load in thousandths of the limit: what a scheduler lowers a parent's priority by.
    pub fn load_permille(&self) -> u32 {
        self.in_use().saturating_mul(1000) / self.limits.slot_limit.max(1)
    }

    /// A slot for `child`, or `None` if it has to come back later.
    pub fn try_acquire(&mut self, now: Instant, child: C) -> Option<SlotLease> {
        let held = self.leases.values().filter(|lease| lease.child == child).count() as u32;
        let free = self.limits.slot_limit.saturating_sub(self.in_use());
        if free == 0 || (held > 0 && (free == 1 || held >= self.limits.per_child_limit)) {
            return None;
        }
        let lease = SlotLease(self.next);
        self.next += 1;
        self.leases.insert(lease, Held { child, expires: now + self.limits.lease_term });
        Some(lease)
    }

    /// The upload made progress; false if the lease is gone and the upload has to end.
    pub fn renew(&mut self, now: Instant, lease: SlotLease) -> bool {
        let term = self.limits.lease_term;
        self.leases.get_mut(&lease).map(|held| held.expires = now + term).is_some()
    }

    /// The upload ended; false if the lease was gone already, which is harmless.
    pub fn release(&mut self, lease: SlotLease) -> bool {
        !is_planted(Bug::SlotNotReleased) && self.leases.remove(&lease).is_some()
    }

    /// Takes back what was not renewed in time.
    pub fn expire(&mut self, now: Instant) -> Vec<SlotLease> {
        let gone: Vec<SlotLease> =
            self.leases.iter().filter(|(_, held)| held.expires <= now).map(|(lease, _)| *lease).collect();
        self.leases.retain(|_, held| now < held.expires);
        gone
    }

    /// When the next lease expires if nothing renews it.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|held| held.expires).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SlotLimits = SlotLimits { slot_limit: 3, per_child_limit: 2, lease_term: Duration::from_secs(10) };

    #[test]
    fn one_child_alone_gets_what_is_said() {
        for (slot_limit, per_child_limit) in [(1, 1), (1, 4), (2, 4), (3, 1), (5, 3), (5, 9)] {
            let limits = SlotLimits { slot_limit, per_child_limit, ..LIMITS };
            let mut slots = UploadSlots::new(limits);
            let got = (0..20).filter(|_| slots.try_acquire(Instant::ZERO, 1).is_some()).count();
            assert_eq!(got, limits.of_one_child() as usize, "{limits:?}");
        }
    }

    #[test]
    fn the_last_slot_is_kept_for_somebody_else() {
        let mut slots = UploadSlots::new(LIMITS);
        let now = Instant::ZERO;
        assert!(slots.try_acquire(now, 'a').is_some());
        assert!(slots.try_acquire(now, 'a').is_some());
        assert_eq!(slots.try_acquire(now, 'a'), None);
        assert!(slots.try_acquire(now, 'b').is_some());
        assert_eq!(slots.try_acquire(now, 'c'), None);
        assert_eq!(slots.load_permille(), 1000);
    }

    #[test]
    fn a_single_slot_serves_anybody_once() {
        let mut slots = UploadSlots::new(SlotLimits { slot_limit: 1, ..LIMITS });
        let lease = slots.try_acquire(Instant::ZERO, 'a').unwrap();
        assert_eq!(slots.try_acquire(Instant::ZERO, 'b'), None);
        assert!(slots.release(lease));
        assert!(!slots.release(lease));
        assert!(slots.try_acquire(Instant::ZERO, 'b').is_some());
    }

    #[test]
    fn forgotten_leases_come_back_by_themselves() {
        let mut slots = UploadSlots::new(LIMITS);
        let first = slots.try_acquire(Instant::ZERO, 'a').unwrap();
        let second = slots.try_acquire(Instant::ZERO, 'b').unwrap();
        let later = Instant::ZERO + Duration::from_secs(5);
        assert!(slots.renew(later, second));
        let end = Instant::ZERO + LIMITS.lease_term;
        assert_eq!(slots.next_expiry(), Some(end));
        assert_eq!(slots.expire(end), [first]);
        assert!(!slots.renew(end, first));
        assert_eq!(slots.in_use(), 1);
    }
}
