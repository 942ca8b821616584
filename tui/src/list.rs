//! Lists: what rows they have and what stands in each column. Drawing, sorting, filtering and the
//! tables of `dfctl` all read the same columns.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::format;
use crate::model::{Mark, Snapshot, State};
use crate::theme;

mod cluster;
mod policy;
mod task;

/// One value of a row.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// There is none.
    None,
    /// A text.
    Text(Cow<'a, str>),
    /// A number of things.
    Count(u64),
    /// Bytes.
    Size(u64),
    /// Bytes per second.
    Rate(u64),
    /// Parts per thousand.
    Share(u32),
    /// Seconds.
    Span(u64),
    /// Seconds since 1970.
    At(u64),
    /// A state.
    State(&'a State),
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        if text.is_empty() { Self::None } else { Self::Text(Cow::Borrowed(text)) }
    }

    fn made(text: String) -> Self {
        if text.is_empty() { Self::None } else { Self::Text(Cow::Owned(text)) }
    }

    /// The value as it is shown.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::None => Cow::Borrowed("-"),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Count(count) => Cow::Owned(count.to_string()),
            Self::Size(bytes) => Cow::Owned(format::size(*bytes)),
            Self::Rate(0) => Cow::Borrowed("-"),
            Self::Rate(rate) => Cow::Owned(format::rate(*rate)),
            Self::Share(share) => Cow::Owned(format::percent(*share)),
            Self::Span(seconds) => Cow::Owned(format::span(*seconds)),
            Self::At(time) => Cow::Owned(format::date(*time)),
            Self::State(state) => Cow::Owned(format!("{} {}", theme::sign(state.mark), state.word)),
        }
    }

    /// The number behind it, in the unit of its kind; shares in per cent, as they are shown.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::None | Self::Text(_) | Self::State(_) => None,
            Self::Count(n) | Self::Size(n) | Self::Rate(n) | Self::Span(n) | Self::At(n) => Some(*n as f64),
            Self::Share(share) => Some(f64::from(*share) / 10.0),
        }
    }

    /// The words behind it.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::State(state) => Some(&state.word),
            _ => None,
        }
    }

    /// The mark of a state.
    pub const fn mark(&self) -> Option<Mark> {
        match self {
            Self::State(state) => Some(state.mark),
            _ => None,
        }
    }

    /// The order in which rows are sorted by it: what is not there comes last.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::None, Self::None) => Ordering::Equal,
            (Self::None, _) => Ordering::Greater,
            (_, Self::None) => Ordering::Less,
            _ => match (self.number(), other.number()) {
                (Some(one), Some(other)) => one.total_cmp(&other),
                _ => self.word().cmp(&other.word()),
            },
        }
    }
}

/// What stands over a column, and how much room it wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its name; in lower case it is the field of filters and the column of `:sort`.
    pub name: &'static str,
    /// Cells it needs; what is left over goes to those with `grows`.
    pub width: u16,
    /// Whether it takes what room is left.
    pub grows: bool,
    /// Columns with a higher rank go first when there is no room; 9 is shown only when asked for.
    pub rank: u8,
    /// Whether its values stand at the right.
    pub is_number: bool,
}

/// One column of rows of one type.
struct Column<T: 'static> {
    head: Head,
    value: fn(&T) -> Value<'_>,
}

impl<T> Column<T> {
    const fn words(name: &'static str, width: u16, rank: u8, value: fn(&T) -> Value<'_>) -> Self {
        Self { head: Head { name, width, grows: false, rank, is_number: false }, value }
    }

    const fn number(name: &'static str, width: u16, rank: u8, value: fn(&T) -> Value<'_>) -> Self {
        Self { head: Head { name, width, grows: false, rank, is_number: true }, value }
    }

    const fn grows(name: &'static str, width: u16, rank: u8, value: fn(&T) -> Value<'_>) -> Self {
        Self { head: Head { name, width, grows: true, rank, is_number: false }, value }
    }
}

/// A type whose values are rows of a list.
trait Listed: serde::Serialize + Sized + 'static {
    const COLUMNS: &'static [Column<Self>];
    fn key(&self) -> Cow<'_, str>;
    fn name(&self) -> Cow<'_, str> {
        self.key()
    }
}

/// One row, of whatever type.
pub trait Row {
    /// What tells it apart from the other rows of its list, and stays.
    fn key(&self) -> Cow<'_, str>;
    /// What people call it.
    fn name(&self) -> Cow<'_, str>;
    /// How many columns it has.
    fn width(&self) -> usize;
    /// What stands in a column; nothing in one it has not.
    fn value(&self, column: usize) -> Value<'_>;
    /// All of it.
    fn json(&self) -> serde_json::Value;
}

impl<T: Listed> Row for T {
    fn key(&self) -> Cow<'_, str> {
        Listed::key(self)
    }

    fn name(&self) -> Cow<'_, str> {
        Listed::name(self)
    }

    fn width(&self) -> usize {
        T::COLUMNS.len()
    }

    fn value(&self, column: usize) -> Value<'_> {
        T::COLUMNS.get(column).map_or(Value::None, |column| (column.value)(self))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The lists there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum List {
    /// The busiest tasks.
    Busiest,
    /// What somebody should look at.
    Attention,
    /// All tasks.
    Tasks,
    /// Parents of the host whose pieces are shown.
    Parents,
    /// Peers of the task that is looked at.
    TaskPeers,
    /// Peers and seed peers.
    Hosts,
    /// The tree of the task that is looked at.
    Tree,
    /// Schedulers, seed peers, peers as the manager knows them.
    Members,
    /// Clusters.
    Clusters,
    /// Preheats.
    Jobs,
    /// Parts of the job that is looked at.
    Parts,
    /// Hosts that are not used.
    Isolated,
    /// The operator's block list.
    Blocks,
    /// Contents cached on this node.
    Contents,
    /// What happened.
    Happenings,
    /// Users.
    Users,
    /// Tokens.
    Tokens,
    /// Who changed what.
    Audit,
    /// The dynamic configuration.
    Settings,
}

fn heads<T: Listed>() -> Vec<Head> {
    T::COLUMNS.iter().map(|column| column.head).collect()
}

fn rows<T: Listed>(items: &[T]) -> Vec<&dyn Row> {
    items.iter().map(|item| item as &dyn Row).collect()
}

impl List {
    /// Every list.
    pub const ALL: [Self; 19] = [
        Self::Busiest,
        Self::Attention,
        Self::Tasks,
        Self::Parents,
        Self::TaskPeers,
        Self::Hosts,
        Self::Tree,
        Self::Members,
        Self::Clusters,
        Self::Jobs,
        Self::Parts,
        Self::Isolated,
        Self::Blocks,
        Self::Contents,
        Self::Happenings,
        Self::Users,
        Self::Tokens,
        Self::Audit,
        Self::Settings,
    ];

    /// What stands over it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Busiest => "busiest tasks",
            Self::Attention => "attention",
            Self::Tasks => "tasks",
            Self::Parents => "parents",
            Self::TaskPeers => "peers of the task",
            Self::Hosts => "peers",
            Self::Tree => "topology",
            Self::Members => "members",
            Self::Clusters => "clusters",
            Self::Jobs => "jobs",
            Self::Parts => "parts",
            Self::Isolated => "blacklist and isolation",
            Self::Blocks => "block list",
            Self::Contents => "cached on this node",
            Self::Happenings => "events",
            Self::Users => "users",
            Self::Tokens => "tokens",
            Self::Audit => "audit",
            Self::Settings => "configuration",
        }
    }

    /// Its columns.
    pub fn heads(self) -> Vec<Head> {
        use crate::model as m;
        match self {
            Self::Busiest | Self::Tasks => heads::<m::Task>(),
            Self::Attention => heads::<m::Attention>(),
            Self::Parents => heads::<m::Edge>(),
            Self::TaskPeers => heads::<m::TaskPeer>(),
            Self::Hosts => heads::<m::Host>(),
            Self::Tree => Vec::new(),
            Self::Members => heads::<m::Member>(),
            Self::Clusters => heads::<m::Cluster>(),
            Self::Jobs => heads::<m::Job>(),
            Self::Parts => heads::<m::JobPart>(),
            Self::Isolated => heads::<m::Isolated>(),
            Self::Blocks => heads::<m::Block>(),
            Self::Contents => heads::<m::Content>(),
            Self::Happenings => heads::<m::Happening>(),
            Self::Users => heads::<m::User>(),
            Self::Tokens => heads::<m::Token>(),
            Self::Audit => heads::<m::AuditEntry>(),
            Self::Settings => heads::<m::Setting>(),
        }
    }

    /// Its rows, in the order they came.
    pub fn rows(self, snapshot: &Snapshot) -> Vec<&dyn Row> {
        match self {
            Self::Busiest => rows(&snapshot.busiest),
            Self::Attention => rows(&snapshot.attention),
            Self::Tasks => rows(&snapshot.tasks),
            Self::Parents => {
                let edges = snapshot.task.iter().flat_map(|view| view.edges.iter().map(move |edge| (view, edge)));
                edges.filter(|(view, edge)| edge.child == view.host).map(|(_, edge)| edge as &dyn Row).collect()
            }
            Self::TaskPeers => snapshot.task.as_ref().map_or_else(Vec::new, |view| rows(&view.peers)),
            Self::Hosts => rows(&snapshot.hosts),
            // Its order is that of the tree: see the topology.
            Self::Tree => Vec::new(),
            Self::Members => rows(&snapshot.members),
            Self::Clusters => rows(&snapshot.clusters),
            Self::Jobs => rows(&snapshot.jobs),
            Self::Parts => snapshot.job.as_ref().map_or_else(Vec::new, |job| rows(&job.parts)),
            Self::Isolated => rows(&snapshot.isolated),
            Self::Blocks => rows(&snapshot.policy.blocks),
            Self::Contents => rows(&snapshot.contents),
            Self::Happenings => rows(&snapshot.happenings),
            Self::Users => rows(&snapshot.users),
            Self::Tokens => rows(&snapshot.tokens),
            Self::Audit => rows(&snapshot.audit),
            Self::Settings => rows(&snapshot.settings),
        }
    }

    /// The column with this name, in any case.
    pub fn column(self, name: &str) -> Option<usize> {
        self.heads().iter().position(|head| head.name.eq_ignore_ascii_case(name))
    }

    /// How it is sorted until somebody says otherwise: the column, and whether the largest come first.
    pub fn usual_order(self) -> Option<(usize, bool)> {
        let (name, is_falling) = match self {
            Self::Tasks => ("rate", true),
            Self::Hosts => ("host", false),
            Self::Happenings => ("time", true),
            Self::Contents => ("cid", false),
            _ => return None,
        };
        self.column(name).map(|column| (column, is_falling))
    }
}

/// The row with this name or id, or the only one whose name or id begins so.
///
/// # Errors
/// When there is none, or more than one.
pub fn named<'a>(rows: Vec<&'a dyn Row>, name: &str, what: &str) -> Result<&'a dyn Row, String> {
    if name.is_empty() {
        return Err(format!("say which {what}"));
    }
    let exact = rows.iter().find(|row| row.key() == name || row.name() == name);
    let mut begun = rows.iter().filter(|row| row.key().starts_with(name) || row.name().starts_with(name));
    match (exact, begun.next(), begun.next()) {
        (Some(row), ..) | (None, Some(row), None) => Ok(*row),
        (None, Some(_), Some(_)) => Err(format!("more than one {what} begins with {name}")),
        (None, None, _) => Err(format!("there is no {what} {name}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn columns_of_a_list_have_names_of_their_own_and_fit_a_filter() {
        for list in List::ALL {
            let heads = list.heads();
            let names: BTreeSet<&str> = heads.iter().map(|head| head.name).collect();
            assert_eq!(names.len(), heads.len(), "{list:?}");
            assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')), "{list:?}");
            assert!(heads.is_empty() || heads.iter().any(|head| head.rank == 0), "{list:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_sorted_last() {
        let mut values = [Value::None, Value::Count(2), Value::Count(1)];
        values.sort_by(Value::order);
        assert_eq!(values, [Value::Count(1), Value::Count(2), Value::None]);
    }
}
