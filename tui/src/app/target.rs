//! What an action is about, the marked rows or the one under the cursor, and where a row leads.

use super::{Action, App};
use crate::filter::Filter;
use crate::list::{List, Row};
use crate::model::Subject;
use crate::screen::Screen;

/// Something with an id and a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) name: String,
}

impl Target {
    pub(super) fn of(row: &dyn Row) -> Self {
        Self { id: row.key().into_owned(), name: row.name().into_owned() }
    }
}

impl App {
    /// The marked rows of the list with the cursor; none marked, the one under the cursor.
    pub(super) fn chosen(&self) -> Vec<Target> {
        let list = self.list();
        let marks = self.lists.get(&list).map(|state| &state.marks).filter(|marks| !marks.is_empty());
        match marks {
            Some(marks) => {
                let rows = list.rows(&self.snapshot).into_iter();
                rows.filter(|row| marks.contains(row.key().as_ref())).map(Target::of).collect()
            }
            None => self.row().map(Target::of).into_iter().collect(),
        }
    }

    /// The hosts an action is about.
    pub(super) fn chosen_hosts(&self) -> Vec<Target> {
        match self.list() {
            List::Hosts | List::TaskPeers => self.chosen(),
            // The source is no host.
            List::Parents => self.chosen().into_iter().filter(|target| !target.id.is_empty()).collect(),
            List::Isolated => {
                let chosen = self.chosen();
                let is_chosen = |row: &&crate::model::Isolated| chosen.iter().any(|it| it.id == Row::key(*row));
                let rows = self.snapshot.isolated.iter().filter(is_chosen);
                rows.map(|row| Target { id: row.host.clone(), name: row.hostname.clone() }).collect()
            }
            List::Tree => {
                let branch = self.branch().filter(|branch| !branch.host.is_empty());
                branch.map(|it| Target { id: it.host.clone(), name: it.hostname.clone() }).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The tasks an action is about.
    pub(super) fn chosen_tasks(&self) -> Vec<Target> {
        match self.list() {
            List::Tasks | List::Busiest => self.chosen(),
            List::Parents | List::TaskPeers | List::Tree => {
                let view = self.snapshot.task.iter();
                view.map(|view| Target { id: view.task.id.clone(), name: view.task.name().to_owned() }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What the row under the cursor is about.
    pub(super) fn subject(&self) -> Subject {
        let key = self.row().map(|row| row.key().into_owned());
        match (self.list(), key) {
            (List::Tasks | List::Busiest, Some(id)) => Subject::Task(id),
            (List::Hosts, Some(id)) => Subject::Host(id),
            (List::Jobs, Some(id)) => Subject::Job(id),
            (List::Attention, Some(id)) => {
                let found = self.snapshot.attention.iter().find(|it| it.text == id);
                found.map(|it| it.subject.clone()).unwrap_or_default()
            }
            (List::Happenings, Some(id)) => {
                let found = self.snapshot.happenings.iter().find(|it| it.number.to_string() == id);
                found.map(|it| it.subject.clone()).unwrap_or_default()
            }
            (List::Members, Some(id)) => {
                let found = self.snapshot.members.iter().find(|member| member.id == id);
                let host = found.map(|member| member.host.clone()).filter(|host| !host.is_empty());
                host.map(Subject::Host).unwrap_or_default()
            }
            (List::Isolated | List::Parents | List::TaskPeers | List::Tree, _) => {
                self.chosen_hosts().into_iter().next().map(|host| Subject::Host(host.id)).unwrap_or_default()
            }
            _ => Subject::None,
        }
    }

    pub(super) fn look_at_task(&mut self, task: String, host: Option<String>) {
        if self.task.as_ref() != Some(&task) {
            self.task_history.reset();
            self.folded.clear();
        }
        (self.task, self.task_host) = (Some(task), host);
    }

    /// Where a line about something leads.
    pub(super) fn follow(&mut self, subject: Subject) -> Option<Action> {
        let (screen, list, key) = match subject {
            Subject::None => return None,
            Subject::Task(id) => {
                self.look_at_task(id, None);
                self.go(Screen::Task);
                return Some(Action::Ask);
            }
            Subject::Host(id) => (Screen::Peers, List::Hosts, id),
            Subject::Job(id) => (Screen::Jobs, List::Jobs, id),
            Subject::Member(id) => (Screen::Cluster, List::Members, id),
        };
        self.go(screen);
        if let Some(state) = self.lists.get_mut(&list) {
            state.filter = Filter::default();
            state.seek(key);
        }
        Some(Action::Ask)
    }
}
