//! One part of a preheat on its scheduler: which hosts are to have the content, and how far they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::manager as wire;
use df_api::manager::member_report::Report as Up;
use df_api::task::TaskRequest;
use df_core::id::{HostId, TaskId};
use df_core::scheduler::{HostKey, HostKind, Scheduler};
use df_core::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::effects::wake;
use super::stream::{Books, Desk};
use crate::member::Reporter;
use crate::sync::lock;

/// Parts under way at once.
const PART_LIMIT: usize = 1024;

/// Hosts of one part.
const TARGET_LIMIT: usize = 10_000;

/// How often it is looked how far hosts are.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// How long a host that was woken may take to register before it is woken again, and how often.
const WAKE_TERM: Duration = Duration::from_secs(5);
const WAKE_LIMIT: u32 = 3;

/// Name of a part.
type PartKey = (u64, u32);

/// The parts under way. Cheap to clone.
#[derive(Clone)]
pub(super) struct Preheats {
    desk: Desk,
    parts: Arc<Mutex<BTreeMap<PartKey, CancellationToken>>>,
}

/// A host that is to have the content.
#[derive(Clone, Debug)]
struct Target {
    host: HostId,
    hostname: String,
    ip: String,
    state: wire::TargetState,
    held: u32,
    pieces: u32,
    failure: String,
    woken: Option<Instant>,
    wakes: u32,
}

/// A part under way.
struct Part {
    order: wire::PreheatPart,
    task: TaskId,
    targets: Vec<Target>,
    is_chosen: bool,
    content_length: Option<u64>,
    deadline: Instant,
}

impl Preheats {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk, parts: Arc::default() }
    }

    /// Begins a part. One that is under way goes on: the manager may have been away meanwhile.
    pub(super) fn begin(&self, order: wire::PreheatPart, reporter: Reporter) {
        let key = (order.job_id, order.part);
        let fail = |failure: String| {
            let (job_id, part) = key;
            let over = wire::PartReport { job_id, part, is_over: true, failure, ..wire::PartReport::default() };
            reporter.tell(Up::Part(over));
        };
        let meta = order.url_meta.clone().unwrap_or_default();
        let request = match TaskRequest::new(&order.url, meta, order.piece_length) {
            Ok(request) => request,
            Err(failure) => return fail(failure.to_string()),
        };
        let Ok(task) = TaskId::try_from(&order.task_id[..]) else { return fail("no id of a task".to_owned()) };
        if request.id() != task {
            // Secrets are not kept over a restart of the manager, and they are part of the name.
            return fail("the credentials of the source were lost when the manager stopped".to_owned());
        }
        let end = CancellationToken::new();
        {
            let mut parts = lock(&self.parts);
            if parts.contains_key(&key) {
                return;
            }
            if parts.len() >= PART_LIMIT {
                drop(parts);
                return fail(format!("{PART_LIMIT} parts are under way"));
            }
            parts.insert(key, end.clone());
        }
        let now = self.desk.now();
        let deadline = now + Duration::from_millis(order.timeout_ms);
        let part = Part { order, task, targets: Vec::new(), is_chosen: false, content_length: None, deadline };
        let this = self.clone();
        tokio::spawn(async move {
            this.desk.books().wish_for(task, request);
            end.run_until_cancelled(this.run(part, &reporter)).await;
            lock(&this.parts).remove(&key);
        });
    }

    /// Gives a part up: hosts that have begun end what they are at, nobody else is woken.
    pub(super) fn cancel(&self, job: u64, part: u32) {
        if let Some(end) = lock(&self.parts).get(&(job, part)) {
            end.cancel();
        }
    }

    async fn run(&self, mut part: Part, reporter: &Reporter) {
        loop {
            let now = self.desk.now();
            let looked = self.desk.look(move |machine, books| {
                part.look(machine, books, now);
                part
            });
            let Some(looked) = looked.await else { return };
            part = looked;
            let is_over = part.expire(self.desk.now());
            reporter.tell(Up::Part(part.report(is_over)));
            if is_over {
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Part {
    fn report(&self, is_over: bool) -> wire::PartReport {
        let target = |target: &Target| wire::PartTarget {
            host_id: target.host.as_bytes().to_vec(),
            hostname: target.hostname.clone(),
            ip: target.ip.clone(),
            state: target.state.into(),
            held_pieces: target.held,
            pieces: target.pieces,
            failure: target.failure.clone(),
        };
        let failure = if self.is_chosen && self.targets.is_empty() { "no host of that scope is there" } else { "" };
        wire::PartReport {
            job_id: self.order.job_id,
            part: self.order.part,
            content_length: self.content_length,
            targets: self.targets.iter().map(target).collect(),
            is_over,
            failure: if is_over { failure.to_owned() } else { String::new() },
        }
    }

    /// Whether it is over; what is not by its deadline has failed.
    fn expire(&mut self, now: Instant) -> bool {
        if now >= self.deadline {
            for target in self.targets.iter_mut().filter(|target| !target.is_over()) {
                (target.state, target.failure) = (wire::TargetState::GaveUp, "it took too long".to_owned());
            }
            return true;
        }
        self.is_chosen && self.targets.iter().all(Target::is_over)
    }

    /// How far the hosts are, and whose turn it is.
    fn look(&mut self, machine: &Scheduler, books: &mut Books, now: Instant) {
        if !self.is_chosen {
            self.choose(machine, books, now);
        }
        let row = machine.task_rows().find(|row| row.task == self.task);
        let plan = row.and_then(|row| row.plan);
        self.content_length = plan.and_then(|plan| plan.content_len()).or(self.content_length);
        let pieces = plan.and_then(|plan| plan.count()).unwrap_or(0);
        let hosts: BTreeMap<HostId, HostKey> = machine.host_rows(now).map(|row| (row.info.id, row.key)).collect();
        let members: BTreeMap<HostKey, _> =
            machine.members_of(&self.task).map(|member| (member.host, member)).collect();
        let limit = match self.order.concurrent_host_limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let mut fetching = self.targets.iter().filter(|t| t.state == wire::TargetState::Fetching).count();
        for target in self.targets.iter_mut().filter(|target| !target.is_over()) {
            target.pieces = pieces;
            if let Some(failure) = books.take_failure(&self.task, &target.host) {
                (target.state, target.failure) = (wire::TargetState::GaveUp, failure);
                continue;
            }
            let Some(key) = hosts.get(&target.host) else {
                target.missed(now, "it is not connected any more");
                continue;
            };
            if let Some(member) = members.get(key) {
                target.held = member.held;
                let is_complete = machine.peer(member.peer).is_some_and(|peer| peer.is_complete);
                target.state = if is_complete { wire::TargetState::Finished } else { wire::TargetState::Fetching };
                if is_complete || member.is_wanting {
                    target.woken = Some(now);
                    continue;
                }
            }
            let is_turn = target.state == wire::TargetState::Fetching || fetching < limit;
            if is_turn && target.missed(now, "it does not fetch it") {
                fetching += usize::from(target.state == wire::TargetState::Waiting);
                target.state = wire::TargetState::Fetching;
                wake(books, *key, &self.task, true);
            }
        }
    }

    /// The hosts that are meant, in an order of their own for each task.
    fn choose(&mut self, machine: &Scheduler, books: &Books, now: Instant) {
        self.is_chosen = true;
        let scope = self.order.scope();
        let ips: Vec<IpAddr> = self.order.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let is_meant = |kind: HostKind| scope == wire::PreheatScope::AllPeers || kind == HostKind::Seed;
        let mut all: Vec<(u64, Target)> = machine
            .host_rows(now)
            .filter(|row| is_meant(row.info.kind) && row.listed_until.is_none())
            .filter_map(|row| {
                let (about, parent) = books.about(row.key)?;
                let target = Target {
                    host: row.info.id,
                    hostname: about.hostname.clone(),
                    ip: parent.ip.clone(),
                    state: wire::TargetState::Waiting,
                    held: 0,
                    pieces: 0,
                    failure: String::new(),
                    woken: None,
                    wakes: 0,
                };
                let mut key = self.task.as_bytes().to_vec();
                key.extend_from_slice(row.info.id.as_bytes());
                Some((xxh3_64(&key), target))
            })
            .collect();
        all.sort_by_key(|(draw, target)| (*draw, target.host));
        let mut targets: Vec<Target> = all.into_iter().map(|(_, target)| target).collect();
        let len = targets.len();
        if scope == wire::PreheatScope::SingleSeedPeer {
            targets.truncate(1);
        } else if !ips.is_empty() {
            targets.retain(|target| target.ip.parse().is_ok_and(|ip| ips.contains(&ip)));
        } else if self.order.count > 0 {
            targets.truncate(self.order.count as usize);
        } else if self.order.percentage > 0 {
            targets.truncate((len * self.order.percentage.min(100) as usize).div_ceil(100));
        }
        targets.truncate(TARGET_LIMIT);
        self.targets = targets;
    }
}

impl Target {
    const fn is_over(&self) -> bool {
        matches!(self.state, wire::TargetState::Finished | wire::TargetState::GaveUp)
    }

    /// It is not at it. True if it is to be woken now; after several times it has failed.
    fn missed(&mut self, now: Instant, why: &str) -> bool {
        if self.woken.is_some_and(|woken| now - woken < WAKE_TERM) {
            return false;
        }
        if self.wakes >= WAKE_LIMIT {
            (self.state, self.failure) = (wire::TargetState::GaveUp, why.to_owned());
            return false;
        }
        self.wakes += 1;
        self.woken = Some(now);
        true
    }
}
