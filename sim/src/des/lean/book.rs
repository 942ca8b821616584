//! What the lean driver knows of hosts, and what it counts.

use df_core::rng::Rng;
use df_core::scheduler::{HostKey, PeerKey};

use crate::outcome::{Meter, Outcome, median};
use crate::plan::Plan;
use crate::trace::Trace;

/// No host.
pub(super) const NOBODY: u32 = u32::MAX;

/// Receiving lanes at most.
const LANE_LIMIT: usize = 4;

/// A peer of the lean driver.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) key: HostKey,
    pub(super) peer: Option<PeerKey>,
    pub(super) zone: u32,
    /// Microseconds a piece takes on its uplink.
    pub(super) piece_us: u64,
    /// The least a piece takes on one of its receiving lanes.
    pub(super) lane_piece_us: u64,
    /// When its uplink has sent what was granted.
    pub(super) up_free: u64,
    /// When each receiving lane has received what was granted.
    pub(super) lanes: [u64; LANE_LIMIT],
    lane_count: u32,
    pub(super) transfers: Vec<Transfer>,
    pub(super) held: u32,
    pub(super) joined: u64,
    pub(super) done_at: Option<u64>,
    pub(super) is_gone: bool,
    pub(super) is_leaving: bool,
    pub(super) is_lying: bool,
    pub(super) is_stalling: bool,
    pub(super) is_listed: bool,
    /// Transfers it spoiled.
    pub(super) lies: u32,
    /// The longest a reader at rate 1 is ahead of a piece, in microseconds.
    pub(super) reader_delay: u64,
}

/// A piece on its way to the host that lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) grant: u64,
    pub(super) began: u64,
    pub(super) arrival: u64,
    pub(super) piece: u32,
    pub(super) parent: u32,
    pub(super) lane: u32,
    pub(super) is_lie: bool,
}

impl Host {
    pub(super) fn new(plan: &Plan, number: u32, rng: &mut Rng) -> Self {
        let links = &plan.links;
        let is_seed = number < plan.seeds;
        let (up, down) = if is_seed { (links.seed_up, links.seed_down) } else { (links.up, links.down) };
        let speed = match (links.is_mixed && !is_seed).then(|| rng.below(10)) {
            Some(0 | 1) => 0.25,
            Some(2) => 4.0,
            _ => 1.0,
        };
        let lane_count = (down / links.up).floor().clamp(1.0, LANE_LIMIT as f64);
        Self {
            key: super::no_host(),
            peer: None,
            zone: if is_seed { 0 } else { number % plan.zones },
            piece_us: (plan.piece_us as f64 / (up * speed)) as u64,
            lane_piece_us: (plan.piece_us as f64 * lane_count / (down * speed)) as u64,
            up_free: 0,
            lanes: [0; LANE_LIMIT],
            lane_count: lane_count as u32,
            transfers: Vec::new(),
            held: 0,
            joined: 0,
            done_at: None,
            is_gone: false,
            is_leaving: false,
            is_lying: false,
            is_stalling: false,
            is_listed: false,
            lies: 0,
            reader_delay: 0,
        }
    }

    pub(super) const fn lane_count(&self) -> u32 {
        self.lane_count
    }

    /// The lane that is free first.
    pub(super) fn free_lane(&self) -> usize {
        (0..self.lane_count as usize).min_by_key(|lane| self.lanes[*lane]).unwrap_or(0)
    }

    /// When a piece that is on its way here arrives.
    pub(super) fn expected(&self, piece: u32) -> Option<u64> {
        self.transfers.iter().find(|transfer| transfer.piece == piece).map(|transfer| transfer.arrival)
    }

    /// A reader that began when this peer joined and reads at rate 1 wants `piece` at its turn.
    pub(super) fn note_read(&mut self, piece: u32, now: u64, piece_us: u64) {
        let turn = self.joined + u64::from(piece) * piece_us;
        self.reader_delay = self.reader_delay.max(now.saturating_sub(turn));
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) remaining: u32,
    pub(super) delivered: u64,
    pub(super) messages: u64,
    pub(super) wasted: u64,
    pub(super) cross_zone: u64,
    pub(super) grants: u64,
    pub(super) events: u64,
    pub(super) refusals: u64,
    pub(super) from_source: u64,
}

impl Book {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { remaining: plan.peers, ..Self::default() }
    }

    pub(super) fn outcome(&self, plan: &Plan, hosts: &[Host], trace: Trace, meter: &Meter) -> Outcome {
        let unit = plan.piece_us as f64;
        let peers = &hosts[plan.seeds as usize..];
        let mut done: Vec<f64> = peers.iter().filter_map(|host| host.done_at).map(|at| at as f64 / unit).collect();
        done.sort_by(f64::total_cmp);
        let at = |share: f64| done.get(((done.len() as f64 * share) as usize).min(done.len().max(1) - 1)).copied();
        let makespan = at(1.0).unwrap_or(f64::NAN);
        let is_unfinished = |host: &&Host| host.done_at.is_none() && !host.is_gone;
        let is_faulty = |host: &Host| host.is_lying || host.is_stalling;
        let per_piece = |count: u64| count as f64 / self.delivered.max(1) as f64;
        Outcome {
            seed: plan.seed,
            bound: plan.bound(),
            makespan,
            ratio: makespan / plan.bound(),
            median: at(0.5).unwrap_or(f64::NAN),
            ninth_decile: at(0.9).unwrap_or(f64::NAN),
            source_copies: self.from_source as f64 / f64::from(plan.pieces),
            messages_per_piece: per_piece(self.messages),
            wasted_percent: per_piece(self.wasted) * 100.0,
            duplicate_percent: 0.0,
            cross_zone_percent: per_piece(self.cross_zone) * 100.0,
            reader_delay: median(peers.iter().map(|host| host.reader_delay as f64 / unit)),
            unfinished: peers.iter().filter(is_unfinished).count() as u32,
            honest_listed: hosts.iter().filter(|host| host.is_listed && !is_faulty(host)).count() as u32,
            faulty_listed: hosts.iter().filter(|host| host.is_listed && is_faulty(host)).count() as u32,
            lies_of_worst: hosts.iter().map(|host| host.lies).max().unwrap_or(0),
            grants: self.grants,
            events: self.events,
            simulated_secs: 0.0,
            cpu_secs: meter.cpu_secs(),
            bytes_per_peer: meter.grown_bytes() / u64::from(plan.peers),
            trace_hash: format!("{:016x}", trace.hash()),
        }
    }
}
