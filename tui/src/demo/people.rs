//! What else a made-up cluster has: members, jobs, users, tokens, cached contents.

use super::{BEGUN_AT, below, mixed, note};
use crate::model::{
    AuditEntry, Block, Cluster, Content, Job, JobPart, Mark, Member, PreheatScope, Role, Snapshot, State, Subject,
    Token, User,
};

const DAY_S: u64 = 86_400;

/// Fills in what stays as it is.
pub(super) fn settle(seed: u64, snapshot: &mut Snapshot) {
    snapshot.policy.blocks = vec![Block {
        id: "1".to_owned(),
        kind: "url".to_owned(),
        value: r"^https://mirror\.example/iso/".to_owned(),
        direction: "download".to_owned(),
        hosts: "all".to_owned(),
        reason: "fetch it from the office mirror".to_owned(),
        by: "ops".to_owned(),
        created_at: BEGUN_AT - 2 * DAY_S,
    }];
    snapshot.members = members(snapshot);
    let peers = u32::try_from(snapshot.hosts.len()).unwrap_or(u32::MAX);
    snapshot.clusters = vec![Cluster {
        id: "1".to_owned(),
        name: "prod-1".to_owned(),
        description: "everything in three halls".to_owned(),
        is_default: true,
        idc: "a1|b2|c3".to_owned(),
        location: "eu".to_owned(),
        cidrs: vec!["10.0.0.0/8".to_owned()],
        schedulers: 3,
        seeds: 3.min(peers),
        peers: peers.saturating_sub(3),
        ..Cluster::default()
    }];
    snapshot.jobs =
        vec![job("88", "registry.example/shop/app:v81", 300), job("87", "registry.example/shop/app:v80", 1000)];
    snapshot.contents = contents(seed);
    snapshot.users = [("root", "root"), ("ops", "operator"), ("dashboard", "guest")]
        .into_iter()
        .zip(1_u64..)
        .map(|((name, role), id)| User {
            id: id.to_string(),
            name: name.to_owned(),
            role: role.to_owned(),
            state: State::new(Mark::Good, "enabled"),
            created_at: BEGUN_AT - 30 * DAY_S,
            seen_at: Some(BEGUN_AT - id * 3600),
        })
        .collect();
    snapshot.tokens = vec![Token {
        id: "3".to_owned(),
        name: "harbor".to_owned(),
        user: "ops".to_owned(),
        scopes: vec!["preheat".to_owned(), "view".to_owned()],
        state: State::new(Mark::Good, "valid"),
        created_at: BEGUN_AT - 9 * DAY_S,
        expires_at: Some(BEGUN_AT + 21 * DAY_S),
        used_at: Some(BEGUN_AT - BEGUN_AT % DAY_S),
    }];
    snapshot.audit = vec![AuditEntry {
        number: 41,
        happened_at: BEGUN_AT - 1200,
        user: "ops".to_owned(),
        action: "preheat.create".to_owned(),
        target: "job 88".to_owned(),
        detail: "registry.example/shop/app:v81 to all seed peers".to_owned(),
        ip: "10.0.0.9".to_owned(),
        state: State::new(Mark::Good, "done"),
    }];
    snapshot.settings = snapshot.policy.settings();
}

fn members(snapshot: &Snapshot) -> Vec<Member> {
    let scheduler = |(number, share): (u64, u32)| Member {
        id: number.to_string(),
        role: Role::Scheduler,
        hostname: format!("scheduler-{number}"),
        address: format!("10.0.9.{number}:8002"),
        cluster: "prod-1".to_owned(),
        idc: super::IDCS.get(usize::try_from(number - 1).unwrap_or_default()).copied().unwrap_or_default().to_owned(),
        state: State::new(Mark::Good, "active"),
        ring_per_mille: Some(share),
        tasks: Some(snapshot.tasks.len() as u64 / 3),
        peers: Some(snapshot.hosts.len() as u64),
        silent_s: number % 5,
        release: "0.1.0".to_owned(),
        configuration: 12,
        ..Member::default()
    };
    let schedulers = [(1, 341), (2, 322), (3, 337)].map(scheduler);
    let hosts = snapshot.hosts.iter().zip(100_u64..).map(|(host, id)| Member {
        id: id.to_string(),
        host: host.id.clone(),
        role: host.role,
        hostname: host.hostname.clone(),
        address: format!("{}:65000", host.ip),
        cluster: "prod-1".to_owned(),
        idc: host.idc.clone(),
        state: State::new(Mark::Good, "active"),
        silent_s: id % 5,
        release: "0.1.0".to_owned(),
        configuration: 12,
        ..Member::default()
    });
    schedulers.into_iter().chain(hosts).collect()
}

fn job(id: &str, image: &str, done: u32) -> Job {
    let state = |done| match done {
        1000 => State::new(Mark::Good, "succeeded"),
        _ => State::new(Mark::Busy, "preheating"),
    };
    let part = |layer: u64| JobPart {
        url: format!("{image} layer {layer}"),
        task_id: format!("{:016x}", mixed(1, layer)),
        state: state(if layer * 140 <= u64::from(done) { 1000 } else { done }),
        done: if layer * 140 <= u64::from(done) { 3 } else { layer % 3 },
        failed: 0,
        all: 3,
        error: String::new(),
    };
    Job {
        id: id.to_owned(),
        kind: "image".to_owned(),
        state: state(done),
        url: image.to_owned(),
        scope: PreheatScope::AllSeedPeers,
        done_per_mille: done,
        done: u64::from(done) * 7 / 1000,
        failed: 0,
        all: 7,
        user: "ops".to_owned(),
        created_at: BEGUN_AT - 1200,
        taken_s: 90,
        error: String::new(),
        parts: (1..=7).map(part).collect(),
    }
}

fn contents(seed: u64) -> Vec<Content> {
    let names = ["model-v7", "tokenizer", "sha256:9f2c", "nightly-build", "dataset-eu"];
    let content = |(at, name): (u64, &str)| {
        let len = (below(seed, at + 900, 9000) + 40) << 20;
        let is_whole = at != 3;
        Content {
            cid: name.to_owned(),
            tag: if at % 2 == 0 { "prod".to_owned() } else { String::new() },
            task_id: format!("{:016x}", mixed(seed, at + 901)),
            content_length: Some(len),
            stored_bytes: if is_whole { len } else { len / 2 },
            state: if is_whole { State::new(Mark::Good, "whole") } else { State::new(Mark::Busy, "50 %") },
            is_pinned: at == 0,
            created_at: BEGUN_AT - at * 5000 - 900,
            used_at: BEGUN_AT - at * 700,
            expires_at: (at == 3).then_some(BEGUN_AT + DAY_S),
        }
    };
    (0..).zip(names).map(content).collect()
}

/// One second later.
pub(super) fn advance(second: u64, snapshot: &mut Snapshot) {
    let now = snapshot.taken_at;
    for job in snapshot.jobs.iter_mut().filter(|job| job.is_running()) {
        job.done_per_mille = (job.done_per_mille + 4).min(1000);
        job.done = u64::from(job.done_per_mille) * job.all / 1000;
        job.taken_s += 1;
        if job.done_per_mille == 1000 {
            job.state = State::new(Mark::Good, "succeeded");
            let text = format!("{} is on {}", job.url, job.scope);
            let kind = State::new(Mark::Good, "job.finished");
            note(&mut snapshot.happenings, now, kind, String::new(), text, Subject::Job(job.id.clone()));
        }
    }
    for (at, member) in (0_u64..).zip(snapshot.members.iter_mut()) {
        member.silent_s = (at + second) % 5;
    }
    // Something small goes wrong now and then.
    if second % 17 == 3
        && let Some(host) =
            snapshot.hosts.get(usize::try_from(second * 7).unwrap_or_default() % snapshot.hosts.len().max(1))
    {
        let text = format!("piece {} came late from {}", second * 3, host.hostname);
        let (kind, place) = (State::new(Mark::Warn, "piece.failed"), host.hostname.clone());
        note(&mut snapshot.happenings, now, kind, place, text, Subject::Host(host.id.clone()));
    }
}
