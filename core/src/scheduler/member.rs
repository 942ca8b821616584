//! A peer in its swarm: what matching looks at first, row by row.

use super::event::{HostKey, PeerKey, Zone};
use super::pool::Places;
use super::swarm::Row;
use crate::time::Instant;

/// What a transfer in vain to a host that fails with everybody counts in the order of receivers, in
/// pieces: more than most contents have, so that it comes after all others.
const SPENT_WEIGHT: u32 = 1 << 12;

/// What matching looks at first, row by row: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Member {
    pub(super) peer: PeerKey,
    pub(super) host: HostKey,
    pub(super) zone: Zone,
    pub(super) is_seed: bool,
    /// Whether it wants pieces and is granted them.
    pub(super) is_wanting: bool,
    /// Whether it may be served across zones whatever its own zone has, because nothing came from
    /// there for too long; until something does.
    pub(super) is_escaping: bool,
    /// Whether it reads in order.
    pub(super) is_in_order: bool,
    /// Whether it is behind the others and the end is near.
    pub(super) is_behind: bool,
    /// When it joined, or last got a piece.
    pub(super) served: Instant,
    /// The piece it was last granted.
    pub(super) near: u32,
    /// Whom it was last to send something.
    pub(super) last_child: Row,
    /// Pieces it has.
    pub(super) held: u32,
    /// Pieces on their way to it.
    pub(super) coming: u32,
    /// Transfers made for it in vain since its host fails with everybody.
    spent: u32,
    /// Its places in the pools of its swarm.
    pub(super) places: Places,
}

impl Member {
    pub(super) fn new(now: Instant, host: HostKey, zone: Zone, is_seed: bool) -> Self {
        let peer = PeerKey::default();
        Self {
            peer,
            host,
            zone,
            is_seed,
            is_wanting: false,
            is_escaping: false,
            is_in_order: false,
            is_behind: false,
            served: now,
            near: 0,
            last_child: Row::MAX,
            held: 0,
            coming: 0,
            spent: 0,
            places: [0; 2],
        }
    }

    /// Its place in the line, smaller earlier: by its progress, after those whose transfers are of use.
    pub(super) const fn rank(&self) -> u32 {
        self.progress().saturating_add(self.spent.saturating_mul(SPENT_WEIGHT))
    }

    /// Pieces it has or is about to have.
    pub(super) const fn progress(&self) -> u32 {
        self.held + self.coming
    }

    /// A transfer was in vain, as all lately; or was not.
    pub(super) fn note_spent(&mut self, is_in_vain: bool) {
        self.spent = if is_in_vain { self.spent.saturating_add(1) } else { 0 };
    }
}
