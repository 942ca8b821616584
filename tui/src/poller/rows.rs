//! The manager's rows as the model has them.

use df_api::manager as pb;

use super::wire::{ago, hex, moment};
use crate::format;
use crate::model::{
    Attention, Cell, Cluster, Edge, Happening, Health, Host, Isolated, Job, JobPart, Limits, Mark, Member,
    PreheatScope, Role, Scope, State, Subject, Task, TaskPeer, TaskView, Token, User,
};

pub(super) fn task(row: pb::TaskRow) -> Task {
    let state = match row.state() {
        pb::TaskState::Idle => State::new(Mark::Idle, "idle"),
        pb::TaskState::Running => State::new(Mark::Busy, "running"),
        pb::TaskState::Failed => State::new(Mark::Bad, "failed"),
    };
    Task {
        id: hex(&row.task_id),
        url: if row.url.is_empty() { row.cid } else { row.url },
        state,
        content_length: row.content_length,
        piece_length: row.piece_length,
        total_pieces: row.pieces,
        tag: row.tag,
        application: row.application,
        scheduler: row.scheduler,
        peers: row.peers,
        complete_peers: row.done_peers,
        seeds: row.seeds,
        done_per_mille: row.progress_permille.min(1000),
        rate_bytes_per_sec: row.peer_rate_bytes_per_sec.saturating_add(row.source_rate_bytes_per_sec),
        source_bytes_per_sec: row.source_rate_bytes_per_sec,
        download_bytes: row.peer_bytes.saturating_add(row.source_bytes),
        source_bytes: row.source_bytes,
        rarest_copies: row.rarest_copies,
        left_s: row.left_ms.map(|ms| ms.div_ceil(1000)),
        begun_at: row.begun_at_ms / 1000,
        failure: row.failure,
    }
}

fn host_state(state: pb::HostState) -> State {
    match state {
        pb::HostState::Healthy => State::new(Mark::Good, "healthy"),
        pb::HostState::Blacklisted => State::new(Mark::Bad, "blacklisted"),
        pb::HostState::Isolated => State::new(Mark::Warn, "isolated"),
        pb::HostState::Held => State::new(Mark::Bad, "held"),
    }
}

const fn role(is_seed: bool) -> Role {
    if is_seed { Role::Seed } else { Role::Peer }
}

pub(super) fn host(row: pb::HostRow) -> Host {
    let state = row.state();
    Host {
        id: hex(&row.host_id),
        role: role(row.is_seed),
        state: host_state(state),
        is_isolated: state != pb::HostState::Healthy,
        hostname: row.hostname,
        ip: row.ip,
        idc: row.idc,
        location: row.location,
        slots_used: row.uploads,
        slots: row.upload_limit,
        download_bytes_per_sec: row.download_rate_bytes_per_sec,
        upload_bytes_per_sec: row.upload_rate_bytes_per_sec,
        source_bytes_per_sec: row.source_rate_bytes_per_sec,
        tasks: row.tasks,
        disk_used_bytes: row.disk_used_bytes,
        disk_bytes: row.disk_limit_bytes,
        scheduler: row.scheduler,
        reason: row.reason,
        downloaded_bytes: row.downloaded_bytes,
        uploaded_bytes: row.uploaded_bytes,
    }
}

pub(super) fn member(row: pb::MemberRow, now_ms: u64) -> Member {
    let role = match row.kind() {
        pb::MemberKind::Scheduler => Role::Scheduler,
        pb::MemberKind::SeedPeer => Role::Seed,
        pb::MemberKind::Peer => Role::Peer,
    };
    let state = match row.state() {
        pb::MemberState::Active if !row.refused.is_empty() => State::new(Mark::Warn, "refuses"),
        pb::MemberState::Active => State::new(Mark::Good, "active"),
        pb::MemberState::Lost => State::new(Mark::Bad, "lost"),
    };
    Member {
        id: row.id.to_string(),
        host: hex(&row.host_id),
        role,
        hostname: row.hostname,
        address: if row.ip.contains(':') {
            format!("[{}]:{}", row.ip, row.rpc_port)
        } else {
            format!("{}:{}", row.ip, row.rpc_port)
        },
        cluster: row.cluster,
        idc: row.idc,
        state,
        ring_per_mille: (role == Role::Scheduler).then_some(row.ring_permille),
        tasks: row.totals.as_ref().map(|totals| totals.tasks),
        peers: row.totals.as_ref().map(|totals| totals.hosts),
        silent_s: ago(now_ms, row.seen_at_ms),
        release: row.release,
        configuration: row.configuration_version,
        refused: row.refused,
    }
}

pub(crate) fn cluster(row: pb::Cluster) -> Cluster {
    let scopes = row.scopes.unwrap_or_default();
    Cluster {
        id: row.id.to_string(),
        name: row.name,
        description: row.description,
        is_default: row.is_default,
        idc: scopes.idc,
        location: scopes.location,
        cidrs: scopes.cidrs,
        hostnames: scopes.hostnames,
        schedulers: row.schedulers,
        seeds: row.seed_peers,
        peers: row.peers,
    }
}

pub(super) fn isolated(row: pb::BlacklistRow, now_ms: u64) -> Isolated {
    let scope = match row.scope() {
        pb::BlacklistScope::Global => Scope::Global,
        pb::BlacklistScope::Local => Scope::Local,
        pb::BlacklistScope::Self_ => Scope::Own,
        pb::BlacklistScope::Operator => Scope::Operator,
    };
    let by = match scope {
        Scope::Own => "itself".to_owned(),
        _ => row.accusers.join(" "),
    };
    Isolated {
        host: hex(&row.host_id),
        hostname: row.hostname,
        scope,
        since_s: ago(now_ms, row.since_at_ms),
        strikes: row.strikes,
        strike_limit: row.strike_limit,
        by,
        reason: row.reason,
        expires_s: row.expires_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms) / 1000),
        is_on_parole: row.is_on_parole,
    }
}

const fn mark(severity: pb::Severity) -> Mark {
    match severity {
        pb::Severity::Info => Mark::Idle,
        pb::Severity::Warning => Mark::Warn,
        pb::Severity::Error => Mark::Bad,
    }
}

pub(super) fn health(row: pb::Health) -> Health {
    let mark = match row.severity() {
        pb::Severity::Info => Mark::Good,
        severity => mark(severity),
    };
    Health { what: row.name, mark, well: row.good, all: row.all, note: row.text }
}

fn subject(host: &[u8], task: &[u8], job: u64, member: u64) -> Subject {
    match (host, task, job, member) {
        (_, [_, ..], ..) => Subject::Task(hex(task)),
        ([_, ..], ..) => Subject::Host(hex(host)),
        (_, _, 1.., _) => Subject::Job(job.to_string()),
        (.., 1..) => Subject::Member(member.to_string()),
        _ => Subject::None,
    }
}

pub(super) fn attention(row: pb::Attention) -> Attention {
    Attention {
        mark: mark(row.severity()),
        subject: subject(&row.host_id, &row.task_id, row.job_id, row.member_id),
        text: row.text,
    }
}

/// An event, as the list of events and `dfctl events` show it.
pub(crate) fn happening(event: pb::Event) -> Happening {
    Happening {
        number: event.sequence,
        happened_at: event.at_ms / 1000,
        subject: subject(&event.host_id, &event.task_id, event.job_id, 0),
        kind: State::new(mark(event.severity()), event.kind.clone()),
        place: if event.hostname.is_empty() { event.source } else { event.hostname },
        user: event.user,
        text: event.text,
    }
}

/// A job; without the manager's clock it took as long as it was changed after it began.
pub(crate) fn job(job: pb::Job, now_ms: u64) -> Job {
    let state = match job.state() {
        pb::JobState::Resolving => State::new(Mark::Busy, "resolving"),
        pb::JobState::Preheating => State::new(Mark::Busy, "preheating"),
        pb::JobState::Succeeded => State::new(Mark::Good, "succeeded"),
        pb::JobState::PartlySucceeded => State::new(Mark::Warn, "in part"),
        pb::JobState::JobFailed => State::new(Mark::Bad, "failed"),
        pb::JobState::Cancelled => State::new(Mark::Warn, "cancelled"),
        pb::JobState::TimedOut => State::new(Mark::Bad, "timed out"),
        pb::JobState::Planned => State::new(Mark::Good, "planned"),
    };
    let until_ms = if state.mark == Mark::Busy { now_ms.max(job.updated_at_ms) } else { job.updated_at_ms };
    let scope = match job.scope() {
        pb::PreheatScope::SingleSeedPeer => PreheatScope::SingleSeedPeer,
        pb::PreheatScope::AllSeedPeers => PreheatScope::AllSeedPeers,
        pb::PreheatScope::AllPeers => PreheatScope::AllPeers,
    };
    Job {
        id: job.id.to_string(),
        kind: if job.r#type() == pb::PreheatType::Image { "image".to_owned() } else { "file".to_owned() },
        state,
        url: job.urls.join(" "),
        scope,
        done_per_mille: job.progress_permille.min(1000),
        done: job.finished_parts.into(),
        failed: job.failed_parts.into(),
        all: job.part_count.into(),
        user: job.created_by,
        created_at: job.created_at_ms / 1000,
        taken_s: ago(until_ms, job.created_at_ms),
        error: job.failure,
        parts: job.parts.into_iter().map(part).collect(),
    }
}

fn part(part: pb::JobPart) -> JobPart {
    let state = match part.state() {
        pb::PartState::Queued => State::new(Mark::Idle, "queued"),
        pb::PartState::ActivePart => State::new(Mark::Busy, "active"),
        pb::PartState::PartSucceeded => State::new(Mark::Good, "succeeded"),
        pb::PartState::PartPartly => State::new(Mark::Warn, "in part"),
        pb::PartState::PartFailed => State::new(Mark::Bad, "failed"),
        pb::PartState::PartCancelled => State::new(Mark::Warn, "cancelled"),
    };
    let failed = part.target_list.iter().find(|target| !target.failure.is_empty());
    let error = match failed {
        Some(target) if part.failure.is_empty() => format!("{}: {}", target.hostname, target.failure),
        _ => part.failure,
    };
    JobPart {
        url: part.url,
        task_id: hex(&part.task_id),
        state,
        done: part.finished_targets.into(),
        failed: part.failed_targets.into(),
        all: part.targets.into(),
        error,
    }
}

pub(super) fn task_view(view: pb::TaskView) -> Option<TaskView> {
    let task = task(view.row?);
    let pieces = task.total_pieces;
    let peer = |peer: pb::TaskPeer| {
        let state = match peer.state() {
            pb::HostState::Healthy if peer.is_at_source => State::new(Mark::Busy, "at source"),
            pb::HostState::Healthy if peer.is_wanting => State::new(Mark::Busy, "running"),
            pb::HostState::Healthy => State::new(Mark::Good, "done"),
            state => host_state(state),
        };
        TaskPeer {
            host: hex(&peer.host_id),
            role: role(peer.is_seed),
            held_pieces: peer.held_pieces,
            done_per_mille: share(peer.held_pieces, pieces),
            download_bytes_per_sec: peer.download_rate_bytes_per_sec,
            upload_bytes_per_sec: peer.upload_rate_bytes_per_sec,
            state,
            hostname: peer.hostname,
            idc: peer.idc,
        }
    };
    let peers: Vec<TaskPeer> = view.peers.into_iter().map(peer).collect();
    let edges = view.edges.into_iter().map(|edge| self::edge(edge, &peers)).collect();
    let cell = |byte: &u8| match pb::CellState::try_from(i32::from(*byte)) {
        Ok(pb::CellState::Asked) => Cell::Asked,
        Ok(pb::CellState::Have) => Cell::Have,
        Ok(pb::CellState::Partly) => Cell::Partly,
        Ok(pb::CellState::Bad) => Cell::Bad,
        Ok(pb::CellState::None) | Err(_) => Cell::None,
    };
    Some(TaskView {
        host: hex(&view.shown_host_id),
        hostname: view.shown_host,
        pieces_per_cell: view.pieces_per_cell,
        cells: view.cells.iter().map(cell).collect(),
        copies: view.copies,
        rarest: view.rarest.iter().map(|rare| (rare.piece, rare.copies)).collect(),
        more_peers: view.more_peers,
        task,
        peers,
        edges,
    })
}

fn share(part: u32, whole: u32) -> u32 {
    let share = (u64::from(part) * 1000).checked_div(u64::from(whole)).unwrap_or_default();
    u32::try_from(share.min(1000)).unwrap_or(1000)
}

fn edge(edge: pb::TaskEdge, peers: &[TaskPeer]) -> Edge {
    let (parent, child) = (hex(&edge.parent_host_id), hex(&edge.child_host_id));
    let known = peers.iter().find(|peer| peer.host == parent);
    let is_source = parent.is_empty();
    let state = match (edge.is_listed, edge.transfers) {
        (true, _) => State::new(Mark::Bad, "local blacklist"),
        (_, 0) => State::new(Mark::Idle, "idle"),
        _ => State::new(Mark::Busy, "active"),
    };
    let parent_name = match known {
        Some(peer) => peer.hostname.clone(),
        None if is_source => "source".to_owned(),
        None => parent.get(..8).unwrap_or(&parent).to_owned(),
    };
    Edge {
        parent_name,
        role: known.map(|peer| peer.role).or((!is_source).then_some(Role::Peer)),
        idc: known.map(|peer| peer.idc.clone()).unwrap_or_default(),
        parent,
        child,
        transfers: edge.transfers,
        pieces: edge.finished_pieces,
        failures: edge.failed_pieces,
        rate_bytes_per_sec: edge.rate_bytes_per_sec,
        state,
    }
}

pub(super) const fn limits(limits: Option<&pb::HostLimits>) -> Limits {
    match limits {
        None => Limits {
            download_bytes_per_sec: None,
            upload_bytes_per_sec: None,
            source_bytes_per_sec: None,
            task_bytes_per_sec: None,
            upload_slots: None,
            download_slots: None,
        },
        Some(limits) => Limits {
            download_bytes_per_sec: limits.download_rate_bytes_per_sec,
            upload_bytes_per_sec: limits.upload_rate_bytes_per_sec,
            source_bytes_per_sec: limits.source_rate_bytes_per_sec,
            task_bytes_per_sec: limits.task_rate_bytes_per_sec,
            upload_slots: limits.upload_slot_limit,
            download_slots: limits.download_slot_limit,
        },
    }
}

/// The role's name.
pub(crate) const fn role_name(role: pb::Role) -> &'static str {
    match role {
        pb::Role::Guest => "guest",
        pb::Role::OperatorRole => "operator",
        pb::Role::Root => "root",
    }
}

pub(super) fn user(user: pb::User) -> User {
    let state = if user.is_disabled { State::new(Mark::Bad, "disabled") } else { State::new(Mark::Good, "enabled") };
    User {
        id: user.id.to_string(),
        role: role_name(user.role()).to_owned(),
        name: user.name,
        state,
        created_at: user.created_at_ms / 1000,
        seen_at: moment(user.signed_in_at_ms),
    }
}

pub(super) fn token(token: pb::Token, now_ms: u64) -> Token {
    let state = match token.expires_at_ms {
        1.. if token.expires_at_ms <= now_ms => State::new(Mark::Bad, "expired"),
        _ if token.is_session => State::new(Mark::Good, "session"),
        _ => State::new(Mark::Good, "valid"),
    };
    Token {
        id: token.id.to_string(),
        name: token.name,
        user: token.user,
        scopes: token.scopes,
        state,
        created_at: token.created_at_ms / 1000,
        expires_at: moment(token.expires_at_ms),
        used_at: moment(token.used_at_ms),
    }
}

/// A line about a part, for people.
pub(super) fn part_line(part: &JobPart) -> String {
    format!("{} {} ({}/{})", part.state.word, format::clean(&part.url), part.done, part.all)
}
