//! Rate limits in force: waiting until bytes may pass.

use std::sync::{Arc, Mutex};

use df_core::time::Instant;
use df_core::token_bucket::{TokenBucket, reserve_all};

use crate::env::Env;
use crate::sync::lock;

/// Bytes moved at once where nothing limits them.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The smallest share of a limited rate that passes at once.
const LEAST_CHUNK_BYTES: u64 = 1024;

/// A limited rate passes in at least this many portions a second.
const PORTIONS_PER_SEC: u64 = 8;

/// One limit: a task's, or a host's.
pub type Limit = Arc<Mutex<TokenBucket>>;

/// A limit of so many bytes per second; `None` for none. An eighth of a second may pass at once.
pub fn limit(now: Instant, rate_bytes_per_sec: Option<u64>) -> Limit {
    let burst = rate_bytes_per_sec.map_or(0, |rate| rate / PORTIONS_PER_SEC);
    Arc::new(Mutex::new(TokenBucket::new(now, rate_bytes_per_sec, burst)))
}

/// The limits one transfer is under, strictest first or not. Cheap to clone.
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

    /// Under one more.
    #[must_use]
    pub fn and(&self, limit: Limit) -> Self {
        let mut limits = self.limits.clone();
        limits.push(limit);
        Self { env: self.env.clone(), limits }
    }

    /// Waits until some bytes may pass, at most `wanted`, and answers how many: at least one.
    pub async fn take(&self, wanted: usize) -> usize {
        let strictest = self.limits.iter().filter_map(|limit| lock(limit).rate()).min();
        let Some(rate) = strictest else { return wanted };
        let portion = (rate / PORTIONS_PER_SEC).max(LEAST_CHUNK_BYTES);
        let bytes = u64::try_from(wanted).unwrap_or(u64::MAX).min(portion).max(1);
        let now = self.env.clock.now();
        let at = {
            let mut buckets: Vec<_> = self.limits.iter().map(|limit| lock(limit)).collect();
            reserve_all(buckets.iter_mut().map(|bucket| &mut **bucket), now, bytes)
        };
        if at > now {
            tokio::time::sleep_until(self.env.clock.at(at)).await;
        }
        usize::try_from(bytes).unwrap_or(wanted).min(wanted)
    }

    /// Gives back what was taken but did not pass.
    pub fn refund(&self, bytes: usize) {
        self.limits.iter().for_each(|limit| lock(limit).refund(bytes as u64));
    }
}
