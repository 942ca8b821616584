//! Preheats, and where they bring contents.

use std::fmt;

use serde::Serialize;

use super::{Mark, State};

/// Where a preheat brings contents.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PreheatScope {
    /// To one seed peer of each cluster.
    #[default]
    SingleSeedPeer,
    /// To all seed peers.
    AllSeedPeers,
    /// To all peers.
    AllPeers,
}

impl PreheatScope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::SingleSeedPeer, Self::AllSeedPeers, Self::AllPeers];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SingleSeedPeer => "single_seed_peer",
            Self::AllSeedPeers => "all_seed_peers",
            Self::AllPeers => "all_peers",
        }
    }

    /// The scope with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for PreheatScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A preheat.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Job {
    /// Its number.
    pub id: String,
    /// What is preheated: `image`, `file`.
    pub kind: String,
    /// How it goes.
    pub state: State,
    /// What it is about.
    pub url: String,
    /// Whom it is for.
    pub scope: PreheatScope,
    /// How far it is.
    pub done_per_mille: u32,
    /// Its parts that are done.
    pub done: u64,
    /// Its parts that failed.
    pub failed: u64,
    /// All its parts.
    pub all: u64,
    /// Who asked for it.
    pub user: String,
    /// When.
    pub created_at: u64,
    /// How long it took, or takes until now.
    pub taken_s: u64,
    /// Why it failed.
    pub error: String,
    /// Its parts: layers of an image, files; none in a list.
    pub parts: Vec<JobPart>,
}

impl Job {
    /// Whether anything is still to come.
    pub fn is_running(&self) -> bool {
        self.state.mark == Mark::Busy
    }
}

/// One layer or file of a job.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct JobPart {
    /// Its URL.
    pub url: String,
    /// Its task.
    pub task_id: String,
    /// How it goes.
    pub state: State,
    /// Hosts that have it.
    pub done: u64,
    /// Hosts that failed.
    pub failed: u64,
    /// Hosts that are to have it.
    pub all: u64,
    /// Why some failed.
    pub error: String,
}
