//! Preheat jobs: which contents are to be in which hosts, part by part, and how far that is.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Registry;
use super::event::{ClusterId, JobId, MemberId, MemberKind, Notice, Output, Record, Refusal};
use crate::hash_ring::HashRing;
use crate::id::{HostId, TaskId};
use crate::time::{Duration, Instant};

/// Hosts that are to have the contents.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Scope {
    /// One seed peer of each cluster.
    #[default]
    SingleSeedPeer,
    /// All seed peers.
    AllSeedPeers,
    /// All hosts.
    AllPeers,
}

/// Which hosts of a scope; the first that says something holds: addresses, number, percentage.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selection {
    /// Whom it is about.
    pub scope: Scope,
    /// These addresses.
    pub ips: Vec<IpAddr>,
    /// So many; 0 for no matter.
    pub count: u32,
    /// So many in a hundred; 0 for no matter.
    pub percentage: u32,
}

/// What somebody wants preheated.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct JobSpec {
    /// Whether the URLs name manifests of images.
    pub is_image: bool,
    /// What, for people: without query and credentials. The driver keeps what it needs itself.
    pub urls: Vec<String>,
    /// Platform of an image; empty for all.
    pub platform: String,
    /// Tag of the tasks.
    pub tag: String,
    /// Application of the tasks.
    pub application: String,
    /// For whom.
    pub selection: Selection,
    /// Where; everywhere if empty.
    pub clusters: Vec<ClusterId>,
    /// Parts at once.
    pub concurrent_part_limit: u32,
    /// Hosts at once in one part.
    pub concurrent_host_limit: u32,
    /// How long it may take.
    pub timeout: Duration,
    /// Who wants it.
    pub created_by: String,
    /// When it was created, in milliseconds of wall time.
    pub created_at_ms: u64,
    /// The driver's own number for what it keeps of the job.
    pub ticket: u64,
}

/// One content of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartSpec {
    /// Where it is, for people.
    pub url: String,
    /// Its digest; empty for a file.
    pub digest: String,
    /// Its task.
    pub task: TaskId,
    /// Its length in bytes, if the manifest says so.
    pub content_len: Option<u64>,
}

/// How far a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobState {
    /// Its contents are being found out.
    Resolving,
    /// Its parts are under way.
    Preheating,
    /// All of it is where it should be.
    Succeeded,
    /// Some of it is.
    Partly,
    /// None of it is.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// It took too long.
    TimedOut,
}

impl JobState {
    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Resolving | Self::Preheating)
    }
}

/// How far a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartState {
    /// It waits for its turn or for a scheduler.
    Queued,
    /// A scheduler sees to it.
    Active,
    /// All its hosts have it.
    Succeeded,
    /// Some of them have.
    Partly,
    /// None of them has.
    Failed,
    /// Its job ended before.
    Cancelled,
}

impl PartState {
    const fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Active)
    }
}

/// How far one host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetState {
    /// It waits for its turn.
    Waiting,
    /// It fetches.
    Fetching,
    /// It has it.
    Finished,
    /// It could not.
    GaveUp,
}

/// A host that is to have a content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub hostname: String,
    /// Its address.
    pub ip: String,
    /// How far it is.
    pub state: TargetState,
    /// Pieces it has.
    pub held: u32,
    /// Pieces there are.
    pub pieces: u32,
    /// What went wrong; empty if nothing did.
    pub failure: String,
}

impl Target {
    /// In thousandths.
    fn progress(&self) -> u64 {
        match self.state {
            TargetState::Finished => 1000,
            _ => u64::from(self.held) * 1000 / u64::from(self.pieces.max(1)),
        }
    }
}

/// What a scheduler says of a part.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PartUpdate {
    /// Length of the content in bytes, if it is known.
    pub content_len: Option<u64>,
    /// All hosts that are to have it.
    pub targets: Vec<Target>,
    /// Whether it is over.
    pub is_over: bool,
    /// Why it could not begin; empty if it could.
    pub failure: String,
}

/// One content in one cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What.
    pub spec: PartSpec,
    /// Where.
    pub cluster: ClusterId,
    /// How far.
    pub state: PartState,
    /// Who sees to it.
    pub scheduler: Option<MemberId>,
    /// Its hosts, as far as they were told.
    pub targets: Vec<Target>,
    /// What went wrong; empty if nothing did.
    pub failure: String,
}

impl Part {
    /// Mean progress of its hosts, in thousandths.
    pub fn progress_permille(&self) -> u32 {
        if self.state == PartState::Succeeded {
            return 1000;
        }
        let sum: u64 = self.targets.iter().map(Target::progress).sum();
        u32::try_from(sum / (self.targets.len() as u64).max(1)).unwrap_or(1000)
    }

    /// Hosts in a state.
    pub fn count(&self, state: TargetState) -> u32 {
        self.targets.iter().filter(|target| target.state == state).count() as u32
    }
}

/// A preheat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// What is wanted.
    pub spec: JobSpec,
    /// How far it is.
    pub state: JobState,
    /// Its parts; none before it is resolved.
    pub parts: Vec<Part>,
    /// Why it failed; empty if it did not.
    pub failure: String,
    /// When it is given up.
    pub deadline: Instant,
    /// When something changed last.
    pub updated: Instant,
}

impl Job {
    /// Mean progress of its parts, in thousandths.
    pub fn progress_permille(&self) -> u32 {
        let sum: u32 = self.parts.iter().map(Part::progress_permille).sum();
        sum / (self.parts.len() as u32).max(1)
    }

    /// Parts in a state.
    pub fn count(&self, state: PartState) -> u32 {
        self.parts.iter().filter(|part| part.state == state).count() as u32
    }
}

impl Registry {
    pub(super) fn create_job(&mut self, now: Instant, spec: JobSpec) -> Result<JobId, Refusal> {
        if spec.clusters.iter().any(|id| !self.clusters.contains_key(id)) {
            return Err(Refusal::UnknownCluster);
        }
        if self.job_rate.try_take(now, 1).is_err() {
            return Err(Refusal::TooFast);
        }
        self.make_job_room()?;
        self.counters.job += 1;
        let id = JobId(self.counters.job);
        let deadline = now + spec.timeout;
        let state = JobState::Resolving;
        let job = Job { spec, state, parts: Vec::new(), failure: String::new(), deadline, updated: now };
        self.jobs.insert(id, job);
        self.outbox.push(Output::Save(Record::Counters));
        self.outbox.push(Output::Save(Record::Job(id)));
        self.outbox.push(Output::Resolve(id));
        Ok(id)
    }

    /// Room for one more: the oldest that is over goes first.
    fn make_job_room(&mut self) -> Result<(), Refusal> {
        if self.jobs.len() < self.config.job_limit {
            return Ok(());
        }
        let oldest = self.jobs.iter().find(|(_, job)| job.state.is_over()).map(|(id, _)| *id);
        let limit = self.config.job_limit as u64;
        let oldest = oldest.ok_or(Refusal::Full { what: "jobs", limit })?;
        self.jobs.remove(&oldest);
        self.outbox.push(Output::Erase(Record::Job(oldest)));
        Ok(())
    }

    pub(super) fn resolved(&mut self, now: Instant, id: JobId, parts: Result<Vec<PartSpec>, String>) {
        let part_limit = self.config.part_limit;
        let all: Vec<ClusterId> = self.clusters.keys().copied().collect();
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == JobState::Resolving) else { return };
        let clusters = if job.spec.clusters.is_empty() { all } else { job.spec.clusters.clone() };
        let parts = parts.and_then(|specs| match specs.len() * clusters.len() {
            0 => Err("there is nothing in it".to_string()),
            count if count > part_limit => Err(alloc::format!("{count} contents are more than {part_limit}")),
            _ => Ok(specs),
        });
        match parts {
            Ok(specs) => {
                let part = |spec: &PartSpec, cluster| Part {
                    spec: spec.clone(),
                    cluster,
                    state: PartState::Queued,
                    scheduler: None,
                    targets: Vec::new(),
                    failure: String::new(),
                };
                job.parts = clusters.iter().flat_map(|at| specs.iter().map(move |spec| part(spec, *at))).collect();
                job.state = JobState::Preheating;
                job.updated = now;
                self.outbox.push(Output::Save(Record::Job(id)));
                self.ready.insert(id);
            }
            Err(failure) => {
                job.failure = failure;
                self.end_job(now, id, JobState::Failed);
            }
        }
    }

    pub(super) fn part_reported(&mut self, now: Instant, from: MemberId, id: JobId, number: u32, update: PartUpdate) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(part) = job.parts.get_mut(number as usize) else { return };
        if part.scheduler != Some(from) {
            return;
        }
        part.spec.content_len = update.content_len.or(part.spec.content_len);
        part.targets = update.targets;
        job.updated = now;
        if !update.is_over {
            return;
        }
        let finished = part.count(TargetState::Finished) as usize;
        part.state = match finished {
            0 => PartState::Failed,
            some if some < part.targets.len() => PartState::Partly,
            _ => PartState::Succeeded,
        };
        let failed = || part.targets.iter().map(|target| &target.failure).find(|failure| !failure.is_empty());
        part.failure = match update.failure.is_empty() {
            false => update.failure,
            true => failed().cloned().unwrap_or_default(),
        };
        part.scheduler = None;
        self.outbox.push(Output::Save(Record::Job(id)));
        self.ready.insert(id);
    }

    pub(super) fn cancel_job(&mut self, now: Instant, id: JobId) -> Result<(), Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::UnknownJob)?;
        if job.state.is_over() {
            return Err(Refusal::JobOver);
        }
        self.end_job(now, id, JobState::Cancelled);
        Ok(())
    }

    /// Sends as many parts as may be under way, or ends the job if none is left.
    pub(super) fn advance(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.state == JobState::Preheating) else { return };
        let mut room = job.spec.concurrent_part_limit.max(1).saturating_sub(job.count(PartState::Active));
        let queued: Vec<usize> = queued(job);
        for number in queued {
            if room == 0 {
                break;
            }
            let Some(part) = self.jobs.get(&id).and_then(|job| job.parts.get(number)) else { continue };
            let Some(scheduler) = self.owner(part.cluster, &part.spec.task) else { continue };
            if let Some(part) = self.jobs.get_mut(&id).and_then(|job| job.parts.get_mut(number)) {
                (part.state, part.scheduler) = (PartState::Active, Some(scheduler));
                self.outbox.push(Output::SendPart { job: id, part: number as u32, to: scheduler });
                room -= 1;
            }
        }
        let Some(job) = self.jobs.get(&id) else { return };
        if job.parts.iter().all(|part| part.state.is_over()) {
            let state = match job.count(PartState::Succeeded) as usize {
                all if all == job.parts.len() => JobState::Succeeded,
                0 if job.count(PartState::Partly) == 0 => JobState::Failed,
                _ => JobState::Partly,
            };
            self.end_job(now, id, state);
        }
    }

    /// The scheduler that a task belongs to: the ring of those whose streams are open.
    fn owner(&self, cluster: ClusterId, task: &TaskId) -> Option<MemberId> {
        let at = |member: &super::Member| {
            let ip = member.introduction.ip;
            core::net::SocketAddr::new(ip, member.introduction.rpc_port).to_string()
        };
        let there: Vec<(String, MemberId)> = self
            .active(cluster, MemberKind::Scheduler)
            .filter(|(_, member)| member.session.is_some())
            .map(|(id, member)| (at(member), id))
            .collect();
        let ring = HashRing::new(there.iter().map(|(name, _)| name.clone()));
        let owner = ring.owner(task)?;
        there.iter().find(|(name, _)| name == owner).map(|(_, id)| *id)
    }

    fn end_job(&mut self, now: Instant, id: JobId, state: JobState) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        (job.state, job.updated) = (state, now);
        for (number, part) in job.parts.iter_mut().enumerate().filter(|(_, part)| !part.state.is_over()) {
            part.state = PartState::Cancelled;
            if let Some(to) = part.scheduler.take() {
                self.outbox.push(Output::CancelPart { job: id, part: number as u32, to });
            }
        }
        if state == JobState::Failed && job.failure.is_empty() {
            let failure = job.parts.iter().map(|part| &part.failure).find(|failure| !failure.is_empty());
            job.failure = failure.cloned().unwrap_or_default();
        }
        self.outbox.push(Output::Save(Record::Job(id)));
        self.note(Notice::JobOver(id));
    }

    /// A scheduler is gone, or begins anew: what it saw to goes to whoever owns it now.
    pub(super) fn requeue_parts(&mut self, now: Instant, from: MemberId) {
        for (id, job) in &mut self.jobs {
            for part in job.parts.iter_mut().filter(|part| part.scheduler == Some(from)) {
                (part.state, part.scheduler) = (PartState::Queued, None);
                job.updated = now;
                self.ready.insert(*id);
            }
        }
    }

    /// Jobs that a stop of the manager interrupted go on.
    pub(super) fn resume_jobs(&mut self) {
        for (id, job) in &mut self.jobs {
            for part in job.parts.iter_mut().filter(|part| part.state == PartState::Active) {
                (part.state, part.scheduler) = (PartState::Queued, None);
            }
            match job.state {
                JobState::Resolving => self.outbox.push(Output::Resolve(*id)),
                JobState::Preheating => drop(self.ready.insert(*id)),
                _ => {}
            }
        }
    }

    /// Gives up jobs whose time is over, and forgets those over for long. Linear in jobs.
    pub(super) fn sweep_jobs(&mut self, now: Instant) {
        let ttl = self.config.job_ttl;
        let late = |job: &Job| if job.state.is_over() { now - job.updated >= ttl } else { job.deadline <= now };
        let late: Vec<JobId> = self.jobs.iter().filter(|(_, job)| late(job)).map(|(id, _)| *id).collect();
        for id in late {
            if self.jobs.get(&id).is_some_and(|job| job.state.is_over()) {
                self.jobs.remove(&id);
                self.outbox.push(Output::Erase(Record::Job(id)));
            } else {
                self.end_job(now, id, JobState::TimedOut);
            }
        }
    }
}

fn queued(job: &Job) -> Vec<usize> {
    let parts = job.parts.iter().enumerate();
    parts.filter(|(_, part)| part.state == PartState::Queued).map(|(number, _)| number).collect()
}
