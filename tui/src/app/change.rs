//! What keys that change the cluster lead to: forms and questions, never a change at once.

use super::confirm::Confirm;
use super::form::Form;
use super::target::Target;
use super::{App, Mode, Page};
use crate::list::List;
use crate::model::{Limits, Mark};
use crate::request::{LimitScope, Request};

impl App {
    /// What the cluster is called where its name has to be typed.
    pub(super) fn cluster_name(&self) -> String {
        match self.snapshot.cluster.as_str() {
            "" => "cluster".to_owned(),
            name => name.to_owned(),
        }
    }

    /// Limits of the host under the cursor, of the seed peers where they are listed, else of all peers.
    pub(super) fn limit_form(&self) -> Mode {
        let policy = &self.snapshot.policy;
        if let Some(host) = self.chosen_hosts().into_iter().next() {
            let own = policy.overrides.iter().find(|(id, ..)| *id == host.id);
            let now = own.map_or_else(Limits::default, |(_, _, limits)| *limits);
            return Mode::Form(Form::limits(format!("Rate limits of {}", host.name), LimitScope::Host(host.id), &now));
        }
        let is_of_seeds = self.list() == List::Settings
            && self.row().is_some_and(|row| row.value(0).word().is_some_and(|word| word.starts_with("each seed")));
        let (title, scope, now) = if is_of_seeds {
            ("Rate limits of each seed peer", LimitScope::Seeds, &policy.seed)
        } else {
            ("Rate limits of each peer", LimitScope::Peers, &policy.peer)
        };
        Mode::Form(Form::limits(title.to_owned(), scope, now))
    }

    pub(super) fn isolate_or_release(&mut self) {
        let hosts = self.chosen_hosts();
        let is_isolated = |host: &Target| {
            self.snapshot.isolated.iter().any(|it| it.host == host.id)
                || self.snapshot.host_of(&host.id).is_some_and(|it| it.is_isolated)
        };
        let (isolated, used): (Vec<Target>, Vec<Target>) = hosts.into_iter().partition(is_isolated);
        if isolated.is_empty() && used.is_empty() {
            self.say(Mark::Warn, "no host is under the cursor");
        } else if used.is_empty() {
            self.ask_release(isolated);
        } else if isolated.is_empty() {
            let (names, ids): (Vec<String>, Vec<String>) = used.into_iter().map(|host| (host.name, host.id)).unzip();
            self.mode = Mode::Form(Form::isolate(&names, ids));
        } else {
            self.say(Mark::Warn, "some of these hosts are isolated and some are not");
        }
    }

    pub(super) fn ask_release(&mut self, hosts: Vec<Target>) {
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let lines = vec!["Strikes against it are forgotten; schedulers offer it again.".to_owned()];
        let title = format!("Release {}", names.join(" "));
        let requests = hosts.iter().map(|host| Request::Release { host: host.id.clone() }).collect();
        self.mode = Mode::Confirm(Confirm::new(title, lines, "", requests));
    }

    pub(super) fn add(&mut self) {
        let form = match self.list() {
            List::Blocks => Form::block(),
            List::Users => Form::user(),
            List::Tokens => Form::token(),
            List::Jobs => Form::preheat(""),
            _ => {
                self.say(Mark::Warn, "isolate a host with B on the screen of peers");
                return;
            }
        };
        self.mode = Mode::Form(form);
    }

    /// Another role, another password.
    pub(super) fn change_user(&mut self) {
        let id = self.row().map(|row| row.key().into_owned());
        let user = self.snapshot.users.iter().find(|user| Some(&user.id) == id.as_ref());
        match user.map(Form::change_user) {
            Some(form) => self.mode = Mode::Form(form),
            None => self.say(Mark::Warn, "no user is under the cursor"),
        }
    }

    pub(super) fn delete(&mut self) {
        let list = self.list();
        let chosen = match list {
            List::Parents | List::TaskPeers | List::Tree => self.chosen_tasks(),
            _ => self.chosen(),
        };
        let Some(first) = chosen.first() else {
            self.say(Mark::Warn, "no row is under the cursor");
            return;
        };
        let what = if chosen.len() == 1 { first.name.clone() } else { format!("{} rows", chosen.len()) };
        let typed = if chosen.len() == 1 { first.name.clone() } else { chosen.len().to_string() };
        let (verb, meaning) = match list {
            List::Jobs => ("Cancel job", "What it has brought to hosts stays there."),
            List::Blocks => ("Remove rule", "What it forbade is allowed again."),
            List::Users => ("Shut out", "The user's tokens end. Once more lets the user in again."),
            List::Tokens => ("Revoke token", "Whoever uses it is let in no more."),
            List::Members => ("Forget member", "One that is alive comes back by itself."),
            List::Contents => ("Drop", "It goes from this node; other nodes keep theirs."),
            _ => ("Delete", "Every host drops it. Downloads that run begin anew at the source."),
        };
        let requests = chosen.iter().filter_map(|target| self.deletion(list, target)).collect();
        let confirm = Confirm::new(format!("{verb} {what}"), vec![meaning.to_owned()], &typed, requests);
        self.mode = Mode::Confirm(confirm);
    }

    fn deletion(&self, list: List, target: &Target) -> Option<Request> {
        let id = target.id.clone();
        Some(match list {
            List::Jobs => Request::CancelJob { job: id },
            List::Blocks => Request::RemoveBlock { rule: id },
            List::Tokens => Request::RevokeToken { token: id },
            List::Members => Request::RemoveMember { member: id },
            List::Users => {
                let user = self.snapshot.users.iter().find(|user| user.id == id)?;
                Request::EnableUser { user: id, is_enabled: user.state.mark != Mark::Good }
            }
            List::Contents => {
                let (cid, tag) = id.split_once('\u{0}')?;
                Request::DropContent { cid: cid.to_owned(), tag: tag.to_owned() }
            }
            _ => Request::DeleteTask { task: id },
        })
    }

    /// All of a row, field by field.
    pub(super) fn details(&mut self) {
        let list = self.list();
        let row = self.host_of_branch();
        let Some((title, json)) = row.or_else(|| self.row().map(|row| (row.name().into_owned(), row.json()))) else {
            return;
        };
        let mut lines = Vec::new();
        if let Some(row) = self.row() {
            let heads = list.heads();
            let named = heads.iter().enumerate().map(|(at, head)| (head.name.to_lowercase(), row.value(at)));
            lines.extend(named.map(|(name, value)| format!("{name:<14} {}", value.shown())));
            lines.push(String::new());
        }
        lines.extend(pretty(&json));
        self.mode = Mode::Page(Page { title, lines: Some(lines), top: 0 });
    }

    /// A row as JSON.
    pub(super) fn json(&mut self) {
        let row = self.host_of_branch().or_else(|| self.row().map(|row| (row.name().into_owned(), row.json())));
        if let Some((title, json)) = row {
            self.mode = Mode::Page(Page { title, lines: Some(pretty(&json)), top: 0 });
        }
    }

    fn host_of_branch(&self) -> Option<(String, serde_json::Value)> {
        let branch = self.branch().filter(|_| self.list() == List::Tree)?;
        let peer = self.snapshot.task.as_ref()?.peer(&branch.host)?;
        Some((branch.hostname.clone(), serde_json::to_value(peer).unwrap_or_default()))
    }
}

fn pretty(json: &serde_json::Value) -> Vec<String> {
    let text = serde_json::to_string_pretty(json).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
