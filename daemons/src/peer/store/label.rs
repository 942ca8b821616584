//! What a task is called, and how long it is kept.

use df_api::task::TaskRequest;
use df_core::id::TaskId;

use super::journal::{KeepingFact, TaskFact};

/// What a task is called.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Label {
    /// As people see it: the URL without secrets, or the name of a cached content.
    pub shown: String,
    /// The name of a cached content; empty for any other.
    pub cid: String,
    /// The tag it was asked for or imported with.
    pub tag: String,
    /// The application it was asked for or imported for.
    pub application: String,
}

impl From<&TaskRequest> for Label {
    fn from(request: &TaskRequest) -> Self {
        let (tag, application) = (request.meta.tag.clone(), request.meta.application.clone());
        match &request.cid {
            Some(cid) => Self { shown: String::new(), cid: cid.clone(), tag, application },
            None => Self { shown: request.shown(), cid: String::new(), tag, application },
        }
    }
}

/// How long a content is kept, and where else.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Keeping {
    /// Whether it was imported here: not evicted.
    pub is_pinned: bool,
    /// Wall time in seconds after which it goes; 0 for never.
    pub expires_secs: u64,
    /// Hosts that are to have it.
    pub replicas: u32,
}

impl Keeping {
    pub(super) const fn fact(self) -> KeepingFact {
        let Self { is_pinned, expires_secs, replicas } = self;
        KeepingFact { is_pinned, expires_secs, replicas }
    }
}

/// The first record of a task's journal.
pub(super) fn head(id: TaskId, label: &Label, created_secs: u64) -> TaskFact {
    TaskFact {
        id: id.as_bytes().to_vec(),
        shown_url: label.shown.clone(),
        created_secs,
        cid: label.cid.clone(),
        tag: label.tag.clone(),
        application: label.application.clone(),
    }
}
