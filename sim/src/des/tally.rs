//! What every driver counts, and the figures that come of it.

use df_core::prefetch::prefetch;

use crate::outcome::{Meter, Outcome, median};
use crate::plan::Plan;
use crate::trace::Trace;

/// What is counted of one host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostTally {
    /// When it came.
    pub(crate) joined: u64,
    /// When it had everything.
    pub(crate) done_at: Option<u64>,
    /// The longest a reader at rate 1 is ahead of a piece, in microseconds.
    reader_delay: u64,
    /// Pieces it has.
    pub(crate) held: u32,
    /// Transfers it spoiled.
    pub(crate) lies: u32,
    pub(crate) is_gone: bool,
    /// Whether nobody waits for it to be done.
    is_excused: bool,
    pub(crate) is_faulty: bool,
    pub(crate) is_listed: bool,
}

/// The books of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) hosts: Vec<HostTally>,
    seeds: u32,
    /// Pieces each peer wants.
    wanted: u32,
    piece_us: u64,
    /// Peers that are not done.
    pub(crate) remaining: u32,
    pub(crate) delivered: u64,
    pub(crate) messages: u64,
    pub(crate) wasted: u64,
    pub(crate) duplicates: u64,
    pub(crate) cross_zone: u64,
    pub(crate) grants: u64,
    pub(crate) events: u64,
    pub(crate) from_source: u64,
    pub(crate) trace: Trace,
    meter: Meter,
}

impl Tally {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            meter: Meter::read(),
            hosts: vec![HostTally::default(); (plan.seeds + plan.peers) as usize],
            seeds: plan.seeds,
            wanted: plan.pieces * plan.tasks,
            piece_us: plan.piece_us,
            remaining: plan.peers,
            delivered: 0,
            messages: 0,
            wasted: 0,
            duplicates: 0,
            cross_zone: 0,
            grants: 0,
            events: 0,
            from_source: 0,
            trace: Trace::new(),
        }
    }

    /// Has what is counted of a host fetched.
    pub(crate) fn prefetch(&self, host: u32) {
        prefetch(&self.hosts[host as usize]);
    }

    /// A host has one more piece. A reader that began when it joined and reads at rate 1 wants `piece`
    /// at its turn.
    pub(crate) fn note_piece(&mut self, host: u32, piece: u32, now: u64) {
        let tally = &mut self.hosts[host as usize];
        tally.held += 1;
        let turn = tally.joined + u64::from(piece) * self.piece_us;
        tally.reader_delay = tally.reader_delay.max(now.saturating_sub(turn));
        let is_peer = host >= self.seeds;
        self.delivered += u64::from(is_peer);
        if tally.held == self.wanted {
            tally.done_at = Some(now);
            self.remaining -= u32::from(is_peer && !tally.is_gone && !tally.is_excused);
        }
    }

    /// Nobody waits for this peer to be done.
    pub(crate) fn excuse(&mut self, host: u32) {
        let tally = &mut self.hosts[host as usize];
        self.remaining -= u32::from(!tally.is_excused);
        tally.is_excused = true;
    }

    /// A host is gone; false if it stays because it is done.
    pub(crate) fn note_gone(&mut self, host: u32) -> bool {
        let tally = &mut self.hosts[host as usize];
        let is_peer = host >= self.seeds;
        if tally.is_gone || (is_peer && tally.done_at.is_some()) {
            return false;
        }
        tally.is_gone = true;
        self.remaining -= u32::from(is_peer && !tally.is_excused);
        true
    }

    /// The figures at the end.
    pub(crate) fn outcome(&self, plan: &Plan, now: u64) -> Outcome {
        let unit = plan.piece_us as f64;
        let peers = &self.hosts[plan.seeds as usize..];
        let mut done: Vec<f64> = peers.iter().filter_map(|host| host.done_at).map(|at| at as f64 / unit).collect();
        done.sort_by(f64::total_cmp);
        let at = |share: f64| done.get(((done.len() as f64 * share) as usize).min(done.len().max(1) - 1)).copied();
        let makespan = at(1.0).unwrap_or(f64::NAN);
        let count = |is_so: &dyn Fn(&HostTally) -> bool| self.hosts.iter().filter(|host| is_so(host)).count() as u32;
        let per_piece = |count: u64| count as f64 / self.delivered.max(1) as f64;
        let stayed = peers.iter().filter(|host| !host.is_gone && !host.is_excused);
        Outcome {
            seed: plan.seed,
            bound: plan.bound(),
            makespan,
            ratio: makespan / plan.bound(),
            median: at(0.5).unwrap_or(f64::NAN),
            ninth_decile: at(0.9).unwrap_or(f64::NAN),
            source_copies: self.from_source as f64 / f64::from(self.wanted),
            messages_per_piece: per_piece(self.messages),
            wasted_percent: per_piece(self.wasted) * 100.0,
            duplicate_percent: per_piece(self.duplicates) * 100.0,
            cross_zone_percent: per_piece(self.cross_zone) * 100.0,
            reader_delay: median(peers.iter().map(|host| host.reader_delay as f64 / unit)),
            unfinished: stayed.filter(|host| host.done_at.is_none()).count() as u32,
            honest_listed: count(&|host| host.is_listed && !host.is_faulty),
            faulty_listed: count(&|host| host.is_listed && host.is_faulty),
            lies_of_worst: self.hosts.iter().map(|host| host.lies).max().unwrap_or(0),
            grants: self.grants,
            events: self.events,
            simulated_secs: now as f64 / 1e6,
            cpu_secs: self.meter.cpu_secs(),
            bytes_per_peer: self.meter.grown_bytes() / u64::from(plan.peers),
            trace_hash: format!("{:016x}", self.trace.hash()),
        }
    }
}
