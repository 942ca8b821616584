//! The discrete-event engine: the core's machines over modelled links, on a clock that jumps.

mod wheel;

pub mod lean;
