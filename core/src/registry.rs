//! The machine of the manager: who is a member of which cluster, what holds there, and which
//! contents are being preheated.
//!
//! It is never on the path of a download: members go on with what they were told last.
//!
//! # Invariants
//! - I1: there is exactly one default cluster, and names of clusters are unique.
//! - I2: a member is in a cluster that exists, and no two of a kind share name and cluster.
//! - I3: a session belongs to at most one member, and that member is active.
//! - I4: the version of a cluster is at least 1 and never falls.
//! - I5: a part that is active has a scheduler; one that is not has none.
//! - I6: no job has more active parts than its limit; one that is over has none.

pub mod event;
pub mod preheat;
pub mod settings;

mod invariants;
mod membership;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

pub use event::{
    Beat, ClusterId, Input, Introduction, JobId, LimitsChange, MemberId, MemberKind, Notice, Output, Record, Refusal,
    Reply, RequestId, SessionId,
};
pub use membership::Member;
pub use preheat::{Job, JobSpec, JobState, Part, PartSpec, PartState, PartUpdate, Target, TargetState};
pub use settings::{BlockField, BlockRule, ClusterSpec, HostLimits, Limits, Scopes, Seeker};

use crate::id::HostId;
use crate::machine::{Machine, Outbox};
use crate::time::{Deadline, Duration, Instant};
use crate::token_bucket::TokenBucket;

/// The knobs of a registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegistryConfig {
    /// How often members give a sign of life.
    pub beat_interval: Duration,
    /// Signs missed after which a member is lost.
    pub missed_limit: u32,
    /// How long a lost member is remembered.
    pub member_ttl: Duration,
    /// Members at once.
    pub member_limit: usize,
    /// Clusters at once.
    pub cluster_limit: usize,
    /// Block rules of one cluster.
    pub rule_limit: usize,
    /// Hosts with limits of their own in one cluster.
    pub override_limit: usize,
    /// Jobs kept, over or not; the oldest that are over go first.
    pub job_limit: usize,
    /// Contents of one job, counted once for each cluster.
    pub part_limit: usize,
    /// Jobs created per second where a cluster says nothing (Dragonfly's default).
    pub job_rate_limit_per_sec: u32,
    /// How long a job that is over is kept.
    pub job_ttl: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_secs(5),
            missed_limit: 3,
            member_ttl: Duration::from_secs(1800),
            member_limit: 200_000,
            cluster_limit: 256,
            rule_limit: 512,
            override_limit: 4096,
            job_limit: 1000,
            part_limit: 512,
            job_rate_limit_per_sec: 10,
            job_ttl: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// A cluster and what holds in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// What the operator says of it.
    pub spec: ClusterSpec,
    /// Whether it is for those that fit no other.
    pub is_default: bool,
    /// Rises with each change of anything its members are told.
    pub version: u64,
    /// Limits of its members.
    pub limits: Limits,
    /// Limits of single hosts over these, with their names.
    pub overrides: BTreeMap<HostId, (String, HostLimits)>,
    /// What is not to be transferred.
    pub rules: Vec<BlockRule>,
    /// When it was made, in milliseconds of wall time.
    pub created_at_ms: u64,
    /// Who changed limits or rules last, and when in milliseconds of wall time.
    pub changed: (String, u64),
}

impl Cluster {
    fn new(spec: ClusterSpec, is_default: bool, created_at_ms: u64) -> Self {
        Self {
            spec,
            is_default,
            version: 1,
            limits: Limits::default(),
            overrides: BTreeMap::new(),
            rules: Vec::new(),
            created_at_ms,
            changed: (String::new(), created_at_ms),
        }
    }
}

/// The numbers given out last.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Of clusters.
    pub cluster: u64,
    /// Of members.
    pub member: u64,
    /// Of jobs.
    pub job: u64,
    /// Of block rules.
    pub rule: u64,
}

/// What a registry is made of, as it is stored.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stored {
    /// The numbers given out last.
    pub counters: Counters,
    /// Clusters.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// Schedulers and seed peers with the cluster they are in.
    pub members: BTreeMap<MemberId, (ClusterId, Introduction)>,
    /// Jobs.
    pub jobs: BTreeMap<JobId, Job>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    counters: Counters,
    clusters: BTreeMap<ClusterId, Cluster>,
    members: BTreeMap<MemberId, Member>,
    /// Members by cluster, kind and name.
    names: BTreeMap<(ClusterId, MemberKind, String), MemberId>,
    jobs: BTreeMap<JobId, Job>,
    /// Room for new jobs; its rate is that of the default cluster.
    job_rate: TokenBucket,
    /// Clusters whose members are to be told something new.
    changed: BTreeSet<ClusterId>,
    /// Jobs that may go on.
    ready: BTreeSet<JobId>,
    outbox: Outbox<Output>,
    next_sweep: Instant,
}

impl Registry {
    /// The registry that was stored, or a new one with its first cluster.
    pub fn restored(config: RegistryConfig, stored: Stored, now: Instant, now_ms: u64) -> Self {
        let rate = u64::from(config.job_rate_limit_per_sec);
        let mut registry = Self {
            config,
            counters: stored.counters,
            clusters: stored.clusters,
            members: BTreeMap::new(),
            names: BTreeMap::new(),
            jobs: stored.jobs,
            job_rate: job_bucket(now, rate),
            changed: BTreeSet::new(),
            ready: BTreeSet::new(),
            outbox: Outbox::new(),
            next_sweep: now + config.beat_interval,
        };
        if !registry.clusters.values().any(|cluster| cluster.is_default) {
            registry.counters.cluster += 1;
            let first = ClusterId(registry.counters.cluster);
            registry.clusters.insert(first, Cluster::new(ClusterSpec::first(), true, now_ms));
            registry.outbox.push(Output::Save(Record::Counters));
            registry.outbox.push(Output::Save(Record::Cluster(first)));
        }
        for (id, (cluster, introduction)) in stored.members {
            registry.remember(now, id, cluster, introduction);
        }
        registry.resume_jobs();
        registry.follow_job_rate(now);
        registry.settle(now);
        registry
    }

    /// All clusters.
    pub fn clusters(&self) -> impl Iterator<Item = (ClusterId, &Cluster)> {
        self.clusters.iter().map(|(id, cluster)| (*id, cluster))
    }

    /// A cluster.
    pub fn cluster(&self, id: ClusterId) -> Option<&Cluster> {
        self.clusters.get(&id)
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// A member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// All jobs, the oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = (JobId, &Job)> {
        self.jobs.iter().map(|(id, job)| (*id, job))
    }

    /// A job.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// The numbers given out last.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn answer(&mut self, request: RequestId, result: Result<Reply, Refusal>) {
        self.outbox.push(Output::Answer { request, result });
    }

    fn note(&mut self, notice: Notice) {
        self.outbox.push(Output::Note(notice));
    }

    fn put_cluster(&mut self, cluster: Option<ClusterId>, spec: ClusterSpec, at_ms: u64) -> Result<ClusterId, Refusal> {
        spec.check()?;
        let is_taken = |(id, known): (&ClusterId, &Cluster)| Some(*id) != cluster && known.spec.name == spec.name;
        if self.clusters.iter().any(is_taken) {
            return Err(Refusal::NameTaken);
        }
        if let Some(id) = cluster {
            self.clusters.get_mut(&id).ok_or(Refusal::UnknownCluster)?.spec = spec;
            self.changed.insert(id);
            return Ok(id);
        }
        if self.clusters.len() >= self.config.cluster_limit {
            return Err(Refusal::Full { what: "clusters", limit: self.config.cluster_limit as u64 });
        }
        self.counters.cluster += 1;
        let id = ClusterId(self.counters.cluster);
        self.clusters.insert(id, Cluster::new(spec, false, at_ms));
        self.outbox.push(Output::Save(Record::Counters));
        self.outbox.push(Output::Save(Record::Cluster(id)));
        Ok(id)
    }

    fn remove_cluster(&mut self, id: ClusterId) -> Result<(), Refusal> {
        let cluster = self.clusters.get(&id).ok_or(Refusal::UnknownCluster)?;
        if cluster.is_default {
            return Err(Refusal::DefaultCluster);
        }
        if self.members.values().any(|member| member.cluster == id) {
            return Err(Refusal::ClusterInUse);
        }
        self.clusters.remove(&id);
        self.changed.remove(&id);
        self.outbox.push(Output::Erase(Record::Cluster(id)));
        Ok(())
    }

    fn set_limits(&mut self, now: Instant, change: LimitsChange, by: (String, u64)) -> Result<ClusterId, Refusal> {
        let override_limit = self.config.override_limit;
        let cluster = self.clusters.get_mut(&change.cluster).ok_or(Refusal::UnknownCluster)?;
        if change.expected_version != 0 && change.expected_version != cluster.version {
            return Err(Refusal::VersionChanged { version: cluster.version });
        }
        let known = change.host.as_ref().and_then(|(host, _)| cluster.overrides.get(host));
        let mut limits = match change.host {
            None => cluster.limits,
            Some(_) => Limits { peer: known.map(|(_, limits)| *limits).unwrap_or_default(), ..Limits::default() },
        };
        limits.clear(&change.clear)?;
        let limits = change.limits.over(limits);
        limits.check()?;
        match change.host {
            None => cluster.limits = limits,
            Some((host, _)) if limits.peer.is_empty() => drop(cluster.overrides.remove(&host)),
            Some((host, name)) => {
                if cluster.overrides.len() >= override_limit && !cluster.overrides.contains_key(&host) {
                    return Err(Refusal::Full { what: "hosts with limits of their own", limit: override_limit as u64 });
                }
                cluster.overrides.insert(host, (name, limits.peer));
            }
        }
        cluster.changed = by;
        self.changed.insert(change.cluster);
        self.follow_job_rate(now);
        Ok(change.cluster)
    }

    fn add_rule(&mut self, id: ClusterId, mut rule: BlockRule) -> Result<ClusterId, Refusal> {
        rule.check()?;
        let limit = self.config.rule_limit;
        let cluster = self.clusters.get_mut(&id).ok_or(Refusal::UnknownCluster)?;
        if cluster.rules.len() >= limit {
            return Err(Refusal::Full { what: "block rules", limit: limit as u64 });
        }
        self.counters.rule += 1;
        rule.id = self.counters.rule;
        if !rule.for_peers && !rule.for_seed_peers {
            (rule.for_peers, rule.for_seed_peers) = (true, true);
        }
        cluster.changed = (rule.created_by.clone(), rule.created_at_ms);
        cluster.rules.push(rule);
        self.outbox.push(Output::Save(Record::Counters));
        self.changed.insert(id);
        Ok(id)
    }

    fn remove_rule(&mut self, id: ClusterId, rule: u64, by: (String, u64)) -> Result<ClusterId, Refusal> {
        let cluster = self.clusters.get_mut(&id).ok_or(Refusal::UnknownCluster)?;
        let at = cluster.rules.iter().position(|known| known.id == rule).ok_or(Refusal::UnknownRule)?;
        cluster.rules.remove(at);
        cluster.changed = by;
        self.changed.insert(id);
        Ok(id)
    }

    /// New jobs come as fast as the default cluster says.
    fn follow_job_rate(&mut self, now: Instant) {
        let said = self.clusters.values().find(|cluster| cluster.is_default);
        let said = said.and_then(|cluster| cluster.limits.job_rate_limit_per_sec);
        let rate = u64::from(said.unwrap_or(self.config.job_rate_limit_per_sec));
        if self.job_rate.rate() != Some(rate) {
            self.job_rate = job_bucket(now, rate);
        }
    }

    /// Lets jobs go on, and gives what changed a new version, once for all that one input changed.
    fn settle(&mut self, now: Instant) {
        for job in core::mem::take(&mut self.ready) {
            self.advance(now, job);
        }
        for id in core::mem::take(&mut self.changed) {
            let Some(cluster) = self.clusters.get_mut(&id) else { continue };
            cluster.version += 1;
            self.outbox.push(Output::Save(Record::Cluster(id)));
            self.outbox.push(Output::Push(id));
            self.note(Notice::ConfigurationChanged(id));
        }
    }
}

impl Machine for Registry {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        let (request, result) = match input {
            Input::MemberJoined { request, session, introduction } => {
                let joined = self.join(now, session, *introduction);
                self.answer(request, joined.map(Reply::Member));
                if let Ok(member) = joined {
                    self.outbox.push(Output::Configure(member));
                }
                return self.settle(now);
            }
            Input::MemberBeat { member, beat } => return self.beat(now, member, beat),
            Input::SessionEnded { member, session } => {
                self.end_session(member, session);
                return self.settle(now);
            }
            Input::JobResolved { job, parts } => {
                self.resolved(now, job, parts);
                return self.settle(now);
            }
            Input::PartReported { member, job, part, update } => {
                self.part_reported(now, member, job, part, *update);
                return self.settle(now);
            }
            Input::StateAsked { request } => (request, Ok(Reply::Done)),
            Input::MemberDismissed { request, member } => (request, self.dismiss(member).map(|()| Reply::Done)),
            Input::ClusterPut { request, cluster, spec, at_ms } => {
                (request, self.put_cluster(cluster, spec, at_ms).map(Reply::Cluster))
            }
            Input::ClusterRemoved { request, cluster } => (request, self.remove_cluster(cluster).map(|()| Reply::Done)),
            Input::LimitsSet { request, change, by } => {
                (request, self.set_limits(now, *change, by).map(Reply::Cluster))
            }
            Input::RuleAdded { request, cluster, rule } => (request, self.add_rule(cluster, *rule).map(Reply::Cluster)),
            Input::RuleRemoved { request, cluster, rule, by } => {
                (request, self.remove_rule(cluster, rule, by).map(Reply::Cluster))
            }
            Input::JobCreated { request, spec } => (request, self.create_job(now, *spec).map(Reply::Job)),
            Input::JobCancelled { request, job } => (request, self.cancel_job(now, job).map(|()| Reply::Job(job))),
        };
        // What changed is saved before it is confirmed.
        self.settle(now);
        self.answer(request, result);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_sweep {
            self.next_sweep = now + self.config.beat_interval / 2;
            self.sweep_members(now);
            self.sweep_jobs(now);
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline::new(self.next_sweep, "sweep"))
    }

    fn check_invariants(&self) {
        self.check();
    }
}

/// Lets a second's jobs come at once: one may pass beyond the burst.
fn job_bucket(now: Instant, rate_per_sec: u64) -> TokenBucket {
    TokenBucket::new(now, Some(rate_per_sec), rate_per_sec.saturating_sub(1))
}
