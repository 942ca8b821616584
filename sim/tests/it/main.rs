//! Swarms of the discrete-event engine: what must hold, and what each policy is worth.

mod policies;
mod swarms;
