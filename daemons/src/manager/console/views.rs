//! Streams of snapshots: the state at once, then again every interval, as long as the token is good.

use std::future::Future;
use std::time::Duration;

use df_api::failure::Failure;
use df_api::manager as wire;
use df_core::registry::{ClusterId, JobId, Registry};
use futures_util::stream::BoxStream;
use tonic::Status;

use super::{Service, no_job};
use crate::manager::auth::Right;
use crate::manager::convert;
use crate::manager::gate::Visit;
use crate::manager::overview::{self, Known, hex, page};

/// Between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_FLOOR_MS: u64 = 200;
const INTERVAL_LIMIT_MS: u64 = 60_000;

/// How often it is looked whether a token still allows a stream, at least.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Events in one batch, and from before.
const BATCH_LIMIT: usize = 256;
const BACKLOG_LIMIT: u32 = 1000;

/// Targets of one part that are shown.
const TARGET_LIMIT: usize = 100;

type Snapshots<T> = BoxStream<'static, Result<T, Status>>;

fn interval(interval_ms: u64) -> Duration {
    match interval_ms {
        0 => INTERVAL,
        ms => Duration::from_millis(ms.clamp(INTERVAL_FLOOR_MS, INTERVAL_LIMIT_MS)),
    }
}

impl Service {
    /// Whether a stream may go on: its token may have been revoked, or have expired.
    fn still(&self, visit: &Visit) -> Result<(), Failure> {
        self.0.gate.auth.recheck(&visit.caller, Right::View)
    }

    fn stream<T, F>(&self, visit: Visit, interval_ms: u64, take: impl Fn(Self) -> F + Send + 'static) -> Snapshots<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(T, bool), Failure>> + Send,
    {
        let (this, pause) = (self.clone(), interval(interval_ms));
        Box::pin(async_stream::try_stream! {
            loop {
                this.still(&visit)?;
                let (snapshot, is_last) = take(this.clone()).await?;
                yield snapshot;
                if is_last {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
        })
    }

    async fn known(&self, cluster: u64) -> Result<Known, Failure> {
        let times = self.0.desk.times();
        self.0.desk.look(move |registry| overview::known(registry, ClusterId(cluster), times)).await
    }

    pub(super) fn overview(&self, visit: Visit, asked: wire::WatchOverviewRequest) -> Snapshots<wire::Overview> {
        self.stream(visit, asked.interval_ms, move |this| async move {
            let desk = &this.0.desk;
            let views = desk.views().await;
            let known = this.known(asked.cluster_id).await?;
            let shown = overview::overview(&views, &known, desk.store_failure().as_deref(), desk.times());
            Ok((wire::Overview { started_at_ms: desk.started_at_ms(), ..shown }, false))
        })
    }

    pub(super) fn tasks(&self, visit: Visit, asked: wire::WatchRowsRequest) -> Snapshots<wire::TaskPage> {
        self.stream(visit, asked.interval_ms, move |this| {
            let asked = asked.clone();
            async move {
                let rows = overview::tasks(&this.0.desk.views().await);
                let texts = |row: &wire::TaskRow| {
                    vec![hex(&row.task_id), row.url.clone(), row.cid.clone(), row.tag.clone(), row.application.clone()]
                };
                let (total, rows) = page(rows, &asked, texts);
                Ok((wire::TaskPage { taken_at_ms: this.0.desk.times().now_ms(), total, rows }, false))
            }
        })
    }

    pub(super) fn hosts(&self, visit: Visit, asked: wire::WatchRowsRequest) -> Snapshots<wire::HostPage> {
        self.stream(visit, asked.interval_ms, move |this| {
            let asked = asked.clone();
            async move {
                let views = this.0.desk.views().await;
                let members = this.known(asked.cluster_id).await?.members;
                let texts = |row: &wire::HostRow| {
                    let state = row.state().as_str_name().to_owned();
                    vec![hex(&row.host_id), row.hostname.clone(), row.ip.clone(), row.idc.clone(), state]
                };
                let (total, rows) = page(overview::hosts(&views, &members), &asked, texts);
                Ok((wire::HostPage { taken_at_ms: this.0.desk.times().now_ms(), total, rows }, false))
            }
        })
    }

    pub(super) fn task(&self, visit: Visit, asked: wire::WatchTaskRequest) -> Snapshots<wire::TaskView> {
        self.stream(visit, asked.interval_ms, move |this| {
            let asked = asked.clone();
            async move {
                let view = this.0.desk.task_view(asked.task_id, asked.host_id).await?;
                Ok(((*view).clone(), false))
            }
        })
    }

    pub(super) fn blacklist(&self, visit: Visit, asked: wire::WatchRowsRequest) -> Snapshots<wire::BlacklistPage> {
        self.stream(visit, asked.interval_ms, move |this| {
            let asked = asked.clone();
            async move {
                let rows = overview::blacklist(&this.0.desk.views().await);
                let texts =
                    |row: &wire::BlacklistRow| vec![hex(&row.host_id), row.hostname.clone(), row.reason.clone()];
                let (total, rows) = page(rows, &asked, texts);
                Ok((wire::BlacklistPage { taken_at_ms: this.0.desk.times().now_ms(), total, rows }, false))
            }
        })
    }

    pub(super) fn members(&self, visit: Visit, asked: wire::WatchRowsRequest) -> Snapshots<wire::MemberPage> {
        self.stream(visit, asked.interval_ms, move |this| {
            let asked = asked.clone();
            async move {
                let views = this.0.desk.views().await;
                let mut rows = this.known(asked.cluster_id).await?.members;
                for row in &mut rows {
                    let view = views.get(&df_core::registry::MemberId(row.id));
                    row.totals = view.and_then(|view| view.totals);
                }
                let texts = |row: &wire::MemberRow| {
                    vec![row.hostname.clone(), row.ip.clone(), row.cluster.clone(), row.idc.clone()]
                };
                let (total, rows) = page(rows, &asked, texts);
                Ok((wire::MemberPage { taken_at_ms: this.0.desk.times().now_ms(), total, rows }, false))
            }
        })
    }

    pub(super) fn jobs(&self, visit: Visit, asked: wire::WatchRowsRequest) -> Snapshots<wire::JobPage> {
        self.stream(visit, asked.interval_ms, move |this| {
            let asked = asked.clone();
            async move {
                let texts = |row: &wire::Job| {
                    let mut texts = row.urls.clone();
                    texts.extend([row.tag.clone(), row.created_by.clone(), row.id.to_string()]);
                    texts
                };
                let (total, rows) = page(this.known(asked.cluster_id).await?.jobs, &asked, texts);
                Ok((wire::JobPage { taken_at_ms: this.0.desk.times().now_ms(), total, rows }, false))
            }
        })
    }

    pub(super) fn job(&self, visit: Visit, asked: wire::JobRequest) -> Snapshots<wire::Job> {
        self.stream(visit, asked.interval_ms, move |this| async move {
            let times = this.0.desk.times();
            let read = move |registry: &Registry| {
                let job = registry.job(JobId(asked.job_id))?;
                let message = convert::job_message(JobId(asked.job_id), job, Some(TARGET_LIMIT), times);
                Some((message, job.state.is_over()))
            };
            this.0.desk.look(read).await?.ok_or_else(|| no_job(asked.job_id))
        })
    }

    pub(super) fn events(&self, visit: Visit, asked: wire::WatchEventsRequest) -> Snapshots<wire::EventBatch> {
        let (this, events) = (self.clone(), self.0.desk.events().clone());
        let mut next = match asked.from_sequence {
            0 => events.backlog(asked.backlog.min(BACKLOG_LIMIT).into()),
            from => from,
        };
        let least = asked.least;
        Box::pin(async_stream::try_stream! {
            let mut latest = events.follow();
            let mut is_first = true;
            loop {
                this.still(&visit)?;
                latest.mark_unchanged();
                let (batch, after, lost) = events.since(next, BATCH_LIMIT);
                let is_full = batch.len() == BATCH_LIMIT;
                next = after;
                let batch: Vec<wire::Event> = batch.into_iter().filter(|event| event.severity >= least).collect();
                // The first answer says that the stream is open, even if nothing has happened.
                if std::mem::take(&mut is_first) || !batch.is_empty() {
                    yield wire::EventBatch { events: batch, lost };
                }
                if !is_full {
                    let _ = tokio::time::timeout(CHECK_INTERVAL, latest.changed()).await;
                }
            }
        })
    }

    pub(super) async fn clusters(&self) -> Result<Vec<wire::Cluster>, Failure> {
        self.0.desk.look(|registry| registry.clusters().map(|(id, _)| cluster_message(registry, id)).collect()).await
    }

    pub(super) async fn settings(&self, id: ClusterId) -> Result<wire::Settings, Failure> {
        let unknown = || convert::failure(df_core::registry::Refusal::UnknownCluster);
        self.0.desk.look(move |registry| settings_message(registry, id)).await?.ok_or_else(unknown)
    }
}

/// A cluster with the number of its members.
pub(super) fn cluster_message(registry: &Registry, id: ClusterId) -> wire::Cluster {
    use df_core::registry::MemberKind;
    let Some(cluster) = registry.cluster(id) else { return wire::Cluster::default() };
    let count = |kind| u32::try_from(registry.active(id, kind).count()).unwrap_or(u32::MAX);
    wire::Cluster {
        schedulers: count(MemberKind::Scheduler),
        seed_peers: count(MemberKind::SeedPeer),
        peers: count(MemberKind::Peer),
        ..convert::cluster_message(id, cluster)
    }
}

/// What holds in a cluster, and with how many of its members.
pub(super) fn settings_message(registry: &Registry, id: ClusterId) -> Option<wire::Settings> {
    let cluster = registry.cluster(id)?;
    let active = || registry.members().filter(move |(_, member)| member.cluster == id && member.is_active);
    let in_force = active().filter(|(_, member)| member.beat.version == cluster.version).count();
    Some(wire::Settings {
        members: u32::try_from(active().count()).unwrap_or(u32::MAX),
        members_in_force: u32::try_from(in_force).unwrap_or(u32::MAX),
        ..convert::settings_message(id, cluster)
    })
}
