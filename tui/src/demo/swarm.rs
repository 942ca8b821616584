//! Made-up swarms: how tasks go on, and one of them closely.

use super::{below, mixed};
use crate::model::{Cell, Edge, Mark, Role, Snapshot, State, Task, TaskPeer, TaskView};

/// Peers and cells that are shown at most.
const PEER_LIMIT: usize = 500;
const CELL_LIMIT: u64 = 4096;

/// Children of one parent.
const FAN_OUT: usize = 3;

/// How far a task is, in thousandths; beyond 1000 it rests before it begins anew.
fn progress(seed: u64, at: u64, second: u64) -> u64 {
    let speed = 2 + below(seed, at + 400, 12);
    (below(seed, at + 200, 1300) + second * speed) % 1500
}

/// Where a task is at a second.
pub(super) fn advance(seed: u64, at: u64, second: u64, task: &mut Task) {
    let now = progress(seed, at, second);
    let done = u32::try_from(now.min(1000)).unwrap_or(1000);
    let is_failed = at % 11 == 9;
    let is_running = done < 1000 && !is_failed;
    task.done_per_mille = if is_failed { 40 } else { done };
    task.complete_peers = if is_running { task.peers * done.saturating_sub(500) / 1000 } else { task.peers };
    task.state = match (is_failed, is_running) {
        (true, _) => State::new(Mark::Bad, "failed"),
        (_, true) => State::new(Mark::Busy, "running"),
        _ => State::new(Mark::Idle, "idle"),
    };
    if is_failed {
        task.complete_peers = 0;
        task.failure = "the source answered 503 four times".to_owned();
    }
    let wobble = 60 + below(seed ^ at, second, 40);
    let each = (below(seed, at + 300, 24) + 4) << 20;
    let busy_peers = u64::from(task.peers - task.complete_peers.min(task.peers));
    task.rate_bytes_per_sec = if is_running { busy_peers * each * wobble / 100 } else { 0 };
    // The source is read once, at the beginning.
    task.source_bytes_per_sec = if is_running && done < 300 { task.rate_bytes_per_sec.min(wobble << 20) } else { 0 };
    task.download_bytes += task.rate_bytes_per_sec;
    task.source_bytes += task.source_bytes_per_sec;
    let left =
        task.content_length.unwrap_or_default() * u64::from(task.peers) / 1000 * u64::from(1000 - done.min(1000));
    task.left_s = left.checked_div(task.rate_bytes_per_sec);
    task.rarest_copies = if is_running { 1 + task.peers * done / 4000 } else { task.peers };
}

/// How much the peer at a place of the tree has.
fn done_of(seed: u64, at: u64, place: usize, task: &Task) -> u32 {
    if place == 0 {
        return 1000;
    }
    let depth = (place + 1).ilog(FAN_OUT + 1) + 1;
    let behind = u64::from(depth) * 40 + below(seed ^ at, place as u64, 60);
    let done = u64::from(task.done_per_mille) * 1060 / 1000;
    u32::try_from(done.saturating_sub(if task.done_per_mille >= 1000 { 0 } else { behind }).min(1000)).unwrap_or(1000)
}

/// A task closely, with the pieces of `shown` or of the peer that has the least.
pub(super) fn view(seed: u64, at: u64, shown: Option<&str>, snapshot: &Snapshot) -> TaskView {
    let task = snapshot.tasks.get(usize::try_from(at).unwrap_or_default()).cloned().unwrap_or_default();
    let hosts = &snapshot.hosts;
    // One seed peer, then peers from some place on.
    let count = usize::try_from(task.peers).unwrap_or_default().min(PEER_LIMIT).min(hosts.len());
    let first = usize::try_from(mixed(seed, at)).unwrap_or_default();
    let peers_only = hosts.len().saturating_sub(3).max(1);
    let place_of = |place: usize| if place == 0 { first % 3 } else { 3 + (first + place) % peers_only };
    let swarm: Vec<_> = (0..count).filter_map(|place| Some((place, hosts.get(place_of(place))?))).collect();
    let peers: Vec<TaskPeer> = swarm
        .iter()
        .map(|(place, host)| {
            let done = done_of(seed, at, *place, &task);
            TaskPeer {
                host: host.id.clone(),
                hostname: host.hostname.clone(),
                role: host.role,
                idc: host.idc.clone(),
                held_pieces: task.total_pieces * done / 1000,
                done_per_mille: done,
                download_bytes_per_sec: host.download_bytes_per_sec.min(task.rate_bytes_per_sec),
                upload_bytes_per_sec: host.upload_bytes_per_sec.min(task.rate_bytes_per_sec),
                state: host.state.clone(),
            }
        })
        .collect();
    let edges = edges(&swarm, &task);
    let shown = shown.and_then(|id| peers.iter().position(|peer| peer.host == id));
    let least = (0..peers.len()).min_by_key(|at| peers.get(*at).map_or(0, |peer| peer.done_per_mille));
    let place = shown.or(least).unwrap_or_default();
    let pieces = u64::from(task.total_pieces).min(CELL_LIMIT);
    let cells = (0..pieces).map(|piece| cell(seed, at, place, piece, &task)).collect();
    let copies: Vec<u32> = (0..pieces).map(|piece| copies(seed, at, piece, &peers)).collect();
    let mut rarest: Vec<(u32, u32)> = (0..).zip(copies.iter().copied()).collect();
    rarest.sort_by_key(|(piece, copies)| (*copies, *piece));
    rarest.truncate(8);
    let (host, hostname) = peers.get(place).map(|peer| (peer.host.clone(), peer.hostname.clone())).unwrap_or_default();
    let more_peers = task.peers - u32::try_from(peers.len()).unwrap_or_default().min(task.peers);
    TaskView { task, host, hostname, pieces_per_cell: 1, cells, copies, rarest, peers, edges, more_peers }
}

fn has(seed: u64, at: u64, place: usize, piece: u64, done: u32) -> bool {
    below(seed ^ at, piece * 1009 + place as u64, 1000) < u64::from(done)
}

fn cell(seed: u64, at: u64, place: usize, piece: u64, task: &Task) -> Cell {
    let done = done_of(seed, at, place, task);
    if has(seed, at, place, piece, done) {
        Cell::Have
    } else if below(seed, piece + 9, 40) == 0 && task.state.mark == Mark::Busy {
        Cell::Asked
    } else if below(seed, piece + 8, 150) == 0 {
        Cell::Bad
    } else {
        Cell::None
    }
}

fn copies(seed: u64, at: u64, piece: u64, peers: &[TaskPeer]) -> u32 {
    let held = peers.iter().enumerate().filter(|(place, peer)| has(seed, at, *place, piece, peer.done_per_mille));
    u32::try_from(held.count()).unwrap_or(u32::MAX)
}

fn edges(swarm: &[(usize, &crate::model::Host)], task: &Task) -> Vec<Edge> {
    let edge = |parent: Option<&crate::model::Host>, child: &crate::model::Host, share: u64| {
        let is_listed = parent.is_some_and(|parent| parent.is_isolated);
        let rate = child.download_bytes_per_sec.min(task.rate_bytes_per_sec) / share;
        let state = match (is_listed, rate) {
            (true, _) => State::new(Mark::Bad, "local blacklist"),
            (_, 0) => State::new(Mark::Idle, "idle"),
            _ => State::new(Mark::Busy, "active"),
        };
        Edge {
            parent: parent.map(|parent| parent.id.clone()).unwrap_or_default(),
            parent_name: parent.map_or_else(|| "source".to_owned(), |parent| parent.hostname.clone()),
            role: parent.map(|parent| parent.role),
            idc: parent.map(|parent| parent.idc.clone()).unwrap_or_default(),
            child: child.id.clone(),
            transfers: u32::from(rate > 0 && !is_listed),
            pieces: task.total_pieces * task.done_per_mille / 1000 / u32::try_from(share).unwrap_or(1),
            failures: if is_listed { 5 } else { 0 },
            rate_bytes_per_sec: if is_listed { 0 } else { rate },
            state,
        }
    };
    let mut edges = Vec::new();
    for (place, child) in swarm {
        let host_at = |place: usize| swarm.get(place).map(|(_, host)| *host);
        match place {
            0 => edges.push(edge(None, child, 1)),
            _ if child.role == Role::Seed => {}
            _ => {
                let parent = (place - 1) / FAN_OUT;
                edges.push(edge(host_at(parent), child, 1));
                if parent > 0 && parent + 1 < *place {
                    edges.push(edge(host_at(parent + 1), child, 3));
                }
            }
        }
    }
    edges
}
