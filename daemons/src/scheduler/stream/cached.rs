//! Questions about tasks, and contents that were deleted.

use df_api::scheduler as wire;
use df_api::scheduler::scheduler_event::Event as Down;
use df_core::id::TaskId;
use df_core::scheduler::{Input, RequestId, TaskView};
use tokio::sync::oneshot;

use super::{Asked, Books, Desk, Seat};
use crate::sync::lock;

impl Desk {
    /// What is known of a task.
    pub(in crate::scheduler) async fn view(&self, task: TaskId) -> Option<TaskView> {
        let request = RequestId(self.next());
        let (answer, answered) = oneshot::channel();
        lock(&self.0.books).requests.insert(request, Asked::Task(answer));
        self.0.inbox.tell(Input::TaskAsked { request, task }).await;
        answered.await.ok().flatten()
    }

    /// A cached content was deleted.
    pub(in crate::scheduler) async fn delete(&self, task: TaskId) {
        self.0.inbox.tell(Input::TaskDeleted { task }).await;
    }
}

impl Books {
    /// The machine has refused a peer because its content was deleted: its host is to drop it.
    pub(in crate::scheduler) fn refused_deleted(&mut self, request: RequestId) {
        if let Some(Asked::Peer(Seat { stream: id, session, .. })) = self.requests.remove(&request) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.waiting.remove(&session);
            }
            self.tell_stream(id, Down::Forget(wire::Forget { session }));
        }
    }

    /// The machine has answered a question.
    pub(in crate::scheduler) fn told(&mut self, request: RequestId, view: Option<TaskView>) {
        if let Some(Asked::Task(answer)) = self.requests.remove(&request) {
            let _ = answer.send(view);
        }
    }
}
