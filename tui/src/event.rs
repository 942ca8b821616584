//! What happens to the console: keys, clicks, time, news.

use crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind};
use df_api::failure::Failure;

use crate::model::Snapshot;

/// A key that was pressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Which one, shift included.
    pub code: KeyCode,
    /// With control.
    pub is_control: bool,
}

impl Key {
    /// A key alone.
    pub const fn of(code: KeyCode) -> Self {
        Self { code, is_control: false }
    }

    /// A key that writes.
    pub const fn char(c: char) -> Self {
        Self::of(KeyCode::Char(c))
    }

    /// A key with control.
    pub const fn control(c: char) -> Self {
        Self { code: KeyCode::Char(c), is_control: true }
    }

    /// What help calls it.
    pub fn name(self) -> String {
        let plain = match self.code {
            KeyCode::Char(' ') => "space".to_owned(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::BackTab => "shift-tab".to_owned(),
            KeyCode::PageUp => "pgup".to_owned(),
            KeyCode::PageDown => "pgdn".to_owned(),
            code => format!("{code:?}").to_ascii_lowercase(),
        };
        if self.is_control { format!("ctrl-{plain}") } else { plain }
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A key.
    Pressed(Key),
    /// A text came at once.
    Pasted(String),
    /// The left button of the mouse, at a column and a row.
    Clicked(u16, u16),
    /// The wheel, by so many rows; up is negative.
    Wheeled(i32),
    /// The screen has this many columns and rows.
    Resized(u16, u16),
    /// So many milliseconds have passed.
    Ticked(u64),
    /// News of the cluster.
    Seen(Box<Snapshot>),
    /// What was asked for was done; what came of it.
    Done(String),
    /// What was asked for was not done.
    Failed(Failure),
}

impl Event {
    /// The event behind one of the terminal's, if it means anything here.
    pub fn of(event: &event::Event) -> Option<Self> {
        match event {
            event::Event::Key(key) if key.kind != KeyEventKind::Release => {
                let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
                let code = match key.code {
                    KeyCode::Tab if key.modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
                    // Some terminals send ctrl with the capital letter.
                    KeyCode::Char(c) if is_control => KeyCode::Char(c.to_ascii_lowercase()),
                    code => code,
                };
                Some(Self::Pressed(Key { code, is_control }))
            }
            event::Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::Down(MouseButton::Left) => Some(Self::Clicked(mouse.column, mouse.row)),
                MouseEventKind::ScrollDown => Some(Self::Wheeled(3)),
                MouseEventKind::ScrollUp => Some(Self::Wheeled(-3)),
                _ => None,
            },
            event::Event::Resize(columns, rows) => Some(Self::Resized(*columns, *rows)),
            event::Event::Paste(text) => Some(Self::Pasted(text.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_people_say_them() {
        let names =
            [Key::char('q'), Key::char(' '), Key::control('c'), Key::of(KeyCode::Esc), Key::of(KeyCode::BackTab)]
                .map(Key::name);
        assert_eq!(names, ["q", "space", "ctrl-c", "esc", "shift-tab"]);
    }

    #[test]
    fn a_key_let_go_is_no_event() {
        let mut key = event::KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        assert_eq!(Event::of(&event::Event::Key(key)), Some(Event::Pressed(Key::char('q'))));
        key.kind = KeyEventKind::Release;
        assert_eq!(Event::of(&event::Event::Key(key)), None);
    }
}
