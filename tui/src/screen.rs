//! The screens, what they are called, and which lists stand on them.

use clap::ValueEnum;

use crate::list::List;

/// A screen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, ValueEnum)]
pub enum Screen {
    /// What flows, what is well, what is not.
    #[default]
    Overview,
    /// All tasks.
    Tasks,
    /// Peers and seed peers.
    Peers,
    /// Who gets a task from whom.
    Topology,
    /// Schedulers, seed peers, clusters.
    Cluster,
    /// Preheats.
    Jobs,
    /// Hosts that are not used, and the operator's block list.
    Blacklist,
    /// Contents cached on this node.
    Cache,
    /// What happened.
    Events,
    /// Users, tokens, audit, configuration.
    Admin,
    /// One task.
    Task,
}

impl Screen {
    /// The screens with a tab, in its order. A task has none: it is opened.
    pub const TABS: [Self; 10] = [
        Self::Overview,
        Self::Tasks,
        Self::Peers,
        Self::Topology,
        Self::Cluster,
        Self::Jobs,
        Self::Blacklist,
        Self::Cache,
        Self::Events,
        Self::Admin,
    ];

    /// Every screen.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABS.into_iter().chain([Self::Task])
    }

    /// What its tab says.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Tasks => "Tasks",
            Self::Peers => "Peers",
            Self::Topology => "Topology",
            Self::Cluster => "Cluster",
            Self::Jobs => "Jobs",
            Self::Blacklist => "Blacklist",
            Self::Cache => "Cache",
            Self::Events => "Events",
            Self::Admin => "Admin",
            Self::Task => "Task",
        }
    }

    /// Its name on the command line, there and here.
    pub fn name(self) -> String {
        self.title().to_ascii_lowercase()
    }

    /// The digit that opens it.
    pub fn digit(self) -> Option<char> {
        Self::TABS.iter().position(|tab| *tab == self).and_then(|at| "1234567890".chars().nth(at))
    }

    /// Its lists; one has the cursor.
    pub const fn lists(self) -> &'static [List] {
        match self {
            Self::Overview => &[List::Busiest, List::Attention],
            Self::Tasks => &[List::Tasks],
            Self::Peers => &[List::Hosts],
            Self::Topology => &[List::Tree],
            Self::Cluster => &[List::Members, List::Clusters],
            Self::Jobs => &[List::Jobs, List::Parts],
            Self::Blacklist => &[List::Isolated, List::Blocks],
            Self::Cache => &[List::Contents],
            Self::Events => &[List::Happenings],
            Self::Admin => &[List::Users, List::Tokens, List::Settings, List::Audit],
            Self::Task => &[List::Parents, List::TaskPeers],
        }
    }
}
