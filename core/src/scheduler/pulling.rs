//! Peers that pull (Dragonfly v1): what they claim to have, whom they are offered, and which of them is
//! sent to the source.
//!
//! Such a peer knows pieces by MD5 alone and says itself what it has. Its word is good for others that
//! pull. It becomes a holder like any other, from whom pieces are granted, once the digest of a piece
//! is known for good: then whoever fetches from it can tell right bytes from wrong ones.

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Scheduler;
use super::event::{HostKey, Output, PeerKey, PieceFailure};
use super::host::{Seat, SwarmKey};
use super::member::Member;
use super::seeding::{PullRun, SOURCE_TERM, SOURCE_TRY_LIMIT};
use super::swarm::Row;
use crate::blacklist::{HARD_FAILURE, SOFT_FAILURE};
use crate::lifecycle::PeerState;
use crate::piece::{PieceNumber, PiecePlan, PieceSet};
use crate::time::Instant;

/// Claims are remembered of this many pieces of a content (8 KiB a peer).
const CLAIM_LIMIT: u32 = 1 << 16;

/// A peer that pulls from somebody and reports nothing is given up on this many times later than one
/// that has nobody to pull from.
const PATIENCE: u32 = 4;

/// What concerns a peer because it pulls; blank for all others.
#[derive(Debug, Default)]
pub(super) struct Puller {
    /// Pieces it says it has and nobody vouches for.
    pub(super) claims: PieceSet,
    /// Whether it says it has everything.
    pub(super) is_done: bool,
    /// Whom it was offered, best first, and their hosts.
    offered: Vec<(PeerKey, HostKey)>,
    /// It was unlucky with one of them, and must be told anew whatever comes out.
    is_stale: bool,
    /// With whom it was unlucky last.
    shunned: Option<PeerKey>,
}

impl Scheduler {
    /// Whom a peer that pulls was last offered, best first.
    pub fn offered(&self, peer: PeerKey) -> impl Iterator<Item = PeerKey> + '_ {
        let puller = self.peers.get(peer).and_then(|peer| peer.puller.as_ref());
        puller.into_iter().flat_map(|puller| puller.offered.iter().map(|(parent, _)| *parent))
    }

    /// A peer that pulls says that it has a piece nobody vouches for.
    pub(super) fn piece_pulled(&mut self, now: Instant, key: PeerKey, number: u32) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.puller.is_some()) else { return };
        let swarm = &mut self.swarms[peer.swarm];
        swarm.note_news(now, peer.row);
        if let Some(run) = swarm.source.puller.as_mut().filter(|run| run.peer == key) {
            run.touched = now;
            swarm.source.pull_failures = 0;
        }
        // Until somebody with a mandate says how the content is cut, numbers are numbers.
        let plan = swarm.plan.or_else(|| PiecePlan::open(1).ok());
        let Some(piece) = plan.and_then(|plan| plan.number(number)).filter(|piece| piece.get() < CLAIM_LIMIT) else {
            return;
        };
        let is_news = !swarm.has(peer.row, piece);
        if is_news && peer.puller.as_mut().is_some_and(|puller| puller.claims.insert(piece)) {
            let seat = peer.seat();
            self.note_new_parent(seat);
        }
    }

    /// A piece's digest is known for good: those who claimed the piece hold it from now on.
    pub(super) fn promote_claims(&mut self, now: Instant, key: SwarmKey, piece: PieceNumber) {
        for puller in self.swarms[key].pullers.clone() {
            let claims = self.peers.get_mut(puller).and_then(|peer| Some(&mut peer.puller.as_mut()?.claims));
            if claims.is_some_and(|claims| claims.remove(piece)) {
                self.piece_found(now, puller, piece);
            }
        }
    }

    /// A peer got a piece. With its first it becomes a parent others may be offered.
    pub(super) fn note_new_parent(&mut self, seat: Seat) {
        let swarm = &mut self.swarms[seat.swarm];
        let Some(member) = swarm.member(seat.row) else { return };
        let is_first = member.held + self.peers[member.peer].claimed() == 1;
        swarm.has_new_parent |= is_first;
    }

    /// A peer is gone: nobody counts on it, and nobody is kept busy by it.
    pub(super) fn forget_puller(&mut self, key: PeerKey) {
        let peer = &mut self.peers[key];
        self.swarms[peer.swarm].pullers.retain(|puller| *puller != key);
        for (_, host) in peer.puller.take().iter().flat_map(|puller| &puller.offered) {
            if let Some(host) = self.hosts.get_mut(*host) {
                host.pulls = host.pulls.saturating_sub(1);
            }
        }
    }

    /// A peer that pulls was unlucky with a parent.
    pub(super) fn parent_failed(&mut self, now: Instant, key: PeerKey, parent: PeerKey, failure: PieceFailure) {
        let (Some(child), Some(accused)) = (self.peers.get(key), self.peers.get(parent)) else { return };
        if child.swarm != accused.swarm || failure == PieceFailure::Local {
            return;
        }
        let points = if failure == PieceFailure::Corrupt { HARD_FAILURE } else { SOFT_FAILURE };
        let hosts = (child.host, accused.host);
        let Some(puller) = self.peers.get_mut(key).and_then(|peer| peer.puller.as_mut()) else { return };
        (puller.is_stale, puller.shunned) = (true, Some(parent));
        self.pairs.accuse(now, (), hosts, points);
    }

    pub(super) fn candidates_limited(&mut self, parents: u32, looked_at: u32) {
        let limits = (parents.max(1), looked_at.max(1));
        if (self.config.candidate_parent_limit, self.config.filter_parent_limit) == limits {
            return;
        }
        (self.config.candidate_parent_limit, self.config.filter_parent_limit) = limits;
        // Those who have others now are told when they are looked after next.
        let pulling = self.swarms.values().flat_map(|swarm| &swarm.pullers).copied().collect::<Vec<_>>();
        for key in pulling {
            if let Some(puller) = self.peers.get_mut(key).and_then(|peer| peer.puller.as_mut()) {
                puller.is_stale = true;
            }
        }
    }

    /// Looks after a swarm's peers that pull: offers them parents where those they have are gone, too
    /// few or of no use, and sends one of the starving to the source. Linear in them.
    pub(super) fn review_pullers(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &mut self.swarms[key];
        let has_news = core::mem::take(&mut swarm.has_new_parent);
        if swarm.pullers.is_empty() {
            return;
        }
        if let Some(run) = swarm.source.puller.filter(|run| now - run.touched >= SOURCE_TERM) {
            self.pull_failed(key, run.peer);
        }
        for peer in self.swarms[key].pullers.clone() {
            let Some(puller) = self.peers.get(peer).and_then(|peer| peer.puller.as_ref()) else { continue };
            let is_short = puller.offered.len() < self.config.candidate_parent_limit as usize;
            let is_broken = || puller.offered.iter().any(|(parent, _)| !self.can_offer(now, *parent, peer));
            if puller.is_stale || (is_short && has_news) || is_broken() {
                self.offer_parents(now, peer);
            }
        }
        self.escape_by_pulling(now, key);
    }

    /// Tells a peer that pulls its parents, if they are not those it knows.
    pub(super) fn offer_parents(&mut self, now: Instant, key: PeerKey) {
        if !self.peers.get(key).is_some_and(|peer| peer.puller.is_some() && peer.state == PeerState::Running) {
            return;
        }
        let fresh = self.choose_parents(now, key);
        let Some(puller) = self.peers[key].puller.as_mut() else { return };
        let is_stale = core::mem::take(&mut puller.is_stale);
        let is_same = puller.offered == fresh && !is_stale;
        self.set_offered(key, fresh);
        if !is_same && self.offered(key).next().is_some() {
            self.outbox.push(Output::OfferParents { peer: key });
        }
    }

    fn set_offered(&mut self, key: PeerKey, fresh: Vec<(PeerKey, HostKey)>) {
        let Some(puller) = self.peers.get_mut(key).and_then(|peer| peer.puller.as_mut()) else { return };
        for (_, host) in &fresh {
            if let Some(host) = self.hosts.get_mut(*host) {
                host.pulls += 1;
            }
        }
        let old = core::mem::replace(&mut puller.offered, fresh);
        for (_, host) in old {
            if let Some(host) = self.hosts.get_mut(host) {
                host.pulls = host.pulls.saturating_sub(1);
            }
        }
    }

    /// Whether `parent` is still worth asking, for a peer that pulls.
    fn can_offer(&self, now: Instant, parent: PeerKey, child: PeerKey) -> bool {
        let (Some(from), Some(to)) = (self.peers.get(parent), self.peers.get(child)) else { return false };
        self.progress(parent) > 0 && self.may_serve(now, from.host, to.host)
    }

    /// Pieces a peer has, whoever vouches for them.
    fn progress(&self, key: PeerKey) -> u32 {
        let Some(peer) = self.peers.get(key) else { return 0 };
        let held = self.swarms[peer.swarm].member(peer.row).map_or(0, |member| member.held);
        (held + peer.claimed()).max(u32::from(peer.is_done_pulling()))
    }

    /// The parents to offer: first those who do not depend on the swarm's other pulling peers, then the
    /// least loaded, seeds last, then those with the most pieces.
    fn choose_parents(&mut self, now: Instant, key: PeerKey) -> Vec<(PeerKey, HostKey)> {
        let coin = self.rng.next_u64();
        let Some(child) = self.peers.get(key) else { return Vec::new() };
        let (swarm, mine) = (&self.swarms[child.swarm], self.progress(key));
        let rank = |row: Row, member: &Member| {
            let (parent, host) = (self.peers.get(member.peer)?, self.hosts.get(member.host)?);
            let progress = self.progress(member.peer);
            let is_rooted = parent.puller.is_none() || parent.is_done_pulling() || swarm.is_complete(row);
            let is_ahead = is_rooted || progress > mine;
            let draw = coin ^ u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (member.peer != key && is_ahead && self.can_offer(now, member.peer, key)).then_some((
                child.puller.as_ref().is_some_and(|puller| puller.shunned == Some(member.peer)),
                !is_rooted,
                host.pulls + host.upload.used,
                member.is_seed,
                Reverse(progress),
                draw,
                (member.peer, member.host),
            ))
        };
        let from = (coin >> 32) as usize % swarm.members.len().max(1);
        let (head, tail) = swarm.members.split_at(from.min(swarm.members.len()));
        let rows = tail.iter().chain(head).zip((from..swarm.members.len()).chain(0..from));
        let fit = rows.filter_map(|(member, row)| rank(row as Row, member.as_ref()?));
        let mut fit: Vec<_> = fit.take(self.config.filter_parent_limit as usize).collect();
        fit.sort_unstable();
        fit.into_iter().take(self.config.candidate_parent_limit as usize).map(|(.., parent)| parent).collect()
    }

    /// Sees to it that those who pull will find the content with one of them, when nobody else can get
    /// it. False if there is no way.
    pub(super) fn pull_from_source(&mut self, now: Instant, key: SwarmKey) -> bool {
        let swarm = &self.swarms[key];
        let is_coming = swarm.source.puller.is_some();
        if is_coming || swarm.pullers.iter().any(|peer| self.peers[*peer].is_done_pulling()) {
            return true;
        }
        let is_fit = |peer: &PeerKey| {
            let state = &self.peers[*peer];
            state.can_fetch_source && state.state == PeerState::Running && !swarm.source.has_failed(*peer)
        };
        let chosen = swarm.pullers.iter().copied().find(is_fit);
        let Some(chosen) = chosen.filter(|_| swarm.source.pull_failures < SOURCE_TRY_LIMIT) else { return false };
        self.send_to_pull(now, key, chosen);
        true
    }

    /// Sends one of those to the source who get nothing though others have it.
    fn escape_by_pulling(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &self.swarms[key];
        if swarm.source.puller.is_some() {
            return;
        }
        let is_stuck = |peer: &PeerKey| {
            let state = &self.peers[*peer];
            let patience = if self.offered(*peer).next().is_none() { 1 } else { PATIENCE };
            state.can_fetch_source
                && state.state == PeerState::Running
                && !swarm.source.has_failed(*peer)
                && swarm.member(state.row).is_some_and(|m| now - m.served >= self.config.source_escape * patience)
        };
        if let Some(stuck) = swarm.pullers.iter().copied().find(is_stuck) {
            self.send_to_pull(now, key, stuck);
        }
    }

    fn send_to_pull(&mut self, now: Instant, key: SwarmKey, peer: PeerKey) {
        self.set_offered(peer, Vec::new());
        self.swarms[key].source.puller = Some(PullRun { peer, touched: now });
        self.peers[peer].state.step(PeerState::BackToSource);
        self.outbox.push(Output::FetchSource { peer, from: 0, to: None });
    }

    /// A peer that pulls did not get on at the source: the next may try.
    pub(super) fn pull_failed(&mut self, key: SwarmKey, peer: PeerKey) {
        let source = &mut self.swarms[key].source;
        source.puller = source.puller.filter(|run| run.peer != peer);
        source.pull_failures += 1;
        source.note_failed(peer);
        let state = &mut self.peers[peer].state;
        if *state == PeerState::BackToSource {
            state.step(PeerState::Running);
        }
    }
}
