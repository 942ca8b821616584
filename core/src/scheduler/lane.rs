//! One direction of a host's link: transfers at once, how fast they were, and how many pay.

/// Transfers at once up to which their pace is told apart.
const WIDTH: usize = 8;

/// Transfers that end faster than this overlap: one alone would leave the link idle for the
/// control round trip between two pieces.
const OVERLAP_BELOW_US: u64 = 100_000;

/// After this many transfers one more at once, or one less, is tried.
const PROBE_INTERVAL: u8 = 32;

/// After this many transfers a new lane is tried for the first time.
const FIRST_PROBE: u8 = 4;

/// One direction of a host's link.
///
/// One transfer at a time is best where it fills the link: two at half the rate each end later, on
/// average, and spread later. Where the other ends are slower than this one, more at once fill it.
/// Which it is, is measured: how long a transfer takes when it is one of `n`, for each `n`, and now
/// and then one more or one less is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    limit: u32,
    pub(super) used: u32,
    /// Transfers at once that pay.
    fit: u32,
    /// Transfers since the last trial; [`Lane::note`] says what comes when.
    since_probe: u8,
    /// Smoothed microseconds one MiB takes as one of `n + 1` transfers; 0 while unknown.
    us_per_mib: [u32; WIDTH],
}

impl Lane {
    pub(super) const fn new(limit: u32) -> Self {
        Self { limit, used: 0, fit: 1, since_probe: PROBE_INTERVAL - FIRST_PROBE, us_per_mib: [0; WIDTH] }
    }

    /// Whether another transfer may begin.
    pub(super) const fn has_room(&self, adapts: bool) -> bool {
        if !adapts || self.used >= self.limit {
            return self.used < self.limit;
        }
        match self.since_probe {
            PROBE_INTERVAL => self.used < self.fit + 1,
            // Until one transfer was alone enough: see `note`.
            255 => self.used + 1 < self.fit,
            _ => self.used < self.fit,
        }
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// A transfer begins.
    pub(super) const fn take(&mut self) {
        self.used += 1;
        if self.used > self.fit && self.since_probe == PROBE_INTERVAL {
            self.since_probe += 1;
        }
    }

    /// A transfer of `bytes` took `elapsed_us`, beside at most `beside` others.
    pub(super) fn note(&mut self, bytes: u64, elapsed_us: u64, beside: u32) {
        let pace = elapsed_us.saturating_mul(1 << 20) / bytes.max(1);
        let pace = u32::try_from(pace).unwrap_or(u32::MAX).max(1);
        let known = &mut self.us_per_mib[(beside as usize).min(WIDTH - 1)];
        *known = if *known == 0 { pace } else { (u64::from(*known) * 7 + u64::from(pace)).div_ceil(8) as u32 };
        self.since_probe = match self.since_probe {
            // One less than fits was tried, or does not apply: from the beginning.
            255 if beside + 1 < self.fit || self.fit == 1 => 0,
            kept @ (PROBE_INTERVAL | 255) => kept,
            since if since >= 2 * PROBE_INTERVAL => if self.fit > 1 { 255 } else { 0 },
            since => since + 1,
        };
        self.refit(bytes);
    }

    /// The fewest transfers at once that bring nearly as much as any number of them.
    fn refit(&mut self, bytes: u64) {
        let throughput = |n: usize| match self.us_per_mib[n] {
            0 => 0,
            us => ((n as u64 + 1) << 40) / u64::from(us),
        };
        let best = (0..WIDTH).map(throughput).max().unwrap_or(0);
        let fewest = (0..WIDTH).find(|n| throughput(*n) * 5 >= best * 4).unwrap_or(0);
        let alone_us = (u64::from(self.us_per_mib[fewest]) * bytes >> 20) / (fewest as u64 + 1);
        let overlap = 1 + OVERLAP_BELOW_US / alone_us.max(1);
        self.fit = u32::try_from(overlap.max(fewest as u64 + 1)).unwrap_or(u32::MAX - 1).min(self.limit.max(1));
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
        let mut lane = Lane::new(limit);
        for _ in 0..400 {
            while lane.has_room(true) {
                lane.take();
            }
            let beside = lane.used - 1;
            let elapsed = alone_us * u64::from(lane.used).max(wide) / wide;
            (0..lane.used).for_each(|_| lane.note(MIB, elapsed, beside));
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
        assert_eq!(settled(8, 400_000, 5), 4, "within a fifth of the most");
    }

    #[test]
    fn short_transfers_overlap_and_the_limit_holds() {
        assert!(settled(8, 20_000, 1) >= 5);
        assert_eq!(settled(2, 1_000, 1), 2);
    }
}
