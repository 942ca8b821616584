//! The daemons of Damselfly and the parts they share: what acts on the core's decisions.

pub mod client;
pub mod config;
pub mod console;
pub mod digest;
pub mod env;
pub mod launch;
pub mod manager;
pub mod member;
pub mod peer;
pub mod pump;
pub mod scheduler;
pub mod serving;
pub mod sync;
pub mod telemetry;
pub mod units;
