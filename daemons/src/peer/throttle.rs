//! Rate limits in force: waiting until bytes may pass.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use df_core::time::Instant;
use df_core::token_bucket::{TokenBucket, try_take_all};

use crate::env::Env;
use crate::sync::lock;

/// Bytes moved at once where nothing limits them.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The smallest share of a limited rate that passes at once.
const LEAST_CHUNK_BYTES: u64 = 1024;

/// A limited rate passes in at least this many portions a second.
const PORTIONS_PER_SEC: u64 = 8;

/// A new rate is heeded after so long by those who wait by the old one.
const HEED: Duration = Duration::from_secs(1);

/// One limit: a task's, or a host's. Cheap to clone.
#[derive(Clone)]
pub struct Limit(Arc<Gate>);

struct Gate {
    bucket: Mutex<TokenBucket>,
    /// Whoever holds it is the next whose bytes pass; others queue in the order in which they came.
    turn: tokio::sync::Mutex<()>,
}

impl Limit {
    /// So many bytes per second; `None` for no limit. An eighth of a second may pass at once.
    pub fn new(now: Instant, rate_bytes_per_sec: Option<u64>) -> Self {
        let burst = rate_bytes_per_sec.map_or(0, |rate| rate / PORTIONS_PER_SEC);
        let bucket = Mutex::new(TokenBucket::new(now, rate_bytes_per_sec, burst));
        Self(Arc::new(Gate { bucket, turn: tokio::sync::Mutex::new(()) }))
    }

    /// Changes the rate from now on.
    pub fn set_rate(&self, now: Instant, rate_bytes_per_sec: Option<u64>) {
        self.bucket().set_rate(now, rate_bytes_per_sec);
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        lock(&self.0.bucket)
    }
}

/// The limits one transfer is under, those of most transfers first: a host's before a task's. Cheap to clone.
#[derive(Clone)]
pub struct Throttle {
    env: Env,
    limits: Vec<Limit>,
}

impl Throttle {
    /// Under all of these limits.
    pub const fn new(env: Env, limits: Vec<Limit>) -> Self {
        Self { env, limits }
    }

    /// Under one more, that of fewer transfers than those before.
    #[must_use]
    pub fn and(&self, limit: Limit) -> Self {
        let mut limits = self.limits.clone();
        limits.push(limit);
        Self { env: self.env.clone(), limits }
    }

    /// Waits until some bytes may pass, at most `wanted`, and answers how many: at least one.
    ///
    /// The turn at the limit of the fewest comes first: who waits for its task's limit keeps nobody else from
    /// the host's, and all take their turns in the same order.
    pub async fn take(&self, wanted: usize) -> usize {
        let mut turns = Vec::new();
        for limit in self.limits.iter().rev().filter(|limit| limit.bucket().rate().is_some()) {
            turns.push(limit.0.turn.lock().await);
            self.wait(|now| limit.bucket().try_take(now, 0)).await;
        }
        let strictest = self.limits.iter().filter_map(|limit| limit.bucket().rate()).min();
        let Some(rate) = strictest else { return wanted };
        let portion = (rate / PORTIONS_PER_SEC).max(LEAST_CHUNK_BYTES);
        let bytes = u64::try_from(wanted).unwrap_or(u64::MAX).min(portion).max(1);
        self.wait(|now| try_take_all(&mut self.limits.iter().map(Limit::bucket).collect::<Vec<_>>(), now, bytes)).await;
        usize::try_from(bytes).unwrap_or(wanted).min(wanted)
    }

    /// Tries until it is granted.
    async fn wait(&self, mut attempt: impl FnMut(Instant) -> Result<(), Instant>) {
        let clock = &self.env.clock;
        while let Err(at) = attempt(clock.now()) {
            tokio::time::sleep_until(clock.at(at.min(clock.now() + HEED))).await;
        }
    }

    /// Gives back what was taken but did not pass.
    pub fn refund(&self, bytes: usize) {
        self.limits.iter().for_each(|limit| limit.bucket().refund(bytes as u64));
    }
}
