//! What the scheduler knows of hosts and peers.

use smallvec::SmallVec;

use super::event::{GrantKey, HostInfo, HostKey, HostKind, Mode, PeerKey};
use super::lane::Lane;
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

/// A list that is short nearly always, and then needs no memory of its own.
pub(super) type Short<K> = SmallVec<[K; 2]>;

/// A connected host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) info: HostInfo,
    pub(super) upload: Lane,
    pub(super) download: Lane,
    /// Its peers in all tasks.
    pub(super) peers: Short<PeerKey>,
    /// Those in tasks that somebody wants: who it may have to serve.
    pub(super) serving: Short<PeerKey>,
    /// Those that want pieces themselves.
    pub(super) wanting: Short<PeerKey>,
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
    pub(super) fn new(info: HostInfo, learns_slots: bool, now: Instant) -> Self {
        Self {
            info,
            upload: Lane::new(info.upload_limit, learns_slots && matches!(info.kind, HostKind::Seed)),
            download: Lane::new(info.download_limit, learns_slots),
            peers: Short::new(),
            serving: Short::new(),
            wanting: Short::new(),
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
    /// Grants to it, and from it.
    pub(super) inbound: Short<GrantKey>,
    pub(super) outbound: Short<GrantKey>,
    /// When it joined, or last got a piece.
    pub(super) served: Instant,
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
    /// Other transfers beside it in the parent's lane, and in the child's.
    pub(super) up_company: Company,
    pub(super) down_company: Company,
    /// Whether the parent was still receiving the piece when this was granted: how long it takes
    /// says nothing of the two lanes then.
    pub(super) is_relay: bool,
}

/// The fewest and the most other transfers there were beside one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Company {
    fewest: u16,
    most: u16,
}

impl Company {
    pub(super) const fn new(beside: u32) -> Self {
        Self { fewest: beside as u16, most: beside as u16 }
    }

    /// There are this many now.
    pub(super) fn note(&mut self, beside: u32) {
        self.fewest = self.fewest.min(beside as u16);
        self.most = self.most.max(beside as u16);
    }

    /// Their number, if it never changed.
    pub(super) fn steady(self) -> Option<u32> {
        (self.fewest == self.most).then_some(self.most.into())
    }
}

/// Takes one key out of a short list.
pub(super) fn forget<K: PartialEq + Copy>(list: &mut Short<K>, key: K) {
    if let Some(at) = list.iter().position(|known| *known == key) {
        list.swap_remove(at);
    }
}
