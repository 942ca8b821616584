//! What we are compared with: children pull from candidate parents, as Dragonfly v1's do.
//!
//! A model, not its code, and a flattering one: a child knows at once what its candidates have and
//! which of them has a free slot, and rarity is exact over the whole swarm. A child has four
//! candidates, downloads four pieces at a time and each parent serves five; a child that finds nothing
//! asks for other candidates and gets them a round trip later. A child knows a wrong piece at once and
//! never asks its parent again, nor one that sent nothing for as long as the others' children wait.
//!
//! What it does not model is in [`PARTS`](crate::modelled::PARTS).

use df_core::piece::set::bits;
use df_core::piece::{Availability, PieceNumber, PiecePlan, PieceSet};
use df_core::rng::Rng;

use super::STALL_LIMIT_US;
use super::net::{Begin, FlowKey, Net, Progress};
use super::tally::Tally;
use super::wheel::Wheel;
use crate::outcome::Outcome;
use crate::plan::{Plan, Policy};

/// Parents a child is offered at once.
const CANDIDATES: usize = 4;

/// Uploads at once.
const UPLOADS: u32 = 5;

/// Downloads at once.
const DOWNLOADS: u32 = 4;

/// A run is given up after this many times its bound.
const PATIENCE: f64 = 30.0;

#[derive(Clone, Copy, Debug)]
enum Event {
    Flow {
        key: FlowKey,
        turn: u32,
    },
    /// A child asks its candidates.
    Pull {
        child: u32,
    },
    /// A request reaches the parent.
    Request {
        child: u32,
        parent: u32,
        piece: PieceNumber,
    },
    /// A piece is at the child.
    Arrive {
        child: u32,
        parent: u32,
        piece: PieceNumber,
    },
    /// A child gives up a parent that sends nothing.
    Stall {
        child: u32,
        parent: u32,
        piece: PieceNumber,
    },
    Leave {
        host: u32,
    },
}

/// Whose a flow is: the child, the parent, the piece.
type Owner = (u32, u32, PieceNumber);

#[derive(Clone, Debug, Default)]
struct Host {
    held: PieceSet,
    coming: PieceSet,
    candidates: Vec<u32>,
    /// Parents that failed it.
    shunned: Vec<u32>,
    uploads: u32,
    downloads: u32,
    is_waiting: bool,
    is_lying: bool,
    is_stalling: bool,
}

/// One run of the pull policies.
#[derive(Debug)]
pub struct Pull {
    plan: Plan,
    content: PiecePlan,
    hosts: Vec<Host>,
    net: Net,
    owners: Vec<Option<(FlowKey, Owner)>>,
    availability: Availability,
    wheel: Wheel<Event>,
    rng: Rng,
    now: u64,
    tally: Tally,
}

impl Pull {
    /// Prepares a run. There is one task, and the seeds fetch it from the source by themselves.
    pub fn new(plan: Plan) -> Self {
        let tally = Tally::new(&plan);
        let mut rng = Rng::new(plan.seed).fork("pull");
        let mut net = Net::default();
        let unit = plan.piece_bytes as f64 / plan.piece_us as f64;
        let mut hosts = Vec::new();
        for number in 0..plan.seeds + plan.peers {
            let (up, down) = plan.rates_of(number < plan.seeds, &mut rng);
            net.add_host(up * unit, down * unit);
            hosts.push(Host::default());
        }
        net.add_host(plan.links.source_up * unit, 1.0);
        let length = u64::from(plan.pieces) * plan.piece_bytes;
        let mut pull = Self {
            tally,
            content: PiecePlan::with_piece_len(length, plan.piece_bytes).expect("a plan within the limits"),
            availability: Availability::new(plan.pieces),
            hosts,
            net,
            owners: Vec::new(),
            wheel: Wheel::new(plan.piece_us * 4),
            rng,
            now: 1,
            plan,
        };
        pull.populate();
        pull.fetch_next(0);
        pull
    }

    /// Decides who comes when and what is wrong with whom.
    fn populate(&mut self) {
        let plan = self.plan.clone();
        let everybody = plan.seeds..plan.seeds + plan.peers;
        let length = plan.piece_times(plan.bound()).as_micros() as u64;
        for child in everybody.clone() {
            let at = plan.arrival_us(child, &mut self.rng);
            self.tally.hosts[child as usize].joined = at;
            self.wheel.add(at, Event::Pull { child });
        }
        // All are alike: the first may be those that something is wrong with.
        let mut rest = everybody;
        for host in rest.by_ref().take(plan.share_of_peers(plan.flaws.leaving_percent)) {
            let at = self.rng.between(length / 5, length * 4 / 5);
            self.wheel.add(at, Event::Leave { host });
        }
        for host in rest.by_ref().take(plan.share_of_peers(plan.flaws.lying_percent)) {
            self.hosts[host as usize].is_lying = true;
            self.tally.hosts[host as usize].is_faulty = true;
        }
        for host in rest.take(plan.share_of_peers(plan.flaws.stalling_percent)) {
            self.hosts[host as usize].is_stalling = true;
            self.tally.hosts[host as usize].is_faulty = true;
        }
    }

    /// Runs to the end and answers what came of it.
    pub fn run(mut self, mut progress: impl FnMut(u64, u64)) -> Outcome {
        let last = (self.plan.bound() * PATIENCE) as u64 * self.plan.piece_us;
        let all = u64::from(self.plan.peers) * u64::from(self.plan.pieces);
        self.set_alarms();
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
            Event::Flow { key, turn } => {
                if self.net.look(self.now, key, turn) == Some(Progress::Sent)
                    && let Some((_, (child, parent, piece))) = self.owners[key.place()].filter(|(flow, _)| *flow == key)
                {
                    if let Some(parent) = self.hosts.get_mut(parent as usize) {
                        parent.uploads -= 1;
                    }
                    self.wheel.add(self.now + self.plan.rtt_us() / 2, Event::Arrive { child, parent, piece });
                }
            }
            Event::Pull { child } => {
                self.hosts[child as usize].is_waiting = false;
                self.pull(child);
            }
            Event::Request { child, parent, piece } => self.serve(child, parent, piece),
            Event::Arrive { child, parent, piece } => self.arrive(child, parent, piece),
            Event::Stall { child, parent, piece } => {
                self.hosts[parent as usize].uploads -= 1;
                self.fail(child, parent, piece);
            }
            Event::Leave { host } => {
                if self.tally.note_gone(host) {
                    let held: Vec<PieceNumber> = self.hosts[host as usize].held.iter().collect();
                    held.into_iter().for_each(|piece| self.availability.remove(piece));
                    self.hosts[host as usize].held.clear();
                }
            }
        }
    }

    /// A child asks for pieces as long as it has room and its candidates have something.
    fn pull(&mut self, child: u32) {
        while self.hosts[child as usize].downloads < DOWNLOADS && !self.tally.hosts[child as usize].is_gone {
            let Some((parent, piece)) = self.choose(child) else {
                return self.ask_for_candidates(child);
            };
            self.hosts[child as usize].downloads += 1;
            self.hosts[child as usize].coming.insert(piece);
            self.hosts[parent as usize].uploads += 1;
            self.wheel.add(self.now + self.plan.rtt_us() / 2, Event::Request { child, parent, piece });
        }
    }

    fn choose(&mut self, child: u32) -> Option<(u32, PieceNumber)> {
        let host = &self.hosts[child as usize];
        let mut best: Option<((u32, u64), u32, PieceNumber)> = None;
        for parent in host.candidates.iter().copied() {
            let offered = &self.hosts[parent as usize];
            if offered.uploads >= UPLOADS || self.tally.hosts[parent as usize].is_gone {
                continue;
            }
            let lacking = |(at, word): (usize, &u64)| word & !host.held.word(at) & !host.coming.word(at);
            for piece in bits(offered.held.words().iter().enumerate().map(lacking)) {
                let rarity = if self.plan.policy == Policy::V1 { self.availability.copies(piece) } else { 0 };
                let key = (rarity, self.rng.next_u64());
                if best.is_none_or(|(known, _, _)| key < known) {
                    best = Some((key, parent, piece));
                }
            }
        }
        best.map(|(_, parent, piece)| (parent, piece))
    }

    /// Other candidates: some with a free slot, drawn. They come a round trip later.
    fn ask_for_candidates(&mut self, child: u32) {
        if self.hosts[child as usize].held.is_complete(&self.content) || self.hosts[child as usize].is_waiting {
            return;
        }
        let count = self.hosts.len();
        let mut candidates = Vec::with_capacity(CANDIDATES);
        for _ in 0..CANDIDATES * 8 {
            let drawn = self.rng.index(count) as u32;
            let host = &self.hosts[drawn as usize];
            let is_shunned = self.hosts[child as usize].shunned.contains(&drawn);
            let is_fit = drawn != child && !is_shunned && host.uploads < UPLOADS && !host.held.is_empty();
            if is_fit && !candidates.contains(&drawn) && candidates.len() < CANDIDATES {
                candidates.push(drawn);
            }
        }
        self.tally.messages += 2;
        self.hosts[child as usize].candidates = candidates;
        self.hosts[child as usize].is_waiting = true;
        self.wheel.add(self.now + self.plan.rtt_us(), Event::Pull { child });
    }

    fn serve(&mut self, child: u32, parent: u32, piece: PieceNumber) {
        let is_gone = self.tally.hosts[parent as usize].is_gone || self.tally.hosts[child as usize].is_gone;
        if is_gone {
            self.hosts[parent as usize].uploads -= 1;
            self.hosts[child as usize].downloads -= 1;
            self.hosts[child as usize].coming.remove(piece);
            return self.pull(child);
        }
        if self.hosts[parent as usize].is_stalling {
            return self.wheel.add(self.now + STALL_LIMIT_US, Event::Stall { child, parent, piece });
        }
        let jitter = u64::from(self.plan.jitter_percent);
        let percent = self.rng.between(100 - jitter, 100 + jitter);
        self.send(parent, child, piece, self.plan.piece_bytes as f64 * percent as f64 / 100.0);
    }

    fn send(&mut self, parent: u32, child: u32, piece: PieceNumber, bytes: f64) {
        let cargo = u64::from(piece.get());
        let begin = Begin { from: parent, to: child, bytes, nearly_at: 0.0, cargo, is_stored: true };
        let flow = self.net.start(self.now, begin);
        if self.owners.len() <= flow.place() {
            self.owners.resize(flow.place() + 1, None);
        }
        self.owners[flow.place()] = Some((flow, (child, parent, piece)));
        self.tally.trace.note(self.now, 1, child, u64::from(parent) << 32 | u64::from(piece.get()));
    }

    /// A child got nothing or nothing of use: it asks others, and this parent never again.
    fn fail(&mut self, child: u32, parent: u32, piece: PieceNumber) {
        let host = &mut self.hosts[child as usize];
        host.downloads -= 1;
        host.coming.remove(piece);
        host.candidates.retain(|candidate| *candidate != parent);
        host.shunned.push(parent);
        self.tally.wasted += 1;
        self.pull(child);
    }

    fn arrive(&mut self, child: u32, parent: u32, piece: PieceNumber) {
        self.tally.messages += 1;
        if self.hosts.get(parent as usize).is_some_and(|parent| parent.is_lying) {
            self.tally.hosts[parent as usize].lies += 1;
            return self.fail(child, parent, piece);
        }
        let host = &mut self.hosts[child as usize];
        let is_source = parent as usize >= self.tally.hosts.len();
        host.downloads -= u32::from(!is_source);
        host.coming.remove(piece);
        if self.tally.hosts[child as usize].is_gone {
            return;
        }
        if host.held.insert(piece) {
            self.availability.add(piece);
            self.tally.note_piece(child, piece.get(), self.now);
        }
        if is_source {
            self.tally.from_source += 1;
            self.fetch_next(piece.get() + 1);
        } else {
            self.pull(child);
        }
    }

    /// The first seed fetches the next piece from the source.
    fn fetch_next(&mut self, number: u32) {
        if let Some(piece) = self.content.number(number) {
            let source = self.hosts.len() as u32;
            self.send(source, 0, piece, self.plan.piece_bytes as f64);
        }
    }

    fn set_alarms(&mut self) {
        for (at, key, turn) in self.net.alarms() {
            self.wheel.add(at, Event::Flow { key, turn });
        }
    }
}
