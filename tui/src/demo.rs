//! A cluster that is made up: the same for the same seed, second by second, for trying the console
//! and for testing it.

use df_api::failure::{Code, Failure};

use crate::app::Interest;
use crate::model::{
    Attention, Contact, Happening, Health, Host, Limits, Mark, Policy, Role, Scope, Snapshot, State, Subject, Task,
};

mod orders;
mod people;
mod swarm;

/// When every demo begins: 2026-11-21 07:40:12 UTC.
const BEGUN_AT: u64 = 1_795_246_812;

/// Happenings that are kept.
const HAPPENING_LIMIT: usize = 500;

/// Numbers that look random (splitmix64, Steele, Lea and Flood, 2014).
fn mixed(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `limit` that looks random.
fn below(seed: u64, place: u64, limit: u64) -> u64 {
    mixed(seed, place) % limit.max(1)
}

/// A made-up cluster.
#[derive(Clone, Debug)]
pub struct Demo {
    seed: u64,
    second: u64,
    snapshot: Snapshot,
}

const NAMES: [&str; 12] = [
    "https://origin.example/models/model.bin",
    "https://registry.example/v2/shop/app/blobs/l3",
    "https://origin.example/sets/data.tar",
    "https://registry.example/v2/base/debian/blobs/l1",
    "https://origin.example/iso/install.iso",
    "https://registry.example/v2/shop/web/blobs/l2",
    "https://bucket.example/weights/shard-07.safetensors",
    "https://origin.example/build/artifacts.zip",
    "https://registry.example/v2/ml/train/blobs/l5",
    "https://origin.example/maps/tiles.mbtiles",
    "https://origin.example/logs/archive.zst",
    "https://bucket.example/weights/shard-08.safetensors",
];

const IDCS: [&str; 3] = ["a1", "b2", "c3"];

impl Demo {
    /// A cluster of so many hosts, seed peers included, and so many tasks.
    pub fn new(seed: u64, hosts: usize, tasks: usize) -> Self {
        let mut snapshot = Snapshot {
            manager: Contact::Live,
            daemon: Contact::Live,
            cluster: "prod-1".to_owned(),
            user: "ops".to_owned(),
            may_write: true,
            policy: Policy {
                cluster: "1".to_owned(),
                version: 12,
                peer: Limits {
                    download_bytes_per_sec: Some(2 << 30),
                    upload_bytes_per_sec: Some(1 << 30),
                    upload_slots: Some(50),
                    ..Limits::default()
                },
                seed: Limits { upload_slots: Some(300), source_bytes_per_sec: Some(1 << 30), ..Limits::default() },
                members_in_force: 1,
                members: 1,
                ..Policy::default()
            },
            ..Snapshot::default()
        };
        snapshot.hosts = (0..hosts as u64).map(|at| host(seed, at)).collect();
        snapshot.tasks = (0..tasks as u64).map(|at| task(seed, at, hosts as u64)).collect();
        people::settle(seed, &mut snapshot);
        let mut demo = Self { seed, second: 0, snapshot };
        demo.isolate_some();
        demo.step();
        demo
    }

    fn isolate_some(&mut self) {
        let peers = self.snapshot.hosts.len();
        let reasons = [
            (Scope::Global, "piece 20 is not what its digest says", Some(469)),
            (Scope::Local, "connection reset", Some(29)),
            (Scope::Own, "failed against three parents", None),
        ];
        for (at, (scope, reason, expires_s)) in reasons.into_iter().enumerate() {
            let Some(host) = self.snapshot.hosts.get_mut((at * 13 + 7) % peers.max(1)) else { return };
            if host.role == Role::Seed {
                continue;
            }
            if scope != Scope::Local {
                host.is_isolated = true;
                host.reason = reason.to_owned();
            }
            let listed = crate::model::Isolated {
                host: host.id.clone(),
                hostname: host.hostname.clone(),
                scope,
                since_s: 131 + at as u64 * 100,
                strikes: 5 - at as u32,
                strike_limit: 5,
                by: if scope == Scope::Own { "itself".to_owned() } else { "h0003 h0007".to_owned() },
                reason: reason.to_owned(),
                expires_s,
                is_on_parole: scope == Scope::Own,
            };
            self.snapshot.isolated.push(listed);
        }
    }

    /// One second later.
    pub fn step(&mut self) {
        self.second += 1;
        let (seed, second) = (self.seed, self.second);
        self.snapshot.taken_at = BEGUN_AT + second;
        for (at, task) in self.snapshot.tasks.iter_mut().enumerate() {
            let was = task.state.clone();
            swarm::advance(seed, at as u64, second, task);
            if was.mark == Mark::Busy && task.state.mark == Mark::Idle {
                let text = format!("{} is on {} hosts", task.name(), task.complete_peers);
                let (id, kind) = (task.id.clone(), State::new(Mark::Good, "task.finished"));
                let place = task.scheduler.clone();
                note(&mut self.snapshot.happenings, self.snapshot.taken_at, kind, place, text, Subject::Task(id));
            }
        }
        self.sum_up();
        for (at, host) in self.snapshot.hosts.iter_mut().enumerate() {
            advance_host(seed, at as u64, second, host);
        }
        for isolated in &mut self.snapshot.isolated {
            isolated.since_s += 1;
            isolated.expires_s = isolated.expires_s.map(|left| left.saturating_sub(1));
        }
        self.snapshot.isolated.retain(|isolated| isolated.expires_s != Some(0));
        people::advance(second, &mut self.snapshot);
        self.look_over();
        let excess = self.snapshot.happenings.len().saturating_sub(HAPPENING_LIMIT);
        self.snapshot.happenings.drain(..excess);
    }

    fn sum_up(&mut self) {
        let snapshot = &mut self.snapshot;
        let sum = |rate: fn(&Task) -> u64| snapshot.tasks.iter().map(rate).sum::<u64>();
        let (download, source) = (sum(|task| task.rate_bytes_per_sec), sum(|task| task.source_bytes_per_sec));
        let traffic = &mut snapshot.traffic;
        traffic.download_bytes_per_sec = download;
        traffic.source_bytes_per_sec = source;
        traffic.upload_bytes_per_sec = download.saturating_sub(source);
        traffic.download_bytes += download;
        traffic.source_bytes += source;
        let mut busiest: Vec<&Task> = snapshot.tasks.iter().filter(|task| task.rate_bytes_per_sec > 0).collect();
        busiest.sort_by_key(|task| std::cmp::Reverse(task.rate_bytes_per_sec));
        snapshot.busiest = busiest.into_iter().take(10).cloned().collect();
    }

    /// What a manager would say about it all.
    fn look_over(&mut self) {
        let snapshot = &mut self.snapshot;
        let count = |role| snapshot.hosts.iter().filter(move |host| host.role == role).count() as u64;
        let (seeds, peers) = (count(Role::Seed), count(Role::Peer));
        let out = snapshot.hosts.iter().filter(|host| host.is_isolated && host.role == Role::Peer).count() as u64;
        let health = |what: &str, well, all, note: &str| {
            let mark = if well == all { Mark::Good } else { Mark::Warn };
            Health { what: what.to_owned(), mark, well, all, note: note.to_owned() }
        };
        snapshot.health = vec![
            health("manager", 1, 1, ""),
            health("schedulers", 3, 3, ""),
            health("seed peers", seeds, seeds, ""),
            health("peers", peers - out, peers, ""),
            health("store", 1, 1, "sled"),
        ];
        let isolated = snapshot.isolated.iter().filter(|it| it.scope != Scope::Local).map(|it| Attention {
            mark: Mark::Bad,
            text: format!("{} {}: {}", it.hostname, it.scope, it.reason),
            subject: Subject::Host(it.host.clone()),
        });
        let full = snapshot.hosts.iter().filter_map(|host| {
            let share = host.disk_per_mille().filter(|share| *share >= 900)?;
            let text = format!("{} disk {}", host.hostname, crate::format::percent(share));
            Some(Attention { mark: Mark::Warn, text, subject: Subject::Host(host.id.clone()) })
        });
        let running = snapshot.jobs.iter().filter(|job| job.is_running()).map(|job| Attention {
            mark: Mark::Busy,
            text: format!("job {} preheat {}", job.id, crate::format::percent(job.done_per_mille)),
            subject: Subject::Job(job.id.clone()),
        });
        snapshot.attention = isolated.chain(full.take(3)).chain(running).collect();
    }

    /// The cluster as it is now, with the task that is of interest.
    pub fn snapshot(&self, interest: &Interest) -> Snapshot {
        let mut snapshot = self.snapshot.clone();
        let at = interest.task.as_ref().and_then(|id| snapshot.tasks.iter().position(|task| task.id == *id));
        snapshot.job = interest.job.as_ref().and_then(|id| snapshot.jobs.iter().find(|job| job.id == *id)).cloned();
        snapshot.task = at.map(|at| swarm::view(self.seed, at as u64, interest.host.as_deref(), &snapshot));
        snapshot
    }

    fn unknown(what: &str, id: &str) -> Failure {
        Failure::new(Code::NotFound, format!("there is no {what} {id}"))
    }
}

fn host(seed: u64, at: u64) -> Host {
    let is_seed = at < 3;
    let idc = IDCS.get(usize::try_from(at % 3).unwrap_or_default()).copied().unwrap_or_default();
    let hostname = if is_seed { format!("seed-{}", at + 1) } else { format!("h{at:04}") };
    Host {
        id: format!("{:016x}{:016x}", mixed(seed, at), mixed(seed, at + 1_000_000)),
        hostname,
        ip: format!("10.{}.{}.{}", at % 3, at / 250, at % 250 + 1),
        role: if is_seed { Role::Seed } else { Role::Peer },
        idc: idc.to_owned(),
        location: format!("eu|{idc}|r{}", at % 8),
        slots: if is_seed { 300 } else { 50 },
        disk_used_bytes: (40 + below(seed, at + 77, 55)) << 33,
        disk_bytes: 100 << 33,
        scheduler: format!("scheduler-{}", at % 3 + 1),
        state: State::new(Mark::Good, "healthy"),
        ..Host::default()
    }
}

fn advance_host(seed: u64, at: u64, second: u64, host: &mut Host) {
    // Rates drift: each is new every few seconds, and differs a little every second.
    let drift = below(seed ^ at, second / 7, 220) + below(seed ^ at, second, 12);
    let is_idle = below(seed, at + second / 40, 4) == 0;
    host.download_bytes_per_sec = if is_idle || host.is_isolated { 0 } else { drift << 20 };
    host.upload_bytes_per_sec =
        if host.is_isolated { 0 } else { (drift * if host.role == Role::Seed { 4 } else { 1 }) << 20 };
    host.source_bytes_per_sec = if host.role == Role::Seed { drift << 18 } else { 0 };
    host.slots_used = if host.is_isolated { 0 } else { u32::try_from(drift % 40).unwrap_or_default() };
    host.tasks = u32::try_from(below(seed, at + 5, 6) + 1).unwrap_or_default();
    host.downloaded_bytes += host.download_bytes_per_sec;
    host.uploaded_bytes += host.upload_bytes_per_sec;
    host.state = match (host.is_isolated, host.reason.as_str()) {
        (true, "failed against three parents") => State::new(Mark::Warn, "isolated"),
        (true, _) => State::new(Mark::Bad, "blacklisted"),
        _ => State::new(Mark::Good, "healthy"),
    };
}

fn task(seed: u64, at: u64, hosts: u64) -> Task {
    let name = NAMES.get(usize::try_from(at).unwrap_or_default() % NAMES.len()).copied().unwrap_or_default();
    let round = at / NAMES.len() as u64;
    let url = if round == 0 { name.to_owned() } else { format!("{name}.{round}") };
    let piece_length = if at.is_multiple_of(3) { 15 << 20 } else { 4 << 20 };
    let total_pieces = 20 + below(seed, at + 31, 800);
    let id: String = (0..4).map(|part| format!("{:016x}", mixed(seed ^ 0xdf, at * 4 + part))).collect();
    Task {
        id,
        url,
        content_length: Some(total_pieces * piece_length - below(seed, at, piece_length)),
        piece_length,
        total_pieces: u32::try_from(total_pieces).unwrap_or_default(),
        tag: if at.is_multiple_of(2) { "prod".to_owned() } else { String::new() },
        application: if at % 3 == 1 { "registry".to_owned() } else { String::new() },
        scheduler: format!("scheduler-{}", at % 3 + 1),
        peers: u32::try_from(wanted_by(seed, at, hosts)).unwrap_or_default(),
        seeds: 1,
        begun_at: BEGUN_AT - below(seed, at, 4000),
        ..Task::default()
    }
}

/// How many hosts want a task: the first ones are wanted by most.
fn wanted_by(seed: u64, at: u64, hosts: u64) -> u64 {
    let share = if at < 3 { 900 - at * 200 } else { 30 + below(seed, at + 11, 400) };
    (hosts * share / 1000).max(3).min(hosts)
}

fn note(happenings: &mut Vec<Happening>, happened_at: u64, kind: State, place: String, text: String, subject: Subject) {
    let number = happenings.last().map_or(1, |last| last.number + 1);
    happenings.push(Happening { number, happened_at, kind, place, user: String::new(), subject, text });
}
