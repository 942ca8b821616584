//! `manager.Console` as gRPC: what operators' tools ask.

mod actions;
mod views;

use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::manager::console_server::Console;
use df_core::registry::ClusterId;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::auth::{Caller, Right};
use super::desk::Desk;
use super::gate::{Gate, Visit, shown};
use super::overview::page_len;
use super::preheat::Preheater;
use crate::env::net::Remote;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service(Arc<Inner>);

pub(super) struct Inner {
    desk: Desk,
    gate: Gate,
    preheater: Preheater,
}

type Answers<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

impl Service {
    pub(super) fn new(desk: Desk, gate: Gate, preheater: Preheater) -> Self {
        Self(Arc::new(Inner { desk, gate, preheater }))
    }

    /// Lets a call pass and takes it apart.
    fn pass<T>(&self, request: Request<T>, right: Option<Right>) -> Result<(Visit, T), Failure> {
        let visit = self.0.gate.pass(&request, right)?;
        Ok((visit, request.into_inner()))
    }

    /// Notes what was done, and answers.
    async fn noted<T>(
        &self,
        visit: &Visit,
        (action, object, detail): (&str, &str, &str),
        result: Result<T, Failure>,
    ) -> Result<Response<T>, Status> {
        self.0.gate.record(visit, action, object, detail, &result).await;
        Ok(Response::new(result?))
    }
}

fn identity(caller: &Caller) -> wire::Identity {
    wire::Identity {
        user: caller.user.clone(),
        role: caller.role.into(),
        scopes: caller.rights.names(),
        expires_at_ms: caller.expires_at_ms,
        must_change_password: caller.must_change_password,
        token_id: caller.token.0,
    }
}

#[tonic::async_trait]
impl Console for Service {
    type WatchOverviewStream = BoxStream<'static, Result<wire::Overview, Status>>;
    type WatchTasksStream = BoxStream<'static, Result<wire::TaskPage, Status>>;
    type WatchHostsStream = BoxStream<'static, Result<wire::HostPage, Status>>;
    type WatchTaskStream = BoxStream<'static, Result<wire::TaskView, Status>>;
    type WatchBlacklistStream = BoxStream<'static, Result<wire::BlacklistPage, Status>>;
    type WatchMembersStream = BoxStream<'static, Result<wire::MemberPage, Status>>;
    type WatchJobsStream = BoxStream<'static, Result<wire::JobPage, Status>>;
    type WatchJobStream = BoxStream<'static, Result<wire::Job, Status>>;
    type WatchEventsStream = BoxStream<'static, Result<wire::EventBatch, Status>>;

    async fn sign_in(&self, request: Request<wire::SignInRequest>) -> Result<Response<wire::Session>, Status> {
        let ip = request.extensions().get::<Remote>().map_or_else(String::new, shown);
        let asked = request.into_inner();
        let signed_in = self.0.gate.auth.sign_in(&asked.name, &asked.password).await;
        self.0.gate.record_stranger(ip, &asked.name, "session.create", &signed_in).await;
        let (token, caller) = signed_in?;
        Ok(Response::new(wire::Session { token, identity: Some(identity(&caller)) }))
    }

    async fn sign_out(&self, request: Request<()>) -> Result<Response<()>, Status> {
        let (visit, ()) = self.pass(request, None)?;
        let result = self.0.gate.auth.revoke(&visit.caller, visit.caller.token.0).await;
        self.noted(&visit, ("session.end", "", ""), result).await
    }

    async fn who_am_i(&self, request: Request<()>) -> Result<Response<wire::Identity>, Status> {
        let (visit, ()) = self.pass(request, None)?;
        Ok(Response::new(identity(&visit.caller)))
    }

    async fn watch_overview(&self, request: Request<wire::WatchOverviewRequest>) -> Answers<wire::Overview> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.overview(visit, asked)))
    }

    async fn watch_tasks(&self, request: Request<wire::WatchRowsRequest>) -> Answers<wire::TaskPage> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.tasks(visit, asked)))
    }

    async fn watch_hosts(&self, request: Request<wire::WatchRowsRequest>) -> Answers<wire::HostPage> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.hosts(visit, asked)))
    }

    async fn watch_task(&self, request: Request<wire::WatchTaskRequest>) -> Answers<wire::TaskView> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        super::convert::task_id(&asked.task_id)?;
        if !asked.host_id.is_empty() {
            super::convert::host_id(&asked.host_id)?;
        }
        Ok(Response::new(self.task(visit, asked)))
    }

    async fn watch_blacklist(&self, request: Request<wire::WatchRowsRequest>) -> Answers<wire::BlacklistPage> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.blacklist(visit, asked)))
    }

    async fn watch_members(&self, request: Request<wire::WatchRowsRequest>) -> Answers<wire::MemberPage> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.members(visit, asked)))
    }

    async fn watch_jobs(&self, request: Request<wire::WatchRowsRequest>) -> Answers<wire::JobPage> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.jobs(visit, asked)))
    }

    async fn watch_job(&self, request: Request<wire::JobRequest>) -> Answers<wire::Job> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.job(visit, asked)))
    }

    async fn watch_events(&self, request: Request<wire::WatchEventsRequest>) -> Answers<wire::EventBatch> {
        let (visit, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.events(visit, asked)))
    }

    async fn list_clusters(&self, request: Request<()>) -> Result<Response<wire::ClusterList>, Status> {
        self.pass(request, Some(Right::View))?;
        Ok(Response::new(wire::ClusterList { clusters: self.clusters().await? }))
    }

    async fn get_settings(&self, request: Request<wire::ClusterRequest>) -> Result<Response<wire::Settings>, Status> {
        let (_, asked) = self.pass(request, Some(Right::View))?;
        Ok(Response::new(self.settings(ClusterId(asked.cluster_id)).await?))
    }

    async fn isolate_host(&self, request: Request<wire::IsolateHostRequest>) -> Result<Response<wire::Done>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Operate))?;
        self.isolate(visit, asked).await
    }

    async fn release_host(&self, request: Request<wire::HostRequest>) -> Result<Response<wire::Done>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Operate))?;
        self.release(visit, asked).await
    }

    async fn delete_task(&self, request: Request<wire::TaskRequest>) -> Result<Response<wire::Done>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Operate))?;
        self.delete(visit, asked).await
    }

    async fn remove_member(&self, request: Request<wire::MemberRequest>) -> Result<Response<()>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Operate))?;
        self.dismiss(visit, asked).await
    }

    async fn create_preheat(&self, request: Request<wire::PreheatRequest>) -> Result<Response<wire::Job>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Preheat))?;
        Ok(Response::new(self.preheat(&visit, asked).await?))
    }

    async fn cancel_job(&self, request: Request<wire::JobRequest>) -> Result<Response<wire::Job>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Preheat))?;
        self.cancel(visit, asked).await
    }

    async fn set_limits(&self, request: Request<wire::SetLimitsRequest>) -> Result<Response<wire::Settings>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Configure))?;
        self.limit(visit, asked).await
    }

    async fn add_block_rule(
        &self,
        request: Request<wire::AddBlockRuleRequest>,
    ) -> Result<Response<wire::Settings>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Configure))?;
        self.block(visit, asked).await
    }

    async fn remove_block_rule(
        &self,
        request: Request<wire::RemoveBlockRuleRequest>,
    ) -> Result<Response<wire::Settings>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Configure))?;
        self.unblock(visit, asked).await
    }

    async fn put_cluster(&self, request: Request<wire::Cluster>) -> Result<Response<wire::Cluster>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Configure))?;
        self.change_cluster(visit, asked).await
    }

    async fn remove_cluster(&self, request: Request<wire::ClusterRequest>) -> Result<Response<()>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Configure))?;
        self.drop_cluster(visit, asked).await
    }

    async fn list_tokens(&self, request: Request<()>) -> Result<Response<wire::TokenList>, Status> {
        let (visit, ()) = self.pass(request, None)?;
        Ok(Response::new(wire::TokenList { tokens: self.0.gate.auth.tokens(&visit.caller) }))
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreatedToken>, Status> {
        let (visit, asked) = self.pass(request, None)?;
        let (name, detail) = (asked.name.clone(), asked.scopes.join(" "));
        let result = self.0.gate.auth.create_token(&visit.caller, asked).await;
        self.noted(&visit, ("token.create", &name, &detail), result).await
    }

    async fn revoke_token(&self, request: Request<wire::TokenRequest>) -> Result<Response<()>, Status> {
        let (visit, asked) = self.pass(request, None)?;
        let result = self.0.gate.auth.revoke(&visit.caller, asked.token_id).await;
        self.noted(&visit, ("token.revoke", &asked.token_id.to_string(), ""), result).await
    }

    async fn change_password(&self, request: Request<wire::ChangePasswordRequest>) -> Result<Response<()>, Status> {
        let (visit, asked) = self.pass(request, None)?;
        let result = self.0.gate.auth.change_password(&visit.caller, asked.old_password, asked.new_password).await;
        self.noted(&visit, ("password.change", &visit.caller.user, ""), result).await
    }

    async fn list_users(&self, request: Request<()>) -> Result<Response<wire::UserList>, Status> {
        self.pass(request, Some(Right::Admin))?;
        Ok(Response::new(wire::UserList { users: self.0.gate.auth.users() }))
    }

    async fn create_user(&self, request: Request<wire::CreateUserRequest>) -> Result<Response<wire::User>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Admin))?;
        let (name, role) = (asked.name.clone(), asked.role().as_str_name());
        let result = self.0.gate.auth.create_user(asked).await;
        self.noted(&visit, ("user.create", &name, role), result).await
    }

    async fn update_user(&self, request: Request<wire::UpdateUserRequest>) -> Result<Response<wire::User>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Admin))?;
        let role = asked.role.map(|_| asked.role().as_str_name());
        let detail =
            format!("role {role:?}, disabled {:?}, new password {}", asked.is_disabled, asked.password.is_some());
        let id = asked.user_id.to_string();
        let result = self.0.gate.auth.update_user(asked).await;
        self.noted(&visit, ("user.update", &id, &detail), result).await
    }

    async fn remove_user(&self, request: Request<wire::UserRequest>) -> Result<Response<()>, Status> {
        let (visit, asked) = self.pass(request, Some(Right::Admin))?;
        let result = self.0.gate.auth.remove_user(asked.user_id).await;
        self.noted(&visit, ("user.remove", &asked.user_id.to_string(), ""), result).await
    }

    async fn list_audit(&self, request: Request<wire::AuditRequest>) -> Result<Response<wire::AuditPage>, Status> {
        let (_, asked) = self.pass(request, Some(Right::Admin))?;
        let limit = page_len(asked.limit);
        Ok(Response::new(self.0.gate.audit(asked, limit).await?))
    }
}

/// A job that is not there.
fn no_job(id: u64) -> Failure {
    Failure::new(Code::NotFound, format!("there is no job {id}"))
}

/// What the REST port asks for.
impl Service {
    pub(super) fn pass_token(&self, token: Option<&str>, right: Right, ip: String) -> Result<Visit, Failure> {
        self.0.gate.pass_token(token, Some(right), ip)
    }

    /// All jobs without their parts, the latest first.
    pub(super) async fn jobs_now(&self) -> Result<Vec<wire::Job>, Failure> {
        let times = self.0.desk.times();
        let message = move |registry: &df_core::registry::Registry| {
            registry.jobs().rev().map(|(id, job)| super::convert::job_message(id, job, None, times)).collect()
        };
        self.0.desk.look(message).await
    }

    pub(super) async fn clusters_now(&self) -> Result<Vec<wire::Cluster>, Failure> {
        self.clusters().await
    }

    /// Whether the manager can do its work.
    pub(super) async fn readiness(&self) -> Result<(), Failure> {
        self.0.desk.look(|_| ()).await?;
        match self.0.desk.store_failure() {
            Some(why) => Err(Failure::new(Code::LocalIo, why)),
            None => Ok(()),
        }
    }
}
