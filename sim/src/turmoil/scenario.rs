//! A run of the real daemons as data: all that is drawn before it begins, and the plan of its faults.

use std::collections::BTreeSet;

use df_core::rng::Rng;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, Kind};
use super::net::SEGMENT_BYTES;

/// A run. The same scenario gives the same run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Of all that is drawn while it runs.
    pub seed: u64,
    /// Who is there, and over what links.
    pub topology: Topology,
    /// Kinds of faults that may happen.
    pub mask: BTreeSet<Kind>,
    /// How often, and for how long.
    pub rates: Rates,
    /// Constants of production, drawn from what is allowed.
    pub knobs: Knobs,
    /// What there is to download.
    pub contents: Vec<Content>,
    /// What users do.
    pub work: Vec<Work>,
    /// The faults with their times in milliseconds; without it they are drawn as the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Vec<(u64, Fault)>>,
}

/// Hosts and links.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Schedulers; 0 is allowed.
    pub schedulers: u32,
    /// Seed peers.
    pub seeds: u32,
    /// Ordinary peers.
    pub peers: u32,
    /// Managers: one or none.
    #[serde(default)]
    pub managers: u32,
    /// Shortest and longest way of a message, in milliseconds.
    pub latency_ms: (u64, u64),
    /// How far time goes in a step, in milliseconds.
    pub tick_ms: u64,
    /// Whether hosts take their turns in another order in every step.
    pub is_shuffled: bool,
    /// What each host can send, in bytes per second.
    pub uplink_bytes_per_sec: u64,
}

/// How much of what the mask allows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// How long faults happen, in milliseconds.
    pub chaos_ms: u64,
    /// Mean time between two faults, in milliseconds.
    pub gap_ms: u64,
    /// Mean time until one is over, in milliseconds.
    pub span_ms: u64,
    /// Hosts of the core that is healed, in per cent.
    pub core_percent: u64,
}

/// Constants of production.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knobs {
    /// Hops a piece may be relayed.
    pub relay_depth_limit: u32,
    /// Uploads granted at once.
    pub upload_limit: u32,
    /// Downloads granted at once.
    pub download_limit: u32,
    /// Requests served at once.
    pub request_limit: u32,
    /// Requests of one child served at once.
    pub child_limit: u32,
    /// Connections to a source at once.
    pub source_connection_limit: u32,
    /// Further tries at a source.
    pub source_retry_limit: u32,
    /// Silence of a source that ends a request, in milliseconds.
    pub source_stall_ms: u64,
    /// All uploads of a host, in bytes per second.
    pub upload_rate: Option<u64>,
    /// All downloads of a host, in bytes per second.
    pub download_rate: Option<u64>,
    /// All that a host reads from sources, in bytes per second.
    pub source_rate: Option<u64>,
    /// Bytes a store may hold.
    pub quota: Option<u64>,
    /// When a peer that starves is sent to the source, in milliseconds.
    pub source_escape_ms: u64,
    /// How long a task without peers is remembered, in milliseconds.
    pub task_ttl_ms: u64,
    /// Zones the hosts are in.
    pub zones: u32,
    /// Whether a blocking call to a disk takes time.
    pub has_slow_disks: bool,
    /// Whether the disks can reserve room.
    pub can_reserve: bool,
}

/// Something at the origin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Its length, in bytes.
    pub len: u64,
    /// How it is asked to be cut; 0 for the default rule.
    pub piece_len: u64,
    /// Whether its origin serves ranges.
    pub is_ranged: bool,
    /// Whether its origin tells versions apart.
    pub has_etag: bool,
    /// Whether its length is told before it is over.
    pub has_length: bool,
    /// Whether it is behind a redirect.
    pub is_redirected: bool,
}

/// What a user does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// On which peer or seed, by its number among them. (An operator sits at the manager.)
    pub host: u32,
    /// What.
    pub act: Act,
}

/// What a user asks a daemon for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Act {
    /// A download from an origin.
    Download {
        /// Which content.
        content: u32,
        /// Whether the daemon may ask the source.
        may_fetch_source: bool,
        /// What lets less be done for it: 3 wakes no seed, 2 lets nobody ask the source.
        #[serde(default)]
        priority: u32,
        /// Whether its digest is known beforehand.
        has_digest: bool,
        /// Whether it is wanted in order.
        is_in_order: bool,
        /// When the user loses patience, in milliseconds.
        cancel_after_ms: Option<u64>,
    },
    /// Putting bytes into the cache.
    Import {
        /// Under which name.
        name: u32,
        /// Which bytes.
        variant: u32,
        /// Hosts that are to have them.
        replicas: u32,
    },
    /// Getting them out.
    Export {
        /// The name.
        name: u32,
    },
    /// Deleting a name.
    Delete {
        /// The name.
        name: u32,
    },
    /// Asking about a name.
    Stat {
        /// The name.
        name: u32,
    },
    /// An operator's limit for all daemons.
    SetLimits {
        /// All uploads of a host, in bytes per second.
        upload_rate: u64,
    },
    /// An operator's wish that hosts have a content, which has the default piece length.
    Preheat {
        /// Which content.
        content: u32,
        /// One seed peer, all of them, or everybody.
        scope: u32,
    },
}

impl Act {
    /// Whether it is an operator's.
    pub const fn is_operators(&self) -> bool {
        matches!(self, Self::SetLimits { .. } | Self::Preheat { .. })
    }

    /// The content of an origin that is asked for.
    pub const fn content(&self) -> Option<u32> {
        match self {
            Self::Download { content, .. } | Self::Preheat { content, .. } => Some(*content),
            _ => None,
        }
    }
}

impl Scenario {
    /// Everything drawn from one seed.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork("turmoil scenario");
        let topology = Topology::drawn(&mut rng.fork("topology"));
        let mask = mask(&mut rng.fork("mask"));
        let rates = Rates::drawn(&mut rng.fork("rates"));
        let mut contents = contents(&mut rng.fork("contents"));
        // Only what is cut by the default rule can be preheated.
        if topology.managers > 0 && rng.fork("preheat").chance(1, 2) {
            contents[0].piece_len = 0;
        }
        let knobs = Knobs::drawn(&mut rng.fork("knobs"), &topology, &contents);
        let mut work = work(&mut rng.fork("work"), &topology, &contents, rates.chaos_ms);
        if topology.managers > 0 {
            work.extend(operators_work(&mut rng.fork("operator"), &contents, rates.chaos_ms));
            work.sort_by_key(|item| item.at_ms);
        }
        Self { seed, topology, mask, rates, knobs, contents, work, plan: None }
    }

    /// Three peers, a seed and a scheduler that have everything they could wish for.
    pub fn calm(seed: u64) -> Self {
        let content = Content {
            len: 30_000,
            piece_len: 2048,
            is_ranged: true,
            has_etag: true,
            has_length: true,
            is_redirected: false,
        };
        let download = |host| Work {
            at_ms: 1000,
            host,
            act: Act::Download {
                content: 0,
                may_fetch_source: true,
                priority: 0,
                has_digest: true,
                is_in_order: false,
                cancel_after_ms: None,
            },
        };
        Self {
            seed,
            topology: Topology {
                schedulers: 1,
                seeds: 1,
                peers: 3,
                managers: 0,
                latency_ms: (1, 3),
                tick_ms: 1,
                is_shuffled: false,
                uplink_bytes_per_sec: 100_000,
            },
            mask: BTreeSet::new(),
            rates: Rates { chaos_ms: 2000, gap_ms: 1000, span_ms: 1000, core_percent: 100 },
            knobs: Knobs::plain(),
            contents: vec![content],
            work: (1..=3).map(download).collect(),
            plan: None,
        }
    }

    /// Peers and seeds together.
    pub const fn daemons(&self) -> u32 {
        self.topology.seeds + self.topology.peers
    }

    /// The number of the origin among all hosts: behind schedulers, seeds and peers. The manager follows.
    pub const fn origin(&self) -> u32 {
        self.topology.schedulers + self.daemons()
    }

    /// All that an operator ever limits uploads to, and what the hosts have been started with.
    pub fn upload_rates(&self) -> impl Iterator<Item = u64> + '_ {
        let told = self.work.iter().filter_map(|work| match work.act {
            Act::SetLimits { upload_rate } => Some(upload_rate),
            _ => None,
        });
        told.chain(self.knobs.upload_rate)
    }

    /// Whether nothing goes wrong in it.
    pub fn is_calm(&self) -> bool {
        self.plan.as_ref().map_or(self.mask.is_empty(), Vec::is_empty)
    }
}

impl Topology {
    fn drawn(rng: &mut Rng) -> Self {
        let min_ms = rng.between(1, 20);
        Self {
            schedulers: [0, 1, 1, 1, 1, 1, 2, 2][rng.index(8)],
            seeds: [0, 1, 1, 1, 1, 2][rng.index(6)],
            peers: if rng.chance(1, 8) { rng.between(7, 9) } else { rng.between(1, 6) } as u32,
            latency_ms: (min_ms, min_ms + rng.between(0, 60)),
            tick_ms: [5, 10, 10, 20][rng.index(4)],
            is_shuffled: rng.chance(1, 2),
            // Slow ones more often than not: downloads that last meet more faults.
            uplink_bytes_per_sec: [8_000, 16_000, 32_000, 100_000, 10_000_000][rng.index(5)],
            // In a few: hashing the first password takes as long as half a run.
            managers: u32::from(rng.chance(1, 6)),
        }
    }
}

impl Rates {
    fn drawn(rng: &mut Rng) -> Self {
        Self {
            chaos_ms: rng.between(3_000, 15_000),
            gap_ms: [150, 400, 1000, 3000][rng.index(4)],
            span_ms: [200, 1000, 3000, 8000][rng.index(4)],
            core_percent: [40, 70, 100][rng.index(3)],
        }
    }
}

impl Knobs {
    /// As in production, nearly.
    pub const fn plain() -> Self {
        Self {
            relay_depth_limit: 24,
            upload_limit: 4,
            download_limit: 4,
            request_limit: 64,
            child_limit: 16,
            source_connection_limit: 4,
            source_retry_limit: 3,
            source_stall_ms: 30_000,
            upload_rate: None,
            download_rate: None,
            source_rate: None,
            quota: None,
            source_escape_ms: 15_000,
            task_ttl_ms: 1_800_000,
            zones: 1,
            has_slow_disks: false,
            can_reserve: true,
        }
    }

    fn drawn(rng: &mut Rng, topology: &Topology, contents: &[Content]) -> Self {
        let longest = contents.iter().map(|content| content.len).max().unwrap_or(0);
        let mut rate = |one_in| rng.chance(1, one_in).then(|| [8_000, 40_000, 300_000][rng.index(3)]);
        let (upload_rate, download_rate, source_rate) = (rate(5), rate(8), rate(8));
        let mut knobs = Self {
            relay_depth_limit: [0, 1, 24][rng.index(3)],
            upload_limit: [1, 2, 4, 64][rng.index(4)],
            download_limit: [1, 2, 4, 64][rng.index(4)],
            request_limit: [1, 2, 64][rng.index(3)],
            child_limit: [1, 16][rng.index(2)],
            source_connection_limit: [1, 2, 4][rng.index(3)],
            source_retry_limit: [0, 3][rng.index(2)],
            source_stall_ms: [1_000, 5_000, 30_000][rng.index(3)],
            upload_rate,
            download_rate,
            source_rate,
            // Room for one content beside all imports, at the least.
            // (Of a content whose length is not told, a whole piece is taken for its length at first.)
            quota: (rng.chance(1, 5) && contents.iter().all(|content| content.has_length))
                .then(|| longest + IMPORT_LEN_LIMIT + 4096 * rng.between(0, 8)),
            source_escape_ms: [2_000, 15_000][rng.index(2)],
            task_ttl_ms: [1_000, 1_800_000][rng.index(2)],
            zones: [1, 1, 2][rng.index(3)],
            has_slow_disks: rng.chance(1, 2),
            can_reserve: rng.chance(3, 4),
        };
        // Without a scheduler everybody goes to the source: each connection has to get its turn in time.
        let connections = u64::from(topology.seeds + topology.peers) * contents.len() as u64;
        let turn_ms = SEGMENT_BYTES as u64 * 1000 / topology.uplink_bytes_per_sec;
        let slowest_ms = 2 * turn_ms * connections * u64::from(knobs.source_connection_limit);
        knobs.source_stall_ms = knobs.source_stall_ms.max(slowest_ms.min(30_000));
        knobs
    }
}

/// Kinds of faults: none in some runs, one in some, all in a few, else each or not.
fn mask(rng: &mut Rng) -> BTreeSet<Kind> {
    match rng.below(20) {
        0 | 1 => BTreeSet::new(),
        2 | 3 => BTreeSet::from([Kind::ALL[rng.index(Kind::ALL.len())]]),
        4 => Kind::ALL.into_iter().collect(),
        _ => Kind::ALL.into_iter().filter(|_| rng.chance(1, 2)).collect(),
    }
}

/// All that can be imported on one host, in bytes: it is never dropped for something else.
pub const IMPORT_LEN_LIMIT: u64 = 6000;

fn contents(rng: &mut Rng) -> Vec<Content> {
    let count = rng.between(1, 3);
    let draw = |_| {
        let piece_len = [512, 1024, 2048, 4096][rng.index(4)];
        let pieces = [1, 2, 8, 16, 16, 32][rng.index(6)];
        let len = match rng.below(8) {
            0 => 0,
            1 => 1,
            2 => piece_len * pieces,
            _ => piece_len * (pieces - 1) + rng.between(1, piece_len),
        };
        let has_length = !rng.chance(1, 5);
        Content {
            len,
            // Small contents are single pieces by the default rule.
            piece_len: if rng.chance(1, 8) { 0 } else { piece_len },
            is_ranged: has_length && !rng.chance(1, 5),
            has_etag: !rng.chance(1, 4),
            has_length,
            is_redirected: rng.chance(1, 6),
        }
    };
    (0..count).map(draw).collect()
}

fn work(rng: &mut Rng, topology: &Topology, contents: &[Content], chaos_ms: u64) -> Vec<Work> {
    let hosts = u64::from(topology.seeds + topology.peers);
    let is_herd = rng.chance(1, 2);
    let has_cache = rng.chance(1, 2);
    let mut work = Vec::new();
    for host in 0..hosts {
        for content in 0..contents.len() as u32 {
            if !rng.chance(3, 4) {
                continue;
            }
            let at_ms = if is_herd { 500 } else { rng.between(0, chaos_ms) };
            let act = Act::Download {
                content,
                may_fetch_source: !rng.chance(1, 6),
                priority: [0, 0, 0, 0, 0, 2, 3, 3][rng.index(8)],
                has_digest: rng.chance(1, 2),
                is_in_order: rng.chance(1, 4),
                cancel_after_ms: rng.chance(1, 5).then(|| rng.between(1, 3000)),
            };
            let times = if rng.chance(1, 6) { 2 } else { 1 };
            (0..times).for_each(|_| work.push(Work { at_ms, host: host as u32, act: act.clone() }));
        }
    }
    if has_cache {
        for _ in 0..rng.between(2, 8) {
            let name = rng.below(3) as u32;
            let act = match rng.below(6) {
                0 | 1 => Act::Import { name, variant: rng.below(2) as u32, replicas: rng.below(3) as u32 },
                2 | 3 => Act::Export { name },
                4 => Act::Delete { name },
                _ => Act::Stat { name },
            };
            work.push(Work { at_ms: rng.between(0, chaos_ms), host: rng.below(hosts) as u32, act });
        }
    }
    work.sort_by_key(|item| item.at_ms);
    work
}

/// What an operator does.
fn operators_work(rng: &mut Rng, contents: &[Content], chaos_ms: u64) -> Vec<Work> {
    let mut work = Vec::new();
    for _ in 0..rng.below(4) {
        let upload_rate = [8_000, 40_000, 300_000][rng.index(3)];
        work.push(Work { at_ms: rng.between(500, chaos_ms), host: 0, act: Act::SetLimits { upload_rate } });
    }
    for (content, _) in (0..).zip(contents).filter(|(_, content)| content.piece_len == 0) {
        for _ in 0..rng.below(3) {
            let scope = rng.below(3) as u32;
            work.push(Work { at_ms: rng.between(500, chaos_ms), host: 0, act: Act::Preheat { content, scope } });
        }
    }
    work
}
