//! Choosing by itself: what a peer does while its scheduler is away, so that a download never waits
//! for one.

use super::session::Guidance;
use super::{Downloader, Output};
use crate::downloader::event::DownloadFailure;
use crate::id::{HostId, TaskId};
use crate::piece::{Availability, PieceNumber, PieceSet, Selector};
use crate::time::{Duration, Instant};

/// Parents remembered for each task.
pub(super) const PARENT_LIMIT: usize = 32;

/// A parent that refused is left alone for this long.
pub(super) const REST: Duration = Duration::from_millis(500);

/// How long the scheduler may be away before a peer decides by itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long a connected scheduler may say nothing while nothing is on its way.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Transfers at once that a peer begins by itself.
const ALONE_LIMIT: usize = 4;

/// The longest a transfer begun without a scheduler may take.
pub(super) const TRANSFER_LIMIT: Duration = Duration::from_secs(60);

/// How often parents are asked what they have.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Somebody who served, or was to serve, this peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Parent {
    pub(super) held: PieceSet,
    /// Order in which parents were last named.
    pub(super) noted: u64,
    pub(super) resting_until: Instant,
    /// Whether it answered since the scheduler went away.
    pub(super) has_answered: bool,
}

impl Downloader {
    pub(super) fn parent_told(&mut self, now: Instant, task: TaskId, parent: HostId, held: PieceSet) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if let Some(known) = session.parents.get_mut(&parent) {
            known.held = held;
            known.has_answered = true;
        }
        self.drive_alone(now, task);
    }

    /// Begins what can be begun without a scheduler: pieces from known parents whose digests are
    /// known, then the source for what nobody has.
    pub(super) fn drive_alone(&mut self, now: Instant, task: TaskId) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if !matches!(session.guidance, Guidance::Alone { .. }) || session.is_complete() {
            return;
        }
        self.drop_unverified(task);
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if session.asked_parents.is_none_or(|at| now - at >= ASK_INTERVAL) {
            session.asked_parents = Some(now);
            let parents = session.parents.keys();
            parents.for_each(|parent| self.outbox.push(Output::AskParent { task, parent: *parent }));
        }
        while let Some((piece, parent)) = self.choose_alone(now, task) {
            self.begin(now, task, piece, parent, None);
        }
        self.fetch_source_alone(now, task);
    }

    /// The rarest piece among the known parents, from the least busy of those that have it.
    fn choose_alone(&mut self, now: Instant, task: TaskId) -> Option<(PieceNumber, HostId)> {
        let session = self.sessions.get(&task)?;
        let count = session.plan.and_then(|plan| plan.count())?;
        if session.in_flight.len() >= ALONE_LIMIT {
            return None;
        }
        let sound = self.isolation.is_sound(now);
        let usable = |host: &HostId, parent: &Parent| {
            sound
                && parent.resting_until <= now
                && !self.blacklist.is_listed(now, *host)
                && session.in_flight.iter().all(|flight| flight.parent != *host)
        };
        let mut availability = Availability::new(count);
        let mut wanted = PieceSet::new();
        for (_, parent) in session.parents.iter().filter(|(host, parent)| usable(host, parent)) {
            for piece in parent.held.iter().take_while(|piece| piece.get() < count) {
                availability.add(piece);
                let has_digest = session.digest(piece).is_some();
                if has_digest && !session.held.contains(piece) && !session.is_in_flight(piece) {
                    wanted.insert(piece);
                }
            }
        }
        let selector = Selector { near: session.near, coin: self.rng.chance(1, 2), order: session.order, common: 0 };
        let piece = selector.choose(&availability, wanted.words())?;
        let holds = |(host, parent): &(&HostId, &Parent)| usable(host, parent) && parent.held.contains(piece);
        session.parents.iter().find(holds).map(|(host, _)| (piece, *host))
    }

    /// Sends this peer to the source for the first gap, once no parent is left to hope for.
    fn fetch_source_alone(&mut self, now: Instant, task: TaskId) {
        let Some(session) = self.sessions.get(&task) else { return };
        let Guidance::Alone { since } = session.guidance else { return };
        let is_asking = now - since < ASK_INTERVAL && session.parents.values().any(|parent| !parent.has_answered);
        let is_hopeful = is_asking || !session.in_flight.is_empty();
        if session.source.is_some() || is_hopeful || !session.source_keeping.is_empty() {
            return;
        }
        if !session.may_fetch_source {
            return self.fail(task, DownloadFailure::NoScheduler);
        }
        if let Some((from, to)) = session.first_gap() {
            self.begin_source(task, from, to);
        }
    }

    /// The scheduler went away: transfers go on, and after a while the peer decides by itself.
    pub(super) fn scheduler_lost(&mut self, now: Instant, task: TaskId) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if session.guidance == Guidance::Scheduled {
            session.guidance = Guidance::Waiting { since: now };
        }
        // Its grants died with it: their ends concern nobody.
        session.in_flight.iter_mut().for_each(|flight| flight.grant = None);
    }

    pub(super) fn scheduler_linked(&mut self, now: Instant, task: TaskId) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        session.guidance = Guidance::Scheduled;
        session.progressed = now;
        session.parents.values_mut().for_each(|parent| parent.has_answered = false);
        session.in_flight.iter_mut().for_each(|flight| flight.grant = None);
        // The new scheduler decides who goes to the source.
        self.abort_source(task);
        self.outbox.push(Output::Register { task });
    }

    /// The scheduler is there, and looks after the task.
    pub(super) fn reassured(&mut self, now: Instant, task: TaskId) {
        if let Some(session) = self.sessions.get_mut(&task) {
            session.progressed = now;
            session.guided(now);
        }
    }

    /// When a session next has to look at its guidance.
    pub(super) fn guidance_deadline(session: &super::session::Session) -> Instant {
        match session.guidance {
            Guidance::Waiting { since } => since + PATIENCE,
            Guidance::Scheduled => session.progressed + SILENCE_LIMIT,
            Guidance::Alone { .. } => session.asked_parents.unwrap_or(session.progressed) + ASK_INTERVAL,
        }
    }

    /// Lets sessions whose scheduler is away or silent for too long go their own way.
    pub(super) fn review_guidance(&mut self, now: Instant, task: TaskId) {
        let Some(session) = self.sessions.get_mut(&task) else { return };
        if now < Self::guidance_deadline(session) {
            return;
        }
        match session.guidance {
            Guidance::Scheduled if !session.in_flight.is_empty() || session.source.is_some() => {
                session.progressed = now
            }
            Guidance::Scheduled if !session.may_fetch_source && session.parents.is_empty() => session.progressed = now,
            Guidance::Scheduled | Guidance::Waiting { .. } => {
                session.guidance = Guidance::Alone { since: now };
            }
            Guidance::Alone { .. } => self.expire_alone(now, task),
        }
        self.drive_alone(now, task);
    }
}
