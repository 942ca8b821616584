//! The console's state, and what changes it.

use df_api::dfdaemon::ListEntry;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The daemon said what it has.
    Listed(Vec<ListEntry>),
    /// The daemon did not answer; why.
    Failed(String),
    /// A key.
    Pressed(Key),
}

/// A key with a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// Down a row.
    Down,
    /// Up a row.
    Up,
    /// Ask the daemon now.
    Refresh,
    /// Leave.
    Quit,
}

/// The keys as the help line names them.
pub const KEYS: &[(&str, &str)] = &[("j/k", "move"), ("r", "refresh"), ("q", "quit")];

/// What is to be done about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ask the daemon.
    Ask,
    /// Leave.
    Quit,
}

/// Everything that is shown.
#[derive(Clone, Default, Debug)]
pub struct App {
    /// What the daemon last said it has, by name.
    pub entries: Vec<ListEntry>,
    /// The row the cursor is on.
    pub selected: usize,
    /// Whether the daemon ever answered.
    pub is_known: bool,
    /// Why it does not answer now, if it does not.
    pub failure: Option<String>,
}

impl App {
    /// Takes note of an event.
    pub fn handle(&mut self, event: Event) -> Option<Action> {
        match event {
            Event::Listed(mut entries) => {
                entries.sort_by(|a, b| (&a.cid, &a.tag).cmp(&(&b.cid, &b.tag)));
                self.selected = self.selected.min(entries.len().saturating_sub(1));
                (self.entries, self.failure, self.is_known) = (entries, None, true);
            }
            // What was known stays on the screen.
            Event::Failed(why) => self.failure = Some(why),
            Event::Pressed(Key::Down) => {
                self.selected = (self.selected + 1).min(self.entries.len().saturating_sub(1));
            }
            Event::Pressed(Key::Up) => self.selected = self.selected.saturating_sub(1),
            Event::Pressed(Key::Refresh) => return Some(Action::Ask),
            Event::Pressed(Key::Quit) => return Some(Action::Quit),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(cid: &str) -> ListEntry {
        ListEntry { cid: cid.to_owned(), ..ListEntry::default() }
    }

    #[test]
    fn the_cursor_stays_on_the_list() {
        let mut app = App::default();
        assert_eq!(app.handle(Event::Pressed(Key::Down)), None);
        assert_eq!(app.selected, 0);
        app.handle(Event::Listed(vec![named("b"), named("a"), named("c")]));
        (0..5).for_each(|_| assert_eq!(app.handle(Event::Pressed(Key::Down)), None));
        assert_eq!((app.selected, app.entries[0].cid.as_str()), (2, "a"));
        app.handle(Event::Listed(vec![named("a")]));
        assert_eq!(app.selected, 0);
        app.handle(Event::Pressed(Key::Up));
        assert_eq!(app.selected, 0);
    }

    #[test]
    fn what_was_known_outlives_a_failure() {
        let mut app = App::default();
        app.handle(Event::Listed(vec![named("a")]));
        app.handle(Event::Failed("gone".to_owned()));
        assert_eq!((app.entries.len(), app.failure.as_deref()), (1, Some("gone")));
        app.handle(Event::Listed(Vec::new()));
        assert_eq!(app.failure, None);
    }

    #[test]
    fn keys_ask_for_actions() {
        let mut app = App::default();
        assert_eq!(app.handle(Event::Pressed(Key::Refresh)), Some(Action::Ask));
        assert_eq!(app.handle(Event::Pressed(Key::Quit)), Some(Action::Quit));
    }
}
