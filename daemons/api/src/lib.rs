//! The wire of Damselfly: protocol buffers, generated code, and the border where messages become
//! core types.
//!
//! Malformed messages end here ([`convert`]); behind it every id has its size, every piece number
//! its plan, every length its limit.

pub mod convert;
pub mod dial;
pub mod failure;
pub mod generated;
pub mod status;
pub mod task;
pub mod v1;

pub use generated::{base, dfdaemon, manager, scheduler};
