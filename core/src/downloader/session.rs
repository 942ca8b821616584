//! One task this host wants.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::event::{GrantId, LinkState};
use super::in_flight::InFlight;
use super::parents::{PARENT_LIMIT, Parent};
use super::source::SourceFetch;
use crate::id::{HostId, PieceDigest};
use crate::piece::{Order, PieceNumber, PiecePlan, PieceSet};
use crate::time::Instant;

/// Who decides which piece comes from whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Guidance {
    /// The scheduler grants.
    Scheduled,
    /// The scheduler is away since then; transfers under way go on.
    Waiting { since: Instant },
    /// This peer chooses among the parents it knows, and asks the source for the rest.
    Alone { since: Instant },
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) plan: Option<PiecePlan>,
    pub(super) held: PieceSet,
    digests: Vec<Option<PieceDigest>>,
    pub(super) order: Order,
    pub(super) may_fetch_source: bool,
    pub(super) guidance: Guidance,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) source: Option<SourceFetch>,
    /// Pieces that are arriving from the source.
    pub(super) source_arriving: PieceSet,
    /// Pieces from the source the store is making part of the content.
    pub(super) source_keeping: PieceSet,
    /// The source has sent all it was asked for, which the scheduler has not been told.
    pub(super) source_is_over: bool,
    pub(super) parents: BTreeMap<HostId, Parent>,
    /// The piece last begun.
    pub(super) near: u32,
    /// When something was last granted, told or kept.
    pub(super) progressed: Instant,
    pub(super) asked_parents: Option<Instant>,
}

impl Session {
    pub(super) fn new(now: Instant, opening: &super::Opening) -> Self {
        let guidance = match opening.link {
            LinkState::Linked => Guidance::Scheduled,
            LinkState::Expected => Guidance::Waiting { since: now },
            LinkState::Absent => Guidance::Alone { since: now },
        };
        let mut session = Self {
            plan: opening.plan,
            held: opening.held.clone(),
            digests: Vec::new(),
            order: opening.order,
            may_fetch_source: opening.may_fetch_source,
            guidance,
            in_flight: Vec::new(),
            source: None,
            source_arriving: PieceSet::new(),
            source_keeping: PieceSet::new(),
            source_is_over: false,
            parents: BTreeMap::new(),
            near: 0,
            progressed: now,
            asked_parents: None,
        };
        session.note_digests(&opening.digests);
        session
    }

    pub(super) fn digest(&self, piece: PieceNumber) -> Option<PieceDigest> {
        self.digests.get(piece.index()).copied().flatten()
    }

    /// Remembers digests; the first one told for a piece counts.
    pub(super) fn note_digests(&mut self, digests: &[(u32, PieceDigest)]) {
        let Some(plan) = self.plan else { return };
        for (number, digest) in digests {
            let Some(piece) = plan.number(*number) else { continue };
            if self.digests.len() <= piece.index() {
                self.digests.resize(piece.index() + 1, None);
            }
            self.digests[piece.index()].get_or_insert(*digest);
        }
    }

    pub(super) fn is_in_flight(&self, piece: PieceNumber) -> bool {
        self.in_flight.iter().any(|flight| flight.piece == piece)
            || self.source_arriving.contains(piece)
            || self.source_keeping.contains(piece)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.plan.is_some_and(|plan| self.held.is_complete(&plan))
    }

    /// The scheduler decides again: it had only been silent for long.
    pub(super) fn guided(&mut self, now: Instant) {
        if matches!(self.guidance, Guidance::Alone { .. }) {
            (self.guidance, self.progressed) = (Guidance::Scheduled, now);
        }
    }

    /// Puts a transfer that this peer began by itself under a grant of the same; false if there is none.
    pub(super) fn adopt(&mut self, piece: PieceNumber, parent: HostId, grant: GrantId) -> bool {
        let is_it = |f: &&mut InFlight| (f.piece, f.parent, f.grant) == (piece, parent, None);
        self.in_flight.iter_mut().find(is_it).map(|flight| flight.grant = Some(grant)).is_some()
    }

    /// Remembers a parent for the time when the scheduler is away.
    pub(super) fn note_parent(&mut self, host: HostId) {
        if self.parents.len() >= PARENT_LIMIT && !self.parents.contains_key(&host) {
            let oldest = self.parents.iter().min_by_key(|(_, parent)| parent.noted).map(|(host, _)| *host);
            oldest.map(|host| self.parents.remove(&host));
        }
        let noted = self.parents.values().map(|parent| parent.noted).max().unwrap_or(0) + 1;
        self.parents.entry(host).or_default().noted = noted;
    }

    /// The first run of pieces that are neither here nor on their way.
    pub(super) fn first_gap(&self) -> Option<(u32, Option<u32>)> {
        let Some((plan, count)) = self.plan.and_then(|plan| Some((plan, plan.count()?))) else {
            return Some((0, None));
        };
        let is_gap =
            |n: &u32| plan.number(*n).is_some_and(|piece| !self.held.contains(piece) && !self.is_in_flight(piece));
        let from = (self.held.contiguous()..count).find(is_gap)?;
        Some((from, Some((from..count).find(|n| !is_gap(n)).unwrap_or(count))))
    }
}
