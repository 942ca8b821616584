//! The contract every decision-making part of the system fulfils, and the outbox they share.

use alloc::collections::VecDeque;

use crate::time::{Deadline, Instant};

/// A deterministic state machine without IO, clock or ambient randomness.
///
/// The driver's duties (the *drain rule*): after every `handle_*` call, call [`poll_output`]
/// until it answers `None`, then ask [`poll_timeout`] for the next deadline, then wait for that
/// deadline or the next input. A machine never fails: malformed input does not reach it, stale
/// input is ignored or answered.
///
/// [`poll_output`]: Machine::poll_output
/// [`poll_timeout`]: Machine::poll_timeout
pub trait Machine {
    /// What the machine is told: facts, named in the past participle.
    type Input;
    /// What the machine wants done: effects, named in the imperative.
    type Output;

    /// Tells the machine one fact. `now` must not run backwards between calls.
    fn handle_input(&mut self, now: Instant, input: Self::Input);

    /// Tells the machine that time has passed; calling it early is harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// Takes the next effect to carry out.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// The next instant at which [`Machine::handle_timeout`] has something to do.
    fn poll_timeout(&self) -> Option<Deadline>;

    /// Panics when an invariant of the machine is broken. Drivers call it after each step when
    /// debug assertions are on; its cost may be linear in the state.
    fn check_invariants(&self);
}

/// The queue of effects between two `handle_*` calls. Keeps its allocation.
#[derive(Debug)]
pub struct Outbox<T>(VecDeque<T>);

impl<T> Outbox<T> {
    /// An empty outbox.
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Adds an effect behind all others.
    pub fn push(&mut self, output: T) {
        self.0.push_back(output);
    }

    /// Takes the oldest effect.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    /// How many effects wait to be polled.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the driver has drained everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self::new()
    }
}
