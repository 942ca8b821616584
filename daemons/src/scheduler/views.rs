//! What is shown of this scheduler's swarms: rows for lists, and one task closely.

use std::collections::BTreeMap;
use std::time::Duration;

use df_api::manager as wire;
use df_core::id::{HostId, TaskId};
use df_core::scheduler::{HostKey, HostKind, HostRow, MemberRow, PieceState, Scheduler, TaskRow};
use df_core::time::Instant;

use super::stream::Books;
use crate::env::Clock;

/// Rows of each list.
const TASK_LIMIT: usize = 1000;
const HOST_LIMIT: usize = 2000;
const LISTED_LIMIT: usize = 1000;

/// Rows of one task.
const PEER_LIMIT: usize = 500;
const EDGE_LIMIT: usize = 2000;
const RAREST_LIMIT: usize = 8;

/// Cells in which the pieces of a task are shown.
const CELL_LIMIT: u32 = 4096;

/// Strikes that list a host (Dragonfly's threshold, as the machine has it).
const STRIKE_LIMIT: u32 = df_core::blacklist::BlacklistPolicy::GLOBAL.point_threshold;

/// What instants are on the wall.
#[derive(Clone, Copy)]
pub(super) struct Wall {
    now: Instant,
    ms: u64,
}

impl Wall {
    pub(super) fn of(clock: &Clock) -> Self {
        Self { now: clock.now(), ms: ms(clock.wall()) }
    }

    fn at(self, instant: Instant) -> u64 {
        match instant >= self.now {
            true => self.ms.saturating_add(ms(instant - self.now)),
            false => self.ms.saturating_sub(ms(self.now - instant)),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// All lists.
pub(super) fn view(machine: &Scheduler, books: &mut Books, wall: Wall) -> wire::SchedulerView {
    let tasks: Vec<TaskRow> = machine.task_rows().collect();
    let hosts: Vec<HostRow> = machine.host_rows(wall.now).collect();
    let there: std::collections::BTreeSet<TaskId> = tasks.iter().map(|row| row.task).collect();
    books.meter.keep_tasks(|task| there.contains(task));
    let totals = totals(machine, books, &tasks, &hosts, wall.now);
    let mut task_rows: Vec<wire::TaskRow> = tasks.iter().map(|row| task_message(books, row, wall)).collect();
    let rate = |row: &wire::TaskRow| row.peer_rate_bytes_per_sec + row.source_rate_bytes_per_sec;
    task_rows.sort_by(|a, b| (rate(b), b.peers, &a.task_id).cmp(&(rate(a), a.peers, &b.task_id)));
    task_rows.truncate(TASK_LIMIT);
    let mut host_rows: Vec<wire::HostRow> = hosts.iter().map(|row| host_message(books, row, wall)).collect();
    host_rows.extend(held_hosts(books, &hosts, wall));
    host_rows.sort_by(|a, b| (&a.hostname, &a.host_id).cmp(&(&b.hostname, &b.host_id)));
    host_rows.truncate(HOST_LIMIT);
    let mut blacklist = listed(machine, books, &hosts, wall);
    blacklist.sort_by_key(|row| std::cmp::Reverse(row.since_at_ms));
    blacklist.truncate(LISTED_LIMIT);
    wire::SchedulerView { taken_at_ms: wall.ms, totals: Some(totals), tasks: task_rows, hosts: host_rows, blacklist }
}

fn totals(machine: &Scheduler, books: &Books, tasks: &[TaskRow], hosts: &[HostRow], now: Instant) -> wire::Totals {
    let meter = &books.meter;
    let own = hosts.iter().filter(|row| books.about(row.key).is_some()).count();
    wire::Totals {
        tasks: tasks.len() as u64,
        hosts: hosts.len() as u64,
        seeds: hosts.iter().filter(|row| row.info.kind == HostKind::Seed).count() as u64,
        v1_hosts: (hosts.len() - own) as u64,
        downloading_peers: tasks.iter().map(|row| u64::from(row.wanting)).sum(),
        transfers: machine.sizes()[3] as u64,
        peer_rate_bytes_per_sec: meter.peer.rate(now),
        seed_rate_bytes_per_sec: meter.seed.rate(now),
        source_rate_bytes_per_sec: meter.source.rate(now),
        peer_bytes: meter.peer.bytes,
        seed_bytes: meter.seed.bytes,
        source_bytes: meter.source.bytes,
        failed_transfers: meter.failed,
    }
}

fn task_message(books: &Books, row: &TaskRow, wall: Wall) -> wire::TaskRow {
    let (meter, since) = books.meter.task(&row.task);
    let plan = row.plan;
    let content_len = plan.and_then(|plan| plan.content_len());
    let pieces = plan.and_then(|plan| plan.count()).unwrap_or(0);
    let (peer_rate, source_rate) = (meter.peer.rate(wall.now), meter.source.rate(wall.now));
    let all = u64::from(pieces) * u64::from(row.peers);
    let missing = content_len.map(|len| len.saturating_mul(all.saturating_sub(row.held)) / u64::from(pieces.max(1)));
    let left_ms = missing.filter(|bytes| *bytes > 0 && peer_rate + source_rate > 0 && row.wanting > 0);
    let shown = books.shown(&row.task);
    let failure = shown.as_ref().and_then(|(_, wish)| wish.failure.as_ref()).map(ToString::to_string);
    let state = match &failure {
        _ if row.wanting > 0 => wire::TaskState::Running,
        Some(_) if row.complete == 0 => wire::TaskState::Failed,
        _ => wire::TaskState::Idle,
    };
    let (url, cid, tag, application) = match shown {
        Some((url, wish)) => (url, wish.cid.clone(), wish.meta.tag.clone(), wish.meta.application.clone()),
        None => Default::default(),
    };
    wire::TaskRow {
        task_id: row.task.as_bytes().to_vec(),
        url,
        cid,
        tag,
        application,
        state: state.into(),
        content_length: content_len,
        piece_length: plan.map_or(0, |plan| plan.piece_len()),
        pieces,
        peers: row.peers,
        done_peers: row.complete,
        seeds: row.seeds,
        progress_permille: u32::try_from(row.held.saturating_mul(1000) / all.max(1)).unwrap_or(1000).min(1000),
        peer_rate_bytes_per_sec: peer_rate,
        source_rate_bytes_per_sec: source_rate,
        peer_bytes: meter.peer.bytes,
        source_bytes: meter.source.bytes,
        rarest_copies: row.fewest_copies,
        replicas: 0,
        begun_at_ms: since.map_or(0, |since| wall.at(since)),
        left_ms: left_ms.map(|bytes| bytes.saturating_mul(1000) / (peer_rate + source_rate)),
        failure: failure.unwrap_or_default(),
        scheduler: String::new(),
    }
}

fn host_message(books: &Books, row: &HostRow, wall: Wall) -> wire::HostRow {
    let meter = books.meter.host(row.key);
    let (state, reason) = match (row.listed_until, row.is_isolated) {
        (Some(_), _) => (wire::HostState::Blacklisted, "several hosts had trouble with it"),
        (None, true) => (wire::HostState::Isolated, "it had trouble with several hosts"),
        (None, false) => (wire::HostState::Healthy, ""),
    };
    let message = wire::HostRow {
        host_id: row.info.id.as_bytes().to_vec(),
        is_seed: row.info.kind == HostKind::Seed,
        state: state.into(),
        reason: reason.to_owned(),
        uploads: row.uploads,
        upload_limit: row.info.upload_limit,
        downloads: row.downloads,
        download_limit: row.info.download_limit,
        upload_rate_bytes_per_sec: meter.sent.rate(wall.now),
        download_rate_bytes_per_sec: meter.received.rate(wall.now) + meter.source.rate(wall.now),
        source_rate_bytes_per_sec: meter.source.rate(wall.now),
        tasks: row.tasks,
        running_tasks: row.wanting,
        uploaded_bytes: meter.sent.bytes,
        downloaded_bytes: meter.received.bytes + meter.source.bytes,
        ..wire::HostRow::default()
    };
    match books.about(row.key) {
        Some((about, parent)) => wire::HostRow {
            hostname: about.hostname.clone(),
            ip: parent.ip.clone(),
            rpc_port: parent.rpc_port,
            piece_port: parent.piece_port,
            idc: about.idc.clone(),
            location: about.location.clone(),
            connected_at_ms: wall.at(about.connected),
            ..message
        },
        None => wire::HostRow { is_v1: true, hostname: row.info.id.to_string(), ..message },
    }
}

/// Hosts that an operator took out: they are not connected.
fn held_hosts(books: &Books, hosts: &[HostRow], wall: Wall) -> Vec<wire::HostRow> {
    let is_there = |id: &HostId| hosts.iter().any(|row| row.info.id == *id);
    let row = |(id, held): (&HostId, &super::stream::Held)| wire::HostRow {
        host_id: id.as_bytes().to_vec(),
        hostname: held.hostname.clone(),
        state: wire::HostState::Held.into(),
        reason: held.reason.clone(),
        ..wire::HostRow::default()
    };
    books.held(wall.now).filter(|(id, _)| !is_there(id)).map(row).collect()
}

fn listed(machine: &Scheduler, books: &Books, hosts: &[HostRow], wall: Wall) -> Vec<wire::BlacklistRow> {
    let row = |host: HostKey, scope: wire::BlacklistScope| {
        let id = machine.host(host).map_or_else(Vec::new, |info| info.id.as_bytes().to_vec());
        let hostname = books.about(host).map_or_else(String::new, |(about, _)| about.hostname.clone());
        wire::BlacklistRow { host_id: id, hostname, scope: scope.into(), ..wire::BlacklistRow::default() }
    };
    let mut rows = Vec::new();
    for host in hosts {
        if let Some(until) = host.listed_until {
            let since = books.about(host.key).and_then(|(about, _)| about.listed);
            rows.push(wire::BlacklistRow {
                since_at_ms: since.map_or(0, |since| wall.at(since)),
                strikes: STRIKE_LIMIT,
                strike_limit: STRIKE_LIMIT,
                reason: "several hosts had trouble with it".to_owned(),
                expires_at_ms: Some(wall.at(until)),
                ..row(host.key, wire::BlacklistScope::Global)
            });
        } else if host.is_on_parole {
            let global = row(host.key, wire::BlacklistScope::Global);
            rows.push(wire::BlacklistRow { is_on_parole: true, reason: "on parole".to_owned(), ..global });
        }
        if host.is_isolated {
            let reason = "it had trouble with several hosts: it fetches from seeds and sources alone".to_owned();
            rows.push(wire::BlacklistRow { reason, ..row(host.key, wire::BlacklistScope::Self_) });
        }
    }
    for ((child, parent), until) in machine.listed_pairs(wall.now).take(LISTED_LIMIT) {
        let by = books.about(child).map_or_else(String::new, |(about, _)| about.hostname.clone());
        rows.push(wire::BlacklistRow {
            accusers: vec![by],
            reason: "transfers failed".to_owned(),
            expires_at_ms: Some(wall.at(until)),
            ..row(parent, wire::BlacklistScope::Local)
        });
    }
    for (id, held) in books.held(wall.now) {
        rows.push(wire::BlacklistRow {
            host_id: id.as_bytes().to_vec(),
            hostname: held.hostname.clone(),
            scope: wire::BlacklistScope::Operator.into(),
            since_at_ms: wall.at(held.since),
            reason: held.reason.clone(),
            expires_at_ms: held.until.map(|until| wall.at(until)),
            ..wire::BlacklistRow::default()
        });
    }
    rows
}

/// One task, closely; `shown` is the host whose pieces are wanted.
pub(super) fn task(
    machine: &Scheduler,
    books: &mut Books,
    task: &TaskId,
    shown: Option<HostId>,
    wall: Wall,
) -> wire::TaskView {
    books.meter.watch(*task);
    let empty = wire::TaskView { taken_at_ms: wall.ms, ..wire::TaskView::default() };
    let Some(row) = machine.task_rows().find(|row| row.task == *task) else { return empty };
    let mut members: Vec<MemberRow> = machine.members_of(task).collect();
    members.sort_by_key(|member| (member.held, member.host));
    let is_shown = |member: &&MemberRow| machine.host(member.host).map(|info| info.id) == shown;
    let shown = members.iter().find(is_shown).or(members.first()).copied();
    let (edges, more_edges) = edges(machine, books, task, wall.now);
    let mut view = wire::TaskView {
        row: Some(task_message(books, &row, wall)),
        peers: members.iter().take(PEER_LIMIT).map(|member| peer_message(machine, books, member, wall)).collect(),
        more_peers: count(members.len().saturating_sub(PEER_LIMIT)),
        edges,
        more_edges,
        ..empty
    };
    if let Some(shown) = shown {
        view.shown_host_id = machine.host(shown.host).map_or_else(Vec::new, |info| info.id.as_bytes().to_vec());
        view.shown_host = books.about(shown.host).map_or_else(String::new, |(about, _)| about.hostname.clone());
    }
    cells(machine, &row, shown.as_ref(), &mut view);
    view
}

/// How many copies there are of each piece, and what one host has.
fn cells(machine: &Scheduler, row: &TaskRow, shown: Option<&MemberRow>, view: &mut wire::TaskView) {
    let Some(plan) = row.plan.filter(|plan| plan.count().is_some_and(|count| count > 0)) else { return };
    let pieces = plan.count().unwrap_or(0);
    view.pieces_per_cell = pieces.div_ceil(CELL_LIMIT);
    let mut rarest: Vec<wire::RarePiece> = Vec::new();
    let numbers: Vec<_> = plan.pieces().collect();
    for cell in numbers.chunks(view.pieces_per_cell.max(1) as usize) {
        let (mut fewest, mut held, mut coming) = (u32::MAX, 0, 0);
        for piece in cell {
            let copies = machine.copies_of(&row.task, *piece);
            fewest = fewest.min(copies);
            match shown.map_or(PieceState::Missing, |shown| machine.piece_state(shown.peer, *piece)) {
                PieceState::Held => held += 1,
                PieceState::Coming => coming += 1,
                PieceState::Missing => {}
            }
            if copies < row.peers {
                rarest.push(wire::RarePiece { piece: piece.get(), copies });
            }
        }
        let state = match (held, coming) {
            (held, _) if held == cell.len() => wire::CellState::Have,
            (1.., _) => wire::CellState::Partly,
            (0, 1..) => wire::CellState::Asked,
            (0, _) => wire::CellState::None,
        };
        view.copies.push(fewest);
        view.cells.push(state as u8);
    }
    rarest.sort_by_key(|rare| (rare.copies, rare.piece));
    rarest.truncate(RAREST_LIMIT);
    view.rarest = rarest;
}

fn peer_message(machine: &Scheduler, books: &Books, member: &MemberRow, wall: Wall) -> wire::TaskPeer {
    let meter = books.meter.host(member.host);
    let info = machine.host(member.host);
    let message = wire::TaskPeer {
        host_id: info.map_or_else(Vec::new, |info| info.id.as_bytes().to_vec()),
        is_seed: info.is_some_and(|info| info.kind == HostKind::Seed),
        held_pieces: member.held,
        is_wanting: member.is_wanting,
        is_at_source: member.is_at_source,
        download_rate_bytes_per_sec: meter.received.rate(wall.now) + meter.source.rate(wall.now),
        upload_rate_bytes_per_sec: meter.sent.rate(wall.now),
        ..wire::TaskPeer::default()
    };
    let Some((about, parent)) = books.about(member.host) else { return message };
    wire::TaskPeer {
        hostname: about.hostname.clone(),
        ip: parent.ip.clone(),
        idc: about.idc.clone(),
        location: about.location.clone(),
        ..message
    }
}

fn edges(machine: &Scheduler, books: &Books, task: &TaskId, now: Instant) -> (Vec<wire::TaskEdge>, u32) {
    let mut all: BTreeMap<(HostKey, HostKey), wire::TaskEdge> = BTreeMap::new();
    for (pair, meter) in books.meter.edges(task) {
        let edge = all.entry(pair).or_default();
        (edge.finished_pieces, edge.failed_pieces) = (meter.finished, meter.failed);
        edge.rate_bytes_per_sec = meter.flow.rate(now);
    }
    for (pair, transfers) in machine.edges_of(task) {
        all.entry(pair).or_default().transfers = transfers;
    }
    let id = |host: HostKey| machine.host(host).map(|info| info.id.as_bytes().to_vec());
    let listed: std::collections::BTreeSet<_> =
        machine.listed_pairs(now).map(|((child, parent), _)| (parent, child)).collect();
    let mut rows: Vec<wire::TaskEdge> = all
        .into_iter()
        .filter_map(|((parent, child), edge)| {
            let is_listed = listed.contains(&(parent, child));
            Some(wire::TaskEdge { parent_host_id: id(parent)?, child_host_id: id(child)?, is_listed, ..edge })
        })
        .collect();
    for member in machine.members_of(task).filter(|member| member.is_at_source) {
        let rate = books.meter.host(member.host).source.rate(now);
        let child_host_id = id(member.host).unwrap_or_default();
        rows.push(wire::TaskEdge {
            child_host_id,
            rate_bytes_per_sec: rate,
            transfers: 1,
            ..wire::TaskEdge::default()
        });
    }
    rows.sort_by_key(|edge| std::cmp::Reverse((edge.transfers, edge.rate_bytes_per_sec, edge.finished_pieces)));
    let more = rows.len().saturating_sub(EDGE_LIMIT);
    rows.truncate(EDGE_LIMIT);
    (rows, count(more))
}
