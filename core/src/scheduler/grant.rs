//! The life of a grant: issued, nearly finished, finished or failed, or its time is up.

use super::Scheduler;
use super::candidates::Work;
use super::event::{GrantKey, HostKey, Output, PeerKey, PieceFailure};
use super::host::{Company, Grant, forget};
use super::rank::Offer;
use crate::blacklist::{BlacklistPolicy, HARD_FAILURE, SOFT_FAILURE};
use crate::piece::PieceNumber;
use crate::time::{Duration, Instant, micros};

impl Scheduler {
    /// Grants a piece from `parent` to `child`: both have room and the piece is of use.
    pub(super) fn grant(&mut self, now: Instant, parent: PeerKey, child: PeerKey, offer: Offer) {
        let piece = offer.piece;
        let (from, to) = (self.peers[parent].host, self.peers[child].host);
        let swarm = self.peers[child].swarm;
        let bytes = self.swarms[swarm].plan.map_or(0, |plan| plan.range(piece).len);
        let deadline = now + self.grant_term(from, to, bytes);
        let up_company = Company::new(self.hosts[from].upload.used);
        let down_company = Company::new(self.hosts[to].download.used);
        self.hosts[from].upload.take();
        self.hosts[to].download.take();
        self.note_company(parent, child);
        let is_relay = offer.is_relay;
        let grant =
            Grant { parent, child, piece, bytes, deadline, is_counted: true, up_company, down_company, is_relay };
        let key = self.grants.insert(grant);
        self.peers[parent].outbound.push(key);
        self.peers[child].inbound.push(key);
        let row = self.peers[child].row;
        let members = &mut self.swarms[swarm];
        members.set_coming(row, piece);
        if let Some(member) = members.members[row as usize].as_mut() {
            member.near = piece.get();
        }
        self.tell_digests(child);
        self.outbox.push(Output::Grant { peer: child, grant: key, piece, parent });
        self.review_host_hunger(to);
        if self.config.relay_depth_limit > 0 {
            self.work.push_back(Work::Serve(to));
        }
    }

    /// The transfers under way at two hosts have one more or one less beside them.
    fn note_company(&mut self, parent: PeerKey, child: PeerKey) {
        let (up, down) = (self.peers[parent].host, self.peers[child].host);
        let (up, down) = (self.hosts[up].upload.used, self.hosts[down].download.used);
        for key in &self.peers[parent].outbound {
            if let Some(grant) = self.grants.get_mut(*key).filter(|grant| grant.is_counted) {
                grant.up_company.note(up.saturating_sub(1));
            }
        }
        for key in &self.peers[child].inbound {
            if let Some(grant) = self.grants.get_mut(*key).filter(|grant| grant.is_counted) {
                grant.down_company.note(down.saturating_sub(1));
            }
        }
    }

    /// How long a transfer may take before it is given to somebody else.
    fn grant_term(&self, parent: HostKey, child: HostKey, bytes: u64) -> Duration {
        let up = self.hosts[parent].upload.expected_us(bytes);
        let expected = up.max(self.hosts[child].download.expected_us(bytes));
        let slack = u64::from(self.config.grant_slack);
        expected.map_or(self.config.first_grant_term, |us| {
            Duration::from_micros(us.saturating_mul(slack)).max(self.config.grant_term_floor)
        })
    }

    /// The transfer will not occupy its place in the two lanes much longer: the next is granted
    /// now, so that the control round trip is hidden.
    pub(super) fn grant_nearly_finished(&mut self, key: GrantKey) {
        let Some(grant) = self.grants.get_mut(key) else { return };
        if core::mem::replace(&mut grant.is_counted, false) {
            let (from, to) = (grant.parent, grant.child);
            let (parent, child) = (self.peers[from].host, self.peers[to].host);
            self.hosts[parent].upload.used -= 1;
            self.hosts[child].download.used -= 1;
            self.note_company(from, to);
            self.work.push_back(Work::Serve(parent));
            self.review_host_hunger(child);
        }
    }

    /// Ends a grant: its places in the lanes are free, the piece is no longer on its way.
    fn end(&mut self, key: GrantKey) -> Option<Grant> {
        self.grant_nearly_finished(key);
        let grant = self.grants.remove(key)?;
        forget(&mut self.peers[grant.parent].outbound, key);
        let child = &mut self.peers[grant.child];
        forget(&mut child.inbound, key);
        Some(grant)
    }

    pub(super) fn grant_finished(&mut self, now: Instant, key: GrantKey, elapsed: Duration) {
        let Some(grant) = self.end(key) else { return };
        let (parent, child) = (self.peers[grant.parent].host, self.peers[grant.child].host);
        if grant.bytes > 0 && !grant.is_relay {
            self.note_pace(&grant, micros(elapsed));
            self.review_host_hunger(child);
        }
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
        self.piece_held(now, grant.child, grant.piece);
    }

    /// What a transfer says of the two lanes: of each only while the other end was not the one that
    /// had too much to do, or both would answer slowness with more transfers at once.
    fn note_pace(&mut self, grant: &Grant, elapsed_us: u64) {
        let (parent, child) = (self.peers[grant.parent].host, self.peers[grant.child].host);
        let (up, down) = (grant.up_company.steady(), grant.down_company.steady());
        let is_within = |beside: Option<u32>, fit: u32| beside.is_some_and(|beside| beside < fit);
        let up_counts = is_within(down, self.hosts[child].download.fit());
        let down_counts = is_within(up, self.hosts[parent].upload.fit());
        self.hosts[parent].upload.note(grant.bytes, elapsed_us, up.filter(|_| up_counts));
        self.hosts[child].download.note(grant.bytes, elapsed_us, down.filter(|_| down_counts));
    }

    pub(super) fn grant_failed(&mut self, now: Instant, key: GrantKey, failure: PieceFailure) {
        let Some(grant) = self.end(key) else { return };
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
        let Some(grant) = self.end(key) else { return };
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
        late.extend(self.grants.iter().filter(|(_, grant)| grant.deadline <= now).map(|(key, _)| key));
        for key in late.drain(..) {
            if let Some(grant) = self.grants.get(key).copied() {
                self.outbox.push(Output::Revoke { peer: grant.child, grant: key });
                self.grant_failed(now, key, PieceFailure::Stalled);
            }
        }
        self.late = late;
    }
}
