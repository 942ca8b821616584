//! The cluster as the console shows it: what schedulers showed, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use df_api::manager as wire;
use df_api::manager::Severity;
use df_core::hash_ring::HashRing;
use df_core::id::TaskId;
use df_core::registry::{ClusterId, MemberId, MemberKind, Registry};

use super::convert::{self, Times};

/// Rows of the busiest tasks, and of what wants attention.
const BUSIEST_LIMIT: usize = 10;
const ATTENTION_LIMIT: usize = 50;

/// Rows of one page.
const PAGE_LIMIT: usize = 500;
const PAGE: usize = 100;

/// Tasks of which the ring's shares are taken.
const RING_SAMPLES: u64 = 4096;

/// A disk fuller than this, in percent, wants attention.
const DISK_PERCENT: u64 = 90;

pub(super) type Views = BTreeMap<MemberId, Arc<wire::SchedulerView>>;

/// What the registry says that the views do not.
pub(super) struct Known {
    pub(super) members: Vec<wire::MemberRow>,
    pub(super) jobs: Vec<wire::Job>,
    pub(super) download_limit: Option<u64>,
}

/// Reads the registry for one cluster or for all.
pub(super) fn known(registry: &Registry, cluster: ClusterId, times: Times) -> Known {
    let is_meant = |id: ClusterId| cluster.0 == 0 || cluster == id;
    let shares = shares(registry);
    let mut members: Vec<wire::MemberRow> = registry
        .members()
        .filter(|(_, member)| is_meant(member.cluster))
        .map(|(id, member)| {
            let row = convert::member_message(id, member, registry.cluster(member.cluster), times);
            wire::MemberRow { ring_permille: shares.get(&id).copied().unwrap_or_default(), ..row }
        })
        .collect();
    members.sort_by(|a, b| (a.kind, &a.hostname, a.id).cmp(&(b.kind, &b.hostname, b.id)));
    let jobs = registry.jobs().rev().map(|(id, job)| convert::job_message(id, job, None, times)).collect();
    let limits = registry.clusters().find(|(id, known)| *id == cluster || cluster.0 == 0 && known.is_default);
    let download_limit = limits.and_then(|(_, cluster)| cluster.limits.peer.download_rate).filter(|rate| *rate != 0);
    Known { members, jobs, download_limit }
}

/// The share of tasks that falls to each scheduler of its cluster, in thousandths.
fn shares(registry: &Registry) -> BTreeMap<MemberId, u32> {
    let mut shares = BTreeMap::new();
    for (cluster, _) in registry.clusters() {
        let there: BTreeMap<String, MemberId> = registry
            .active(cluster, MemberKind::Scheduler)
            .map(|(id, member)| {
                let said = &member.introduction;
                (std::net::SocketAddr::new(said.ip, said.rpc_port).to_string(), id)
            })
            .collect();
        let ring = HashRing::new(there.keys().cloned());
        for sample in 0..RING_SAMPLES {
            let mut task = [0; TaskId::LEN];
            task[..8].copy_from_slice(&(sample * (u64::MAX / RING_SAMPLES)).to_be_bytes());
            if let Some(id) = ring.owner(&TaskId::from_bytes(task)).and_then(|name| there.get(name)) {
                *shares.entry(*id).or_insert(0) += 1;
            }
        }
    }
    shares.values_mut().for_each(|count| *count = (*count * 1000 + 2048) / 4096);
    shares
}

/// The sum of what schedulers say. A host speaks to all of them: it is counted once.
pub(super) fn totals(views: &Views) -> wire::Totals {
    let mut sum = wire::Totals::default();
    for totals in views.values().filter_map(|view| view.totals.as_ref()) {
        sum.tasks += totals.tasks;
        sum.hosts = sum.hosts.max(totals.hosts);
        sum.seeds = sum.seeds.max(totals.seeds);
        sum.v1_hosts = sum.v1_hosts.max(totals.v1_hosts);
        sum.downloading_peers += totals.downloading_peers;
        sum.transfers += totals.transfers;
        sum.peer_rate_bytes_per_sec += totals.peer_rate_bytes_per_sec;
        sum.seed_rate_bytes_per_sec += totals.seed_rate_bytes_per_sec;
        sum.source_rate_bytes_per_sec += totals.source_rate_bytes_per_sec;
        sum.peer_bytes += totals.peer_bytes;
        sum.seed_bytes += totals.seed_bytes;
        sum.source_bytes += totals.source_bytes;
        sum.failed_transfers += totals.failed_transfers;
    }
    sum
}

/// Tasks of all schedulers, the busiest first.
pub(super) fn tasks(views: &Views) -> Vec<wire::TaskRow> {
    let mut by_id: BTreeMap<Vec<u8>, wire::TaskRow> = BTreeMap::new();
    for row in views.values().flat_map(|view| &view.tasks) {
        // One that moved from a scheduler to another is where more of it is.
        let known = by_id.entry(row.task_id.clone()).or_insert_with(|| row.clone());
        if row.peers > known.peers {
            *known = row.clone();
        }
    }
    let mut rows: Vec<wire::TaskRow> = by_id.into_values().collect();
    let rate = |row: &wire::TaskRow| row.peer_rate_bytes_per_sec + row.source_rate_bytes_per_sec;
    rows.sort_by(|a, b| (rate(b), b.peers, &a.task_id).cmp(&(rate(a), a.peers, &b.task_id)));
    rows
}

/// Hosts of all schedulers, each once with the sum of what goes through it, by name.
pub(super) fn hosts(views: &Views, members: &[wire::MemberRow]) -> Vec<wire::HostRow> {
    let mut by_id: BTreeMap<Vec<u8>, wire::HostRow> = BTreeMap::new();
    for row in views.values().flat_map(|view| &view.hosts) {
        match by_id.get_mut(&row.host_id) {
            None => drop(by_id.insert(row.host_id.clone(), row.clone())),
            Some(known) => add_host(known, row),
        }
    }
    for member in members.iter().filter(|member| !member.host_id.is_empty()) {
        if let Some(row) = by_id.get_mut(&member.host_id) {
            (row.disk_used_bytes, row.disk_limit_bytes) = (member.disk_used_bytes, member.disk_limit_bytes);
        }
    }
    let mut rows: Vec<wire::HostRow> = by_id.into_values().collect();
    rows.sort_by(|a, b| (&a.hostname, &a.host_id).cmp(&(&b.hostname, &b.host_id)));
    rows
}

fn add_host(sum: &mut wire::HostRow, row: &wire::HostRow) {
    sum.uploads += row.uploads;
    sum.downloads += row.downloads;
    sum.upload_rate_bytes_per_sec += row.upload_rate_bytes_per_sec;
    sum.download_rate_bytes_per_sec += row.download_rate_bytes_per_sec;
    sum.source_rate_bytes_per_sec += row.source_rate_bytes_per_sec;
    sum.tasks += row.tasks;
    sum.running_tasks += row.running_tasks;
    sum.uploaded_bytes += row.uploaded_bytes;
    sum.downloaded_bytes += row.downloaded_bytes;
    if row.state > sum.state {
        (sum.state, sum.reason) = (row.state, row.reason.clone());
    }
}

/// Who is listed anywhere, the latest first.
pub(super) fn blacklist(views: &Views) -> Vec<wire::BlacklistRow> {
    let mut rows: Vec<wire::BlacklistRow> = views.values().flat_map(|view| view.blacklist.clone()).collect();
    rows.sort_by(|a, b| (b.since_at_ms, &a.host_id).cmp(&(a.since_at_ms, &b.host_id)));
    rows
}

/// The first screen.
pub(super) fn overview(views: &Views, known: &Known, store_failure: Option<&str>, times: Times) -> wire::Overview {
    let totals = totals(views);
    let (mut busiest, hosts) = (tasks(views), hosts(views, &known.members));
    busiest.truncate(BUSIEST_LIMIT);
    let received = totals.peer_bytes.saturating_add(totals.source_bytes);
    let saved = (received > 0).then(|| u32::try_from(u128::from(totals.peer_bytes) * 1000 / u128::from(received)));
    let sum = |read: fn(&wire::MemberRow) -> u64| known.members.iter().map(read).sum();
    wire::Overview {
        taken_at_ms: times.now_ms(),
        saved_permille: saved.and_then(Result::ok),
        health: health(&known.members, &hosts, store_failure),
        busiest,
        attention: attention(views, &known.members, &hosts, &known.jobs),
        download_limit_bytes_per_sec: known.download_limit,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: 0,
        disk_used_bytes: sum(|member| member.disk_used_bytes),
        disk_limit_bytes: sum(|member| member.disk_limit_bytes),
        totals: Some(totals),
    }
}

fn health(members: &[wire::MemberRow], hosts: &[wire::HostRow], store_failure: Option<&str>) -> Vec<wire::Health> {
    let line = |name: &str, good: usize, all: usize, text: &str| {
        let severity = match good {
            good if good == all && text.is_empty() => Severity::Info,
            0 => Severity::Error,
            _ => Severity::Warning,
        };
        let (good, all) = (good as u64, all as u64);
        wire::Health { name: name.to_owned(), good, all, severity: severity.into(), text: text.to_owned() }
    };
    let of_kind = |kind: wire::MemberKind, name: &str, missing: &str| {
        let all: Vec<_> = members.iter().filter(|member| member.kind() == kind).collect();
        let good = all.iter().filter(|member| member.state() == wire::MemberState::Active).count();
        line(name, good, all.len(), if all.is_empty() { missing } else { "" })
    };
    let healthy = hosts.iter().filter(|host| host.state() == wire::HostState::Healthy).count();
    vec![
        of_kind(wire::MemberKind::Scheduler, "schedulers", "none has joined"),
        of_kind(wire::MemberKind::SeedPeer, "seed peers", "none has joined"),
        line("peers", healthy, hosts.len(), ""),
        line("manager", 1, 1, ""),
        line("store", usize::from(store_failure.is_none()), 1, store_failure.unwrap_or_default()),
    ]
}

fn attention(
    views: &Views,
    members: &[wire::MemberRow],
    hosts: &[wire::HostRow],
    jobs: &[wire::Job],
) -> Vec<wire::Attention> {
    let item = |severity: Severity, text: String| wire::Attention {
        severity: severity.into(),
        text,
        ..wire::Attention::default()
    };
    let mut all = Vec::new();
    for member in members.iter().filter(|member| member.kind() != wire::MemberKind::Peer) {
        let lost = member.state() == wire::MemberState::Lost;
        if lost {
            let text = format!("{} is lost", member.hostname);
            all.push(wire::Attention { member_id: member.id, ..item(Severity::Error, text) });
        } else if !member.refused.is_empty() {
            let text = format!("{} refuses its configuration: {}", member.hostname, member.refused);
            all.push(wire::Attention { member_id: member.id, ..item(Severity::Warning, text) });
        }
    }
    for host in hosts {
        let about = |severity, text| wire::Attention { host_id: host.host_id.clone(), ..item(severity, text) };
        match host.state() {
            wire::HostState::Healthy => {}
            wire::HostState::Blacklisted => {
                all.push(about(Severity::Error, format!("{} is blacklisted: {}", host.hostname, host.reason)));
            }
            wire::HostState::Isolated => {
                all.push(about(Severity::Error, format!("{} isolated itself", host.hostname)));
            }
            wire::HostState::Held => {
                all.push(about(Severity::Info, format!("{} is held: {}", host.hostname, host.reason)));
            }
        }
        let (used, limit) = (host.disk_used_bytes, host.disk_limit_bytes);
        if limit > 0 && used.saturating_mul(100) / limit >= DISK_PERCENT {
            let text = format!("{} disk {} %", host.hostname, used.saturating_mul(100) / limit);
            all.push(about(Severity::Warning, text));
        }
    }
    for task in views.values().flat_map(|view| &view.tasks).filter(|task| !task.failure.is_empty()) {
        let name = if task.cid.is_empty() { &task.url } else { &task.cid };
        let text = format!("{name}: {}", task.failure);
        all.push(wire::Attention { task_id: task.task_id.clone(), ..item(Severity::Warning, text) });
    }
    for job in jobs.iter().filter(|job| job.state() == wire::JobState::Preheating) {
        let text = format!("job {} preheat {} %", job.id, job.progress_permille / 10);
        all.push(wire::Attention { job_id: job.id, ..item(Severity::Info, text) });
    }
    all.sort_by_key(|item| std::cmp::Reverse(item.severity));
    all.truncate(ATTENTION_LIMIT);
    all
}

/// A page of rows in which a word is found; answers how many there are in all.
pub(super) fn page<T>(
    rows: Vec<T>,
    asked: &wire::WatchRowsRequest,
    texts: impl Fn(&T) -> Vec<String>,
) -> (u64, Vec<T>) {
    let wanted = asked.filter.to_lowercase();
    let has = |row: &T| wanted.is_empty() || texts(row).iter().any(|text| text.to_lowercase().contains(&wanted));
    let rows: Vec<T> = rows.into_iter().filter(has).collect();
    let total = rows.len() as u64;
    (total, rows.into_iter().skip(asked.offset as usize).take(page_len(asked.limit)).collect())
}

/// How many rows are meant.
pub(super) fn page_len(limit: u32) -> usize {
    if limit == 0 { PAGE } else { (limit as usize).min(PAGE_LIMIT) }
}

pub(super) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
