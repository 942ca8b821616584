//! The registry's types as messages, and back: for the wire and for the store.

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_core::id::{HostId, TaskId};
use df_core::registry::preheat::Scope;
use df_core::registry::{
    BlockField, BlockRule, Cluster, ClusterId, ClusterSpec, HostLimits, Job, JobId, JobState, Limits, Member, MemberId,
    MemberKind, Part, PartState, Refusal, Scopes, Target, TargetState,
};
use df_core::time::Instant;
use regex::RegexBuilder;

use crate::env::Env;

/// The largest program a regular expression of a rule may become, in bytes.
const REGEX_LIMIT: usize = 1 << 20;

/// What instants are on the wall.
#[derive(Clone, Copy)]
pub(super) struct Times {
    now: Instant,
    wall_ms: u64,
}

impl Times {
    pub(super) fn of(env: &Env) -> Self {
        let wall_ms = u64::try_from(env.clock.wall().as_millis()).unwrap_or(u64::MAX);
        Self { now: env.clock.now(), wall_ms }
    }

    pub(super) const fn now_ms(self) -> u64 {
        self.wall_ms
    }

    pub(super) fn at(self, instant: Instant) -> u64 {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if instant >= self.now {
            self.wall_ms.saturating_add(ms(instant - self.now))
        } else {
            self.wall_ms.saturating_sub(ms(self.now - instant))
        }
    }
}

fn malformed(what: &str) -> Failure {
    Failure::new(Code::Usage, what)
}

pub(super) fn host_id(bytes: &[u8]) -> Result<HostId, Failure> {
    HostId::try_from(bytes).map_err(|_| malformed("a host's id has 16 bytes"))
}

pub(super) fn task_id(bytes: &[u8]) -> Result<TaskId, Failure> {
    TaskId::try_from(bytes).map_err(|_| malformed("a task's id has 32 bytes"))
}

/// A refusal as whoever asked is told of it.
pub(super) fn failure(refusal: Refusal) -> Failure {
    let not_found = |what: &str| Failure::new(Code::NotFound, format!("there is no such {what}"));
    match refusal {
        Refusal::UnknownCluster => not_found("cluster"),
        Refusal::UnknownMember => not_found("member"),
        Refusal::UnknownJob => not_found("job"),
        Refusal::UnknownRule => not_found("block rule"),
        Refusal::UnknownLimit => malformed("no limit has that name")
            .hint("names are like peer.upload_rate_bytes_per_sec or candidate_parent_limit"),
        Refusal::NameTaken => Failure::new(Code::Exists, "another cluster has that name"),
        Refusal::ClusterInUse => Failure::new(Code::Exists, "members are in the cluster"),
        Refusal::DefaultCluster => malformed("the default cluster stays"),
        Refusal::MemberActive => Failure::new(Code::Exists, "the member is there").hint("stop it first"),
        Refusal::NameHeld => Failure::new(Code::Exists, "a member of that name is at another address")
            .hint("stop the other one, or wait until it is lost, or choose another name"),
        Refusal::Full { what, limit } => Failure::new(Code::Busy, format!("there are {limit} {what} already")),
        Refusal::BadValue { what, least, most } => malformed(&format!("{what} is to be from {least} to {most}")),
        Refusal::BadRule => malformed("a block rule has a value (a priority: 0 to 6) and blocks something"),
        Refusal::BadName => malformed("a name has letters, digits, -, _ and . alone"),
        Refusal::TooLong => malformed("a text or a list is too long"),
        Refusal::VersionChanged { version } => {
            Failure::new(Code::Exists, format!("somebody else changed it meanwhile: it has version {version} now"))
                .hint("look at it again")
        }
        Refusal::TooFast => Failure::new(Code::Busy, "more jobs at once than job_rate_limit_per_sec says"),
        Refusal::JobOver => Failure::new(Code::Exists, "the job is over"),
    }
}

pub(super) const fn host_limits(from: &wire::HostLimits) -> HostLimits {
    HostLimits {
        upload_slot_limit: from.upload_slot_limit,
        download_slot_limit: from.download_slot_limit,
        upload_rate: from.upload_rate_bytes_per_sec,
        download_rate: from.download_rate_bytes_per_sec,
        source_rate: from.source_rate_bytes_per_sec,
        task_rate: from.task_rate_bytes_per_sec,
    }
}

pub(super) const fn host_limits_message(from: &HostLimits) -> wire::HostLimits {
    wire::HostLimits {
        upload_slot_limit: from.upload_slot_limit,
        download_slot_limit: from.download_slot_limit,
        upload_rate_bytes_per_sec: from.upload_rate,
        download_rate_bytes_per_sec: from.download_rate,
        source_rate_bytes_per_sec: from.source_rate,
        task_rate_bytes_per_sec: from.task_rate,
    }
}

pub(super) fn limits(from: &wire::Limits) -> Limits {
    let of = |limits: &Option<wire::HostLimits>| limits.as_ref().map(host_limits).unwrap_or_default();
    Limits {
        peer: of(&from.peer),
        seed_peer: of(&from.seed_peer),
        candidate_parent_limit: from.candidate_parent_limit,
        filter_parent_limit: from.filter_parent_limit,
        job_rate_limit_per_sec: from.job_rate_limit_per_sec,
    }
}

pub(super) const fn limits_message(from: &Limits) -> wire::Limits {
    wire::Limits {
        peer: Some(host_limits_message(&from.peer)),
        seed_peer: Some(host_limits_message(&from.seed_peer)),
        candidate_parent_limit: from.candidate_parent_limit,
        filter_parent_limit: from.filter_parent_limit,
        job_rate_limit_per_sec: from.job_rate_limit_per_sec,
    }
}

pub(super) fn rule(from: wire::BlockRule) -> Result<BlockRule, Failure> {
    let field = match from.field() {
        wire::BlockField::Application => BlockField::Application,
        wire::BlockField::Url => BlockField::Url,
        wire::BlockField::Tag => BlockField::Tag,
        wire::BlockField::Priority => BlockField::Priority,
    };
    if field == BlockField::Url {
        RegexBuilder::new(&from.value)
            .size_limit(REGEX_LIMIT)
            .build()
            .map_err(|error| malformed("the URL's pattern is no regular expression").because(one_line(&error)))?;
    }
    Ok(BlockRule {
        id: from.id,
        field,
        value: from.value,
        blocks_download: from.blocks_download,
        blocks_upload: from.blocks_upload,
        for_peers: from.for_peers,
        for_seed_peers: from.for_seed_peers,
        reason: from.reason,
        created_by: from.created_by,
        created_at_ms: from.created_at_ms,
    })
}

/// An error of several lines in one.
pub(super) fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn rule_message(from: &BlockRule) -> wire::BlockRule {
    let field = match from.field {
        BlockField::Application => wire::BlockField::Application,
        BlockField::Url => wire::BlockField::Url,
        BlockField::Tag => wire::BlockField::Tag,
        BlockField::Priority => wire::BlockField::Priority,
    };
    wire::BlockRule {
        id: from.id,
        field: field.into(),
        value: from.value.clone(),
        blocks_download: from.blocks_download,
        blocks_upload: from.blocks_upload,
        for_peers: from.for_peers,
        for_seed_peers: from.for_seed_peers,
        reason: from.reason.clone(),
        created_by: from.created_by.clone(),
        created_at_ms: from.created_at_ms,
    }
}

pub(super) fn cluster_spec(from: wire::Cluster) -> Result<ClusterSpec, Failure> {
    let scopes = from.scopes.unwrap_or_default();
    let cidrs = scopes
        .cidrs
        .iter()
        .map(|text| text.parse().map_err(|error| malformed(&format!("{text:?} is no network")).because(error)));
    let cidrs = cidrs.collect::<Result<Vec<_>, Failure>>()?;
    let scopes = Scopes { idc: scopes.idc, location: scopes.location, cidrs, hostnames: scopes.hostnames };
    Ok(ClusterSpec { name: from.name, description: from.description, scopes })
}

pub(super) fn cluster_message(id: ClusterId, from: &Cluster) -> wire::Cluster {
    let scopes = &from.spec.scopes;
    wire::Cluster {
        id: id.0,
        name: from.spec.name.clone(),
        description: from.spec.description.clone(),
        scopes: Some(wire::ClusterScopes {
            idc: scopes.idc.clone(),
            location: scopes.location.clone(),
            cidrs: scopes.cidrs.iter().map(ToString::to_string).collect(),
            hostnames: scopes.hostnames.clone(),
        }),
        is_default: from.is_default,
        created_at_ms: from.created_at_ms,
        ..wire::Cluster::default()
    }
}

pub(super) fn overrides_message(from: &Cluster) -> Vec<wire::HostOverride> {
    let message = |(host, (name, limits)): (&HostId, &(String, HostLimits))| wire::HostOverride {
        host_id: host.as_bytes().to_vec(),
        hostname: name.clone(),
        limits: Some(host_limits_message(limits)),
    };
    from.overrides.iter().map(message).collect()
}

/// Limits, overrides and rules of a cluster, without the count of members.
pub(super) fn settings_message(id: ClusterId, from: &Cluster) -> wire::Settings {
    wire::Settings {
        cluster_id: id.0,
        version: from.version,
        limits: Some(limits_message(&from.limits)),
        overrides: overrides_message(from),
        block_rules: from.rules.iter().map(rule_message).collect(),
        members_in_force: 0,
        members: 0,
        changed_by: from.changed.0.clone(),
        changed_at_ms: from.changed.1,
    }
}

pub(super) const fn member_kind(from: wire::MemberKind) -> MemberKind {
    match from {
        wire::MemberKind::Scheduler => MemberKind::Scheduler,
        wire::MemberKind::SeedPeer => MemberKind::SeedPeer,
        wire::MemberKind::Peer => MemberKind::Peer,
    }
}

pub(super) const fn member_kind_message(from: MemberKind) -> wire::MemberKind {
    match from {
        MemberKind::Scheduler => wire::MemberKind::Scheduler,
        MemberKind::SeedPeer => wire::MemberKind::SeedPeer,
        MemberKind::Peer => wire::MemberKind::Peer,
    }
}

pub(super) fn address_message(member: &Member) -> wire::MemberAddress {
    let said = &member.introduction;
    wire::MemberAddress {
        hostname: said.hostname.clone(),
        ip: said.ip.to_string(),
        rpc_port: said.rpc_port.into(),
        piece_port: said.piece_port.into(),
        host_id: said.host_id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
    }
}

pub(super) fn member_message(
    id: MemberId,
    member: &Member,
    cluster: Option<&Cluster>,
    times: Times,
) -> wire::MemberRow {
    let (said, at) = (&member.introduction, address_message(member));
    let state = if member.is_active { wire::MemberState::Active } else { wire::MemberState::Lost };
    wire::MemberRow {
        id: id.0,
        kind: member_kind_message(said.kind).into(),
        state: state.into(),
        hostname: at.hostname,
        ip: at.ip,
        rpc_port: at.rpc_port,
        piece_port: at.piece_port,
        host_id: at.host_id,
        idc: said.idc.clone(),
        location: said.location.clone(),
        cluster_id: member.cluster.0,
        cluster: cluster.map_or_else(String::new, |cluster| cluster.spec.name.clone()),
        release: said.release.clone(),
        joined_at_ms: times.at(member.joined),
        seen_at_ms: times.at(member.seen),
        configuration_version: member.beat.version,
        wanted_configuration_version: cluster.map_or(0, |cluster| cluster.version),
        refused: member.beat.refused.clone(),
        ring_permille: 0,
        totals: None,
        disk_used_bytes: member.beat.disk_used_bytes,
        disk_limit_bytes: member.beat.disk_limit_bytes,
    }
}

pub(super) const fn scope(from: wire::PreheatScope) -> Scope {
    match from {
        wire::PreheatScope::SingleSeedPeer => Scope::SingleSeedPeer,
        wire::PreheatScope::AllSeedPeers => Scope::AllSeedPeers,
        wire::PreheatScope::AllPeers => Scope::AllPeers,
    }
}

pub(super) const fn scope_message(from: Scope) -> wire::PreheatScope {
    match from {
        Scope::SingleSeedPeer => wire::PreheatScope::SingleSeedPeer,
        Scope::AllSeedPeers => wire::PreheatScope::AllSeedPeers,
        Scope::AllPeers => wire::PreheatScope::AllPeers,
    }
}

const JOB_STATES: [(JobState, wire::JobState); 7] = [
    (JobState::Resolving, wire::JobState::Resolving),
    (JobState::Preheating, wire::JobState::Preheating),
    (JobState::Succeeded, wire::JobState::Succeeded),
    (JobState::Partly, wire::JobState::PartlySucceeded),
    (JobState::Failed, wire::JobState::JobFailed),
    (JobState::Cancelled, wire::JobState::Cancelled),
    (JobState::TimedOut, wire::JobState::TimedOut),
];

const PART_STATES: [(PartState, wire::PartState); 6] = [
    (PartState::Queued, wire::PartState::Queued),
    (PartState::Active, wire::PartState::ActivePart),
    (PartState::Succeeded, wire::PartState::PartSucceeded),
    (PartState::Partly, wire::PartState::PartPartly),
    (PartState::Failed, wire::PartState::PartFailed),
    (PartState::Cancelled, wire::PartState::PartCancelled),
];

const TARGET_STATES: [(TargetState, wire::TargetState); 4] = [
    (TargetState::Waiting, wire::TargetState::Waiting),
    (TargetState::Fetching, wire::TargetState::Fetching),
    (TargetState::Finished, wire::TargetState::Finished),
    (TargetState::GaveUp, wire::TargetState::GaveUp),
];

/// The other half of the pair that has this half; every table above is complete.
fn other<A: Copy + PartialEq, B: Copy + Default>(table: &[(A, B)], one: A) -> B {
    table.iter().find(|(known, _)| *known == one).map(|(_, other)| *other).unwrap_or_default()
}

pub(super) fn job_state(from: wire::JobState) -> JobState {
    JOB_STATES.iter().find(|(_, known)| *known == from).map_or(JobState::Failed, |(state, _)| *state)
}

pub(super) fn part_state(from: wire::PartState) -> PartState {
    PART_STATES.iter().find(|(_, known)| *known == from).map_or(PartState::Queued, |(state, _)| *state)
}

pub(super) fn target(from: &wire::PartTarget) -> Result<Target, Failure> {
    let state = TARGET_STATES.iter().find(|(_, known)| *known == from.state());
    Ok(Target {
        host: host_id(&from.host_id)?,
        hostname: from.hostname.clone(),
        ip: from.ip.clone(),
        state: state.map_or(TargetState::Waiting, |(state, _)| *state),
        held: from.held_pieces,
        pieces: from.pieces,
        failure: from.failure.clone(),
    })
}

pub(super) fn target_message(from: &Target) -> wire::PartTarget {
    wire::PartTarget {
        host_id: from.host.as_bytes().to_vec(),
        hostname: from.hostname.clone(),
        ip: from.ip.clone(),
        state: other(&TARGET_STATES, from.state).into(),
        held_pieces: from.held,
        pieces: from.pieces,
        failure: from.failure.clone(),
    }
}

/// A part with at most so many of its targets, those that failed first.
pub(super) fn part_message(number: usize, from: &Part, target_limit: usize) -> wire::JobPart {
    let mut targets: Vec<&Target> = from.targets.iter().collect();
    targets.sort_by_key(|target| target.state != TargetState::GaveUp);
    wire::JobPart {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        url: from.spec.url.clone(),
        digest: from.spec.digest.clone(),
        task_id: from.spec.task.as_bytes().to_vec(),
        state: other(&PART_STATES, from.state).into(),
        content_length: from.spec.content_len,
        targets: u32::try_from(from.targets.len()).unwrap_or(u32::MAX),
        finished_targets: from.count(TargetState::Finished),
        failed_targets: from.count(TargetState::GaveUp),
        progress_permille: from.progress_permille(),
        failure: from.failure.clone(),
        target_list: targets.into_iter().take(target_limit).map(target_message).collect(),
        cluster_id: from.cluster.0,
    }
}

/// A job; without parts if `target_limit` is `None`.
pub(super) fn job_message(id: JobId, from: &Job, target_limit: Option<usize>, times: Times) -> wire::Job {
    let spec = &from.spec;
    let parts = from.parts.iter().enumerate();
    let kind = if spec.is_image { wire::PreheatType::Image } else { wire::PreheatType::File };
    wire::Job {
        id: id.0,
        r#type: kind.into(),
        urls: spec.urls.clone(),
        platform: spec.platform.clone(),
        scope: scope_message(spec.selection.scope).into(),
        state: other(&JOB_STATES, from.state).into(),
        created_by: spec.created_by.clone(),
        created_at_ms: spec.created_at_ms,
        updated_at_ms: times.at(from.updated),
        deadline_at_ms: times.at(from.deadline),
        parts: target_limit
            .map_or_else(Vec::new, |limit| parts.map(|(at, part)| part_message(at, part, limit)).collect()),
        part_count: u32::try_from(from.parts.len()).unwrap_or(u32::MAX),
        finished_parts: from.count(PartState::Succeeded),
        failed_parts: from.count(PartState::Failed) + from.count(PartState::Partly),
        progress_permille: from.progress_permille(),
        failure: from.failure.clone(),
        cluster_ids: spec.clusters.iter().map(|cluster| cluster.0).collect(),
        tag: spec.tag.clone(),
        application: spec.application.clone(),
    }
}
