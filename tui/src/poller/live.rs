//! A manager and the daemon of this node, asked for what is shown.

use df_api::failure::{Code, Failure};
use df_api::manager as pb;
use futures_util::FutureExt;
use tonic::Streaming;

use super::manager::{Manager, answer, first};
use super::{Daemon, Outcome, policy, rows, wire};
use crate::app::Interest;
use crate::model::{Contact, Snapshot};
use crate::request::Request;
use crate::screen::Screen;

/// Rows of one page, and pages of one list.
const PAGE_ROWS: u32 = 500;
const PAGE_LIMIT: u32 = 20;

/// Every so many times everything is asked for, not only what is on the screen.
const FULL_TURN: u64 = 10;

/// Happenings that are kept, and those asked for at first.
const HAPPENING_LIMIT: usize = 2000;
const BACKLOG: u32 = 500;

/// A cluster that is there.
pub struct Live {
    manager: Manager,
    daemon: Option<Daemon>,
    /// The cluster to look at; the default one if none is named.
    wanted_cluster: Option<String>,
    cluster_id: u64,
    turn: u64,
    events: Option<Streaming<pb::EventBatch>>,
    /// Why the manager did not answer last, if it did not.
    failure: Option<Failure>,
    /// The last that was seen of everything: what is not asked for now stays as it was.
    snapshot: Snapshot,
}

impl Live {
    /// Asks `manager`, and `daemon` if there is to be one.
    pub fn new(manager: Manager, daemon: Option<Daemon>, cluster: Option<String>) -> Self {
        let unused = Contact::Unused("no daemon was named".to_owned());
        let snapshot =
            Snapshot { daemon: if daemon.is_some() { Contact::Unknown } else { unused }, ..Snapshot::default() };
        Self { manager, daemon, wanted_cluster: cluster, cluster_id: 0, turn: 0, events: None, failure: None, snapshot }
    }

    /// The manager itself.
    pub const fn manager(&mut self) -> &mut Manager {
        &mut self.manager
    }

    /// Why the manager did not answer last, if it did not.
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// What there is to see. Who does not answer is told of in the snapshot, beside what was known.
    pub async fn look(&mut self, interest: &Interest) -> Snapshot {
        let is_full = self.turn.is_multiple_of(FULL_TURN);
        self.turn += 1;
        match self.ask_manager(interest, is_full).await {
            Ok(()) => (self.snapshot.manager, self.failure) = (Contact::Live, None),
            Err(failure) => {
                let hint = failure.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                self.snapshot.manager = Contact::Lost(format!("{failure}{hint}"));
                self.snapshot.may_write = false;
                self.events = None;
                self.failure = Some(failure);
                // Whoever comes back is asked for everything.
                self.turn = 0;
            }
        }
        if interest.screen == Screen::Cache || is_full {
            self.ask_daemon().await;
        }
        self.snapshot.clone()
    }

    /// What there is to see of one screen alone.
    ///
    /// # Errors
    /// What the manager says.
    pub async fn look_at(&mut self, interest: &Interest) -> Result<Snapshot, Failure> {
        if self.cluster_id == 0 {
            self.ask_clusters().await?;
        }
        self.ask_manager(interest, false).await?;
        Ok(self.snapshot.clone())
    }

    async fn ask_daemon(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        match daemon.contents().await {
            Ok(contents) => (self.snapshot.contents, self.snapshot.daemon) = (contents, Contact::Live),
            Err(failure) => self.snapshot.daemon = Contact::Lost(failure.to_string()),
        }
    }

    async fn ask_manager(&mut self, interest: &Interest, is_full: bool) -> Result<(), Failure> {
        if is_full {
            self.ask_who().await?;
            self.ask_clusters().await?;
            self.ask_policy().await?;
        }
        self.ask_overview().await?;
        let wants = |screen: Screen| is_full || interest.screen == screen;
        if wants(Screen::Tasks) {
            self.ask_tasks().await?;
        }
        if wants(Screen::Peers) {
            self.ask_hosts().await?;
        }
        if wants(Screen::Cluster) {
            self.ask_members().await?;
        }
        if wants(Screen::Jobs) {
            self.ask_jobs().await?;
        }
        if let Some(id) = interest.job.as_ref().filter(|_| interest.screen == Screen::Jobs) {
            self.snapshot.job = self.manager.job(id).await.map(Some).or_else(missing)?;
        }
        if wants(Screen::Blacklist) {
            self.ask_isolated().await?;
        }
        if matches!(interest.screen, Screen::Blacklist | Screen::Admin) && !is_full {
            self.ask_policy().await?;
        }
        if wants(Screen::Admin) {
            self.ask_people().await?;
        }
        self.ask_task(interest).await?;
        self.ask_events().await
    }

    async fn ask_who(&mut self) -> Result<(), Failure> {
        let who = self.manager.who_am_i().await?;
        let changes = ["operate", "preheat", "configure", "admin"];
        self.snapshot.may_write = who.scopes.iter().any(|scope| changes.contains(&scope.as_str()));
        self.snapshot.user = who.user;
        Ok(())
    }

    async fn ask_clusters(&mut self) -> Result<(), Failure> {
        let clusters = answer(self.manager.client.list_clusters(())).await?.clusters;
        let found = match &self.wanted_cluster {
            Some(name) => {
                let found = clusters.iter().find(|cluster| cluster.name == *name || cluster.id.to_string() == *name);
                let unknown = || Failure::new(Code::NotFound, format!("there is no cluster {name}"));
                Some(found.ok_or_else(unknown)?)
            }
            None => clusters.iter().find(|cluster| cluster.is_default).or(clusters.first()),
        };
        if let Some(cluster) = found {
            self.cluster_id = cluster.id;
            self.snapshot.cluster.clone_from(&cluster.name);
        }
        self.snapshot.clusters = clusters.into_iter().map(rows::cluster).collect();
        Ok(())
    }

    async fn ask_policy(&mut self) -> Result<(), Failure> {
        let request = pb::ClusterRequest { cluster_id: self.cluster_id };
        self.snapshot.policy = policy::policy(answer(self.manager.client.get_settings(request)).await?);
        self.snapshot.settings = self.snapshot.policy.settings();
        Ok(())
    }

    async fn ask_overview(&mut self) -> Result<(), Failure> {
        let request = pb::WatchOverviewRequest { interval_ms: 0, cluster_id: self.cluster_id };
        let overview = first(self.manager.client.watch_overview(request)).await?;
        let totals = overview.totals.unwrap_or_default();
        let snapshot = &mut self.snapshot;
        snapshot.taken_at = overview.taken_at_ms / 1000;
        snapshot.traffic.upload_bytes_per_sec = totals.peer_rate_bytes_per_sec;
        snapshot.traffic.source_bytes_per_sec = totals.source_rate_bytes_per_sec;
        snapshot.traffic.download_bytes_per_sec =
            totals.peer_rate_bytes_per_sec.saturating_add(totals.source_rate_bytes_per_sec);
        snapshot.traffic.download_bytes = totals.peer_bytes.saturating_add(totals.source_bytes);
        snapshot.traffic.source_bytes = totals.source_bytes;
        snapshot.health = overview.health.into_iter().map(rows::health).collect();
        snapshot.busiest = overview.busiest.into_iter().map(rows::task).collect();
        snapshot.attention = overview.attention.into_iter().map(rows::attention).collect();
        Ok(())
    }

    fn page(&self, page: u32) -> pb::WatchRowsRequest {
        pb::WatchRowsRequest {
            interval_ms: 0,
            cluster_id: self.cluster_id,
            offset: page * PAGE_ROWS,
            limit: PAGE_ROWS,
            filter: String::new(),
        }
    }

    async fn ask_tasks(&mut self) -> Result<(), Failure> {
        let mut tasks = Vec::new();
        for at in 0..PAGE_LIMIT {
            let page = first(self.manager.client.watch_tasks(self.page(at))).await?;
            let is_last = page.rows.len() < PAGE_ROWS as usize;
            tasks.extend(page.rows.into_iter().map(rows::task));
            if is_last {
                break;
            }
        }
        self.snapshot.tasks = tasks;
        Ok(())
    }

    async fn ask_hosts(&mut self) -> Result<(), Failure> {
        let mut hosts = Vec::new();
        for at in 0..PAGE_LIMIT {
            let page = first(self.manager.client.watch_hosts(self.page(at))).await?;
            let is_last = page.rows.len() < PAGE_ROWS as usize;
            hosts.extend(page.rows.into_iter().map(rows::host));
            if is_last {
                break;
            }
        }
        self.snapshot.hosts = hosts;
        Ok(())
    }

    async fn ask_members(&mut self) -> Result<(), Failure> {
        let mut members = Vec::new();
        for at in 0..PAGE_LIMIT {
            // Members of all clusters: that is what the screen is for.
            let request = pb::WatchRowsRequest { cluster_id: 0, ..self.page(at) };
            let page = first(self.manager.client.watch_members(request)).await?;
            let is_last = page.rows.len() < PAGE_ROWS as usize;
            let now_ms = page.taken_at_ms;
            members.extend(page.rows.into_iter().map(|row| rows::member(row, now_ms)));
            if is_last {
                break;
            }
        }
        self.snapshot.members = members;
        Ok(())
    }

    async fn ask_jobs(&mut self) -> Result<(), Failure> {
        let page = first(self.manager.client.watch_jobs(self.page(0))).await?;
        let now_ms = page.taken_at_ms;
        self.snapshot.jobs = page.rows.into_iter().map(|row| rows::job(row, now_ms)).collect();
        Ok(())
    }

    async fn ask_isolated(&mut self) -> Result<(), Failure> {
        let page = first(self.manager.client.watch_blacklist(self.page(0))).await?;
        let now_ms = page.taken_at_ms;
        self.snapshot.isolated = page.rows.into_iter().map(|row| rows::isolated(row, now_ms)).collect();
        Ok(())
    }

    /// Users, tokens and audit: whoever may not see them sees none.
    async fn ask_people(&mut self) -> Result<(), Failure> {
        let now_ms = self.snapshot.taken_at.saturating_mul(1000);
        let client = &mut self.manager.client;
        let users = allowed(answer(client.list_users(())).await)?.unwrap_or_default().users;
        let tokens = allowed(answer(client.list_tokens(())).await)?.unwrap_or_default().tokens;
        let request = pb::AuditRequest { before_id: 0, limit: PAGE_ROWS, filter: String::new() };
        let audit = allowed(answer(client.list_audit(request)).await)?.unwrap_or_default().entries;
        self.snapshot.users = users.into_iter().map(rows::user).collect();
        self.snapshot.tokens = tokens.into_iter().map(|token| rows::token(token, now_ms)).collect();
        self.snapshot.audit = audit.into_iter().map(policy::audit).collect();
        Ok(())
    }

    async fn ask_task(&mut self, interest: &Interest) -> Result<(), Failure> {
        let Some(id) = interest.task.as_ref().filter(|_| matches!(interest.screen, Screen::Task | Screen::Topology))
        else {
            return Ok(());
        };
        let host_id = interest.host.as_ref().map(|host| wire::unhex(host, "host")).transpose()?;
        let request = pb::WatchTaskRequest {
            task_id: wire::unhex(id, "task")?,
            host_id: host_id.unwrap_or_default(),
            interval_ms: 0,
        };
        let view = first(self.manager.client.watch_task(request)).await.map(Some).or_else(missing)?;
        self.snapshot.task = view.and_then(rows::task_view);
        Ok(())
    }

    /// What has happened since, without waiting for more.
    async fn ask_events(&mut self) -> Result<(), Failure> {
        let mut events = match self.events.take() {
            Some(events) => events,
            None => {
                self.snapshot.happenings.clear();
                self.manager.events(BACKLOG).await?
            }
        };
        loop {
            match events.message().now_or_never() {
                None => break self.events = Some(events),
                Some(Ok(Some(batch))) => {
                    self.snapshot.happenings.extend(batch.events.into_iter().map(rows::happening));
                }
                // Cut or ended: begun anew at the next look.
                Some(Ok(None) | Err(_)) => break,
            }
        }
        let excess = self.snapshot.happenings.len().saturating_sub(HAPPENING_LIMIT);
        self.snapshot.happenings.drain(..excess);
        Ok(())
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// What the manager or the daemon says.
    pub async fn carry_out(&mut self, request: &Request) -> Result<Outcome, Failure> {
        if let Request::DropContent { cid, tag } = request {
            let none = || Failure::new(Code::Usage, "no daemon was named").hint("name its socket with --endpoint");
            self.daemon.as_mut().ok_or_else(none)?.drop_content(cid, tag).await?;
            return Ok(Outcome::said(format!("{} is dropped from this node", crate::format::clean(cid))));
        }
        // Only what needs to know the cluster asks for it: a token may be good for preheats alone.
        let needs_cluster =
            matches!(request, Request::SetLimits { .. } | Request::AddBlock(_) | Request::RemoveBlock { .. });
        if self.cluster_id == 0 && (needs_cluster || self.wanted_cluster.is_some()) {
            self.ask_clusters().await?;
        }
        self.manager.carry_out(request, self.cluster_id).await
    }
}

/// Nothing, where what is looked at went away a moment ago: that is news, not a failure.
fn missing<T>(failure: Failure) -> Result<Option<T>, Failure> {
    if failure.code == Code::NotFound { Ok(None) } else { Err(failure) }
}

/// What is answered, or nothing where one is not allowed to ask.
fn allowed<T>(answered: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answered {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if matches!(failure.code, Code::Blocked | Code::Auth) => Ok(None),
        Err(failure) => Err(failure),
    }
}
