//! Questions about tasks, the ids v1 clients know them by, and contents that were deleted.

use std::time::Duration;

use df_api::convert::{self, Malformed};
use df_api::scheduler as wire;
use df_api::scheduler::scheduler_event::Event as Down;
use df_core::id::TaskId;
use df_core::scheduler::{Input, RequestId, Scheduler, TaskView};
use tokio::sync::oneshot;

use super::{Asked, Books, Desk, Seat, TASK_LIMIT};
use crate::sync::lock;

/// Deletions in one message.
const DELETION_LIMIT: usize = 10_000;

/// How far ahead of this scheduler's clock a stamp may be, in milliseconds.
const SKEW_LIMIT_MS: u64 = 24 * 3600 * 1000;

impl Desk {
    /// The stamp of what happens now: wall time, in milliseconds.
    pub(in crate::scheduler) fn stamp(&self) -> u64 {
        u64::try_from(self.0.env.clock.wall().as_millis()).unwrap_or(u64::MAX)
    }

    /// A stamp as a host says it was told, unless that is far in the future.
    pub(super) fn plausible(&self, stamp: u64) -> u64 {
        stamp.min(self.stamp().saturating_add(SKEW_LIMIT_MS))
    }

    /// A host has heard of deletions that may have been forgotten here.
    pub(super) async fn hear_deletions(&self, deletions: &wire::Deletions) -> Result<(), Malformed> {
        let wire::Deletions { task_ids, stamps, ages_secs } = deletions;
        let count = stamps.len();
        if count > DELETION_LIMIT || ages_secs.len() != count || task_ids.len() != count * TaskId::LEN {
            return Err(Malformed(format!("{count} deletions with {} bytes of task ids", task_ids.len())));
        }
        for ((task, stamp), age) in task_ids.chunks_exact(TaskId::LEN).zip(stamps).zip(ages_secs) {
            let (task, stamp, age) = (convert::task_id(task)?, self.plausible(*stamp), Duration::from_secs(*age));
            self.0.inbox.tell(Input::DeletionTold { task, stamp, age }).await;
        }
        Ok(())
    }

    /// Our own id of a task that may be named by v1's.
    pub(in crate::scheduler) fn native(&self, task: TaskId) -> (TaskId, bool) {
        let own = lock(&self.0.books).foreign.get(&task).copied();
        (own.unwrap_or(task), own.is_some())
    }

    /// What is known of a task.
    pub(in crate::scheduler) async fn view(&self, task: TaskId) -> Option<TaskView> {
        let request = RequestId(self.next());
        let (answer, answered) = oneshot::channel();
        lock(&self.0.books).requests.insert(request, Asked::Task(answer));
        self.0.inbox.tell(Input::TaskAsked { request, task }).await;
        answered.await.ok().flatten()
    }

    /// A cached content was deleted; what was known of it.
    pub(in crate::scheduler) async fn delete(&self, task: TaskId) -> TaskView {
        let (request, stamp) = (RequestId(self.next()), self.stamp());
        let (answer, answered) = oneshot::channel();
        lock(&self.0.books).requests.insert(request, Asked::Task(answer));
        self.0.inbox.tell(Input::TaskDeleted { request, task, stamp }).await;
        answered.await.ok().flatten().unwrap_or_default()
    }
}

impl Books {
    /// Remembers a task by the id that v1 clients know it by.
    pub(in crate::scheduler) fn remember_as(&mut self, foreign: TaskId, task: TaskId) {
        if self.foreign.len() >= TASK_LIMIT && !self.foreign.contains_key(&foreign) {
            self.foreign.pop_first();
        }
        self.foreign.insert(foreign, task);
    }

    /// The machine has refused a peer because its content was deleted: its host is to drop it.
    pub(in crate::scheduler) fn refused_deleted(&mut self, request: RequestId, machine: &Scheduler) {
        if let Some(Asked::Peer(Seat { stream: id, session, task })) = self.requests.remove(&request) {
            let deleted = machine.tombstone(&task).unwrap_or(0);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.waiting.remove(&session);
            }
            self.tell_stream(id, Down::Forget(wire::Forget { session, deleted }));
        }
    }

    /// The machine has answered a question.
    pub(in crate::scheduler) fn told(&mut self, request: RequestId, view: Option<TaskView>) {
        if let Some(Asked::Task(answer)) = self.requests.remove(&request) {
            let _ = answer.send(view);
        }
    }
}
