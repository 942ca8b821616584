//! The source of the full driver: one uplink, shared by whoever is sent there.

use df_core::downloader::{self, FetchId, PieceFailure};
use df_core::piece::{Order, PieceNumber};

use super::super::names::digest_of;
use super::super::net::Begin;
use super::node::SourceRun;
use super::transfers::{Owner, cargo};
use super::{Event, Full, READ_WINDOW};

impl Full {
    pub(super) fn order_of(&self, number: u32) -> Order {
        let is_reader = self.plan.is_in_order && number >= self.plan.seeds;
        if is_reader { Order::InOrder { from: 0, window: READ_WINDOW } } else { Order::RarestFirst }
    }

    pub(super) fn source_asked(&mut self, node: u32, fetch: FetchId, task: usize, from: u32, to: Option<u32>) {
        self.nodes[node as usize].sources.insert(fetch, SourceRun { task, next: from, to, flows: Vec::new() });
        self.wheel.add(self.now + self.plan.rtt_us(), Event::SourceAnswer { node, fetch });
    }

    pub(super) fn source_answered(&mut self, node: u32, fetch: FetchId) {
        if self.nodes[node as usize].sources.contains_key(&fetch) {
            let plan = self.content;
            self.tell(node, downloader::Input::SourceOpened { fetch, plan, is_ranged: true, version: 1 });
            self.source_next(node, fetch);
        }
    }

    /// Begins the next pieces of a run that the store lacks, as many as it has connections, or ends the run.
    fn source_next(&mut self, number: u32, fetch: FetchId) {
        let node = &self.nodes[number as usize];
        let Some(run) = node.sources.get(&fetch) else { return };
        let end = run.to.unwrap_or(u32::MAX).min(self.plan.pieces);
        let (task, coming) = (run.task, run.flows.len());
        let is_here = |piece| node.held[task].contains(piece) || node.expects(task, piece);
        let next = (run.next..end).find_map(|n| self.content.number(n).filter(|piece| !is_here(*piece)));
        match next {
            Some(piece) if coming < self.plan.links.connections => {
                self.source_began(number, fetch, task, piece);
                self.source_next(number, fetch);
            }
            None if coming == 0 => {
                self.nodes[number as usize].sources.remove(&fetch);
                self.tell(number, downloader::Input::SourceEnded { fetch, result: Ok(()) });
            }
            _ => {}
        }
    }

    fn source_began(&mut self, number: u32, fetch: FetchId, task: usize, piece: PieceNumber) {
        let source = self.nodes.len() as u32;
        let bytes = self.plan.piece_bytes as f64;
        let cargo = cargo(task, piece);
        let begin = Begin { from: source, to: number, bytes, nearly_at: 0.0, cargo, is_stored: true };
        let flow = self.net.start(self.now, begin);
        self.own(flow, Owner::Source { node: number, fetch, piece });
        if let Some(run) = self.nodes[number as usize].sources.get_mut(&fetch) {
            run.next = piece.get() + 1;
            run.flows.push((piece, flow));
        }
        self.tell(number, downloader::Input::SourceStarted { fetch, piece });
    }

    /// A piece from the source is here.
    pub(super) fn source_sent(&mut self, number: u32, fetch: FetchId, piece: PieceNumber) {
        let Some(run) = self.nodes[number as usize].sources.get_mut(&fetch) else { return };
        run.flows.retain(|(coming, _)| *coming != piece);
        self.tally.from_source += 1;
        self.tally.trace.note(self.now, 2, number, u64::from(piece.get()));
        self.tell(number, downloader::Input::SourceArrived { fetch, piece, digest: digest_of(piece) });
        self.source_next(number, fetch);
    }

    pub(super) fn source_aborted(&mut self, number: u32, fetch: FetchId) {
        let Some(run) = self.nodes[number as usize].sources.remove(&fetch) else { return };
        for (piece, flow) in run.flows {
            self.net.stop(self.now, flow);
            self.release(number, run.task, piece, Err(PieceFailure::Aborted));
        }
    }
}
