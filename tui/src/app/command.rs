//! Commands that are written: their words, their completion, and what they do.

use super::confirm::Confirm;
use super::form::Form;
use super::line::Line;
use super::target::Target;
use super::{Action, App, Mode};
use crate::filter::Filter;
use crate::keymap::Command;
use crate::list::{self, List};
use crate::model::Mark;
use crate::request::{LimitKind, LimitScope, NewBlock, Request};
use crate::screen::Screen;
use crate::theme::Theme;

/// Commands that are remembered.
const MEMORY_LIMIT: usize = 100;

/// Words that are offered at most.
const OFFER_LIMIT: usize = 200;

/// A command's first word, and what help says.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// The word.
    pub word: &'static str,
    /// What comes behind it.
    pub arguments: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether it changes the cluster.
    pub is_change: bool,
}

const fn verb(word: &'static str, arguments: &'static str, help: &'static str) -> Verb {
    Verb { word, arguments, help, is_change: false }
}

const fn change(word: &'static str, arguments: &'static str, help: &'static str) -> Verb {
    Verb { word, arguments, help, is_change: true }
}

/// Every command; besides, the name of a screen opens it, and a filter may follow: `tasks /nginx`.
pub const COMMANDS: &[Verb] = &[
    verb("task", "TASK", "open a task, by id or name"),
    verb("peer", "HOST", "go to a peer"),
    verb("topology", "TASK", "who gets it from whom"),
    verb("filter", "TEXT", "as / does"),
    verb("sort", "COLUMN", "sort; again: turn the order"),
    verb("theme", "NAME", "default, cb, mono"),
    verb("freeze", "", "freeze the screen, or let it go"),
    verb("help", "", "keys and commands"),
    change("limit", "[peers|seeds|HOST] KIND RATE", "download, upload, source, task; 200M, none, unset"),
    change("preheat", "URL", "fill in a preheat"),
    change("isolate", "HOST [REASON]", "take a host out of use until it is released"),
    change("release", "HOST", "put a host to use again"),
    change("delete", "TASK", "make every host drop a task"),
    change("cancel", "JOB", "stop a job"),
    change("block", "FIELD VALUE", "forbid downloads: application, url, tag, priority"),
    verb("q", "", "quit"),
];

/// A command that is written, with what could complete it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CommandLine {
    /// What is written.
    pub line: Line,
    /// Words the last one could become, and the one that is in now.
    pub offers: Vec<String>,
    /// Which of them.
    pub offered: Option<usize>,
    /// What was there before the first of them.
    stem: String,
    memory: Vec<String>,
    recalled: usize,
}

impl CommandLine {
    /// An empty one that remembers `memory`, oldest first.
    pub fn new(memory: &[String]) -> Self {
        Self { memory: memory.to_vec(), recalled: memory.len(), ..Self::default() }
    }

    /// Writes.
    pub fn write(&mut self, text: &str) {
        self.line.write(text);
        self.offers.clear();
        self.offered = None;
    }

    fn edit(&mut self, command: Command) {
        match command {
            Command::Up => self.recalled = self.recalled.saturating_sub(1),
            Command::Down => self.recalled = (self.recalled + 1).min(self.memory.len()),
            command => {
                self.line.edit(command);
                self.offers.clear();
                self.offered = None;
                return;
            }
        }
        self.line = Line::new(self.memory.get(self.recalled).cloned().unwrap_or_default());
    }

    fn complete(&mut self, words: impl Fn(&[&str]) -> Vec<String>) {
        if self.offers.is_empty() {
            let (stem, begun) =
                self.line.text().rsplit_once(' ').map_or(("", self.line.text()), |(stem, word)| (stem, word));
            let before: Vec<&str> = stem.split_whitespace().collect();
            let mut offers = words(&before);
            offers.retain(|word| word.to_lowercase().starts_with(&begun.to_lowercase()));
            offers.sort();
            offers.dedup();
            offers.truncate(OFFER_LIMIT);
            self.stem = if stem.is_empty() { String::new() } else { format!("{stem} ") };
            (self.offers, self.offered) = (offers, None);
        }
        let next = self.offered.map_or(0, |at| at + 1);
        let at = if next < self.offers.len() { next } else { 0 };
        if let Some(word) = self.offers.get(at) {
            self.line = Line::new(format!("{}{word}", self.stem));
            self.offered = Some(at);
        }
        if self.offers.len() == 1 {
            self.write(" ");
        }
    }
}

impl App {
    pub(super) fn command_line(&mut self, mut command: CommandLine, key: Command) -> Option<Action> {
        match key {
            Command::Leave => return None,
            Command::Accept => {
                let text = command.line.text().trim().to_owned();
                self.commands.retain(|known| *known != text);
                self.commands.push(text.clone());
                let excess = self.commands.len().saturating_sub(MEMORY_LIMIT);
                self.commands.drain(..excess);
                return self.run(&text).unwrap_or_else(|why| {
                    self.say(Mark::Bad, why);
                    None
                });
            }
            Command::Complete => command.complete(|before| self.words(before)),
            key => command.edit(key),
        }
        self.mode = Mode::Command(command);
        None
    }

    /// Words that may stand behind others.
    fn words(&self, before: &[&str]) -> Vec<String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let hosts = || self.snapshot.hosts.iter().map(|host| host.hostname.clone()).collect::<Vec<_>>();
        let tasks = || self.snapshot.tasks.iter().map(|task| task.name().to_owned()).collect::<Vec<_>>();
        let kinds = LimitKind::ALL.map(LimitKind::name);
        match before {
            [] => {
                let screens = Screen::TABS.iter().map(|screen| screen.name());
                COMMANDS.iter().map(|verb| verb.word.to_owned()).chain(screens).collect()
            }
            ["task" | "topology" | "delete"] => tasks(),
            ["peer" | "isolate"] => hosts(),
            ["release"] => self.snapshot.isolated.iter().map(|host| host.hostname.clone()).collect(),
            ["theme"] => Theme::ALL.iter().map(|theme| theme.name().to_owned()).collect(),
            ["sort"] => self.list().heads().iter().map(|head| head.name.to_lowercase()).collect(),
            ["cancel"] => self.snapshot.jobs.iter().filter(|job| job.is_running()).map(|job| job.id.clone()).collect(),
            ["block"] => owned(&["application", "url", "tag", "priority"]),
            ["limit"] => [owned(&kinds), owned(&["peers", "seeds"]), hosts()].concat(),
            ["limit", word] if LimitKind::named(word).is_none() => owned(&kinds),
            ["limit", ..] => owned(&["none", "unset", "100M", "1G"]),
            _ => Vec::new(),
        }
    }

    /// Carries out a command as if it had been written, for whoever has no keys to press.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn run_command(&mut self, text: &str) -> Result<Option<Action>, String> {
        let action = self.run(text.trim().trim_start_matches(':'))?;
        self.settle();
        Ok(action)
    }

    /// Carries out a command.
    fn run(&mut self, text: &str) -> Result<Option<Action>, String> {
        let (word, rest) = text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()));
        if word.is_empty() {
            return Ok(None);
        }
        if word == "topology" && !rest.is_empty() && !rest.starts_with('/') {
            let task = self.task_named(rest)?.id;
            self.look_at_task(task, None);
            self.go(Screen::Topology);
            return Ok(Some(Action::Ask));
        }
        if let Some(screen) = Screen::TABS.into_iter().find(|screen| screen.name() == word) {
            self.go(screen);
            if let Some(filter) = rest.strip_prefix('/') {
                self.state().filter = Filter::new(filter);
            }
            return Ok(Some(Action::Ask));
        }
        let verb = COMMANDS.iter().find(|verb| verb.word == word);
        let verb = verb.ok_or_else(|| format!("there is no command {word}: tab shows those there are"))?;
        if verb.is_change {
            if self.setup.is_read_only || !self.snapshot.may_write {
                return Err(self.why_read_only().to_owned());
            }
            return self.change(word, rest).map(|()| None);
        }
        match word {
            "task" => {
                let task = self.task_named(rest)?.id;
                self.look_at_task(task, None);
                self.go(Screen::Task);
                return Ok(Some(Action::Ask));
            }
            "peer" => {
                let host = self.host_named(rest)?.id;
                return Ok(self.follow(crate::model::Subject::Host(host)));
            }
            "filter" => self.state().filter = Filter::new(rest),
            "sort" => {
                let column = self.list().column(rest).ok_or_else(|| format!("there is no column {rest} here"))?;
                self.sort_by(column);
            }
            "theme" => {
                let theme = Theme::named(rest).ok_or_else(|| "themes are default, cb, mono".to_owned())?;
                self.setup.theme = theme;
            }
            "freeze" => self.toggle_freeze(),
            "help" => {
                let page = super::Page { title: "help".to_owned(), lines: None, top: 0 };
                self.mode = Mode::Page(page);
            }
            _ => return Ok(Some(Action::Quit { keeps: false })),
        }
        Ok(None)
    }

    /// Commands that change the cluster open the form or the question that the key would.
    fn change(&mut self, word: &str, rest: &str) -> Result<(), String> {
        let (first, more) =
            rest.split_once(char::is_whitespace).map_or((rest, ""), |(first, more)| (first, more.trim()));
        self.mode = match word {
            "preheat" => Mode::Form(Form::preheat(rest)),
            "isolate" => {
                let host = self.host_named(first)?;
                let title = format!("Isolate {}", host.name);
                let request = Request::Isolate { host: host.id, seconds: None, reason: more.to_owned() };
                let lines = vec!["Nobody uses it until it is released.".to_owned()];
                Mode::Confirm(Confirm::new(title, lines, "", vec![request]))
            }
            "release" => {
                let host = self.host_named(first)?;
                self.ask_release(vec![host]);
                return Ok(());
            }
            "delete" => {
                let task = self.task_named(rest)?;
                let lines = vec!["Every host drops it. Downloads that run begin anew at the source.".to_owned()];
                let requests = vec![Request::DeleteTask { task: task.id }];
                Mode::Confirm(Confirm::new(format!("Delete {}", task.name), lines, &task.name, requests))
            }
            "cancel" => {
                let known = self.snapshot.jobs.iter().find(|job| job.id == first);
                let job = known.ok_or_else(|| format!("there is no job {first}"))?.id.clone();
                let lines = vec!["What it has brought to hosts stays there.".to_owned()];
                Mode::Confirm(Confirm::new(format!("Cancel job {job}"), lines, "", vec![Request::CancelJob { job }]))
            }
            "block" if more.is_empty() => return Err("say what: :block url REGEX".to_owned()),
            "block" => self.wide(
                "Block",
                Request::AddBlock(NewBlock {
                    kind: first.to_owned(),
                    value: more.to_owned(),
                    blocks_download: true,
                    ..NewBlock::default()
                }),
            ),
            _ => {
                let request = self.limit_asked(rest)?;
                if request.is_cluster_wide() {
                    self.wide("Change limits", request)
                } else {
                    let confirm = Confirm::new(format!("limit {rest}"), Vec::new(), "", vec![request]);
                    Mode::Confirm(confirm)
                }
            }
        };
        Ok(())
    }

    fn wide(&self, title: &str, request: Request) -> Mode {
        let name = self.cluster_name();
        let lines = vec![format!("It will hold for the whole cluster {name}.")];
        Mode::Confirm(Confirm::new(title.to_owned(), lines, &name, vec![request]))
    }

    fn limit_asked(&self, text: &str) -> Result<Request, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (scope, kind, value) = match words[..] {
            [kind, value] => (LimitScope::Peers, kind, value),
            ["peers", kind, value] => (LimitScope::Peers, kind, value),
            ["seeds", kind, value] => (LimitScope::Seeds, kind, value),
            [host, kind, value] => (LimitScope::Host(self.host_named(host)?.id), kind, value),
            _ => return Err("say it as :limit upload 200M, or :limit HOST upload 200M".to_owned()),
        };
        let kind = LimitKind::named(kind).ok_or_else(|| format!("{kind} is none of download, upload, source, task"))?;
        Ok(Request::SetLimits { scope, limits: vec![(kind, value.parse()?)] })
    }

    fn host_named(&self, name: &str) -> Result<Target, String> {
        list::named(List::Hosts.rows(&self.snapshot), name, "peer").map(Target::of)
    }

    fn task_named(&self, name: &str) -> Result<Target, String> {
        list::named(List::Tasks.rows(&self.snapshot), name, "task").map(Target::of)
    }
}
