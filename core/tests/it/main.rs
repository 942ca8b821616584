//! Scenarios and properties of the core, one binary.

mod cached;
mod town;

mod downloader;
mod parts;
mod props;
mod pulling;
mod registry;
mod scheduler;
mod sharing;
