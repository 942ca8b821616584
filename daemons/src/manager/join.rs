//! `manager.Manager` as gRPC: what members ask, in our own way and in Dragonfly's.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::manager::manager_server::Manager;
use df_api::manager::member_order::Order as Down;
use df_api::manager::member_report::Report as Up;
use df_api::manager::{MemberOrder, MemberReport};
use df_core::registry::{
    Beat, ClusterId, Input, Introduction, JobId, Member, MemberId, MemberKind, PartUpdate, Registry, Reply, Seeker,
    SessionId,
};
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::auth::Right;
use super::convert;
use super::desk::Desk;
use super::effects::configuration;
use super::gate::Gate;
use super::records;
use crate::env::net::Remote;

/// How long a new stream may take to introduce its member.
const HELLO_TERM: Duration = Duration::from_secs(5);

/// How often a member gives a sign of life, as it is told.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Schedulers that one answer of v1 names.
const V1_LIMIT: usize = 256;

/// Events taken from one report.
const EVENT_LIMIT: usize = 256;

/// Rows of one view that are looked at.
const TASK_LIMIT: usize = 1000;
const HOST_LIMIT: usize = 2000;

/// Targets of one part.
const TARGET_LIMIT: usize = 10_000;

/// The service.
pub(super) struct Service {
    desk: Desk,
    gate: Gate,
}

impl Service {
    pub(super) const fn new(desk: Desk, gate: Gate) -> Self {
        Self { desk, gate }
    }

    fn pass<T>(&self, request: &Request<T>) -> Result<Option<Remote>, Failure> {
        self.gate.pass(request, Some(Right::Join))?;
        Ok(request.extensions().get::<Remote>().copied())
    }

    /// Makes a member of who calls in Dragonfly's way, which has no stream.
    async fn join_v1<T: Send + 'static>(
        &self,
        introduction: Introduction,
        read: impl FnOnce(&Registry, MemberId, &Member) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let introduction = Box::new(introduction);
        let join = |request| Input::MemberJoined { request, session: SessionId(0), introduction };
        let read = move |registry: &Registry, reply| match reply {
            Reply::Member(id) => registry.member(id).map(|member| read(registry, id, member)),
            _ => None,
        };
        self.desk.ask(join, read).await?.ok_or_else(|| Failure::new(Code::Busy, "the member is gone"))
    }

    /// The member a v1 call is about.
    async fn find<T: Send + 'static>(
        &self,
        kind: MemberKind,
        hostname: String,
        cluster: u64,
        read: impl FnOnce(&Registry, MemberId, &Member) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let missing = format!("no {kind:?} {hostname:?} in cluster {cluster}");
        let found = self.desk.look(move |registry| {
            let is_it = |(_, member): &(MemberId, &Member)| {
                let said = &member.introduction;
                let is_cluster = cluster == 0 || member.cluster == ClusterId(cluster);
                said.kind == kind && said.hostname == hostname && is_cluster
            };
            let mut found: Vec<(MemberId, &Member)> = registry.members().filter(is_it).collect();
            found.sort_by_key(|(_, member)| !member.is_active);
            found.first().map(|(id, member)| read(registry, *id, member))
        });
        found.await?.ok_or_else(|| Failure::new(Code::NotFound, missing))
    }
}

/// The first report of a stream.
async fn introduction(reports: &mut Streaming<MemberReport>) -> Result<wire::Hello, Status> {
    let missing = || Failure::new(Code::Usage, "a stream begins with who its member is");
    let first = tokio::time::timeout(HELLO_TERM, reports.next()).await.map_err(|_| missing())?;
    match first.ok_or_else(missing)??.report {
        Some(Up::Hello(hello)) => Ok(hello),
        _ => Err(missing().into()),
    }
}

/// A member's stream, from its introduction to its end.
struct Session {
    desk: Desk,
    member: MemberId,
    session: SessionId,
    hostname: String,
    kind: MemberKind,
}

impl Session {
    async fn listen(self, mut reports: Streaming<MemberReport>, closed: CancellationToken) {
        loop {
            let next = tokio::select! { biased;
                () = closed.cancelled() => break,
                next = reports.next() => next,
            };
            let Some(Ok(MemberReport { report: Some(report) })) = next else { break };
            if let Err(failure) = self.hear(report).await {
                tracing::warn!(member = self.hostname, %failure, "a member's stream is cut");
                break;
            }
        }
        self.desk.unseat(self.session);
        self.desk.tell(Input::SessionEnded { member: self.member, session: self.session }).await;
    }

    async fn hear(&self, report: Up) -> Result<(), Failure> {
        let is_scheduler = self.kind == MemberKind::Scheduler;
        match report {
            Up::Beat(beat) => {
                let beat = Beat {
                    version: beat.configuration_version,
                    refused: beat.refused.chars().filter(|c| !c.is_control()).take(512).collect(),
                    disk_used_bytes: beat.disk_used_bytes,
                    disk_limit_bytes: beat.disk_limit_bytes,
                };
                self.desk.tell(Input::MemberBeat { member: self.member, beat }).await;
            }
            Up::Events(batch) => {
                for event in batch.events.into_iter().take(EVENT_LIMIT) {
                    self.desk.events().add(wire::Event { source: self.hostname.clone(), ..event });
                }
            }
            Up::View(mut view) if is_scheduler => {
                view.tasks.truncate(TASK_LIMIT);
                view.hosts.truncate(HOST_LIMIT);
                view.tasks.iter_mut().for_each(|row| row.scheduler.clone_from(&self.hostname));
                view.hosts.iter_mut().for_each(|row| row.scheduler.clone_from(&self.hostname));
                view.blacklist.iter_mut().for_each(|row| row.scheduler.clone_from(&self.hostname));
                self.desk.showed(self.member, view);
            }
            Up::Task(shown) if is_scheduler => {
                let wire::TaskShown { task_id, host_id, view } = shown;
                self.desk.showed_task(host_id, task_id, view.unwrap_or_default());
            }
            Up::Part(part) if is_scheduler => self.part(part).await?,
            Up::Done(done) if is_scheduler => self.desk.operated(done),
            Up::Hello(_) => return Err(Failure::new(Code::Usage, "a second introduction")),
            Up::View(_) | Up::Task(_) | Up::Part(_) | Up::Done(_) => {
                return Err(Failure::new(Code::Usage, "only schedulers say such things"));
            }
        }
        Ok(())
    }

    async fn part(&self, report: wire::PartReport) -> Result<(), Failure> {
        let targets = report.targets.iter().take(TARGET_LIMIT).map(convert::target);
        let update = PartUpdate {
            content_len: report.content_length,
            targets: targets.collect::<Result<_, _>>()?,
            is_over: report.is_over,
            failure: report.failure,
        };
        let (job, part) = (JobId(report.job_id), report.part);
        self.desk.tell(Input::PartReported { member: self.member, job, part, update: Box::new(update) }).await;
        Ok(())
    }
}

/// Orders to a member. Its session is over when they are.
fn orders(
    sent: mpsc::Receiver<MemberOrder>,
    closed: CancellationToken,
    welcome: wire::Welcome,
) -> BoxStream<'static, Result<MemberOrder, Status>> {
    let first = MemberOrder { order: Some(Down::Welcome(welcome)) };
    let rest = ReceiverStream::new(sent).map(Ok);
    let all = tokio_stream::once(Ok(first)).chain(rest);
    let until = async_stream::stream! {
        let mut all: Pin<Box<dyn futures_util::Stream<Item = Result<MemberOrder, Status>> + Send>> = Box::pin(all);
        loop {
            tokio::select! { biased;
                () = closed.cancelled() => break,
                next = all.next() => match next {
                    Some(order) => yield order,
                    None => break,
                },
            }
        }
    };
    Box::pin(until)
}

#[tonic::async_trait]
impl Manager for Service {
    type JoinStream = BoxStream<'static, Result<MemberOrder, Status>>;

    async fn join(&self, request: Request<Streaming<MemberReport>>) -> Result<Response<Self::JoinStream>, Status> {
        let remote = self.pass(&request)?;
        let mut reports = request.into_inner();
        let hello = introduction(&mut reports).await?;
        let ip = self.desk.address(&hello.ip, remote)?;
        let said = records::introduction(hello, ip)?;
        let (kind, hostname) = (said.kind, said.hostname.clone());
        let (seat, orders_sent) = self.desk.open();
        let (session, closed, introduction) = (seat.session, seat.closed.clone(), Box::new(said));
        let desk = self.desk.clone();
        // It is seated before the machine's next word can be for it.
        let read = move |registry: &Registry, reply| {
            let Reply::Member(id) = reply else { return None };
            let cluster = registry.member(id)?.cluster;
            desk.seat(seat, id, kind, cluster);
            Some((id, cluster, registry.cluster(cluster)?.spec.name.clone()))
        };
        let joined = self.desk.ask(|request| Input::MemberJoined { request, session, introduction }, read).await;
        let gone = || Failure::new(Code::Busy, "the member is gone");
        let (member, cluster_id, cluster) = match joined.and_then(|joined| joined.ok_or_else(gone)) {
            Ok(joined) => joined,
            Err(failure) => {
                self.desk.unseat(session);
                return Err(failure.into());
            }
        };
        let listening = Session { desk: self.desk.clone(), member, session, hostname, kind };
        tokio::spawn(listening.listen(reports, closed.clone()));
        let beat_interval_ms = u64::try_from(BEAT_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let welcome = wire::Welcome {
            member_id: member.0,
            cluster_id: cluster_id.0,
            cluster,
            ip: ip.to_string(),
            beat_interval_ms,
        };
        Ok(Response::new(orders(orders_sent, closed, welcome)))
    }

    async fn poll(&self, request: Request<wire::Hello>) -> Result<Response<wire::Configuration>, Status> {
        let remote = self.pass(&request)?;
        let hello = request.into_inner();
        let ip = self.desk.address(&hello.ip, remote)?;
        let said = records::introduction(hello, ip)?;
        let epoch = self.desk.epoch();
        let found = self.desk.look_stored(move |registry| {
            let named = registry.clusters().find(|(_, cluster)| cluster.spec.name == said.cluster).map(|(id, _)| id);
            let (hostname, idc, location) = (&*said.hostname, &*said.idc, &*said.location);
            let fitting = || registry.best_cluster(&Seeker { ip, hostname, idc, location });
            let cluster = if said.cluster.is_empty() { fitting() } else { named };
            cluster.and_then(|id| configuration(registry, id, epoch))
        });
        let unknown = || Failure::new(Code::NotFound, "there is no such cluster");
        Ok(Response::new(found.await?.ok_or_else(unknown)?))
    }

    async fn get_seed_peer(
        &self,
        request: Request<wire::GetSeedPeerRequest>,
    ) -> Result<Response<wire::SeedPeer>, Status> {
        self.pass(&request)?;
        let asked = request.into_inner();
        let found =
            self.find(MemberKind::SeedPeer, asked.host_name, asked.seed_peer_cluster_id, v1_seed_with_schedulers);
        Ok(Response::new(found.await?))
    }

    async fn update_seed_peer(
        &self,
        request: Request<wire::UpdateSeedPeerRequest>,
    ) -> Result<Response<wire::SeedPeer>, Status> {
        let remote = self.pass(&request)?;
        let asked = request.into_inner();
        let ip = self.desk.address(&asked.ip, remote)?;
        let cluster = self.cluster_name(asked.seed_peer_cluster_id).await?;
        let hello = wire::Hello {
            kind: wire::MemberKind::SeedPeer.into(),
            hostname: asked.host_name,
            rpc_port: u32::try_from(asked.port).unwrap_or(0),
            piece_port: u32::try_from(asked.download_port).unwrap_or(0),
            idc: asked.idc,
            location: asked.location,
            cluster,
            ..wire::Hello::default()
        };
        let joined = self.join_v1(records::introduction(hello, ip)?, v1_seed_with_schedulers);
        Ok(Response::new(joined.await?))
    }

    async fn get_scheduler(
        &self,
        request: Request<wire::GetSchedulerRequest>,
    ) -> Result<Response<wire::Scheduler>, Status> {
        self.pass(&request)?;
        let asked = request.into_inner();
        let found = self.find(MemberKind::Scheduler, asked.host_name, asked.scheduler_cluster_id, v1_scheduler);
        Ok(Response::new(found.await?))
    }

    async fn update_scheduler(
        &self,
        request: Request<wire::UpdateSchedulerRequest>,
    ) -> Result<Response<wire::Scheduler>, Status> {
        let remote = self.pass(&request)?;
        let asked = request.into_inner();
        let ip = self.desk.address(&asked.ip, remote)?;
        let cluster = self.cluster_name(asked.scheduler_cluster_id).await?;
        let hello = wire::Hello {
            kind: wire::MemberKind::Scheduler.into(),
            hostname: asked.host_name,
            rpc_port: u32::try_from(asked.port).unwrap_or(0),
            idc: asked.idc,
            location: asked.location,
            cluster,
            ..wire::Hello::default()
        };
        Ok(Response::new(self.join_v1(records::introduction(hello, ip)?, v1_scheduler).await?))
    }

    async fn list_schedulers(
        &self,
        request: Request<wire::ListSchedulersRequest>,
    ) -> Result<Response<wire::ListSchedulersResponse>, Status> {
        let remote = self.pass(&request)?;
        let asked = request.into_inner();
        let ip = self.desk.address(&asked.ip, remote)?;
        let found = self.desk.look(move |registry| {
            let said = |name: &str| asked.host_info.get(name).map_or("", String::as_str);
            let seeker = Seeker { ip, hostname: &asked.host_name, idc: said("idc"), location: said("location") };
            let cluster = registry.best_cluster(&seeker)?;
            let active = registry.active(cluster, MemberKind::Scheduler).take(V1_LIMIT);
            Some(active.map(|(id, member)| v1_scheduler(registry, id, member)).collect())
        });
        Ok(Response::new(wire::ListSchedulersResponse { schedulers: found.await?.unwrap_or_default() }))
    }

    async fn keep_alive(&self, request: Request<Streaming<wire::KeepAliveRequest>>) -> Result<Response<()>, Status> {
        self.pass(&request)?;
        let mut beats = request.into_inner();
        let mut known: BTreeMap<(i32, String, u64), MemberId> = BTreeMap::new();
        while let Some(beat) = beats.next().await {
            let beat = beat?;
            let kind = match beat.source_type() {
                wire::SourceType::SchedulerSource => MemberKind::Scheduler,
                wire::SourceType::SeedPeerSource => MemberKind::SeedPeer,
                wire::SourceType::PeerSource => continue,
            };
            let key = (beat.source_type, beat.host_name.clone(), beat.cluster_id);
            let member = match known.get(&key) {
                Some(member) => *member,
                // One stream is one member's.
                None if !known.is_empty() => {
                    return Err(Failure::new(Code::Usage, "signs of life of two members on one stream").into());
                }
                None => self.find(kind, beat.host_name, beat.cluster_id, |_, id, _| id).await?,
            };
            known.insert(key, member);
            self.desk.tell(Input::MemberBeat { member, beat: Beat::default() }).await;
        }
        Ok(Response::new(()))
    }
}

impl Service {
    /// The name of a cluster that v1 calls by its number; 0 is for the one that fits best.
    async fn cluster_name(&self, id: u64) -> Result<String, Failure> {
        if id == 0 {
            return Ok(String::new());
        }
        let name = move |registry: &Registry| registry.cluster(ClusterId(id)).map(|cluster| cluster.spec.name.clone());
        let unknown = || Failure::new(Code::NotFound, format!("there is no cluster {id}"));
        self.desk.look(name).await?.ok_or_else(unknown)
    }
}

fn v1_state(member: &Member) -> String {
    if member.is_active { "active".to_owned() } else { "inactive".to_owned() }
}

/// Scopes of a cluster as v1 has them: JSON.
fn v1_scopes(cluster: &df_core::registry::Cluster) -> Vec<u8> {
    let scopes = &cluster.spec.scopes;
    let cidrs: Vec<String> = scopes.cidrs.iter().map(ToString::to_string).collect();
    let json = serde_json::json!({
        "idc": scopes.idc, "location": scopes.location, "cidrs": cidrs, "hostnames": scopes.hostnames,
    });
    json.to_string().into_bytes()
}

fn load_limit(limits: &df_core::registry::HostLimits, otherwise: u32) -> Vec<u8> {
    serde_json::json!({ "load_limit": limits.upload_slot_limit.unwrap_or(otherwise) }).to_string().into_bytes()
}

fn v1_seed(registry: &Registry, id: MemberId, member: &Member) -> wire::SeedPeer {
    let said = &member.introduction;
    let cluster = registry.cluster(member.cluster).map(|cluster| wire::SeedPeerCluster {
        id: member.cluster.0,
        name: cluster.spec.name.clone(),
        bio: cluster.spec.description.clone(),
        config: load_limit(&cluster.limits.seed_peer, 2000),
        scopes: v1_scopes(cluster),
        security_group: None,
    });
    wire::SeedPeer {
        id: id.0,
        host_name: said.hostname.clone(),
        r#type: "super".to_owned(),
        idc: said.idc.clone(),
        location: said.location.clone(),
        ip: said.ip.to_string(),
        port: said.rpc_port.into(),
        download_port: said.piece_port.into(),
        state: v1_state(member),
        seed_peer_cluster_id: member.cluster.0,
        seed_peer_cluster: cluster,
        ..wire::SeedPeer::default()
    }
}

fn v1_seed_with_schedulers(registry: &Registry, id: MemberId, member: &Member) -> wire::SeedPeer {
    let schedulers = registry.active(member.cluster, MemberKind::Scheduler).take(V1_LIMIT);
    wire::SeedPeer {
        schedulers: schedulers.map(|(id, member)| v1_bare_scheduler(registry, id, member)).collect(),
        ..v1_seed(registry, id, member)
    }
}

fn v1_bare_scheduler(registry: &Registry, id: MemberId, member: &Member) -> wire::Scheduler {
    let said = &member.introduction;
    let cluster = registry.cluster(member.cluster).map(|cluster| {
        let limits = &cluster.limits;
        let config = serde_json::json!({
            "candidate_parent_limit": limits.candidate_parent_limit.unwrap_or(3),
            "filter_parent_limit": limits.filter_parent_limit.unwrap_or(15),
            "job_rate_limit": limits.job_rate_limit_per_sec.unwrap_or(10),
        });
        wire::SchedulerCluster {
            id: member.cluster.0,
            name: cluster.spec.name.clone(),
            bio: cluster.spec.description.clone(),
            config: config.to_string().into_bytes(),
            client_config: load_limit(&limits.peer, 200),
            scopes: v1_scopes(cluster),
            security_group: None,
        }
    });
    wire::Scheduler {
        id: id.0,
        host_name: said.hostname.clone(),
        idc: said.idc.clone(),
        location: said.location.clone(),
        ip: said.ip.to_string(),
        port: said.rpc_port.into(),
        state: v1_state(member),
        scheduler_cluster_id: member.cluster.0,
        scheduler_cluster: cluster,
        ..wire::Scheduler::default()
    }
}

fn v1_scheduler(registry: &Registry, id: MemberId, member: &Member) -> wire::Scheduler {
    let seeds = registry.active(member.cluster, MemberKind::SeedPeer).take(V1_LIMIT);
    wire::Scheduler {
        seed_peers: seeds.map(|(id, member)| v1_seed(registry, id, member)).collect(),
        ..v1_bare_scheduler(registry, id, member)
    }
}
