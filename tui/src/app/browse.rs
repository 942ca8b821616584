//! What keys, clicks and the wheel do, by what they go to.

use super::confirm::Confirm;
use super::form::Form;
use super::{Action, App, CommandLine, Line, Menu, Mode, Page};
use crate::filter::Filter;
use crate::keymap::{Command, Context, KEYMAP};
use crate::layout::{self, Hit};
use crate::list::List;
use crate::model::{Mark, Subject};
use crate::request::Request;
use crate::screen::Screen;

/// Rows that one goes by a page in a text.
const PAGE_STEP: usize = 10;

impl App {
    /// Carries out what a key is for.
    pub(super) fn command(&mut self, command: Command) -> Option<Action> {
        match command {
            Command::QuitNow => return Some(Action::Quit { keeps: false }),
            Command::Suspend => return Some(Action::Suspend),
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(command),
            Mode::Page(page) => self.page(page, command),
            Mode::Filter(line) => {
                self.filter(line, command);
                None
            }
            Mode::Command(line) => self.command_line(line, command),
            Mode::Menu(menu) => self.menu(menu, command),
            Mode::Form(form) => self.form(form, command),
            Mode::Confirm(confirm) => self.confirm(confirm, command),
        }
    }

    fn browse(&mut self, command: Command) -> Option<Action> {
        let height = isize::try_from(self.state().height).unwrap_or(1);
        match command {
            Command::Go(screen) => {
                self.go(screen);
                return Some(Action::Ask);
            }
            Command::Down => self.state().step(1),
            Command::Up => self.state().step(-1),
            Command::PageDown => self.state().step(height),
            Command::PageUp => self.state().step(-height),
            Command::First => self.state().place(0),
            Command::Last => self.state().place(usize::MAX),
            Command::ColumnLeft => self.step_column(false),
            Command::ColumnRight => self.step_column(true),
            Command::Sort => {
                let column = self.state().column;
                self.sort_by(column);
            }
            Command::Invert => self.state().invert(),
            Command::NextPane => self.step_pane(1),
            Command::PreviousPane => self.step_pane(self.screen.lists().len().saturating_sub(1)),
            Command::Open => return self.enter(),
            Command::Details => self.details(),
            Command::Json => self.json(),
            Command::Copy => return self.copy_id(),
            Command::Mark => self.mark(),
            Command::MarkAll => self.mark_all(),
            Command::Menu => self.open_menu(),
            Command::Filter => self.mode = Mode::Filter(Line::new(self.state().filter.text())),
            Command::CommandLine => self.mode = Mode::Command(CommandLine::new(&self.commands)),
            Command::Back => return self.back(),
            Command::Help => {
                self.mode = Mode::Page(Page { title: "help".to_owned(), lines: None, top: 0 });
            }
            Command::Focus => return self.focus(),
            Command::Limit => self.mode = self.limit_form(),
            Command::Preheat => self.mode = Mode::Form(Form::preheat("")),
            Command::Isolate => self.isolate_or_release(),
            Command::Add => self.add(),
            Command::Change => self.change_user(),
            Command::Delete => self.delete(),
            Command::Quit if self.trail.is_empty() => return Some(Action::Quit { keeps: false }),
            Command::Quit => return self.back(),
            Command::QuitKeeping => return Some(Action::Quit { keeps: true }),
            Command::Refresh => return Some(Action::Ask),
            _ => self.look(command),
        }
        None
    }

    /// What changes how things look, and nothing else.
    fn look(&mut self, command: Command) {
        match command {
            Command::Freeze => self.toggle_freeze(),
            Command::Expand => self.is_expanded = !self.is_expanded,
            Command::Wide => self.is_wide = !self.is_wide,
            Command::Matrix => self.is_matrix = !self.is_matrix,
            Command::Longer => self.window = self.window.longer(),
            Command::Shorter => self.window = self.window.shorter(),
            Command::Reset => {
                self.history.reset();
                self.task_history.reset();
                self.say(Mark::Good, "peaks and curves begin anew");
            }
            Command::Theme => {
                self.setup.theme = self.setup.theme.next();
                self.say(Mark::Good, format!("theme {}", self.setup.theme.name()));
            }
            _ => {}
        }
    }

    /// Shows the text of a page one further down or up, as far as there is any.
    fn page(&mut self, mut page: Page, command: Command) -> Option<Action> {
        let last = page.lines.as_ref().map_or(layout::help_length(), Vec::len).saturating_sub(1);
        page.top = match command {
            Command::Down => page.top + 1,
            Command::Up => page.top.saturating_sub(1),
            Command::PageDown => page.top + PAGE_STEP,
            Command::PageUp => page.top.saturating_sub(PAGE_STEP),
            Command::First => 0,
            Command::Last => last,
            Command::Copy => {
                let text = page.lines.as_ref().map(|lines| lines.join("\n"));
                self.mode = Mode::Page(page);
                self.say(Mark::Good, "copied");
                return text.map(Action::Copy);
            }
            _ => return None,
        }
        .min(last);
        self.mode = Mode::Page(page);
        None
    }

    fn filter(&mut self, mut line: Line, command: Command) {
        match command {
            Command::Accept => self.state().filter = Filter::new(line.text()),
            Command::Leave => self.state().filter = Filter::default(),
            command => {
                line.edit(command);
                self.mode = Mode::Filter(line);
                self.preview();
            }
        }
    }

    fn menu(&mut self, mut menu: Menu, command: Command) -> Option<Action> {
        let last = menu.items.len().saturating_sub(1);
        match command {
            Command::Down => menu.at = (menu.at + 1).min(last),
            Command::Up => menu.at = menu.at.saturating_sub(1),
            Command::Accept => {
                let binding = menu.binding(menu.at)?;
                if binding.is_change && self.is_read_only() {
                    self.say(Mark::Warn, self.why_read_only());
                    return None;
                }
                return self.browse(binding.command);
            }
            _ => return None,
        }
        self.mode = Mode::Menu(menu);
        None
    }

    fn form(&mut self, mut form: Form, command: Command) -> Option<Action> {
        match command {
            Command::Leave => return None,
            Command::Accept => match form.requests() {
                Ok(requests) if requests.iter().any(Request::is_cluster_wide) => {
                    let (title, name) = (form.title.clone(), self.cluster_name());
                    let lines = vec![format!("It will hold for the whole cluster {name}.")];
                    self.mode = Mode::Confirm(Confirm::new(title, lines, &name, requests));
                }
                Ok(requests) => return self.order(requests),
                Err(why) => {
                    form.error = Some(why);
                    self.mode = Mode::Form(form);
                }
            },
            command => {
                form.edit(command);
                self.mode = Mode::Form(form);
            }
        }
        None
    }

    fn confirm(&mut self, mut confirm: Confirm, command: Command) -> Option<Action> {
        match command {
            Command::Leave => return None,
            Command::Accept if confirm.is_answered() => return self.order(confirm.requests),
            Command::Accept => self.say(Mark::Warn, format!("that is not {}", confirm.expected)),
            command => {
                confirm.line.edit(command);
            }
        }
        self.mode = Mode::Confirm(confirm);
        None
    }

    /// Asks for changes, unless that may not be (I3).
    pub(super) fn order(&mut self, requests: Vec<Request>) -> Option<Action> {
        if requests.is_empty() {
            return None;
        }
        let is_refused =
            self.setup.is_read_only || !self.snapshot.may_write && requests.iter().any(Request::is_for_manager);
        if is_refused {
            self.say(Mark::Warn, self.why_read_only());
            return None;
        }
        self.say(Mark::Busy, "asked");
        let list = self.list();
        self.lists.entry(list).and_modify(|state| state.marks.clear());
        Some(Action::Order(requests))
    }

    fn back(&mut self) -> Option<Action> {
        if self.frozen_ms.is_some() {
            self.toggle_freeze();
        } else if !self.state().filter.is_empty() {
            self.state().filter = Filter::default();
        } else if self.is_expanded {
            self.is_expanded = false;
        } else if let Some(screen) = self.trail.pop() {
            self.screen = screen;
            return Some(Action::Ask);
        }
        None
    }

    fn enter(&mut self) -> Option<Action> {
        let host = self.chosen_hosts().into_iter().next().map(|host| host.id);
        match self.list() {
            List::Parents | List::TaskPeers | List::Tree => {
                let task = self.snapshot.task.as_ref()?.task.id.clone();
                self.look_at_task(task, host);
                self.go(Screen::Task);
                Some(Action::Ask)
            }
            List::Hosts | List::Jobs => {
                self.details();
                None
            }
            List::Isolated => self.follow(host.map_or(Subject::None, Subject::Host)),
            _ => {
                let subject = self.subject();
                if subject == Subject::None {
                    self.details();
                }
                self.follow(subject)
            }
        }
    }

    fn focus(&mut self) -> Option<Action> {
        let task = self.chosen_tasks().into_iter().next()?.id;
        self.look_at_task(task, None);
        self.go(Screen::Topology);
        Some(Action::Ask)
    }

    fn copy_id(&mut self) -> Option<Action> {
        let id = match self.list() {
            List::Tree => self.branch().map(|branch| branch.host.clone()),
            _ => self.row().map(|row| row.key().replace('\u{0}', " ")),
        }?;
        self.say(Mark::Good, format!("copied {id}"));
        Some(Action::Copy(id))
    }

    fn mark(&mut self) {
        if self.list() == List::Tree {
            if let Some(host) = self.branch().map(|branch| branch.host.clone())
                && !self.folded.remove(&host)
            {
                self.folded.insert(host);
            }
            return;
        }
        if let Some(key) = self.row().map(|row| row.key().into_owned()) {
            let state = self.state();
            if !state.marks.remove(&key) {
                state.marks.insert(key);
            }
            state.step(1);
        }
    }

    fn mark_all(&mut self) {
        let list = self.list();
        let keys: Vec<String> = self.rows(list).iter().map(|row| row.key().into_owned()).collect();
        let state = self.state();
        if keys.iter().all(|key| state.marks.contains(key)) {
            state.marks.clear();
        } else {
            state.marks.extend(keys);
        }
    }

    fn open_menu(&mut self) {
        let list = self.list();
        let title = self.row().map(|row| row.name().into_owned()).unwrap_or_default();
        // What concerns the row, and what can be done without one.
        let general = [Command::Help, Command::Menu, Command::Filter, Command::CommandLine, Command::Quit];
        let items = KEYMAP.iter().enumerate().filter(|(_, binding)| {
            let is_there = binding.context == Context::Browse && binding.is_named && binding.is_on(list);
            is_there && !general.contains(&binding.command) && !(binding.is_change && self.is_read_only())
        });
        let items: Vec<usize> = items.map(|(at, _)| at).collect();
        self.mode = Mode::Menu(Menu { title, items, at: 0 });
    }

    fn step_column(&mut self, is_right: bool) {
        let list = self.list();
        let columns = layout::columns_of(self, list);
        let state = self.state();
        let at = columns.iter().position(|column| column.index == state.column).unwrap_or_default();
        let next = if is_right { at + 1 } else { at.saturating_sub(1) };
        if let Some(column) = columns.get(next) {
            state.column = column.index;
        }
    }

    pub(super) fn sort_by(&mut self, column: usize) {
        let list = self.list();
        let is_number = list.heads().get(column).is_some_and(|head| head.is_number);
        let state = self.state();
        state.column = column;
        state.sort(column, is_number);
    }

    fn step_pane(&mut self, by: usize) {
        let count = self.screen.lists().len().max(1);
        let pane = self.panes.entry(self.screen).or_default();
        *pane = (*pane + by) % count;
    }

    /// A click goes where it looks as if it went: tabs, panes, heads of columns, rows.
    pub(super) fn clicked(&mut self, column: u16, row: u16) -> Option<Action> {
        if self.mode != Mode::Browse {
            return None;
        }
        match layout::hit(self, column, row)? {
            Hit::Tab(screen) => {
                self.go(screen);
                Some(Action::Ask)
            }
            Hit::List { list, part } => {
                let pane = self.screen.lists().iter().position(|it| *it == list)?;
                let had_the_cursor = self.list() == list;
                self.panes.insert(self.screen, pane);
                match part {
                    layout::Part::Head(column) => self.sort_by(column),
                    layout::Part::Row(row) => {
                        let state = self.state();
                        let was_on_it = had_the_cursor && state.cursor == row;
                        state.place(row);
                        // A click on the row under the cursor opens it, as a second click does elsewhere.
                        if was_on_it {
                            return self.enter();
                        }
                    }
                    layout::Part::Elsewhere => {}
                }
                None
            }
        }
    }

    pub(super) fn wheeled(&mut self, rows: i32) {
        let rows = isize::try_from(rows).unwrap_or_default();
        match &mut self.mode {
            Mode::Browse => self.state().step(rows),
            Mode::Page(page) => {
                let last = page.lines.as_ref().map_or(layout::help_length(), Vec::len).saturating_sub(1);
                page.top = page.top.saturating_add_signed(rows).min(last);
            }
            _ => {}
        }
    }
}
