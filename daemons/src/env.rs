//! Everything a daemon takes from the world around it: network, disk, clock, entropy, threads.
//!
//! The same daemon runs over real sockets and files and over a simulated world; only the [`Env`]
//! it is handed differs. What a daemon does after its start reaches sockets, files and clocks through
//! here alone; the tools for a terminal (`client`, `launch`, `config`) speak to the system directly.

pub mod disk;
pub mod net;
pub mod watch;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use df_core::rng::Rng;
use df_core::time::Instant;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use disk::{Disk, RealDisk};
use net::{Net, RealNet};
use watch::Watch;

use crate::peer::store::index::{MemoryIndex, Opener, SledIndex};
use crate::sync::lock;

/// One daemon's world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// Sockets and names.
    pub net: Arc<dyn Net>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Monotonic and wall time.
    pub clock: Clock,
    /// Who looks on, in a simulation.
    pub watch: Option<Arc<dyn Watch>>,
    seed: u64,
    /// What secrets are drawn from in a simulation; nothing for the system's entropy.
    entropy: Option<Arc<Mutex<Rng>>>,
    data: Option<Handle>,
    index: Opener,
}

impl Env {
    /// The real world: sockets, files, the system's clock and entropy. `data` is the runtime on
    /// which bytes are moved (see [`Env::spawn_data`]).
    ///
    /// # Errors
    /// When the system gives no entropy.
    pub fn real(data: Option<Handle>) -> std::io::Result<Self> {
        let seed = getrandom::u64().map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(Self {
            net: Arc::new(RealNet),
            disk: Arc::new(RealDisk),
            clock: Clock::start(),
            watch: None,
            seed,
            entropy: None,
            data,
            index: SledIndex::open,
        })
    }

    /// A made-up world, everything on the current thread.
    pub fn simulated(net: Arc<dyn Net>, disk: Arc<dyn Disk>, clock: Clock, seed: u64) -> Self {
        let entropy = Some(Arc::new(Mutex::new(Rng::new(seed).fork("entropy"))));
        Self { net, disk, clock, watch: None, seed, entropy, data: None, index: MemoryIndex::open }
    }

    /// The seed of one machine or part, different for each `label`.
    pub fn seed_for(&self, label: &str) -> u64 {
        Rng::new(self.seed).fork(label).next_u64()
    }

    /// 256 bits that nobody can guess.
    ///
    /// # Errors
    /// When the system gives no entropy.
    pub fn secret(&self) -> std::io::Result<[u8; 32]> {
        let mut bits = [0; 32];
        match &self.entropy {
            None => getrandom::fill(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?,
            Some(rng) => {
                let mut rng = lock(rng);
                bits.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.next_u64().to_le_bytes()));
            }
        }
        Ok(bits)
    }

    /// How the store's index is opened: sled, or in a simulation its twin in memory.
    pub const fn index_opener(&self) -> Opener {
        self.index
    }

    /// Runs a task that moves bytes. In production it goes to a runtime of its own, so that a write
    /// that blocks in the kernel delays other bytes but never a heartbeat; in a simulation it stays
    /// on the one thread there is.
    pub fn spawn_data<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.data {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Runs a call that may block for long (fsync, allocation, hashing a file): on a thread of its
    /// own in production, in place in a simulation, when the time it takes is over.
    ///
    /// # Panics
    /// Passes on a panic of `call`.
    pub async fn blocking<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.data {
            Some(runtime) => match runtime.spawn_blocking(call).await {
                Ok(value) => value,
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            },
            None => {
                let delay = self.disk.delay();
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                call()
            }
        }
    }

    /// Runs two calls that may block for long, at the same time; one after the other in a simulation.
    /// Blocks until both have ended.
    ///
    /// # Panics
    /// Passes on a panic of either.
    pub fn both<A: Send, B>(&self, one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
        if self.data.is_none() {
            return (one(), other());
        }
        std::thread::scope(|scope| {
            let one = scope.spawn(one);
            let other = other();
            (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
        })
    }
}

/// Monotonic time since the daemon's start, and wall time for people and for TTLs.
///
/// Both follow tokio's clock, so they stand still when a simulation stops time; a simulation may
/// skew the wall, and move it.
#[derive(Clone, Debug)]
pub struct Clock {
    zero: tokio::time::Instant,
    /// What the wall showed at zero, in microseconds after the Unix epoch.
    wall_at_zero_us: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that starts now and agrees with the system's wall clock.
    #[allow(clippy::disallowed_methods, reason = "the one place where real wall time enters")]
    pub fn start() -> Self {
        Self::with_wall(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// A clock that starts now, with a wall clock that shows `wall_at_zero` after the Unix epoch.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock is virtual in a simulation")]
    pub fn with_wall(wall_at_zero: Duration) -> Self {
        let wall_at_zero_us = Arc::new(AtomicU64::new(df_core::time::micros(wall_at_zero)));
        Self { zero: tokio::time::Instant::now(), wall_at_zero_us }
    }

    /// Moves the wall clock, as an operator or a time server may; what is monotonic goes on.
    pub fn shift_wall(&self, by_secs: i64) {
        let by_us = by_secs.saturating_mul(1_000_000);
        let shifted = |us: u64| Some(us.saturating_add_signed(by_us));
        let _ = self.wall_at_zero_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shifted);
    }

    /// Monotonic time for machines.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock is virtual in a simulation")]
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.zero.elapsed()
    }

    /// The tokio instant of a machine's deadline.
    pub fn at(&self, instant: Instant) -> tokio::time::Instant {
        self.zero + (instant - Instant::ZERO)
    }

    /// Wall time since the Unix epoch.
    pub fn wall(&self) -> Duration {
        Duration::from_micros(self.wall_at_zero_us.load(Ordering::Relaxed)) + (self.now() - Instant::ZERO)
    }
}
