//! Rate limits: how many bytes may pass by when.

use core::ops::DerefMut;

use crate::planted::{Bug, is_planted};
use crate::time::{Duration, Instant, micros};

/// Credit is counted in millionths of a byte: rate (bytes per second) times microseconds, exactly.
const SCALE: i128 = 1_000_000;

/// A token bucket: bytes pass, of whatever number, once what passed before is paid for.
///
/// For every window of time, bytes passed ≤ rate × window + burst + one request, exactly (integer
/// arithmetic; instants are rounded up to whole microseconds), from 1 byte per second up, whatever the rate was changed to meanwhile. A
/// request larger than the burst passes too; what comes after it waits longer.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_bytes_per_sec: Option<u64>,
    burst_bytes: u64,
    /// Millionths of a byte; negative while something is owed.
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

    /// Changes the limit from now on. What is owed stays owed and is paid off at the new rate.
    pub fn set_rate(&mut self, now: Instant, rate_bytes_per_sec: Option<u64>) {
        self.settle(now);
        self.rate_bytes_per_sec = rate_bytes_per_sec;
        if rate_bytes_per_sec.is_none() {
            self.credit = i128::from(self.burst_bytes) * SCALE;
        }
    }

    /// When bytes may pass: `now`, or as soon as what is owed is paid off. Nothing is promised: whoever takes
    /// some before, or a new rate, puts it off.
    pub fn ready_at(&mut self, now: Instant) -> Instant {
        let Some(rate) = self.rate_bytes_per_sec else { return now };
        self.settle(now);
        if self.credit >= 0 {
            return now;
        }
        let wait = (-self.credit as u128).div_ceil(u128::from(rate.max(1)));
        now + Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Lets `bytes` pass now; or answers when they could if nobody else takes some before.
    pub fn try_take(&mut self, now: Instant, bytes: u64) -> Result<(), Instant> {
        try_take_all(&mut [self], now, bytes)
    }

    /// Gives back bytes that were taken but did not pass.
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

/// Lets `bytes` pass every bucket of a hierarchy (task, host, ...) now, or none: then it answers when the
/// strictest of them could. So each is charged at the instant at which the bytes pass, and keeps its own
/// limit over every window however long another made them wait.
pub fn try_take_all<B>(buckets: &mut [B], now: Instant, bytes: u64) -> Result<(), Instant>
where
    B: DerefMut<Target = TokenBucket>,
{
    let at = buckets.iter_mut().map(|bucket| bucket.ready_at(now)).fold(now, Instant::max);
    if at > now {
        return Err(at);
    }
    for bucket in buckets.iter_mut().filter(|bucket| bucket.rate_bytes_per_sec.is_some()) {
        bucket.credit -= i128::from(bytes) * SCALE;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn the_burst_and_one_request_pass_at_once_and_the_rest_at_the_rate() {
        let mut bucket = TokenBucket::new(at(0), Some(1000), 500);
        assert_eq!(bucket.try_take(at(0), 500), Ok(()));
        assert_eq!(bucket.try_take(at(0), 100), Ok(()));
        assert_eq!(bucket.try_take(at(0), 1), Err(at(100_000)));
        assert_eq!(bucket.try_take(at(99_999), 1), Err(at(100_000)));
        assert_eq!(bucket.try_take(at(100_000), 300), Ok(()));
        assert_eq!(bucket.ready_at(at(100_000)), at(400_000));
    }

    #[test]
    fn one_byte_per_second_and_requests_above_the_burst_pass_and_are_paid_for() {
        let mut bucket = TokenBucket::new(at(0), Some(1), 1);
        assert_eq!(bucket.try_take(at(0), 11), Ok(()));
        assert_eq!(bucket.ready_at(at(0)), at(10_000_000));
        let mut stopped = TokenBucket::new(at(0), Some(0), 0);
        assert_eq!(stopped.try_take(at(0), 1), Ok(()));
        assert_eq!(stopped.ready_at(at(0)), at(1_000_000));
    }

    #[test]
    fn a_new_rate_applies_to_what_is_owed() {
        let mut bucket = TokenBucket::new(at(0), Some(100), 0);
        assert_eq!(bucket.try_take(at(0), 100), Ok(()));
        assert_eq!(bucket.ready_at(at(0)), at(1_000_000));
        bucket.set_rate(at(0), Some(1000));
        assert_eq!(bucket.ready_at(at(0)), at(100_000));
        bucket.set_rate(at(0), None);
        assert_eq!(bucket.try_take(at(0), u64::MAX), Ok(()));
        bucket.set_rate(at(0), Some(100));
        assert_eq!(bucket.ready_at(at(0)), at(0), "what passed without a limit is not owed");
    }

    #[test]
    fn a_refund_never_exceeds_the_burst() {
        let mut bucket = TokenBucket::new(at(0), Some(10), 20);
        bucket.refund(1000);
        assert_eq!(bucket.try_take(at(0), 21), Ok(()));
        assert_eq!(bucket.ready_at(at(0)), at(100_000));
    }

    #[test]
    fn whoever_a_hierarchy_refuses_is_charged_nowhere() {
        let mut task = TokenBucket::new(at(0), Some(10), 0);
        let mut host = TokenBucket::new(at(0), Some(1000), 0);
        assert_eq!(try_take_all(&mut [&mut task, &mut host], at(0), 10), Ok(()));
        assert_eq!(try_take_all(&mut [&mut task, &mut host], at(0), 10), Err(at(1_000_000)));
        assert_eq!(host.ready_at(at(0)), at(10_000));
    }
}
