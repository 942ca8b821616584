//! Callers and what they wait for: who asks for a task that is open already joins it.

use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::downloader::{Input, Opening};
use df_core::id::TaskId;
use df_core::piece::Order;

use super::job::{Job, JobOptions};
use super::store::Label;
use super::throttle::Limit;
use super::{JOB_LIMIT, Jobs, Peer, READER_WINDOW, whole};
use crate::sync::lock;

/// Somebody's interest in a job; the last one to go closes it.
pub struct Waiting {
    peer: Peer,
    job: Arc<Job>,
}

impl Waiting {
    /// The job.
    pub const fn job(&self) -> &Arc<Job> {
        &self.job
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.job.leave() && self.job.outcome().borrow().is_none() && self.peer.close_job(&self.job.task).is_some() {
            self.peer.downloader().tell_soon(Input::TaskClosed { task: self.job.task });
        }
    }
}

impl Peer {
    /// Joins the download of a task, beginning it if nobody has.
    ///
    /// # Errors
    /// When the store fails, or too many tasks are open.
    pub async fn join(
        &self,
        request: TaskRequest,
        options: JobOptions,
        rate_bytes_per_sec: Option<u64>,
    ) -> Result<Waiting, Failure> {
        let (task, options) = (request.id(), options.under(&request)?);
        self.check_download(&request, options.is_local)?;
        self.admit(&request, &options).await?;
        let open = self.join_open(&lock(&self.0.jobs), &task, options);
        if let Some((waiting, is_news)) = open {
            self.tell_opened(&waiting.job, is_news);
            return Ok(waiting);
        }
        let (store, label) = (self.0.store.clone(), Label::from(&request));
        let peer = self.clone();
        let stored =
            self.0.env.blocking(move || peer.intact(&task).map_or_else(|| store.task_or_new(&task, &label), Ok));
        let stored = stored.await?;
        let rate = rate_bytes_per_sec.or_else(|| self.task_rate());
        let job = Arc::new(Job::new(request, stored, options, Limit::new(self.0.env.clock.now(), rate)));
        if job.stored.is_complete() {
            return self.join_complete(job).await;
        }
        let (waiting, is_news) = {
            let mut jobs = lock(&self.0.jobs);
            if jobs.len() >= JOB_LIMIT {
                return Err(Failure::new(Code::Busy, format!("{JOB_LIMIT} tasks are open already")));
            }
            // Somebody may have been quicker.
            self.join_open(&jobs, &task, options).unwrap_or_else(|| {
                job.join(options);
                jobs.insert(task, job.clone());
                whole::follow(&self.0.env, &job);
                (Waiting { peer: self.clone(), job }, true)
            })
        };
        self.tell_opened(&waiting.job, is_news);
        Ok(waiting)
    }

    /// Joins a job that is open; and whether more is allowed for it now.
    fn join_open(&self, jobs: &Jobs, task: &TaskId, options: JobOptions) -> Option<(Waiting, bool)> {
        let job = jobs.get(task)?.clone();
        let is_widened = job.join(options);
        Some((Waiting { peer: self.clone(), job }, is_widened))
    }

    /// Tells the downloader of a job that is new, or for which more is allowed. Not while the jobs are locked:
    /// whoever tells schedulers of them looks at jobs with a link locked.
    fn tell_opened(&self, job: &Job, is_news: bool) {
        if is_news {
            self.downloader().tell_soon(Input::TaskOpened(Box::new(self.opening(job))));
        }
    }

    /// A content that is here already: nothing to download, but the whole is still verified.
    async fn join_complete(&self, job: Arc<Job>) -> Result<Waiting, Failure> {
        job.join(job.options());
        // Once is enough, as long as nobody writes to it.
        let is_verified = job.stored.is_verified(&job.request.meta.digest);
        let verified = if is_verified { Ok(()) } else { whole::verify(&self.0.env, &job).await };
        if verified.is_err() {
            self.forget_task(&job.task);
        }
        job.finish(verified);
        Ok(Waiting { peer: self.clone(), job })
    }

    fn opening(&self, job: &Job) -> Opening {
        let order = if job.options().is_in_order {
            Order::InOrder { from: job.stored.held().contiguous(), window: READER_WINDOW }
        } else {
            Order::RarestFirst
        };
        Opening {
            task: job.task,
            plan: job.stored.plan(),
            held: job.stored.held(),
            digests: job.stored.digests(),
            order,
            may_fetch_source: job.options().may_fetch_source,
            link: self.0.links.state(&job.task, self.0.env.clock.now()),
        }
    }
}
