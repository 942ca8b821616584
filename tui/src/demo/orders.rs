//! What the made-up cluster does when it is asked for changes.

use df_api::failure::Failure;

use super::{Demo, note};
use crate::model::{AuditEntry, Block, Isolated, Job, Limits, Mark, Scope, State, Subject, Token, User};
use crate::request::{LimitKind, LimitScope, LimitValue, Request};

impl Demo {
    /// Does what is asked for, and says what came of it.
    ///
    /// # Errors
    /// What a manager would say.
    pub fn carry_out(&mut self, request: &Request) -> Result<String, Failure> {
        let (action, target, done) = match request {
            Request::Preheat(preheat) => {
                let id = self.next_job();
                let url = preheat.urls.first().cloned().unwrap_or_default();
                if preheat.is_dry_run {
                    return Ok(format!("{url} would be brought to {}", preheat.scope));
                }
                self.snapshot.jobs.insert(0, self.job(id.clone(), url, preheat));
                ("preheat.create", format!("job {id}"), format!("job {id} has begun"))
            }
            Request::CancelJob { job: id } => {
                let job = self.snapshot.jobs.iter_mut().find(|job| job.id == *id).filter(|job| job.is_running());
                let job = job.ok_or_else(|| Self::unknown("running job", id))?;
                job.state = State::new(Mark::Warn, "cancelled");
                ("job.cancel", format!("job {id}"), format!("job {id} is cancelled"))
            }
            Request::DeleteTask { task: id } => {
                let at = self.snapshot.tasks.iter().position(|task| task.id == *id);
                let task = self.snapshot.tasks.remove(at.ok_or_else(|| Self::unknown("task", id))?);
                let done = format!("{} is deleted on {} hosts", task.name(), task.peers);
                ("task.delete", task.name().to_owned(), done)
            }
            Request::DropContent { cid, tag } => {
                self.snapshot.contents.retain(|content| content.cid != *cid || content.tag != *tag);
                return Ok(format!("{cid} is dropped from this node"));
            }
            Request::Isolate { host, seconds, reason } => self.isolate(host, *seconds, reason)?,
            Request::Release { host } => self.release(host)?,
            Request::SetLimits { scope, limits } => self.set_limits(scope, limits),
            Request::AddBlock(block) => {
                let rules = &mut self.snapshot.policy.blocks;
                let id = rules.iter().filter_map(|rule| rule.id.parse::<u64>().ok()).max().unwrap_or_default() + 1;
                let direction = match (block.blocks_download, block.blocks_upload) {
                    (true, true) => "both",
                    (true, _) => "download",
                    _ => "upload",
                };
                rules.push(Block {
                    id: id.to_string(),
                    kind: block.kind.clone(),
                    value: block.value.clone(),
                    direction: direction.to_owned(),
                    hosts: "all".to_owned(),
                    reason: block.reason.clone(),
                    by: self.snapshot.user.clone(),
                    created_at: self.snapshot.taken_at,
                });
                ("block.add", format!("rule {id}"), format!("rule {id} is in force"))
            }
            Request::RemoveBlock { rule } => {
                self.snapshot.policy.blocks.retain(|known| known.id != *rule);
                ("block.remove", format!("rule {rule}"), format!("rule {rule} is gone"))
            }
            Request::RemoveMember { member } => {
                self.snapshot.members.retain(|known| known.id != *member);
                ("member.remove", format!("member {member}"), format!("member {member} is forgotten"))
            }
            request => self.admit(request),
        };
        self.audit(action, target);
        Ok(done)
    }

    fn next_job(&self) -> String {
        let last = self.snapshot.jobs.iter().filter_map(|job| job.id.parse::<u64>().ok()).max();
        (last.unwrap_or_default() + 1).to_string()
    }

    fn job(&self, id: String, url: String, preheat: &crate::request::Preheat) -> Job {
        Job {
            id,
            kind: if preheat.is_image { "image".to_owned() } else { "file".to_owned() },
            state: State::new(Mark::Busy, "preheating"),
            url,
            scope: preheat.scope,
            all: if preheat.is_image { 7 } else { 1 },
            user: self.snapshot.user.clone(),
            created_at: self.snapshot.taken_at,
            ..Job::default()
        }
    }

    fn isolate(
        &mut self,
        id: &str,
        seconds: Option<u64>,
        reason: &str,
    ) -> Result<(&'static str, String, String), Failure> {
        let host = self.snapshot.hosts.iter_mut().find(|host| host.id == *id);
        let host = host.ok_or_else(|| Self::unknown("host", id))?;
        host.is_isolated = true;
        host.reason = reason.to_owned();
        let name = host.hostname.clone();
        self.snapshot.isolated.push(Isolated {
            host: id.to_owned(),
            hostname: name.clone(),
            scope: Scope::Operator,
            by: self.snapshot.user.clone(),
            reason: reason.to_owned(),
            expires_s: seconds,
            ..Isolated::default()
        });
        let (kind, text) = (State::new(Mark::Warn, "host.isolated"), format!("{name} is out of use"));
        let now = self.snapshot.taken_at;
        note(&mut self.snapshot.happenings, now, kind, name.clone(), text, Subject::Host(id.to_owned()));
        Ok(("host.isolate", name.clone(), format!("{name} is out of use")))
    }

    fn release(&mut self, id: &str) -> Result<(&'static str, String, String), Failure> {
        let host = self.snapshot.hosts.iter_mut().find(|host| host.id == *id);
        let host = host.ok_or_else(|| Self::unknown("host", id))?;
        host.is_isolated = false;
        host.reason.clear();
        let name = host.hostname.clone();
        self.snapshot.isolated.retain(|known| known.host != *id);
        Ok(("host.release", name.clone(), format!("{name} is used again")))
    }

    fn set_limits(&mut self, scope: &LimitScope, asked: &[(LimitKind, LimitValue)]) -> (&'static str, String, String) {
        let policy = &mut self.snapshot.policy;
        let (limits, name) = match scope {
            LimitScope::Peers => (&mut policy.peer, "each peer".to_owned()),
            LimitScope::Seeds => (&mut policy.seed, "each seed peer".to_owned()),
            LimitScope::Host(id) => {
                let name = self.snapshot.hosts.iter().find(|host| host.id == *id).map(|host| host.hostname.clone());
                let name = name.unwrap_or_default();
                let at = policy.overrides.iter().position(|(known, ..)| known == id).unwrap_or(policy.overrides.len());
                if at == policy.overrides.len() {
                    policy.overrides.push((id.clone(), name.clone(), Limits::default()));
                }
                match policy.overrides.get_mut(at) {
                    Some((_, _, limits)) => (limits, name),
                    None => (&mut policy.peer, name),
                }
            }
        };
        for (kind, value) in asked {
            let limit = match kind {
                LimitKind::Download => &mut limits.download_bytes_per_sec,
                LimitKind::Upload => &mut limits.upload_bytes_per_sec,
                LimitKind::Source => &mut limits.source_bytes_per_sec,
                LimitKind::Task => &mut limits.task_bytes_per_sec,
            };
            *limit = match value {
                LimitValue::BytesPerSec(rate) => Some(*rate),
                LimitValue::Unlimited => Some(0),
                LimitValue::Unset => None,
            };
        }
        policy.version += 1;
        self.snapshot.settings = self.snapshot.policy.settings();
        ("limits.set", name.clone(), format!("limits of {name} are in force"))
    }

    /// Users and tokens.
    fn admit(&mut self, request: &Request) -> (&'static str, String, String) {
        let now = self.snapshot.taken_at;
        match request {
            Request::AddUser { name, role, .. } => {
                self.snapshot.users.push(User {
                    id: (self.snapshot.users.len() + 1).to_string(),
                    name: name.clone(),
                    role: role.clone(),
                    state: State::new(Mark::Good, "enabled"),
                    created_at: now,
                    seen_at: None,
                });
                ("user.create", name.clone(), format!("{name} may sign in"))
            }
            Request::ChangeUser { user: id, role, password } => {
                let mut users = self.snapshot.users.iter_mut();
                let Some(user) = users.find(|user| user.id == *id) else {
                    return ("user.update", id.clone(), String::new());
                };
                user.role = role.clone().unwrap_or_else(|| user.role.clone());
                let what = if password.is_some() { ", with another password" } else { "" };
                ("user.update", user.name.clone(), format!("{} is {}{what}", user.name, user.role))
            }
            Request::EnableUser { user: id, is_enabled } => {
                let state =
                    if *is_enabled { State::new(Mark::Good, "enabled") } else { State::new(Mark::Bad, "disabled") };
                let mut users = self.snapshot.users.iter_mut();
                let Some(user) = users.find(|user| user.id == *id) else {
                    return ("user.update", id.clone(), String::new());
                };
                user.state = state;
                ("user.update", user.name.clone(), format!("{} is {}", user.name, user.state.word))
            }
            Request::AddToken { name, scopes, seconds } => {
                self.snapshot.tokens.push(Token {
                    id: (self.snapshot.tokens.len() + 3).to_string(),
                    name: name.clone(),
                    user: self.snapshot.user.clone(),
                    scopes: scopes.clone(),
                    state: State::new(Mark::Good, "valid"),
                    created_at: now,
                    expires_at: seconds.map(|seconds| now + seconds),
                    used_at: None,
                });
                ("token.create", name.clone(), format!("token {name}: a demo has no secrets"))
            }
            Request::RevokeToken { token } => {
                self.snapshot.tokens.retain(|known| known.id != *token);
                ("token.revoke", format!("token {token}"), format!("token {token} is revoked"))
            }
            _ => ("none", String::new(), String::new()),
        }
    }

    fn audit(&mut self, action: &str, target: String) {
        let number = self.snapshot.audit.first().map_or(1, |entry| entry.number + 1);
        self.snapshot.audit.insert(
            0,
            AuditEntry {
                number,
                happened_at: self.snapshot.taken_at,
                user: self.snapshot.user.clone(),
                action: action.to_owned(),
                target,
                detail: String::new(),
                ip: "10.0.0.9".to_owned(),
                state: State::new(Mark::Good, "done"),
            },
        );
    }
}
