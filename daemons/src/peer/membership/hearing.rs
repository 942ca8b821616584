//! What a scheduler says, and what that means here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use df_api::convert;
use df_api::failure::Failure;
use df_api::scheduler::scheduler_event::Event as Down;
use df_api::scheduler::{self as wire, AnnounceResponse};
use df_api::task::TaskRequest;
use df_api::v1::V1Name;
use df_core::downloader::{GrantId, Input, TaskFailure};
use df_core::id::{HostId, TaskId};

use super::messages::RoundTrips;
use super::{Keeper, PARENT_LIMIT, ParentAddress};
use crate::sync::lock;

impl Keeper {
    pub(super) async fn hear(&self, message: AnnounceResponse, clock: &RoundTrips) {
        if let Some(rtt) = clock.answered(message.seen_sequence, Duration::from_micros(message.seen_ago_us)) {
            self.peer.downloader().tell(Input::RoundTripMeasured { rtt }).await;
        }
        for event in message.events.into_iter().filter_map(|event| event.event) {
            if let Down::Plan(told) = &event
                && !self.adopt_plan(told).await
            {
                continue;
            }
            match self.understand(event) {
                Ok(Some(input)) => self.peer.downloader().tell(input).await,
                Ok(None) => {}
                Err(malformed) => tracing::warn!(scheduler = %self.name, %malformed, "ignored"),
            }
        }
    }

    fn task(&self, session: u64) -> Option<TaskId> {
        lock(&self.link).sessions.get(&session).copied()
    }

    /// What an event means to the downloader; those that are for others are seen to here.
    fn understand(&self, event: Down) -> Result<Option<Input>, convert::Malformed> {
        Ok(match event {
            Down::Registered(registered) => {
                if let Some(task) = self.task(registered.session) {
                    self.links.confirmed(&self.peer, task, registered.stamp);
                }
                None
            }
            Down::Refused(refused) => {
                let failure = Failure::from(refused.failure.unwrap_or_default());
                tracing::warn!(scheduler = %self.name, %failure, "registration refused");
                let task = self.task(refused.session);
                if let Some(task) = task {
                    self.links.refused(&self.peer, task, &failure);
                }
                task.map(|task| Input::SchedulerLost { task })
            }
            Down::Plan(told) => {
                let plan = convert::plan(told.plan.unwrap_or_default())?;
                self.task(told.session).map(|task| Input::PlanTold { task, plan })
            }
            Down::Reassure(told) => self.task(told.session).map(|task| Input::Reassured { task }),
            Down::Digests(told) => {
                let digests = convert::digests(&told.digests.unwrap_or_default())?;
                self.task(told.session).map(|task| Input::DigestsTold { task, digests })
            }
            Down::Grant(grant) => {
                let parent = grant.parent.unwrap_or_default();
                let host = self.note_parent(&parent)?;
                let grant_id = convert::grant_id(grant.grant);
                self.task(grant.session).map(|task| Input::Granted {
                    task,
                    grant: grant_id,
                    piece: grant.piece,
                    parent: host,
                })
            }
            Down::Revoke(revoke) => {
                self.task(revoke.session).map(|task| Input::Revoked { task, grant: GrantId(revoke.grant) })
            }
            Down::FetchSource(fetch) => {
                self.task(fetch.session).map(|task| Input::SourceGranted { task, from: fetch.from, to: fetch.to })
            }
            Down::TrimSource(trim) => self.task(trim.session).map(|task| Input::SourceTrimmed { task, to: trim.to }),
            Down::WakeSeed(wake) => {
                self.wake(wake)?;
                None
            }
            Down::FailTask(failed) => self.task(failed.session).map(|task| {
                let failure = Failure::from(failed.failure.unwrap_or_default());
                let why = task_failure(&failure, failed.is_changed);
                self.peer.note_failure(&task, failure);
                Input::TaskRefused { task, why }
            }),
            Down::Forget(forget) => {
                if let Some(task) = self.task(forget.session) {
                    self.forget(task, forget.deleted);
                }
                None
            }
        })
    }

    /// Takes room for a content whose plan was told; false if there is none.
    async fn adopt_plan(&self, told: &wire::TellPlan) -> bool {
        let plan = convert::plan(told.plan.unwrap_or_default());
        match (self.task(told.session), plan) {
            (Some(task), Ok(plan)) => {
                self.links.note_stamp(&self.peer, task, told.stamp);
                self.peer.adopt_plan(&task, plan, told.version).await
            }
            _ => true,
        }
    }

    fn note_parent(&self, parent: &wire::Parent) -> Result<HostId, convert::Malformed> {
        let malformed = |what: &str| convert::Malformed(format!("a parent with {what}"));
        let host = convert::host_id(&parent.host_id)?;
        let ip = parent.ip.parse().map_err(|_| malformed("no address"))?;
        let port = |port: u32| u16::try_from(port).map_err(|_| malformed("no port"));
        let address = ParentAddress {
            pieces: SocketAddr::new(ip, port(parent.piece_port)?),
            rpc: SocketAddr::new(ip, port(parent.rpc_port)?),
            is_seed: parent.kind() == wire::HostKind::Seed,
            v1: if parent.v1_peer_id.is_empty() {
                None
            } else {
                Some(Arc::new(V1Name::new(&parent.v1_task_id, &parent.v1_peer_id)?))
            },
        };
        let mut parents = lock(&self.links.0.parents);
        if parents.len() >= PARENT_LIMIT && !parents.contains_key(&host) {
            parents.pop_first();
        }
        parents.insert(host, address);
        Ok(host)
    }

    /// What is stored of a task is not what it should be any more; or its name was deleted, up to a
    /// version.
    fn forget(&self, task: TaskId, deleted: u64) {
        if deleted > 0 || self.peer.store().record(&task).is_some_and(|record| !record.cid.is_empty()) {
            let peer = self.peer.clone();
            tokio::spawn(async move {
                peer.drop_content(&task).await;
                peer.note_deletion(task, deleted).await;
            });
        } else {
            self.peer.forget_changed(&task);
        }
    }

    /// The scheduler asks this host to fetch a task.
    fn wake(&self, wake: wire::WakeSeed) -> Result<(), convert::Malformed> {
        let task = convert::task_id(&wake.task_id)?;
        let meta = wake.url_meta.unwrap_or_default();
        let request = match wake.cid.as_str() {
            "" => TaskRequest::new(&wake.url, meta, wake.piece_length),
            cid => TaskRequest::cached(cid, &meta.tag),
        }
        .map_err(|failure| convert::Malformed(failure.to_string()))?;
        if request.id() != task {
            return Err(convert::Malformed("a task id that is not the request's".to_owned()));
        }
        self.peer.take_duty(request, wake.is_preheat);
        Ok(())
    }
}

/// Why a task was failed by its scheduler.
fn task_failure(failure: &Failure, is_changed: bool) -> TaskFailure {
    use df_api::failure::Code;
    match failure.code {
        _ if is_changed => TaskFailure::SourceChanged,
        Code::NotFound if failure.http_status.is_none() => TaskFailure::NoSource,
        _ => TaskFailure::Source,
    }
}
