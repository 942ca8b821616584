//! Pieces from the source.

use super::session::Guidance;
use super::{Downloader, FetchId, Output, Report};
use crate::downloader::event::{DownloadFailure, SourceFailure};
use crate::id::{PieceDigest, TaskId};
use crate::piece::{PieceNumber, PiecePlan};
use crate::time::Instant;

/// A fetch from the source that is under way.
#[derive(Clone, Debug)]
pub(super) struct SourceFetch {
    pub(super) fetch: FetchId,
    /// The first piece it was asked for.
    from: u32,
}

impl Downloader {
    pub(super) fn source_granted(&mut self, now: Instant, task: TaskId, from: u32, to: Option<u32>) {
        let Some(session) = self.sessions.get_mut(&task) else { return self.answer_closed(task) };
        session.guided(now);
        if session.source.is_some() || session.guidance != Guidance::Scheduled {
            return;
        }
        // What is here already need not be asked for again: the mandate covers saying what it is.
        for piece in session.held.iter().filter(|piece| piece.get() >= from && to.is_none_or(|to| piece.get() < to)) {
            if let Some(digest) = session.digest(piece) {
                self.outbox.push(Output::Report { task, report: Report::SourceStored { piece, digest } });
            }
        }
        // What has arrived from elsewhere but cannot be verified comes from the source now.
        self.drop_unverified(task);
        self.begin_source(task, from, to);
    }

    pub(super) fn begin_source(&mut self, task: TaskId, from: u32, to: Option<u32>) {
        let fetch = self.next_fetch();
        if let Some(session) = self.sessions.get_mut(&task) {
            session.source = Some(SourceFetch { fetch, from });
            self.fetches.insert(fetch, task);
            self.outbox.push(Output::FetchSource { fetch, task, from, to });
        }
    }

    pub(super) fn source_trimmed(&mut self, task: TaskId, to: u32) {
        let Some(source) = self.sessions.get(&task).and_then(|session| session.source.as_ref()) else { return };
        if to > source.from {
            self.outbox.push(Output::TrimSource { fetch: source.fetch, to });
        } else {
            // Nothing of it is left. If the source hangs, the next run must not wait for this one.
            self.abort_source(task);
        }
    }

    pub(super) fn source_opened(
        &mut self,
        now: Instant,
        fetch: FetchId,
        plan: PiecePlan,
        is_ranged: bool,
        version: u64,
    ) {
        let Some(task) = self.fetches.get(&fetch).copied() else { return };
        let Some(session) = self.sessions.get_mut(&task) else { return };
        let is_same = session.plan.is_none_or(|known| match (known.content_len(), plan.content_len()) {
            (Some(a), Some(b)) => a == b && known.piece_len() == plan.piece_len(),
            _ => known.piece_len() == plan.piece_len(),
        });
        if !is_same {
            return self.source_failed(now, task, SourceFailure { is_final: true, is_changed: true });
        }
        session.progressed = now;
        session.plan = Some(plan);
        self.outbox.push(Output::Report { task, report: Report::PlanLearned { plan, is_ranged, version } });
        self.finish_if_complete(task);
    }

    pub(super) fn source_started(&mut self, now: Instant, fetch: FetchId, piece: PieceNumber) {
        let Some(task) = self.fetches.get(&fetch).copied() else { return };
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.progressed = now;
        // The store has room for one who writes a piece. If one is on its way from a parent, too, that
        // transfer has not begun to write and is going to fail.
        if !session.held.contains(piece) && !session.source_keeping.contains(piece) {
            session.source_arriving.insert(piece);
            self.outbox.push(Output::Report { task, report: Report::SourceStarted { piece } });
        }
    }

    pub(super) fn source_progressed(&mut self, now: Instant, fetch: FetchId) {
        let Some(task) = self.fetches.get(&fetch).copied() else { return };
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.progressed = now;
        self.outbox.push(Output::Report { task, report: Report::SourceProgressed });
    }

    pub(super) fn source_arrived(&mut self, now: Instant, fetch: FetchId, piece: PieceNumber, digest: PieceDigest) {
        let Some(task) = self.fetches.get(&fetch).copied() else { return };
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.progressed = now;
        if !session.source_arriving.remove(piece) {
            return; // It is here, or comes from a parent.
        }
        session.note_digests(&[(piece.get(), digest)]);
        if session.digest(piece) != Some(digest) {
            // Another digest was known: the bytes at the source are no longer the same.
            self.outbox.push(Output::DropPiece { task, piece });
            return self.source_failed(now, task, SourceFailure { is_final: true, is_changed: true });
        }
        session.source_keeping.insert(piece);
        self.outbox.push(Output::KeepPiece { task, piece, digest });
    }

    pub(super) fn source_ended(&mut self, now: Instant, fetch: FetchId, result: Result<(), SourceFailure>) {
        let Some(task) = self.fetches.get(&fetch).copied() else { return };
        if let Err(failure) = result {
            return self.source_failed(now, task, failure);
        }
        self.fetches.remove(&fetch);
        if let Some(session) = self.sessions.get_mut(&task) {
            session.source = None;
            session.source_arriving.clear();
            session.source_is_over = true;
            self.report_source_end(task);
            self.drive_alone(now, task);
        }
    }

    /// Tells the scheduler that a run is over, once all of it is kept.
    pub(super) fn report_source_end(&mut self, task: TaskId) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if session.source_keeping.is_empty() && core::mem::take(&mut session.source_is_over) {
            self.outbox.push(Output::Report { task, report: Report::SourceEnded });
        }
    }

    /// Gives up a fetch from the source, with the pieces that were arriving.
    pub(super) fn abort_source(&mut self, task: TaskId) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.source_arriving.clear();
        if let Some(source) = session.source.take()
            && self.fetches.remove(&source.fetch).is_some()
        {
            self.outbox.push(Output::AbortSource { fetch: source.fetch });
        }
    }

    fn source_failed(&mut self, now: Instant, task: TaskId, failure: SourceFailure) {
        self.abort_source(task);
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.progressed = now;
        self.outbox.push(Output::Report { task, report: Report::SourceFailed { failure } });
        if failure.is_changed {
            self.fail(task, DownloadFailure::SourceChanged);
        } else if self.sessions.get(&task).is_some_and(|session| session.guidance != Guidance::Scheduled) {
            self.fail(task, DownloadFailure::Source);
        }
        // While scheduled, the scheduler decides whether somebody else tries.
    }
}
