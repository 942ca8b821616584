//! The life of a grant: issued, nearly finished, finished or failed, or its time is up.

use core::num::NonZeroU32;

use super::Scheduler;
use super::candidates::Work;
use super::event::{GrantKey, HostKey, Output, PeerKey, PieceFailure};
use super::host::{Grant, Inbound, Seat, SwarmKey, forget};
use super::rank::Offer;
use super::swarm::Row;
use crate::blacklist::{BlacklistPolicy, HARD_FAILURE, SOFT_FAILURE};
use crate::piece::PieceNumber;
use crate::time::{Duration, Instant};

/// How long a transfer may stand still that moved, in shortest terms: longer than a parent waits for what it
/// passes on as it arrives.
const NEWS_TERM: u32 = 5;

/// The longest a transfer that moves may take, in terms of the first one.
const LONGEST: u32 = 10;

/// What passes on a piece as it arrives was held up by that if less than one part of its time in so many was
/// left once the piece was whole: it had caught up with what fed it.
const CAUGHT_UP_PART: u32 = 8;

impl Scheduler {
    /// Grants a piece to one row of a swarm from another: both have room and the piece is of use.
    pub(super) fn grant(&mut self, now: Instant, swarm: SwarmKey, from_row: Row, to_row: Row, offer: Offer) {
        let Offer { hops, piece, .. } = offer;
        let members = &mut self.swarms[swarm];
        let (Some(from), Some(to)) = (members.member(from_row).copied(), members.member(to_row).copied()) else {
            return;
        };
        members.note_granted(from_row, to_row, piece);
        let bytes = self.bytes_of(swarm, piece);
        let rate = self.rate_of(from.host, to.host);
        let (due, late, deadline) = self.grant_terms(now, from.host, to.host, bytes);
        let up_share = self.hosts[from.host].upload.take(now, rate, 0);
        self.review_idleness(now, from.host);
        let down_share = self.hosts[to.host].download.take(now, rate, self.swarms[swarm].usual.rate());
        let grant = Grant {
            swarm,
            from_row,
            to_row,
            from: from.host,
            to: to.host,
            parent: from.peer,
            child: to.peer,
            piece,
            began: now,
            due,
            late,
            deadline,
            fills_up: true,
            fills_down: true,
            rate,
            up_share,
            down_share,
            hops,
            fed: (hops == 0).then_some(now),
        };
        let key = self.grants.insert(grant);
        self.peers[from.peer].outbound.push((key, piece));
        self.peers[to.peer].inbound.push(Inbound::of(key, &grant));
        self.tell_digests(swarm, to.peer);
        self.outbox.push(Output::Grant { peer: to.peer, grant: key, piece, parent: from.peer });
        self.review_host_hunger(to.host);
        if self.config.relay_depth_limit > 0 {
            self.work.push_back(Work::Serve(to.host));
        }
    }

    /// What a transfer can be expected to bring: no more than either lane carries, as far as that is known.
    pub(super) fn rate_of(&self, from: HostKey, to: HostKey) -> Option<NonZeroU32> {
        let lanes = [self.hosts[from].upload.sure_width(), self.hosts[to].download.sure_width()];
        lanes.into_iter().flatten().min()
    }

    /// What a transfer brings at least, as far as the widths are known; sure or not, both are no wider than
    /// that.
    pub(super) fn known_rate(&self, from: HostKey, to: HostKey) -> Option<NonZeroU32> {
        let lanes = [self.hosts[from].upload.width(), self.hosts[to].download.width()];
        lanes.into_iter().flatten().min()
    }

    pub(super) fn bytes_of(&self, swarm: SwarmKey, piece: PieceNumber) -> u64 {
        self.swarms[swarm].plan.map_or(0, |plan| plan.range(piece).len)
    }

    /// When a transfer that begins now is due, when it is late and when it is given to somebody else.
    fn grant_terms(&self, now: Instant, parent: HostKey, child: HostKey, bytes: u64) -> (Instant, Instant, Instant) {
        let (first, floor) = (self.config.first_grant_term, self.config.grant_term_floor);
        let up = self.hosts[parent].upload.expected_us(bytes);
        let down = self.hosts[child].download.expected_us(bytes);
        let Some(us) = up.zip(down).map(|(up, down)| up.max(down)) else {
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
        if core::mem::replace(&mut grant.fills_up, false) {
            let (share, parent) = (grant.up_share, grant.from);
            self.hosts[parent].upload.release(share);
            self.work.push_back(Work::Serve(parent));
        }
        self.make_way(key);
    }

    /// The child may be served by others beside this transfer, which is nearly finished or takes
    /// longer than it should. In the latter case its parent is not offered to others, who would only
    /// wait as well.
    fn make_way(&mut self, key: GrantKey) {
        let Some(grant) = self.grants.get_mut(key) else { return };
        if core::mem::replace(&mut grant.fills_down, false) {
            let (share, child) = (grant.down_share, grant.to);
            self.hosts[child].download.release(share);
            self.review_host_hunger(child);
        }
    }

    /// A transfer that takes longer than it should still moves: it is slow, not hung, and taking it back
    /// would only have it begun anew. Who is to be served soon is served by others meanwhile, and at the
    /// end of a download faster parents take over.
    pub(super) fn grant_progressed(&mut self, now: Instant, key: GrantKey) {
        let (term, most) = (self.config.grant_term_floor * NEWS_TERM, self.config.first_grant_term * LONGEST);
        if let Some(grant) = self.grants.get_mut(key) {
            grant.deadline = grant.deadline.max((now + term).min(grant.began + most));
            self.swarms[grant.swarm].moved = now;
        }
    }

    /// Ends a grant: its places in the lanes are free, the piece is no longer on its way.
    fn end(&mut self, now: Instant, key: GrantKey, is_done: bool) -> Option<Grant> {
        self.grant_nearly_finished(key);
        let grant = *self.grants.remove(key)?;
        forget(&mut self.peers[grant.parent].outbound, (key, grant.piece));
        self.peers[grant.child].inbound.retain(|inbound| inbound.grant != key);
        let bytes = if is_done { self.bytes_of(grant.swarm, grant.piece) } else { 0 };
        if let (Some(rate), 0) = (grant.rate, grant.hops) {
            self.swarms[grant.swarm].usual.note_rate(rate.get());
        }
        let is_held_up = grant.fed.is_none_or(|fed| (now - fed) * CAUGHT_UP_PART < now - grant.began);
        self.hosts[grant.from].upload.note(now, grant.began, bytes, is_held_up);
        self.hosts[grant.to].download.note(now, grant.began, bytes, is_held_up);
        Some(grant)
    }

    pub(super) fn grant_finished(&mut self, now: Instant, key: GrantKey) {
        let Some(grant) = self.end(now, key, true) else { return };
        let Grant { from, to, swarm, from_row, to_row, .. } = grant;
        let child = self.hosts[to].name;
        self.hosts[from].record.vouch(now, child, &BlacklistPolicy::GLOBAL);
        if !self.pairs.is_empty() {
            self.pairs.vouch(now, (), (to, from));
        }
        let members = &mut self.swarms[swarm];
        let Some(parent) = members.member(from_row) else { return };
        let (is_seed, zone) = (parent.is_seed, parent.zone);
        if !is_seed {
            self.hosts[to].isolation.succeeded(now);
        }
        members.delivered += 1;
        members.note_served(to_row, zone);
        self.piece_held(now, Seat { swarm, row: to_row }, grant.piece);
    }

    pub(super) fn grant_failed(&mut self, now: Instant, key: GrantKey, failure: PieceFailure) {
        let Some(grant) = self.end(now, key, false) else { return };
        self.blame(now, &grant, failure);
        self.unserved(now, grant.child, grant.piece);
        if failure == PieceFailure::NotFound {
            self.piece_lost(now, grant.parent, grant.piece);
        }
    }

    /// Takes a grant back and tells the child.
    pub(super) fn revoke(&mut self, now: Instant, key: GrantKey) {
        let Some(grant) = self.end(now, key, false) else { return };
        self.outbox.push(Output::Revoke { peer: grant.child, grant: key });
        self.unserved(now, grant.child, grant.piece);
    }

    /// One way by which `child` was to get `piece` has come to nothing. If it was the only one, whoever
    /// was to get the piece from there has to look elsewhere; the child is hungry again anyhow.
    pub(super) fn unserved(&mut self, now: Instant, child: PeerKey, piece: PieceNumber) {
        let (seat, host) = (self.peers[child].seat(), self.peers[child].host);
        let is_granted = self.inbound(child, piece).is_some();
        let swarm = &mut self.swarms[seat.swarm];
        if !is_granted && !swarm.source.brings(child, piece) {
            swarm.clear_coming(seat.row, piece);
        }
        let is_lost = !swarm.has(seat.row, piece) && !swarm.expects(seat.row, piece);
        let mut at = 0;
        while let Some((key, sent)) = self.peers[child].outbound.get(at).copied() {
            if is_lost && sent == piece {
                self.revoke(now, key);
            } else {
                at += 1;
            }
        }
        self.review_host_hunger(host);
        self.work.push_back(Work::Feed(seat));
    }

    /// Who is to blame for a failed transfer, and what follows.
    fn blame(&mut self, now: Instant, grant: &Grant, failure: PieceFailure) {
        let (points, is_fault) = match failure {
            PieceFailure::Corrupt | PieceFailure::Stalled => (HARD_FAILURE, true),
            PieceFailure::NotFound | PieceFailure::Disconnected => (SOFT_FAILURE, true),
            // Nobody's fault, but the same pair again and again would get nowhere.
            PieceFailure::Refused | PieceFailure::Aborted | PieceFailure::Local => (SOFT_FAILURE, false),
        };
        let (parent, child) = (grant.from, grant.to);
        self.pairs.accuse(now, (), (child, parent), points);
        if !is_fault {
            return;
        }
        let (is_seed, name) = (self.hosts[parent].is_seed(), self.hosts[parent].name);
        let accuser = &mut self.hosts[child].isolation;
        let was_sound = accuser.is_sound(now);
        if !is_seed {
            accuser.failed(now, name);
        }
        // The word of a host that fails with everybody counts for nothing.
        if was_sound && accuser.is_sound(now) {
            self.accuse(now, child, parent, points);
        } else {
            self.swarms[grant.swarm].note_spent(grant.to_row);
        }
    }

    fn accuse(&mut self, now: Instant, child: HostKey, parent: HostKey, points: u32) {
        let accuser = self.hosts[child].name;
        if !self.hosts[parent].record.accuse(now, accuser, points, &BlacklistPolicy::GLOBAL) {
            return;
        }
        if let Some(until) = self.hosts[parent].record.listed_until() {
            self.outbox.push(Output::ListHost { host: parent, until });
        }
        let peers = self.hosts[parent].peers.clone();
        for peer in peers {
            for (grant, _) in self.peers[peer].outbound.clone() {
                self.revoke(now, grant);
            }
        }
    }

    /// Takes back what has run out of time: a slow or hung parent stalls nobody.
    pub(super) fn expire_grants(&mut self, now: Instant) {
        let mut late = core::mem::take(&mut self.late);
        late.extend(self.grants.iter().filter(|(_, grant)| grant.is_late(now)).map(|(key, _)| key));
        for key in late.drain(..) {
            let Some(grant) = self.grants.get(key).copied() else { continue };
            if now < grant.deadline {
                self.make_way(key);
                continue;
            }
            self.outbox.push(Output::Revoke { peer: grant.child, grant: key });
            self.grant_failed(now, key, PieceFailure::Stalled);
        }
        self.late = late;
    }
}
