//! Contents without a source: who deleted one means it, a name stands for one content, and those that
//! lack copies get them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Scheduler;
use super::event::{Cached, HostKey, Output, Refusal, Registration, RequestId, TaskFailure};
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
    /// Whether the same name was imported again since: then only other bytes are the deleted ones.
    is_renewed: bool,
}

/// Deletions that are remembered.
#[derive(Debug, Default)]
pub(super) struct Tombstones(BTreeMap<TaskId, Tombstone>);

/// The copies somebody wants of a swarm's content.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    count: u32,
    woken: Vec<(HostKey, Instant)>,
    looked: Option<Instant>,
}

/// What the scheduler knows of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskView {
    /// Length of the content in bytes, once known.
    pub content_len: Option<u64>,
    /// Pieces it has, once known.
    pub pieces: Option<u32>,
    /// Hosts in the task.
    pub peers: u32,
    /// Those of them that have all of it and may be offered.
    pub holders: u32,
    /// Whether somebody is downloading it.
    pub is_wanted: bool,
}

impl Tombstones {
    fn add(&mut self, now: Instant, task: TaskId) {
        if self.0.len() >= TOMBSTONE_LIMIT && !self.0.contains_key(&task) {
            self.0.retain(|_, tombstone| now < tombstone.until);
            let oldest = self.0.iter().min_by_key(|(_, tombstone)| tombstone.until).map(|(task, _)| *task);
            oldest.filter(|_| self.0.len() >= TOMBSTONE_LIMIT).map(|task| self.0.remove(&task));
        }
        self.0.insert(task, Tombstone { until: now + TOMBSTONE_TTL, is_renewed: false });
    }

    fn of(&mut self, now: Instant, task: &TaskId) -> Option<&mut Tombstone> {
        self.0.get_mut(task).filter(|tombstone| now < tombstone.until)
    }
}

impl Scheduler {
    /// Whether a cached content may register: not if it was deleted, nor if its name stands for other
    /// bytes that somebody reachable has.
    pub(super) fn check_cached(&mut self, now: Instant, registration: &Registration) -> Result<(), Refusal> {
        let Some(Cached { is_imported, .. }) = registration.cached else { return Ok(()) };
        let task = registration.task;
        let mut is_renewed = false;
        if let Some(tombstone) = self.tombstones.of(now, &task) {
            tombstone.is_renewed |= is_imported;
            is_renewed = tombstone.is_renewed;
            if !is_renewed && !registration.held.is_empty() {
                return Err(Refusal::Deleted);
            }
        }
        let Some(key) = self.tasks.get(&task).copied() else { return Ok(()) };
        if !self.contradicts(key, registration) {
            return Ok(());
        }
        let swarm = &self.swarms[key];
        let has_others = swarm.iter().any(|(_, member)| member.host != registration.host);
        match (is_imported, is_renewed) {
            (true, _) if !has_others => {
                self.drop_swarm(now, key);
                Ok(())
            }
            (false, true) => Err(Refusal::Deleted),
            _ => Err(Refusal::ContentMismatch),
        }
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

    /// Remembers how many copies are wanted.
    pub(super) fn note_replicas(&mut self, key: SwarmKey, cached: Cached) {
        let replicas = &mut self.swarms[key].replicas;
        replicas.count = replicas.count.max(cached.replicas.min(REPLICA_LIMIT));
    }

    /// A content was deleted: everybody who is here drops it, everybody else when they return.
    pub(super) fn task_deleted(&mut self, now: Instant, task: TaskId) {
        self.tombstones.add(now, task);
        if let Some(key) = self.tasks.get(&task).copied() {
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
        let view = self.tasks.get(&task).map(|key| {
            let swarm = &self.swarms[*key];
            let is_holder = |(row, member): &(super::swarm::Row, &super::swarm::Member)| {
                swarm.is_complete(*row) && self.hosts[member.host].is_offerable(now)
            };
            TaskView {
                content_len: swarm.plan.and_then(|plan| plan.content_len()),
                pieces: swarm.plan.and_then(|plan| plan.count()),
                peers: swarm.len() as u32,
                holders: swarm.iter().filter(is_holder).count() as u32,
                is_wanted: swarm.wanting > 0,
            }
        });
        self.outbox.push(Output::TaskTold { request, view });
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
