//! The decisions of Damselfly: what every scheduler and every peer does next, and nothing else.
//!
//! No IO, no clock, no ambient randomness, no async, no payload bytes. A driver feeds facts into a
//! [`machine::Machine`] and carries out the effects it answers; production daemons, the
//! discrete-event engine and the turmoil world are three such drivers of the same code.
//!
//! # The contract
//! 1. *Drain rule*: after every `handle_*` the driver polls outputs until `None`, then asks for the
//!    deadline, then waits.
//! 2. Time comes in as `now`. Durations, never instants, cross the wire.
//! 3. Randomness is the machine's own seeded [`rng::Rng`], a fork for each part.
//! 4. Malformed input does not reach the core; stale input is ignored or answered, never a panic. A
//!    broken invariant is a bug: `check_invariants` says so when debug assertions are on.
//! 5. Everything has a limit with a name.
//! 6. Order is specified: no hash-order iteration, integer scores, ties broken by a drawn key, then
//!    by id.
//! 7. Every effect that will be answered carries an id, so late and duplicate answers are
//!    recognised.
//!
//! Read in this order: [`machine`], [`time`], [`rng`], [`id`], [`piece`], the parts
//! ([`lifecycle`] to [`prefetch`]), then the machines ([`registry`], [`scheduler`], [`downloader`],
//! [`uploader`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod machine;
pub mod time;
pub mod rng;
pub mod prefetch;
pub mod id;
pub mod piece;

pub mod lifecycle;
pub mod blacklist;
pub mod isolation;
pub mod upload_slots;
pub mod token_bucket;
pub mod hash_ring;
pub mod network;

pub mod registry;
pub mod scheduler;
pub mod downloader;
pub mod uploader;

pub mod planted;
