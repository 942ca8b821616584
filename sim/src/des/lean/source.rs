//! The source of the lean driver: whoever the scheduler sends there fetches piece after piece.

use df_core::scheduler::{Input, PeerKey};

use super::super::names::digest_of;
use super::{Event, Lean};

/// One fetch from the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceRun {
    pub(super) host: u32,
    next: u32,
    to: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The request is on its way.
    Asked,
    /// Bytes of piece `next` arrive.
    Arriving,
    Over,
}

impl SourceRun {
    /// Nothing more comes of it.
    pub(super) const fn end(&mut self) {
        self.stage = Stage::Over;
    }
}

impl Lean {
    pub(super) fn source_granted(&mut self, peer: PeerKey, from: u32, to: Option<u32>) {
        let host = self.host_at(peer);
        let run = SourceRun {
            host,
            next: from,
            to: to.unwrap_or(self.plan.pieces).min(self.plan.pieces),
            stage: Stage::Asked,
        };
        self.runs.push(run);
        let answer = self.now + 2 * self.plan.rtt_us();
        self.wheel.add(answer, Event::Source { run: self.runs.len() as u32 - 1 });
    }

    pub(super) fn source_trimmed(&mut self, peer: PeerKey, to: u32) {
        let host = self.host_at(peer);
        self.runs.iter_mut().filter(|run| run.host == host).for_each(|run| run.to = run.to.min(to));
    }

    /// The source answers, or a piece is complete; the next begins.
    pub(super) fn source_step(&mut self, at: usize) {
        let run = self.runs[at];
        let Some(peer) = self.hosts[run.host as usize].peer.filter(|_| run.stage != Stage::Over) else { return };
        if run.stage == Stage::Asked {
            self.report(Input::PlanLearned { peer, plan: self.content, is_ranged: true, version: 1 });
        } else {
            self.tally.from_source += 1;
            self.tally.note_piece(run.host, run.next, self.now);
            if let Some(piece) = self.content.number(run.next) {
                self.report(Input::SourceStored { peer, piece: run.next, digest: digest_of(piece) });
            }
            self.runs[at].next += 1;
        }
        self.begin_next(at, peer);
    }

    fn begin_next(&mut self, at: usize, peer: PeerKey) {
        let run = self.runs[at];
        let is_here = |piece: u32| {
            self.content.number(piece).is_none_or(|number| self.scheduler.holds(peer, number))
                || self.hosts[run.host as usize].expected(piece).is_some()
        };
        let Some(next) = (run.next..run.to).find(|piece| !is_here(*piece)) else {
            self.runs[at].end();
            return self.report(Input::SourceEnded { peer });
        };
        self.runs[at].next = next;
        self.runs[at].stage = Stage::Arriving;
        self.report(Input::SourceStarted { peer, piece: next });
        let takes = (self.plan.piece_us as f64 / self.plan.links.source_up) as u64;
        self.wheel.add(self.now + takes, Event::Source { run: at as u32 });
    }
}
