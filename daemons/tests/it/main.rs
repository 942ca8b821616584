//! Tests of the daemons' parts over real sockets and files, in one binary.

mod cache;
mod client;
mod cluster;
mod origin;
mod source;
mod swarm;
mod v1;
