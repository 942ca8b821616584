//! When a host concludes that it is itself at fault, and how it finds its way back.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::time::{Duration, Instant};

/// Distinct parents that must have failed, with no success in between, before a host isolates
/// itself (Dragonfly v1 counted failures and took the sixth; a single bad parent could do that).
pub const DISTINCT_PARENT_LIMIT: usize = 4;

/// The first isolation; each failed probe doubles it.
pub const ISOLATION_TERM: Duration = Duration::from_secs(10);

/// The longest isolation between two probes.
pub const ISOLATION_TERM_LIMIT: Duration = Duration::from_secs(300);

/// What a host may do, in its own opinion of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing suspicious: any parent, accuses, serves.
    Sound,
    /// Several distinct parents failed in a row: only the seed peer or the source, accuses nobody,
    /// serves nobody, until the instant given.
    Isolated {
        /// When it may probe.
        until: Instant,
    },
    /// One piece from one ordinary parent decides.
    Probing,
}

/// The failures of distinct parents as one host sees them; nothing for nearly all hosts. `P` names a
/// parent.
#[derive(Clone, Debug)]
pub struct Isolation<P>(Option<Box<Trouble<P>>>);

#[derive(Clone, Debug)]
struct Trouble<P> {
    failed: Vec<P>,
    standing: Standing,
    term: Duration,
}

impl<P: Copy + Eq> Isolation<P> {
    /// A sound host.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The standing at `now`; an isolation whose term is over has become a probe.
    pub fn standing(&self, now: Instant) -> Standing {
        match self.0.as_ref().map(|trouble| trouble.standing) {
            None => Standing::Sound,
            Some(Standing::Isolated { until }) if until <= now => Standing::Probing,
            Some(other) => other,
        }
    }

    /// Whether ordinary parents may be used, accused and served at `now`.
    pub fn is_sound(&self, now: Instant) -> bool {
        self.standing(now) == Standing::Sound
    }

    /// A transfer from an ordinary parent failed. True if the host isolates itself by this.
    pub fn failed(&mut self, now: Instant, parent: P) -> bool {
        let standing = self.standing(now);
        let blank = || Box::new(Trouble { failed: Vec::new(), standing: Standing::Sound, term: ISOLATION_TERM });
        let trouble = self.0.get_or_insert_with(blank);
        match standing {
            Standing::Isolated { .. } => false,
            Standing::Probing => {
                trouble.term = trouble.term.saturating_mul(2).min(ISOLATION_TERM_LIMIT);
                trouble.standing = Standing::Isolated { until: now + trouble.term };
                true
            }
            Standing::Sound => {
                if !trouble.failed.contains(&parent) {
                    trouble.failed.push(parent);
                }
                let is_enough = trouble.failed.len() >= DISTINCT_PARENT_LIMIT;
                if is_enough {
                    trouble.standing = Standing::Isolated { until: now + trouble.term };
                    trouble.failed.clear();
                }
                is_enough
            }
        }
    }

    /// A transfer from an ordinary parent succeeded. True if the host is sound again by this. One that
    /// began before the host isolated itself says nothing.
    pub fn succeeded(&mut self, now: Instant) -> bool {
        if self.0.is_none() {
            return false;
        }
        let standing = self.standing(now);
        if !matches!(standing, Standing::Isolated { .. }) {
            self.0 = None;
        }
        standing == Standing::Probing
    }

    /// When an isolated host may probe.
    pub fn next_probe(&self) -> Option<Instant> {
        match self.0.as_ref()?.standing {
            Standing::Isolated { until } => Some(until),
            _ => None,
        }
    }
}

impl<P: Copy + Eq> Default for Isolation<P> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn one_bad_parent_never_isolates() {
        let mut host = Isolation::new();
        assert!((0..100).all(|second| !host.failed(secs(second), 'a')));
        assert!(host.is_sound(secs(100)));
    }

    #[test]
    fn distinct_parents_in_a_row_do_and_a_success_breaks_the_row() {
        let mut host = Isolation::new();
        assert!(['a', 'b', 'c'].into_iter().all(|parent| !host.failed(secs(0), parent)));
        assert!(!host.succeeded(secs(0)));
        assert!(['a', 'b', 'c'].into_iter().all(|parent| !host.failed(secs(0), parent)));
        assert!(host.failed(secs(0), 'd'));
        assert_eq!(host.standing(secs(9)), Standing::Isolated { until: secs(10) });
        assert_eq!(host.next_probe(), Some(secs(10)));
    }

    #[test]
    fn a_probe_leads_back_or_isolates_for_longer() {
        let mut host = Isolation::new();
        assert_eq!(['a', 'b', 'c', 'd'].map(|parent| host.failed(secs(0), parent)), [false, false, false, true]);
        assert!(!host.succeeded(secs(5)), "a transfer begun before does not count");
        assert_eq!(host.standing(secs(10)), Standing::Probing);
        assert!(host.failed(secs(10), 'e'));
        assert_eq!(host.next_probe(), Some(secs(30)));
        assert!(host.succeeded(secs(30)));
        assert!(host.is_sound(secs(30)));
    }
}
