//! Whom to serve first, and with which piece.

use super::Scheduler;
use super::event::{HostKey, PeerKey};
use super::host::SwarmKey;
use super::swarm::{Member, Row};
use crate::isolation::Standing;
use crate::piece::set::bits;
use crate::piece::{Order, PieceNumber, Selector};
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
    pub(super) fn best_piece(&mut self, key: SwarmKey, parent: Row, child: Row) -> Option<Offer> {
        let coin = self.rng.next_u64() & 1 == 0;
        let swarm = &self.swarms[key];
        let (from, to) = (swarm.member(parent)?, swarm.member(child)?);
        let fence = if to.is_escaping || from.zone == to.zone { None } else { swarm.present_in(to.zone) };
        let outside = |at: usize| fence.map_or(u64::MAX, |present| !present.word(at));
        let useful = swarm.useful_held(parent, child);
        let is_useful = |at: usize| useful(at) & outside(at);
        if (0..swarm.words()).any(|at| is_useful(at) != 0) {
            let order = self.order_of(key, from, child, to);
            let selector = Selector { near: to.near, coin, order };
            let piece = selector.choose(&swarm.availability, is_useful)?;
            return Some(Offer { is_relay: false, copies: swarm.availability.copies(piece), piece });
        }
        if self.config.relay_depth_limit == 0 || from.coming == 0 {
            return None;
        }
        let useful = swarm.useful_coming(parent, child);
        let coming = (0..swarm.words()).map(|at| useful(at) & outside(at));
        let relayable = bits(coming).filter(|piece| self.can_relay(*piece, from.peer, to.peer));
        let piece = relayable.min_by_key(|piece| swarm.availability.copies(*piece))?;
        Some(Offer { is_relay: true, copies: swarm.availability.copies(piece), piece })
    }

    /// In which order `child` is to get what `parent` has. From a seed it is always the rarest first,
    /// so that every piece gets out of there once before any does a second time.
    fn order_of(&self, key: SwarmKey, parent: &Member, child: Row, member: &Member) -> Order {
        let order = self.peers.get(member.peer).map_or(Order::RarestFirst, |peer| peer.order);
        match order {
            Order::InOrder { from, window } if !parent.is_seed => {
                Order::InOrder { from: self.swarms[key].prefix(child, from), window }
            }
            _ => Order::RarestFirst,
        }
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
}
