//! The daemons' engine: the production daemons over a simulated network, disk, clock and origin, under
//! faults drawn from a seed.

pub mod book;
pub mod campaign;
pub mod checks;
pub mod child;
pub mod cli;
pub mod content;
pub mod disk;
pub mod eyes;
pub mod fault;
mod gate;
pub mod ledger;
pub mod links;
pub mod manager;
pub mod minimise;
pub mod net;
pub mod node;
pub mod origin;
pub mod panics;
pub mod planted;
pub mod scenario;
pub mod user;
pub mod world;
