//! Matching: who has room to send, who has room to receive, and bringing the two together.

use alloc::vec::Vec;

use super::Scheduler;
use super::event::{HostKey, PeerKey};
use super::host::{Host, Seat};
use super::member::Member;
use super::pool::{Entry, PoolKind, SampleLimits};
use super::rank::Offer;
use super::swarm::{Row, Swarm};
use crate::time::Instant;

/// Of the hungry: their ranks are looked at, which is cheap. In the model of `docs/swarm.md` 8 to 16
/// come within a percent of full knowledge.
const HUNGRY: SampleLimits = SampleLimits { scan: 64, draw: 16 };

/// Of the idle: for each a best piece is looked for.
pub(super) const IDLE: SampleLimits = SampleLimits { scan: 24, draw: 12 };

/// Matching that a state change has made possible.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// The host may have room to upload.
    Serve(HostKey),
    /// The peer there may have room to receive.
    Feed(Seat),
}

impl Scheduler {
    /// Carries out all matching that has become possible. Each step either uses up room or work, so
    /// this ends; in all it is bounded by the free room of all hosts.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Serve(host) => self.serve(now, host),
                Work::Feed(seat) => self.feed(now, seat),
            }
        }
    }

    /// Finds receivers for a host until it has no room or nobody wants what it has. Its tasks take
    /// turns.
    fn serve(&mut self, now: Instant, key: HostKey) {
        loop {
            let host = &self.hosts[key];
            if host.serving.is_empty() || !self.may_upload(now, host) {
                return;
            }
            let (turns, first) = (host.serving.len() as u32, host.turn);
            let served = (first..first + turns).find(|turn| {
                let seat = self.hosts[key].serving[(turn % turns) as usize];
                self.serve_one(now, seat)
            });
            match served {
                Some(turn) => self.hosts[key].turn = (turn + 1) % turns,
                None => return,
            }
        }
    }

    pub(super) fn may_upload(&self, now: Instant, host: &Host) -> bool {
        host.upload.has_room(self.config.fills_slots) && host.is_offerable(now)
    }

    /// Grants one piece from the peer in `seat` to the neediest receiver that it can help. False if
    /// there is none; then it waits in the idle pool.
    fn serve_one(&mut self, now: Instant, seat: Seat) -> bool {
        let Some(member) = self.member(seat).copied().filter(|member| member.progress() > 0) else { return false };
        let swarm = &self.swarms[seat.swarm];
        let mut sample = core::mem::take(&mut self.sample);
        swarm.hungry.sample(&mut self.rng, HUNGRY, &mut sample);
        let found = self.receiver(now, seat, &member, &mut sample);
        self.sample = sample;
        match found {
            Some((child, offer)) => self.grant(now, seat.swarm, seat.row, child, offer),
            None => _ = self.swarms[seat.swarm].note_pooled(PoolKind::Idle, seat.row, true),
        }
        found.is_some()
    }

    /// The neediest of a sample that can be helped. It nearly always is the first: what the parent has
    /// is compared with the others only when it is not. Who was served from here last comes last: or
    /// a slow parent would keep the same child for good.
    fn receiver(
        &mut self,
        now: Instant,
        parent: Seat,
        member: &Member,
        sample: &mut Vec<Entry>,
    ) -> Option<(Row, Offer)> {
        let mut is_sifted = false;
        if let Some(last) = sample.iter_mut().find(|entry| entry.row == member.last_child) {
            last.rank = u32::MAX;
        }
        while let Some(entry) = take_least(sample) {
            self.prefetch_receiver(parent.swarm, &entry);
            let child = entry.row;
            if self.may_serve(now, member.host, entry.host)
                && let Some(offer) = self.best_piece(now, parent.swarm, parent.row, child)
            {
                return Some((child, offer));
            }
            if !core::mem::replace(&mut is_sifted, true) {
                let swarm = &self.swarms[parent.swarm];
                swarm.note_offered(parent.row, self.config.relay_depth_limit > 0, &mut self.wanted);
                swarm.prefetch_rows(sample);
                sample.retain(|entry| swarm.lacks_any(entry.row, &self.wanted));
            }
        }
        None
    }

    /// Finds idle parents for a receiver until it has no room or nobody idle has what it lacks.
    fn feed(&mut self, now: Instant, child: Seat) {
        let relays = self.config.relay_depth_limit > 0;
        while let Some(swarm) = self.swarms.get(child.swarm).filter(|swarm| swarm.is_hungry(child.row)) {
            let mut sample = core::mem::take(&mut self.sample);
            swarm.idle.sample(&mut self.rng, IDLE, &mut sample);
            // Most have nothing new, and that is seen at once.
            swarm.note_lacked(child.row, &mut self.wanted);
            swarm.prefetch_rows(&sample);
            sample.retain(|entry| swarm.offers_any(entry.row, relays, &self.wanted));
            self.prefetch_parents(child.swarm, &sample);
            let offers = sample.iter().filter_map(|entry| self.offer_of_idle(now, child, entry.row));
            let best = offers.min();
            self.sample = sample;
            let Some((offer, _, _, parent)) = best else { return };
            self.grant(now, child.swarm, parent, child.row, offer);
        }
    }

    /// What an idle member could send to `child`; members that are in truth busy leave the pool.
    /// Among equal offers the seed comes last (others can serve what it has sent), the less loaded
    /// first.
    fn offer_of_idle(&mut self, now: Instant, child: Seat, parent: Row) -> Option<(Offer, bool, u32, Row)> {
        let swarm = &mut self.swarms[child.swarm];
        let (from, to) = (swarm.member(parent)?, swarm.member(child.row)?);
        let (is_seed, from, to) = (from.is_seed, from.host, to.host);
        let host = &self.hosts[from];
        let load = host.upload.used;
        if !self.may_upload(now, host) {
            self.swarms[child.swarm].note_pooled(PoolKind::Idle, parent, false);
            return None;
        }
        if !self.may_serve(now, from, to) {
            return None;
        }
        let offer = self.best_piece(now, child.swarm, parent, child.row)?;
        Some((offer, is_seed, load, parent))
    }

    /// Whoever's host has no room to upload any more is not idle: else the end would seem to have come.
    pub(super) fn review_idleness(&mut self, now: Instant, host: HostKey) {
        if self.may_upload(now, &self.hosts[host]) {
            return;
        }
        for at in 0..self.hosts[host].serving.len() {
            let seat = self.hosts[host].serving[at];
            self.swarms[seat.swarm].note_pooled(PoolKind::Idle, seat.row, false);
        }
    }

    /// Whether a row belongs in the pool of those who can be given a piece now.
    pub(super) fn is_hungry(&self, swarm: &Swarm, row: Row) -> bool {
        swarm.member(row).is_some_and(|member| {
            let lane = &self.hosts[member.host].download;
            member.is_wanting
                && member.progress() < swarm.piece_count()
                && (lane.has_room(self.config.fills_slots || swarm.is_endgame)
                    || (member.is_behind && lane.has_room_beside_one()))
        })
    }

    /// Puts a peer in or out of the pool of the hungry, and has it fed if it was out.
    pub(super) fn review_hunger(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get(key) {
            self.review_seat(peer.seat());
        }
    }

    /// The same for whoever sits there.
    pub(super) fn review_seat(&mut self, seat: Seat) {
        let Some(swarm) = self.swarms.get(seat.swarm) else { return };
        let is_hungry = self.is_hungry(swarm, seat.row);
        let swarm = &mut self.swarms[seat.swarm];
        if swarm.note_pooled(PoolKind::Hungry, seat.row, is_hungry) && swarm.idle.len() > 0 {
            self.work.push_back(Work::Feed(seat));
        }
    }

    /// The same for all peers of a host, whose room to receive changed.
    pub(super) fn review_host_hunger(&mut self, host: HostKey) {
        let mut at = 0;
        while let Some(seat) = self.hosts[host].wanting.get(at).copied() {
            self.review_seat(seat);
            at += 1;
        }
    }
}

/// Takes out the first of those with the lowest rank.
fn take_least(sample: &mut Vec<Entry>) -> Option<Entry> {
    let mut least = 0;
    for at in 1..sample.len() {
        if sample[at].rank < sample[least].rank {
            least = at;
        }
    }
    (!sample.is_empty()).then(|| sample.swap_remove(least))
}
