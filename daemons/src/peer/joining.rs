//! Callers and what they wait for: who asks for a task that is open already joins it.

use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::downloader::{Input, Opening};
use df_core::id::TaskId;
use df_core::piece::Order;

use super::job::{Job, JobOptions};
use super::store::Label;
use super::{JOB_LIMIT, Jobs, Peer, READER_WINDOW, limit, whole};
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
            self.peer.tell_closed(self.job.task);
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
        let (task, options) = (request.id(), options.under(request.meta.priority)?);
        self.check_download(&request)?;
        self.admit(&request, &options).await?;
        let open = self.join_open(&lock(&self.0.jobs), &task, options);
        if let Some((waiting, news)) = open {
            self.tell_downloader(news).await;
            return Ok(waiting);
        }
        let (store, label) = (self.0.store.clone(), Label::from(&request));
        let peer = self.clone();
        let stored =
            self.0.env.blocking(move || peer.intact(&task).map_or_else(|| store.task_or_new(&task, &label), Ok));
        let stored = stored.await?;
        let rate = rate_bytes_per_sec.or_else(|| self.task_rate());
        let job = Arc::new(Job::new(request, stored, options, limit(self.0.env.clock.now(), rate)));
        if job.stored.is_complete() {
            return self.join_complete(job).await;
        }
        let (waiting, news) = {
            let mut jobs = lock(&self.0.jobs);
            if jobs.len() >= JOB_LIMIT {
                return Err(Failure::new(Code::Busy, format!("{JOB_LIMIT} tasks are open already")));
            }
            // Somebody may have been quicker.
            self.join_open(&jobs, &task, options).unwrap_or_else(|| {
                job.join(options);
                jobs.insert(task, job.clone());
                whole::follow(&self.0.env, &job);
                let opened = Input::TaskOpened(Box::new(self.opening(&job)));
                (Waiting { peer: self.clone(), job }, Some(opened))
            })
        };
        self.tell_downloader(news).await;
        Ok(waiting)
    }

    /// Joins a job that is open; what the downloader has to be told then.
    fn join_open(&self, jobs: &Jobs, task: &TaskId, options: JobOptions) -> Option<(Waiting, Option<Input>)> {
        let job = jobs.get(task)?.clone();
        let news = job.join(options).then_some(Input::SourceAllowed { task: *task });
        Some((Waiting { peer: self.clone(), job }, news))
    }

    async fn tell_downloader(&self, news: Option<Input>) {
        if let Some(input) = news {
            self.0.downloader.tell(input).await;
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
