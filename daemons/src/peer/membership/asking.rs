//! Questions to schedulers, and announcements that are confirmed.

use std::time::Duration;

use df_api::dial;
use df_api::failure::{Code, Failure};
use df_api::scheduler::scheduler_client::SchedulerClient;
use df_api::scheduler::{DeleteTaskRequest, DeleteTaskResult, StatTaskRequest, Task};
use df_api::status::failure_of;
use df_core::id::TaskId;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::{Links, Peer};
use crate::peer::store::index::IndexRecord;
use crate::sync::lock;

/// How long a scheduler may take to answer a question.
const ANSWER_TERM: Duration = Duration::from_secs(5);

/// Pause before a refused announcement is made again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How far an announcement has got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// There are no schedulers.
    Nowhere,
    /// The task's scheduler knows.
    Confirmed,
    /// Not yet; it is made again whenever a scheduler is linked.
    Pending,
    /// The scheduler does not accept it.
    Refused(Failure),
}

fn no_scheduler() -> Failure {
    Failure::new(Code::NoScheduler, "no scheduler can be reached").hint("check --scheduler of the daemon")
}

impl Links {
    /// Whether there are schedulers at all.
    pub fn has_schedulers(&self) -> bool {
        !self.roster().links.is_empty()
    }

    /// Waits until a task has a scheduler, but not longer than `term`.
    pub async fn wait(&self, task: &TaskId, term: Duration) {
        let mut changes = self.0.changes.subscribe();
        let linked = async { while !self.is_linked(task) && changes.changed().await.is_ok() {} };
        let _ = timeout(term, linked).await;
    }

    /// What the schedulers know of a task: the word of the first in the task's order that knows a host
    /// with all of it; for it may have come to another one while its own was away.
    ///
    /// # Errors
    /// [`Code::NoScheduler`] if none answers.
    pub async fn stat(&self, task: &TaskId) -> Result<Option<Task>, Failure> {
        let mut answer = Err(no_scheduler());
        for mut client in self.clients(task) {
            let asked = client.stat_task(StatTaskRequest { task_id: task.to_string() });
            let known = match timeout(ANSWER_TERM, asked).await {
                Ok(Ok(known)) => Some(known.into_inner()),
                Ok(Err(status)) if failure_of(&status).code == Code::NotFound => None,
                Ok(Err(_)) | Err(_) => continue,
            };
            if known.as_ref().is_some_and(|known| known.has_available_peer) {
                return Ok(known);
            }
            let best = answer.ok().flatten();
            answer = Ok(best.or(known));
        }
        answer
    }

    /// Tells all schedulers that a content was deleted: the version of its name up to which it is, and how
    /// many hosts had something of it.
    ///
    /// # Errors
    /// [`Code::NoScheduler`] if none could be told.
    pub async fn delete(&self, task: &TaskId) -> Result<DeleteTaskResult, Failure> {
        let mut deleted: Option<DeleteTaskResult> = None;
        for mut client in self.clients(task) {
            let asked = client.delete_task(DeleteTaskRequest { task_id: task.as_bytes().to_vec() });
            if let Ok(Ok(told)) = timeout(ANSWER_TERM, asked).await {
                let (told, known) = (told.into_inner(), deleted.unwrap_or_default());
                let (stamp, peers) = (told.stamp.max(known.stamp), told.peers.max(known.peers));
                deleted = Some(DeleteTaskResult { stamp, peers });
            }
        }
        deleted.ok_or_else(no_scheduler)
    }

    /// Announces a content that is here, and waits a little for the scheduler's word.
    pub async fn announce(&self, peer: &Peer, task: &TaskId) -> Announcement {
        if !self.has_schedulers() {
            return Announcement::Nowhere;
        }
        self.wait(task, ANSWER_TERM).await;
        let (answer, answered) = oneshot::channel();
        lock(&self.0.waiting).insert(*task, answer);
        let (links, of, id) = (self.clone(), peer.clone(), *task);
        peer.env().blocking(move || links.register(&of, &id)).await;
        if !self.is_linked(task) {
            return Announcement::Pending;
        }
        match timeout(ANSWER_TERM, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Announcement::Pending,
        }
    }

    /// The scheduler has accepted a registration.
    pub(super) fn confirmed(&self, peer: &Peer, task: TaskId, stamp: u64) {
        self.note_stamp(peer, task, stamp);
        self.answer(&task, Announcement::Confirmed);
    }

    /// The scheduler has told the version of a cached content's name; 0 while nobody has it.
    pub(super) fn note_stamp(&self, peer: &Peer, task: TaskId, stamp: u64) {
        let is_news = |record: &IndexRecord| {
            !record.cid.is_empty() && stamp > 0 && (record.is_unconfirmed || record.stamp != stamp)
        };
        if !peer.store().record(&task).is_some_and(|record| is_news(&record)) {
            return;
        }
        let (store, env) = (peer.store().clone(), peer.env().clone());
        peer.env().spawn_data(async move {
            if let Err(failure) = env.blocking(move || store.confirm(&task, stamp)).await {
                tracing::warn!(%task, %failure, "a confirmation is not written down");
            }
        });
    }

    /// The scheduler has refused a registration: who waits is told; what may be accepted later is tried
    /// again; a copy that is none any more goes.
    pub(super) fn refused(&self, peer: &Peer, task: TaskId, failure: &Failure) {
        self.answer(&task, Announcement::Refused(failure.clone()));
        let Some(record) = peer.store().record(&task) else { return };
        let (peer, links, is_open) = (peer.clone(), self.clone(), peer.job(&task).is_some());
        match failure.code {
            Code::Exists if !record.is_pinned => {
                tokio::spawn(async move { peer.drop_content(&task).await });
            }
            Code::Busy if !is_open => {
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    links.register(&peer, &task);
                });
            }
            _ => {}
        }
    }

    fn answer(&self, task: &TaskId, answer: Announcement) {
        if let Some(waiting) = lock(&self.0.waiting).remove(task) {
            let _ = waiting.send(answer);
        }
    }

    /// Clients of the linked schedulers, a task's own first.
    fn clients(&self, task: &TaskId) -> Vec<SchedulerClient<Channel>> {
        let roster = self.roster();
        let channels = roster.of(task).filter_map(|link| {
            let link = lock(link);
            link.stream.as_ref().and(link.channel.clone())
        });
        channels.map(|channel| SchedulerClient::new(channel).max_decoding_message_size(dial::MESSAGE_LIMIT)).collect()
    }
}
