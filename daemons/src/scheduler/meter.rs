//! What goes over the wires: bytes and rates of tasks and hosts, for those who watch.

use std::collections::BTreeMap;

use df_core::id::TaskId;
use df_core::scheduler::{HostKey, Transfer};
use df_core::time::Instant;

/// Seconds that a rate is the mean of.
const WINDOW: usize = 5;

/// Tasks and hosts that are counted at once; more are counted in the totals alone.
const TASK_LIMIT: usize = 100_000;
const HOST_LIMIT: usize = 200_000;

/// Pairs of hosts that are counted in one watched task.
const EDGE_LIMIT: usize = 20_000;

/// Tasks watched at once.
const WATCHED_LIMIT: usize = 64;

/// Bytes counted, and how many they were lately.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Flow {
    /// All of them.
    pub(super) bytes: u64,
    /// Those of the latest seconds, each at its number modulo their count.
    lately: [u64; WINDOW],
    second: u64,
}

fn second(now: Instant) -> u64 {
    now.as_micros() / 1_000_000
}

impl Flow {
    fn add(&mut self, now: Instant, bytes: u64) {
        self.turn(second(now));
        self.bytes = self.bytes.saturating_add(bytes);
        self.lately[self.second as usize % WINDOW] += bytes;
    }

    /// Forgets the seconds that are over.
    fn turn(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second).min(WINDOW as u64);
        for back in 0..passed {
            self.lately[(second - back) as usize % WINDOW] = 0;
        }
        self.second = self.second.max(second);
    }

    /// Bytes per second, over the latest seconds that are over.
    pub(super) fn rate(mut self, now: Instant) -> u64 {
        self.turn(second(now));
        self.lately.iter().sum::<u64>() / WINDOW as u64
    }
}

/// What is counted of a task.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct TaskMeter {
    /// From hosts.
    pub(super) peer: Flow,
    /// From the source.
    pub(super) source: Flow,
}

/// What is counted of a host.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct HostMeter {
    /// What it sends.
    pub(super) sent: Flow,
    /// What it receives from hosts.
    pub(super) received: Flow,
    /// What it receives from sources.
    pub(super) source: Flow,
}

/// What is counted of a pair of hosts in a watched task.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct EdgeMeter {
    pub(super) flow: Flow,
    pub(super) finished: u32,
    pub(super) failed: u32,
}

/// All that is counted.
#[derive(Default, Debug)]
pub(super) struct Meter {
    /// What hosts receive from hosts, what of it seeds send, and what comes from sources.
    pub(super) peer: Flow,
    pub(super) seed: Flow,
    pub(super) source: Flow,
    /// Transfers that failed.
    pub(super) failed: u64,
    tasks: BTreeMap<TaskId, (TaskMeter, Instant)>,
    hosts: BTreeMap<HostKey, HostMeter>,
    seeds: std::collections::BTreeSet<HostKey>,
    edges: BTreeMap<TaskId, BTreeMap<(HostKey, HostKey), EdgeMeter>>,
}

impl Meter {
    /// A granted transfer ended.
    pub(super) fn ended(&mut self, now: Instant, transfer: &Transfer, is_finished: bool) {
        let Transfer { task, parent, child, bytes } = *transfer;
        if let Some(edges) = self.edges.get_mut(&task)
            && (edges.len() < EDGE_LIMIT || edges.contains_key(&(parent, child)))
        {
            let edge = edges.entry((parent, child)).or_default();
            if is_finished {
                edge.finished += 1;
                edge.flow.add(now, bytes);
            } else {
                edge.failed += 1;
            }
        }
        if !is_finished {
            self.failed += 1;
            return;
        }
        self.peer.add(now, bytes);
        if self.seeds.contains(&parent) {
            self.seed.add(now, bytes);
        }
        self.with_task(now, task, |meter| meter.peer.add(now, bytes));
        self.with_host(parent, |meter| meter.sent.add(now, bytes));
        self.with_host(child, |meter| meter.received.add(now, bytes));
    }

    /// A piece came from a source.
    pub(super) fn fetched(&mut self, now: Instant, task: TaskId, host: HostKey, bytes: u64) {
        self.source.add(now, bytes);
        self.with_task(now, task, |meter| meter.source.add(now, bytes));
        self.with_host(host, |meter| meter.source.add(now, bytes));
    }

    fn with_task(&mut self, now: Instant, task: TaskId, count: impl FnOnce(&mut TaskMeter)) {
        if self.tasks.len() < TASK_LIMIT || self.tasks.contains_key(&task) {
            count(&mut self.tasks.entry(task).or_insert_with(|| (TaskMeter::default(), now)).0);
        }
    }

    fn with_host(&mut self, host: HostKey, count: impl FnOnce(&mut HostMeter)) {
        if self.hosts.len() < HOST_LIMIT || self.hosts.contains_key(&host) {
            count(self.hosts.entry(host).or_default());
        }
    }

    /// What is counted of a task, and since when.
    pub(super) fn task(&self, task: &TaskId) -> (TaskMeter, Option<Instant>) {
        self.tasks.get(task).map_or((TaskMeter::default(), None), |(meter, since)| (*meter, Some(*since)))
    }

    /// What is counted of a host.
    pub(super) fn host(&self, host: HostKey) -> HostMeter {
        self.hosts.get(&host).copied().unwrap_or_default()
    }

    /// A seed joined.
    pub(super) fn note_seed(&mut self, host: HostKey) {
        if self.seeds.len() < HOST_LIMIT {
            self.seeds.insert(host);
        }
    }

    /// A host is gone.
    pub(super) fn forget_host(&mut self, host: HostKey) {
        self.hosts.remove(&host);
        self.seeds.remove(&host);
        self.edges.values_mut().for_each(|edges| edges.retain(|(parent, child), _| *parent != host && *child != host));
    }

    /// Forgets tasks that are gone.
    pub(super) fn keep_tasks(&mut self, is_there: impl Fn(&TaskId) -> bool) {
        self.tasks.retain(|task, _| is_there(task));
    }

    /// Counts pairs of hosts in a task from now on.
    pub(super) fn watch(&mut self, task: TaskId) {
        if self.edges.len() < WATCHED_LIMIT {
            self.edges.entry(task).or_default();
        }
    }

    /// And no more.
    pub(super) fn unwatch(&mut self, task: &TaskId) {
        self.edges.remove(task);
    }

    /// What is counted of pairs of hosts in a watched task.
    pub(super) fn edges(&self, task: &TaskId) -> BTreeMap<(HostKey, HostKey), EdgeMeter> {
        self.edges.get(task).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn a_rate_is_the_mean_of_the_latest_seconds_and_falls_to_nothing() {
        let mut flow = Flow::default();
        for ms in (0..5000).step_by(100) {
            flow.add(at(ms), 100);
        }
        assert_eq!(flow.rate(at(4999)), 1000);
        assert_eq!(flow.rate(at(6500)), 600);
        assert_eq!(flow.rate(at(9_999)), 0);
        assert_eq!(flow.bytes, 5000);
        flow.add(at(1_000_000), 10);
        assert_eq!(flow.rate(at(1_000_100)), 2);
    }
}
