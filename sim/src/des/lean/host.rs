//! What the lean driver knows of a host.

use df_core::prefetch::prefetch;
use df_core::rng::Rng;
use df_core::scheduler::{HostKey, PeerKey};
use smallvec::SmallVec;

use crate::plan::Plan;

/// No host.
pub(super) const NOBODY: u32 = u32::MAX;

/// Receiving lanes at most.
const LANE_LIMIT: usize = 4;

/// A peer of the lean driver: its links in one cache line, what is on its way to it in the next.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Host {
    /// When its uplink has sent what was granted.
    pub(super) up_free: u64,
    /// When each receiving lane has received what was granted.
    pub(super) lanes: [u64; LANE_LIMIT],
    /// Microseconds a piece takes on its uplink.
    pub(super) piece_us: u64,
    /// The least a piece takes on one of its receiving lanes.
    pub(super) lane_piece_us: u64,
    pub(super) zone: u32,
    lane_count: u16,
    pub(super) is_lying: bool,
    pub(super) is_stalling: bool,
    /// On their way to it; two stand in the host itself.
    pub(super) transfers: SmallVec<[Transfer; 2]>,
    pub(super) key: HostKey,
    pub(super) peer: Option<PeerKey>,
}

/// A piece on its way to the host that lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) grant: u64,
    pub(super) arrival: u64,
    pub(super) piece: u32,
    pub(super) parent: u32,
}

impl Host {
    pub(super) fn new(plan: &Plan, number: u32, rng: &mut Rng) -> Self {
        let is_seed = number < plan.seeds;
        let (up, down) = plan.rates_of(is_seed, rng);
        let lane_count = (down / up).floor().clamp(1.0, LANE_LIMIT as f64);
        Self {
            key: super::no_host(),
            peer: None,
            zone: if is_seed { 0 } else { number % plan.zones },
            piece_us: (plan.piece_us as f64 / up) as u64,
            lane_piece_us: (plan.piece_us as f64 * lane_count / down) as u64,
            up_free: 0,
            lanes: [0; LANE_LIMIT],
            lane_count: lane_count as u16,
            transfers: SmallVec::new(),
            is_lying: false,
            is_stalling: false,
        }
    }

    pub(super) const fn lane_count(&self) -> u32 {
        self.lane_count as u32
    }

    /// Has its links fetched.
    pub(super) fn prefetch_links(&self) {
        prefetch(self);
    }

    /// Has its links fetched, and what is on its way.
    pub(super) fn prefetch(&self) {
        prefetch(self);
        prefetch(&self.transfers);
    }

    /// The lane that is free first.
    pub(super) fn free_lane(&self) -> usize {
        (0..self.lane_count as usize).min_by_key(|lane| self.lanes[*lane]).unwrap_or(0)
    }

    /// When a piece that is on its way here arrives.
    pub(super) fn expected(&self, piece: u32) -> Option<u64> {
        self.transfers.iter().find(|transfer| transfer.piece == piece).map(|transfer| transfer.arrival)
    }
}
