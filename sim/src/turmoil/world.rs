//! A run: hosts, time, faults, users; first everything may go wrong, then a core is healed and has to
//! finish, then all has to come to rest.

mod striking;
mod wishes;

pub use wishes::Wish;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use df_core::rng::Rng;
use df_daemons::config::HostPort;
use df_daemons::sync::lock;
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::checks;
use super::fault::{Drawing, Fault};
use super::ledger::{Ledger, Mark, Violation};
use super::links::Links;
use super::manager::{self, Estate};
use super::net::Wires;
use super::node::{Common, Node, Role, SCHEDULER_PORT};
use super::origin::{self, Shelf};
use super::scenario::{Act, Scenario, Work};
use super::user::{Entry, Outcome};

/// Pause before a daemon that ended by itself is started again, in milliseconds.
const RESTART_MS: u64 = 1000;

/// How long a process has to end when it is told to, in milliseconds.
const STOP_LIMIT_MS: u64 = 60_000;

/// How long a healed world has to finish, beside what its bytes take, in milliseconds.
const HEAL_LIMIT_MS: u64 = 240_000;

/// How long it has to come to rest after that, in milliseconds, and what a try at a source that hangs takes
/// besides its stall limit: what nobody waits for is given up when all tries have failed. Three hosts may try, one
/// after the other, and each is given three quarters of a minute.
const REST_LIMIT_MS: u64 = 180_000;
const TRY_MS: u64 = 10_000;

/// How long a scheduler may believe what is no longer so, in milliseconds: a stream that was cut and brings
/// nothing any more is given up after a quarter of a minute.
const HEARD_LIMIT_MS: u64 = 30_000;

/// How long uploads that nobody takes may go on, in milliseconds.
const UPLOAD_LIMIT_MS: u64 = 45_000;

/// What came of a run.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// What was seen, and how often.
    pub marks: BTreeMap<Mark, u64>,
    /// The trace's hash.
    pub trace_hash: String,
    /// Events in the trace.
    pub events: u64,
    /// How long it was, in simulated milliseconds.
    pub simulated_ms: u64,
    /// The faults that happened.
    pub plan: Vec<(u64, Fault)>,
    /// Requests of users, by what came of them.
    pub outcomes: BTreeMap<String, u64>,
    /// Bytes the origin sent, in copies of all contents that were asked for.
    pub source_copies: f64,
    /// How long a processor was at it, in real seconds: the one thing that differs from run to run.
    pub cpu_secs: f64,
}

/// A run that goes on.
pub struct World<'a> {
    pub(super) common: Arc<Common>,
    pub(super) nodes: Vec<Arc<Node>>,
    sim: turmoil::Sim<'a>,
    links: Links,
    plan: VecDeque<(u64, Fault)>,
    fired: Vec<(u64, Fault)>,
    /// Faults that are on, with their ends.
    active: Vec<(u64, Fault)>,
    /// Hosts that are to be started, and when.
    starts: BTreeMap<u32, u64>,
    work: VecDeque<Work>,
    /// How the last life of each host ended.
    deaths: BTreeMap<u32, Mark>,
    /// Hosts that are healed and have to finish.
    pub(super) core: BTreeSet<u32>,
    now_ms: u64,
}

/// Runs a scenario to its end, or to its first violation.
pub fn run(scenario: &Scenario, is_verbose: bool) -> Report {
    let ended = catch_unwind(AssertUnwindSafe(|| played(scenario, is_verbose)));
    ended.unwrap_or_else(|_| {
        let what = super::panics::last().unwrap_or_default();
        let violation = Violation { at_us: 0, check: "no-panic".to_owned(), what };
        Report { seed: scenario.seed, violations: vec![violation], plan: planned(scenario), ..Report::default() }
    })
}

/// The faults that are to happen.
fn planned(scenario: &Scenario) -> Vec<(u64, Fault)> {
    scenario.plan.clone().unwrap_or_else(|| Drawing::new(scenario).plan(scenario.rates.chaos_ms))
}

fn played(scenario: &Scenario, is_verbose: bool) -> Report {
    let mut world = World::new(scenario, is_verbose);
    world.chaos();
    world.heal();
    world.finish();
    world.rest();
    checks::at_end(&world);
    world.report()
}

impl World<'_> {
    fn new(scenario: &Scenario, is_verbose: bool) -> Self {
        let topology = &scenario.topology;
        let mut builder = turmoil::Builder::new();
        builder
            .epoch(UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .rng_seed(Rng::new(scenario.seed).fork("network").next_u64())
            .tick_duration(Duration::from_millis(topology.tick_ms))
            .min_message_latency(Duration::from_millis(topology.latency_ms.0))
            .max_message_latency(Duration::from_millis(topology.latency_ms.1))
            .tcp_capacity(1024)
            .simulation_duration(Duration::from_secs(3600));
        if topology.is_shuffled {
            builder.enable_random_order();
        }
        let mut sim = builder.build();
        let ledger = Ledger::new(is_verbose);
        let (nodes, wires) = hosts(scenario, &sim, &ledger);
        let schedulers = nodes.iter().filter(|node| node.role == Role::Scheduler);
        let shelf = Arc::new(Mutex::new(Shelf::new(&scenario.contents)));
        let manager = found_manager(scenario, &nodes, &ledger);
        let common = Arc::new(Common {
            manager,
            book: Arc::new(Book::new(&scenario.contents, shelf.clone())),
            schedulers: schedulers.map(|node| HostPort { host: node.ip.to_string(), port: SCHEDULER_PORT }).collect(),
            scenario: scenario.clone(),
            ledger,
            shelf,
            wires: Arc::new(Mutex::new(wires)),
            diary: Mutex::default(),
        });
        for node in &nodes {
            let (node, common) = (node.clone(), common.clone());
            sim.host(node.ip, move || node.clone().run(common.clone()));
        }
        Self {
            links: Links::new(nodes.iter().map(|node| node.ip).collect()),
            plan: planned(scenario).into(),
            work: scenario.work.clone().into(),
            common,
            nodes,
            sim,
            fired: Vec::new(),
            active: Vec::new(),
            starts: BTreeMap::new(),
            deaths: BTreeMap::new(),
            core: BTreeSet::new(),
            now_ms: 0,
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.common.ledger
    }

    pub(super) fn scenario(&self) -> &Scenario {
        &self.common.scenario
    }

    /// Faults that happened.
    pub(super) fn fired(&self) -> &[(u64, Fault)] {
        &self.fired
    }

    /// The number of the first seed or peer.
    pub(super) fn first_daemon(&self) -> u32 {
        self.scenario().topology.schedulers
    }

    /// The number of the origin, behind which the manager is.
    pub(super) fn origin(&self) -> u32 {
        self.scenario().origin()
    }

    fn is_over(&self) -> bool {
        self.ledger().is_broken()
    }

    /// One step of time.
    fn step(&mut self) {
        self.start_due();
        if let Err(error) = self.sim.step() {
            self.ledger().violate("no-panic", error.to_string());
        }
        if let Some(panic) = super::panics::last() {
            self.ledger().violate("no-panic", panic);
        }
        self.now_ms += self.scenario().topology.tick_ms;
        self.ledger().set_now(self.now_ms * 1000);
        for node in &self.nodes {
            let (has_ended, stopping_ms) = {
                let life = lock(&node.life);
                (life.ended.is_some(), life.stopping_ms)
            };
            if stopping_ms.is_some_and(|told_ms| self.now_ms > told_ms + STOP_LIMIT_MS) && !has_ended {
                self.ledger().violate("ends-when-told", format!("{} goes on", node.name));
            }
            if has_ended && !self.starts.contains_key(&node.number) {
                // It has just ended: its remains go with its process.
                self.starts.insert(node.number, self.now_ms + RESTART_MS);
            }
        }
    }

    /// Everything may go wrong.
    fn chaos(&mut self) {
        let end_ms = self.scenario().rates.chaos_ms.max(self.plan.back().map_or(0, |(at, _)| at + 1));
        while self.now_ms < end_ms && !self.is_over() {
            while self.plan.front().is_some_and(|(at, _)| *at <= self.now_ms) {
                if let Some((at_ms, fault)) = self.plan.pop_front() {
                    self.strike(at_ms, fault);
                }
            }
            self.end_due();
            while self.work.front().is_some_and(|work| work.at_ms <= self.now_ms) {
                if let Some(work) = self.work.pop_front() {
                    let is_operators = work.act.is_operators();
                    let host = if is_operators { self.origin() + 1 } else { self.first_daemon() + work.host };
                    self.ask(host, work.act);
                }
            }
            self.step();
        }
    }

    /// A user asks a host. Nothing happens if it is down.
    fn ask(&self, host: u32, act: Act) -> Option<usize> {
        let node = self.nodes.get(host as usize)?;
        let mut diary = lock(&self.common.diary);
        let life = lock(&node.life);
        let users = life.users.as_ref()?;
        let number = diary.len();
        users.send((number, act.clone())).ok()?;
        diary.push(Entry { node: host, act, begun_us: self.ledger().now_us(), ended: None });
        Some(number)
    }

    fn start_due(&mut self) {
        let due: Vec<u32> = self.starts.iter().filter(|(_, at)| **at <= self.now_ms).map(|(host, _)| *host).collect();
        for host in due {
            self.starts.remove(&host);
            self.start(host);
        }
    }

    fn start(&mut self, host: u32) {
        let node = self.nodes[host as usize].clone();
        self.kill(host);
        self.ledger().note(&node.name, 20, host, &"started");
        self.sim.bounce(node.ip);
    }

    /// The process is gone, and those who asked it with it.
    fn kill(&mut self, host: u32) {
        let node = self.nodes[host as usize].clone();
        lock(&node.life).users = None;
        self.sim.crash(node.ip);
        node.disk.process_died();
        {
            let mut life = lock(&node.life);
            (life.ended, life.stopping_ms) = (None, None);
        }
        // The next one does not hang.
        self.active.retain(|(_, fault)| !matches!(fault, Fault::Hang { host: hung, .. } if *hung == host));
        lock(&self.common.wires).gate(node.ip).set_shut(false);
        let now_us = self.ledger().now_us();
        for entry in lock(&self.common.diary).iter_mut().filter(|entry| entry.node == host) {
            entry.ended.get_or_insert((now_us, Outcome::Killed));
        }
    }

    /// Heals a random core of hosts; the rest stays as it is, or worse.
    fn heal(&mut self) {
        if self.is_over() {
            return;
        }
        let mut rng = Rng::new(self.scenario().seed).fork("core");
        let is_calm = self.scenario().is_calm();
        let percent = if is_calm { 100 } else { self.scenario().rates.core_percent };
        let all = 0..self.nodes.len() as u32;
        self.core = all.filter(|_| rng.chance(percent, 100)).collect();
        let daemons = u64::from(self.scenario().daemons());
        self.core.insert(self.first_daemon() + rng.below(daemons) as u32);
        if percent == 100 || rng.chance(3, 4) {
            self.core.insert(self.origin());
        }
        self.active.iter_mut().for_each(|(end, _)| *end = 0);
        self.end_due();
        let names: Vec<&str> = self.core.iter().map(|host| &*self.nodes[*host as usize].name).collect();
        self.ledger().note("world", 32, self.core.len() as u32, &format_args!("the core is {names:?}"));
        let outside: Vec<u32> = (0..self.nodes.len() as u32).filter(|host| !self.core.contains(host)).collect();
        let forever_ms = u64::MAX / 4;
        for host in outside {
            match rng.below(5) {
                0 => {
                    self.kill(host);
                    self.starts.remove(&host);
                }
                1 => self.active.push((forever_ms, Fault::Partition { hosts: vec![host], span_ms: forever_ms })),
                2 => {
                    self.starts.remove(&host);
                    let hang = Fault::Hang { host, span_ms: forever_ms };
                    self.switch(&hang, true);
                    self.active.push((forever_ms, hang));
                }
                // It hears everything and cannot be heard, or the other way round.
                way => self.active.extend((0..self.nodes.len() as u32).filter(|other| *other != host).map(|other| {
                    let (from, to) = if way == 3 { (host, other) } else { (other, host) };
                    (forever_ms, Fault::OneWay { from, to, span_ms: forever_ms })
                })),
            }
        }
        self.settle_links();
        let down: Vec<u32> = self.starts.keys().copied().filter(|host| self.core.contains(host)).collect();
        for host in down {
            self.starts.insert(host, self.now_ms);
        }
    }

    /// How long the core has, in milliseconds.
    fn patience_ms(&self) -> u64 {
        let (scenario, knobs) = (self.scenario(), &self.scenario().knobs);
        let rates = [knobs.download_rate, knobs.source_rate].into_iter().flatten().chain(scenario.upload_rates());
        let slowest = rates.fold(scenario.topology.uplink_bytes_per_sec, u64::min).max(1);
        let bytes: u64 = scenario.contents.iter().map(|content| content.len).sum();
        HEAL_LIMIT_MS + 4 * bytes * u64::from(scenario.daemons()) * 1000 / slowest
    }

    /// Everybody in the core gets what it ever wanted, or a typed error.
    fn finish(&mut self) {
        let mut wanted = self.wishes();
        let limit_ms = self.now_ms + self.patience_ms();
        let mut next_look_ms = self.now_ms + 500;
        while !self.is_over() {
            if self.now_ms >= next_look_ms {
                next_look_ms = self.now_ms + 50;
                wanted = self.look(wanted);
                if wanted.is_empty() && !self.is_anybody_waiting() {
                    return;
                }
            }
            if self.now_ms >= limit_ms {
                checks::unfinished(self, &wanted);
                return;
            }
            self.step();
        }
    }

    fn is_anybody_waiting(&self) -> bool {
        let diary = lock(&self.common.diary);
        diary.iter().any(|entry| entry.ended.is_none() && self.core.contains(&entry.node))
    }

    /// Waits until nothing is under way any more.
    fn rest(&mut self) {
        let knobs = &self.scenario().knobs;
        let tries_ms = (u64::from(knobs.source_retry_limit) + 1) * (knobs.source_stall_ms + TRY_MS);
        let limit_ms = self.now_ms + REST_LIMIT_MS.max(tries_ms);
        let upload_limit_ms = self.now_ms + UPLOAD_LIMIT_MS;
        while !self.is_over() {
            if self.now_ms >= upload_limit_ms {
                checks::uploads_end(self);
            }
            for _ in 0..20 {
                self.step();
            }
            let busy = checks::busy(self);
            if busy.is_empty() {
                break;
            }
            if self.now_ms >= limit_ms {
                self.ledger().violate("nothing-leaks", busy.join(", "));
            }
        }
        self.change_something();
        // What a host has dropped may not have been heard of yet: then it is asked once more.
        let limit_ms = self.now_ms + HEARD_LIMIT_MS;
        while !self.is_over() {
            self.wait(3000);
            self.nodes.iter().for_each(|node| lock(&node.gauges).wants_held = true);
            self.wait(1000);
            let (untrue, differing) = (checks::untrue_books(self), checks::differing_configurations(self));
            if untrue.is_empty() && differing.is_none() {
                return;
            }
            if self.now_ms >= limit_ms {
                untrue.into_iter().for_each(|what| self.ledger().violate("books-are-true", what));
                return differing.into_iter().for_each(|what| self.ledger().violate("configurations-agree", what));
            }
        }
    }

    fn wait(&mut self, term_ms: u64) {
        let until_ms = self.now_ms + term_ms;
        while !self.is_over() && self.now_ms < until_ms {
            self.step();
        }
    }

    fn report(&self) -> Report {
        let (hash, events) = self.ledger().trace();
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        for entry in lock(&self.common.diary).iter() {
            let outcome = match entry.ended.as_ref().map(|(_, outcome)| outcome) {
                None => "pending".to_owned(),
                Some(Outcome::Done { .. }) => "done".to_owned(),
                Some(Outcome::Wrong(_)) => "wrong".to_owned(),
                Some(Outcome::Failed { code, .. }) => code.clone(),
                Some(Outcome::Cancelled) => "cancelled".to_owned(),
                Some(Outcome::Killed) => "killed".to_owned(),
            };
            *outcomes.entry(outcome).or_default() += 1;
        }
        Report {
            seed: self.scenario().seed,
            violations: self.ledger().violations(),
            marks: self.ledger().marks(),
            trace_hash: format!("{hash:016x}"),
            events,
            simulated_ms: self.now_ms,
            plan: self.fired.clone(),
            outcomes,
            source_copies: checks::source_copies(self),
            ..Report::default()
        }
    }
}

/// Sets up the manager, and gives all hosts what they join with.
fn found_manager(scenario: &Scenario, nodes: &[Arc<Node>], ledger: &Ledger) -> Option<(HostPort, Estate)> {
    let node = nodes.iter().find(|node| node.role == Role::Manager)?;
    match Estate::found(scenario.seed, &node.disk) {
        Ok((estate, token)) => {
            let token = Arc::new(token.into_bytes());
            nodes.iter().for_each(|node| node.disk.put_foreign(manager::TOKEN_FILE.as_ref(), token.clone()));
            Some((HostPort { host: node.ip.to_string(), port: manager::GRPC_PORT }, estate))
        }
        Err(failure) => {
            ledger.violate("no-panic", format!("the manager cannot be set up: {failure}"));
            None
        }
    }
}

fn hosts(scenario: &Scenario, sim: &turmoil::Sim<'_>, ledger: &Ledger) -> (Vec<Arc<Node>>, Wires) {
    let topology = &scenario.topology;
    let of = |role, name: &str, count| (0..count).map(|n| (role, format!("{name}-{n}"))).collect::<Vec<_>>();
    let mut names = of(Role::Scheduler, "scheduler", topology.schedulers);
    names.extend(of(Role::Seed, "seed", topology.seeds));
    names.extend(of(Role::Peer, "peer", topology.peers));
    names.push((Role::Origin, origin::NAME.to_owned()));
    names.extend(of(Role::Manager, "manager", topology.managers));
    let mut wires = Wires::default();
    let numbered = (0..).zip(names);
    let nodes = numbered.map(|(number, (role, name))| {
        let ip = sim.lookup(name.as_str());
        wires.add(&name, ip, topology.uplink_bytes_per_sec);
        Arc::new(Node::new(number, &name, ip, role, scenario, ledger))
    });
    (nodes.collect(), wires)
}
