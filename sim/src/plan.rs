//! What a run is: sizes, links, faults and policy, all drawn from or fixed by one seed.

use df_core::rng::Rng;
use df_core::scheduler::SchedulerConfig;
use df_core::time::Duration;

/// Whose decisions a run follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The core's: each upload is granted by the scheduler
    Granted,
    /// Dragonfly v1's: children pull from 4 candidate parents, rarest first, 5 up, 4 down
    V1,
    /// As v1, but any piece at random
    Random,
}

/// Which driver carries a run out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Real schedulers, downloaders and uploaders over links whose rates are shared
    Full,
    /// The real scheduler; transfers follow each other on the links: for the largest swarms
    Lean,
}

/// When peers come.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// All at the start.
    Herd,
    /// Evenly over this many piece times.
    Staggered(f64),
    /// This share of them, in per cent, only after half of the time the others need at least.
    Late(u32),
}

/// What is wrong with some of the peers, in per cent of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Flaws {
    /// Leave at a random moment of the download, for good.
    pub leaving_percent: u32,
    /// Send other bytes than they should.
    pub lying_percent: u32,
    /// Accept requests and send nothing.
    pub stalling_percent: u32,
    /// Tell the scheduler that transfers failed which did not.
    pub slandering_percent: u32,
    /// Cannot receive anything but garbage (bad memory): fail with every parent.
    pub broken_percent: u32,
}

/// A mix of links.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Links {
    /// Uplink of a peer, in pieces a piece time; the unit of all others is 1.
    pub up: f64,
    /// Downlink of a peer.
    pub down: f64,
    /// Uplink of a seed.
    pub seed_up: f64,
    /// Downlink of a seed.
    pub seed_down: f64,
    /// What the source sends, all together.
    pub source_up: f64,
    /// Connections at once by which a fetcher asks it; the full driver's only.
    pub connections: usize,
    /// How the peers' rates differ from these.
    pub mix: Mix,
}

/// How the links of peers differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub enum Mix {
    /// Not at all.
    Equal,
    /// 20 % have a quarter of both rates, 10 % four times.
    Both,
    /// 10 % have a tenth of the uplink: hosts that are busy sending something else.
    Uplinks,
}

impl Mix {
    /// Factors of uplink and downlink of the `tenth` tenth of the peers.
    const fn factors(self, tenth: u64) -> (f64, f64) {
        match (self, tenth) {
            (Self::Both, 0 | 1) => (0.25, 0.25),
            (Self::Both, 2) => (4.0, 4.0),
            (Self::Uplinks, 0) => (0.1, 1.0),
            _ => (1.0, 1.0),
        }
    }
}

/// One run.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Plan {
    /// Ordinary peers, each on its own host.
    pub peers: u32,
    /// Seed peers.
    pub seeds: u32,
    /// Pieces of the content.
    pub pieces: u32,
    /// Tasks wanted by every host at once.
    pub tasks: u32,
    /// Links.
    pub links: Links,
    /// Uploads at once that a host announces to the scheduler, which uses fewer.
    pub upload_limit: u32,
    /// Downloads at once that a host announces to the scheduler, which uses fewer.
    pub download_limit: u32,
    /// How much the bytes of a transfer vary, up and down, in per cent.
    pub jitter_percent: u32,
    /// Round trip between any two hosts, in piece times.
    pub rtt: f64,
    /// Zones the peers are spread over; the seeds are in the first.
    pub zones: u32,
    /// Whether a receiver says that a transfer is nearly finished, or only that it is.
    pub asks_early: bool,
    /// Whether readers want pieces in order.
    pub is_in_order: bool,
    /// When peers come.
    pub arrivals: Arrivals,
    /// What is wrong with some.
    pub flaws: Flaws,
    /// After how many piece times all seeds die, if they do.
    pub seeds_die_after: Option<f64>,
    /// Whose decisions.
    pub policy: Policy,
    /// Who drives.
    pub driver: Driver,
    /// Microseconds one piece takes at rate 1.
    pub piece_us: u64,
    /// Bytes of a piece.
    pub piece_bytes: u64,
    /// The scheduler's knobs.
    #[serde(skip)]
    pub config: SchedulerConfig,
    /// Determines everything that is drawn.
    pub seed: u64,
}

impl Plan {
    /// A swarm of `peers` that all want `pieces` at once, over equal links with twice the rate down,
    /// 30 % of jitter and a round trip of a tenth of a piece.
    pub fn new(peers: u32, pieces: u32) -> Self {
        Self {
            peers,
            seeds: 1,
            pieces,
            tasks: 1,
            links: Links {
                up: 1.0,
                down: 2.0,
                seed_up: 1.0,
                seed_down: 4.0,
                source_up: 4.0,
                connections: 1,
                mix: Mix::Equal,
            },
            upload_limit: 4,
            download_limit: 4,
            jitter_percent: 30,
            rtt: 0.1,
            zones: 1,
            asks_early: true,
            is_in_order: false,
            arrivals: Arrivals::Herd,
            flaws: Flaws::default(),
            seeds_die_after: None,
            policy: Policy::Granted,
            driver: Driver::Lean,
            piece_us: 400_000,
            piece_bytes: 4 << 20,
            config: SchedulerConfig::default(),
            seed: 1,
        }
    }

    /// Microseconds of a round trip.
    pub fn rtt_us(&self) -> u64 {
        (self.rtt * self.piece_us as f64) as u64
    }

    /// A number of piece times as a duration.
    pub fn piece_times(&self, pieces: f64) -> Duration {
        Duration::from_micros((pieces * self.piece_us as f64) as u64)
    }

    /// The rates up and down of a host, in pieces a piece time.
    pub fn rates_of(&self, is_seed: bool, rng: &mut Rng) -> (f64, f64) {
        let links = &self.links;
        if is_seed {
            return (links.seed_up, links.seed_down);
        }
        let (up, down) = if links.mix == Mix::Equal { (1.0, 1.0) } else { links.mix.factors(rng.below(10)) };
        (links.up * up, links.down * down)
    }

    /// So many per cent of the peers.
    pub const fn share_of_peers(&self, percent: u32) -> usize {
        self.peers as usize * percent as usize / 100
    }

    /// When a peer comes, in microseconds of the run. The last are those that come late.
    pub fn arrival_us(&self, number: u32, rng: &mut Rng) -> u64 {
        let is_late = |percent| (self.seeds + self.peers - number) as usize <= self.share_of_peers(percent);
        match self.arrivals {
            Arrivals::Staggered(over) => 1 + rng.below((over * self.piece_us as f64) as u64),
            Arrivals::Late(percent) if is_late(percent) => self.piece_times(self.bound() / 2.0).as_micros() as u64,
            Arrivals::Herd | Arrivals::Late(_) => 1,
        }
    }

    /// What no policy can beat, in piece times: with equal uplinks `k + floor(log2 N)` (Mundinger,
    /// Weber and Weiss), otherwise the fluid bound; both without relaying a piece that is still
    /// arriving. Late and staggered peers add the time they take to come.
    pub fn bound(&self) -> f64 {
        let (n, k) = (f64::from(self.peers), f64::from(self.pieces * self.tasks));
        let links = &self.links;
        let tenths = || (0..10).map(|tenth| links.mix.factors(tenth));
        let slowest = tenths().map(|(_, down)| down).fold(1.0, f64::min);
        let mean = tenths().map(|(up, _)| up).sum::<f64>() / 10.0;
        let all_up = f64::from(self.seeds) * links.seed_up + n * links.up * mean;
        let fluid = (k / links.source_up).max(k / (links.down * slowest)).max(n * k / all_up);
        let is_equal = links.mix == Mix::Equal && links.up == 1.0 && links.seed_up == 1.0 && links.down >= 1.0;
        let download = if is_equal { k + n.log2().floor() } else { fluid };
        download
            + match self.arrivals {
                Arrivals::Herd => 0.0,
                Arrivals::Staggered(over) => over,
                Arrivals::Late(_) => download / 2.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::{Links, Plan};

    #[test]
    fn equal_links_have_the_bound_of_the_binomial_pipeline() {
        assert_eq!(Plan::new(1000, 256).bound(), 265.0);
        assert_eq!(Plan::new(1, 1).bound(), 1.0);
        assert_eq!(Plan::new(16, 64).bound(), 68.0);
    }

    #[test]
    fn other_links_have_the_fluid_bound() {
        let plan = Plan::new(10, 100);
        let slow_down = Links { down: 0.5, ..plan.links };
        assert_eq!(Plan { links: slow_down, ..plan.clone() }.bound(), 200.0);
        let slow_source = Links { source_up: 0.1, up: 2.0, ..plan.links };
        assert_eq!(Plan { links: slow_source, ..plan }.bound(), 1000.0);
    }
}
