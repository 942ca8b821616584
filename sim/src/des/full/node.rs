//! One host of the full driver: its machines, its store, its connections.

use std::collections::BTreeMap;

use df_core::downloader::{Downloader, FetchId};
use df_core::piece::{PieceNumber, PieceSet};
use df_core::scheduler::{HostKey, PeerKey};
use df_core::time::Duration;
use df_core::uploader::{SlotLease, SlotLimits, Uploader};

use super::super::net::FlowKey;
use crate::plan::Plan;

/// What a host admits: more than the scheduler uses, since grants overlap at their ends.
const SLOTS: SlotLimits = SlotLimits { slot_limit: 16, per_child_limit: 4, lease_term: Duration::from_secs(60) };

/// What is wrong with a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Manner {
    #[default]
    Honest,
    /// Sends other bytes than it should.
    Lying,
    /// Admits requests and sends nothing.
    Stalling,
    /// Reports that transfers failed which did not.
    Slandering,
    /// Receives garbage, whoever sends.
    Broken,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) downloader: Downloader,
    pub(super) uploader: Uploader,
    pub(super) key: HostKey,
    /// Its peer in each task.
    pub(super) peers: Vec<Option<PeerKey>>,
    /// What it stores of each task.
    pub(super) held: Vec<PieceSet>,
    pub(super) fetches: BTreeMap<FetchId, Fetch>,
    pub(super) sources: BTreeMap<FetchId, SourceRun>,
    /// Children to whom a piece is passed on as it arrives, with all their bytes sent but the last.
    pub(super) waiters: Vec<Waiter>,
    pub(super) zone: u32,
    pub(super) manner: Manner,
    pub(super) is_up: bool,
    /// Counts its lives: what was meant for an earlier one is lost.
    pub(super) incarnation: u32,
    pub(super) timer_at: u64,
    pub(super) upload_timer_at: u64,
}

/// A piece this host fetches from a parent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetch {
    pub(super) task: usize,
    pub(super) piece: PieceNumber,
    pub(super) parent: u32,
    pub(super) began: u64,
    pub(super) nearly_at: u64,
    pub(super) stage: Stage,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// The request is on its way.
    Asked,
    /// The parent admitted it and sends nothing.
    Stalled { lease: SlotLease },
    /// Bytes flow.
    Flowing { lease: SlotLease, flow: FlowKey },
    /// All has been sent, or waits for the parent's own copy.
    Sent,
    /// All is here, and is verified once its digest is known.
    Landed,
}

/// A child waiting for the end of a piece that its parent has not yet itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) task: usize,
    pub(super) piece: PieceNumber,
    pub(super) child: u32,
    pub(super) fetch: FetchId,
}

/// A fetch from the source.
#[derive(Clone, Debug)]
pub(super) struct SourceRun {
    pub(super) task: usize,
    /// No piece before this one is still to be asked for.
    pub(super) next: u32,
    pub(super) to: Option<u32>,
    /// What comes over its connections now.
    pub(super) flows: Vec<(PieceNumber, FlowKey)>,
}

impl Node {
    pub(super) fn new(plan: &Plan, number: u32, seed: u64) -> Self {
        let is_seed = number < plan.seeds;
        Self {
            downloader: Downloader::new(seed),
            uploader: Uploader::new(SLOTS),
            key: HostKey::default(),
            peers: vec![None; plan.tasks as usize],
            held: vec![PieceSet::new(); plan.tasks as usize],
            fetches: BTreeMap::new(),
            sources: BTreeMap::new(),
            waiters: Vec::new(),
            zone: if is_seed { 0 } else { number % plan.zones },
            manner: Manner::Honest,
            is_up: true,
            incarnation: 0,
            timer_at: 0,
            upload_timer_at: 0,
        }
    }

    /// Whether all bytes of a piece are here or about to be.
    pub(super) fn has_whole(&self, task: usize, piece: PieceNumber) -> bool {
        let is_it = |fetch: &Fetch| fetch.task == task && fetch.piece == piece;
        let is_sent = |fetch: &Fetch| matches!(fetch.stage, Stage::Sent | Stage::Landed);
        self.held[task].contains(piece) || self.fetches.values().any(|fetch| is_it(fetch) && is_sent(fetch))
    }

    /// Whether a piece is on its way here.
    pub(super) fn expects(&self, task: usize, piece: PieceNumber) -> bool {
        self.fetches.values().any(|fetch| fetch.task == task && fetch.piece == piece)
            || self.sources.values().any(|run| run.task == task && run.flows.iter().any(|(coming, _)| *coming == piece))
    }
}
