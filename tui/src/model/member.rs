//! Who is in a cluster: hosts, members, clusters and their health.

use std::fmt;

use serde::Serialize;

use super::{Mark, State};

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It downloads for its own callers.
    #[default]
    Peer,
    /// It goes to the source for the others.
    Seed,
    /// It decides who gets what from whom.
    Scheduler,
    /// It knows them all.
    Manager,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "peer",
            Self::Seed => "seed",
            Self::Scheduler => "scheduler",
            Self::Manager => "manager",
        })
    }
}

/// One kind of part, and how many of it are well.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Health {
    /// The kind, in the plural.
    pub what: String,
    /// How to take it.
    pub mark: Mark,
    /// How many are well.
    pub well: u64,
    /// How many there are.
    pub all: u64,
    /// More about it.
    pub note: String,
}

/// A peer or seed peer.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// Its name.
    pub hostname: String,
    /// Its address.
    pub ip: String,
    /// Peer or seed peer.
    pub role: Role,
    /// Where it stands.
    pub idc: String,
    /// More exactly.
    pub location: String,
    /// How it is.
    pub state: State,
    /// Uploads that run.
    pub slots_used: u32,
    /// Uploads that may run.
    pub slots: u32,
    /// What it receives.
    pub download_bytes_per_sec: u64,
    /// What it sends.
    pub upload_bytes_per_sec: u64,
    /// What it gets from sources.
    pub source_bytes_per_sec: u64,
    /// Tasks it takes part in.
    pub tasks: u32,
    /// Bytes of its cache in use.
    pub disk_used_bytes: u64,
    /// Bytes its cache may use.
    pub disk_bytes: u64,
    /// Its scheduler.
    pub scheduler: String,
    /// Why it is not as it should be.
    pub reason: String,
    /// Whether it is kept from use.
    pub is_isolated: bool,
    /// Bytes it received.
    pub downloaded_bytes: u64,
    /// Bytes it sent.
    pub uploaded_bytes: u64,
}

impl Host {
    /// How full its cache is; `None` without a cache.
    pub fn disk_per_mille(&self) -> Option<u32> {
        let share = (u128::from(self.disk_used_bytes) * 1000).checked_div(u128::from(self.disk_bytes))?;
        u32::try_from(share.min(1000)).ok()
    }
}

/// A scheduler, seed peer or peer, as the manager knows it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Member {
    /// Its number.
    pub id: String,
    /// Its host's id; empty for schedulers.
    pub host: String,
    /// What it is.
    pub role: Role,
    /// Its name.
    pub hostname: String,
    /// Where it listens.
    pub address: String,
    /// Its cluster.
    pub cluster: String,
    /// Where it stands.
    pub idc: String,
    /// How it is.
    pub state: State,
    /// Its share of all tasks, by the hash ring; `None` for peers.
    pub ring_per_mille: Option<u32>,
    /// Tasks it knows.
    pub tasks: Option<u64>,
    /// Hosts it knows.
    pub peers: Option<u64>,
    /// Seconds since it was heard of.
    pub silent_s: u64,
    /// What runs there.
    pub release: String,
    /// The version of the configuration in force there.
    pub configuration: u64,
    /// Why it does not take the one it should; empty if it does.
    pub refused: String,
}

/// Schedulers and seed peers that belong together, and whom they are for.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Cluster {
    /// Its number.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether nodes that fit no other are given it.
    pub is_default: bool,
    /// Scopes: IDCs, with `|` between.
    pub idc: String,
    /// Scopes: elements with `|` between, from the widest to the narrowest.
    pub location: String,
    /// Scopes: networks.
    pub cidrs: Vec<String>,
    /// Scopes: patterns of host names.
    pub hostnames: Vec<String>,
    /// Schedulers in it.
    pub schedulers: u32,
    /// Seed peers in it.
    pub seeds: u32,
    /// Peers in it.
    pub peers: u32,
}
