//! Tests of the daemons' parts over real sockets and files, in one binary.

mod cache;
mod client;
mod cluster;
mod grpc;
mod manager;
mod origin;
mod piece_port;
mod source;
mod swarm;
mod v1;
