//! A console over a made-up cluster, with somebody at its keys.

use df_tui::app::{Action, App, Setup};
use df_tui::demo::Demo;
use df_tui::event::{Event, Key};
use df_tui::model::Snapshot;

/// Somebody at a console.
pub(crate) struct Desk {
    pub(crate) app: App,
    pub(crate) demo: Demo,
    /// Whether the cluster lets this user change things.
    pub(crate) may_write: bool,
}

impl Desk {
    /// A console of 120 columns and 40 rows that has watched the demo for a minute.
    pub(crate) fn new(setup: Setup) -> Self {
        let mut desk = Self { app: App::new(setup), demo: Demo::new(7, 64, 12), may_write: true };
        desk.resize(120, 40);
        desk.wait(60);
        desk
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.app.handle(Event::Resized(columns, rows));
    }

    /// Lets seconds pass, with news after each.
    pub(crate) fn wait(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.demo.step();
            self.app.handle(Event::Ticked(1000));
            self.look();
        }
    }

    /// Brings the news there are.
    pub(crate) fn look(&mut self) {
        let mut snapshot = self.demo.snapshot(&self.app.interest());
        snapshot.may_write = self.may_write;
        self.see(snapshot);
    }

    pub(crate) fn see(&mut self, snapshot: Snapshot) {
        self.app.handle(Event::Seen(Box::new(snapshot)));
    }

    /// Presses keys as help names them, with blanks between: `2 j j enter ctrl-r`. Answers news and
    /// orders as the demo does, and gives what the last key asked for.
    pub(crate) fn press(&mut self, keys: &str) -> Option<Action> {
        let mut last = None;
        for name in keys.split_whitespace() {
            last = self.app.handle(Event::Pressed(key(name)));
            match &last {
                Some(Action::Ask) => self.look(),
                Some(Action::Order(requests)) => {
                    for request in requests {
                        let event = match self.demo.carry_out(request) {
                            Ok(text) => Event::Done(text),
                            Err(failure) => Event::Failed(failure),
                        };
                        self.app.handle(event);
                        self.look();
                    }
                }
                _ => {}
            }
        }
        last
    }

    /// Writes a text, key by key.
    pub(crate) fn write(&mut self, text: &str) {
        for c in text.chars() {
            self.app.handle(Event::Pressed(Key::char(c)));
        }
    }

    /// Gives a command, after `:`.
    pub(crate) fn command(&mut self, text: &str) -> Option<Action> {
        self.press(":");
        self.write(text);
        self.press("enter")
    }

    /// The screen as text.
    pub(crate) fn screen(&self) -> String {
        df_tui::view::text(&self.app)
    }
}

/// The key that help calls so.
pub(crate) fn key(name: &str) -> Key {
    let all = df_tui::keymap::KEYMAP.iter().flat_map(|binding| binding.keys);
    let known = all.copied().find(|key| key.name() == name);
    let written = || Key::char(name.chars().next().expect("a key has a name"));
    known.unwrap_or_else(written)
}
