//! The machine of a scheduler: for each task it knows every peer and every piece, and decides piece
//! by piece who sends what to whom ("granted uploads").
//!
//! When a parent has room to upload, the receiver with the least progress gets its rarest piece from
//! there. Copies on their way count as copies, so a seed sends every piece once before it repeats
//! any, and a peer that is still receiving a piece may be told to pass it on as it arrives.
//! The policy and its figures are in `docs/swarm.md`.
//!
//! All state is soft: after a restart the hosts announce themselves and what they hold, and it is
//! whole again.
//!
//! # Invariants
//! - I1: the availability of a piece is the number of members that have or expect it.
//! - I2: a member never both has and expects a piece; its counts agree with its sets.
//! - I3: the room used in a lane is the number of its counted grants and within the lane's limit.
//! - I4: whoever expects a piece has exactly one grant for it, or fetches it from the source.
//! - I5: the parent of a grant has the piece, or expects it itself.
//! - I6: following the parents of one piece never leads in a circle.
//! - I7: the pool of the hungry holds exactly those who want pieces and have room.
//! - I8: runs from the source do not overlap.
//! - I9: copies per zone add up to the availability.
//! - I10: a host's lists of peers agree with the peers.
//! - I11: what a pulling peer merely claims is neither held nor vouched for, and only such peers claim.

pub mod event;

mod ahead;
mod cached;
mod candidates;
mod endgame;
mod grant;
mod host;
mod invariants;
mod lane;
mod member;
mod membership;
mod pool;
mod pulling;
mod rank;
mod rows;
mod seeding;
mod swarm;
mod table;
mod usual;
mod view;
mod zone;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use slotmap::SlotMap;

pub use cached::TaskView;
pub use event::{
    Cached, GrantKey, HostInfo, HostKey, HostKind, Input, Mode, Output, PeerKey, PieceFailure, Refusal, Registration,
    RequestId, SourceFailure, TaskFailure, Zone,
};
pub use view::{HostRow, MemberRow, PieceState, Rescues, TaskRow, Transfer};

use crate::blacklist::{Blacklist, BlacklistPolicy};
use crate::id::{HostId, PeerId, PieceDigest, TaskId};
use crate::machine::{Machine, Outbox};
use crate::piece::PiecePlan;
use crate::rng::Rng;
use crate::time::{Deadline, Duration, Instant};
use candidates::Work;
use host::{Grant, Host, Inbound, Peer, Seat, SwarmKey};
use pool::Entry;
use swarm::Swarm;
use table::Table;

/// The knobs of a scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchedulerConfig {
    /// Hosts connected at once.
    pub host_limit: usize,
    /// Tasks known at once.
    pub task_limit: usize,
    /// Peers of one task.
    pub peer_limit: usize,
    /// How many hops a piece may be passed on while it is still arriving; 0 turns relaying off.
    pub relay_depth_limit: u32,
    /// Whether all slots are used, even where fewer transfers at once fill the link.
    pub fills_slots: bool,
    /// Whether idle parents take over, at the end of a download, what slow ones are sending.
    pub takes_over: bool,
    /// So many pieces before the end, a peer that is behind the others may take two at once; 0: never.
    pub last_pieces: u32,
    /// Whether who is at the source sends nothing that others have when its next piece is about to come.
    pub keeps_free: bool,
    /// After this long without anything on its way, a peer may be served across zones whatever
    /// there is in its own.
    pub zone_escape: Duration,
    /// After this long without a piece, though others have what it lacks, a peer may be sent to the
    /// source.
    pub source_escape: Duration,
    /// Term of a grant between hosts whose pace is not known yet.
    pub first_grant_term: Duration,
    /// The shortest term of a grant.
    pub grant_term_floor: Duration,
    /// Terms are this many times what the transfer is expected to take.
    pub grant_slack: u32,
    /// A transfer is late after this many times what it was expected to take: then its child may be
    /// served by others meanwhile.
    pub late_slack: u32,
    /// How often overdue grants, starving peers and silent sources are looked for.
    pub sweep_interval: Duration,
    /// How long a task without peers is remembered.
    pub task_ttl: Duration,
    /// Parents that a peer that pulls is offered at once.
    pub candidate_parent_limit: u32,
    /// Members of its swarm of whom they are chosen, among those that are fit.
    pub filter_parent_limit: u32,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            host_limit: 200_000,
            task_limit: 100_000,
            peer_limit: 200_000,
            relay_depth_limit: 24,
            fills_slots: false,
            takes_over: true,
            last_pieces: 16,
            keeps_free: true,
            zone_escape: Duration::from_secs(4),
            source_escape: Duration::from_secs(15),
            first_grant_term: Duration::from_secs(30),
            grant_term_floor: Duration::from_secs(3),
            grant_slack: 4,
            late_slack: 2,
            sweep_interval: Duration::from_millis(250),
            task_ttl: Duration::from_secs(1800),
            candidate_parent_limit: 4,
            filter_parent_limit: 256,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    hosts: Table<HostKey, Host>,
    host_keys: BTreeMap<HostId, HostKey>,
    /// Connected seed hosts.
    seeds: Vec<HostKey>,
    peers: Table<PeerKey, Peer>,
    swarms: SlotMap<SwarmKey, Swarm>,
    tasks: BTreeMap<TaskId, SwarmKey>,
    grants: Table<GrantKey, Grant>,
    /// Children `.0` that had trouble with parents `.1`.
    pairs: Blacklist<(), (HostKey, HostKey)>,
    tombstones: cached::Tombstones,
    rng: Rng,
    work: VecDeque<Work>,
    outbox: Outbox<Output>,
    rescues: Rescues,
    /// When the first input came.
    started: Instant,
    next_sweep: Instant,
    // Memory that is used again and again, so that granting does not allocate.
    sample: Vec<Entry>,
    wanted: Vec<u64>,
    useful: Vec<u64>,
    late: Vec<GrantKey>,
}

/// What a driver needs to know of a peer to talk about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Its name.
    pub id: PeerId,
    /// Its host.
    pub host: HostKey,
    /// The host's name.
    pub host_id: HostId,
    /// Its task.
    pub task: TaskId,
    /// How its content is cut, once somebody with a mandate said so.
    pub plan: Option<PiecePlan>,
    /// Pieces it has.
    pub held: u32,
    /// Whether it has everything.
    pub is_complete: bool,
    /// The stamp of its content; 0 for what is not cached, or nobody has.
    pub stamp: u64,
}

impl Scheduler {
    /// A scheduler that knows nobody. `seed` determines all its draws.
    pub fn new(config: SchedulerConfig, seed: u64) -> Self {
        Self {
            config,
            hosts: Table::new(),
            host_keys: BTreeMap::new(),
            seeds: Vec::new(),
            peers: Table::new(),
            swarms: SlotMap::with_key(),
            tasks: BTreeMap::new(),
            grants: Table::new(),
            pairs: Blacklist::new(BlacklistPolicy::LOCAL),
            tombstones: cached::Tombstones::default(),
            rng: Rng::new(seed).fork("scheduler"),
            work: VecDeque::new(),
            outbox: Outbox::new(),
            rescues: Rescues::default(),
            started: Instant::ZERO,
            next_sweep: Instant::ZERO,
            sample: Vec::new(),
            wanted: Vec::new(),
            useful: Vec::new(),
            late: Vec::new(),
        }
    }

    /// What is known of a peer; `None` once it is gone.
    pub fn peer(&self, key: PeerKey) -> Option<PeerView> {
        let peer = self.peers.get(key)?;
        let (swarm, host) = (&self.swarms[peer.swarm], &self.hosts[peer.host]);
        Some(PeerView {
            id: peer.id,
            host: peer.host,
            host_id: host.info.id,
            task: swarm.task,
            plan: swarm.plan,
            held: swarm.member(peer.row).map_or(0, |member| member.held),
            is_complete: swarm.is_complete(peer.row),
            stamp: self.stamp_of(peer.swarm),
        })
    }

    /// Whether a peer has a piece, as far as is known here.
    pub fn holds(&self, key: PeerKey, piece: crate::piece::PieceNumber) -> bool {
        self.peers.get(key).is_some_and(|peer| self.swarms[peer.swarm].has(peer.row, piece))
    }

    /// What a connected host said of itself.
    pub fn host(&self, key: HostKey) -> Option<&HostInfo> {
        self.hosts.get(key).map(|host| &host.info)
    }

    /// The digests of a peer's task in the order they became known: what
    /// [`Output::TellDigests`] speaks of.
    pub fn digests(&self, peer: PeerKey) -> &[(u32, PieceDigest)] {
        self.peers.get(peer).map_or(&[], |peer| self.swarms[peer.swarm].digest_log())
    }

    /// A hash of the source's validators for a peer's task; 0 while none is known.
    pub fn source_version(&self, peer: PeerKey) -> u64 {
        self.peers.get(peer).map_or(0, |peer| self.swarms[peer.swarm].version)
    }

    /// The peers of a task, in no particular order; nothing for an unknown task.
    pub fn peers_of(&self, task: &TaskId) -> impl Iterator<Item = PeerKey> + '_ {
        let swarm = self.tasks.get(task).map(|key| &self.swarms[*key]);
        swarm.into_iter().flat_map(|swarm| swarm.iter().map(|(_, member)| member.peer))
    }

    /// Hosts, tasks, peers and grants known now.
    pub fn sizes(&self) -> [usize; 4] {
        [self.hosts.len(), self.swarms.len(), self.peers.len(), self.grants.len()]
    }

    fn member(&self, seat: Seat) -> Option<&member::Member> {
        self.swarms.get(seat.swarm)?.member(seat.row)
    }

    /// Queues the digests of its swarm that a peer has not been told.
    fn tell_digests(&mut self, swarm: SwarmKey, key: PeerKey) {
        let to = self.swarms[swarm].digest_log().len() as u32;
        let from = core::mem::replace(&mut self.peers[key].digests_told, to);
        if from < to {
            self.outbox.push(Output::TellDigests { peer: key, from, to });
        }
    }

    /// The grant by which `piece` is on its way to `peer`.
    fn inbound(&self, peer: PeerKey, piece: crate::piece::PieceNumber) -> Option<&Inbound> {
        self.peers[peer].inbound.iter().find(|inbound| inbound.piece == piece)
    }

    /// Takes back what is overdue, feeds those who starve, looks after sources, forgets deserted
    /// tasks. Linear in grants, hungry peers and tasks.
    fn sweep(&mut self, now: Instant) {
        self.next_sweep = now + self.config.sweep_interval;
        self.expire_grants(now);
        let swarms: Vec<SwarmKey> = self.swarms.keys().collect();
        for key in swarms {
            self.expire_runs(now, key);
            self.ensure_source(now, key);
            if !self.swarms.contains_key(key) {
                continue;
            }
            self.escape_to_source(now, key);
            self.reassure(now, key);
            self.review_pullers(now, key);
            if !self.swarms.contains_key(key) {
                continue;
            }
            self.ensure_replicas(now, key);
            let swarm = &self.swarms[key];
            let hungry = swarm.hungry.rows().filter(|row| swarm.member(*row).is_some_and(|m| m.coming == 0));
            self.work.extend(hungry.map(|row| Work::Feed(Seat { swarm: key, row })));
            self.let_escape(now, key);
            self.review_endgame(now, key);
            let swarm = &self.swarms[key];
            if swarm.is_empty() && now - swarm.deserted >= self.config.task_ttl {
                self.remove_swarm(key);
            }
        }
        for (child, parent) in self.pairs.expire(now) {
            let (Some(_), Some(_)) = (self.hosts.get(child), self.hosts.get(parent)) else { continue };
            self.work.push_back(Work::Serve(parent));
        }
    }
}

impl Scheduler {
    /// Lets those be served across zones to whom nothing came for too long.
    fn let_escape(&mut self, now: Instant, key: SwarmKey) {
        let swarm = &mut self.swarms[key];
        if swarm.zones.len() < 2 {
            return;
        }
        for row in swarm.hungry.rows() {
            let Some(member) = swarm.members[row as usize].as_mut().filter(|member| member.coming == 0) else {
                continue;
            };
            if !member.is_escaping && now - member.served >= self.config.zone_escape {
                member.is_escaping = true;
                self.rescues.let_across += 1;
            }
        }
    }
}

impl Machine for Scheduler {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        if self.next_sweep == Instant::ZERO {
            self.started = now;
            self.next_sweep = now + self.config.sweep_interval;
        }
        match input {
            Input::HostAnnounced { request, info } => self.host_announced(now, request, info),
            Input::HostLeft { host } => self.host_left(now, host),
            Input::PeerRegistered(registration) => self.peer_registered(now, *registration),
            Input::PlanLearned { peer, plan, is_ranged, version } => {
                self.plan_learned(now, peer, plan, is_ranged, version);
            }
            Input::SourceStarted { peer, piece } => self.source_started(now, peer, piece),
            Input::SourceProgressed { peer } => self.source_progressed(now, peer),
            Input::SourceStored { peer, piece, digest } => self.source_stored(now, peer, piece, digest),
            Input::SourceEnded { peer } => self.source_ended(now, peer),
            Input::SourceFailed { peer, failure } => self.source_failed(now, peer, failure),
            Input::NearlyFinished { grant } => self.grant_nearly_finished(grant),
            Input::Progressed { grant } => self.grant_progressed(now, grant),
            Input::PieceFinished { grant } => self.grant_finished(now, grant),
            Input::PieceFailed { grant, failure } => self.grant_failed(now, grant, failure),
            Input::PieceHeld { peer, piece } => self.foreign_piece_held(now, peer, piece),
            Input::ParentFailed { peer, parent, failure } => self.parent_failed(now, peer, parent, failure),
            Input::PieceLost { peer, piece } => self.reported_lost(now, peer, piece),
            Input::PeerDone { peer } => self.peer_done(now, peer),
            Input::PeerStopped { peer } => self.peer_stopped(now, peer),
            Input::PeerLeft { peer } => self.peer_left(now, peer),
            Input::TaskDeleted { request, task, stamp } => self.task_deleted(now, request, task, stamp),
            Input::DeletionTold { task, stamp, age } => self.deletion_told(now, task, stamp, age),
            Input::TaskAsked { request, task } => self.task_asked(now, request, task),
            Input::CandidatesLimited { parents, looked_at } => self.candidates_limited(parents, looked_at),
            Input::HostPardoned { host } => self.host_pardoned(now, host),
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_sweep {
            self.sweep(now);
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let is_asleep = self.swarms.is_empty() && self.pairs.is_empty();
        (!is_asleep).then(|| Deadline::new(self.next_sweep, "sweep"))
    }

    fn check_invariants(&self) {
        self.check();
    }
}
