//! Requests as calls of the manager, and its answers in words.

use df_api::failure::{Code, Failure};
use df_api::manager as pb;
use serde_json::json;

use super::manager::{Manager, answer, outcome};
use super::rows::{self, part_line};
use super::wire::{number, unhex};
use super::{Outcome, policy};
use crate::format;
use crate::model::PreheatScope;
use crate::request::{LimitKind, LimitScope, LimitValue, NewBlock, Preheat, Request};

impl Manager {
    /// Carries out one request in a cluster.
    ///
    /// # Errors
    /// What the manager says, or what is wrong with the request.
    pub async fn carry_out(&mut self, request: &Request, cluster_id: u64) -> Result<Outcome, Failure> {
        match request {
            Request::Preheat(preheat) => self.preheat(preheat, cluster_id).await,
            Request::CancelJob { job } => {
                let job_id = number(job, "job")?;
                let job = answer(self.client.cancel_job(pb::JobRequest { job_id, interval_ms: 0 })).await?;
                let job = rows::job(job, 0);
                Ok(Outcome { text: format!("job {job_id} is {}", job.state.word), json: json!(job) })
            }
            Request::DeleteTask { task } => {
                let task_id = unhex(task, "task")?;
                let done = outcome(self.client.delete_task(pb::TaskRequest { task_id })).await?;
                done_by("deleted", done)
            }
            Request::Isolate { host, seconds, reason } => {
                let request = pb::IsolateHostRequest {
                    host_id: unhex(host, "host")?,
                    term_ms: seconds.unwrap_or_default().saturating_mul(1000),
                    reason: reason.clone(),
                };
                done_by("isolated", outcome(self.client.isolate_host(request)).await?)
            }
            Request::Release { host } => {
                let host_id = unhex(host, "host")?;
                done_by("released", outcome(self.client.release_host(pb::HostRequest { host_id })).await?)
            }
            Request::SetLimits { scope, limits } => self.set_limits(scope, limits, cluster_id).await,
            Request::AddBlock(block) => self.add_block(block, cluster_id).await,
            Request::RemoveBlock { rule } => {
                let request = pb::RemoveBlockRuleRequest { cluster_id, rule_id: number(rule, "rule")? };
                let settings = answer(self.client.remove_block_rule(request)).await?;
                let policy = policy::policy(settings);
                Ok(Outcome { text: format!("rule {rule} is gone"), json: json!(policy) })
            }
            Request::RemoveMember { member } => {
                let member_id = number(member, "member")?;
                answer(self.client.remove_member(pb::MemberRequest { member_id })).await?;
                Ok(Outcome::said(format!("member {member} is forgotten")))
            }
            Request::AddUser { .. }
            | Request::ChangeUser { .. }
            | Request::EnableUser { .. }
            | Request::AddToken { .. }
            | Request::RevokeToken { .. } => self.admit(request).await,
            Request::DropContent { .. } => Err(Failure::new(Code::Internal, "that is the daemon's to do")),
        }
    }

    async fn preheat(&mut self, preheat: &Preheat, cluster_id: u64) -> Result<Outcome, Failure> {
        let scope = match preheat.scope {
            PreheatScope::SingleSeedPeer => pb::PreheatScope::SingleSeedPeer,
            PreheatScope::AllSeedPeers => pb::PreheatScope::AllSeedPeers,
            PreheatScope::AllPeers => pb::PreheatScope::AllPeers,
        };
        let kind = if preheat.is_image { pb::PreheatType::Image } else { pb::PreheatType::File };
        let request = pb::PreheatRequest {
            r#type: kind.into(),
            urls: preheat.urls.clone(),
            platform: preheat.platform.clone(),
            headers: preheat.headers.iter().cloned().collect(),
            username: preheat.username.clone(),
            password: preheat.password.clone(),
            tag: preheat.tag.clone(),
            application: preheat.application.clone(),
            piece_length: preheat.piece_length,
            scope: scope.into(),
            ips: preheat.ips.clone(),
            count: preheat.count,
            percentage: preheat.percentage,
            concurrent_task_limit: preheat.concurrency,
            timeout_ms: preheat.timeout_ms,
            cluster_ids: if cluster_id == 0 { Vec::new() } else { vec![cluster_id] },
            is_dry_run: preheat.is_dry_run,
            ..pb::PreheatRequest::default()
        };
        let job = rows::job(outcome(self.client.create_preheat(request)).await?, 0);
        let text = if preheat.is_dry_run {
            let parts = job.parts.iter().map(part_line);
            let head = format!("{} parts would be brought to {}:", job.parts.len(), job.scope);
            [head].into_iter().chain(parts).collect::<Vec<_>>().join("\n")
        } else {
            format!("job {} has begun", job.id)
        };
        Ok(Outcome { text, json: json!(job) })
    }

    async fn set_limits(
        &mut self,
        scope: &LimitScope,
        limits: &[(LimitKind, LimitValue)],
        cluster_id: u64,
    ) -> Result<Outcome, Failure> {
        let mut host = pb::HostLimits::default();
        let mut clear = Vec::new();
        let whom = if *scope == LimitScope::Seeds { "seed_peer" } else { "peer" };
        for (kind, value) in limits {
            let (limit, name) = match kind {
                LimitKind::Download => (&mut host.download_rate_bytes_per_sec, "download_rate_bytes_per_sec"),
                LimitKind::Upload => (&mut host.upload_rate_bytes_per_sec, "upload_rate_bytes_per_sec"),
                LimitKind::Source => (&mut host.source_rate_bytes_per_sec, "source_rate_bytes_per_sec"),
                LimitKind::Task => (&mut host.task_rate_bytes_per_sec, "task_rate_bytes_per_sec"),
            };
            match value {
                LimitValue::BytesPerSec(rate) => *limit = Some(*rate),
                LimitValue::Unlimited => *limit = Some(0),
                LimitValue::Unset => clear.push(format!("{whom}.{name}")),
            }
        }
        let mut request = pb::SetLimitsRequest { cluster_id, clear, ..pb::SetLimitsRequest::default() };
        let mut limits = pb::Limits::default();
        match scope {
            LimitScope::Peers => limits.peer = Some(host),
            LimitScope::Seeds => limits.seed_peer = Some(host),
            LimitScope::Host(id) => {
                request.host_id = unhex(id, "host")?;
                limits.peer = Some(host);
            }
        }
        request.limits = Some(limits);
        let policy = policy::policy(answer(self.client.set_limits(request)).await?);
        let text = format!("version {} is on its way to {} members", policy.version, policy.members);
        Ok(Outcome { text, json: json!(policy) })
    }

    async fn add_block(&mut self, block: &NewBlock, cluster_id: u64) -> Result<Outcome, Failure> {
        let unknown = || {
            Failure::new(Code::Usage, format!("{} is no field of a rule", block.kind))
                .hint("application, url, tag or priority")
        };
        let rule = pb::BlockRule {
            field: policy::field(&block.kind).ok_or_else(unknown)?.into(),
            value: block.value.clone(),
            blocks_download: block.blocks_download,
            blocks_upload: block.blocks_upload,
            reason: block.reason.clone(),
            ..pb::BlockRule::default()
        };
        let request = pb::AddBlockRuleRequest { cluster_id, rule: Some(rule) };
        let policy = policy::policy(answer(self.client.add_block_rule(request)).await?);
        let text = match policy.blocks.iter().filter_map(|rule| rule.id.parse::<u64>().ok()).max() {
            Some(id) => format!("rule {id} is on its way to {} members", policy.members),
            None => "the rule is gone again".to_owned(),
        };
        Ok(Outcome { text, json: json!(policy) })
    }

    /// Users and tokens.
    async fn admit(&mut self, request: &Request) -> Result<Outcome, Failure> {
        match request {
            Request::AddUser { name, role, password } => {
                let role = role_named(role)?;
                let (name, password) = (name.clone(), password.clone());
                let request = pb::CreateUserRequest { name, password, role: role.into() };
                let user = rows::user(answer(self.client.create_user(request)).await?);
                Ok(Outcome { text: format!("{} may sign in", format::clean(&user.name)), json: json!(user) })
            }
            Request::ChangeUser { user, role, password } => {
                let role = role.as_deref().map(role_named).transpose()?;
                let request = pb::UpdateUserRequest {
                    user_id: number(user, "user")?,
                    role: role.map(Into::into),
                    password: password.clone(),
                    ..pb::UpdateUserRequest::default()
                };
                let user = rows::user(answer(self.client.update_user(request)).await?);
                let what = if password.is_some() { ", with another password" } else { "" };
                let text = format!("{} is {}{what}", format::clean(&user.name), user.role);
                Ok(Outcome { text, json: json!(user) })
            }
            Request::EnableUser { user, is_enabled } => {
                let request = pb::UpdateUserRequest {
                    user_id: number(user, "user")?,
                    is_disabled: Some(!is_enabled),
                    ..pb::UpdateUserRequest::default()
                };
                let user = rows::user(answer(self.client.update_user(request)).await?);
                let text = format!("{} is {}", format::clean(&user.name), user.state.word);
                Ok(Outcome { text, json: json!(user) })
            }
            Request::AddToken { name, scopes, seconds } => {
                let ttl_ms = seconds.unwrap_or_default().saturating_mul(1000);
                let request = pb::CreateTokenRequest { name: name.clone(), scopes: scopes.clone(), ttl_ms };
                let created = answer(self.client.create_token(request)).await?;
                let token = rows::token(created.token.unwrap_or_default(), 0);
                let text = format!("{}\n\nThis is token {}; it is shown this once.", created.secret, token.id);
                Ok(Outcome { text, json: json!({ "token": token, "secret": created.secret }) })
            }
            Request::RevokeToken { token } => {
                let token_id = number(token, "token")?;
                answer(self.client.revoke_token(pb::TokenRequest { token_id })).await?;
                Ok(Outcome::said(format!("token {token} is revoked")))
            }
            _ => Err(Failure::new(Code::Internal, "neither a user nor a token")),
        }
    }

    /// The number of the user with this name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn user_number(&mut self, name: &str) -> Result<String, Failure> {
        let users = answer(self.client.list_users(())).await?.users;
        let found = users.into_iter().find(|user| user.name == name);
        let unknown = || Failure::new(Code::NotFound, format!("there is no user {name}"));
        found.map(|user| user.id.to_string()).ok_or_else(unknown)
    }
}

fn role_named(name: &str) -> Result<pb::Role, Failure> {
    match name {
        "guest" => Ok(pb::Role::Guest),
        "operator" => Ok(pb::Role::OperatorRole),
        "root" => Ok(pb::Role::Root),
        _ => Err(Failure::new(Code::Usage, "roles are guest, operator and root")),
    }
}

/// How far an operation got, in words; nobody having done it is a failure.
fn done_by(what: &str, done: pb::Done) -> Result<Outcome, Failure> {
    let why = done.failures.iter().map(|text| format::clean(text)).collect::<Vec<_>>().join("; ");
    if done.done == 0 && done.asked > 0 {
        return Err(Failure::new(Code::Network, format!("no scheduler could: {what} nowhere")).because(why));
    }
    let mut text = format!("{what}: {} hosts, by {} of {} schedulers", done.hosts, done.done, done.asked);
    if !why.is_empty() {
        text = format!("{text}; {why}");
    }
    let json = json!({ "done": done.done, "asked": done.asked, "hosts": done.hosts, "failures": done.failures });
    Ok(Outcome { text, json })
}
