//! Telling the processor what is about to be read.
//!
//! With 100,000 peers nothing a decision looks at is in a cache, and it would wait for memory a few dozen
//! times, once after the other. What the keys at hand lead to is known beforehand: announced together, all of
//! it is on its way at once, and other work goes on meanwhile.

/// Has the cache line in which `value` begins fetched, and does not wait for it. Nothing changes by this but
/// how long a later look takes; where there is no such instruction for stable Rust, not even that.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn prefetch<T>(value: &T) {
    prefetch_index::prefetch_index(core::slice::from_ref(value), 0);
}

/// Does nothing: stable Rust has no such instruction for this processor.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const fn prefetch<T>(_value: &T) {}
