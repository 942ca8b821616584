//! The lean driver: the real scheduler under swarms of up to 100,000 peers and more.
//!
//! Every decision is the core's. What is simplified is the other side: a peer is a few numbers, a
//! transfer follows the one before it on the sender's uplink and on the receiver's lane (as pieces do
//! that are granted one at a time), so its end is known when it is granted, and it costs two events.

mod host;
mod source;
mod tape;

use df_core::machine::Machine;
use df_core::piece::{Order, PieceNumber, PiecePlan, PieceSet};
use df_core::rng::Rng;
use df_core::scheduler::{
    GrantKey, HostInfo, HostKey, HostKind, Input, Mode, Output, PeerKey, PieceFailure, Registration, RequestId,
    Scheduler, Zone,
};
use df_core::time::Instant;
use slotmap::{Key, KeyData};

use self::host::{Host, NOBODY, Transfer};
use self::source::SourceRun;
pub use self::tape::Tape;
use super::names::{host_id, peer_id, task_id};
use super::tally::Tally;
use super::wheel::Wheel;
use crate::outcome::Outcome;
use crate::plan::Plan;

/// Pieces a reader in order wants next, before the rarest.
pub(super) const READ_WINDOW: u32 = 8;

/// Piece times after which a run is given up, as a multiple of the bound.
const PATIENCE: f64 = 20.0;

/// So many events ahead it is looked what they are about, and what it takes to handle them.
const FAR: usize = 24;
const NEAR: usize = 12;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A peer comes.
    Join { host: u32 },
    /// A host is gone.
    Leave { host: u32 },
    /// The scheduler hears that a transfer is nearly finished.
    Nearly { parent: u32, grant: u64 },
    /// The scheduler hears that a child has a piece, or garbage.
    Report { child: u32, grant: u64 },
    /// The source has something for a fetcher.
    Source { run: u32 },
    /// The scheduler's deadline.
    Sweep,
}

/// So many grants are worked out at once.
const GRANTED_LIMIT: usize = 16;

/// A grant that is set aside.
#[derive(Clone, Copy, Debug)]
struct Granted {
    at: u64,
    child: PeerKey,
    parent: PeerKey,
    piece: PieceNumber,
    grant: GrantKey,
}

/// One run of the lean driver.
#[derive(Debug)]
pub struct Lean {
    plan: Plan,
    content: PiecePlan,
    scheduler: Scheduler,
    wheel: Wheel<Event>,
    hosts: Vec<Host>,
    /// Host numbers by the index of their peer's key.
    host_of: Vec<u32>,
    runs: Vec<SourceRun>,
    rng: Rng,
    now: u64,
    sweep_at: u64,
    tally: Tally,
    /// What the scheduler is told, if somebody wants to know.
    tape: Option<Tape>,
    /// Grants made just now.
    granted: Vec<Granted>,
}

impl Lean {
    /// Prepares a run.
    pub fn new(plan: Plan) -> Self {
        Self::prepare(plan, false)
    }

    fn prepare(plan: Plan, is_recorded: bool) -> Self {
        let tally = Tally::new(&plan);
        let mut rng = Rng::new(plan.seed);
        let scheduler_seed = rng.next_u64();
        let scheduler = Scheduler::new(plan.config, scheduler_seed);
        let count = (plan.seeds + plan.peers) as usize;
        let content = PiecePlan::with_piece_len(u64::from(plan.pieces) * plan.piece_bytes, plan.piece_bytes)
            .expect("a plan in limits");
        let wheel = Wheel::new(plan.piece_us * 3 / 2);
        let host_of = vec![NOBODY; count + 1];
        let mut lean = Self {
            content,
            scheduler,
            wheel,
            hosts: Vec::with_capacity(count),
            host_of,
            runs: Vec::new(),
            rng: rng.fork("lean"),
            now: 1,
            sweep_at: 0,
            tally,
            tape: is_recorded.then(|| Tape::new(plan.config, scheduler_seed)),
            granted: Vec::new(),
            plan,
        };
        lean.populate();
        lean
    }

    /// Announces all hosts; decides who comes when and what is wrong with whom.
    fn populate(&mut self) {
        let plan = self.plan.clone();
        for number in 0..plan.seeds + plan.peers {
            let is_seed = number < plan.seeds;
            let host = Host::new(&plan, number, &mut self.rng);
            let info = HostInfo {
                id: host_id(number),
                incarnation: 1,
                kind: if is_seed { HostKind::Seed } else { HostKind::Normal },
                zone: Zone(host.zone),
                upload_limit: plan.upload_limit.min(1),
                download_limit: plan.download_limit.min(host.lane_count()),
            };
            self.hosts.push(host);
            self.tell(Input::HostAnnounced { request: RequestId(u64::from(number)), info });
            if !is_seed {
                let at = plan.arrival_us(number, &mut self.rng);
                self.wheel.add(at, Event::Join { host: number });
            }
        }
        self.flaw();
    }

    /// Draws who leaves, lies and stalls.
    fn flaw(&mut self) {
        let mut peers: Vec<u32> = (self.plan.seeds..self.plan.seeds + self.plan.peers).collect();
        self.rng.shuffle(&mut peers);
        let mut rest = peers.into_iter();
        let flaws = self.plan.flaws;
        let length = (self.plan.bound() * self.plan.piece_us as f64) as u64;
        for host in rest.by_ref().take(self.plan.share_of_peers(flaws.leaving_percent)) {
            let at = self.rng.between(length / 5, length * 4 / 5);
            self.wheel.add(at, Event::Leave { host });
        }
        for host in rest.by_ref().take(self.plan.share_of_peers(flaws.lying_percent)) {
            self.hosts[host as usize].is_lying = true;
            self.tally.hosts[host as usize].is_faulty = true;
        }
        for host in rest.take(self.plan.share_of_peers(flaws.stalling_percent)) {
            self.hosts[host as usize].is_stalling = true;
            self.tally.hosts[host as usize].is_faulty = true;
        }
        if let Some(after) = self.plan.seeds_die_after {
            let at = (after * self.plan.piece_us as f64) as u64;
            (0..self.plan.seeds).for_each(|host| self.wheel.add(at, Event::Leave { host }));
        }
    }

    /// Runs to the end and answers what came of it. `progress` is told now and then how many pieces
    /// have been delivered of how many.
    pub fn run(mut self, progress: impl FnMut(u64, u64)) -> Outcome {
        self.run_to_end(progress);
        self.tally.outcome(&self.plan, self.now)
    }

    fn run_to_end(&mut self, mut progress: impl FnMut(u64, u64)) {
        let last = (self.plan.bound() * PATIENCE * self.plan.piece_us as f64) as u64;
        let all = u64::from(self.plan.peers) * u64::from(self.plan.pieces);
        while let Some((at, event)) = self.next() {
            self.now = self.now.max(at);
            if self.tally.remaining == 0 || self.now > last {
                break;
            }
            self.tally.events += 1;
            if self.tally.events.is_multiple_of(1 << 20) {
                progress(self.tally.delivered, all);
            }
            self.look_ahead();
            self.happen(event);
        }
    }

    /// The next event. Nothing of a grant shows for a round trip: so long it may be set aside.
    fn next(&mut self) -> Option<(u64, Event)> {
        if let Some(first) = self.granted.first() {
            let shows = first.at + self.plan.rtt_us();
            if self.wheel.next_at().is_none_or(|next| next >= shows) {
                self.begin_granted();
            }
        }
        self.wheel.pop()
    }

    /// Has fetched what the events to come will look at: with so many peers none of it is in a cache.
    fn look_ahead(&self) {
        if let Some(Event::Nearly { grant, .. } | Event::Report { grant, .. }) = self.wheel.upcoming(FAR) {
            self.scheduler.look_far_ahead(&Input::NearlyFinished { grant: grant_key(*grant) });
        }
        match self.wheel.upcoming(NEAR) {
            Some(Event::Nearly { parent, grant }) => {
                self.hosts[*parent as usize].prefetch_links();
                self.scheduler.look_ahead(&Input::NearlyFinished { grant: grant_key(*grant) });
            }
            Some(Event::Report { child, grant }) => {
                self.hosts[*child as usize].prefetch();
                self.tally.prefetch(*child);
                self.scheduler.look_ahead(&Input::PieceFinished { grant: grant_key(*grant) });
            }
            _ => {}
        }
    }

    fn happen(&mut self, event: Event) {
        if !matches!(event, Event::Nearly { .. } | Event::Report { .. }) {
            self.begin_granted();
        }
        match event {
            Event::Join { host } => self.join(host),
            Event::Leave { host } => self.leave(host),
            Event::Nearly { grant, .. } => self.report(Input::NearlyFinished { grant: grant_key(grant) }),
            Event::Report { child, grant } => self.arrived(child, grant),
            Event::Source { run } => self.source_step(run as usize),
            Event::Sweep => {
                self.sweep_at = 0;
                if let Some(tape) = &mut self.tape {
                    tape.note_timeout(self.now);
                }
                self.scheduler.handle_timeout(Instant::from_micros(self.now));
                self.drain();
            }
        }
    }

    /// A message from a peer reaches the scheduler.
    fn report(&mut self, input: Input) {
        self.tally.messages += 1;
        self.tell(input);
    }

    fn tell(&mut self, input: Input) {
        if let Some(tape) = &mut self.tape {
            tape.note(self.now, &input);
        }
        self.scheduler.handle_input(Instant::from_micros(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        if cfg!(debug_assertions) && self.plan.peers <= 200 {
            self.scheduler.check_invariants();
        }
        while let Some(output) = self.scheduler.poll_output() {
            self.carry_out(output);
        }
        if self.granted.len() >= GRANTED_LIMIT {
            self.begin_granted();
        }
        if self.sweep_at == 0
            && let Some(deadline) = self.scheduler.poll_timeout()
        {
            self.sweep_at = deadline.at.as_micros().max(self.now + 1);
            self.wheel.add(self.sweep_at, Event::Sweep);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Grant { peer: child, grant, piece, parent } => {
                self.granted.push(Granted { at: self.now, child, parent, piece, grant });
            }
            Output::HostAccepted { request, host } => self.hosts[request.0 as usize].key = host,
            Output::Registered { request, peer } => {
                let index = peer_index(peer);
                if self.host_of.len() <= index {
                    self.host_of.resize(index + 1, NOBODY);
                }
                self.host_of[index] = request.0 as u32;
                self.hosts[request.0 as usize].peer = Some(peer);
            }
            Output::Revoke { peer, grant } => self.revoked(peer, grant),
            Output::WakeSeed { host, .. } => {
                if let Some(seed) = self.hosts.iter().position(|known| known.key == host) {
                    self.wheel.add(self.now + self.plan.rtt_us(), Event::Join { host: seed as u32 });
                }
            }
            Output::FetchSource { peer, from, to } => self.source_granted(peer, from, to),
            Output::TrimSource { peer, to } => self.source_trimmed(peer, to),
            Output::ListHost { host, .. } => {
                if let Some(listed) = self.hosts.iter().position(|known| known.key == host) {
                    self.tally.hosts[listed].is_listed = true;
                }
            }
            Output::TellDigests { .. } | Output::Reassure { .. } => self.tally.messages += 1,
            Output::TellPlan { .. } | Output::OfferParents { .. } | Output::TaskTold { .. } => {}
            // Whoever is refused or told to give up is found unfinished at the end.
            Output::Refuse { .. } | Output::FailTask { .. } | Output::Forget { .. } => {}
        }
    }

    fn join(&mut self, number: u32) {
        let host = &self.hosts[number as usize];
        if self.tally.hosts[number as usize].is_gone || host.peer.is_some() {
            return;
        }
        self.tally.hosts[number as usize].joined = self.now;
        let is_seed = number < self.plan.seeds;
        let order = if self.plan.is_in_order && !is_seed {
            Order::InOrder { from: 0, window: READ_WINDOW }
        } else {
            Order::RarestFirst
        };
        let registration = Registration {
            request: RequestId(u64::from(number)),
            host: host.key,
            peer: peer_id(number),
            task: task_id(0),
            plan: None,
            held: PieceSet::new(),
            digests: Vec::new(),
            version: 0,
            is_wanting: true,
            has_source: true,
            cached: None,
            can_fetch_source: true,
            wakes_seeds: true,
            order,
            mode: Mode::Granted,
        };
        self.tell(Input::PeerRegistered(Box::new(registration)));
    }

    fn leave(&mut self, number: u32) {
        if self.tally.note_gone(number) {
            self.runs.iter_mut().filter(|run| run.host == number).for_each(SourceRun::end);
            self.tell(Input::HostLeft { host: self.hosts[number as usize].key });
        }
    }

    fn host_at(&self, peer: PeerKey) -> u32 {
        self.host_of[peer_index(peer)]
    }

    /// Works out what follows from the grants set aside. Their hosts are read at once: none is in a cache.
    fn begin_granted(&mut self) {
        let mut granted = std::mem::take(&mut self.granted);
        let host = |peer: PeerKey| &self.hosts[self.host_at(peer) as usize];
        for grant in &granted {
            host(grant.parent).prefetch();
            host(grant.child).prefetch();
        }
        granted.drain(..).for_each(|grant| self.begin(grant));
        self.granted = granted;
    }

    /// A grant: when it ends is determined by the parent's uplink and the child's lanes.
    fn begin(&mut self, granted: Granted) {
        let Granted { at: now, piece, grant, .. } = granted;
        let (child, parent) = (self.host_at(granted.child), self.host_at(granted.parent));
        self.tally.grants += 1;
        self.tally.messages += 1;
        self.tally.trace.note(now, 1, child, u64::from(parent) << 32 | u64::from(piece.get()));
        let rtt = self.plan.rtt_us();
        let upstream = self.hosts[parent as usize].expected(piece.get());
        let bytes_percent = self.rng.between(
            u64::from(100 - self.plan.jitter_percent) * 10_000,
            u64::from(100 + self.plan.jitter_percent) * 10_000,
        );
        let (from, to) = (&self.hosts[parent as usize], &self.hosts[child as usize]);
        self.tally.cross_zone += u64::from(from.zone != to.zone);
        let lane = to.free_lane();
        let pace = from.piece_us.max(to.lane_piece_us);
        let took = pace * bytes_percent / 1_000_000;
        // The child asks half a round trip from now; the parent sends another half later.
        let begin = (now + rtt).max(from.up_free).max(to.lanes[lane].saturating_sub(rtt / 2));
        // Passed on as it arrives, it cannot be there before its upstream copy.
        let sent = (begin + took).max(upstream.map_or(0, |end| end + rtt / 2));
        let arrival = sent + rtt / 2;
        let is_stalling = from.is_stalling;
        if !is_stalling {
            self.hosts[parent as usize].up_free = sent;
        }
        let transfer = Transfer { grant: grant.data().as_ffi(), arrival, piece: piece.get(), parent };
        let child_host = &mut self.hosts[child as usize];
        child_host.lanes[lane] = arrival;
        child_host.transfers.push(transfer);
        if is_stalling {
            return;
        }
        let nearly = (arrival + rtt / 2).saturating_sub(2 * rtt).max(now + rtt);
        self.wheel.add(nearly, Event::Nearly { parent, grant: transfer.grant });
        self.wheel.add(arrival + rtt / 2, Event::Report { child, grant: transfer.grant });
    }

    /// A transfer ended half a round trip ago.
    fn arrived(&mut self, child: u32, grant: u64) {
        let host = &mut self.hosts[child as usize];
        let Some(at) = host.transfers.iter().position(|transfer| transfer.grant == grant) else { return };
        let transfer = host.transfers.swap_remove(at);
        if self.tally.hosts[child as usize].is_gone {
            return;
        }
        let grant = grant_key(grant);
        if self.plan.flaws.lying_percent > 0 && self.hosts[transfer.parent as usize].is_lying {
            self.tally.hosts[transfer.parent as usize].lies += 1;
            self.tally.wasted += 1;
            return self.report(Input::PieceFailed { grant, failure: PieceFailure::Corrupt });
        }
        self.tally.note_piece(child, transfer.piece, transfer.arrival);
        self.report(Input::PieceFinished { grant });
    }

    fn revoked(&mut self, child: PeerKey, grant: GrantKey) {
        self.begin_granted();
        let child = self.host_at(child);
        let now = self.now;
        let host = &mut self.hosts[child as usize];
        let Some(at) = host.transfers.iter().position(|t| t.grant == grant.data().as_ffi()) else { return };
        let transfer = host.transfers.swap_remove(at);
        self.tally.messages += 1;
        self.tally.wasted += 1;
        if let Some(lane) = host.lanes.iter_mut().find(|lane| **lane == transfer.arrival) {
            *lane = now;
        }
        let sent = transfer.arrival - self.plan.rtt_us() / 2;
        let parent = &mut self.hosts[transfer.parent as usize];
        if parent.up_free == sent {
            parent.up_free = now;
        }
    }
}

fn peer_index(peer: PeerKey) -> usize {
    (peer.data().as_ffi() & 0xffff_ffff) as usize
}

fn grant_key(grant: u64) -> GrantKey {
    GrantKey::from(KeyData::from_ffi(grant))
}

fn no_host() -> HostKey {
    HostKey::default()
}
