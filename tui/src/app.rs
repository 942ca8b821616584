//! The console's state, and what changes it: one stream of events goes in, now and then an action
//! comes out.
//!
//! I1: the cursor of a list is on a row of it, or the list is empty.
//! I2: the row under the cursor stays the same when news reorder the list, as long as it is there; but
//!     at the top the cursor stays at the top.
//! I3: nothing is asked of the cluster while the console may only read.

use std::collections::{BTreeMap, BTreeSet};

use df_api::failure::Failure;

use crate::event::{Event, Key};
use crate::filter::Filter;
use crate::keymap::{self, Binding, Context};
use crate::list::{List, Row};
use crate::model::{Contact, Mark, Snapshot};
use crate::request::Request;
use crate::screen::Screen;
use crate::theme::Theme;
use crate::topology::{self, Branch};

mod browse;
mod change;
mod command;
mod confirm;
mod form;
mod history;
mod line;
mod lists;
mod target;

pub use command::{COMMANDS, CommandLine, Verb};
pub use confirm::Confirm;
pub use form::{Field, Form, Input, Purpose};
pub use history::{History, Window};
pub use line::Line;
pub use lists::ListState;

/// How long a notice stays, in milliseconds.
const NOTICE_MS: u64 = 6000;

/// Screens one can go back through.
const TRAIL_LIMIT: usize = 32;

/// What is to be done about an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Leave; and leave the last screen where it was, or not.
    Quit {
        /// The last screen stays.
        keeps: bool,
    },
    /// Go to the background.
    Suspend,
    /// Ask for news now.
    Ask,
    /// Ask the cluster for changes.
    Order(Vec<Request>),
    /// Put a text on the clipboard.
    Copy(String),
}

/// What keys go to.
#[derive(Clone, PartialEq, Debug)]
pub enum Mode {
    /// The screen.
    Browse,
    /// A text over it.
    Page(Page),
    /// A filter that is written.
    Filter(Line),
    /// A command that is written.
    Command(CommandLine),
    /// A choice of actions.
    Menu(Menu),
    /// A form.
    Form(Form),
    /// A question.
    Confirm(Confirm),
}

impl Mode {
    /// Where its keys are in the table.
    pub const fn context(&self) -> Context {
        match self {
            Self::Browse => Context::Browse,
            Self::Page(_) => Context::Page,
            Self::Filter(_) | Self::Command(_) => Context::Line,
            Self::Menu(_) => Context::Menu,
            Self::Form(_) => Context::Form,
            Self::Confirm(_) => Context::Confirm,
        }
    }
}

/// A text one moves through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// What stands over it.
    pub title: String,
    /// Its lines; `None` for help, which is drawn from the table of keys.
    pub lines: Option<Vec<String>>,
    /// The first line that is shown, before it is held to the length.
    pub top: usize,
}

/// The actions for a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Menu {
    /// The row's name.
    pub title: String,
    /// Where they stand in the table of keys.
    pub items: Vec<usize>,
    /// The one under the cursor.
    pub at: usize,
}

impl Menu {
    /// A line of the menu.
    pub fn binding(&self, at: usize) -> Option<&'static Binding> {
        keymap::KEYMAP.get(*self.items.get(at)?)
    }
}

/// Something to say at the foot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// How to take it.
    pub mark: Mark,
    /// What to say.
    pub text: String,
    age_ms: u64,
}

/// How the console is set up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Setup {
    /// Nothing may be changed.
    pub is_read_only: bool,
    /// Only signs of seven bits are drawn.
    pub is_ascii: bool,
    /// The colours.
    pub theme: Theme,
}

/// What news are wanted about.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Interest {
    /// What is shown.
    pub screen: Screen,
    /// The task that is looked at.
    pub task: Option<String>,
    /// The host whose pieces are wanted; the manager's choice if there is none.
    pub host: Option<String>,
    /// The job whose parts are wanted.
    pub job: Option<String>,
}

/// Everything that is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct App {
    /// How it was set up; the theme changes.
    pub setup: Setup,
    /// What is shown of the cluster.
    pub snapshot: Snapshot,
    /// What came since the screen was frozen.
    held: Option<Box<Snapshot>>,
    /// For how long it has been frozen.
    frozen_ms: Option<u64>,
    /// How old the news are.
    pub news_age_ms: u64,
    /// The screen.
    pub screen: Screen,
    trail: Vec<Screen>,
    panes: BTreeMap<Screen, usize>,
    lists: BTreeMap<List, ListState>,
    /// What keys go to.
    pub mode: Mode,
    /// What is said at the foot.
    pub notice: Option<Notice>,
    /// Traffic of the cluster.
    pub history: History,
    /// Traffic of the task that is looked at.
    pub task_history: History,
    /// How far back curves reach.
    pub window: Window,
    /// All columns are shown.
    pub is_wide: bool,
    /// Whether a topology is shown as a matrix.
    pub is_matrix: bool,
    /// One pane is shown alone.
    pub is_expanded: bool,
    /// The tree of the task that is looked at.
    pub tree: Vec<Branch>,
    folded: BTreeSet<String>,
    task: Option<String>,
    task_host: Option<String>,
    commands: Vec<String>,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
}

impl App {
    /// A console that knows nothing yet.
    pub fn new(setup: Setup) -> Self {
        let mut app = Self {
            setup,
            snapshot: Snapshot::default(),
            held: None,
            frozen_ms: None,
            news_age_ms: 0,
            screen: Screen::default(),
            trail: Vec::new(),
            panes: BTreeMap::new(),
            lists: List::ALL.into_iter().map(|list| (list, ListState::new(list))).collect(),
            mode: Mode::Browse,
            notice: None,
            history: History::default(),
            task_history: History::default(),
            window: Window::default(),
            is_wide: false,
            is_matrix: false,
            is_expanded: false,
            tree: Vec::new(),
            folded: BTreeSet::new(),
            task: None,
            task_host: None,
            commands: Vec::new(),
            size: (80, 24),
        };
        app.settle();
        app
    }

    /// Takes note of an event.
    pub fn handle(&mut self, event: Event) -> Option<Action> {
        let action = match event {
            Event::Pressed(key) => self.pressed(key),
            Event::Pasted(text) => {
                self.write(&text);
                None
            }
            Event::Clicked(column, row) => self.clicked(column, row),
            Event::Wheeled(rows) => {
                self.wheeled(rows);
                None
            }
            Event::Resized(columns, rows) => {
                self.size = (columns, rows);
                None
            }
            Event::Ticked(ms) => {
                self.ticked(ms);
                None
            }
            Event::Seen(snapshot) => {
                self.seen(snapshot);
                None
            }
            Event::Done(text) => {
                self.done(text);
                Some(Action::Ask)
            }
            Event::Failed(failure) => {
                self.failed(&failure);
                None
            }
        };
        self.settle();
        action
    }

    /// What news are wanted about.
    pub fn interest(&self) -> Interest {
        let jobs = self.lists.get(&List::Jobs).filter(|_| self.screen == Screen::Jobs);
        let job = jobs.and_then(|state| self.snapshot.jobs.get(*state.shown.get(state.cursor)?));
        Interest {
            screen: self.screen,
            task: self.task.clone(),
            host: self.task_host.clone(),
            job: job.map(|job| job.id.clone()),
        }
    }

    /// Whether keys that change things are off: as asked for, or for want of rights. What is cached on
    /// this node is the daemon's affair, which lets in whoever may open its socket.
    pub fn is_read_only(&self) -> bool {
        self.setup.is_read_only || !self.snapshot.may_write && self.list() != List::Contents
    }

    /// For how long the screen has been frozen, in milliseconds.
    pub const fn frozen_ms(&self) -> Option<u64> {
        self.frozen_ms
    }

    /// The list with the cursor.
    pub fn list(&self) -> List {
        let lists = self.screen.lists();
        let pane = self.panes.get(&self.screen).copied().unwrap_or_default();
        lists.get(pane).or_else(|| lists.first()).copied().unwrap_or(List::Tasks)
    }

    /// How a list is shown.
    pub fn list_state(&self, list: List) -> Option<&ListState> {
        self.lists.get(&list)
    }

    /// The rows of a list that are shown, in their order.
    pub fn rows(&self, list: List) -> Vec<&dyn Row> {
        let rows = list.rows(&self.snapshot);
        let shown = self.lists.get(&list).map_or(&[][..], |state| state.shown.as_slice());
        shown.iter().filter_map(|at| rows.get(*at).copied()).collect()
    }

    /// The row under the cursor.
    pub fn row(&self) -> Option<&dyn Row> {
        let list = self.list();
        let state = self.lists.get(&list)?;
        let at = *state.shown.get(state.cursor)?;
        list.rows(&self.snapshot).get(at).copied()
    }

    /// The branch of the tree under the cursor.
    pub fn branch(&self) -> Option<&Branch> {
        self.tree.get(self.lists.get(&List::Tree)?.cursor)
    }

    /// Opens a screen as from the command line.
    pub fn open(&mut self, screen: Screen) {
        self.go(screen);
        self.settle();
    }

    fn state(&mut self) -> &mut ListState {
        let list = self.list();
        self.lists.entry(list).or_insert_with(|| ListState::new(list))
    }

    fn say(&mut self, mark: Mark, text: impl Into<String>) {
        self.notice = Some(Notice { mark, text: text.into(), age_ms: 0 });
    }

    fn pressed(&mut self, key: Key) -> Option<Action> {
        let list = self.list();
        match keymap::find(self.mode.context(), list, key) {
            Some(binding) if binding.is_change && self.is_read_only() => {
                self.say(Mark::Warn, self.why_read_only());
                None
            }
            Some(binding) => self.command(binding.command),
            None => {
                if let (crossterm::event::KeyCode::Char(c), false) = (key.code, key.is_control) {
                    self.write(c.encode_utf8(&mut [0; 4]));
                }
                None
            }
        }
    }

    fn why_read_only(&self) -> &'static str {
        if self.setup.is_read_only {
            "this console was started with --read-only"
        } else if self.snapshot.manager == Contact::Live {
            "your token may only look: sign in as somebody who may change things"
        } else {
            "nothing can be changed without a manager"
        }
    }

    fn write(&mut self, text: &str) {
        match &mut self.mode {
            Mode::Filter(line) => {
                line.write(text);
                self.preview();
            }
            Mode::Command(command) => command.write(text),
            Mode::Form(form) => form.write(text),
            Mode::Confirm(confirm) => confirm.line.write(text),
            Mode::Browse | Mode::Page(_) | Mode::Menu(_) => {}
        }
    }

    /// Shows what a filter that is being written would let pass.
    fn preview(&mut self) {
        if let Mode::Filter(line) = &self.mode {
            let filter = Filter::new(line.text());
            self.state().filter = filter;
        }
    }

    fn ticked(&mut self, ms: u64) {
        self.news_age_ms = self.news_age_ms.saturating_add(ms);
        if let Some(frozen_ms) = &mut self.frozen_ms {
            *frozen_ms = frozen_ms.saturating_add(ms);
        }
        if let Some(notice) = &mut self.notice {
            notice.age_ms = notice.age_ms.saturating_add(ms);
        }
        self.notice.take_if(|notice| notice.age_ms >= NOTICE_MS);
    }

    fn seen(&mut self, snapshot: Box<Snapshot>) {
        self.news_age_ms = 0;
        if snapshot.manager == Contact::Live {
            self.history.note(snapshot.taken_at, &snapshot.traffic);
        }
        if let Some(view) = &snapshot.task {
            self.task_history.note_one(snapshot.taken_at, view.task.rate_bytes_per_sec);
        }
        if self.frozen_ms.is_some() {
            self.held = Some(snapshot);
        } else {
            self.snapshot = *snapshot;
        }
    }

    /// One line is glanced at; what has more is to be read, and stays until it is closed.
    fn done(&mut self, text: String) {
        if text.contains('\n') {
            let lines = text.lines().map(str::to_owned).collect();
            self.notice = None;
            self.mode = Mode::Page(Page { title: "done".to_owned(), lines: Some(lines), top: 0 });
        } else {
            self.say(Mark::Good, text);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        let hint = failure.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        self.say(Mark::Bad, format!("{failure}{hint}"));
    }

    fn go(&mut self, screen: Screen) {
        if screen == self.screen {
            return;
        }
        self.trail.push(self.screen);
        let excess = self.trail.len().saturating_sub(TRAIL_LIMIT);
        self.trail.drain(..excess);
        self.screen = screen;
        // A topology is of some task: the busiest, until one is chosen.
        if screen == Screen::Topology && self.task.is_none() {
            let busiest = self.snapshot.tasks.iter().max_by_key(|task| task.rate_bytes_per_sec);
            self.task = busiest.or(self.snapshot.busiest.first()).map(|task| task.id.clone());
        }
    }

    fn toggle_freeze(&mut self) {
        self.frozen_ms = if self.frozen_ms.is_some() { None } else { Some(0) };
        if let (None, Some(held)) = (self.frozen_ms, self.held.take()) {
            self.snapshot = *held;
        }
    }

    /// Makes everything that follows from the rest: which rows are shown, where cursors are.
    fn settle(&mut self) {
        let view =
            self.snapshot.task.as_ref().filter(|view| self.task.is_none() || self.task.as_ref() == Some(&view.task.id));
        self.tree = match (self.screen, view) {
            (Screen::Topology, Some(view)) => topology::grow(view, &self.folded),
            _ => Vec::new(),
        };
        let heights = crate::layout::list_heights(self);
        for list in self.screen.lists() {
            let Some(state) = self.lists.get_mut(list) else { continue };
            let height = heights.iter().find(|(of, _)| of == list).map_or(1, |(_, height)| *height);
            if *list == List::Tree {
                let hosts: Vec<&str> = self.tree.iter().map(|branch| branch.host.as_str()).collect();
                state.settle_on(hosts.len(), |at| hosts.get(at).copied().unwrap_or_default().into(), height);
            } else {
                state.settle(&list.heads(), &list.rows(&self.snapshot), height);
            }
        }
    }
}
