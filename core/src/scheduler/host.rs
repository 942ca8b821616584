//! What the scheduler knows of hosts and peers.

use alloc::boxed::Box;
use core::mem::offset_of;
use core::num::NonZeroU32;

use smallvec::SmallVec;

use super::event::{GrantKey, HostInfo, HostKey, HostKind, PeerKey};
use super::lane::Lane;
use super::pulling::Puller;
use super::swarm::Row;
use super::table::LINE;
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

/// A list that has one entry nearly always.
pub(super) type Single<K> = SmallVec<[K; 1]>;

/// A peer's place: its swarm and its row there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seat {
    pub(super) swarm: SwarmKey,
    pub(super) row: Row,
}

/// A connected host. Its first three cache lines are all that a grant touches: what counts for it as a
/// parent, as a child, and its standing.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Host {
    pub(super) upload: Lane,
    /// Its peers in tasks that somebody wants: who it may have to serve.
    pub(super) serving: Single<Seat>,
    pub(super) download: Lane,
    /// Its peers that want pieces.
    pub(super) wanting: Single<Seat>,
    /// What children say of it.
    pub(super) record: Record<u64>,
    /// What its own failures say of it.
    pub(super) isolation: Isolation<u64>,
    /// Under which name it accuses and is accused: half of its id, the same however often it connects anew. It
    /// stands here because every good transfer asks for it, and `info` is further away.
    pub(super) name: u64,
    /// Whose turn it is among `serving`.
    pub(super) turn: u32,
    /// Peers that pull and are offered it.
    pub(super) pulls: u32,
    pub(super) info: HostInfo,
    /// Its peers in all tasks.
    pub(super) peers: Short<PeerKey>,
}

// The lines are what the documentation of the two says they are.
const _: () = assert!(offset_of!(Host, download) == LINE && offset_of!(Host, record) == 2 * LINE);
const _: () = assert!(offset_of!(Host, info) <= 3 * LINE && offset_of!(Peer, outbound) == LINE);

impl Host {
    pub(super) fn new(info: HostInfo, now: Instant) -> Self {
        Self {
            name: info.id.half(),
            info,
            upload: Lane::new(info.upload_limit),
            download: Lane::new(info.download_limit),
            peers: Short::new(),
            serving: Single::new(),
            wanting: Single::new(),
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
        !self.record.is_listed(now) && (self.isolation.is_sound(now) || self.is_seed())
    }
}

/// One host's part in one task. A grant touches the first cache line of its child, the second of its parent.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Peer {
    /// Grants to it.
    pub(super) inbound: Short<Inbound>,
    /// What concerns it if it pulls (Dragonfly v1) instead of being granted pieces.
    pub(super) puller: Option<Box<Puller>>,
    /// Entries of the digest log it was told.
    pub(super) digests_told: u32,
    pub(super) state: PeerState,
    /// Grants from it, and of which piece.
    pub(super) outbound: Short<(GrantKey, PieceNumber)>,
    pub(super) row: Row,
    pub(super) host: HostKey,
    pub(super) swarm: SwarmKey,
    pub(super) order: Order,
    pub(super) can_fetch_source: bool,
    pub(super) wakes_seeds: bool,
    pub(super) id: PeerId,
}

impl Peer {
    pub(super) const fn seat(&self) -> Seat {
        Seat { swarm: self.swarm, row: self.row }
    }

    /// How many pieces it says it has that nobody vouches for.
    pub(super) fn claimed(&self) -> u32 {
        self.puller.as_ref().map_or(0, |puller| puller.claims.len())
    }

    /// Whether it pulls and says it has everything.
    pub(super) fn is_done_pulling(&self) -> bool {
        self.puller.as_ref().is_some_and(|puller| puller.is_done)
    }
}

/// The right of one peer to fetch `piece` from another, until it ends or its time is up.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Grant {
    pub(super) swarm: SwarmKey,
    /// Who sends and who receives: their rows, and their hosts.
    pub(super) from_row: Row,
    pub(super) to_row: Row,
    pub(super) from: HostKey,
    pub(super) to: HostKey,
    pub(super) parent: PeerKey,
    pub(super) child: PeerKey,
    pub(super) piece: PieceNumber,
    /// Whether it occupies its part of the parent's lane, and of the child's: not any more once
    /// nearly finished.
    pub(super) fills_up: bool,
    pub(super) fills_down: bool,
    /// The parts of the parent's lane and of the child's that it fills.
    pub(super) up_share: u16,
    pub(super) down_share: u16,
    /// How many hops passed the piece on as it arrived when this was granted.
    pub(super) hops: u8,
    /// Since when the parent has all of the piece; how long the transfer takes says little of the two lanes
    /// before.
    pub(super) fed: Option<Instant>,
    pub(super) began: Instant,
    /// When it is given up.
    pub(super) deadline: Instant,
    /// When it has taken so long that the child may be served by others meanwhile.
    pub(super) late: Instant,
    /// When it is expected to end.
    pub(super) due: Instant,
    /// The most it can be expected to bring, in bytes a millisecond; `None` while nothing is known.
    pub(super) rate: Option<NonZeroU32>,
}

/// What those who relay a piece ask about the grant by which it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Inbound {
    pub(super) grant: GrantKey,
    pub(super) piece: PieceNumber,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) hops: u8,
}

impl Inbound {
    pub(super) const fn of(key: GrantKey, grant: &Grant) -> Self {
        Self { grant: key, piece: grant.piece, rate: grant.rate, hops: grant.hops }
    }
}

impl Grant {
    /// Whether there is something to be done about it.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now || (self.fills_down && self.late <= now)
    }
}

/// Takes one key out of a short list.
pub(super) fn forget<const N: usize, K: PartialEq + Copy>(list: &mut SmallVec<[K; N]>, key: K)
where
    [K; N]: smallvec::Array<Item = K>,
{
    if let Some(at) = list.iter().position(|known| *known == key) {
        list.swap_remove(at);
    }
}
