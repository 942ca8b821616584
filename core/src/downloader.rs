//! The machine of a peer as child: what it fetches, from whom, and when it is done.
//!
//! While its scheduler is connected it does what is granted. A piece counts only after the store has
//! its bytes and they match the digest that came through the scheduler (from whoever fetched it
//! from the source); a parent's word about its own bytes is never enough. While the scheduler is
//! away, transfers go on; after [`PATIENCE`](parents::PATIENCE) the peer chooses by itself among the
//! parents it knows, and asks the source for what is left.
//!
//! # Invariants
//! - I1: every transfer that is under way belongs to exactly one open task, and the reverse.
//! - I2: transfers of a task are bounded.
//! - I3: no piece is fetched that is here, and none from two parents at once.
//! - I4: a task with all its pieces is complete and no longer open.

pub mod event;

mod in_flight;
mod invariants;
mod parents;
mod session;
mod source;

use alloc::collections::BTreeMap;

pub use event::{
    DownloadFailure, FetchId, GrantId, Input, LinkState, Opening, Output, PieceFailure, Report, SourceFailure,
    StoreFailed, TaskFailure,
};

use crate::blacklist::{Blacklist, BlacklistPolicy};
use crate::id::{HostId, PieceDigest, TaskId};
use crate::isolation::{Isolation, Standing};
use crate::machine::{Machine, Outbox};
use crate::piece::PiecePlan;
use crate::rng::Rng;
use crate::time::{Deadline, Duration, Instant};
use session::Session;

/// The round trip assumed before one was measured.
const FIRST_RTT: Duration = Duration::from_millis(20);

/// See the [module](self).
#[derive(Debug)]
pub struct Downloader {
    sessions: BTreeMap<TaskId, Session>,
    fetches: BTreeMap<FetchId, TaskId>,
    last_fetch: u64,
    blacklist: Blacklist<(), HostId>,
    isolation: Isolation<HostId>,
    rtt: Duration,
    pace_us_per_mib: u64,
    rng: Rng,
    outbox: Outbox<Output>,
}

impl Downloader {
    /// A downloader without tasks. `seed` determines all its draws.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            fetches: BTreeMap::new(),
            last_fetch: 0,
            blacklist: Blacklist::new(BlacklistPolicy::LOCAL),
            isolation: Isolation::new(),
            rtt: FIRST_RTT,
            pace_us_per_mib: 0,
            rng: Rng::new(seed).fork("downloader"),
            outbox: Outbox::new(),
        }
    }

    /// Whether the outcome of a fetch is still awaited: it was neither told nor given up.
    pub fn is_fetching(&self, fetch: FetchId) -> bool {
        self.fetches.contains_key(&fetch)
    }

    /// Whether this host may serve others: not while it takes itself for the culprit.
    pub fn is_sound(&self, now: Instant) -> bool {
        !matches!(self.isolation.standing(now), Standing::Isolated { .. })
    }

    /// Parents this host does not use, and until when.
    pub fn blacklisted(&self, now: Instant) -> impl Iterator<Item = (HostId, Instant)> + '_ {
        self.blacklist.listed(now)
    }

    /// Tasks that are open.
    pub fn open_tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.sessions.keys().copied()
    }

    const fn next_fetch(&mut self) -> FetchId {
        self.last_fetch += 1;
        FetchId(self.last_fetch)
    }

    fn task_opened(&mut self, now: Instant, opening: &Opening) {
        let task = opening.task;
        if self.sessions.contains_key(&task) {
            return self.task_widened(now, opening);
        }
        let session = Session::new(now, opening);
        let is_linked = opening.link == LinkState::Linked;
        self.sessions.insert(task, session);
        self.finish_if_complete(task);
        if is_linked && self.sessions.contains_key(&task) {
            self.outbox.push(Output::Register { task });
        }
        self.drive_alone(now, task);
    }

    /// Whoever decides hears of it.
    fn task_widened(&mut self, now: Instant, opening: &Opening) {
        if let Some(session) = self.sessions.get_mut(&opening.task) {
            session.may_fetch_source |= opening.may_fetch_source;
        }
        if opening.link == LinkState::Linked {
            return self.scheduler_linked(now, opening.task);
        }
        self.drive_alone(now, opening.task);
    }

    fn plan_told(&mut self, now: Instant, task: TaskId, plan: PiecePlan) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.progressed = now;
        if session.plan.is_none_or(|known| known.content_len().is_none() && known.piece_len() == plan.piece_len()) {
            session.plan = Some(plan);
            self.finish_if_complete(task);
        } else if session.plan.is_some_and(|known| known != plan && plan.content_len().is_some()) {
            self.fail(task, DownloadFailure::SourceChanged);
        }
    }

    fn digests_told(&mut self, now: Instant, task: TaskId, digests: &[(u32, PieceDigest)]) {
        if let Some(session) = self.sessions.get_mut(&task) {
            session.progressed = now;
            session.note_digests(digests);
            self.verify(now, task);
            self.drive_alone(now, task);
        }
    }

    fn finish_if_complete(&mut self, task: TaskId) {
        if self.sessions.get(&task).is_some_and(Session::is_complete)
            && let Some(session) = self.sessions.remove(&task)
        {
            self.abort_all(&session);
            self.outbox.push(Output::Report { task, report: Report::Done });
            self.outbox.push(Output::Complete { task });
        }
    }

    fn fail(&mut self, task: TaskId, why: DownloadFailure) {
        if let Some(session) = self.sessions.remove(&task) {
            self.abort_all(&session);
            self.outbox.push(Output::Report { task, report: Report::Stopped });
            self.outbox.push(Output::Fail { task, why });
        }
    }

    fn task_closed(&mut self, task: TaskId) {
        if let Some(session) = self.sessions.remove(&task) {
            self.abort_all(&session);
            self.outbox.push(Output::Report { task, report: Report::Stopped });
        }
    }

    /// The scheduler thinks that a task is open which is not.
    fn answer_closed(&mut self, task: TaskId) {
        self.outbox.push(Output::Report { task, report: Report::Stopped });
    }

    fn task_refused(&mut self, task: TaskId, why: TaskFailure) {
        let why = match why {
            TaskFailure::Source => DownloadFailure::Source,
            TaskFailure::SourceChanged => DownloadFailure::SourceChanged,
            TaskFailure::NoSource => DownloadFailure::NoSource,
        };
        self.fail(task, why);
    }
}

impl Machine for Downloader {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::TaskOpened(opening) => self.task_opened(now, &opening),
            Input::TaskClosed { task } => self.task_closed(task),
            Input::SchedulerLinked { task } => self.scheduler_linked(now, task),
            Input::SchedulerLost { task } => self.scheduler_lost(now, task),
            Input::PlanTold { task, plan } => self.plan_told(now, task, plan),
            Input::Reassured { task } => self.reassured(now, task),
            Input::DigestsTold { task, digests } => self.digests_told(now, task, &digests),
            Input::Granted { task, grant, piece, parent } => self.granted(now, task, grant, piece, parent),
            Input::Revoked { task, grant } => self.revoked(now, task, grant),
            Input::SourceGranted { task, from, to } => self.source_granted(now, task, from, to),
            Input::SourceTrimmed { task, to } => self.source_trimmed(task, to),
            Input::TaskRefused { task, why } => self.task_refused(task, why),
            Input::ParentTold { task, parent, held } => self.parent_told(now, task, parent, held),
            Input::FetchNearlyFinished { fetch } => self.report_grant(fetch, |grant| Report::NearlyFinished { grant }),
            Input::FetchProgressed { fetch } => self.report_grant(fetch, |grant| Report::Progressed { grant }),
            Input::FetchEnded { fetch, result, elapsed } => self.fetch_ended(now, fetch, result, elapsed),
            Input::PieceKept { task, piece, result } => self.piece_kept(now, task, piece, result),
            Input::SourceOpened { fetch, plan, is_ranged, version } => {
                self.source_opened(now, fetch, plan, is_ranged, version);
            }
            Input::SourceStarted { fetch, piece } => self.source_started(now, fetch, piece),
            Input::SourceProgressed { fetch } => self.source_progressed(now, fetch),
            Input::SourceArrived { fetch, piece, digest } => self.source_arrived(now, fetch, piece, digest),
            Input::SourceEnded { fetch, result } => self.source_ended(now, fetch, result),
            Input::RoundTripMeasured { rtt } => self.rtt = (self.rtt * 3 + rtt) / 4,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due = |session: &Session| Self::guidance_deadline(session) <= now;
        let tasks: alloc::vec::Vec<TaskId> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(task, _)| *task).collect();
        tasks.into_iter().for_each(|task| self.review_guidance(now, task));
        self.blacklist.expire(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.sessions.values().map(Self::guidance_deadline).min()?;
        Some(Deadline::new(at, "guidance"))
    }

    fn check_invariants(&self) {
        self.check();
    }
}
