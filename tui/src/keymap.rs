//! The one table of keys: what each does, where, and what help says of it.

use crossterm::event::KeyCode;

use crate::event::Key;
use crate::list::List;
use crate::screen::Screen;

/// What a key is pressed for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the table below says what each does")]
pub enum Command {
    Go(Screen),
    Down,
    Up,
    PageDown,
    PageUp,
    First,
    Last,
    ColumnLeft,
    ColumnRight,
    Sort,
    Invert,
    NextPane,
    PreviousPane,
    Open,
    Details,
    Json,
    Copy,
    Mark,
    MarkAll,
    Menu,
    Filter,
    CommandLine,
    Back,
    Freeze,
    Expand,
    Wide,
    Matrix,
    Longer,
    Shorter,
    Refresh,
    Reset,
    Theme,
    Help,
    Limit,
    Preheat,
    Isolate,
    Add,
    Change,
    Delete,
    Focus,
    Quit,
    QuitKeeping,
    QuitNow,
    Suspend,
    Accept,
    Leave,
    Complete,
    Rub,
    RubWord,
    RubAll,
    Left,
    Right,
    NextField,
    PreviousField,
    Toggle,
}

/// Where keys go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Context {
    /// A screen.
    Browse,
    /// Help, details: a text one moves through.
    Page,
    /// A filter or a command that is written.
    Line,
    /// The action menu.
    Menu,
    /// A form.
    Form,
    /// A question that is answered with a name.
    Confirm,
}

impl Context {
    /// Every context, in the order of help.
    pub const ALL: [Self; 6] = [Self::Browse, Self::Line, Self::Menu, Self::Form, Self::Confirm, Self::Page];

    /// What help calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Browse => "on every screen",
            Self::Page => "in help and details",
            Self::Line => "while a filter or command is written",
            Self::Menu => "in the action menu",
            Self::Form => "in a form",
            Self::Confirm => "when a name is asked for",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Where.
    pub context: Context,
    /// The keys, any of them.
    pub keys: &'static [Key],
    /// What for.
    pub command: Command,
    /// In few words.
    pub help: &'static str,
    /// On which lists; on all if empty.
    pub lists: &'static [List],
    /// Whether it changes the cluster: off when read-only.
    pub is_change: bool,
    /// Whether the foot of a screen and the action menu name it.
    pub is_named: bool,
}

const fn key(context: Context, keys: &'static [Key], command: Command, help: &'static str) -> Binding {
    Binding { context, keys, command, help, lists: &[], is_change: false, is_named: false }
}

impl Binding {
    const fn on(self, lists: &'static [List]) -> Self {
        Self { lists, ..self }
    }

    const fn named(self) -> Self {
        Self { is_named: true, ..self }
    }

    const fn changes(self) -> Self {
        Self { is_change: true, is_named: true, ..self }
    }

    /// Whether it is there while `list` has the cursor.
    pub fn is_on(&self, list: List) -> bool {
        self.lists.is_empty() || self.lists.contains(&list)
    }

    /// Its keys, as help writes them.
    pub fn key_names(&self) -> String {
        self.keys.iter().map(|key| key.name()).collect::<Vec<_>>().join(" ")
    }
}

const fn c(c: char) -> Key {
    Key::char(c)
}

const fn k(code: KeyCode) -> Key {
    Key::of(code)
}

const ESC: Key = k(KeyCode::Esc);
const ENTER: Key = k(KeyCode::Enter);
const TAB: Key = k(KeyCode::Tab);
const BACK_TAB: Key = k(KeyCode::BackTab);
const UP: Key = k(KeyCode::Up);
const DOWN: Key = k(KeyCode::Down);
const CTRL_C: Key = Key::control('c');
const CTRL_Z: Key = Key::control('z');

const OPENABLE: &[List] = &[
    List::Tasks,
    List::Busiest,
    List::Attention,
    List::Hosts,
    List::Parents,
    List::TaskPeers,
    List::Tree,
    List::Isolated,
    List::Happenings,
    List::Jobs,
    List::Members,
];
const OF_HOSTS: &[List] = &[List::Hosts, List::Isolated, List::Parents, List::TaskPeers, List::Tree];
const LIMITED: &[List] =
    &[List::Hosts, List::Parents, List::TaskPeers, List::Tree, List::Settings, List::Busiest, List::Clusters];
const ADDABLE: &[List] = &[List::Blocks, List::Users, List::Tokens, List::Jobs, List::Isolated];
const DELETABLE: &[List] = &[
    List::Tasks,
    List::Busiest,
    List::Parents,
    List::TaskPeers,
    List::Tree,
    List::Jobs,
    List::Blocks,
    List::Contents,
    List::Users,
    List::Tokens,
    List::Members,
];

use Command as C;
use Context::{Browse, Confirm, Form, Line, Menu, Page};

/// Every key of the console.
pub const KEYMAP: &[Binding] = &[
    key(Browse, &[c('?')], C::Help, "help").named(),
    key(Browse, &[c('/')], C::Filter, "filter").named(),
    key(Browse, &[c(':')], C::CommandLine, "command").named(),
    key(Browse, &[ENTER], C::Open, "open").on(OPENABLE).named(),
    key(Browse, &[c('x')], C::Menu, "menu").named(),
    key(Browse, &[c('q')], C::Quit, "back/quit").named(),
    key(Browse, &[c('d')], C::Details, "details").named(),
    key(Browse, &[c('y')], C::Json, "JSON").named(),
    key(Browse, &[c('c')], C::Copy, "copy id").named(),
    key(Browse, &[c('T')], C::Focus, "topology").on(&[List::Tasks, List::Busiest, List::Parents]).named(),
    key(Browse, &[c('P')], C::Preheat, "preheat").changes(),
    key(Browse, &[c('L')], C::Limit, "limits").on(LIMITED).changes(),
    key(Browse, &[c('B')], C::Isolate, "isolate/release").on(OF_HOSTS).changes(),
    key(Browse, &[c('a')], C::Add, "add").on(ADDABLE).changes(),
    key(Browse, &[c('D')], C::Delete, "delete").on(DELETABLE).changes(),
    key(Browse, &[c('m')], C::Change, "change").on(&[List::Users]).changes(),
    key(Browse, &[c('j'), DOWN], C::Down, "down"),
    key(Browse, &[c('k'), UP], C::Up, "up"),
    key(Browse, &[k(KeyCode::PageDown), Key::control('d')], C::PageDown, "a page down"),
    key(Browse, &[k(KeyCode::PageUp), Key::control('u')], C::PageUp, "a page up"),
    key(Browse, &[c('g'), k(KeyCode::Home)], C::First, "first row"),
    key(Browse, &[c('G'), k(KeyCode::End)], C::Last, "last row"),
    key(Browse, &[c('h'), k(KeyCode::Left)], C::ColumnLeft, "column to the left"),
    key(Browse, &[c('l'), k(KeyCode::Right)], C::ColumnRight, "column to the right"),
    key(Browse, &[c('o')], C::Sort, "sort by the column"),
    key(Browse, &[c('i')], C::Invert, "turn the order"),
    key(Browse, &[TAB], C::NextPane, "next pane"),
    key(Browse, &[BACK_TAB], C::PreviousPane, "pane before"),
    key(Browse, &[c(' ')], C::Mark, "mark the row; in the topology, fold it"),
    key(Browse, &[c('*')], C::MarkAll, "mark all rows shown, or none"),
    key(Browse, &[c('f'), c('p')], C::Freeze, "freeze the screen"),
    key(Browse, &[c('e')], C::Expand, "this pane alone"),
    key(Browse, &[c('w')], C::Wide, "all columns"),
    key(Browse, &[c('v')], C::Matrix, "tree or matrix").on(&[List::Tree]).named(),
    key(Browse, &[c('+'), c('=')], C::Longer, "longer time window"),
    key(Browse, &[c('-')], C::Shorter, "shorter time window"),
    key(Browse, &[c('r')], C::Refresh, "ask now"),
    key(Browse, &[Key::control('r')], C::Reset, "forget peaks and curves"),
    key(Browse, &[c('t')], C::Theme, "next theme"),
    key(Browse, &[ESC], C::Back, "clear the filter, then back"),
    key(Browse, &[c('Q')], C::QuitKeeping, "quit and leave the last screen"),
    key(Browse, &[CTRL_C], C::QuitNow, "quit"),
    key(Browse, &[CTRL_Z], C::Suspend, "to the background"),
    key(Browse, &[c('1')], C::Go(Screen::Overview), "overview"),
    key(Browse, &[c('2')], C::Go(Screen::Tasks), "tasks"),
    key(Browse, &[c('3')], C::Go(Screen::Peers), "peers"),
    key(Browse, &[c('4')], C::Go(Screen::Topology), "topology"),
    key(Browse, &[c('5')], C::Go(Screen::Cluster), "cluster"),
    key(Browse, &[c('6')], C::Go(Screen::Jobs), "jobs"),
    key(Browse, &[c('7')], C::Go(Screen::Blacklist), "blacklist"),
    key(Browse, &[c('8')], C::Go(Screen::Cache), "cache"),
    key(Browse, &[c('9')], C::Go(Screen::Events), "events"),
    key(Browse, &[c('0')], C::Go(Screen::Admin), "admin"),
    key(Line, &[ENTER], C::Accept, "take it"),
    key(Line, &[ESC], C::Leave, "leave it"),
    key(Line, &[TAB], C::Complete, "complete; again: the next one"),
    key(Line, &[k(KeyCode::Backspace)], C::Rub, "delete the character before"),
    key(Line, &[Key::control('w')], C::RubWord, "delete the word before"),
    key(Line, &[Key::control('u')], C::RubAll, "delete all before"),
    key(Line, &[k(KeyCode::Left)], C::Left, "left"),
    key(Line, &[k(KeyCode::Right)], C::Right, "right"),
    key(Line, &[UP], C::Up, "the one before"),
    key(Line, &[DOWN], C::Down, "the one after"),
    key(Line, &[CTRL_C], C::QuitNow, "quit"),
    key(Line, &[CTRL_Z], C::Suspend, "to the background"),
    key(Menu, &[c('j'), DOWN], C::Down, "down"),
    key(Menu, &[c('k'), UP], C::Up, "up"),
    key(Menu, &[ENTER], C::Accept, "do it"),
    key(Menu, &[ESC, c('q'), c('x')], C::Leave, "leave"),
    key(Menu, &[CTRL_C], C::QuitNow, "quit"),
    key(Menu, &[CTRL_Z], C::Suspend, "to the background"),
    key(Form, &[TAB, DOWN], C::NextField, "next field"),
    key(Form, &[BACK_TAB, UP], C::PreviousField, "field before"),
    key(Form, &[k(KeyCode::Left)], C::Left, "left; the choice before"),
    key(Form, &[k(KeyCode::Right)], C::Right, "right; the next choice"),
    key(Form, &[c(' ')], C::Toggle, "the next choice; in a text, a space"),
    key(Form, &[k(KeyCode::Backspace)], C::Rub, "delete the character before"),
    key(Form, &[Key::control('w')], C::RubWord, "delete the word before"),
    key(Form, &[Key::control('u')], C::RubAll, "delete all before"),
    key(Form, &[ENTER], C::Accept, "start"),
    key(Form, &[ESC], C::Leave, "leave"),
    key(Form, &[CTRL_C], C::QuitNow, "quit"),
    key(Form, &[CTRL_Z], C::Suspend, "to the background"),
    key(Confirm, &[ENTER], C::Accept, "do it, when the name is right"),
    key(Confirm, &[ESC], C::Leave, "do nothing"),
    key(Confirm, &[k(KeyCode::Backspace)], C::Rub, "delete the character before"),
    key(Confirm, &[Key::control('w')], C::RubWord, "delete the word before"),
    key(Confirm, &[Key::control('u')], C::RubAll, "delete all before"),
    key(Confirm, &[CTRL_C], C::QuitNow, "quit"),
    key(Confirm, &[CTRL_Z], C::Suspend, "to the background"),
    key(Page, &[c('j'), DOWN], C::Down, "down"),
    key(Page, &[c('k'), UP], C::Up, "up"),
    key(Page, &[k(KeyCode::PageDown), c(' ')], C::PageDown, "a page down"),
    key(Page, &[k(KeyCode::PageUp)], C::PageUp, "a page up"),
    key(Page, &[c('g'), k(KeyCode::Home)], C::First, "to the top"),
    key(Page, &[c('G'), k(KeyCode::End)], C::Last, "to the end"),
    key(Page, &[c('c')], C::Copy, "copy it"),
    key(Page, &[ESC, c('q'), c('?'), ENTER], C::Leave, "close"),
    key(Page, &[CTRL_C], C::QuitNow, "quit"),
    key(Page, &[CTRL_Z], C::Suspend, "to the background"),
];

/// What a key means in a context while `list` has the cursor.
pub fn find(context: Context, list: List, key: Key) -> Option<&'static Binding> {
    KEYMAP.iter().find(|binding| binding.context == context && binding.is_on(list) && binding.keys.contains(&key))
}

/// The bindings the foot of a screen names while `list` has the cursor.
pub fn named(list: List) -> impl Iterator<Item = &'static Binding> {
    KEYMAP.iter().filter(move |binding| binding.is_named && binding.is_on(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for list in List::ALL {
            for binding in KEYMAP.iter().filter(|binding| binding.is_on(list)) {
                for key in binding.keys {
                    let found = find(binding.context, list, *key).expect("it is in the table");
                    assert_eq!(found.command, binding.command, "{key:?} in {:?} on {list:?}", binding.context);
                }
            }
        }
    }

    #[test]
    fn every_tab_is_opened_by_its_digit() {
        for tab in Screen::TABS {
            let digit = tab.digit().expect("a tab has a digit");
            let binding = find(Context::Browse, List::Tasks, Key::char(digit)).expect("bound");
            assert_eq!(binding.command, Command::Go(tab));
        }
    }

    #[test]
    fn one_can_leave_from_everywhere() {
        for context in Context::ALL {
            for key in [Key::control('c'), Key::control('z'), Key::of(KeyCode::Esc)] {
                assert!(find(context, List::Tasks, key).is_some(), "{key:?} in {context:?}");
            }
        }
    }
}
