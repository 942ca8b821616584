//! What the scheduler knows of hosts and peers.

use alloc::vec::Vec;

use super::event::{GrantKey, HostInfo, HostKey, HostKind, Mode, PeerKey};
use super::pulling::Puller;
use super::swarm::Row;
use crate::blacklist::Record;
use crate::id::PeerId;
use crate::isolation::Isolation;
use crate::lifecycle::PeerState;
use crate::piece::{Order, PieceNumber};
use crate::time::Instant;

slotmap::new_key_type! {
    /// A swarm.
    pub(super) struct SwarmKey;
}

/// A connected host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) info: HostInfo,
    pub(super) upload: Lane,
    pub(super) download: Lane,
    /// Its peers in all tasks.
    pub(super) peers: Vec<PeerKey>,
    /// Those in tasks that somebody wants: who it may have to serve.
    pub(super) serving: Vec<PeerKey>,
    /// Those that want pieces themselves.
    pub(super) wanting: Vec<PeerKey>,
    /// Whose turn it is among `serving`.
    pub(super) turn: usize,
    /// Peers that pull and are offered it.
    pub(super) pulls: u32,
    /// What children say of it.
    pub(super) record: Record<HostKey>,
    /// What its own failures say of it.
    pub(super) isolation: Isolation<HostKey>,
}

impl Host {
    pub(super) fn new(info: HostInfo, now: Instant) -> Self {
        Self {
            info,
            upload: Lane::new(info.upload_limit),
            download: Lane::new(info.download_limit),
            peers: Vec::new(),
            serving: Vec::new(),
            wanting: Vec::new(),
            turn: 0,
            pulls: 0,
            record: Record::new(now),
            isolation: Isolation::new(),
        }
    }

    pub(super) const fn is_seed(&self) -> bool {
        matches!(self.info.kind, HostKind::Seed)
    }

    /// Whether it may be offered to anybody at `now`.
    pub(super) fn is_offerable(&self, now: Instant) -> bool {
        !self.record.is_listed(now) && (self.is_seed() || self.isolation.is_sound(now))
    }
}

/// One direction of a host's link: transfers at once, and how fast they were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    limit: u32,
    pub(super) used: u32,
    /// Smoothed microseconds one MiB takes when it has the lane for itself; 0 while unknown.
    pace_us_per_mib: u64,
    /// Transfers at once that the pace justifies.
    fit: u32,
}

/// Transfers that end faster than this overlap: one alone would leave the link idle for the
/// control round trip between two pieces.
const OVERLAP_BELOW_US: u64 = 100_000;

impl Lane {
    const fn new(limit: u32) -> Self {
        Self { limit, used: 0, pace_us_per_mib: 0, fit: 1 }
    }

    /// Whether another transfer may begin.
    pub(super) fn has_room(&self, adapts: bool) -> bool {
        self.used < if adapts { self.limit.min(self.fit) } else { self.limit }
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// A transfer of `bytes` took `elapsed_us`, sharing the lane with `beside` others.
    pub(super) fn note(&mut self, bytes: u64, elapsed_us: u64, beside: u32) {
        let alone_us = elapsed_us / u64::from(beside + 1);
        let pace = alone_us.saturating_mul(1 << 20) / bytes.max(1);
        self.pace_us_per_mib = if self.pace_us_per_mib == 0 { pace } else { (self.pace_us_per_mib * 3 + pace) / 4 };
        let piece_us = (self.pace_us_per_mib.saturating_mul(bytes) >> 20).max(1);
        self.fit = u32::try_from(1 + OVERLAP_BELOW_US / piece_us).unwrap_or(u32::MAX);
    }

    /// How long `bytes` take alone, in microseconds; `None` while unknown.
    pub(super) fn expected_us(&self, bytes: u64) -> Option<u64> {
        (self.pace_us_per_mib > 0).then(|| self.pace_us_per_mib.saturating_mul(bytes) >> 20)
    }
}

/// One host's part in one task.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) host: HostKey,
    pub(super) swarm: SwarmKey,
    pub(super) row: Row,
    pub(super) state: PeerState,
    pub(super) mode: Mode,
    pub(super) order: Order,
    pub(super) can_fetch_source: bool,
    /// Entries of the digest log it was told.
    pub(super) digests_told: u32,
    /// The piece it was last granted.
    pub(super) near: u32,
    /// Grants to it, and from it.
    pub(super) inbound: Vec<GrantKey>,
    pub(super) outbound: Vec<GrantKey>,
    /// When it joined, or last got a piece.
    pub(super) served: Instant,
    /// Whether it may be served across zones whatever its own zone has, because nothing came from
    /// there for too long; until something does.
    pub(super) is_escaping: bool,
    /// What concerns it if it pulls.
    pub(super) puller: Puller,
}

/// The right of `child` to fetch `piece` from `parent`, until it ends or its time is up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) parent: PeerKey,
    pub(super) child: PeerKey,
    pub(super) piece: PieceNumber,
    /// Bytes of the piece.
    pub(super) bytes: u64,
    pub(super) deadline: Instant,
    /// Whether it still occupies a place in the two lanes: not any more once nearly finished.
    pub(super) is_counted: bool,
    /// Other transfers in the parent's and the child's lane when it began.
    pub(super) beside: (u32, u32),
}

/// Takes one key out of a short list.
pub(super) fn forget<K: PartialEq>(list: &mut Vec<K>, key: K) {
    if let Some(at) = list.iter().position(|known| *known == key) {
        list.swap_remove(at);
    }
}
