//! Members, configuration and preheat jobs, as the manager decides about them.

use std::net::IpAddr;

use df_core::id::{HostId, TaskId};
use df_core::machine::Machine;
use df_core::registry::preheat::Selection;
use df_core::registry::{
    Beat, BlockField, BlockRule, ClusterId, ClusterSpec, HostLimits, Input, Introduction, JobId, JobSpec, JobState,
    Limits, LimitsChange, MemberId, MemberKind, Notice, Output, PartSpec, PartState, PartUpdate, Record, Refusal,
    Registry, RegistryConfig, Reply, RequestId, Scopes, SessionId, Stored, Target, TargetState,
};
use df_core::time::{Duration, Instant};

const FIRST: ClusterId = ClusterId(1);

/// A registry, its clock, and what it wanted last.
struct Desk {
    registry: Registry,
    now: Instant,
    requests: u64,
    outputs: Vec<Output>,
}

impl Desk {
    fn new() -> Self {
        Self::with(Stored::default())
    }

    fn with(stored: Stored) -> Self {
        let registry = Registry::restored(RegistryConfig::default(), stored, Instant::ZERO, 0);
        let mut desk = Self { registry, now: Instant::ZERO, requests: 0, outputs: Vec::new() };
        desk.drain();
        desk
    }

    fn drain(&mut self) {
        self.registry.check_invariants();
        self.outputs.extend(std::iter::from_fn(|| self.registry.poll_output()));
    }

    fn tell(&mut self, input: Input) {
        self.outputs.clear();
        self.registry.handle_input(self.now, input);
        self.drain();
    }

    fn ask(&mut self, input: impl FnOnce(RequestId) -> Input) -> Result<Reply, Refusal> {
        self.requests += 1;
        let asked = RequestId(self.requests);
        self.tell(input(asked));
        let answer = self.outputs.iter().find_map(|output| match output {
            Output::Answer { request, result } if *request == asked => Some(*result),
            _ => None,
        });
        answer.expect("every question is answered")
    }

    /// Time passes, and those in `alive` give their signs of life.
    fn pass(&mut self, secs: u64, alive: &[MemberId]) {
        self.outputs.clear();
        let end = self.now + Duration::from_secs(secs);
        while self.now < end {
            let deadline = self.registry.poll_timeout().expect("it always looks again").at;
            self.now = deadline.min(end);
            self.registry.handle_timeout(self.now);
            self.drain();
            for member in alive {
                self.registry.handle_input(self.now, Input::MemberBeat { member: *member, beat: Beat::default() });
                self.drain();
            }
        }
    }

    fn join(&mut self, session: u64, introduction: Introduction) -> Result<MemberId, Refusal> {
        let introduction = Box::new(introduction);
        match self.ask(|request| Input::MemberJoined { request, session: SessionId(session), introduction })? {
            Reply::Member(member) => Ok(member),
            other => panic!("{other:?}"),
        }
    }

    fn scheduler(&mut self, number: u8) -> MemberId {
        self.join(u64::from(number), introduction(MemberKind::Scheduler, number)).expect("joined")
    }

    fn set(&mut self, change: LimitsChange) -> Result<Reply, Refusal> {
        let by = ("ops".to_owned(), 7);
        self.ask(|request| Input::LimitsSet { request, change: Box::new(change), by })
    }

    fn version(&self) -> u64 {
        self.registry.cluster(FIRST).expect("the default cluster").version
    }

    fn job(&mut self, parts: u8, concurrent_part_limit: u32) -> JobId {
        let spec = JobSpec {
            concurrent_part_limit,
            timeout: Duration::from_secs(600),
            selection: Selection::default(),
            ..JobSpec::default()
        };
        let spec = Box::new(spec);
        let Ok(Reply::Job(job)) = self.ask(|request| Input::JobCreated { request, spec }) else { panic!("refused") };
        assert!(self.outputs.contains(&Output::Resolve(job)));
        let parts = (0..parts).map(part).collect();
        self.tell(Input::JobResolved { job, parts: Ok(parts) });
        job
    }

    fn sent(&self) -> Vec<(u32, MemberId)> {
        let sent = self.outputs.iter().filter_map(|output| match output {
            Output::SendPart { part, to, .. } => Some((*part, *to)),
            _ => None,
        });
        sent.collect()
    }

    fn report(&mut self, member: MemberId, job: JobId, part: u32, states: &[TargetState]) {
        let target = |state: &TargetState| Target {
            host: HostId::from_bytes([1; 16]),
            hostname: "h".to_owned(),
            ip: "10.0.0.1".to_owned(),
            state: *state,
            held: 1,
            pieces: 2,
            failure: if *state == TargetState::GaveUp { "404".to_owned() } else { String::new() },
        };
        let is_over = states.iter().all(|state| matches!(state, TargetState::Finished | TargetState::GaveUp));
        let targets = states.iter().map(target).collect();
        let update = PartUpdate { content_len: Some(9), targets, is_over, failure: String::new() };
        self.tell(Input::PartReported { member, job, part, update: Box::new(update) });
    }

    fn state(&self, job: JobId) -> JobState {
        self.registry.job(job).expect("a job").state
    }

    /// What a store would hold.
    fn stored(&self) -> Stored {
        Stored {
            counters: self.registry.counters(),
            clusters: self.registry.clusters().map(|(id, cluster)| (id, cluster.clone())).collect(),
            members: self
                .registry
                .members()
                .filter(|(_, member)| member.introduction.kind != MemberKind::Peer)
                .map(|(id, member)| (id, (member.cluster, member.introduction.clone())))
                .collect(),
            jobs: self.registry.jobs().map(|(id, job)| (id, job.clone())).collect(),
        }
    }
}

fn introduction(kind: MemberKind, number: u8) -> Introduction {
    Introduction {
        kind,
        hostname: format!("h{number}"),
        ip: IpAddr::from([10, 0, 0, number]),
        rpc_port: 8002,
        piece_port: 0,
        idc: String::new(),
        location: String::new(),
        cluster: String::new(),
        host_id: (kind != MemberKind::Scheduler).then(|| HostId::from_bytes([number; 16])),
        incarnation: 1,
        release: String::new(),
    }
}

fn part(number: u8) -> PartSpec {
    PartSpec {
        url: format!("u{number}"),
        digest: String::new(),
        task: TaskId::from_bytes([number; 32]),
        content_len: None,
    }
}

fn change(limits: Limits) -> LimitsChange {
    LimitsChange { cluster: FIRST, host: None, limits, clear: Vec::new(), expected_version: 0 }
}

fn upload_rate(rate: u64) -> Limits {
    Limits { peer: HostLimits { upload_rate: Some(rate), ..HostLimits::default() }, ..Limits::default() }
}

#[test]
fn a_member_that_misses_three_signs_of_life_is_lost_and_later_forgotten() {
    let mut desk = Desk::new();
    let (quiet, alive) = (desk.scheduler(1), desk.scheduler(2));
    desk.pass(15, &[alive]);
    assert!(desk.registry.member(quiet).expect("remembered").is_active, "three intervals are not over yet");
    desk.pass(3, &[alive]);
    assert!(!desk.registry.member(quiet).expect("remembered").is_active);
    assert!(desk.outputs.contains(&Output::Note(Notice::MemberLost(quiet))));
    assert!(desk.outputs.contains(&Output::Close(SessionId(1))));
    let listed: Vec<MemberId> = desk.registry.active(FIRST, MemberKind::Scheduler).map(|(id, _)| id).collect();
    assert_eq!(listed, [alive]);
    desk.pass(1820, &[alive]);
    assert!(desk.registry.member(quiet).is_none());
    assert!(desk.registry.member(alive).is_some());
}

#[test]
fn members_are_told_anew_when_a_scheduler_comes_goes_or_moves_and_only_then() {
    let mut desk = Desk::new();
    let version = desk.version();
    let scheduler = desk.scheduler(1);
    assert_eq!(desk.version(), version + 1);
    desk.scheduler(1);
    assert_eq!(desk.version(), version + 1, "the same one came back");
    desk.join(9, introduction(MemberKind::Peer, 9)).expect("joined");
    assert_eq!(desk.version(), version + 1, "peers are on no list");
    desk.pass(20, &[]);
    assert_eq!(desk.version(), version + 2, "it is lost");
    let moved = Introduction { ip: IpAddr::from([10, 0, 9, 9]), ..introduction(MemberKind::Scheduler, 1) };
    assert_eq!(desk.join(3, moved), Ok(scheduler));
    assert_eq!(desk.version(), version + 3);
}

#[test]
fn nobody_takes_over_the_name_of_a_member_that_is_there() {
    let mut desk = Desk::new();
    desk.scheduler(1);
    let thief = Introduction { ip: IpAddr::from([10, 0, 0, 66]), ..introduction(MemberKind::Scheduler, 1) };
    assert_eq!(desk.join(2, thief.clone()), Err(Refusal::NameHeld));
    desk.pass(20, &[]);
    assert!(desk.join(3, thief).is_ok(), "a lost one may have moved");
}

#[test]
fn a_second_stream_of_a_member_ends_the_first() {
    let mut desk = Desk::new();
    let member = desk.scheduler(1);
    assert_eq!(desk.join(5, introduction(MemberKind::Scheduler, 1)), Ok(member));
    assert!(desk.outputs.contains(&Output::Close(SessionId(1))));
    desk.tell(Input::SessionEnded { member, session: SessionId(1) });
    assert_eq!(desk.registry.member(member).expect("there").session, Some(SessionId(5)));
}

#[test]
fn a_member_is_given_the_cluster_that_fits_best() {
    let mut desk = Desk::new();
    let spec = |name: &str, scopes| ClusterSpec { name: name.to_owned(), description: String::new(), scopes };
    let clusters = [
        spec("net", Scopes { cidrs: vec!["10.1.0.0/16".parse().expect("a network")], ..Scopes::default() }),
        spec("idc", Scopes { idc: "a1|b2".to_owned(), ..Scopes::default() }),
        spec("place", Scopes { location: "eu|x".to_owned(), hostnames: vec!["gpu-*".to_owned()], ..Scopes::default() }),
    ];
    for cluster in clusters {
        desk.ask(|request| Input::ClusterPut { request, cluster: None, spec: cluster, at_ms: 0 }).expect("made");
    }
    let base = introduction(MemberKind::Peer, 1);
    let table = [
        (base.clone(), "default"),
        (Introduction { ip: IpAddr::from([10, 1, 0, 1]), ..base.clone() }, "net"),
        (Introduction { idc: "B2".to_owned(), ..base.clone() }, "idc"),
        (Introduction { idc: "b2".to_owned(), ip: IpAddr::from([10, 1, 0, 1]), ..base.clone() }, "net"),
        (Introduction { hostname: "gpu-7".to_owned(), ..base.clone() }, "place"),
        (Introduction { location: "eu|x|r7".to_owned(), ..base.clone() }, "place"),
        (Introduction { cluster: "idc".to_owned(), ..base.clone() }, "idc"),
    ];
    for (session, (seeker, expected)) in (100..).zip(table) {
        let mut seeker = seeker;
        seeker.host_id = Some(HostId::from_bytes([session as u8; 16]));
        let member = desk.join(session, seeker).expect("joined");
        let cluster = desk.registry.member(member).expect("there").cluster;
        assert_eq!(desk.registry.cluster(cluster).expect("there").spec.name, expected);
    }
    let nowhere = Introduction { cluster: "nowhere".to_owned(), ..base };
    assert_eq!(desk.join(999, nowhere), Err(Refusal::UnknownCluster));
}

#[test]
fn a_changed_limit_is_saved_pushed_and_only_then_confirmed() {
    let mut desk = Desk::new();
    let version = desk.version();
    assert_eq!(desk.set(change(upload_rate(1 << 20))), Ok(Reply::Cluster(FIRST)));
    assert_eq!(desk.version(), version + 1);
    let at = |wanted: &Output| desk.outputs.iter().position(|output| output == wanted).expect("wanted");
    let (saved, pushed) = (at(&Output::Save(Record::Cluster(FIRST))), at(&Output::Push(FIRST)));
    let answered = desk.outputs.iter().position(|output| matches!(output, Output::Answer { .. })).expect("answered");
    assert!(saved < pushed && pushed < answered, "{:?}", desk.outputs);
}

#[test]
fn a_bad_value_changes_nothing() {
    let mut desk = Desk::new();
    let version = desk.version();
    assert!(matches!(desk.set(change(upload_rate(3))), Err(Refusal::BadValue { .. })));
    let many = Limits { candidate_parent_limit: Some(21), ..Limits::default() };
    assert!(matches!(desk.set(change(many)), Err(Refusal::BadValue { .. })));
    let stale = LimitsChange { expected_version: version + 7, ..change(upload_rate(1 << 20)) };
    assert_eq!(desk.set(stale), Err(Refusal::VersionChanged { version }));
    assert_eq!((desk.version(), desk.registry.cluster(FIRST).expect("there").limits), (version, Limits::default()));
    assert!(!desk.outputs.contains(&Output::Push(FIRST)));
}

#[test]
fn a_host_with_limits_of_its_own_keeps_the_clusters_for_the_rest() {
    let mut desk = Desk::new();
    let seed = desk.join(4, introduction(MemberKind::SeedPeer, 4)).expect("joined");
    let both = Limits {
        seed_peer: HostLimits { upload_rate: Some(1 << 30), source_rate: Some(1 << 20), ..HostLimits::default() },
        ..Limits::default()
    };
    desk.set(change(both)).expect("set");
    let host = Some((HostId::from_bytes([4; 16]), "h4".to_owned()));
    desk.set(LimitsChange { host: host.clone(), ..change(upload_rate(1 << 22)) }).expect("set");
    let limits = |desk: &Desk| desk.registry.limits_of(desk.registry.member(seed).expect("there"));
    assert_eq!((limits(&desk).upload_rate, limits(&desk).source_rate), (Some(1 << 22), Some(1 << 20)));
    let clear = vec!["peer.upload_rate_bytes_per_sec".to_owned()];
    desk.set(LimitsChange { host, clear, ..change(Limits::default()) }).expect("set");
    assert_eq!(limits(&desk).upload_rate, Some(1 << 30));
    assert!(desk.registry.cluster(FIRST).expect("there").overrides.is_empty());
}

#[test]
fn rules_without_effect_are_refused_and_good_ones_numbered() {
    let mut desk = Desk::new();
    let rule = BlockRule {
        id: 0,
        field: BlockField::Tag,
        value: "x".to_owned(),
        blocks_download: true,
        blocks_upload: false,
        for_peers: false,
        for_seed_peers: false,
        reason: String::new(),
        created_by: "ops".to_owned(),
        created_at_ms: 1,
    };
    let mut add = |rule: BlockRule| {
        let rule = Box::new(rule);
        desk.ask(|request| Input::RuleAdded { request, cluster: FIRST, rule })
    };
    assert!(add(rule.clone()).is_ok() && add(rule.clone()).is_ok());
    assert_eq!(add(BlockRule { value: String::new(), ..rule.clone() }), Err(Refusal::BadRule));
    assert_eq!(add(BlockRule { blocks_download: false, ..rule.clone() }), Err(Refusal::BadRule));
    assert_eq!(add(BlockRule { field: BlockField::Priority, value: "7".to_owned(), ..rule }), Err(Refusal::BadRule));
    let by = ("ops".to_owned(), 2);
    let remove = |desk: &mut Desk, rule| {
        let by = by.clone();
        desk.ask(|request| Input::RuleRemoved { request, cluster: FIRST, rule, by })
    };
    assert_eq!(remove(&mut desk, 1), Ok(Reply::Cluster(FIRST)));
    assert_eq!(remove(&mut desk, 1), Err(Refusal::UnknownRule));
    let rules = &desk.registry.cluster(FIRST).expect("there").rules;
    assert_eq!(rules.iter().map(|rule| (rule.id, rule.for_peers)).collect::<Vec<_>>(), [(2, true)]);
}

#[test]
fn parts_go_to_their_schedulers_so_many_at_a_time() {
    let mut desk = Desk::new();
    let scheduler = desk.scheduler(1);
    let job = desk.job(3, 2);
    assert_eq!(desk.sent(), [(0, scheduler), (1, scheduler)]);
    desk.report(scheduler, job, 1, &[TargetState::Fetching, TargetState::Finished]);
    assert_eq!(desk.registry.job(job).expect("there").parts[1].progress_permille(), 750);
    assert!(desk.sent().is_empty());
    desk.report(scheduler, job, 1, &[TargetState::Finished; 2]);
    assert_eq!(desk.sent(), [(2, scheduler)]);
    desk.report(scheduler, job, 0, &[TargetState::Finished]);
    desk.report(scheduler, job, 2, &[TargetState::Finished]);
    assert_eq!(desk.state(job), JobState::Succeeded);
}

#[test]
fn what_fails_in_part_is_said_to_have_succeeded_in_part() {
    let mut desk = Desk::new();
    let scheduler = desk.scheduler(1);
    let job = desk.job(2, 8);
    desk.report(scheduler, job, 0, &[TargetState::Finished, TargetState::GaveUp]);
    desk.report(scheduler, job, 1, &[TargetState::GaveUp]);
    assert_eq!(desk.state(job), JobState::Partly);
    let parts = &desk.registry.job(job).expect("there").parts;
    assert_eq!([parts[0].state, parts[1].state], [PartState::Partly, PartState::Failed]);
    assert_eq!(parts[1].failure, "404");
    let lost = desk.job(1, 8);
    desk.report(scheduler, lost, 0, &[TargetState::GaveUp]);
    assert_eq!(desk.state(lost), JobState::Failed);
    assert_eq!(desk.registry.job(lost).expect("there").failure, "404");
}

#[test]
fn parts_of_a_lost_scheduler_go_to_the_next() {
    let mut desk = Desk::new();
    let first = desk.scheduler(1);
    let job = desk.job(1, 8);
    assert_eq!(desk.sent(), [(0, first)]);
    let second = desk.scheduler(2);
    assert!(desk.sent().is_empty());
    desk.pass(20, &[second]);
    assert_eq!(desk.sent(), [(0, second)]);
    desk.report(first, job, 0, &[TargetState::GaveUp]);
    assert_eq!(desk.state(job), JobState::Preheating, "the word of the one before no longer counts");
}

#[test]
fn a_job_waits_for_a_scheduler_until_its_time_is_over() {
    let mut desk = Desk::new();
    let job = desk.job(1, 8);
    assert!(desk.sent().is_empty());
    let scheduler = desk.scheduler(1);
    assert_eq!(desk.sent(), [(0, scheduler)]);
    desk.pass(610, &[scheduler]);
    assert_eq!(desk.state(job), JobState::TimedOut);
    assert!(desk.outputs.contains(&Output::CancelPart { job, part: 0, to: scheduler }));
}

#[test]
fn a_cancelled_job_ends_at_once_and_only_once() {
    let mut desk = Desk::new();
    let scheduler = desk.scheduler(1);
    let job = desk.job(2, 1);
    assert_eq!(desk.ask(|request| Input::JobCancelled { request, job }), Ok(Reply::Job(job)));
    assert!(desk.outputs.contains(&Output::CancelPart { job, part: 0, to: scheduler }));
    assert_eq!(desk.state(job), JobState::Cancelled);
    assert_eq!(desk.ask(|request| Input::JobCancelled { request, job }), Err(Refusal::JobOver));
    desk.report(scheduler, job, 0, &[TargetState::Finished]);
    assert_eq!(desk.state(job), JobState::Cancelled);
}

#[test]
fn jobs_come_no_faster_than_the_limit() {
    let mut desk = Desk::new();
    let limits = Limits { job_rate_limit_per_sec: Some(2), ..Limits::default() };
    desk.set(change(limits)).expect("set");
    let create = |desk: &mut Desk| {
        let spec = Box::new(JobSpec { timeout: Duration::from_secs(9), ..JobSpec::default() });
        desk.ask(|request| Input::JobCreated { request, spec })
    };
    assert!(create(&mut desk).is_ok() && create(&mut desk).is_ok());
    assert_eq!(create(&mut desk), Err(Refusal::TooFast));
    desk.now += Duration::from_millis(500);
    assert!(create(&mut desk).is_ok());
}

#[test]
fn after_a_restart_everything_is_as_it_was_stored_and_jobs_go_on() {
    let mut desk = Desk::new();
    let scheduler = desk.scheduler(1);
    desk.set(change(upload_rate(1 << 20))).expect("set");
    let job = desk.job(2, 1);
    desk.report(scheduler, job, 0, &[TargetState::Finished]);
    let (version, stored) = (desk.version(), desk.stored());
    let mut desk = Desk::with(stored);
    assert_eq!(desk.version(), version, "nothing changed by it");
    assert_eq!(desk.registry.active(FIRST, MemberKind::Scheduler).count(), 1, "it has time to come back");
    assert!(desk.sent().is_empty(), "nobody is there to be told");
    assert_eq!(desk.join(77, introduction(MemberKind::Scheduler, 1)), Ok(scheduler));
    assert_eq!(desk.version(), version);
    assert_eq!(desk.sent(), [(1, scheduler)]);
    desk.report(scheduler, job, 1, &[TargetState::Finished]);
    assert_eq!(desk.state(job), JobState::Succeeded);
}

#[test]
fn clusters_keep_unique_names_and_go_only_when_empty() {
    let mut desk = Desk::new();
    let put = |desk: &mut Desk, cluster, name: &str| {
        let spec = ClusterSpec { name: name.to_owned(), ..ClusterSpec::default() };
        desk.ask(|request| Input::ClusterPut { request, cluster, spec, at_ms: 0 })
    };
    let made = ClusterId(2);
    assert_eq!(put(&mut desk, None, "east"), Ok(Reply::Cluster(made)));
    assert_eq!(put(&mut desk, None, "east"), Err(Refusal::NameTaken));
    assert_eq!(put(&mut desk, None, "a b"), Err(Refusal::BadName));
    assert_eq!(put(&mut desk, Some(made), "west"), Ok(Reply::Cluster(made)));
    let member = Introduction { cluster: "west".to_owned(), ..introduction(MemberKind::Peer, 1) };
    let member = desk.join(1, member).expect("joined");
    let remove = |desk: &mut Desk, cluster| desk.ask(|request| Input::ClusterRemoved { request, cluster });
    assert_eq!(remove(&mut desk, made), Err(Refusal::ClusterInUse));
    assert_eq!(remove(&mut desk, FIRST), Err(Refusal::DefaultCluster));
    assert_eq!(desk.ask(|request| Input::MemberDismissed { request, member }), Err(Refusal::MemberActive));
    desk.pass(20, &[]);
    assert_eq!(desk.ask(|request| Input::MemberDismissed { request, member }), Ok(Reply::Done));
    assert_eq!(remove(&mut desk, made), Ok(Reply::Done));
}
