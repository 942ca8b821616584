//! Contents put into the cache by name: import, stat, delete, and what keeps them in order.

pub(in crate::peer) mod import;

use std::time::Duration;

use df_api::dfdaemon as wire;
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::id::TaskId;

use super::{Peer, Waiting};
use crate::peer::job::JobOptions;

/// How often expired contents are looked for, and watermarks watched.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// How long a question waits for a scheduler that may be there in a moment.
const LINK_TERM: Duration = Duration::from_secs(2);

/// What is allowed in the export of a cached content: it has no source.
pub(super) const EXPORT: JobOptions = JobOptions { may_fetch_source: false, ..JobOptions::CALLER };

impl Peer {
    /// Where a content is: here, or whole on some host that can be reached.
    ///
    /// # Errors
    /// [`Code::NotFound`] if nowhere; [`Code::NoScheduler`] if it is not here and nobody can say.
    pub async fn stat(&self, request: &TaskRequest, local_only: bool) -> Result<wire::StatTaskResult, Failure> {
        let task = request.id();
        let peer = self.clone();
        // What no record says is here needs no look at the disk, and no thread to do it.
        let here = match self.store().record(&task) {
            Some(record) if record.is_complete => self.env().blocking(move || peer.whole(&task)).await,
            _ => None,
        };
        if let Some(stored) = here {
            let plan = stored.plan();
            return Ok(wire::StatTaskResult {
                task_id: task.to_string(),
                content_length: plan.and_then(|plan| plan.content_len()).unwrap_or(0),
                total_pieces: plan.and_then(|plan| plan.count()).unwrap_or(0),
                is_local: true,
                peers: 0,
            });
        }
        let absent =
            |why: &str| Failure::new(Code::NotFound, format!("{} is not in the cache", request.shown())).because(why);
        if local_only {
            return Err(absent("this host does not have all of it"));
        }
        if !self.links().has_schedulers() {
            return Err(absent("this host does not have all of it, and its daemon has no schedulers to ask"));
        }
        self.links().wait(&task, LINK_TERM).await;
        let known = self.links().stat(&task).await?;
        let known = known.filter(|known| known.has_available_peer);
        let known = known.ok_or_else(|| absent("no host that can be reached has all of it"))?;
        Ok(wire::StatTaskResult {
            task_id: task.to_string(),
            content_length: u64::try_from(known.content_length).unwrap_or(0),
            total_pieces: u32::try_from(known.total_piece_count).unwrap_or(0),
            is_local: false,
            peers: u32::try_from(known.peer_count).unwrap_or(0),
        })
    }

    /// A content of which all is here, as it was.
    fn whole(&self, task: &TaskId) -> Option<std::sync::Arc<super::store::StoredTask>> {
        if !self.store().record(task)?.is_complete {
            return None;
        }
        self.intact(task).filter(|stored| stored.is_complete())
    }

    /// Joins the export of a content: what is here, else from other hosts, never from a source.
    ///
    /// # Errors
    /// [`Code::NotFound`] for a local export of what is not here; those of [`Peer::join`].
    pub async fn export(
        &self,
        request: TaskRequest,
        local_only: bool,
        is_in_order: bool,
        rate_bytes_per_sec: Option<u64>,
    ) -> Result<Waiting, Failure> {
        if local_only {
            self.stat(&request, true).await?;
        }
        self.join(request, JobOptions { is_in_order, ..EXPORT }, rate_bytes_per_sec).await
    }

    /// Deletes a content: here, and unless told otherwise wherever it is.
    ///
    /// # Errors
    /// [`Code::NotFound`] if nobody had it; [`Code::NoScheduler`] if it is gone here, but nobody else
    /// could be told.
    pub async fn delete(&self, request: &TaskRequest, local_only: bool) -> Result<(), Failure> {
        let task = request.id();
        let was_here = self.store().record(&task).is_some();
        let absent = || Failure::new(Code::NotFound, format!("{} is not in the cache", request.shown()));
        if local_only || !self.links().has_schedulers() {
            self.drop_content(&task).await;
            return if was_here { Ok(()) } else { Err(absent().because("this host has nothing of it")) };
        }
        self.links().wait(&task, LINK_TERM).await;
        let told = self.links().delete(&task).await;
        self.drop_content(&task).await;
        if let Ok(deleted) = &told {
            self.note_deletion(task, deleted.stamp).await;
        }
        match told {
            Ok(deleted) if was_here || deleted.peers > 0 => Ok(()),
            Ok(_) => Err(absent().because("no host that can be reached has anything of it")),
            Err(failure) => Err(failure.hint("it is gone from this host; delete it again when a scheduler is back")),
        }
    }

    /// Remembers that a content was deleted up to a version of its name (0 for none), to tell schedulers
    /// that forget it.
    pub(super) async fn note_deletion(&self, task: TaskId, stamp: u64) {
        if stamp == 0 {
            return;
        }
        let store = self.store().clone();
        if let Err(failure) = self.env().blocking(move || store.note_deletion(task, stamp)).await {
            tracing::warn!(%task, %failure, "a deletion is not written down");
        }
    }

    /// Drops a content here; who waits for it is told, who is being served gets what is whole.
    pub(super) async fn drop_content(&self, task: &TaskId) {
        if let Some(job) = self.close_job(task) {
            self.downloader().tell(df_core::downloader::Input::TaskClosed { task: *task }).await;
            job.finish(Err(Failure::new(Code::NotFound, format!("{} was deleted", job.request.shown()))));
        }
        self.links().leave(task);
        let (store, task) = (self.store().clone(), *task);
        self.env().blocking(move || store.retire(&task)).await;
    }

    /// Keeps the store in order as long as the daemon runs, and schedulers informed of what it dropped.
    pub(super) async fn tidy(self) {
        loop {
            let _ = tokio::time::timeout(SWEEP_INTERVAL, self.store().evicted()).await;
            let store = self.store().clone();
            self.env().blocking(move || store.sweep()).await;
            for task in self.store().take_evicted() {
                self.links().leave(&task);
            }
        }
    }
}
