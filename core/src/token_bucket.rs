//! Rate limits: how many bytes may pass by when.

use crate::planted::{Bug, is_planted};
use crate::time::{Duration, Instant, micros};

/// Credit is counted in millionths of a byte: rate (bytes per second) times microseconds, exactly.
const SCALE: i128 = 1_000_000;

/// A token bucket that never refuses: it says *when* the bytes may pass.
///
/// For every window of time, bytes passed ≤ rate × window + burst + one request, exactly (integer
/// arithmetic, no drift), from 1 byte per second up. A request larger than the burst passes too,
/// only later. Requests are served in the order they are reserved.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_bytes_per_sec: Option<u64>,
    burst_bytes: u64,
    /// Millionths of a byte; negative while reservations wait.
    credit: i128,
    settled: Instant,
}

impl TokenBucket {
    /// A bucket that starts full. `rate_bytes_per_sec` `None` means no limit; a rate of 0 is taken
    /// as 1, since 0 would be a way of saying never.
    pub fn new(now: Instant, rate_bytes_per_sec: Option<u64>, burst_bytes: u64) -> Self {
        let full = i128::from(burst_bytes) * SCALE;
        Self { rate_bytes_per_sec, burst_bytes, credit: full, settled: now }
    }

    /// The present limit in bytes per second.
    pub const fn rate(&self) -> Option<u64> {
        self.rate_bytes_per_sec
    }

    /// Changes the limit from now on. What is owed stays owed and is paid off at the new rate;
    /// instants already given out stand.
    pub fn set_rate(&mut self, now: Instant, rate_bytes_per_sec: Option<u64>) {
        self.settle(now);
        self.rate_bytes_per_sec = rate_bytes_per_sec;
        if rate_bytes_per_sec.is_none() {
            self.credit = i128::from(self.burst_bytes) * SCALE;
        }
    }

    /// Takes `bytes` and answers the instant at which they may pass: `now` or later.
    pub fn reserve(&mut self, now: Instant, bytes: u64) -> Instant {
        let Some(rate) = self.rate_bytes_per_sec else { return now };
        self.settle(now);
        self.credit -= i128::from(bytes) * SCALE;
        if self.credit >= 0 {
            return now;
        }
        let wait = (-self.credit as u128).div_ceil(u128::from(rate.max(1)));
        now + Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Gives back bytes that were reserved but did not pass.
    pub fn refund(&mut self, bytes: u64) {
        if self.rate_bytes_per_sec.is_some() {
            self.credit = (self.credit + i128::from(bytes) * SCALE).min(i128::from(self.burst_bytes) * SCALE);
        }
    }

    fn settle(&mut self, now: Instant) {
        if let Some(rate) = self.rate_bytes_per_sec {
            let times = if is_planted(Bug::LimiterRefillsTwice) { 2 } else { 1 };
            let earned = times * i128::from(rate.max(1)) * i128::from(micros(now - self.settled));
            self.credit = (self.credit + earned).min(i128::from(self.burst_bytes) * SCALE);
        }
        self.settled = self.settled.max(now);
    }
}

/// Takes `bytes` from every bucket of a hierarchy (task, host, ...) and answers when the strictest
/// of them lets the bytes pass.
pub fn reserve_all<'a>(buckets: impl IntoIterator<Item = &'a mut TokenBucket>, now: Instant, bytes: u64) -> Instant {
    buckets.into_iter().map(|bucket| bucket.reserve(now, bytes)).fold(now, Instant::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn the_burst_passes_at_once_and_the_rest_at_the_rate() {
        let mut bucket = TokenBucket::new(at(0), Some(1000), 500);
        assert_eq!(bucket.reserve(at(0), 500), at(0));
        assert_eq!(bucket.reserve(at(0), 100), at(100_000));
        assert_eq!(bucket.reserve(at(0), 100), at(200_000));
        assert_eq!(bucket.reserve(at(700_000), 500), at(700_000));
    }

    #[test]
    fn one_byte_per_second_and_requests_above_the_burst_pass_in_time() {
        let mut bucket = TokenBucket::new(at(0), Some(1), 1);
        assert_eq!(bucket.reserve(at(0), 11), at(10_000_000));
        let mut stopped = TokenBucket::new(at(0), Some(0), 0);
        assert_eq!(stopped.reserve(at(0), 1), at(1_000_000));
    }

    #[test]
    fn a_new_rate_applies_to_what_is_owed() {
        let mut bucket = TokenBucket::new(at(0), Some(100), 0);
        assert_eq!(bucket.reserve(at(0), 100), at(1_000_000));
        bucket.set_rate(at(0), Some(1000));
        assert_eq!(bucket.reserve(at(0), 100), at(200_000));
        bucket.set_rate(at(0), None);
        assert_eq!(bucket.reserve(at(0), u64::MAX), at(0));
        bucket.set_rate(at(0), Some(100));
        assert_eq!(bucket.reserve(at(0), 100), at(1_000_000));
    }

    #[test]
    fn a_refund_never_exceeds_the_burst() {
        let mut bucket = TokenBucket::new(at(0), Some(10), 20);
        bucket.refund(1000);
        assert_eq!(bucket.reserve(at(0), 20), at(0));
        assert_eq!(bucket.reserve(at(0), 1), at(100_000));
    }

    #[test]
    fn the_strictest_bucket_of_a_hierarchy_decides() {
        let mut task = TokenBucket::new(at(0), Some(10), 0);
        let mut host = TokenBucket::new(at(0), Some(1000), 0);
        assert_eq!(reserve_all([&mut task, &mut host], at(0), 10), at(1_000_000));
    }
}
