//! Attacks: the same core and the same daemons, driven through swarms, faults and time by a seed.
//!
//! A [`plan::Plan`] says what a run is, [`modelled`] who can carry it out, [`outcome::Outcome`] what came
//! of it, [`oracle`] what must hold at the end, [`trace`] whether two runs were the same. The
//! discrete-event engine is in [`des`]; the named plans are in [`scenario`].

pub mod plan;
pub mod modelled;
pub mod outcome;
pub mod oracle;
pub mod trace;

pub mod des;
pub mod turmoil;
pub mod scenario;
pub mod report;
pub mod figures;
mod svg;
