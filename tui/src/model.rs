//! What is known of a cluster: plain data, filled by a poller or made up by the demo, read by all else.
//!
//! Sizes are bytes, rates bytes per second, shares parts per thousand, `*_s` seconds; `*_at` are
//! seconds since 1970 by the manager's clock.

use serde::Serialize;

mod job;
mod member;
mod policy;
mod task;

pub use job::{Job, JobPart, PreheatScope};
pub use member::{Cluster, Health, Host, Member, Role};
pub use policy::{AuditEntry, Block, Isolated, Policy, Scope, Setting, Token, User};
pub use task::{Cell, Content, Edge, Task, TaskPeer, TaskView};

/// How a state is to be taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Good,
    /// At work.
    Busy,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
    /// Nothing goes on.
    #[default]
    Idle,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Self; 5] = [Self::Good, Self::Busy, Self::Warn, Self::Bad, Self::Idle];
}

/// A state: how to take it, and its word. It is shown as a sign and the word, never by colour alone.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct State {
    /// How to take it.
    pub mark: Mark,
    /// What it is called.
    pub word: String,
}

impl State {
    /// A state with its word.
    pub fn new(mark: Mark, word: impl Into<String>) -> Self {
        Self { mark, word: word.into() }
    }
}

/// What flows in the whole cluster now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Traffic {
    /// What nodes receive, from anywhere.
    pub download_bytes_per_sec: u64,
    /// What nodes send to each other.
    pub upload_bytes_per_sec: u64,
    /// What sources send.
    pub source_bytes_per_sec: u64,
    /// Bytes received since the counters began.
    pub download_bytes: u64,
    /// Those of them that sources sent.
    pub source_bytes: u64,
}

impl Traffic {
    /// The part of all bytes that no source had to send; `None` before the first byte.
    pub fn saved_per_mille(&self) -> Option<u32> {
        let saved = u128::from(self.download_bytes.saturating_sub(self.source_bytes));
        let share = (saved * 1000).checked_div(u128::from(self.download_bytes))?;
        u32::try_from(share).ok()
    }
}

/// Limits on each host of some kind. A rate of 0 says "without limit" on purpose; `None` leaves it to
/// the host.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Limits {
    /// From hosts and sources together.
    pub download_bytes_per_sec: Option<u64>,
    /// To other hosts.
    pub upload_bytes_per_sec: Option<u64>,
    /// From sources.
    pub source_bytes_per_sec: Option<u64>,
    /// From hosts and sources, for one task.
    pub task_bytes_per_sec: Option<u64>,
    /// Pieces sent at once.
    pub upload_slots: Option<u32>,
    /// Pieces received at once.
    pub download_slots: Option<u32>,
}

/// Something that somebody should look at.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Attention {
    /// How to take it.
    pub mark: Mark,
    /// What it is.
    pub text: String,
    /// What it is about.
    pub subject: Subject,
}

/// What a line is about: where to go from there.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Nothing one could look at.
    #[default]
    None,
    /// A host, by its id.
    Host(String),
    /// A task, by its id.
    Task(String),
    /// A job, by its number.
    Job(String),
    /// A member, by its number.
    Member(String),
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Happening {
    /// Grows by one with each.
    pub number: u64,
    /// When.
    pub happened_at: u64,
    /// How to take it, and what kind it is.
    pub kind: State,
    /// Where it happened, by name.
    pub place: String,
    /// Who was behind it.
    pub user: String,
    /// What it is about.
    pub subject: Subject,
    /// What happened.
    pub text: String,
}

/// Whether a source of data answers.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contact {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Live,
    /// It does not; why.
    Lost(String),
    /// It is not to be asked; why.
    Unused(String),
}

/// One picture of everything that is shown.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct Snapshot {
    /// Where it is from.
    pub manager: Contact,
    /// The node this console runs on.
    pub daemon: Contact,
    /// What the cluster is called.
    pub cluster: String,
    /// Who asks.
    pub user: String,
    /// Whether this user may change things.
    pub may_write: bool,
    /// The manager's clock.
    pub taken_at: u64,
    /// What flows.
    pub traffic: Traffic,
    /// The limits and blocks that hold in the cluster.
    pub policy: Policy,
    /// Parts of the cluster, and how many of them are well.
    pub health: Vec<Health>,
    /// What somebody should look at, worst first.
    pub attention: Vec<Attention>,
    /// The busiest tasks.
    pub busiest: Vec<Task>,
    /// Tasks in progress or kept.
    pub tasks: Vec<Task>,
    /// The task that is looked at, if one is.
    pub task: Option<TaskView>,
    /// Peers and seed peers.
    pub hosts: Vec<Host>,
    /// Schedulers, seed peers and peers, as the manager knows them.
    pub members: Vec<Member>,
    /// Clusters and whom they are for.
    pub clusters: Vec<Cluster>,
    /// Preheats and other jobs.
    pub jobs: Vec<Job>,
    /// The job that is looked at, with its parts.
    pub job: Option<Job>,
    /// Hosts that are not used.
    pub isolated: Vec<Isolated>,
    /// Contents cached on this node.
    pub contents: Vec<Content>,
    /// What happened, oldest first.
    pub happenings: Vec<Happening>,
    /// Who may sign in.
    pub users: Vec<User>,
    /// Personal access tokens.
    pub tokens: Vec<Token>,
    /// Who changed what.
    pub audit: Vec<AuditEntry>,
    /// The dynamic configuration, value by value.
    pub settings: Vec<Setting>,
}

impl Snapshot {
    /// The task with this id.
    pub fn task_of(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// The host with this id.
    pub fn host_of(&self, id: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_what_no_source_sent() {
        let saved = |download_bytes, source_bytes| {
            Traffic { download_bytes, source_bytes, ..Traffic::default() }.saved_per_mille()
        };
        assert_eq!(
            [saved(0, 0), saved(1000, 9), saved(5, 9), saved(u64::MAX, 0)],
            [None, Some(991), Some(0), Some(1000)]
        );
    }
}
