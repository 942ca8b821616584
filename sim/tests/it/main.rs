//! Swarms of the discrete-event engine: what must hold, and what each policy is worth; and the daemons in a
//! simulated world.

mod disk;
mod policies;
mod seeds;
mod swarms;
