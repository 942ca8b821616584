//! Contents without a source: who deleted one means it, a name stands for one content, and those that
//! lack copies get them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Scheduler;
use super::event::{Cached, HostKey, Output, PeerKey, Refusal, Registration, RequestId, TaskFailure};
use super::host::SwarmKey;
use super::seeding::draw;
use crate::id::TaskId;
use crate::lifecycle::PeerState;
use crate::time::{Duration, Instant};

/// How long a holder that was away when its content was deleted is told so when it returns.
const TOMBSTONE_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Deletions remembered; beyond that the oldest are forgotten.
const TOMBSTONE_LIMIT: usize = 100_000;

/// How long a host that was asked to hold a copy may take to register before another is asked.
const WAKE_TERM: Duration = Duration::from_secs(3);

/// Copies of one content that can be asked for.
const REPLICA_LIMIT: u32 = 64;

/// A deletion.
#[derive(Clone, Copy, Debug)]
struct Tombstone {
    until: Instant,
    /// What was deleted: everything of that name up to this stamp.
    stamp: u64,
}

/// Deletions that are remembered.
///
/// A name has stamps that only grow: an import gets one later than everything that was known of the
/// name, a deletion the latest. They are wall-clock times where nothing is known (a hybrid logical
/// clock: Kulkarni and others, "Logical Physical Clocks", OPODIS 2014), so that they keep their order
/// when all schedulers have forgotten everything: holders say the stamps of what they hold, and who
/// has heard of a deletion tells it again.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    known: BTreeMap<TaskId, Tombstone>,
    /// The same, in the order in which they are forgotten.
    ends: BTreeSet<(Instant, TaskId)>,
}

/// What concerns a swarm because its content is cached; blank for all others.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Copies somebody wants.
    count: u32,
    woken: Vec<(HostKey, Instant)>,
    looked: Option<Instant>,
    is_cached: bool,
    /// The stamp of the content; 0 while nobody has it.
    stamp: u64,
}

/// What the scheduler knows of a task.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TaskView {
    /// Length of the content in bytes, once known.
    pub content_len: Option<u64>,
    /// Pieces it has, once known.
    pub pieces: Option<u32>,
    /// Hosts in the task.
    pub peers: u32,
    /// Those of them that have all of it and may be offered.
    pub holders: u32,
    /// Peers that pull and say that they have all of it: good for others that pull.
    pub pull_holders: u32,
    /// Whether somebody is downloading it.
    pub is_wanted: bool,
    /// The stamp of the latest deletion, if one is remembered.
    pub deleted: Option<u64>,
}

impl Tombstones {
    fn add(&mut self, now: Instant, task: TaskId, tombstone: Tombstone) {
        if let Some(old) = self.known.insert(task, tombstone) {
            self.ends.remove(&(old.until, task));
        }
        self.ends.insert((tombstone.until, task));
        while let Some((end, oldest)) = self.ends.first().copied() {
            if end > now && self.ends.len() <= TOMBSTONE_LIMIT {
                return;
            }
            self.ends.pop_first();
            self.known.remove(&oldest);
        }
    }

    /// The stamp of a deletion that is not too long ago.
    fn stamp(&self, now: Instant, task: &TaskId) -> Option<u64> {
        self.known.get(task).filter(|tombstone| now < tombstone.until).map(|tombstone| tombstone.stamp)
    }
}

impl Scheduler {
    /// The stamp of the latest deletion of a task; `None` if none is remembered.
    pub fn tombstone(&self, task: &TaskId) -> Option<u64> {
        self.tombstones.known.get(task).map(|tombstone| tombstone.stamp)
    }

    /// The stamp of a swarm's content; 0 for what is not cached, or is not there yet.
    pub(super) fn stamp_of(&self, key: SwarmKey) -> u64 {
        self.swarms[key].replicas.stamp
    }

    /// Whether a cached content may register: not if it was deleted, nor if its name stands for other
    /// bytes that somebody reachable has.
    pub(super) fn check_cached(&mut self, now: Instant, registration: &Registration) -> Result<(), Refusal> {
        let Some(Cached { is_imported, stamp, .. }) = registration.cached else { return Ok(()) };
        let task = registration.task;
        let key = self.tasks.get(&task).copied();
        let is_other = key.is_some_and(|key| self.contradicts(key, registration));
        if let Some(deleted) = self.tombstones.stamp(now, &task)
            && !is_imported
            && !registration.held.is_empty()
            && stamp <= deleted
        {
            // The same bytes may have been imported again since.
            let is_renewed = key.is_some_and(|key| self.stamp_of(key) > deleted);
            return if is_renewed && !is_other { Ok(()) } else { Err(Refusal::Deleted) };
        }
        let Some(key) = key.filter(|_| is_other) else { return Ok(()) };
        if is_imported && self.swarms[key].is_empty() {
            self.drop_swarm(now, key);
            return Ok(());
        }
        Err(Refusal::ContentMismatch)
    }

    fn contradicts(&self, key: SwarmKey, registration: &Registration) -> bool {
        let swarm = &self.swarms[key];
        let (Some(known), Some(plan)) = (swarm.plan, registration.plan) else { return false };
        let is_cut_otherwise = known.piece_len() != plan.piece_len()
            || known.content_len().zip(plan.content_len()).is_some_and(|(a, b)| a != b);
        let differs = |(number, digest): &(u32, crate::id::PieceDigest)| {
            plan.number(*number).and_then(|piece| swarm.digest(piece)).is_some_and(|known| known != *digest)
        };
        is_cut_otherwise || registration.digests.iter().any(differs)
    }

    /// Remembers how many copies are wanted, and of which content.
    pub(super) fn note_cached(&mut self, now: Instant, key: SwarmKey, cached: Cached) {
        let deleted = self.tombstones.stamp(now, &self.swarms[key].task).unwrap_or(0);
        let replicas = &mut self.swarms[key].replicas;
        replicas.is_cached = true;
        replicas.count = replicas.count.max(cached.replicas.min(REPLICA_LIMIT));
        if !cached.is_imported {
            replicas.stamp = replicas.stamp.max(cached.stamp);
        } else if replicas.stamp <= deleted {
            replicas.stamp = cached.stamp.max(deleted.saturating_add(1));
        }
    }

    /// A content was deleted: everybody who is here drops it, everybody else when they return. Answers
    /// what was known of it.
    pub(super) fn task_deleted(&mut self, now: Instant, request: RequestId, task: TaskId, stamp: u64) {
        let key = self.tasks.get(&task).copied();
        let known = key.map_or(0, |key| self.stamp_of(key));
        let stamp = stamp.max(known).max(self.tombstones.stamp(now, &task).unwrap_or(0));
        self.tombstones.add(now, task, Tombstone { until: now + TOMBSTONE_TTL, stamp });
        let view = self.view(now, &task).unwrap_or_default();
        self.outbox.push(Output::TaskTold { request, view: Some(TaskView { deleted: Some(stamp), ..view }) });
        if let Some(key) = key {
            self.drop_swarm(now, key);
        }
    }

    /// Somebody has heard of a deletion so long ago, maybe from a scheduler that has forgotten it.
    pub(super) fn deletion_told(&mut self, now: Instant, task: TaskId, stamp: u64, age: Duration) {
        let Some(left) = TOMBSTONE_TTL.checked_sub(age).filter(|left| !left.is_zero()) else { return };
        if self.tombstones.stamp(now, &task).is_some_and(|known| known >= stamp) {
            return;
        }
        self.tombstones.add(now, task, Tombstone { until: now + left, stamp });
        let Some(key) = self.tasks.get(&task).copied() else { return };
        let swarm = &self.swarms[key];
        let is_held = swarm.iter().any(|(_, member)| member.held > 0);
        if swarm.replicas.is_cached && swarm.replicas.stamp <= stamp && is_held {
            self.drop_swarm(now, key);
        }
    }

    fn drop_swarm(&mut self, now: Instant, key: SwarmKey) {
        let members: Vec<_> = self.swarms[key].iter().map(|(_, member)| member.peer).collect();
        for peer in members {
            if self.peers.get(peer).is_some_and(|p| p.state.is_downloading() || p.state == PeerState::Pending) {
                self.outbox.push(Output::FailTask { peer, why: TaskFailure::NoSource });
            }
            self.outbox.push(Output::Forget { peer });
            self.remove_peer(now, peer);
        }
        self.remove_swarm(key);
    }

    pub(super) fn task_asked(&mut self, now: Instant, request: RequestId, task: TaskId) {
        let view = self.view(now, &task);
        self.outbox.push(Output::TaskTold { request, view });
    }

    fn view(&self, now: Instant, task: &TaskId) -> Option<TaskView> {
        let swarm = &self.swarms[*self.tasks.get(task)?];
        let can_serve = |member: &super::member::Member| self.hosts[member.host].is_offerable(now);
        let holders = swarm.iter().filter(|(row, member)| swarm.is_complete(*row) && can_serve(member));
        let is_done = |key: &PeerKey| self.peers.get(*key).is_some_and(|peer| peer.is_done_pulling());
        Some(TaskView {
            content_len: swarm.plan.and_then(|plan| plan.content_len()),
            pieces: swarm.plan.and_then(|plan| plan.count()),
            peers: swarm.len() as u32,
            holders: holders.count() as u32,
            pull_holders: swarm.pullers.iter().filter(|peer| is_done(peer)).count() as u32,
            is_wanted: swarm.wanting > 0,
            deleted: self.tombstones.stamp(now, task),
        })
    }

    /// Asks further hosts to hold a content that has fewer copies than it should. Those in the task
    /// count whether they have it yet or not; nobody is asked while nobody has it.
    pub(super) fn ensure_replicas(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &self.swarms[key];
        let is_due = swarm.replicas.looked.is_none_or(|looked| now - looked >= WAKE_TERM);
        if swarm.replicas.count <= swarm.len() as u32 || !is_due || !swarm.iter().any(|(row, _)| swarm.is_complete(row))
        {
            return;
        }
        let woken = swarm.replicas.woken.iter().filter(|(_, at)| now - *at < WAKE_TERM);
        let missing = swarm.replicas.count as usize - swarm.len();
        let short = missing.saturating_sub(woken.count());
        let is_out = |host: &HostKey| {
            swarm.iter().all(|(_, member)| member.host != *host)
                && swarm.replicas.woken.iter().all(|(woken, _)| woken != host)
        };
        let free = self.hosts.iter().filter(|(host, info)| is_out(host) && info.is_offerable(now));
        let mut free: Vec<(u64, HostKey)> =
            free.map(|(host, info)| (draw(swarm, info.info.id.as_bytes()), host)).collect();
        free.sort_unstable();
        let task = swarm.task;
        let replicas = &mut self.swarms[key].replicas;
        replicas.looked = Some(now);
        if free.is_empty() {
            // All were asked: those who did not come are asked again.
            replicas.woken.clear();
        }
        for (_, host) in free.into_iter().take(short) {
            replicas.woken.push((host, now));
            self.outbox.push(Output::WakeSeed { host, task });
        }
    }
}
