//! Matching: who has room to send, who has room to receive, and bringing the two together.

use super::Scheduler;
use super::event::{HostKey, Mode, PeerKey};
use super::host::{Host, SwarmKey};
use super::pool::SampleLimits;
use super::rank::Offer;
use super::swarm::Row;
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
    /// The peer may have room to receive.
    Feed(PeerKey),
}

impl Scheduler {
    /// Carries out all matching that has become possible. Each step either uses up room or work, so
    /// this ends; in all it is bounded by the free room of all hosts.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Serve(host) => self.serve(now, host),
                Work::Feed(peer) => self.feed(now, peer),
            }
        }
    }

    /// Finds receivers for a host until it has no room or nobody wants what it has. Its tasks take
    /// turns.
    fn serve(&mut self, now: Instant, key: HostKey) {
        loop {
            let Some(host) = self.hosts.get(key) else { return };
            if host.serving.is_empty() || !self.may_upload(now, host) {
                return;
            }
            let (turns, first) = (host.serving.len(), host.turn);
            let served = (first..first + turns).find(|turn| {
                let peer = self.hosts[key].serving[turn % turns];
                self.serve_one(now, peer)
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

    /// Grants one piece from `parent` to the neediest receiver that it can help. False if there is
    /// none; then `parent` waits in the idle pool.
    fn serve_one(&mut self, now: Instant, parent: PeerKey) -> bool {
        let Some(peer) = self.peers.get(parent) else { return false };
        let (swarm, row, host) = (peer.swarm, peer.row, peer.host);
        let mut sample = core::mem::take(&mut self.sample);
        let pool = &self.swarms[swarm];
        pool.hungry.sample(&mut self.rng, HUNGRY, &pool.ranks, &mut sample);
        let relays = self.config.relay_depth_limit > 0;
        let mut chosen = None;
        let last = pool.member(row).map_or(row, |member| member.last_child);
        // The neediest nearly always takes something, so sorting them all would be waste. Who was
        // served from here last comes last: or a slow parent would keep the same child for good.
        while let Some(at) = (0..sample.len()).min_by_key(|at| (sample[*at].1 == last, sample[*at].0)) {
            let (_, child) = sample.swap_remove(at);
            if !self.swarms[swarm].is_of_use(row, child, relays) {
                continue;
            }
            let Some(to) = self.swarms[swarm].member(child).copied() else { continue };
            if self.may_serve(now, host, to.host)
                && let Some(offer) = self.best_piece(swarm, row, child)
            {
                chosen = Some((to.peer, offer));
                break;
            }
        }
        self.sample = sample;
        match chosen {
            Some((child, offer)) => self.grant(now, parent, child, offer),
            None if self.swarms[swarm].member(row).is_some_and(|member| member.progress() > 0) => {
                self.swarms[swarm].idle.insert(row);
            }
            None => {}
        }
        chosen.is_some()
    }

    /// Finds idle parents for a receiver until it has no room or nobody idle has what it lacks.
    fn feed(&mut self, now: Instant, child: PeerKey) {
        loop {
            let Some(peer) = self.peers.get(child) else { return };
            let (swarm, row, host) = (peer.swarm, peer.row, peer.host);
            if !self.swarms[swarm].hungry.contains(row) {
                return;
            }
            let mut sample = core::mem::take(&mut self.sample);
            let pool = &self.swarms[swarm];
            pool.idle.sample(&mut self.rng, IDLE, &pool.ranks, &mut sample);
            let mut best: Option<(Offer, bool, u32, Row)> = None;
            for (_, parent) in sample.iter().copied() {
                let Some(offer) = self.offer_of_idle(now, swarm, parent, row, host) else { continue };
                best = Some(best.map_or(offer, |known| known.min(offer)));
            }
            self.sample = sample;
            let Some((offer, _, _, parent)) = best else { return };
            let Some(parent) = self.swarms[swarm].member(parent).map(|member| member.peer) else { return };
            self.grant(now, parent, child, offer);
        }
    }

    /// What an idle member could send to `child`; members that are in truth busy leave the pool.
    /// Among equal offers the seed comes last (others can serve what it has sent), the less loaded
    /// first.
    fn offer_of_idle(
        &mut self,
        now: Instant,
        swarm: SwarmKey,
        parent: Row,
        child: Row,
        child_host: HostKey,
    ) -> Option<(Offer, bool, u32, Row)> {
        // Most have nothing new, and that is seen at once.
        if !self.swarms[swarm].is_of_use(parent, child, self.config.relay_depth_limit > 0) {
            return None;
        }
        let member = *self.swarms[swarm].member(parent)?;
        let host = self.hosts.get(member.host)?;
        if !self.may_upload(now, host) {
            self.swarms[swarm].idle.remove(parent);
            return None;
        }
        let load = host.upload.used;
        if !self.may_serve(now, member.host, child_host) {
            return None;
        }
        let offer = self.best_piece(swarm, parent, child)?;
        Some((offer, member.is_seed, load, parent))
    }

    /// Whether a peer belongs in the pool of those who can be given a piece now.
    pub(super) fn is_hungry(&self, key: PeerKey) -> bool {
        self.peers.get(key).is_some_and(|peer| {
            peer.state.is_downloading()
                && peer.mode == Mode::Granted
                && self.hosts.get(peer.host).is_some_and(|host| {
                    host.download.has_room(self.config.fills_slots || self.swarms[peer.swarm].is_endgame)
                })
                && self.swarms[peer.swarm].lacks_something(peer.row)
        })
    }

    /// Puts a peer in or out of the pool of the hungry, and has it fed if it was out.
    pub(super) fn review_hunger(&mut self, key: PeerKey) {
        let is_hungry = self.is_hungry(key);
        let Some(peer) = self.peers.get(key) else { return };
        let swarm = &mut self.swarms[peer.swarm];
        if is_hungry {
            if swarm.hungry.insert(peer.row) && !swarm.idle.rows().is_empty() {
                self.work.push_back(Work::Feed(key));
            }
        } else {
            swarm.hungry.remove(peer.row);
        }
    }

    /// The same for all peers of a host, whose room to receive changed.
    pub(super) fn review_host_hunger(&mut self, host: HostKey) {
        let mut at = 0;
        while let Some(peer) = self.hosts.get(host).and_then(|host| host.wanting.get(at).copied()) {
            self.review_hunger(peer);
            at += 1;
        }
    }
}
