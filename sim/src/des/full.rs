//! The full driver: real schedulers, downloaders and uploaders over links whose rates are shared.
//!
//! Bytes are modelled, everything that decides is the core's: a downloader for each host that fetches
//! what is granted, verifies it and reports; an uploader that admits or refuses; the scheduler that
//! hears all of it half a round trip later. The invariants of every machine are checked after each of
//! its steps when debug assertions are on and the swarm is small.

mod control;
mod node;
mod source;
mod transfers;

use df_core::downloader::{self, FetchId, GrantId, LinkState, Opening, PieceFailure, Report};
use df_core::id::PieceDigest;
use df_core::machine::Machine;
use df_core::piece::PiecePlan;
use df_core::rng::Rng;
use df_core::scheduler::{self, HostInfo, HostKind, RequestId, Scheduler, Zone};
use df_core::time::{Duration, Instant};
use df_core::uploader;

use self::node::{Manner, Node};
use self::transfers::Owner;
use super::names::{host_id, task_id};
use super::net::{FlowKey, Net};
use super::tally::Tally;
use super::wheel::Wheel;
use crate::outcome::Outcome;
use crate::plan::Plan;

/// Pieces a reader in order wants next, before the rarest.
const READ_WINDOW: u32 = 8;

/// A run is given up after this many times its bound, and this many seconds for terms to run out.
const PATIENCE: (f64, u64) = (10.0, 600);

/// Swarms up to this size have their invariants checked after each step.
const CHECK_LIMIT: u32 = 64;

#[derive(Debug)]
enum Event {
    /// Somebody on a host wants all tasks.
    Join {
        node: u32,
    },
    /// A host is gone.
    Leave {
        node: u32,
    },
    /// The scheduler hears a host.
    Up {
        node: u32,
        incarnation: u32,
        message: Message,
    },
    /// A host hears something.
    Down {
        node: u32,
        incarnation: u32,
        input: downloader::Input,
    },
    /// A parent hears a child's request.
    Request {
        child: u32,
        fetch: FetchId,
    },
    /// A child has a piece, or hears why not.
    Land {
        child: u32,
        fetch: FetchId,
        result: Result<PieceDigest, PieceFailure>,
    },
    /// A look at a flow is due.
    Flow {
        key: FlowKey,
        turn: u32,
    },
    /// A machine's deadline.
    Timer {
        node: u32,
    },
    UploadTimer {
        node: u32,
    },
    Sweep,
    /// The source answers.
    SourceAnswer {
        node: u32,
        fetch: FetchId,
    },
}

#[derive(Debug)]
enum Message {
    Register { task: usize },
    Report { task: usize, report: Report },
}

/// One run of the full driver.
#[derive(Debug)]
pub struct Full {
    plan: Plan,
    content: PiecePlan,
    scheduler: Scheduler,
    nodes: Vec<Node>,
    net: Net,
    /// Whose each flow is, by its place.
    owners: Vec<Option<(FlowKey, Owner)>>,
    wheel: Wheel<Event>,
    rng: Rng,
    now: u64,
    sweep_at: u64,
    tally: Tally,
}

impl Full {
    /// Prepares a run.
    pub fn new(plan: Plan) -> Self {
        let tally = Tally::new(&plan);
        let mut rng = Rng::new(plan.seed);
        let length = u64::from(plan.pieces) * plan.piece_bytes;
        let mut full = Self {
            content: PiecePlan::with_piece_len(length, plan.piece_bytes).expect("a plan within the limits"),
            scheduler: Scheduler::new(plan.config, rng.next_u64()),
            nodes: Vec::new(),
            net: Net::default(),
            owners: Vec::new(),
            wheel: Wheel::new(plan.piece_us * 2),
            rng: rng.fork("full"),
            now: 1,
            sweep_at: 0,
            tally,
            plan,
        };
        full.populate();
        full
    }

    /// Builds all hosts and the source; decides who comes when.
    fn populate(&mut self) {
        let plan = self.plan.clone();
        let unit = plan.piece_bytes as f64 / plan.piece_us as f64;
        for number in 0..plan.seeds + plan.peers {
            let is_seed = number < plan.seeds;
            let (up, down) = plan.rates_of(is_seed, &mut self.rng);
            self.net.add_host(up * unit, down * unit);
            self.nodes.push(Node::new(&plan, number, self.rng.next_u64()));
        }
        self.net.add_host(plan.links.source_up * unit, 1.0);
        self.flaw();
        for number in 0..plan.seeds + plan.peers {
            self.announce(number);
            if number >= plan.seeds {
                let at = plan.arrival_us(number, &mut self.rng);
                self.wheel.add(at, Event::Join { node: number });
            }
        }
    }

    /// Draws who leaves, lies, stalls, slanders and is broken.
    fn flaw(&mut self) {
        let plan = self.plan.clone();
        let mut peers: Vec<u32> = (plan.seeds..plan.seeds + plan.peers).collect();
        self.rng.shuffle(&mut peers);
        let mut rest = peers.into_iter();
        let length = plan.piece_times(plan.bound()).as_micros() as u64;
        for node in rest.by_ref().take(plan.share_of_peers(plan.flaws.leaving_percent)) {
            let at = self.rng.between(length / 5, length * 4 / 5);
            self.wheel.add(at, Event::Leave { node });
        }
        let flaws = [
            (plan.flaws.lying_percent, Manner::Lying),
            (plan.flaws.stalling_percent, Manner::Stalling),
            (plan.flaws.slandering_percent, Manner::Slandering),
            (plan.flaws.broken_percent, Manner::Broken),
        ];
        for (percent, manner) in flaws {
            for node in rest.by_ref().take(plan.share_of_peers(percent)) {
                self.nodes[node as usize].manner = manner;
                self.tally.hosts[node as usize].is_faulty = true;
                // Whether one that cannot receive gets everything is nobody's concern.
                if manner == Manner::Broken || manner == Manner::Slandering {
                    self.tally.excuse(node);
                }
            }
        }
        if let Some(after) = plan.seeds_die_after {
            let at = plan.piece_times(after).as_micros() as u64;
            (0..plan.seeds).for_each(|node| self.wheel.add(at, Event::Leave { node }));
        }
    }

    fn announce(&mut self, number: u32) {
        let is_seed = number < self.plan.seeds;
        let info = HostInfo {
            id: host_id(number),
            incarnation: 1,
            kind: if is_seed { HostKind::Seed } else { HostKind::Normal },
            zone: Zone(self.nodes[number as usize].zone),
            upload_limit: self.plan.upload_limit,
            download_limit: self.plan.download_limit,
        };
        self.tell_scheduler(scheduler::Input::HostAnnounced { request: RequestId(u64::from(number)), info });
    }

    /// Runs to the end and answers what came of it. `progress` is told now and then how many pieces
    /// have been delivered of how many.
    pub fn run(mut self, mut progress: impl FnMut(u64, u64)) -> Outcome {
        let last = (self.plan.bound() * PATIENCE.0) as u64 * self.plan.piece_us + PATIENCE.1 * 1_000_000;
        let all = u64::from(self.plan.peers) * u64::from(self.plan.pieces * self.plan.tasks);
        while let Some((at, event)) = self.wheel.pop() {
            self.now = self.now.max(at);
            if self.tally.remaining == 0 || self.now > last {
                break;
            }
            self.tally.events += 1;
            if self.tally.events.is_multiple_of(1 << 18) {
                progress(self.tally.delivered, all);
            }
            self.happen(event);
            self.set_alarms();
        }
        self.tally.outcome(&self.plan, self.now)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join { node } => (0..self.plan.tasks as usize).for_each(|task| self.open(node, task)),
            Event::Leave { node } => self.leave(node),
            Event::Up { node, incarnation, message } => self.hear(node, incarnation, message),
            Event::Down { node, incarnation, input } => {
                if self.nodes[node as usize].incarnation == incarnation {
                    self.tell(node, input);
                }
            }
            Event::Request { child, fetch } => self.requested(child, fetch),
            Event::Land { child, fetch, result } => self.landed(child, fetch, result),
            Event::Flow { key, turn } => self.flow_due(key, turn),
            Event::Timer { node } => self.timer_due(node),
            Event::UploadTimer { node } => self.upload_timer_due(node),
            Event::Sweep => {
                self.sweep_at = 0;
                self.scheduler.handle_timeout(self.instant());
                self.drain_scheduler();
            }
            Event::SourceAnswer { node, fetch } => self.source_answered(node, fetch),
        }
    }

    fn timer_due(&mut self, number: u32) {
        let now = self.instant();
        let node = &mut self.nodes[number as usize];
        node.timer_at = 0;
        if node.is_up {
            node.downloader.handle_timeout(now);
            self.drain(number);
        }
    }

    fn upload_timer_due(&mut self, number: u32) {
        let now = self.instant();
        let node = &mut self.nodes[number as usize];
        node.upload_timer_at = 0;
        if node.is_up {
            node.uploader.handle_timeout(now);
            self.drain_uploader(number);
        }
    }

    const fn instant(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    fn half_rtt(&self) -> u64 {
        self.plan.rtt_us() / 2
    }

    /// Somebody on a host wants a task.
    fn open(&mut self, number: u32, task: usize) {
        if !self.nodes[number as usize].is_up {
            return;
        }
        if self.tally.hosts[number as usize].joined == 0 {
            self.tally.hosts[number as usize].joined = self.now;
        }
        let order = self.order_of(number);
        let held = self.nodes[number as usize].held[task].clone();
        let opening = Opening {
            task: task_id(task as u32),
            plan: None,
            held,
            digests: Vec::new(),
            order,
            may_fetch_source: true,
            link: LinkState::Linked,
        };
        let rtt = Duration::from_micros(self.plan.rtt_us());
        (0..12).for_each(|_| self.tell(number, downloader::Input::RoundTripMeasured { rtt }));
        self.tell(number, downloader::Input::TaskOpened(Box::new(opening)));
    }

    /// A host is gone with its connections.
    fn leave(&mut self, number: u32) {
        if !self.tally.note_gone(number) {
            return;
        }
        let node = &mut self.nodes[number as usize];
        node.is_up = false;
        node.incarnation += 1;
        let key = node.key;
        self.cut(number);
        self.tell_scheduler(scheduler::Input::HostLeft { host: key });
    }

    /// Tells a downloader something and carries out what it wants.
    fn tell(&mut self, number: u32, input: downloader::Input) {
        let now = self.instant();
        let node = &mut self.nodes[number as usize];
        if node.is_up {
            node.downloader.handle_input(now, input);
            self.drain(number);
        }
    }

    fn drain(&mut self, number: u32) {
        if cfg!(debug_assertions) && self.plan.peers <= CHECK_LIMIT {
            self.nodes[number as usize].downloader.check_invariants();
        }
        while let Some(output) = self.nodes[number as usize].downloader.poll_output() {
            self.act(number, output);
        }
        let node = &mut self.nodes[number as usize];
        // A deadline only moves away while things go well: an early look costs little.
        if node.timer_at == 0
            && let Some(deadline) = node.downloader.poll_timeout()
        {
            node.timer_at = deadline.at.as_micros().max(self.now + 1);
            self.wheel.add(node.timer_at, Event::Timer { node: number });
        }
    }

    fn tell_uploader(&mut self, number: u32, input: uploader::Input) {
        let now = self.instant();
        self.nodes[number as usize].uploader.handle_input(now, input);
        self.drain_uploader(number);
    }

    fn drain_uploader(&mut self, number: u32) {
        while let Some(output) = self.nodes[number as usize].uploader.poll_output() {
            self.answer(number, output);
        }
        let node = &mut self.nodes[number as usize];
        if node.upload_timer_at == 0
            && let Some(deadline) = node.uploader.poll_timeout()
        {
            node.upload_timer_at = deadline.at.as_micros().max(self.now + 1);
            self.wheel.add(node.upload_timer_at, Event::UploadTimer { node: number });
        }
    }

    fn set_alarms(&mut self) {
        for (at, key, turn) in self.net.alarms() {
            self.wheel.add(at, Event::Flow { key, turn });
        }
    }

    /// A peer hears something half a round trip from now.
    fn send_down(&mut self, node: u32, input: downloader::Input) {
        let incarnation = self.nodes[node as usize].incarnation;
        self.wheel.add(self.now + self.half_rtt(), Event::Down { node, incarnation, input });
    }

    /// A peer hears something of its own at once, after what it is doing.
    fn tell_self(&mut self, node: u32, input: downloader::Input) {
        let incarnation = self.nodes[node as usize].incarnation;
        self.wheel.add(self.now, Event::Down { node, incarnation, input });
    }
}

const fn grant_id(grant: u64) -> GrantId {
    GrantId(grant)
}
