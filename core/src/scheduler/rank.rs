//! Whom to serve first, and with which piece.

use super::Scheduler;
use super::event::HostKey;
use super::host::SwarmKey;
use super::member::Member;
use super::swarm::{Row, Swarm};
use crate::isolation::Standing;
use crate::piece::set::bits;
use crate::piece::{Order, PieceNumber, Selector};
use crate::time::Instant;

/// A reader in order gets the first piece that so many of so many members have or expect: in the model of
/// `docs/swarm.md` the shares from 0.4 to 0.7 differ little.
const COMMON: (u32, u32) = (3, 5);

/// A piece one member could send another, and how good an idea that is: smaller is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Offer {
    /// Through how many hops the piece arrives while it is passed on; none if the parent has it.
    pub(super) hops: u8,
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
        let (parent, child) = (&self.hosts[parent], &self.hosts[child]);
        parent.is_offerable(now)
            && match child.isolation.standing(now) {
                Standing::Sound => true,
                Standing::Isolated { .. } => parent.is_seed(),
                Standing::Probing => parent.is_seed() || child.download.used == 0,
            }
    }

    /// The best piece `parent` could send `child`: one it has, rarest first; else one it is
    /// receiving itself and can pass on as it arrives.
    pub(super) fn best_piece(&mut self, now: Instant, key: SwarmKey, parent: Row, child: Row) -> Option<Offer> {
        let coin = self.rng.next_u64() & 1 == 0;
        let swarm = &self.swarms[key];
        let (from, to) = (swarm.member(parent)?, swarm.member(child)?);
        let fence = if to.is_escaping || from.zone == to.zone { None } else { swarm.present_in(to.zone) };
        let mut useful = core::mem::take(&mut self.useful);
        swarm.note_lacked(child, &mut useful);
        if let Some(present) = fence {
            useful.iter_mut().enumerate().for_each(|(at, word)| *word &= !present.word(at));
        }
        if self.config.keeps_free && self.keeps_free(now, swarm, from) {
            swarm.retain_unique(&mut useful);
        }
        let offer = self.offer(key, parent, child, coin, &mut useful);
        self.useful = useful;
        offer
    }

    /// Whether a member at the source sends nothing that others have, too: the next new piece will be there
    /// before it is done. If the source is no faster than the links, the swarm never makes up for what comes
    /// between.
    fn keeps_free(&self, now: Instant, swarm: &Swarm, member: &Member) -> bool {
        let Some((run, plan)) = swarm.source.run_of(member.peer).zip(swarm.plan) else { return false };
        let us = self.hosts[member.host].upload.alone_us(plan.piece_len());
        run.interferes(now, us, plan.count())
    }

    /// The best of the `useful` pieces that `parent` could send `child`.
    fn offer(&self, key: SwarmKey, parent: Row, child: Row, coin: bool, useful: &mut [u64]) -> Option<Offer> {
        let swarm = &self.swarms[key];
        let (from, to) = (swarm.member(parent)?, swarm.member(child)?);
        if swarm.offers_any(parent, false, useful) {
            useful.iter_mut().zip(swarm.held(parent)).for_each(|(word, held)| *word &= held);
            let order = self.order_of(key, from, child, to);
            let common = swarm.len() as u32 * COMMON.0 / COMMON.1;
            let piece = Selector { near: to.near, coin, order, common }.choose(&swarm.availability, useful)?;
            return Some(Offer { hops: 0, copies: swarm.availability.copies(piece), piece });
        }
        if self.config.relay_depth_limit == 0 || from.coming == 0 {
            return None;
        }
        let coming = bits(useful.iter().zip(swarm.coming(parent)).map(|(useful, coming)| useful & coming));
        let (copies, piece) = coming.map(|piece| (swarm.availability.copies(piece), piece)).min()?;
        // The child neither has nor expects the piece, and all upstream of the parent do: so following
        // the parents of a piece never leads in a circle.
        let upstream = self.inbound(from.peer, piece);
        if let (Some(fed), Some(rate)) = (upstream.and_then(|fed| fed.rate), self.rate_of(from.host, to.host))
            && fed.get() * 2 < rate.get()
        {
            return None;
        }
        let hops = upstream.map_or(0, |fed| fed.hops).saturating_add(1);
        (u32::from(hops) <= self.config.relay_depth_limit).then_some(Offer { hops, copies, piece })
    }

    /// In which order `child` is to get what `parent` has. From a seed it is always the rarest first,
    /// so that every piece gets out of there once before any does a second time.
    fn order_of(&self, key: SwarmKey, parent: &Member, child: Row, member: &Member) -> Order {
        let order = member.is_in_order.then(|| self.peers[member.peer].order);
        match order {
            Some(Order::InOrder { from, window }) if !parent.is_seed => {
                Order::InOrder { from: self.swarms[key].prefix(child, from), window }
            }
            _ => Order::RarestFirst,
        }
    }
}

impl Swarm {
    /// Leaves of these pieces those that no more than one member has or expects.
    fn retain_unique(&self, words: &mut [u64]) {
        for number in 0..self.availability.count() {
            let (piece, at) = (PieceNumber::from_table(number), number as usize / 64);
            let is_common = self.availability.copies(piece) > 1;
            words[at] &= !(u64::from(is_common) << (number % 64));
        }
    }
}
