//! The registry as it is stored.

use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_core::registry::preheat::Selection;
use df_core::registry::{
    Cluster, ClusterId, Introduction, Job, JobId, JobSpec, MemberId, Part, PartSpec, PartState, Record, Registry,
    Stored,
};
use df_core::time::Instant;
use prost::Message;

use super::convert::{self, Times};
use super::db::{Change, Db, Kind};

/// Number of the record with what concerns the whole store.
const STORE: u64 = 0;

/// Targets of one part that are stored: those that failed first.
const TARGET_LIMIT: usize = 8;

/// The whole store.
#[derive(Clone, PartialEq, Eq, Message)]
struct StoredStore {
    #[prost(uint64, tag = "1")]
    cluster: u64,
    #[prost(uint64, tag = "2")]
    member: u64,
    #[prost(uint64, tag = "3")]
    job: u64,
    #[prost(uint64, tag = "4")]
    rule: u64,
    /// Drawn when the store was made.
    #[prost(uint64, tag = "5")]
    epoch: u64,
}

/// A cluster.
#[derive(Clone, PartialEq, Message)]
struct StoredCluster {
    #[prost(message, optional, tag = "1")]
    cluster: Option<wire::Cluster>,
    #[prost(message, optional, tag = "2")]
    settings: Option<wire::Settings>,
}

/// A scheduler or seed peer.
#[derive(Clone, PartialEq, Message)]
struct StoredMember {
    #[prost(message, optional, tag = "1")]
    hello: Option<wire::Hello>,
    #[prost(uint64, tag = "2")]
    cluster: u64,
}

/// A job, without anything secret.
#[derive(Clone, PartialEq, Message)]
struct StoredJob {
    #[prost(message, optional, tag = "1")]
    job: Option<wire::Job>,
    #[prost(string, repeated, tag = "2")]
    ips: Vec<String>,
    #[prost(uint32, tag = "3")]
    count: u32,
    #[prost(uint32, tag = "4")]
    percentage: u32,
    #[prost(uint32, tag = "5")]
    concurrent_part_limit: u32,
    #[prost(uint32, tag = "6")]
    concurrent_host_limit: u32,
    #[prost(uint64, tag = "7")]
    timeout_ms: u64,
    /// What the manager needs to go on; see [`super::preheat`].
    #[prost(bytes = "vec", tag = "8")]
    order: Vec<u8>,
}

/// A record as it is now, for the store; `order` is what the driver keeps of a job.
pub(super) fn change(
    registry: &Registry,
    record: Record,
    epoch: u64,
    times: Times,
    order: impl FnOnce(u64) -> Vec<u8>,
) -> Option<Change> {
    Some(match record {
        Record::Counters => {
            let counters = registry.counters();
            let (cluster, member, job, rule) = (counters.cluster, counters.member, counters.job, counters.rule);
            let value = StoredStore { cluster, member, job, rule, epoch };
            Change::Put(Kind::Store, STORE, value.encode_to_vec())
        }
        Record::Cluster(id) => {
            let cluster = registry.cluster(id)?;
            let value = StoredCluster {
                cluster: Some(convert::cluster_message(id, cluster)),
                settings: Some(convert::settings_message(id, cluster)),
            };
            Change::Put(Kind::Cluster, id.0, value.encode_to_vec())
        }
        Record::Member(id) => {
            let member = registry.member(id)?;
            let value = StoredMember { hello: Some(hello(&member.introduction)), cluster: member.cluster.0 };
            Change::Put(Kind::Member, id.0, value.encode_to_vec())
        }
        Record::Job(id) => {
            let job = registry.job(id)?;
            let spec = &job.spec;
            let value = StoredJob {
                job: Some(convert::job_message(id, job, Some(TARGET_LIMIT), times)),
                ips: spec.selection.ips.iter().map(ToString::to_string).collect(),
                count: spec.selection.count,
                percentage: spec.selection.percentage,
                concurrent_part_limit: spec.concurrent_part_limit,
                concurrent_host_limit: spec.concurrent_host_limit,
                timeout_ms: u64::try_from(spec.timeout.as_millis()).unwrap_or(u64::MAX),
                order: order(spec.ticket),
            };
            Change::Put(Kind::Job, id.0, value.encode_to_vec())
        }
    })
}

/// What removes a record.
pub(super) const fn removal(record: Record) -> Change {
    match record {
        Record::Counters => Change::Remove(Kind::Store, STORE),
        Record::Cluster(id) => Change::Remove(Kind::Cluster, id.0),
        Record::Member(id) => Change::Remove(Kind::Member, id.0),
        Record::Job(id) => Change::Remove(Kind::Job, id.0),
    }
}

fn hello(from: &Introduction) -> wire::Hello {
    wire::Hello {
        kind: convert::member_kind_message(from.kind).into(),
        hostname: from.hostname.clone(),
        ip: from.ip.to_string(),
        rpc_port: from.rpc_port.into(),
        piece_port: from.piece_port.into(),
        idc: from.idc.clone(),
        location: from.location.clone(),
        cluster: from.cluster.clone(),
        host_id: from.host_id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        incarnation: from.incarnation,
        configuration_version: 0,
        release: from.release.clone(),
    }
}

/// What a member says of itself, as far as it can be understood; its address is `ip`.
pub(super) fn introduction(from: wire::Hello, ip: std::net::IpAddr) -> Result<Introduction, Failure> {
    let port = |what: &str, port: u32| {
        u16::try_from(port).map_err(|_| Failure::new(Code::Usage, format!("{port} is no {what} port")))
    };
    let kind = convert::member_kind(from.kind());
    let rpc_port = port("rpc", from.rpc_port)?;
    if rpc_port == 0 {
        return Err(Failure::new(Code::Usage, "a member has a port"));
    }
    Ok(Introduction {
        kind,
        hostname: from.hostname,
        ip,
        rpc_port,
        piece_port: port("piece", from.piece_port)?,
        idc: from.idc,
        location: from.location,
        cluster: from.cluster,
        host_id: if from.host_id.is_empty() { None } else { Some(convert::host_id(&from.host_id)?) },
        incarnation: from.incarnation,
        release: from.release,
    })
}

/// What is in a store.
pub(super) struct Loaded {
    pub(super) stored: Stored,
    /// Drawn when the store was made; `None` for a new one.
    pub(super) epoch: Option<u64>,
    /// What the driver kept of jobs.
    pub(super) orders: Vec<(JobId, Vec<u8>)>,
}

/// Reads a store.
pub(super) fn load(db: &dyn Db, now: Instant, now_ms: u64) -> Result<Loaded, Failure> {
    let damaged = |what: &str| Failure::new(Code::LocalIo, format!("a stored {what} cannot be read"));
    let mut loaded = Loaded { stored: Stored::default(), epoch: None, orders: Vec::new() };
    let stored = &mut loaded.stored;
    if let Some(value) = db.all(Kind::Store)?.get(&STORE) {
        let store = StoredStore::decode(&value[..]).map_err(|error| damaged("counter").because(error))?;
        let counters = &mut stored.counters;
        (counters.cluster, counters.member) = (store.cluster, store.member);
        (counters.job, counters.rule) = (store.job, store.rule);
        loaded.epoch = Some(store.epoch);
    }
    for (id, value) in db.all(Kind::Cluster)? {
        let cluster = StoredCluster::decode(&value[..]).map_err(|error| damaged("cluster").because(error))?;
        stored.clusters.insert(ClusterId(id), cluster_of(cluster)?);
    }
    for (id, value) in db.all(Kind::Member)? {
        let member = StoredMember::decode(&value[..]).map_err(|error| damaged("member").because(error))?;
        let said = member.hello.unwrap_or_default();
        let ip = said.ip.parse().map_err(|_| damaged("member"))?;
        stored.members.insert(MemberId(id), (ClusterId(member.cluster), introduction(said, ip)?));
    }
    for (id, value) in db.all(Kind::Job)? {
        let mut job = StoredJob::decode(&value[..]).map_err(|error| damaged("job").because(error))?;
        loaded.orders.push((JobId(id), std::mem::take(&mut job.order)));
        stored.jobs.insert(JobId(id), job_of(job, now, now_ms)?);
    }
    Ok(loaded)
}

fn cluster_of(from: StoredCluster) -> Result<Cluster, Failure> {
    let (cluster, settings) = (from.cluster.unwrap_or_default(), from.settings.unwrap_or_default());
    let (is_default, created_at_ms) = (cluster.is_default, cluster.created_at_ms);
    let overrides = settings.overrides.into_iter().map(|own| {
        let limits = own.limits.as_ref().map(convert::host_limits).unwrap_or_default();
        Ok((convert::host_id(&own.host_id)?, (own.hostname, limits)))
    });
    Ok(Cluster {
        spec: convert::cluster_spec(cluster)?,
        is_default,
        version: settings.version,
        limits: settings.limits.as_ref().map(convert::limits).unwrap_or_default(),
        overrides: overrides.collect::<Result<_, Failure>>()?,
        rules: settings.block_rules.into_iter().map(convert::rule).collect::<Result<_, _>>()?,
        created_at_ms,
        changed: (settings.changed_by, settings.changed_at_ms),
    })
}

fn job_of(from: StoredJob, now: Instant, now_ms: u64) -> Result<Job, Failure> {
    let job = from.job.unwrap_or_default();
    // However the clock on the wall has been set since, it has no more than its time again.
    let left = Duration::from_millis(job.deadline_at_ms.saturating_sub(now_ms).min(from.timeout_ms));
    let (state, deadline) = (convert::job_state(job.state()), now + left);
    let spec = JobSpec {
        is_image: job.r#type() == wire::PreheatType::Image,
        platform: job.platform.clone(),
        tag: job.tag.clone(),
        application: job.application.clone(),
        selection: Selection {
            scope: convert::scope(job.scope()),
            ips: from.ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            count: from.count,
            percentage: from.percentage,
        },
        clusters: job.cluster_ids.iter().map(|id| ClusterId(*id)).collect(),
        concurrent_part_limit: from.concurrent_part_limit,
        concurrent_host_limit: from.concurrent_host_limit,
        timeout: Duration::from_millis(from.timeout_ms),
        created_by: job.created_by.clone(),
        created_at_ms: job.created_at_ms,
        urls: job.urls.clone(),
        ticket: 0,
    };
    let parts = job.parts.into_iter().map(part_of).collect::<Result<Vec<_>, Failure>>()?;
    Ok(Job { spec, state, parts, failure: job.failure, deadline, updated: now })
}

fn part_of(from: wire::JobPart) -> Result<Part, Failure> {
    let state = match convert::part_state(from.state()) {
        // Whoever saw to it is told again.
        PartState::Active => PartState::Queued,
        state => state,
    };
    Ok(Part {
        cluster: ClusterId(from.cluster_id),
        state,
        scheduler: None,
        targets: from.target_list.iter().map(convert::target).collect::<Result<_, Failure>>()?,
        spec: PartSpec {
            task: convert::task_id(&from.task_id)?,
            content_len: from.content_length,
            url: from.url,
            digest: from.digest,
        },
        failure: from.failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seed 1206606 of the fault simulation.
    #[test]
    fn a_job_has_no_more_than_its_time_again_however_the_wall_clock_is_set() {
        let now = Instant::from_micros(1);
        let job = wire::Job { deadline_at_ms: 20_000, ..wire::Job::default() };
        let stored = StoredJob { job: Some(job), timeout_ms: 5000, ..StoredJob::default() };
        let left = |now_ms| job_of(stored.clone(), now, now_ms).unwrap().deadline - now;
        assert_eq!(left(16_000), Duration::from_secs(4));
        assert_eq!(left(0), Duration::from_secs(5), "the clock was set back");
        assert_eq!(left(30_000), Duration::ZERO);
    }
}
