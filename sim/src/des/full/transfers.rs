//! Pieces between hosts: asked for, admitted, sent, received.

use df_core::downloader::{self, FetchId, Output, PieceFailure};
use df_core::id::PieceDigest;
use df_core::piece::PieceNumber;
use df_core::time::Duration;
use df_core::uploader::{self, Child, SlotLease, UploadRequest};

use super::super::STALL_LIMIT_US;
use super::super::names::{WRONG_DIGEST, digest_of, host_number, task_number};
use super::super::net::{Begin, Cargo, FlowKey, Progress};
use super::node::{Fetch, Manner, Stage, Waiter};
use super::{Event, Full, Message};

/// Whose a flow is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Fetch { child: u32, fetch: FetchId },
    Source { node: u32, fetch: FetchId, piece: PieceNumber },
}

/// What tells one piece of one task from all others.
pub(super) const fn cargo(task: usize, piece: PieceNumber) -> Cargo {
    (task as u64) << 32 | piece.get() as u64
}

impl Full {
    /// Carries out what a downloader wants.
    pub(super) fn act(&mut self, number: u32, output: Output) {
        match output {
            Output::Register { task } => self.send_up(number, Message::Register { task: task_number(&task) }),
            Output::Report { task, report } => {
                self.tally.messages += 1;
                self.send_up(number, Message::Report { task: task_number(&task), report });
            }
            Output::FetchPiece { fetch, task, piece, parent, nearly_at_bytes } => {
                let parent = host_number(&parent);
                self.tally.trace.note(self.now, 1, number, u64::from(parent) << 32 | u64::from(piece.get()));
                let (task, began) = (task_number(&task), self.now);
                let is_twice = self.nodes[number as usize].held[task].contains(piece)
                    || self.nodes[number as usize].expects(task, piece);
                self.tally.duplicates += u64::from(is_twice);
                let nearly_at = nearly_at_bytes;
                let begun = Fetch { task, piece, parent, began, nearly_at, stage: Stage::Asked };
                self.nodes[number as usize].fetches.insert(fetch, begun);
                self.wheel.add(self.now + self.half_rtt(), Event::Request { child: number, fetch });
            }
            Output::AbortFetch { fetch } => self.abort(number, fetch),
            Output::KeepPiece { task, piece, digest } => {
                assert_eq!(digest, digest_of(piece), "only the source's bytes are kept");
                let at = task_number(&task);
                if self.nodes[number as usize].held[at].insert(piece) {
                    self.tally.note_piece(number, piece.get(), self.now);
                } else {
                    self.tally.duplicates += 1;
                }
                self.tell_self(number, downloader::Input::PieceKept { task, piece, result: Ok(()) });
                self.settle(number, at, piece, Ok(()));
            }
            Output::DropPiece { task, piece } => {
                self.tally.wasted += 1;
                self.settle(number, task_number(&task), piece, Err(PieceFailure::Aborted));
            }
            Output::FetchSource { fetch, task, from, to } => {
                self.source_asked(number, fetch, task_number(&task), from, to);
            }
            Output::TrimSource { fetch, to } => {
                if let Some(run) = self.nodes[number as usize].sources.get_mut(&fetch) {
                    run.to = Some(run.to.map_or(to, |end| end.min(to)));
                }
            }
            Output::AbortSource { fetch } => self.source_aborted(number, fetch),
            Output::AskParent { task, parent } => {
                let at = task_number(&task);
                let asked = &self.nodes[host_number(&parent) as usize];
                if asked.is_up {
                    let held = asked.held[at].clone();
                    self.send_down(number, downloader::Input::ParentTold { task, parent, held });
                }
            }
            Output::Complete { .. } | Output::Fail { .. } => {}
        }
    }

    fn send_up(&mut self, node: u32, message: Message) {
        let incarnation = self.nodes[node as usize].incarnation;
        self.wheel.add(self.now + self.half_rtt(), Event::Up { node, incarnation, message });
    }

    /// A parent hears a child's request.
    pub(super) fn requested(&mut self, child: u32, fetch: FetchId) {
        let Some(asked) = self.nodes[child as usize].fetches.get(&fetch).copied() else { return };
        let parent = &self.nodes[asked.parent as usize];
        if !parent.is_up {
            return self.end(child, fetch, Err(PieceFailure::Disconnected));
        }
        if !parent.held[asked.task].contains(asked.piece) && !parent.expects(asked.task, asked.piece) {
            return self.end(child, fetch, Err(PieceFailure::NotFound));
        }
        let request = UploadRequest(u64::from(child) << 32 | fetch.0 & 0xffff_ffff);
        let child = Child(u128::from(child));
        self.tell_uploader(asked.parent, uploader::Input::UploadRequested { request, child });
    }

    /// Carries out what an uploader wants.
    pub(super) fn answer(&mut self, parent: u32, output: uploader::Output) {
        match output {
            uploader::Output::Admit { request, lease } => {
                let (child, fetch) = ((request.0 >> 32) as u32, FetchId(request.0 & 0xffff_ffff));
                self.admitted(parent, child, fetch, lease);
            }
            uploader::Output::Refuse { request, .. } => {
                let (child, fetch) = ((request.0 >> 32) as u32, FetchId(request.0 & 0xffff_ffff));
                self.end(child, fetch, Err(PieceFailure::Refused));
            }
            uploader::Output::Abort { lease } => {
                let held_by = |fetch: &Fetch| match fetch.stage {
                    Stage::Stalled { lease: held } | Stage::Flowing { lease: held, .. } => {
                        fetch.parent == parent && held == lease
                    }
                    Stage::Asked | Stage::Sent | Stage::Landed => false,
                };
                let mut children = (0..self.nodes.len() as u32).filter_map(|child| {
                    let fetches = &self.nodes[child as usize].fetches;
                    fetches.iter().find(|(_, fetch)| held_by(fetch)).map(|(fetch, _)| (child, *fetch))
                });
                if let Some((child, fetch)) = children.next() {
                    self.stop_flow(child, fetch);
                    self.end(child, fetch, Err(PieceFailure::Aborted));
                }
            }
        }
    }

    fn admitted(&mut self, parent: u32, child: u32, fetch: FetchId, lease: SlotLease) {
        let is_stalling = self.nodes[parent as usize].manner == Manner::Stalling;
        let jitter = u64::from(self.plan.jitter_percent);
        let percent = self.rng.between(100 - jitter, 100 + jitter);
        let bytes = self.plan.piece_bytes as f64 * percent as f64 / 100.0;
        let Some(asked) = self.nodes[child as usize].fetches.get_mut(&fetch) else { return };
        if is_stalling {
            asked.stage = Stage::Stalled { lease };
            let stalled = downloader::Input::FetchEnded {
                fetch,
                result: Err(PieceFailure::Stalled),
                elapsed: Duration::from_micros(STALL_LIMIT_US),
            };
            let incarnation = self.nodes[child as usize].incarnation;
            let at = self.now + STALL_LIMIT_US;
            return self.wheel.add(at, Event::Down { node: child, incarnation, input: stalled });
        }
        let (task, piece, nearly_at) = (asked.task, asked.piece, asked.nearly_at as f64);
        let is_stored = self.nodes[parent as usize].has_whole(task, piece);
        let cargo = cargo(task, piece);
        let flow = self.net.start(self.now, Begin { from: parent, to: child, bytes, nearly_at, cargo, is_stored });
        if let Some(asked) = self.nodes[child as usize].fetches.get_mut(&fetch) {
            asked.stage = Stage::Flowing { lease, flow };
        }
        let crosses = self.nodes[parent as usize].zone != self.nodes[child as usize].zone;
        self.tally.cross_zone += u64::from(crosses);
        self.own(flow, Owner::Fetch { child, fetch });
    }

    pub(super) fn own(&mut self, flow: FlowKey, owner: Owner) {
        let at = flow.place();
        if self.owners.len() <= at {
            self.owners.resize(at + 1, None);
        }
        self.owners[at] = Some((flow, owner));
    }

    /// A look at a flow is due.
    pub(super) fn flow_due(&mut self, key: FlowKey, turn: u32) {
        let Some(progress) = self.net.look(self.now, key, turn) else { return };
        let Some((_, owner)) = self.owners[key.place()].filter(|(flow, _)| *flow == key) else { return };
        match (owner, progress) {
            (Owner::Fetch { child, fetch }, Progress::Nearly) if self.plan.asks_early => {
                self.send_down(child, downloader::Input::FetchNearlyFinished { fetch });
            }
            (Owner::Fetch { child, fetch }, Progress::Sent) => self.sent(child, fetch),
            (Owner::Source { node, fetch, piece }, Progress::Sent) => self.source_sent(node, fetch, piece),
            (_, Progress::Nearly) => {}
        }
    }

    /// All bytes of a piece have left the parent; or would have, if it had them itself.
    fn sent(&mut self, child: u32, fetch: FetchId) {
        let Some(sent) = self.nodes[child as usize].fetches.get(&fetch).copied() else { return };
        self.release_slot(&sent);
        if let Some(known) = self.nodes[child as usize].fetches.get_mut(&fetch) {
            known.stage = Stage::Sent;
        }
        let parent = &mut self.nodes[sent.parent as usize];
        if parent.held[sent.task].contains(sent.piece) {
            self.end(child, fetch, Ok(()));
        } else if parent.expects(sent.task, sent.piece) {
            parent.waiters.push(Waiter { task: sent.task, piece: sent.piece, child, fetch });
        } else {
            self.end(child, fetch, Err(PieceFailure::Aborted));
        }
    }

    /// A piece that was passed on as it arrived is here, or will not be: its children hear of it.
    pub(super) fn release(&mut self, parent: u32, task: usize, piece: PieceNumber, result: Result<(), PieceFailure>) {
        let waiters = &mut self.nodes[parent as usize].waiters;
        let is_due = |waiter: &Waiter| waiter.task == task && waiter.piece == piece;
        let due: Vec<Waiter> = waiters.iter().copied().filter(is_due).collect();
        waiters.retain(|waiter| !is_due(waiter));
        due.into_iter().for_each(|waiter| self.end(waiter.child, waiter.fetch, result));
        if result.is_ok() {
            return;
        }
        for flow in self.net.passing_on(parent, cargo(task, piece)) {
            let Some((_, Owner::Fetch { child, fetch })) = self.owners[flow.place()].filter(|(key, _)| *key == flow)
            else {
                continue;
            };
            self.stop_flow(child, fetch);
            self.end(child, fetch, result);
        }
    }

    /// A child hears half a round trip from now how its fetch ended.
    fn end(&mut self, child: u32, fetch: FetchId, result: Result<(), PieceFailure>) {
        let Some(ended) = self.nodes[child as usize].fetches.get(&fetch).copied() else { return };
        let parent = &self.nodes[ended.parent as usize];
        let is_wrong = parent.manner == Manner::Lying || self.nodes[child as usize].manner == Manner::Broken;
        let result = result.map(|()| if is_wrong { WRONG_DIGEST } else { digest_of(ended.piece) });
        if is_wrong && result.is_ok() {
            self.tally.hosts[ended.parent as usize].lies += 1;
        }
        if let Some(fetch) = self.nodes[child as usize].fetches.get_mut(&fetch) {
            fetch.stage = Stage::Sent;
        }
        self.wheel.add(self.now + self.half_rtt(), Event::Land { child, fetch, result });
    }

    /// A child has a piece, or hears why not.
    pub(super) fn landed(&mut self, child: u32, fetch: FetchId, result: Result<PieceDigest, PieceFailure>) {
        let Some(landed) = self.nodes[child as usize].fetches.get_mut(&fetch) else { return };
        landed.stage = Stage::Landed;
        let elapsed = Duration::from_micros(self.now - landed.began);
        let (task, piece) = (landed.task, landed.piece);
        if result.is_err() {
            self.nodes[child as usize].fetches.remove(&fetch);
            self.release(child, task, piece, Err(PieceFailure::Aborted));
        }
        self.tell(child, downloader::Input::FetchEnded { fetch, result, elapsed });
    }

    /// The store has or has no more to do with a piece: its fetch is over.
    fn settle(&mut self, number: u32, task: usize, piece: PieceNumber, result: Result<(), PieceFailure>) {
        self.nodes[number as usize].fetches.retain(|_, f| f.task != task || f.piece != piece);
        self.release(number, task, piece, result);
    }

    fn abort(&mut self, child: u32, fetch: FetchId) {
        self.stop_flow(child, fetch);
        if let Some(fetch) = self.nodes[child as usize].fetches.remove(&fetch) {
            self.tally.wasted += 1;
            // Whoever got it from here gets no more.
            self.release(child, fetch.task, fetch.piece, Err(PieceFailure::Aborted));
        }
    }

    fn stop_flow(&mut self, child: u32, fetch: FetchId) {
        let Some(known) = self.nodes[child as usize].fetches.get(&fetch).copied() else { return };
        if let Stage::Flowing { flow, .. } = known.stage {
            self.net.stop(self.now, flow);
        }
        self.release_slot(&known);
    }

    fn release_slot(&mut self, fetch: &Fetch) {
        if let Stage::Flowing { lease, .. } | Stage::Stalled { lease } = fetch.stage {
            self.tell_uploader(fetch.parent, uploader::Input::UploadEnded { lease });
        }
    }

    /// All connections of a host are cut.
    pub(super) fn cut(&mut self, number: u32) {
        let own: Vec<FetchId> = self.nodes[number as usize].fetches.keys().copied().collect();
        own.into_iter().for_each(|fetch| self.abort(number, fetch));
        let sources: Vec<FetchId> = self.nodes[number as usize].sources.keys().copied().collect();
        sources.into_iter().for_each(|fetch| self.source_aborted(number, fetch));
        let served: Vec<(u32, FetchId)> = (0..self.nodes.len() as u32)
            .flat_map(|child| {
                self.nodes[child as usize].fetches.iter().map(move |(fetch, f)| (child, *fetch, f.parent))
            })
            .filter(|(_, _, parent)| *parent == number)
            .map(|(child, fetch, _)| (child, fetch))
            .collect();
        for (child, fetch) in served {
            self.stop_flow(child, fetch);
            self.end(child, fetch, Err(PieceFailure::Disconnected));
        }
    }
}
