//! Whom to serve first, and with which piece.

use super::Scheduler;
use super::event::{HostKey, PeerKey};
use super::host::SwarmKey;
use super::swarm::{Row, Swarm};
use crate::isolation::Standing;
use crate::piece::set::bits;
use crate::piece::{PieceNumber, Selector};
use crate::time::Instant;

/// A piece one member could send another, and how good an idea that is: smaller is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Offer {
    /// The parent is still receiving the piece itself.
    pub(super) is_relay: bool,
    /// Copies there are.
    pub(super) copies: u32,
    pub(super) piece: PieceNumber,
}

impl Scheduler {
    /// Whether `child` may be served by `parent` at all, whatever the piece.
    pub(super) fn may_serve(&self, now: Instant, parent: HostKey, child: HostKey) -> bool {
        if parent == child || (!self.pairs.is_empty() && self.pairs.is_listed(now, (child, parent))) {
            return false;
        }
        let (Some(parent), Some(child)) = (self.hosts.get(parent), self.hosts.get(child)) else { return false };
        parent.is_offerable(now)
            && match child.isolation.standing(now) {
                Standing::Sound => true,
                Standing::Isolated { .. } => parent.is_seed(),
                Standing::Probing => parent.is_seed() || child.download.used == 0,
            }
    }

    /// The best piece `parent` could send `child`: one it has, rarest first; else one it is
    /// receiving itself and can pass on as it arrives.
    pub(super) fn best_piece(&mut self, swarm: SwarmKey, parent: Row, child: Row) -> Option<Offer> {
        let (near, order, is_escaping) = {
            let child = self.swarms[swarm].member(child)?;
            let peer = self.peers.get(child.peer)?;
            (peer.near, peer.order, peer.is_escaping)
        };
        let coin = self.rng.chance(1, 2);
        let selector = Selector { near, coin, order };
        let swarm = &self.swarms[swarm];
        let fence = if is_escaping { None } else { fence(swarm, parent, child) };
        let outside = |words| fenced(words, fence);
        let held = selector.choose(&swarm.availability, outside_words(swarm.useful_held(parent, child), outside));
        if let Some(piece) = held {
            return Some(Offer { is_relay: false, copies: swarm.availability.copies(piece), piece });
        }
        if self.config.relay_depth_limit == 0 {
            return None;
        }
        let coming = outside_words(swarm.useful_coming(parent, child), outside);
        let (from, to) = (swarm.member(parent)?.peer, swarm.member(child)?.peer);
        let relayable = bits(coming).filter(|piece| self.can_relay(*piece, from, to));
        let piece = relayable.min_by_key(|piece| swarm.availability.copies(*piece))?;
        Some(Offer { is_relay: true, copies: swarm.availability.copies(piece), piece })
    }

    /// Whether `piece`, on its way to `from`, may be passed on to `to` as it arrives: the chain it
    /// comes through must be short and must not contain `to`, or the two would wait for each other.
    pub(super) fn can_relay(&self, piece: PieceNumber, from: PeerKey, to: PeerKey) -> bool {
        let mut upstream = from;
        for _ in 0..self.config.relay_depth_limit {
            if upstream == to {
                return false;
            }
            let Some(peer) = self.peers.get(upstream) else { return false };
            let grant = peer.inbound.iter().filter_map(|grant| self.grants.get(*grant)).find(|g| g.piece == piece);
            match grant {
                Some(grant) => upstream = grant.parent,
                // The chain ends at one who has the piece, or who fetches it from the source.
                None => {
                    let swarm = &self.swarms[peer.swarm];
                    return swarm.has(peer.row, piece) || swarm.expects(peer.row, piece);
                }
            }
        }
        false
    }

    /// Smaller is served earlier: the receiver with the least progress.
    pub(super) fn receiver_key(&mut self, swarm: SwarmKey, row: Row) -> u64 {
        let progress = self.swarms[swarm].member(row).map_or(u32::MAX, super::swarm::Member::progress);
        u64::from(progress) << 32 | self.rng.next_u64() >> 32
    }
}

/// Between zones a piece crosses only if the target zone has no copy of it: the words of pieces
/// that may not cross. `None` within a zone.
fn fence(swarm: &Swarm, parent: Row, child: Row) -> Option<&crate::piece::PieceSet> {
    let (from, to) = (swarm.member(parent)?.zone, swarm.member(child)?.zone);
    if from == to { None } else { swarm.zones.get(&to).map(super::swarm::ZoneBook::present) }
}

fn fenced((at, word): (usize, u64), fence: Option<&crate::piece::PieceSet>) -> u64 {
    fence.map_or(word, |present| word & !present.word(at))
}

fn outside_words<'a>(
    words: impl Iterator<Item = u64> + 'a,
    outside: impl Fn((usize, u64)) -> u64 + 'a,
) -> impl Iterator<Item = u64> + 'a {
    words.enumerate().map(outside)
}
