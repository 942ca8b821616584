//! One line of text that is written.

use crate::keymap::Command;

/// The longest text one may write, in bytes.
const LENGTH_LIMIT: usize = 4096;

/// A line and the place in it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Line {
    text: String,
    /// In bytes, between two characters.
    at: usize,
}

impl Line {
    /// A line with a text, at its end.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { at: text.len(), text }
    }

    /// What is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is before the place, and what is behind.
    pub fn halves(&self) -> (&str, &str) {
        self.text.split_at_checked(self.at).unwrap_or((&self.text, ""))
    }

    /// Writes; what would be obeyed by a terminal is left out.
    pub fn write(&mut self, text: &str) {
        for c in text.chars().filter(|c| !c.is_control()) {
            if self.text.len() + c.len_utf8() > LENGTH_LIMIT {
                return;
            }
            self.text.insert(self.at, c);
            self.at += c.len_utf8();
        }
    }

    /// Carries out what a key is for, if it is for a line; says whether it was.
    pub fn edit(&mut self, command: Command) -> bool {
        let (before, behind) = self.halves();
        match command {
            Command::Left => self.at -= before.chars().next_back().map_or(0, char::len_utf8),
            Command::Right => self.at += behind.chars().next().map_or(0, char::len_utf8),
            Command::Rub => self.rub(before.char_indices().next_back().map_or(0, |(at, _)| at)),
            Command::RubWord => {
                let word = before.trim_end();
                self.rub(word.rfind(char::is_whitespace).map_or(0, |at| at + 1));
            }
            Command::RubAll => self.rub(0),
            _ => return false,
        }
        true
    }

    fn rub(&mut self, from: usize) {
        self.text.drain(from..self.at);
        self.at = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_and_rubbed_by_characters_not_bytes() {
        let mut line = Line::new("aä");
        line.write("b\u{1b}c");
        assert_eq!(line.halves(), ("aäbc", ""));
        (0..3).for_each(|_| assert!(line.edit(Command::Left)));
        assert_eq!(line.halves(), ("a", "äbc"));
        line.edit(Command::Right);
        line.edit(Command::Rub);
        assert_eq!(line.halves(), ("a", "bc"));
        (0..3).for_each(|_| assert!(line.edit(Command::Rub)));
        assert_eq!(line.halves(), ("", "bc"));
        (0..5).for_each(|_| assert!(line.edit(Command::Right)));
        assert!(!line.edit(Command::Accept));
        assert_eq!(line.halves(), ("bc", ""));
    }

    #[test]
    fn words_and_all_before_are_rubbed() {
        let mut line = Line::new("one two  ");
        line.edit(Command::RubWord);
        assert_eq!(line.text(), "one ");
        line.edit(Command::RubAll);
        line.edit(Command::RubWord);
        assert_eq!(line.text(), "");
    }

    #[test]
    fn a_line_has_an_end() {
        let mut line = Line::default();
        line.write(&"ä".repeat(LENGTH_LIMIT));
        assert_eq!(line.text().len(), LENGTH_LIMIT);
    }
}
