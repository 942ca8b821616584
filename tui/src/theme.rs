//! What things look like: a tone is a meaning, a theme gives it a style; signs have stand-ins of seven bits.

use ratatui::style::{Color, Modifier, Style};

use crate::model::Mark;

/// What a piece of the screen means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// Less important: borders, units, what is idle.
    Dim,
    /// Titles and heads of columns.
    Title,
    /// A key to press.
    Key,
    /// A state.
    State(Mark),
    /// Download, upload, source: a curve or a bar.
    Series(Series),
    /// The row under the cursor.
    Cursor,
    /// The tab that is open.
    Open,
}

/// Kinds of traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Series {
    /// What nodes receive.
    Download,
    /// What nodes send to each other.
    Upload,
    /// What sources send.
    Source,
}

/// A set of colours.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Theme {
    /// The terminal's own sixteen colours.
    #[default]
    Terminal,
    /// Colours that people tell apart with any kind of colour vision (Okabe and Ito, 2008).
    ColourBlind,
    /// No colour at all: bold, dim, underlined, reversed.
    Mono,
}

const ORANGE: Color = Color::Rgb(0xE6, 0x9F, 0x00);
const SKY: Color = Color::Rgb(0x56, 0xB4, 0xE9);
const GREEN: Color = Color::Rgb(0x00, 0x9E, 0x73);
const VERMILION: Color = Color::Rgb(0xD5, 0x5E, 0x00);
const PURPLE: Color = Color::Rgb(0xCC, 0x79, 0xA7);

impl Theme {
    /// Every theme, in the order in which they are cycled.
    pub const ALL: [Self; 3] = [Self::Terminal, Self::ColourBlind, Self::Mono];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminal => "default",
            Self::ColourBlind => "cb",
            Self::Mono => "mono",
        }
    }

    /// The theme with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.name() == name)
    }

    /// The one after this.
    pub const fn next(self) -> Self {
        match self {
            Self::Terminal => Self::ColourBlind,
            Self::ColourBlind => Self::Mono,
            Self::Mono => Self::Terminal,
        }
    }

    /// The style of a tone: its modifiers in every theme, its colour by theme.
    pub fn style(self, tone: Tone) -> Style {
        let style = Style::new().add_modifier(modifier(tone));
        match self.colour(tone) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }

    const fn colour(self, tone: Tone) -> Option<Color> {
        match self {
            Self::Terminal => terminal_colour(tone),
            Self::ColourBlind => safe_colour(tone),
            Self::Mono => None,
        }
    }
}

const fn modifier(tone: Tone) -> Modifier {
    match tone {
        Tone::Plain | Tone::Series(_) | Tone::State(Mark::Good | Mark::Busy) => Modifier::empty(),
        Tone::Dim | Tone::State(Mark::Idle) => Modifier::DIM,
        Tone::Title | Tone::Key | Tone::State(Mark::Warn | Mark::Bad) => Modifier::BOLD,
        Tone::Cursor | Tone::Open => Modifier::REVERSED,
    }
}

const fn terminal_colour(tone: Tone) -> Option<Color> {
    match tone {
        Tone::Plain | Tone::Dim | Tone::Title | Tone::Cursor | Tone::Open | Tone::State(Mark::Idle) => None,
        Tone::Key | Tone::State(Mark::Busy) => Some(Color::Cyan),
        Tone::State(Mark::Good) | Tone::Series(Series::Download) => Some(Color::Green),
        Tone::State(Mark::Warn) | Tone::Series(Series::Source) => Some(Color::Yellow),
        Tone::State(Mark::Bad) => Some(Color::Red),
        Tone::Series(Series::Upload) => Some(Color::Blue),
    }
}

const fn safe_colour(tone: Tone) -> Option<Color> {
    match tone {
        Tone::Plain | Tone::Dim | Tone::Title | Tone::Cursor | Tone::Open | Tone::State(Mark::Idle) => None,
        Tone::Key | Tone::State(Mark::Busy) | Tone::Series(Series::Upload) => Some(SKY),
        Tone::State(Mark::Good) | Tone::Series(Series::Download) => Some(GREEN),
        Tone::State(Mark::Warn) => Some(ORANGE),
        Tone::State(Mark::Bad) => Some(VERMILION),
        Tone::Series(Series::Source) => Some(PURPLE),
    }
}

/// What stands before a state's word.
pub const fn sign(mark: Mark) -> char {
    match mark {
        Mark::Good => '✔',
        Mark::Busy => '▶',
        Mark::Warn => '!',
        Mark::Bad => '✖',
        Mark::Idle => '·',
    }
}

/// Levels of a curve or a strip, lowest first; the first is nothing.
pub const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What stands for a sign where there are only seven bits.
pub const fn stand_in(sign: char) -> char {
    match sign {
        '─' | '━' | '—' | '–' => '-',
        '│' | '┃' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => '+',
        '█' => '#',
        '▓' => '%',
        '▒' => '=',
        '░' => '-',
        '·' => '.',
        '✔' => '+',
        '✖' | '×' => 'x',
        '▶' | '→' | '»' => '>',
        '←' => '<',
        '●' | '•' => '*',
        '○' => 'o',
        '◆' => '@',
        '▲' | '↑' => '^',
        '▼' | '▾' | '↓' => 'v',
        '…' => '~',
        '▁' => '.',
        '▂' => ':',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        sign if sign.is_ascii() => sign,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn themes_are_found_by_their_names_and_cycle_through_all() {
        for theme in Theme::ALL {
            assert_eq!(Theme::named(theme.name()), Some(theme));
        }
        assert_eq!(Theme::ALL.map(Theme::next), [Theme::ColourBlind, Theme::Mono, Theme::Terminal]);
        assert_eq!(Theme::named("pink"), None);
    }

    #[test]
    fn without_colours_and_without_unicode_marks_differ_by_their_signs() {
        let signs: BTreeSet<char> = Mark::ALL.map(|mark| stand_in(sign(mark))).into();
        assert_eq!(signs.len(), Mark::ALL.len());
        assert!(signs.iter().all(char::is_ascii));
        assert!(Mark::ALL.iter().all(|mark| Theme::Mono.style(Tone::State(*mark)).fg.is_none()));
    }

    #[test]
    fn levels_stay_apart_without_unicode() {
        let levels: BTreeSet<char> = LEVELS.map(stand_in).into();
        assert_eq!(levels.len(), LEVELS.len());
    }
}
