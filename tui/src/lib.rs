//! The console: what a node of the swarm has and does, on a terminal. One screen so far, the contents
//! cached on this node.
//!
//! [`app`] is a state machine that is told [`app::Event`]s, [`view`] draws its state, [`poller`] asks
//! the daemon. Nothing else speaks to the outside but `terminal`, which owns the terminal.

pub mod app;
pub mod poller;
pub mod terminal;
pub mod view;
