//! Who fetches from the source, and which part: one fetcher for each piece, by lease.

mod reports;

use alloc::vec::Vec;

use super::Scheduler;
use super::event::{HostKey, Output, PeerKey, TaskFailure};
use super::host::{Peer, Seat, SwarmKey};
use super::member::Member;
use super::swarm::{Row, Swarm};
use crate::lifecycle::{PeerState, TaskState};
use crate::piece::{PieceNumber, PiecePlan};
use crate::time::{Duration, Instant};

/// Failed attempts at the source before everybody who waits is told so (Dragonfly v2's
/// backSourceCount).
pub(super) const SOURCE_TRY_LIMIT: u32 = 3;

/// A swarm in which no bytes arrived for so long stands still: transfers that take long tell every 2 s that
/// they move.
const STILL_TERM: Duration = Duration::from_secs(5);

/// In one that moves, whoever waits for a turn waits so many times as long.
const PATIENCE: u32 = 4;

/// How long after its start a scheduler without seeds waits before it sends others to the source.
const SETTLE_TERM: Duration = Duration::from_secs(1);

/// How long a woken seed may take to register before somebody else is asked.
const WAKE_TERM: Duration = Duration::from_secs(5);

/// A run from the source without a sign of life for this long is given to somebody else.
pub(super) const SOURCE_TERM: Duration = Duration::from_secs(45);

/// How often those who wait are told that they are not forgotten; after half a minute without a word a peer
/// goes its own way.
const REASSURE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a swarm may hope for a holder (one that re-announces itself after the scheduler's
/// restart) when nobody may ask the source.
const HOPE_TERM: Duration = Duration::from_secs(3);

/// Fetchers of one task at the source at once, where the source serves ranges.
const FETCHER_LIMIT: usize = 2;

/// A run is shared with a second fetcher only while this many pieces of it are left.
const SHARE_FLOOR: u32 = 16;

/// Who of one swarm is at the source.
#[derive(Debug)]
pub(super) struct SourceBook {
    pub(super) runs: Vec<Run>,
    /// Whether there is a source at all: cached data has none.
    pub(super) exists: bool,
    woken: Vec<(HostKey, Instant)>,
    /// Who was sent to the source, and so may say what it said.
    mandated: Vec<PeerKey>,
    /// Who failed at it since the last success.
    failed: Vec<PeerKey>,
    tries: u32,
    hopeless_since: Option<Instant>,
    /// The peer that pulls and was sent to the source: for all others that do, for no one else.
    pub(super) puller: Option<PullRun>,
    /// When the source last brought something: before that nobody could be waiting for others.
    brought: Instant,
    /// Attempts of such peers that failed, since the last that brought something.
    pub(super) pull_failures: u32,
}

/// A peer that pulls is at the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct PullRun {
    pub(super) peer: PeerKey,
    pub(super) touched: Instant,
}

/// Pieces `from..to` are one peer's to fetch from the source.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) peer: PeerKey,
    pub(super) from: u32,
    /// Piece after the last; `None` for the end.
    pub(super) to: Option<u32>,
    /// Piece after the furthest that has begun to arrive.
    reached: u32,
    /// Pieces whose bytes are arriving.
    pub(super) started: Vec<PieceNumber>,
    touched: Instant,
    /// When the first and the last that began to arrive did, and how many did.
    begun: (Instant, Instant),
    count: u32,
}

impl Run {
    const fn new(now: Instant, peer: PeerKey, from: u32, to: Option<u32>) -> Self {
        Self { peer, from, to, reached: from, started: Vec::new(), touched: now, begun: (now, now), count: 0 }
    }

    /// Something is heard of a piece.
    fn reach(&mut self, now: Instant, piece: PieceNumber) {
        self.touched = now;
        self.reached = self.reached.max(piece.get() + 1);
    }

    /// A piece is stored.
    fn store(&mut self, now: Instant, piece: PieceNumber) {
        self.reach(now, piece);
        self.started.retain(|started| *started != piece);
    }

    /// A piece begins to arrive.
    fn begin(&mut self, now: Instant, piece: PieceNumber) {
        self.reach(now, piece);
        if !self.started.contains(&piece) {
            self.started.push(piece);
            self.begun = (if self.count == 0 { now } else { self.begun.0 }, now);
            self.count += 1;
        }
    }

    /// Whether something that takes `us` would still be under way when the next piece begins to arrive, by the
    /// pace of those before. Not if that piece is overdue, or there is none.
    pub(super) fn interferes(&self, now: Instant, us: Option<u64>, count: Option<u32>) -> bool {
        let (first, last) = self.begun;
        if self.count < 2 || self.to.or(count).is_some_and(|end| self.reached >= end) {
            return false;
        }
        let interval = (last - first) / (self.count - 1);
        let due = last + interval;
        now < due + interval && us.is_none_or(|us| due < now + Duration::from_micros(us))
    }
}

impl SourceBook {
    pub(super) const fn new(exists: bool, now: Instant) -> Self {
        Self {
            runs: Vec::new(),
            exists,
            woken: Vec::new(),
            mandated: Vec::new(),
            failed: Vec::new(),
            tries: 0,
            hopeless_since: None,
            puller: None,
            brought: now,
            pull_failures: 0,
        }
    }

    /// A peer is gone. A seed that came and went may be asked again.
    pub(super) fn forget_peer(&mut self, peer: PeerKey, host: HostKey) {
        self.woken.retain(|(woken, _)| *woken != host);
        self.mandated.retain(|known| *known != peer);
        self.puller = self.puller.filter(|run| run.peer != peer);
    }

    pub(super) fn has_failed(&self, peer: PeerKey) -> bool {
        self.failed.contains(&peer)
    }

    pub(super) fn note_failed(&mut self, peer: PeerKey) {
        self.failed.push(peer);
    }

    /// Whether bytes of the piece are arriving at a peer from the source.
    pub(super) fn brings(&self, peer: PeerKey, piece: PieceNumber) -> bool {
        self.run_of(peer).is_some_and(|run| run.started.contains(&piece))
    }

    /// What a peer is to fetch; it has one run at a time.
    pub(super) fn run_of(&self, peer: PeerKey) -> Option<&Run> {
        self.runs.iter().find(|run| run.peer == peer)
    }

    fn covers(&self, piece: u32) -> bool {
        self.runs.iter().any(|run| run.from <= piece && run.to.is_none_or(|to| piece < to))
    }
}

impl Swarm {
    /// The first gap nobody has, expects or fetches: `from..to`. For an unknown or unranged content
    /// the whole, if nobody is at it.
    fn uncovered(&self) -> Option<(u32, Option<u32>)> {
        let count = self.plan.and_then(|plan| plan.count());
        let (Some(count), true) = (count, self.is_ranged) else {
            let is_needed = count.is_none() || self.availability.fewest() == 0;
            return (self.source.runs.is_empty() && is_needed).then_some((0, None));
        };
        if count == 0 || self.availability.fewest() > 0 {
            return None;
        }
        let plan = self.plan?;
        let is_gap = |n: &u32| {
            plan.number(*n).is_some_and(|piece| self.availability.copies(piece) == 0) && !self.source.covers(*n)
        };
        let from = (0..count).find(is_gap)?;
        let to = (from..count).find(|n| !is_gap(n)).unwrap_or(count);
        Some((from, Some(to)))
    }
}

impl Scheduler {
    /// Sees to it that every piece somebody wants and nobody has is being fetched.
    pub(super) fn ensure_source(&mut self, now: Instant, key: SwarmKey) {
        let Some(swarm) = self.swarms.get(key) else { return };
        if swarm.wanting == 0 {
            return;
        }
        let Some((from, to)) = swarm.uncovered() else {
            self.swarms[key].source.hopeless_since = None;
            return self.share_run(now, key);
        };
        if !swarm.source.exists {
            return self.despair(now, key);
        }
        if self.seeds.is_empty() && now - self.started < SETTLE_TERM {
            return; // Seeds and holders may be about to announce themselves.
        }
        if let Some(peer) = self.fetcher(now, key) {
            return self.send_to_source(now, key, peer, from, to);
        }
        if !self.wake_seed(now, key) && self.swarms[key].source.runs.is_empty() {
            self.despair(now, key);
        }
    }

    /// The member to send: a seed; or, when no seed can be had, one of those who wait.
    fn fetcher(&self, now: Instant, key: SwarmKey) -> Option<PeerKey> {
        let seed = self.free_seed(key);
        if seed.is_some() || self.next_seed(now, key).is_some() {
            return seed;
        }
        let waiting = self.swarms[key].iter().map(|(_, member)| member).filter(|member| !member.is_seed);
        waiting.map(|member| member.peer).find(|peer| self.may_fetch(key, *peer))
    }

    /// A seed among the members that may be sent.
    fn free_seed(&self, key: SwarmKey) -> Option<PeerKey> {
        self.seeds.iter().filter_map(|host| self.peer_on(*host, key)).find(|peer| self.may_fetch(key, *peer))
    }

    /// Whether a member may be sent to the source, where it is not already.
    fn may_fetch(&self, key: SwarmKey, peer: PeerKey) -> bool {
        let source = &self.swarms[key].source;
        let is_fit = |p: &Peer| p.can_fetch_source && p.puller.is_none() && p.state.is_downloading();
        self.peers.get(peer).is_some_and(is_fit) && !source.failed.contains(&peer) && source.run_of(peer).is_none()
    }

    /// The seed to be woken next: the first in the order of its draw for this task that is neither
    /// a member nor was asked in vain; or the one that was just asked. None if all who wait spare the seeds.
    fn next_seed(&self, now: Instant, key: SwarmKey) -> Option<HostKey> {
        let swarm = &self.swarms[key];
        if swarm.modest == swarm.wanting {
            return None;
        }
        let is_fresh = |host: &HostKey| {
            let asked = swarm.source.woken.iter().find(|(woken, _)| woken == host);
            asked.is_none_or(|(_, at)| now - *at < WAKE_TERM)
        };
        let is_member = |host: &HostKey| self.peer_on(*host, key).is_some();
        let mut seeds: Vec<(u64, HostKey)> = self
            .seeds
            .iter()
            .filter(|host| is_fresh(host) && !is_member(host) && self.hosts[**host].is_offerable(now))
            .map(|host| (draw(swarm, self.hosts[*host].info.id.as_bytes()), *host))
            .collect();
        seeds.sort_unstable();
        seeds.first().map(|(_, host)| *host)
    }

    /// True if a seed is on its way.
    fn wake_seed(&mut self, now: Instant, key: SwarmKey) -> bool {
        let Some(host) = self.next_seed(now, key) else { return false };
        let swarm = &mut self.swarms[key];
        if swarm.source.woken.iter().all(|(woken, _)| *woken != host) {
            swarm.source.woken.push((host, now));
            self.outbox.push(Output::WakeSeed { host, task: swarm.task });
        }
        true
    }

    fn send_to_source(&mut self, now: Instant, key: SwarmKey, peer: PeerKey, from: u32, to: Option<u32>) {
        let swarm = &mut self.swarms[key];
        swarm.source.hopeless_since = None;
        if !swarm.source.mandated.contains(&peer) {
            swarm.source.mandated.push(peer);
        }
        swarm.source.runs.push(Run::new(now, peer, from, to));
        if swarm.state != TaskState::Running {
            swarm.state = TaskState::Running;
        }
        self.peers[peer].state.step(PeerState::BackToSource);
        self.outbox.push(Output::FetchSource { peer, from, to });
    }

    /// Sends a peer to the source for what it lacks though others have it: nothing has come from them
    /// for too long. (In a swarm that moves it may be waiting for its turn, and has to wait longer.) One such
    /// peer at a time; the others get it from there. If all who could be sent have failed there, and nothing
    /// moves anywhere in the swarm, one of them is told that it cannot go on.
    pub(super) fn escape_to_source(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &self.swarms[key];
        let Some(plan) = swarm.plan.filter(|_| swarm.source.exists && swarm.source.runs.is_empty()) else { return };
        let escape = self.config.source_escape;
        let is_still = now - swarm.moved >= escape.max(STILL_TERM);
        let term = if is_still { escape } else { escape * PATIENCE };
        let is_stuck = |member: &Member| {
            self.peers[member.peer].can_fetch_source && now - member.served.max(swarm.source.brought) >= term
        };
        let hungry = swarm.hungry.rows().filter_map(|row| Some((row, swarm.member(row)?)));
        let stuck = hungry.filter(|(_, m)| m.coming == 0 && is_stuck(m));
        let stuck = stuck.map(|(row, m)| (swarm.source.has_failed(m.peer), row, m.peer));
        let Some((has_failed, row, peer)) = stuck.min_by_key(|(has_failed, row, _)| (*has_failed, *row)) else {
            return;
        };
        if has_failed {
            if swarm.iter().all(|(_, member)| member.coming == 0) {
                self.outbox.push(Output::FailTask { peer, why: TaskFailure::Source });
                self.peer_stopped(now, peer);
            }
            return;
        }
        self.rescues.sent_to_source += 1;
        let count = plan.count().filter(|_| swarm.is_ranged);
        let Some(count) = count else { return self.send_to_source(now, key, peer, 0, None) };
        let lacks = |n: &u32| plan.number(*n).is_some_and(|piece| !swarm.has(row, piece));
        if let Some(from) = (0..count).find(lacks) {
            let to = (from..count).find(|n| !lacks(n)).unwrap_or(count);
            self.send_to_source(now, key, peer, from, Some(to));
        }
    }

    /// Tells those for whom nothing is on its way that they are not forgotten, as long as anybody is at the
    /// source or being served. Else all of them would lose patience at about the same time, and go to a
    /// source that is slow enough.
    pub(super) fn reassure(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &mut self.swarms[key];
        if now - swarm.reassured < REASSURE_INTERVAL {
            return;
        }
        swarm.reassured = now;
        let swarm = &self.swarms[key];
        if swarm.source.runs.is_empty() && swarm.iter().all(|(_, member)| member.coming == 0) {
            return;
        }
        let waiting = swarm.iter().filter(|(_, member)| member.is_wanting && member.coming == 0);
        waiting.for_each(|(_, member)| self.outbox.push(Output::Reassure { peer: member.peer }));
    }

    /// Lets a seed that has nothing to fetch take over half of the longest run.
    fn share_run(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &self.swarms[key];
        let Some(count) = swarm.plan.and_then(|plan| plan.count()) else { return };
        if !swarm.is_ranged || swarm.source.runs.is_empty() || swarm.source.runs.len() >= FETCHER_LIMIT {
            return;
        }
        let Some(helper) = self.free_seed(key) else { return };
        let longest = (0..swarm.source.runs.len()).max_by_key(|at| {
            let run = &swarm.source.runs[*at];
            run.to.unwrap_or(count).saturating_sub(run.reached)
        });
        let Some(run) = longest.map(|at| &mut self.swarms[key].source.runs[at]) else { return };
        let end = run.to.unwrap_or(count);
        if end.saturating_sub(run.reached) < SHARE_FLOOR {
            return;
        }
        let middle = run.reached + (end - run.reached) / 2;
        run.to = Some(middle);
        let owner = run.peer;
        self.outbox.push(Output::TrimSource { peer: owner, to: middle });
        self.send_to_source(now, key, helper, middle, Some(end));
    }

    /// Nobody whose word counts can fetch what is missing. Those who pull may still help each other.
    fn despair(&mut self, now: Instant, key: SwarmKey) {
        let spares_pullers = self.pull_from_source(now, key);
        let swarm = &mut self.swarms[key];
        if spares_pullers && !swarm.iter().any(|(_, member)| member.is_wanting) {
            swarm.source.hopeless_since = None;
            return;
        }
        let since = *swarm.source.hopeless_since.get_or_insert(now);
        if now - since >= HOPE_TERM && swarm.iter().all(|(_, member)| member.coming == 0) {
            let tries = swarm.source.tries + swarm.source.pull_failures;
            let why = if tries > 0 { TaskFailure::Source } else { TaskFailure::NoSource };
            self.fail_waiting(now, key, why, spares_pullers);
        }
    }

    /// Tells everybody who wants pieces of a swarm to give up.
    pub(super) fn fail_swarm(&mut self, now: Instant, key: SwarmKey, why: TaskFailure) {
        self.fail_waiting(now, key, why, false);
    }

    /// The same; a peer that pulls and is at the source may do better, and others that pull may be
    /// spared too.
    fn fail_waiting(&mut self, now: Instant, key: SwarmKey, why: TaskFailure, spares_pullers: bool) {
        let puller = self.swarms[key].source.puller;
        let waiting: Vec<PeerKey> = self.swarms[key].iter().map(|(_, member)| member.peer).collect();
        for peer in waiting {
            let Some(state) = self.peers.get(peer) else { continue };
            let is_spared = puller.is_some_and(|run| run.peer == peer) || (spares_pullers && state.puller.is_some());
            if !is_spared && (state.state.is_downloading() || state.state == PeerState::Pending) {
                self.outbox.push(Output::FailTask { peer, why });
                self.stop_peer(now, peer);
            }
        }
        let swarm = &mut self.swarms[key];
        swarm.source = SourceBook::new(swarm.source.exists, now);
        swarm.source.puller = puller;
        swarm.state = if swarm.wanting > 0 { TaskState::Running } else { TaskState::Failed };
    }

    pub(super) fn plan_learned(&mut self, now: Instant, peer: PeerKey, plan: PiecePlan, is_ranged: bool, version: u64) {
        let Some(key) = self.peers.get(peer).map(|p| p.swarm) else { return };
        let swarm = &mut self.swarms[key];
        let Some(run) = swarm.source.runs.iter_mut().find(|run| run.peer == peer) else { return };
        run.touched = now;
        let is_same_version = swarm.version == 0 || version == 0 || swarm.version == version;
        let is_same_plan = swarm.plan.is_none_or(|known| match (known.content_len(), plan.content_len()) {
            (Some(known_len), Some(len)) => known_len == len && known.piece_len() == plan.piece_len(),
            _ => known.piece_len() == plan.piece_len(),
        });
        if !is_same_plan || !is_same_version {
            return self.source_changed(now, key);
        }
        swarm.is_ranged = is_ranged;
        self.version_learned(key, version);
        self.adopt_plan(now, key, plan);
    }

    /// It becomes known of which version the swarm's pieces are. Members that know only how the content is cut
    /// are told: one that does not know could go on by itself with another version.
    pub(super) fn version_learned(&mut self, key: SwarmKey, version: u64) {
        let swarm = &mut self.swarms[key];
        if swarm.version != 0 || version == 0 {
            return;
        }
        swarm.version = version;
        let swarm = &self.swarms[key];
        let told = swarm.plan.into_iter().flat_map(|plan| swarm.iter().map(move |(_, member)| (member.peer, plan)));
        told.for_each(|(peer, plan)| self.outbox.push(Output::TellPlan { peer, plan }));
    }

    /// The swarm knows how its content is cut; its members are told.
    pub(super) fn adopt_plan(&mut self, now: Instant, key: SwarmKey, plan: PiecePlan) {
        let swarm = &mut self.swarms[key];
        if swarm.plan.is_some_and(|known| known == plan || known.content_len().is_some()) {
            return;
        }
        swarm.plan = Some(plan);
        if let Some(count) = plan.count() {
            self.make_room(key, count);
        }
        let swarm = &self.swarms[key];
        let members: Vec<(Row, PeerKey)> = swarm.iter().map(|(row, member)| (row, member.peer)).collect();
        for (row, peer) in members {
            let seat = Seat { swarm: key, row };
            self.outbox.push(Output::TellPlan { peer, plan });
            self.finish_if_complete(now, seat);
            self.review_seat(seat);
        }
    }
}

/// A seed's lot for a task: a hash of both, so that tasks spread over the seeds and stay with them.
pub(super) fn draw(swarm: &Swarm, host: &[u8]) -> u64 {
    let mut key = Vec::with_capacity(host.len() + swarm.task.as_bytes().len());
    key.extend_from_slice(swarm.task.as_bytes());
    key.extend_from_slice(host);
    xxhash_rust::xxh3::xxh3_64(&key)
}
