//! What those report who are at the source, and what follows.

use alloc::vec::Vec;

use super::{SOURCE_TERM, SOURCE_TRY_LIMIT};
use crate::id::PieceDigest;
use crate::lifecycle::PeerState;
use crate::piece::PieceNumber;
use crate::scheduler::Scheduler;
use crate::scheduler::candidates::Work;
use crate::scheduler::event::{Output, PeerKey, SourceFailure, TaskFailure};
use crate::scheduler::host::SwarmKey;
use crate::time::Instant;

impl Scheduler {
    pub(in crate::scheduler) fn source_started(&mut self, now: Instant, peer: PeerKey, piece: u32) {
        let Some((key, row)) = self.peers.get(peer).map(|p| (p.swarm, p.row)) else { return };
        let swarm = &mut self.swarms[key];
        let Some(piece) = swarm.plan.and_then(|plan| plan.number(piece)) else { return };
        let Some(run) = swarm.source.runs.iter_mut().find(|run| run.peer == peer) else { return };
        run.begin(now, piece);
        self.make_room(key, piece.get() + 1);
        let swarm = &mut self.swarms[key];
        if !swarm.has(row, piece) && !swarm.expects(row, piece) {
            swarm.set_coming(row, piece);
        }
        self.review_hunger(peer);
        self.work.push_back(Work::Serve(self.peers[peer].host));
    }

    /// Bytes still come, of pieces that are here already or of one that takes long: a slow source is not a
    /// dead one.
    pub(in crate::scheduler) fn source_progressed(&mut self, now: Instant, peer: PeerKey) {
        let Some(key) = self.peers.get(peer).map(|p| p.swarm) else { return };
        let swarm = &mut self.swarms[key];
        if let Some(run) = swarm.source.runs.iter_mut().find(|run| run.peer == peer) {
            (run.touched, swarm.moved) = (now, now);
        }
    }

    pub(in crate::scheduler) fn source_stored(&mut self, now: Instant, peer: PeerKey, piece: u32, digest: PieceDigest) {
        let Some((key, row)) = self.peers.get(peer).map(|p| (p.swarm, p.row)) else { return };
        let swarm = &mut self.swarms[key];
        let Some(piece) = swarm.plan.and_then(|plan| plan.number(piece)) else { return };
        // Only who was sent to the source may say what the content is.
        let Some(at) = swarm.source.runs.iter().position(|run| run.peer == peer) else {
            return self.piece_claimed(now, peer, piece, digest, false);
        };
        self.make_room(key, piece.get() + 1);
        let swarm = &mut self.swarms[key];
        if swarm.is_sure(piece) && swarm.note_digest(piece, digest) == Some(false) {
            return self.source_changed(now, key);
        }
        let claimants = swarm.settle_claim(piece, digest);
        // What a peer had before it was sent says nothing about the source.
        if !swarm.has(row, piece) {
            swarm.source.tries = 0;
            swarm.source.failed.clear();
        }
        swarm.source.brought = now;
        swarm.source.runs[at].store(now, piece);
        self.piece_found(now, peer, piece);
        claimants.into_iter().for_each(|claimant| self.piece_found(now, claimant, piece));
        self.spread_digest(key, peer, piece);
        self.promote_claims(now, key, piece);
    }

    pub(in crate::scheduler) fn source_ended(&mut self, now: Instant, peer: PeerKey) {
        if let Some(key) = self.peers.get(peer).map(|p| p.swarm) {
            self.abandon_runs(now, peer);
            self.ensure_source(now, key);
        }
    }

    /// Those who receive a piece while its digest becomes known need it to finish.
    fn spread_digest(&mut self, swarm: SwarmKey, from: PeerKey, piece: PieceNumber) {
        let mut reached = alloc::vec![from];
        while let Some(parent) = reached.pop() {
            let passed_on = self.peers[parent].outbound.iter().filter(|(_, sent)| *sent == piece);
            let children: Vec<PeerKey> = passed_on.map(|(grant, _)| self.grants[*grant].child).collect();
            children.iter().for_each(|child| self.tell_digests(swarm, *child));
            reached.extend(children);
        }
    }

    /// The content is no longer what the pieces were taken from: everybody starts anew, or mixed
    /// bytes would be the result.
    pub(super) fn source_changed(&mut self, now: Instant, key: SwarmKey) {
        self.fail_swarm(now, key, TaskFailure::SourceChanged);
        let members: Vec<PeerKey> = self.swarms[key].iter().map(|(_, member)| member.peer).collect();
        for peer in members {
            self.outbox.push(Output::Forget { peer });
            self.remove_peer(now, peer);
        }
        self.remove_swarm(key);
    }

    pub(in crate::scheduler) fn source_failed(&mut self, now: Instant, peer: PeerKey, failure: SourceFailure) {
        let Some(key) = self.peers.get(peer).map(|p| p.swarm) else { return };
        if self.swarms[key].source.puller.is_some_and(|run| run.peer == peer) {
            self.pull_failed(key, peer);
            return self.ensure_source(now, key);
        }
        if !self.swarms[key].source.mandated.contains(&peer) {
            return;
        }
        self.abandon_runs(now, peer);
        let source = &mut self.swarms[key].source;
        source.tries += 1;
        source.failed.push(peer);
        if failure.is_changed {
            self.source_changed(now, key);
        } else if failure.is_final || source.tries >= SOURCE_TRY_LIMIT {
            self.fail_swarm(now, key, TaskFailure::Source);
        } else {
            self.ensure_source(now, key);
        }
    }

    /// A peer is no longer at the source: what was arriving there is not on its way any more.
    pub(in crate::scheduler) fn abandon_runs(&mut self, now: Instant, peer: PeerKey) {
        let Some(key) = self.peers.get(peer).map(|p| p.swarm) else { return };
        let swarm = &mut self.swarms[key];
        swarm.source.puller = swarm.source.puller.filter(|run| run.peer != peer);
        let Some(at) = swarm.source.runs.iter().position(|run| run.peer == peer) else { return };
        let run = swarm.source.runs.remove(at);
        for piece in run.started {
            self.unserved(now, peer, piece);
        }
        let state = &mut self.peers[peer].state;
        if *state == PeerState::BackToSource {
            state.step(PeerState::Running);
        }
    }

    /// Gives runs without a sign of life to somebody else.
    pub(in crate::scheduler) fn expire_runs(&mut self, now: Instant, key: SwarmKey) {
        let runs = &self.swarms[key].source.runs;
        let late: Vec<(PeerKey, u32)> =
            runs.iter().filter(|run| now - run.touched >= SOURCE_TERM).map(|run| (run.peer, run.from)).collect();
        for (peer, from) in late {
            self.outbox.push(Output::TrimSource { peer, to: from });
            self.source_failed(now, peer, SourceFailure { is_final: false, is_changed: false });
        }
    }
}
