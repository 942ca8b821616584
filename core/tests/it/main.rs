//! Scenarios and properties of the core, one binary.

mod desk;
mod town;

mod blame;
mod cached;
mod downloader;
mod isolation;
mod matching;
mod parts;
mod props;
mod pulling;
mod registry;
mod scheduler;
mod sharing;
