//! What `cargo xtask codegen` makes of the protos: not for editing.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

#[rustfmt::skip]
pub mod base;
#[rustfmt::skip]
pub mod dfdaemon;
#[rustfmt::skip]
pub mod manager;
#[rustfmt::skip]
pub mod scheduler;

/// Every proto with its imports, for gRPC reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");
