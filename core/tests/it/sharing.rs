//! What hosts share: a parent's uplink among tasks and children, and the scheduler's memory.

use std::collections::BTreeMap;

use df_core::id::{HostId, PeerId, PieceDigest, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::scheduler::{
    Cached, GrantKey, HostInfo, HostKey, HostKind, Input, Mode, Output, PeerKey, Registration, RequestId, Scheduler,
    SchedulerConfig, Zone,
};
use df_core::time::{Duration, Instant};

/// Holders and children of several tasks around one scheduler; every granted transfer takes a tenth of
/// a second, one after another.
struct Market {
    scheduler: Scheduler,
    plan: PiecePlan,
    now: Instant,
    hosts: Vec<HostKey>,
    tasks: BTreeMap<PeerKey, u8>,
    under_way: Vec<(PeerKey, GrantKey)>,
    /// Pieces delivered to each peer.
    delivered: BTreeMap<PeerKey, u32>,
    /// Grants from each peer.
    sent: BTreeMap<PeerKey, u32>,
}

impl Market {
    fn new(pieces: u32) -> Self {
        Self {
            scheduler: Scheduler::new(SchedulerConfig::default(), 1),
            plan: PiecePlan::with_piece_len(u64::from(pieces) << 20, 1 << 20).unwrap(),
            now: Instant::from_micros(1),
            hosts: Vec::new(),
            tasks: BTreeMap::new(),
            under_way: Vec::new(),
            delivered: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.scheduler.handle_input(self.now, input);
        std::iter::from_fn(|| self.scheduler.poll_output()).collect()
    }

    fn host(&mut self) -> HostKey {
        let number = self.hosts.len() as u16;
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_le_bytes());
        let info = HostInfo {
            id: HostId::from_bytes(id),
            incarnation: 1,
            kind: HostKind::Normal,
            zone: Zone(0),
            upload_limit: 4,
            download_limit: 4,
        };
        let outputs = self.tell(Input::HostAnnounced { request: RequestId(0), info });
        let key = outputs.iter().find_map(|output| match output {
            Output::HostAccepted { host, .. } => Some(*host),
            _ => None,
        });
        self.hosts.push(key.unwrap());
        key.unwrap()
    }

    /// A host joins a task, as a holder of everything or wanting everything.
    fn join(&mut self, host: HostKey, task: u8, is_holder: bool) {
        let held: PieceSet = if is_holder { PieceSet::all(&self.plan) } else { PieceSet::new() };
        let digests = held.iter().map(|piece| (piece.get(), PieceDigest::from_bytes([task; 32]))).collect();
        let outputs = self.tell(Input::PeerRegistered(Box::new(Registration {
            request: RequestId(1),
            host,
            peer: PeerId::from_bytes([task; 16]),
            task: TaskId::from_bytes([task; 32]),
            plan: is_holder.then_some(self.plan),
            held,
            digests,
            version: 0,
            is_wanting: !is_holder,
            has_source: false,
            can_fetch_source: false,
            wakes_seeds: true,
            cached: is_holder.then_some(Cached { is_imported: true, replicas: 1, stamp: 1 }),
            order: Order::RarestFirst,
            mode: Mode::Granted,
        })));
        for output in &outputs {
            if let Output::Registered { peer, .. } = output {
                self.tasks.insert(*peer, task);
            }
        }
        self.note(&outputs);
    }

    fn note(&mut self, outputs: &[Output]) {
        for output in outputs {
            if let Output::Grant { peer, grant, parent, .. } = *output {
                self.under_way.push((peer, grant));
                *self.sent.entry(parent).or_default() += 1;
            }
        }
    }

    /// A tenth of a second: everything under way arrives. False once nothing is.
    fn step(&mut self) -> bool {
        self.now += Duration::from_millis(100);
        let due = std::mem::take(&mut self.under_way);
        for (peer, grant) in &due {
            *self.delivered.entry(*peer).or_default() += 1;
            let outputs = self.tell(Input::PieceFinished { grant: *grant });
            self.note(&outputs);
        }
        !due.is_empty()
    }
}

#[test]
fn the_tasks_of_a_parent_take_turns_whatever_their_children() {
    let mut market = Market::new(64);
    let parent = market.host();
    market.join(parent, 1, true);
    market.join(parent, 2, true);
    let holders: BTreeMap<u8, PeerKey> = market.tasks.iter().map(|(peer, task)| (*task, *peer)).collect();
    let holder = |task: u8| holders[&task];
    for child in 0..8 {
        let host = market.host();
        // Six want the one, two the other.
        market.join(host, if child < 6 { 1 } else { 2 }, false);
    }
    (0..20).for_each(|_| _ = market.step());
    let of = |task: u8| market.sent.iter().find(|(peer, _)| market.tasks[peer] == task && **peer == holder(task));
    let (many, few) = (of(1).map_or(0, |sent| *sent.1), of(2).map_or(0, |sent| *sent.1));
    assert!(many.abs_diff(few) <= 4 && few >= 8, "{few} for the task of two, {many} for the other");
}

#[test]
fn the_children_of_a_parent_get_on_alike() {
    let mut market = Market::new(64);
    let parent = market.host();
    market.join(parent, 1, true);
    for _ in 0..6 {
        let host = market.host();
        market.join(host, 1, false);
    }
    for _ in 0..30 {
        market.step();
        let counts: Vec<u32> = market.delivered.values().copied().collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 4), "{counts:?}");
    }
}

#[test]
fn granting_in_the_middle_of_a_download_allocates_next_to_nothing() {
    let mut market = Market::new(512);
    let parent = market.host();
    market.join(parent, 1, true);
    for _ in 0..64 {
        let host = market.host();
        market.join(host, 1, false);
    }
    // Let tables and queues reach their size.
    (0..100).for_each(|_| _ = market.step());
    let mut grants = 0;
    let mut allocations = 0;
    for _ in 0..100 {
        market.now += Duration::from_millis(100);
        let due = std::mem::take(&mut market.under_way);
        let mut next = Vec::with_capacity(4096);
        let (scheduler, now) = (&mut market.scheduler, market.now);
        allocations += allocation_counter::measure(|| {
            for (_, grant) in &due {
                scheduler.handle_input(now, Input::PieceFinished { grant: *grant });
                while let Some(output) = scheduler.poll_output() {
                    if let Output::Grant { peer, grant, .. } = output {
                        next.push((peer, grant));
                    }
                }
            }
        })
        .count_total;
        grants += next.len() as u64;
        market.under_way = next;
    }
    assert!(grants > 2_000, "{grants} grants");
    assert!(allocations * 100 <= grants, "{allocations} allocations for {grants} grants");
}

#[test]
fn whoever_is_gone_leaves_nothing_behind() {
    let config = SchedulerConfig::default();
    let mut market = Market::new(16);
    let parent = market.host();
    for task in 0..5 {
        market.join(parent, task, true);
        for _ in 0..3 {
            let host = market.host();
            market.join(host, task, false);
        }
    }
    (0..4).for_each(|_| _ = market.step());
    for host in market.hosts.clone() {
        market.tell(Input::HostLeft { host });
    }
    let [hosts, tasks, peers, grants] = market.scheduler.sizes();
    assert_eq!([hosts, peers, grants], [0, 0, 0]);
    assert_eq!(tasks, 5, "remembered for those who come back");
    market.now += config.task_ttl + config.sweep_interval;
    for _ in 0..2 {
        market.now += config.sweep_interval;
        market.scheduler.handle_timeout(market.now);
    }
    assert_eq!(market.scheduler.sizes(), [0, 0, 0, 0]);
    assert!(market.scheduler.poll_timeout().is_none(), "nothing left to look after");
}
