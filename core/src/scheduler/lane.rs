//! One direction of a host's link: transfers at once, how fast they were, and how many pay.

/// Transfers at once up to which their pace is told apart.
const WIDTH: usize = 8;

/// Transfers that end faster than this overlap: one alone would leave the link idle for the
/// control round trip between two pieces.
const OVERLAP_BELOW_US: u64 = 100_000;

/// After this many transfers one more at once is tried, after as many again one less.
const PROBE_INTERVAL: u8 = 100;

/// A trial lasts this many transfers: those in its middle have company for all of their time.
const PROBE_LENGTH: u8 = 4;

/// After this many transfers a trial that taught nothing is repeated.
const RETRY_AFTER: u8 = 24;

/// After this many transfers a new lane is tried for the first time.
const FIRST_PROBE: u8 = 3;

/// One direction of a host's link.
///
/// One transfer at a time is best where it fills the link: two at half the rate each end later, on
/// average, and spread later. Where the other ends are slower than this one, more at once fill it.
/// Which it is, is measured: how long a transfer takes when it is one of `n`, for each `n`, and now
/// and then one more or one less is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    limit: u32,
    /// Whether it tries how many pay at all.
    probes: bool,
    pub(super) used: u32,
    /// Transfers at once that pay.
    fit: u32,
    /// Transfers since the last trials.
    turn: u8,
    /// Smoothed microseconds one MiB takes as one of `n + 1` transfers; 0 while unknown.
    us_per_mib: [u32; WIDTH],
}

impl Lane {
    /// A lane of an ordinary host's uplink does not `probe`: it is as wide as the other ends or
    /// narrower, and two trials at both ends of a transfer would mislead each other.
    pub(super) const fn new(limit: u32, probes: bool) -> Self {
        Self { limit, probes, used: 0, fit: 1, turn: PROBE_INTERVAL - FIRST_PROBE, us_per_mib: [0; WIDTH] }
    }

    /// Whether another transfer may begin.
    pub(super) const fn has_room(&self, adapts: bool) -> bool {
        if !adapts || self.used >= self.limit {
            return self.used < self.limit;
        }
        self.used < if self.tries(0) { self.fit + 1 } else { self.fit - self.tries(1) as u32 }
    }

    /// Whether a trial goes on: number 0 of one transfer more at once, 1 of one less.
    const fn tries(&self, number: u8) -> bool {
        let first = PROBE_INTERVAL * (number + 1);
        self.probes && first <= self.turn && self.turn < first + PROBE_LENGTH && (number == 0 || self.fit > 1)
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// Transfers at once that pay.
    pub(super) const fn fit(&self) -> u32 {
        self.fit
    }

    /// A transfer begins.
    pub(super) const fn take(&mut self) {
        self.used += 1;
    }

    /// A transfer of `bytes` took `elapsed_us`, `beside` that many others all of its time; `None` if
    /// their number changed.
    pub(super) fn note(&mut self, bytes: u64, elapsed_us: u64, beside: Option<u32>) {
        let is_known = self.us_per_mib.get(self.fit as usize).is_none_or(|us| *us > 0);
        self.turn = match self.turn + 1 {
            next if next > 2 * PROBE_INTERVAL + PROBE_LENGTH => 0,
            // What one more brings is not known yet: another trial soon.
            next if next == PROBE_INTERVAL + PROBE_LENGTH && !is_known => PROBE_INTERVAL - RETRY_AFTER,
            next => next,
        };
        let Some(beside) = beside else { return };
        let pace = elapsed_us.saturating_mul(1 << 20) / bytes.max(1);
        let pace = u32::try_from(pace).unwrap_or(u32::MAX).max(1);
        let known = &mut self.us_per_mib[(beside as usize).min(WIDTH - 1)];
        *known = if *known == 0 { pace } else { (u64::from(*known) * 7 + u64::from(pace)).div_ceil(8) as u32 };
        self.refit(bytes);
    }

    /// One more at once pays as long as it brings six tenths of what a link of its own would: as one
    /// ends and the next begins they overlap, so few fill more of the link than their number says.
    fn refit(&mut self, bytes: u64) {
        let known = |n: usize| self.us_per_mib.get(n - 1).copied().filter(|us| *us > 0).map(u64::from);
        let Some(mut fit) = (1..=WIDTH).find(|n| known(*n).is_some()) else { return };
        while let (Some(with), Some(with_more)) = (known(fit), known(fit + 1)) {
            let n = fit as u64;
            if 10 * (n + 1) * with < (10 * n + 6) * with_more {
                break;
            }
            fit += 1;
        }
        let alone_us = (known(fit).unwrap_or(1).saturating_mul(bytes) >> 20) / fit as u64;
        let overlap = 1 + OVERLAP_BELOW_US / alone_us.max(1);
        self.fit = u32::try_from(overlap.max(fit as u64)).unwrap_or(u32::MAX - 1).min(self.limit.max(1));
    }

    /// How long `bytes` take beside the transfers there are now, in microseconds; `None` while
    /// nothing is known.
    pub(super) fn expected_us(&self, bytes: u64) -> Option<u64> {
        let beside = (self.used as usize).min(WIDTH - 1);
        let known = (0..=beside).rev().chain(beside + 1..WIDTH).find(|n| self.us_per_mib[*n] > 0)?;
        let pace = u64::from(self.us_per_mib[known]) * (beside as u64 + 1) / (known as u64 + 1).min(beside as u64 + 1);
        Some(pace.saturating_mul(bytes) >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::Lane;

    const MIB: u64 = 1 << 20;

    /// Transfers of 1 MiB, as many at once as the lane lets in, over a link that takes `alone_us` for
    /// one and lets `wide` of them run at that pace; answers how many fit in the end.
    fn settled(limit: u32, alone_us: u64, wide: u64) -> u32 {
        let mut lane = Lane::new(limit, true);
        for _ in 0..400 {
            while lane.has_room(true) {
                lane.take();
            }
            let beside = lane.used - 1;
            let elapsed = alone_us * u64::from(lane.used).max(wide) / wide;
            (0..lane.used).for_each(|_| lane.note(MIB, elapsed, Some(beside)));
            lane.used = 0;
        }
        lane.fit
    }

    #[test]
    fn one_at_a_time_fills_a_link_as_fast_as_the_other_end() {
        assert_eq!(settled(4, 400_000, 1), 1);
    }

    #[test]
    fn as_many_as_the_link_is_wider_than_the_other_ends() {
        assert_eq!(settled(4, 400_000, 2), 2);
        assert_eq!(settled(8, 400_000, 5), 5);
    }

    #[test]
    fn short_transfers_overlap_and_the_limit_holds() {
        assert!(settled(8, 20_000, 1) >= 5);
        assert_eq!(settled(2, 1_000, 1), 2);
    }
}
