//! What operators change: each change is noted with who, what and how it ended.

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::manager::member_order::Order as Down;
use df_core::registry::{ClusterId, Input, JobId, LimitsChange, MemberId, Registry, Reply};
use tonic::{Response, Status};

use super::views::{cluster_message, settings_message};
use super::{Service, no_job};
use crate::manager::convert;
use crate::manager::gate::Visit;
use crate::manager::overview::hex;

/// Longest reason of an isolation, in bytes.
const REASON_LIMIT: usize = 512;

/// Targets of one part that are shown.
const TARGET_LIMIT: usize = 100;

impl Service {
    pub(super) async fn isolate(
        &self,
        visit: Visit,
        asked: wire::IsolateHostRequest,
    ) -> Result<Response<wire::Done>, Status> {
        let (host, reason) = (hex(&asked.host_id), asked.reason.clone());
        let result = if asked.reason.len() > REASON_LIMIT {
            Err(Failure::new(Code::Usage, format!("a reason has at most {REASON_LIMIT} bytes")))
        } else {
            self.order_host(asked.host_id, wire::HostAction::Isolate, asked.term_ms, asked.reason).await
        };
        self.noted(&visit, ("host.isolate", &host, &reason), result).await
    }

    pub(super) async fn release(&self, visit: Visit, asked: wire::HostRequest) -> Result<Response<wire::Done>, Status> {
        let host = hex(&asked.host_id);
        let result = self.order_host(asked.host_id, wire::HostAction::Release, 0, String::new()).await;
        self.noted(&visit, ("host.release", &host, ""), result).await
    }

    async fn order_host(
        &self,
        host_id: Vec<u8>,
        action: wire::HostAction,
        term_ms: u64,
        reason: String,
    ) -> Result<wire::Done, Failure> {
        convert::host_id(&host_id)?;
        let order =
            |order_id| Down::Host(wire::HostOrder { order_id, host_id, action: action.into(), term_ms, reason });
        Ok(self.0.desk.operate(order).await)
    }

    pub(super) async fn delete(&self, visit: Visit, asked: wire::TaskRequest) -> Result<Response<wire::Done>, Status> {
        let task = hex(&asked.task_id);
        let result = match convert::task_id(&asked.task_id) {
            Ok(_) => {
                let order = |order_id| Down::Delete(wire::DeleteOrder { order_id, task_id: asked.task_id });
                Ok(self.0.desk.operate(order).await)
            }
            Err(failure) => Err(failure),
        };
        self.noted(&visit, ("task.delete", &task, ""), result).await
    }

    pub(super) async fn dismiss(&self, visit: Visit, asked: wire::MemberRequest) -> Result<Response<()>, Status> {
        let member = MemberId(asked.member_id);
        let result = self.0.desk.ask(|request| Input::MemberDismissed { request, member }, |_, _| ()).await;
        self.noted(&visit, ("member.remove", &member.to_string(), ""), result).await
    }

    pub(in crate::manager) async fn preheat(
        &self,
        visit: &Visit,
        asked: wire::PreheatRequest,
    ) -> Result<wire::Job, Failure> {
        if asked.is_dry_run {
            return self.0.preheater.plan(asked, &visit.caller.user).await;
        }
        let result = self.create_job(visit, asked).await;
        let (id, urls) = result.as_ref().map(|job| (job.id.to_string(), job.urls.join(" "))).unwrap_or_default();
        self.0.gate.record(visit, "preheat.create", &id, &urls, &result).await;
        result
    }

    async fn create_job(&self, visit: &Visit, asked: wire::PreheatRequest) -> Result<wire::Job, Failure> {
        let spec = Box::new(self.0.preheater.take(asked, &visit.caller.user)?);
        let (times, ticket) = (self.0.desk.times(), spec.ticket);
        let read = move |registry: &Registry, reply| match reply {
            Reply::Job(id) => registry.job(id).map(|job| convert::job_message(id, job, Some(TARGET_LIMIT), times)),
            _ => None,
        };
        let created = self.0.desk.ask(|request| Input::JobCreated { request, spec }, read).await;
        if created.is_err() {
            self.0.desk.drop_order(ticket);
        }
        created?.ok_or_else(|| no_job(0))
    }

    /// A job as it is now.
    pub(in crate::manager) async fn job_now(&self, id: u64) -> Result<wire::Job, Failure> {
        let times = self.0.desk.times();
        let read = move |registry: &Registry| {
            registry.job(JobId(id)).map(|job| convert::job_message(JobId(id), job, Some(TARGET_LIMIT), times))
        };
        self.0.desk.look(read).await?.ok_or_else(|| no_job(id))
    }

    pub(super) async fn cancel(&self, visit: Visit, asked: wire::JobRequest) -> Result<Response<wire::Job>, Status> {
        let (job, id) = (JobId(asked.job_id), asked.job_id.to_string());
        let cancelled = self.0.desk.ask(|request| Input::JobCancelled { request, job }, |_, _| ()).await;
        let result = match cancelled {
            Ok(()) => self.job_now(asked.job_id).await,
            Err(failure) => Err(failure),
        };
        self.noted(&visit, ("job.cancel", &id, ""), result).await
    }

    pub(super) async fn limit(
        &self,
        visit: Visit,
        asked: wire::SetLimitsRequest,
    ) -> Result<Response<wire::Settings>, Status> {
        let (cluster, detail) = (asked.cluster_id.to_string(), limits_text(&asked));
        let result = self.set_limits(&visit, asked).await;
        self.noted(&visit, ("limits.set", &cluster, &detail), result).await
    }

    async fn set_limits(&self, visit: &Visit, asked: wire::SetLimitsRequest) -> Result<wire::Settings, Failure> {
        let host = match asked.host_id.as_slice() {
            [] => None,
            bytes => {
                let host = convert::host_id(bytes)?;
                let name = move |registry: &Registry| {
                    let mut said = registry.members().map(|(_, member)| &member.introduction);
                    said.find(|said| said.host_id == Some(host)).map(|said| said.hostname.clone())
                };
                Some((host, self.0.desk.look(name).await?.unwrap_or_default()))
            }
        };
        let change = Box::new(LimitsChange {
            cluster: ClusterId(asked.cluster_id),
            host,
            limits: asked.limits.as_ref().map(convert::limits).unwrap_or_default(),
            clear: asked.clear,
            expected_version: asked.expected_version,
        });
        let by = (visit.caller.user.clone(), self.0.desk.times().now_ms());
        let read = settings_of(change.cluster);
        self.0.desk.ask(|request| Input::LimitsSet { request, change, by }, read).await
    }

    pub(super) async fn block(
        &self,
        visit: Visit,
        asked: wire::AddBlockRuleRequest,
    ) -> Result<Response<wire::Settings>, Status> {
        let cluster = ClusterId(asked.cluster_id);
        let rule = wire::BlockRule {
            id: 0,
            created_by: visit.caller.user.clone(),
            created_at_ms: self.0.desk.times().now_ms(),
            ..asked.rule.unwrap_or_default()
        };
        let detail = format!("{} {:?}: {}", rule.field().as_str_name(), rule.value, rule.reason);
        let result = match has_effect(&rule).and_then(|()| convert::rule(rule)) {
            Ok(rule) => {
                let rule = Box::new(rule);
                self.0.desk.ask(|request| Input::RuleAdded { request, cluster, rule }, settings_of(cluster)).await
            }
            Err(failure) => Err(failure),
        };
        self.noted(&visit, ("block.add", &cluster.to_string(), &detail), result).await
    }

    pub(super) async fn unblock(
        &self,
        visit: Visit,
        asked: wire::RemoveBlockRuleRequest,
    ) -> Result<Response<wire::Settings>, Status> {
        let (cluster, rule) = (ClusterId(asked.cluster_id), asked.rule_id);
        let by = (visit.caller.user.clone(), self.0.desk.times().now_ms());
        let removed = |request| Input::RuleRemoved { request, cluster, rule, by };
        let result = self.0.desk.ask(removed, settings_of(cluster)).await;
        self.noted(&visit, ("block.remove", &cluster.to_string(), &rule.to_string()), result).await
    }

    pub(super) async fn change_cluster(
        &self,
        visit: Visit,
        asked: wire::Cluster,
    ) -> Result<Response<wire::Cluster>, Status> {
        let (cluster, name) = ((asked.id != 0).then_some(ClusterId(asked.id)), asked.name.clone());
        let at_ms = self.0.desk.times().now_ms();
        let read = |registry: &Registry, reply| match reply {
            Reply::Cluster(id) => cluster_message(registry, id),
            _ => wire::Cluster::default(),
        };
        let result = match convert::cluster_spec(asked) {
            Ok(spec) => self.0.desk.ask(|request| Input::ClusterPut { request, cluster, spec, at_ms }, read).await,
            Err(failure) => Err(failure),
        };
        self.noted(&visit, ("cluster.put", &name, ""), result).await
    }

    pub(super) async fn drop_cluster(&self, visit: Visit, asked: wire::ClusterRequest) -> Result<Response<()>, Status> {
        let cluster = ClusterId(asked.cluster_id);
        let result = self.0.desk.ask(|request| Input::ClusterRemoved { request, cluster }, |_, _| ()).await;
        self.noted(&visit, ("cluster.remove", &cluster.to_string(), ""), result).await
    }
}

fn settings_of(cluster: ClusterId) -> impl FnOnce(&Registry, Reply) -> wire::Settings + Send + 'static {
    move |registry, _| settings_message(registry, cluster).unwrap_or_default()
}

/// Says no to rules that nobody holds to yet: a rule without effect would be believed.
fn has_effect(rule: &wire::BlockRule) -> Result<(), Failure> {
    match rule.field() {
        wire::BlockField::Priority if rule.blocks_upload => {
            Err(Failure::new(Code::Usage, "uploads have no priority, only downloads do"))
        }
        _ => Ok(()),
    }
}

/// What a change of limits says, for the audit log.
fn limits_text(asked: &wire::SetLimitsRequest) -> String {
    let mut words = Vec::new();
    if !asked.host_id.is_empty() {
        words.push(format!("host {}", hex(&asked.host_id)));
    }
    let limits = asked.limits.unwrap_or_default();
    for (name, limits) in [("peer", limits.peer), ("seed_peer", limits.seed_peer)] {
        let limits = limits.unwrap_or_default();
        let values = [
            ("upload_slot_limit", limits.upload_slot_limit.map(u64::from)),
            ("download_slot_limit", limits.download_slot_limit.map(u64::from)),
            ("upload_rate_bytes_per_sec", limits.upload_rate_bytes_per_sec),
            ("download_rate_bytes_per_sec", limits.download_rate_bytes_per_sec),
            ("source_rate_bytes_per_sec", limits.source_rate_bytes_per_sec),
            ("task_rate_bytes_per_sec", limits.task_rate_bytes_per_sec),
        ];
        for (limit, value) in values.into_iter().filter_map(|(limit, value)| Some((limit, value?))) {
            words.push(format!("{name}.{limit}={value}"));
        }
    }
    let own = [
        ("candidate_parent_limit", limits.candidate_parent_limit),
        ("filter_parent_limit", limits.filter_parent_limit),
        ("job_rate_limit_per_sec", limits.job_rate_limit_per_sec),
    ];
    words.extend(own.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))));
    words.extend(asked.clear.iter().map(|name| format!("{name} cleared")));
    words.join(", ")
}
