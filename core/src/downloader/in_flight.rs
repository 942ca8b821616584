//! Transfers from parents: begun, nearly finished, arrived, verified, kept.

use super::session::Session;
use super::{Downloader, FetchId, GrantId, Output, Report};
use crate::blacklist::{HARD_FAILURE, SOFT_FAILURE};
use crate::downloader::event::{DownloadFailure, PieceFailure, StoreFailed};
use crate::id::{HostId, PieceDigest, TaskId};
use crate::piece::PieceNumber;
use crate::planted::{Bug, is_planted};
use crate::time::{Duration, Instant, micros};

/// Transfers of one session at once, whatever the scheduler grants.
pub(super) const IN_FLIGHT_LIMIT: usize = 64;

/// Part of a piece that is left when nothing is known about rates.
const NEARLY_DEFAULT_SHARE: u64 = 8;

/// One transfer from a parent.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) fetch: FetchId,
    pub(super) piece: PieceNumber,
    pub(super) parent: HostId,
    /// `None` while the scheduler is away and this peer chose by itself.
    pub(super) grant: Option<GrantId>,
    pub(super) stage: Stage,
    pub(super) since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Bytes are arriving.
    Arriving,
    /// All bytes are in the store; their digest is to be compared.
    Arrived { digest: PieceDigest },
    /// Verified; the store makes it part of the content.
    Keeping,
}

impl InFlight {
    const fn is_being_kept(&self) -> bool {
        matches!(self.stage, Stage::Keeping)
    }
}

impl Downloader {
    pub(super) fn granted(&mut self, now: Instant, task: TaskId, grant: GrantId, piece: u32, parent: HostId) {
        let failure = {
            let Some(session) = self.sessions.get_mut(&task) else { return self.answer_closed(task) };
            session.note_parent(parent);
            session.guided(now);
            let piece = session.plan.and_then(|plan| plan.number(piece));
            match piece {
                None => PieceFailure::Local,
                Some(piece) if session.held.contains(piece) => {
                    let report = Report::Held { piece };
                    self.outbox.push(Output::Report { task, report });
                    return;
                }
                Some(piece) if session.adopt(piece, parent, grant) => return,
                Some(piece) if session.is_in_flight(piece) => PieceFailure::Local,
                Some(_) if session.in_flight.len() >= IN_FLIGHT_LIMIT => PieceFailure::Local,
                Some(_) if self.blacklist.is_listed(now, parent) => PieceFailure::Refused,
                Some(piece) => return self.begin(now, task, piece, parent, Some(grant)),
            }
        };
        self.outbox.push(Output::Report { task, report: Report::Failed { grant, failure } });
    }

    /// Begins a transfer.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        task: TaskId,
        piece: PieceNumber,
        parent: HostId,
        grant: Option<GrantId>,
    ) {
        let fetch = self.next_fetch();
        let Some(session) = self.sessions.get_mut(&task) else { return };
        let bytes = session.plan.map_or(0, |plan| plan.range(piece).len);
        let nearly_at_bytes = match self.pace_us_per_mib {
            0 => bytes / NEARLY_DEFAULT_SHARE,
            // One round trip to the scheduler for the next grant, one to its parent for the first byte,
            // and one because the two share the link while they overlap: measured in `docs/swarm.md`.
            pace => (3 * micros(self.rtt).saturating_mul(1 << 20) / pace).min(bytes),
        };
        session.near = piece.get();
        session.in_flight.push(InFlight { fetch, piece, parent, grant, stage: Stage::Arriving, since: now });
        self.fetches.insert(fetch, task);
        self.outbox.push(Output::FetchPiece { fetch, task, piece, parent, nearly_at_bytes });
    }

    /// Tells the scheduler how far a granted transfer is.
    pub(super) fn report_grant(&mut self, fetch: FetchId, report: impl FnOnce(GrantId) -> Report) {
        let Some(task) = self.fetches.get(&fetch).copied() else { return };
        let Some(session) = self.sessions.get(&task) else { return };
        let Some(flight) = session.in_flight.iter().find(|flight| flight.fetch == fetch) else { return };
        if let Some(grant) = flight.grant {
            self.outbox.push(Output::Report { task, report: report(grant) });
        }
    }

    pub(super) fn fetch_ended(
        &mut self,
        now: Instant,
        fetch: FetchId,
        result: Result<PieceDigest, PieceFailure>,
        elapsed: Duration,
    ) {
        let Some(task) = self.fetches.remove(&fetch) else { return };
        let Some(session) = self.sessions.get_mut(&task) else { return };
        let Some(at) = session.in_flight.iter().position(|flight| flight.fetch == fetch) else { return };
        match result {
            Ok(digest) => {
                session.in_flight[at].stage = Stage::Arrived { digest };
                let bytes = session.plan.map_or(0, |plan| plan.range(session.in_flight[at].piece).len);
                self.note_pace(bytes, elapsed);
                self.verify(now, task);
                self.drive_alone(now, task);
            }
            Err(failure) => self.fetch_failed(now, task, at, failure),
        }
    }

    fn note_pace(&mut self, bytes: u64, elapsed: Duration) {
        let pace = micros(elapsed).saturating_mul(1 << 20) / bytes.max(1);
        self.pace_us_per_mib = if self.pace_us_per_mib == 0 { pace } else { (self.pace_us_per_mib * 3 + pace) / 4 };
    }

    /// Compares the digests of pieces that have arrived with those that are known by now.
    pub(super) fn verify(&mut self, now: Instant, task: TaskId) {
        let mut at = 0;
        while let Some(session) = self.sessions.get_mut(&task) {
            let Some(flight) = session.in_flight.get(at) else { return };
            at += 1;
            let Stage::Arrived { digest } = flight.stage else { continue };
            let piece = flight.piece;
            match session.digest(piece) {
                None => {}
                Some(expected) if expected == digest || is_planted(Bug::DigestIgnored) => {
                    session.in_flight[at - 1].stage = Stage::Keeping;
                    self.outbox.push(Output::KeepPiece { task, piece, digest });
                }
                Some(_) => {
                    at -= 1;
                    self.outbox.push(Output::DropPiece { task, piece });
                    self.fetch_failed(now, task, at, PieceFailure::Corrupt);
                }
            }
        }
    }

    fn fetch_failed(&mut self, now: Instant, task: TaskId, at: usize, failure: PieceFailure) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        let flight = session.in_flight.remove(at);
        if let Some(grant) = flight.grant {
            self.outbox.push(Output::Report { task, report: Report::Failed { grant, failure } });
        }
        let points = match failure {
            PieceFailure::Corrupt | PieceFailure::Stalled => HARD_FAILURE,
            PieceFailure::Disconnected => SOFT_FAILURE,
            PieceFailure::NotFound => {
                if let Some(parent) = session.parents.get_mut(&flight.parent) {
                    parent.held.remove(flight.piece);
                }
                SOFT_FAILURE
            }
            PieceFailure::Refused | PieceFailure::Aborted => {
                if let Some(parent) = session.parents.get_mut(&flight.parent) {
                    parent.resting_until = now + super::parents::REST;
                }
                0
            }
            // Nothing was asked of the parent. What is in the way here goes away by itself: to try again
            // at once would be to find it still there, for as long as it takes.
            PieceFailure::Local => return,
        };
        if points > 0 {
            self.blacklist.accuse(now, (), flight.parent, points);
            self.isolation.failed(now, flight.parent);
        }
        self.drive_alone(now, task);
    }

    pub(super) fn piece_kept(
        &mut self,
        now: Instant,
        task: TaskId,
        piece: PieceNumber,
        result: Result<(), StoreFailed>,
    ) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if result.is_err() {
            return self.fail(task, DownloadFailure::Store);
        }
        session.held.insert(piece);
        session.progressed = now;
        if session.source_keeping.remove(piece) {
            if let Some(digest) = session.digest(piece) {
                self.outbox.push(Output::Report { task, report: Report::SourceStored { piece, digest } });
            }
            self.report_source_end(task);
        } else if let Some(at) = session.in_flight.iter().position(|f| f.piece == piece && f.stage == Stage::Keeping) {
            let flight = session.in_flight.remove(at);
            let report = match flight.grant {
                Some(grant) => Report::Finished { grant },
                None => Report::Held { piece },
            };
            self.outbox.push(Output::Report { task, report });
            self.blacklist.vouch(now, (), flight.parent);
            self.isolation.succeeded(now);
        }
        self.finish_if_complete(task);
        self.drive_alone(now, task);
    }

    /// Gives up transfers nobody else watches over that take too long: a parent that drips.
    pub(super) fn expire_alone(&mut self, now: Instant, task: TaskId) {
        while let Some(session) = self.sessions.get(&task) {
            let is_late = |f: &InFlight| {
                f.grant.is_none() && f.stage == Stage::Arriving && now - f.since >= super::parents::TRANSFER_LIMIT
            };
            let Some(at) = session.in_flight.iter().position(is_late) else { return };
            let fetch = session.in_flight[at].fetch;
            self.fetches.remove(&fetch);
            self.outbox.push(Output::AbortFetch { fetch });
            self.fetch_failed(now, task, at, PieceFailure::Stalled);
        }
    }

    pub(super) fn revoked(&mut self, now: Instant, task: TaskId, grant: GrantId) {
        let is_it = |flight: &InFlight| flight.grant == Some(grant) && !flight.is_being_kept();
        let found = self.sessions.get(&task).and_then(|session| session.in_flight.iter().position(is_it));
        if let Some(at) = found {
            self.give_up(task, at);
            self.drive_alone(now, task);
        }
    }

    /// Ends a transfer without a result, wherever it is.
    fn give_up(&mut self, task: TaskId, at: usize) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        let flight = session.in_flight.remove(at);
        self.outbox.push(if self.fetches.remove(&flight.fetch).is_some() {
            Output::AbortFetch { fetch: flight.fetch }
        } else {
            Output::DropPiece { task, piece: flight.piece }
        });
    }

    /// Gives up what has arrived but cannot be verified without a scheduler.
    pub(super) fn drop_unverified(&mut self, task: TaskId) {
        while let Some(session) = self.sessions.get(&task) {
            let is_unverified = |flight: &InFlight| matches!(flight.stage, Stage::Arrived { .. });
            let Some(at) = session.in_flight.iter().position(is_unverified) else { return };
            self.give_up(task, at);
        }
    }

    /// Gives up all transfers of a session.
    pub(super) fn abort_all(&mut self, session: &Session) {
        for flight in &session.in_flight {
            if self.fetches.remove(&flight.fetch).is_some() {
                self.outbox.push(Output::AbortFetch { fetch: flight.fetch });
            }
        }
        if let Some(source) = &session.source
            && self.fetches.remove(&source.fetch).is_some()
        {
            self.outbox.push(Output::AbortSource { fetch: source.fetch });
        }
    }
}
