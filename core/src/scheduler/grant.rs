//! The life of a grant: issued, nearly finished, finished or failed, or its time is up.

use core::num::NonZeroU32;

use super::Scheduler;
use super::candidates::Work;
use super::event::{GrantKey, HostKey, Output, PeerKey, PieceFailure};
use super::host::{Grant, SwarmKey, forget};
use super::rank::Offer;
use crate::blacklist::{BlacklistPolicy, HARD_FAILURE, SOFT_FAILURE};
use crate::piece::PieceNumber;
use crate::time::{Duration, Instant};

impl Scheduler {
    /// Grants a piece from `parent` to `child`: both have room and the piece is of use.
    pub(super) fn grant(&mut self, now: Instant, parent: PeerKey, child: PeerKey, offer: Offer) {
        let piece = offer.piece;
        let (from, to) = (self.peers[parent].host, self.peers[child].host);
        let swarm = self.peers[child].swarm;
        let bytes = self.bytes_of(swarm, piece);
        let rate = self.rate_of(from, to, offer.upstream);
        let up_share = self.hosts[from].upload.share(rate, 0);
        let down_share = self.hosts[to].download.share(rate, self.swarms[swarm].pace);
        self.hosts[from].upload.take(now, up_share);
        self.hosts[to].download.take(now, down_share);
        let (due, late, deadline) = self.grant_terms(now, from, to, bytes);
        let (up_share, down_share) = (up_share as u16, down_share as u16);
        let hops = offer.hops;
        let (fills_up, fills_down) = (true, true);
        let grant = Grant {
            parent,
            child,
            piece,
            began: now,
            due,
            late,
            deadline,
            fills_up,
            fills_down,
            rate,
            up_share,
            down_share,
            hops,
        };
        let key = self.grants.insert(grant);
        self.peers[parent].outbound.push(key);
        self.peers[child].inbound.push(key);
        let row = self.peers[child].row;
        let members = &mut self.swarms[swarm];
        members.set_coming(row, piece);
        if let Some(member) = members.members[row as usize].as_mut() {
            member.near = piece.get();
        }
        let parent_row = self.peers[parent].row;
        if let Some(member) = members.members[parent_row as usize].as_mut() {
            member.last_child = row;
        }
        self.tell_digests(child);
        self.outbox.push(Output::Grant { peer: child, grant: key, piece, parent });
        self.review_host_hunger(to);
        if self.config.relay_depth_limit > 0 {
            self.work.push_back(Work::Serve(to));
        }
    }

    /// What a transfer can be expected to bring: no more than either lane carries, nor than what feeds it.
    pub(super) fn rate_of(&self, from: HostKey, to: HostKey, upstream: Option<GrantKey>) -> Option<NonZeroU32> {
        let fed = upstream.and_then(|key| self.grants.get(key)).and_then(|grant| grant.rate);
        let lanes = [self.hosts[from].upload.width(), self.hosts[to].download.width()];
        let own = lanes.into_iter().flatten().min();
        own.zip(fed).map_or(own, |(own, fed)| Some(if fed.get() * 2 < own.get() { fed } else { own }))
    }

    pub(super) fn bytes_of(&self, swarm: SwarmKey, piece: PieceNumber) -> u64 {
        self.swarms[swarm].plan.map_or(0, |plan| plan.range(piece).len)
    }

    /// When a transfer that begins now is due, when it is late and when it is given to somebody else.
    fn grant_terms(&self, now: Instant, parent: HostKey, child: HostKey, bytes: u64) -> (Instant, Instant, Instant) {
        let up = self.hosts[parent].upload.expected_us(bytes);
        let (first, floor) = (self.config.first_grant_term, self.config.grant_term_floor);
        let Some(us) = up.max(self.hosts[child].download.expected_us(bytes)) else {
            return (now + first, now + floor, now + first);
        };
        let times = |n: u32| Duration::from_micros(us.saturating_mul(n.into()));
        let deadline = times(self.config.grant_slack).max(floor);
        (now + times(1), now + times(self.config.late_slack).max(floor / 4).min(deadline), now + deadline)
    }

    /// The transfer will not occupy its place in the two lanes much longer: the next is granted
    /// now, so that the control round trip is hidden.
    pub(super) fn grant_nearly_finished(&mut self, key: GrantKey) {
        let Some(grant) = self.grants.get_mut(key) else { return };
        let fills_up = core::mem::replace(&mut grant.fills_up, false);
        let fills_down = core::mem::replace(&mut grant.fills_down, false);
        let (up_share, down_share) = (grant.up_share, grant.down_share);
        let (parent, child) = (self.peers[grant.parent].host, self.peers[grant.child].host);
        if fills_up {
            self.hosts[parent].upload.release(up_share.into());
            self.work.push_back(Work::Serve(parent));
        }
        if fills_down {
            self.hosts[child].download.release(down_share.into());
            self.review_host_hunger(child);
        }
    }

    /// A transfer takes longer than it should: meanwhile the child may be served by others. Its
    /// parent is not offered to others, who would only wait as well.
    fn grant_late(&mut self, key: GrantKey) {
        let Some(grant) = self.grants.get_mut(key) else { return };
        if core::mem::replace(&mut grant.fills_down, false) {
            let (share, child) = (grant.down_share, self.peers[grant.child].host);
            self.hosts[child].download.release(share.into());
            self.review_host_hunger(child);
        }
    }

    /// Ends a grant that brought `bytes`: its places in the lanes are free, the piece is no longer on
    /// its way.
    fn end(&mut self, now: Instant, key: GrantKey, is_done: bool) -> Option<Grant> {
        self.grant_nearly_finished(key);
        let grant = self.grants.remove(key)?;
        forget(&mut self.peers[grant.parent].outbound, key);
        forget(&mut self.peers[grant.child].inbound, key);
        let (parent, child) = (&self.peers[grant.parent], &self.peers[grant.child]);
        let bytes = if is_done { self.bytes_of(child.swarm, grant.piece) } else { 0 };
        let (parent, child, swarm) = (parent.host, child.host, child.swarm);
        if let (Some(rate), 0) = (grant.rate, grant.hops) {
            let swarm = &mut self.swarms[swarm];
            swarm.note_pace(rate.get());
        }
        self.hosts[parent].upload.note(now, grant.began, bytes, grant.hops > 0);
        self.hosts[child].download.note(now, grant.began, bytes, grant.hops > 0);
        Some(grant)
    }

    pub(super) fn grant_finished(&mut self, now: Instant, key: GrantKey) {
        let Some(grant) = self.end(now, key, true) else { return };
        let swarm = self.peers[grant.child].swarm;
        self.swarms[swarm].delivered += 1;
        let (parent, child) = (self.peers[grant.parent].host, self.peers[grant.child].host);
        // What was learned of the lane may have made room in it.
        self.review_host_hunger(child);
        self.hosts[parent].record.vouch(now, child, &BlacklistPolicy::GLOBAL);
        self.pairs.vouch(now, (), (child, parent));
        if !self.hosts[parent].is_seed() {
            self.hosts[child].isolation.succeeded(now);
        }
        if self.hosts[parent].info.zone == self.hosts[child].info.zone {
            let (swarm, row) = (self.peers[grant.child].swarm, self.peers[grant.child].row);
            if let Some(member) = self.swarms[swarm].members[row as usize].as_mut() {
                member.is_escaping = false;
            }
        }
        let (swarm, row) = (self.peers[grant.child].swarm, self.peers[grant.child].row);
        self.swarms[swarm].note_spent(row, false);
        self.piece_held(now, grant.child, grant.piece);
    }

    pub(super) fn grant_failed(&mut self, now: Instant, key: GrantKey, failure: PieceFailure) {
        let Some(grant) = self.end(now, key, false) else { return };
        let child = &self.peers[grant.child];
        let swarm = child.swarm;
        self.swarms[swarm].clear_coming(child.row, grant.piece);
        self.blame(now, &grant, failure);
        self.unserved(now, grant.child, grant.piece);
        if failure == PieceFailure::NotFound {
            self.piece_lost(now, grant.parent, grant.piece);
        }
    }

    /// Takes a grant back and tells the child.
    pub(super) fn revoke(&mut self, now: Instant, key: GrantKey) {
        let Some(grant) = self.end(now, key, false) else { return };
        let child = &self.peers[grant.child];
        self.swarms[child.swarm].clear_coming(child.row, grant.piece);
        self.outbox.push(Output::Revoke { peer: grant.child, grant: key });
        self.unserved(now, grant.child, grant.piece);
    }

    /// `child` will not have `piece` after all: whoever was to get it from there has to look
    /// elsewhere, and the child is hungry again.
    pub(super) fn unserved(&mut self, now: Instant, child: PeerKey, piece: PieceNumber) {
        let mut at = 0;
        while let Some(key) = self.peers[child].outbound.get(at).copied() {
            if self.grants[key].piece == piece
                && !self.swarms[self.peers[child].swarm].has(self.peers[child].row, piece)
            {
                self.revoke(now, key);
            } else {
                at += 1;
            }
        }
        let host = self.peers[child].host;
        self.review_host_hunger(host);
        self.work.push_back(Work::Feed(child));
    }

    /// Who is to blame for a failed transfer, and what follows.
    fn blame(&mut self, now: Instant, grant: &Grant, failure: PieceFailure) {
        let (points, is_fault) = match failure {
            PieceFailure::Corrupt | PieceFailure::Stalled => (HARD_FAILURE, true),
            PieceFailure::NotFound | PieceFailure::Disconnected => (SOFT_FAILURE, true),
            // Nobody's fault, but the same pair again and again would get nowhere.
            PieceFailure::Refused | PieceFailure::Aborted => (SOFT_FAILURE, false),
            PieceFailure::Local => return,
        };
        let (parent, child) = (self.peers[grant.parent].host, self.peers[grant.child].host);
        self.pairs.accuse(now, (), (child, parent), points);
        if !is_fault {
            return;
        }
        let is_seed = self.hosts[parent].is_seed();
        let accuser = &mut self.hosts[child].isolation;
        let was_sound = accuser.is_sound(now);
        if !is_seed {
            accuser.failed(now, parent);
        }
        // The word of a host that fails with everybody counts for nothing.
        if was_sound && accuser.is_sound(now) {
            self.accuse(now, child, parent, points);
        } else {
            let member = &self.peers[grant.child];
            self.swarms[member.swarm].note_spent(member.row, true);
        }
    }

    fn accuse(&mut self, now: Instant, child: HostKey, parent: HostKey, points: u32) {
        if !self.hosts[parent].record.accuse(now, child, points, &BlacklistPolicy::GLOBAL) {
            return;
        }
        if let Some(until) = self.hosts[parent].record.listed_until() {
            self.outbox.push(Output::ListHost { host: parent, until });
        }
        let peers = self.hosts[parent].peers.clone();
        for grant in peers.iter().flat_map(|peer| self.peers[*peer].outbound.clone()).collect::<alloc::vec::Vec<_>>() {
            self.revoke(now, grant);
        }
    }

    /// Takes back what has run out of time: a slow or hung parent stalls nobody.
    pub(super) fn expire_grants(&mut self, now: Instant) {
        let mut late = core::mem::take(&mut self.late);
        late.extend(self.grants.iter().filter(|(_, grant)| grant.is_late(now)).map(|(key, _)| key));
        for key in late.drain(..) {
            let Some(grant) = self.grants.get(key).copied() else { continue };
            if now < grant.deadline {
                self.grant_late(key);
                continue;
            }
            self.outbox.push(Output::Revoke { peer: grant.child, grant: key });
            self.grant_failed(now, key, PieceFailure::Stalled);
        }
        self.late = late;
    }
}
